"""Is it in kilter? Pure functions from outputs and references to figures."""
