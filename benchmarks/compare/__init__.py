"""Compares fastnn with its peers and the machine's limits in one interleaved run: `python -m benchmarks.compare`."""
