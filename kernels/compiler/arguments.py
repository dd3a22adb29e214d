"""Turns the arguments of a kernel into the machine words that its code takes.

A kernel's code takes a number of 8 bytes for each integer and float of an argument, and seven or more for an array, in
the order of Numba's own calling convention: two that Numba uses for counting references, which are 0 here, the number
of elements, the bytes of one, the address, the shape and the strides.
"""

import struct
import sys
from collections.abc import Sequence
from ctypes import c_size_t
from functools import lru_cache
from typing import Any

import numpy as np


class Record:
    """One argument of a kernel, ready for any number of calls.

    Preparing an argument takes microseconds, so a caller that passes the same arrays again keeps the record.

    kind: names the argument's type, as far as compiled code depends on it
    words: the machine words, 8 bytes each
    value: the argument. It keeps the memory that `words` points to alive
    """

    __slots__ = ("kind", "value", "words")

    def __init__(self, value: Any) -> None:
        kinds: list[str] = []
        numbers: list[Any] = []
        _append(value, kinds, numbers)
        self.kind, self.value = " ".join(kinds), value
        self.words: bytes = _packing(self.kind).pack(*numbers)


def joined(value: tuple[Any, ...], parts: Sequence[Record]) -> Record:
    """The record of a tuple from those of its elements: some of them may have been prepared earlier."""
    record = object.__new__(Record)
    record.kind = " ".join([f"{type(value).__name__}(", *[part.kind for part in parts], ")"])
    record.value, record.words = value, b"".join([part.words for part in parts])
    return record


class Records:
    """The records of arguments that are passed again and again, each under a name: a new one for a new object."""

    def __init__(self) -> None:
        self._records: dict[Any, Record] = {}

    def of(self, name: Any, value: Any) -> Record:
        """The record of an argument, which is prepared if it is another object than the last one of this name."""
        record = self._records.get(name)
        if record is None or record.value is not value:
            record = self._records[name] = Record(value)
        return record

    def forget(self, name: Any) -> None:
        """Let go of the argument of this name."""
        self._records.pop(name, None)

    def clear(self) -> None:
        """Let go of all arguments."""
        self._records.clear()


# How the words of each scalar are packed. Smaller numbers are in the first bytes of their word.
_FORMATS = {"bool": "q", "int64": "q", "uint64": "Q", "int32": "q", "uint32": "q", "float64": "d", "float32": "f4x"}
_PYTHON = {int: "int64", float: "float64", bool: "bool", np.bool_: "bool"}
_SCALARS = _PYTHON | {np.dtype(name).type: name for name in _FORMATS if name != "bool"}


# NumPy's C interface fixes the beginning of an array: the header that every object has, and the address.
_HEADER = object.__basicsize__


def address_of(array: np.ndarray) -> int:
    """The address of the first element; in a tenth of the time of ``array.ctypes.data``."""
    return c_size_t.from_address(id(array) + _HEADER).value


_EXAMPLE = np.arange(4)[1:]
if sys.implementation.name != "cpython" or address_of(_EXAMPLE) != _EXAMPLE.ctypes.data:

    def address_of(array: np.ndarray) -> int:
        """The address of the first element."""
        return int(array.ctypes.data)


def _append(value: Any, kinds: list[str], numbers: list[Any]) -> None:
    """Append the kinds and the numbers of a scalar, an array, or a tuple of those."""
    cls = type(value)
    if cls is np.ndarray:
        kinds.append(_array_kind(value.dtype, value.ndim, value.flags.num))
        numbers += (0, 0, value.size, value.itemsize, address_of(value), *value.shape, *value.strides)
    elif cls in _SCALARS:
        kinds.append(_SCALARS[cls])
        numbers.append(value)
    elif isinstance(value, tuple):
        kinds.append(f"{cls.__name__}(")
        for each in value:
            _append(each, kinds, numbers)
        kinds.append(")")
    else:
        raise TypeError(f"a kernel's argument of type {cls.__name__}, expected numbers, arrays and tuples of them")


# The bits of `ndarray.flags.num`.
_C, _F, _ALIGNED, _WRITEABLE = 0x1, 0x2, 0x100, 0x400


@lru_cache(1024)
def _array_kind(dtype: np.dtype, dimensions: int, flags: int) -> str:
    order = "C" if flags & _C else "F" if flags & _F else "A"
    return f"{dtype.str}{order}{dimensions}{'' if flags & _WRITEABLE else 'r'}{'' if flags & _ALIGNED else 'u'}"


@lru_cache(1024)
def _packing(kind: str) -> struct.Struct:
    """The packing of all words of an argument, from the name of its type."""
    formats = ["="]
    for each in kind.split():
        if each[0] in "<>|=":  # an array
            formats.append(f"{5 + 2 * int(each.rstrip('ru')[-1])}q")
        else:
            formats.append(_FORMATS.get(each, ""))
    return struct.Struct("".join(formats))
