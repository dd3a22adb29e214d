"""Arrays that end where readable memory ends, so that a read or a write beyond them ends the process."""

import ctypes
import mmap
import sys

import numpy as np

_PAGE = mmap.PAGESIZE


def guarded(array: np.ndarray) -> np.ndarray:
    """Return a copy of a C-contiguous array whose last byte is the last one before an unreadable page.

    Where memory cannot be protected, and for an empty array, it is a plain copy.
    """
    array = np.ascontiguousarray(array)
    if sys.platform != "linux" or not array.nbytes:
        return array.copy()
    size = -(-array.nbytes // _PAGE) * _PAGE
    memory = mmap.mmap(-1, size + _PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(_PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect failed")
    copy = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy
