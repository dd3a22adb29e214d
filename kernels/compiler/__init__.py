"""Compiles kernels with Numba and keeps them on disk. All use of Numba's internals is in this package."""

# The first version of Numba that was not tried, as in pyproject.toml. From there on, shortcuts through internals whose
# failure nobody would notice are not taken.
UNTRIED_NUMBA = (0, 69)
