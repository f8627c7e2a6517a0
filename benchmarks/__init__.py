"""Measurements of what the design pages promise; each runs as `python -m benchmarks.<name>`."""
