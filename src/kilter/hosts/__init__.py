"""Adapters to the trainers people already run; the only code that knows a host's private names. Import one by name."""
