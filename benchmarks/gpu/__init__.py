"""What the server and its runtime make of a GPU: `python -m benchmarks.gpu`."""
