"""The Numba kernels. They work on plain arrays and numbers and import nothing from the rest of fastnn.

Kernels trust their arguments: the callers check shapes, dtypes and ranges. Importing this package compiles nothing. A
kernel is compiled when it is first called with given dtypes, and then kept on disk (`compiler/cache.py`).
"""
