"""The number of threads of a run: the user's setting, or the number of cores that this process may use."""

import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from fastnn.checks import MAX_THREADS, check_integer
from fastnn.control_group import cpu_quota

# If a thread runs on a core for less than this fraction of an epoch, another process competes for the core.
CROWDED_BELOW = 0.7
# In epochs shorter than this many seconds, a thread's CPU clock is too coarse to be informative.
SHORTEST_NOTED = 0.02
# All threads are tried again after this many epochs with fewer threads.
EPOCHS_TO_RETRY = 4


def resolve_threads(threads: int | None) -> int:
    """Return `threads`, or `usable_cores()` for None; SettingsError unless it is an integer from 1 to 1024."""
    return usable_cores() if threads is None else check_integer("threads", threads, 1, MAX_THREADS)


def usable_cores() -> int:
    """Return the number of cores this process may use.

    It is the number of cores of its CPU affinity, but at most

    - the CPU quota of its control group, rounded up,
    - the environment variable LOKY_MAX_CPU_COUNT, which limits joblib's count of the cores,
    - the environment variable NUMBA_NUM_THREADS, or without it OMP_NUM_THREADS. joblib sets both in its worker
      processes, so that these share the cores.

    Of these cores, a caller that runs beside others has its share:

    - within `share_of_cores`, the number that this sets, and nothing else counts;
    - in a task of Dask, 1: a worker runs as many tasks at once as it has threads;
    - in a thread of a `multiprocessing.pool.ThreadPool`, which is joblib's threading backend, an equal part for each
      thread of such pools.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _recent_quota(int(time.monotonic()))
    threads = _from_environment("NUMBA_NUM_THREADS") or _from_environment("OMP_NUM_THREADS")
    limits = (None if quota is None else math.ceil(quota), _from_environment("LOKY_MAX_CPU_COUNT"), threads)
    usable = max(1, min(cores, MAX_THREADS, *(limit for limit in limits if limit is not None)))
    share = _SHARE.get()
    if share is not None:
        return min(usable, share)
    return 1 if _is_task_of_dask() else max(1, usable // _threads_of_pools())


# The number of threads that `share_of_cores` sets.
_SHARE: ContextVar[int | None] = ContextVar("fastnn share of cores", default=None)


@contextmanager
def share_of_cores(threads: int) -> Iterator[None]:
    """Let `usable_cores` be at most `threads` in this thread, for one of several runs that share the cores.

    Examples
    --------
    >>> from fastnn.backends.threads import share_of_cores, usable_cores
    >>> with share_of_cores(1):
    ...     usable_cores()
    1
    """
    token = _SHARE.set(threads)
    try:
        yield
    finally:
        _SHARE.reset(token)


def _is_task_of_dask() -> bool:
    """Return whether the caller is a task that a worker of Dask runs. Nothing is imported to find out."""
    module = sys.modules.get("distributed.worker")
    if module is None or not hasattr(module, "get_worker"):  # it may be half imported
        return False
    with suppress(ValueError):
        module.get_worker()
        return True
    return False


def _threads_of_pools() -> int:
    """Return the number of threads of thread pools if the caller is one of them, else 1."""
    kind = getattr(sys.modules.get("multiprocessing.dummy"), "DummyProcess", None)
    if kind is None or not isinstance(threading.current_thread(), kind):
        return 1
    return sum(isinstance(each, kind) for each in threading.enumerate())


@lru_cache(maxsize=1)
def _recent_quota(second: int) -> float | None:
    """Return the CPU quota as it was within this second: reading it takes longer than a small prediction."""
    return cpu_quota()


def _from_environment(name: str) -> int | None:
    """Return the number in an environment variable, 1 or more; None if there is none."""
    first = os.environ.get(name, "").split(",")[0].strip()  # OMP_NUM_THREADS may have a number for each nested level
    return int(first) if first.isascii() and first.isdigit() and len(first) < 10 and int(first) > 0 else None


class TeamSize:
    """Chooses the number of threads of each epoch: `most`, or fewer while another process keeps a core busy.

    Threads that meet at barriers are as slow as the slowest of them. A thread that shares its core with another process
    waits for milliseconds at a time, which is as long as many steps, so one thread fewer is faster. The CPU time of the
    threads of an epoch shows whether they had their cores to themselves.

    Parameters
    ----------
    most : int
        The maximum number of threads.
    """

    def __init__(self, most: int) -> None:
        self.most, self._left_out, self._epochs_to_retry = most, 0, 0

    def next(self) -> int:
        """Return the number of threads for the next epoch."""
        return max(1, self.most - self._left_out)

    def note(self, seconds: float, on_core: Sequence[float]) -> None:
        """Record the wall-clock seconds of an epoch, and the CPU seconds `on_core` of each of its threads."""
        if self._left_out:
            self._epochs_to_retry -= 1
            if self._epochs_to_retry == 0:
                self._left_out = 0
        if len(on_core) > 1 and seconds >= SHORTEST_NOTED and min(on_core) < CROWDED_BELOW * seconds:
            self._left_out, self._epochs_to_retry = self.most - len(on_core) + 1, EPOCHS_TO_RETRY


# OpenBLAS, which comes with NumPy, computes a product of so many multiplications, and one of so long vectors, on one
# thread.
ONE_THREAD_PRODUCT, ONE_THREAD_VECTOR = 2**18, 2**13


class BlasLimit:
    """Caps BLAS threads while any run needs that: those of the reference backend, and L-BFGS.

    The limit applies to the whole process. Of concurrent runs, the smallest number counts; the last one to end lifts
    the limit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: list[int] = []  # those of the runs
        self._before: Any = None  # restores what was there before the first of these runs

    @contextmanager
    def hold(self, threads: int) -> Iterator[None]:
        """Keep the limit for the duration of one run."""
        with self._lock:
            limits = _limit_blas(min([threads, *self._numbers]))
            self._before = self._before or limits
            self._numbers.append(threads)
        try:
            yield
        finally:
            with self._lock:
                self._numbers.remove(threads)
                if self._numbers:
                    _limit_blas(min(self._numbers))
                else:
                    self._before.restore_original_limits()
                    self._before = None


def _limit_blas(threads: int) -> Any:
    """Limit the BLAS threads of the process, and return what restores the number of before."""
    return _blas_libraries(len(sys.modules)).limit(limits=threads, user_api="blas")


@lru_cache(maxsize=1)
def _blas_libraries(n_modules: int) -> Any:
    """Return the libraries that the process has loaded.

    Looking for them takes longer than many epochs. A library comes with a module, so it looks again only when the
    number of modules has changed.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


BLAS_LIMIT = BlasLimit()


def is_too_small_for_threads(n_parameters: int, multiplications: int) -> bool:
    """Return whether BLAS runs on one thread in any case: no product and no vector is large enough for more.

    Then there is nothing to limit, and looking for the libraries of BLAS would take longer than the run.

    multiplications: the number in the forward pass of all samples
    """
    return n_parameters <= ONE_THREAD_VECTOR and multiplications <= ONE_THREAD_PRODUCT
