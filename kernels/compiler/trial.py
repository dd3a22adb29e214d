"""Chooses the compiler of a kernel or helper: one of `pipeline`, or Numba's own if those fail in a trial.

Both functions here are given to Numba as a ``pipeline_class``. Numba calls them only when it must compile, so a process
that loads all kernels from disk tries nothing.
"""

import functools
import os
import warnings

import numba
import numpy as np
from numba.core.compiler import Compiler

from fastnn.kernels.compiler.background import leave_at_exit


def kernel_compiler(*arguments):
    """A compiler of one kernel. The arguments are those of Numba's `Compiler`."""
    leave_at_exit()
    return (_pipeline().KernelCompiler if _pipeline() else Compiler)(*arguments)


def helper_compiler(*arguments):
    """A compiler of one helper. The arguments are those of Numba's `Compiler`."""
    leave_at_exit()
    return (_pipeline().HelperCompiler if _pipeline() else Compiler)(*arguments)


def is_plain_requested() -> bool:
    """Whether the environment variable FASTNN_PLAIN_NJIT requests Numba's own compiler."""
    return os.environ.get("FASTNN_PLAIN_NJIT", "0") not in ("", "0")


@functools.cache
def _pipeline():
    """The module `pipeline` if it works with this Numba, else None, with a warning unless that was requested."""
    if is_plain_requested():
        return None
    try:
        from fastnn.kernels.compiler import pipeline

        _try_out(pipeline)
    except Exception as error:  # changed internals can raise anything
        warnings.warn(
            f"fastnn: the internals of Numba {numba.__version__} have changed ({type(error).__name__}: {error}); "
            "kernels are compiled with plain njit, which takes several times as long, and epochs are a tenth slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return pipeline


def _try_out(pipeline) -> None:
    """Compile and call a kernel of three lines and its helper. Raises an exception if anything is not as it should."""

    @numba.njit(pipeline_class=pipeline.HelperCompiler)
    def twice(x):
        return x + x

    @numba.njit(pipeline_class=pipeline.KernelCompiler)
    def trial(array):
        for k in range(array.size):
            array[k] = twice(array[k])

    pipeline.called.clear()
    array = np.arange(3.0)
    trial(array)
    if array.tolist() != [0, 2, 4]:
        raise RuntimeError(f"the trial kernel computed {array.tolist()}, expected [0, 2, 4]")
    if pipeline.hooks != pipeline.called:
        raise RuntimeError(f"Numba did not call {', '.join(sorted(pipeline.hooks - pipeline.called))}")
