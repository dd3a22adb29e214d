"""Faults: damaged files, failing disks, killed processes, random arguments, and thousands of repetitions."""
