"""Arrays that start on a cache line. NumPy aligns arrays to 16 bytes only, and loads across cache lines cost double."""

from typing import Any

import numpy as np

CACHE_LINE = 64


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return C-contiguous zeros that start on a cache line."""
    dtype = np.dtype(dtype)
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


def aligned_copy(array: Any, dtype: Any) -> np.ndarray:
    """Return a C-contiguous copy of `array` with dtype `dtype`. The copy starts on a cache line."""
    array = np.asarray(array, dtype)
    copy = aligned_zeros(array.shape, array.dtype)
    copy[...] = array
    return copy
