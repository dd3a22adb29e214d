"""The Numba kernels: they know arrays and numbers, and nothing of fastnn.

Kernels trust their arguments: shapes, dtypes and ranges are checked by the callers. Importing this package compiles
nothing; a kernel is compiled when it is first called with its dtypes, and kept on disk (`jit.py`).
"""
