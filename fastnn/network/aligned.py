"""Arrays that start on a cache line. NumPy aligns arrays to 16 bytes only, and loads across cache lines cost double."""

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

CACHE_LINE = 64


def aligned_zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return C-contiguous zeros that start on a cache line."""
    return _aligned(np.zeros, shape, dtype)


def aligned_parts(*parts: tuple[int, Any]) -> list[np.ndarray]:
    """Return zeros of these sizes and dtypes, which share one allocation. Each array starts on a cache line."""
    dtypes = [np.dtype(dtype) for _, dtype in parts]
    sizes = [size * dtype.itemsize for (size, _), dtype in zip(parts, dtypes, strict=True)]
    starts = list(accumulate((-(-size // CACHE_LINE) * CACHE_LINE for size in sizes), initial=0))
    raw = aligned_zeros(starts[-1], np.uint8)
    return [raw[start : start + size].view(dtype) for start, size, dtype in zip(starts, sizes, dtypes, strict=False)]


def aligned_empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a C-contiguous array without values that starts on a cache line."""
    return _aligned(np.empty, shape, dtype)


def aligned_copy(array: Any, dtype: Any) -> np.ndarray:
    """Return a C-contiguous copy of `array` with dtype `dtype`. The copy starts on a cache line."""
    array = np.asarray(array)
    copy = aligned_empty(array.shape, dtype)
    copy[...] = array
    return copy


def _aligned(make: Callable[[int, Any], np.ndarray], shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    dtype = np.dtype(dtype)
    n_bytes = (math.prod(shape) if isinstance(shape, tuple) else int(shape)) * dtype.itemsize
    raw = make(n_bytes + CACHE_LINE, np.uint8)
    start = -raw.__array_interface__["data"][0] % CACHE_LINE
    return raw[start : start + n_bytes].view(dtype).reshape(shape)
