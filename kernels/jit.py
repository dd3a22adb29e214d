"""The two decorators of the kernels, and the flags they are compiled with."""

import llvmlite.binding
import numba
from numba import types
from numba.extending import intrinsic

from fastnn.kernels.compiler.cache import KernelCache
from fastnn.kernels.compiler.pipeline import HelperCompiler, KernelCompiler

if llvmlite.binding.llvm_version_info < (19,):  # it knows nothing of `bits.list_nonzero`, and would crash on it
    raise ImportError(f"Numba {numba.__version__} is too old, expected 0.62 or newer")

# All of fast-math except `nnan` and `ninf`: with those LLVM deletes checks for NaN, and divergence goes unseen.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
_FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH}


def kernel(function):
    """Compile `function` on first use: nogil, kept on disk. For functions that are called from Python."""
    dispatcher = numba.njit(**_FLAGS, no_cfunc_wrapper=True, pipeline_class=KernelCompiler)(function)
    dispatcher._cache = KernelCache(function)
    return dispatcher


def inlined(function):
    """Compile `function` into the kernels that call it; it has no place on disk of its own.

    It makes no array and returns none, so that no references need be counted: that would be a quarter of the time that
    compiling takes. Like a kernel, it never says ``a[:] = b`` of two arrays: Numba would compile, in 1.5 s, what to say
    of shapes that differ.
    """
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": HelperCompiler, "_nrt": False}
    return numba.njit(**_FLAGS, **options)(function)


@intrinsic
def never_inline(_):
    """Keep the function that calls this a function: one that many call would be compiled anew in each of them."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen
