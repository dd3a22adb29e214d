"""Names of Numba and llvmlite that are imported when a kernel must be compiled, and not before.

Kernels that are on disk run without Numba, whose import takes a quarter of a second and tens of megabytes. So files of
kernels do not import it: they import the names here instead.
"""

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Any


class _Module:
    """A module that is imported when one of its attributes is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


class _Ir(_Module):
    """`llvmlite.ir`, and its integer types of 1, 32 and 64 bits."""

    I1 = cached_property(lambda self: self.IntType(1))
    I32 = cached_property(lambda self: self.IntType(32))
    I64 = cached_property(lambda self: self.IntType(64))


types, cgutils, arrayobj, ir = (
    _Module("numba.core.types"),
    _Module("numba.core.cgutils"),
    _Module("numba.np.arrayobj"),
    _Ir("llvmlite.ir"),
)


class _Part:
    """A function that only kernels can call. Numba finds it by its `_numba_type_` when it compiles a caller."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.py_func = self.__wrapped__ = function
        self.__name__, self.__qualname__, self.__module__ = (
            function.__name__,
            function.__qualname__,
            function.__module__,
        )
        self.__doc__ = function.__doc__

    def __call__(self, *_):
        raise TypeError(f"{self.__name__} is a part of kernels: it cannot be called from Python")


class Intrinsic(_Part):
    """A function that writes LLVM's instructions itself, as `numba.extending.intrinsic` describes."""

    @cached_property
    def _numba_type_(self) -> Any:
        from numba.core.registry import cpu_target
        from numba.extending import intrinsic

        real = intrinsic(self.py_func)
        cpu_target.typing_context.refresh()
        return cpu_target.typing_context.resolve_value_type(real)


class Helper(_Part):
    """A function that is compiled as a part of the kernels that call it; without fast-math if it is `exact`."""

    def __init__(self, function: Callable[..., Any], exact: bool = False) -> None:
        super().__init__(function)
        self._exact = exact

    @cached_property
    def _numba_type_(self) -> Any:
        from fastnn.kernels.compiler.trial import helper_dispatcher

        self._dispatcher = helper_dispatcher(self.py_func, self._exact)  # its type does not keep it alive
        return self._dispatcher._numba_type_
