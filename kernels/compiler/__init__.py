"""Compiles kernels with Numba, keeps them on disk and loads them. All use of Numba's internals is in this package."""

import os

# The first version of Numba that was not tried, as in pyproject.toml. From there on, shortcuts through internals whose
# failure nobody would notice are not taken.
UNTRIED_NUMBA = (0, 69)
# Fast-math without `nnan` and `ninf`: with those, LLVM deletes checks for NaN and a diverging run goes unnoticed.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}


def is_plain_requested() -> bool:
    """Whether the environment variable FASTNN_PLAIN_NJIT requests Numba's own compiler."""
    return os.environ.get("FASTNN_PLAIN_NJIT", "0") not in ("", "0")
