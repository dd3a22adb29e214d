"""fastnn beside its peers and the limits of the machine, in one interleaved run: `python -m benchmarks.compare`."""
