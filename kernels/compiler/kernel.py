"""A kernel: a function that is called from Python and runs as machine code."""

import ctypes
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from fastnn.kernels.compiler import machine
from fastnn.kernels.compiler.arguments import Record
from fastnn.kernels.compiler.background import compile_apart
from fastnn.kernels.compiler.versions import version_of

# What kernels can return.
RESULTS = {
    "none": None,
    "bool": ctypes.c_bool,
    "int64": ctypes.c_int64,
    "uint64": ctypes.c_uint64,
    "float64": ctypes.c_double,
    "float32": ctypes.c_float,
}


class Version(NamedTuple):
    """A kernel for arguments of certain types, loaded.

    call: its ENTRY (`machine`)
    result: the type of its result, or None
    was_on_disk: whether it was loaded from disk
    """

    call: Callable[[bytes], int]
    result: Any
    was_on_disk: bool


class Kernel:
    """A function that is compiled for the types of its arguments, kept on disk, and called without the GIL.

    Arguments are numbers, NumPy arrays and tuples of them, or a `Record` of one. What a call does is in machine code
    alone: Numba is imported only when no compiled version is at hand. An `exact` kernel has no fast-math.
    """

    def __init__(self, function: Callable[..., Any], exact: bool = False) -> None:
        self.py_func = self.__wrapped__ = function
        self.exact = exact
        self.__name__, self.__qualname__, self.__module__ = (
            function.__name__,
            function.__qualname__,
            function.__module__,
        )
        self.__doc__ = function.__doc__
        self.versions: dict[str, Version] = {}

    def __call__(self, *arguments):
        records = [each if type(each) is Record else Record(each) for each in arguments]
        version = self.versions.get(" ".join([each.kind for each in records])) or self.load(*records)
        return self._run(version, b"".join([each.words for each in records]))

    def bind(self, *arguments) -> Callable[[], Any]:
        """A call with these arguments, all prepared, for any number of times. What arrays hold may change meanwhile."""
        records = [each if type(each) is Record else Record(each) for each in arguments]
        version, words = self.load(*records), b"".join([each.words for each in records])

        def call(kept: list[Record] = records) -> Any:
            return self._run(version, words)

        return call

    def _run(self, version: Version, words: bytes) -> Any:
        if version.result is None:
            status, result = version.call(words), None
        else:
            place = version.result()
            status = version.call(ctypes.addressof(place).to_bytes(8, sys.byteorder) + words)
            result = place.value
        if status:
            raise IndexError(f"{self.__name__}: an index is out of bounds")  # only with NUMBA_BOUNDSCHECK
        return result

    def load(self, *arguments) -> Version:
        """Load or compile the version for arguments of these types; returns it. Ctrl-C interrupts the wait for that."""
        records = [each if type(each) is Record else Record(each) for each in arguments]
        kind = " ".join([each.kind for each in records])
        version = self.versions.get(kind)
        if version is None:
            version = self.versions[kind] = compile_apart(self, kind, lambda: self._make(kind, records))
        return version

    def _make(self, kind: str, records: list[Record]) -> Version:
        found = version_of(self, kind, [each.value for each in records])
        if found.address is None:
            call = _return_true if found.result == "bool" else _run_nothing
        else:
            call = machine.ENTRY_TYPE(found.address)
        return Version(call, RESULTS[found.result], found.was_on_disk)


def _run_nothing(words: bytes) -> int:
    return 0


def _return_true(words: bytes) -> int:
    ctypes.c_bool.from_address(int.from_bytes(words[:8], sys.byteorder)).value = True
    return 0
