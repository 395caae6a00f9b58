"""Figment's server beside its peers, on one machine, in turns: `python -m benchmarks.serving`."""
