"""Shared maths with no paper in it; pure torch."""
