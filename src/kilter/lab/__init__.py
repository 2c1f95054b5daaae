"""Runs of arms and seeds, their summaries, figures and reports."""
