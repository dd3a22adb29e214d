"""The environment of every process of a run: none of the caller's tuning, and the thread counts that the run sets.

A variable such as OPENBLAS_CORETYPE makes a library choose an older kernel, so one peer would run slowed while the
others do not. Every worker and every whole program starts with what `environment` returns.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# By the start of a variable's name: BLAS and OpenMP, compilers and interpreters, libraries, memory.
TUNING = (
    "OPENBLAS", "GOTO_", "MKL_", "NVPL_", "BLIS_", "ARMPL_", "VECLIB_", "ONEDNN_", "DNNL_", "FBGEMM_",
    "OMP_", "KMP_", "GOMP_", "TBB_",
    "NUMBA_", "XLA_", "JAX_", "TF_XLA_", "TF_CPP_", "PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONTRACEMALLOC",
    "NPY_", "NUMPY_", "NUMEXPR_", "SCIPY_", "SKLEARN_", "TORCH", "PYTORCH_", "ATEN_", "ORT_",
    "MALLOC_", "GLIBC_TUNABLES",
)  # fmt: skip
# Where a library keeps files has no influence on its speed, and tests must not write elsewhere.
FOLDERS = ("_CACHE_DIR", "_HOME")
THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


def is_tuning(name: str) -> bool:
    """Whether a variable can change what a library runs."""
    return name.startswith(TUNING) and not name.endswith(FOLDERS)


def removed(caller: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The caller's variables that no process of a run is given, and their values."""
    return {name: caller[name] for name in sorted(caller) if is_tuning(name)}


def settings(threads: int) -> dict[str, str]:
    """What the run sets itself, for libraries that read it when they are imported."""
    # XLA has no thread count: it takes the cores of its affinity, see `worker.confine`. One thread is a flag.
    xla = "--xla_cpu_multi_thread_eigen=false" if threads == 1 else ""
    return {**{name: str(threads) for name in THREADS}, "XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}


def environment(threads: int, checkout: Path = ROOT, caller: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a process with that many threads, whose `import fastnn` finds `checkout`."""
    kept = {name: value for name, value in caller.items() if not is_tuning(name)}
    return {**kept, **settings(threads), "PYTHONPATH": str(checkout)}


# Another checkout has a package `benchmarks` too: this one is imported before that checkout alone can be found.
_START = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); import benchmarks; del sys.path[0]; import runpy; "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of these benchmarks, `fastnn` being that of the environment's PYTHONPATH."""
    return [sys.executable, "-P", "-c", _START, module, *arguments]
