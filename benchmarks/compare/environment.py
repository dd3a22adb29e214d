"""Builds the environment of every process of a run: removes the caller's tuning and sets the thread counts.

A variable such as OPENBLAS_CORETYPE makes a library choose an older kernel, which would slow down one peer only. Every
worker and every whole program starts with the environment that `environment` returns.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Prefixes of variable names: BLAS and OpenMP, compilers and interpreters, libraries, memory.
TUNING = (
    "OPENBLAS", "GOTO_", "MKL_", "NVPL_", "BLIS_", "ARMPL_", "VECLIB_", "ONEDNN_", "DNNL_", "FBGEMM_",
    "OMP_", "KMP_", "GOMP_", "TBB_",
    "NUMBA_", "XLA_", "JAX_", "TF_", "PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONTRACEMALLOC",
    "NPY_", "NUMPY_", "NUMEXPR_", "SCIPY_", "SKLEARN_", "TORCH", "PYTORCH_", "ATEN_", "ORT_",
    "MALLOC_", "GLIBC_TUNABLES",
)  # fmt: skip
# Variables with these endings are kept: they only locate a library's files, and tests must not write anywhere else.
FOLDERS = ("_CACHE_DIR", "_HOME")
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


def is_tuning(name: str) -> bool:
    """Return whether a variable can change which code a library runs."""
    return name.startswith(TUNING) and not name.endswith(FOLDERS)


def removed(caller: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the caller's variables that are removed for every process of a run, with their values."""
    return {name: caller[name] for name in sorted(caller) if is_tuning(name)}


def settings(threads: int) -> dict[str, str]:
    """Return the variables that the run sets. Libraries read them when they are imported."""
    # XLA has no setting for the number of threads. It uses the cores that `worker.confine` leaves to the process. This
    # flag selects one thread.
    xla = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    return {**{name: str(threads) for name in THREADS}, "XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}


def environment(threads: int, checkout: Path = ROOT, caller: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a process with `threads` threads whose `import fastnn` finds `checkout`."""
    kept = {name: value for name, value in caller.items() if not is_tuning(name)}
    return {**kept, **settings(threads), "PYTHONPATH": str(checkout)}


# Another checkout also has a package `benchmarks`. Import this one first; afterwards, only the other checkout is on the
# path.
_START = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); import benchmarks; del sys.path[0]; import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of these benchmarks with the fastnn on the environment's PYTHONPATH."""
    return [sys.executable, "-P", "-c", _START, module, *arguments]
