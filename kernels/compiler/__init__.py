"""Compiles kernels with Numba and keeps them on disk."""
