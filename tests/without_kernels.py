"""Lets the tests of the reference run where nothing is compiled (NUMBA_DISABLE_JIT=1): what needs a kernel is skipped.

The modules of kernels, and of the backend made of them, are replaced by stand-ins. A test that calls anything of them
is skipped; a test file that needs one of their numbers is skipped as a whole.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import types

import pytest

DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
_REPLACED = ("fastnn.kernels", "fastnn.backends.compiled")


class _NeedsKernels(type):
    """The class of all that a stand-in has: neither a call nor a number of it can be had."""

    def _skip(cls, *_, **__):
        pytest.skip("needs compiled kernels", allow_module_level=True)

    def __getattr__(cls, name):
        if name.startswith("_"):  # Python and pytest look for these
            raise AttributeError(name)
        cls._skip()

    __call__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __iter__ = __index__ = _skip


class _StandIn(types.ModuleType):
    """A module that has every public name."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _NeedsKernels(name, (), {"__module__": self.__name__})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(f"{each}.") for each in _REPLACED):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _StandIn(spec.name)

    def exec_module(self, module):
        pass


def install() -> None:
    """Replace the modules, if nothing is compiled."""
    if DISABLED:
        sys.meta_path.insert(0, _Finder())
