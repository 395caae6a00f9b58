"""Ways to run one trained generator on a CPU, on one machine, in turns: `python -m benchmarks.export`."""
