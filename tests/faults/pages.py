"""Arrays that end where memory must not be touched: whoever reads or writes beyond them ends the process."""

import ctypes
import mmap

import numpy as np
import pytest

from fastnn.network import Network

_NO_ACCESS = 0


def guarded(array: np.ndarray) -> np.ndarray:
    """Return a copy of `array` that ends directly before a page that can be neither read nor written.

    Skips the test where there is no `mprotect`.
    """
    if not hasattr(mmap, "MAP_PRIVATE"):
        pytest.skip("no mprotect on this system")
    size = -(-max(1, array.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    assert protect(address + size, mmap.PAGESIZE, _NO_ACCESS) == 0, ctypes.get_errno()
    copy = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy


def with_guarded_arrays(network: Network) -> Network:
    """Give a network guarded copies of its weights and biases; return it."""
    network.weights, network.biases = (tuple(map(guarded, arrays)) for arrays in (network.weights, network.biases))
    return network
