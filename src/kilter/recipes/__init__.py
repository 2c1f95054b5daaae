"""One file per paper: baseline and method on the same budget, and the tool a user runs on their own data."""
