"""The decorators of kernels and of their parts, and the flags that kernels are compiled with."""

import importlib.util
import os

from fastnn.kernels.compiler import FASTMATH, cache
from fastnn.kernels.compiler.kernel import Kernel
from fastnn.kernels.compiler.lazy import Helper, Intrinsic

__all__ = [
    "FASTMATH",
    "always_inline",
    "exact_inlined",
    "exact_kernel",
    "inlined",
    "intrinsic",
    "kernel",
    "never_inline",
]

if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
    # Kernels are not written to run as Python: they use addresses, vectors and atomics.
    raise ImportError("NUMBA_DISABLE_JIT is set, so Numba compiles nothing")
if importlib.util.find_spec("numba") is None:
    raise ModuleNotFoundError("No module named 'numba'", name="numba")
if not cache.has_any():  # kernels must be compiled: whoever imports this learns now whether Numba works
    importlib.import_module("numba")


def kernel(function):
    """Compile `function` on its first call and keep it on disk. It runs without the GIL.

    This decorator is for functions that are called from Python. Ctrl-C interrupts a call that compiles. A kernel must
    not create an array: its caller passes all memory that it needs.
    """
    return Kernel(function)


def exact_kernel(function):
    """Compile `function` as a `kernel` without fast-math: each operation is rounded by itself, in the order written.

    Its parts are `exact_inlined`. The same operations on NumPy arrays then give the same bits.
    """
    return Kernel(function, exact=True)


def inlined(function):
    """Compile `function` only as part of the kernels that call it. It is not kept on disk separately.

    The function must neither create nor return an array, because Numba counts no references in kernels. Helpers and
    kernels must not write ``a[:] = b`` for two arrays: Numba would compile its shape-mismatch message, which costs
    1.5 s.
    """
    return Helper(function)


def exact_inlined(function):
    """Compile `function` as `inlined` does, but without fast-math, as a part of an `exact_kernel`."""
    return Helper(function, exact=True)


def intrinsic(function):
    """Make `function` an instruction of kernels: it returns a signature and writes LLVM's instructions.

    As `numba.extending.intrinsic`, which is imported only when a kernel is compiled.
    """
    return Intrinsic(function)


@intrinsic
def never_inline(_):
    """Stop LLVM from inlining the calling function.

    A function with many callers would otherwise be compiled again inside each of them.
    """
    return _mark("noinline")


@intrinsic
def always_inline(_):
    """Make LLVM inline the calling function into its callers, even if the call has many arguments."""
    return _mark("alwaysinline")


def _mark(attribute):
    from numba.core import types

    def codegen(context, builder, signature, args):
        builder.function.attributes.add(attribute)
        return context.get_dummy_value()

    return types.void(), codegen
