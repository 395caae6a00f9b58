"""What all benchmarks share: processes, the timing loop, turns, servers, tables."""
