"""The decorators `kernel` and `inlined`, and the flags that kernels are compiled with."""

import llvmlite.binding
import numba
from numba import types
from numba.extending import intrinsic

from fastnn.kernels.compiler.background import compile_apart
from fastnn.kernels.compiler.cache import keep_on_disk
from fastnn.kernels.compiler.trial import helper_compiler, kernel_compiler

if llvmlite.binding.llvm_version_info < (19,):  # older LLVM crashes on the intrinsic of `bits.list_nonzero`
    raise ImportError(f"Numba {numba.__version__} is too old, expected 0.62 or newer")

if numba.config.DISABLE_JIT:  # kernels are not written to run as Python: they use addresses, vectors and atomics
    raise ImportError("NUMBA_DISABLE_JIT is set, so Numba compiles nothing")

# Fast-math without `nnan` and `ninf`: with those, LLVM deletes checks for NaN and a diverging run goes unnoticed.
FASTMATH = {"reassoc", "contract", "arcp", "nsz"}
_FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH}


def kernel(function):
    """Compile `function` on its first call and keep it on disk. It runs without the GIL.

    This decorator is for functions that are called from Python. Ctrl-C interrupts a call that compiles.
    """
    return compile_apart(keep_on_disk(numba.njit(**_FLAGS, pipeline_class=kernel_compiler)(function)))


def inlined(function):
    """Compile `function` only as part of the kernels that call it. It is not kept on disk separately.

    The function must neither create nor return an array, because Numba counts no references in helpers. Helpers and
    kernels must not write ``a[:] = b`` for two arrays: Numba would compile its shape-mismatch message, which costs
    1.5 s.
    """
    return numba.njit(**_FLAGS, pipeline_class=helper_compiler)(function)


@intrinsic
def never_inline(_):
    """Stop LLVM from inlining the calling function.

    A function with many callers would otherwise be compiled again inside each of them.
    """

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def always_inline(_):
    """Make LLVM inline the calling function into its callers, even if the call has many arguments."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("alwaysinline")
        return context.get_dummy_value()

    return types.void(), codegen
