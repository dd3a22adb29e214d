"""Chooses how Numba compiles kernels and their helpers: by `pipeline`, or by plain `njit` if that fails in a trial.

This file imports Numba. It is imported when a kernel must be compiled, so a process that loads all kernels from disk
tries nothing.
"""

import functools
import warnings
from typing import Any, NamedTuple

import llvmlite.binding
import numba
import numpy as np

from fastnn.kernels.compiler import FASTMATH, is_plain_requested, machine
from fastnn.kernels.compiler.arguments import Record
from fastnn.kernels.compiler.background import leave_at_exit

# `_nrt`: Numba counts no references, which would take a quarter of compile time.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH, "_nrt": False}
_EXACT_OPTIONS = {**_OPTIONS, "fastmath": False}


class Lowered(NamedTuple):
    """A kernel in LLVM's intermediate code, not optimised.

    code: LLVM's bitcode, with the function `machine.ENTRY`
    result: the name of the result's type, a key of `kernel.RESULTS`
    """

    code: bytes
    result: str


def lower(function: Any, values: list[Any], exact: bool) -> Lowered:
    """Compile a function for arguments like `values`, up to LLVM's intermediate code; without fast-math if `exact`."""
    leave_at_exit()
    types = tuple(map(numba.typeof, values))
    options = _EXACT_OPTIONS if exact else _OPTIONS
    module, name, result = (_pipeline() or _Plain).lower(function, types, options)
    result_name = {"none": "none", "boolean": "bool"}.get(str(result), str(result))
    machine.add_entry(module, name, returns=result_name != "none")
    return Lowered(module.as_bitcode(), result_name)


def helper_dispatcher(function: Any, exact: bool) -> Any:
    """Numba's dispatcher of a helper, for the compiler of its callers; without fast-math if `exact`."""
    leave_at_exit()
    pipeline = _pipeline()
    options = _EXACT_OPTIONS if exact else _OPTIONS
    return numba.njit(**options, **({} if pipeline is None else {"pipeline_class": pipeline.HelperCompiler}))(function)


class _Plain:
    """Stands for the module `pipeline` where Numba's internals have changed: all it uses is documented."""

    @staticmethod
    def lower(function, argument_types, options):
        dispatcher = numba.njit(**options)(function)
        dispatcher.compile(argument_types)
        compiled = dispatcher.overloads[argument_types]
        module = llvmlite.binding.parse_assembly(dispatcher.inspect_llvm(argument_types))
        return module, compiled.fndesc.llvm_func_name, compiled.signature.return_type


@functools.cache
def _pipeline() -> Any:
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


def _try_out(pipeline: Any) -> None:
    """Compile and call a kernel of three lines and its helper. Raises an exception if anything is not as it should."""

    @numba.njit(pipeline_class=pipeline.HelperCompiler)
    def twice(x):
        return x + x

    def trial(array):
        for k in range(array.size):
            array[k] = twice(array[k])

    pipeline.called.clear()
    array = np.arange(3.0)
    module, name, _ = pipeline.lower(trial, (numba.typeof(array),), _OPTIONS)
    machine.add_entry(module, name, returns=False)
    machine.ENTRY_TYPE(machine.load(machine.assemble(machine.optimize(module.as_bitcode()))))(Record(array).words)
    if array.tolist() != [0, 2, 4]:
        raise RuntimeError(f"the trial kernel computed {array.tolist()}, expected [0, 2, 4]")
    if pipeline.hooks != pipeline.called:
        raise RuntimeError(f"Numba did not call {', '.join(sorted(pipeline.hooks - pipeline.called))}")
