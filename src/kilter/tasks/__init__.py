"""What a model is trained for and judged on, one file or package per job; several papers share a task."""
