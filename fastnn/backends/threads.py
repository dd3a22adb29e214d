"""How many threads a run takes: what the user says, or the cores this process may use."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastnn.checks import check_integer

# A thread had its core for at least so much of the time, unless another process wanted it too.
CROWDED_BELOW = 0.7
# Seconds of an epoch below which the clock of a thread says too little.
SHORTEST_NOTED = 0.02
EPOCHS_TO_RETRY = 4


def resolve_threads(threads: int | None) -> int:
    """`threads` itself, 1 or more; None stands for `usable_cores`."""
    return usable_cores() if threads is None else check_integer("threads", threads, 1, 1024)


def usable_cores() -> int:
    """The cores this process may use: its affinity, and its control group's quota, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return cores if quota is None else max(1, min(cores, int(-(-quota // 1))))


def _cgroup_quota() -> float | None:
    """Cores' worth of time that Linux's control group grants (version 2, then 1), or None without a limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        limit, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None


class TeamSize:
    """How many threads an epoch should have: the most it may, but fewer while another process keeps cores busy.

    Threads that meet at barriers are as slow as the slowest, and one that shares its core with another process runs in
    turns of milliseconds, which is many steps: one thread fewer is faster then. An epoch tells by the time that its
    threads had a core.
    """

    def __init__(self, most: int) -> None:
        self.most, self._left_out, self._epochs_to_retry = most, 0, 0

    def next(self) -> int:
        """The number of threads for the next epoch."""
        return max(1, self.most - self._left_out)

    def note(self, seconds: float, on_core: Sequence[float]) -> None:
        """What an epoch took, and how long each of its threads had a core meanwhile."""
        if self._left_out:
            self._epochs_to_retry -= 1
            if self._epochs_to_retry == 0:
                self._left_out = 0
        if len(on_core) > 1 and seconds >= SHORTEST_NOTED and min(on_core) < CROWDED_BELOW * seconds:
            self._left_out, self._epochs_to_retry = self.most - len(on_core) + 1, EPOCHS_TO_RETRY


class BlasLimit:
    """NumPy's BLAS held to so many threads while runs of the reference backend last, of however many at once.

    The limit is the process's: the first run sets it, and the last one lifts it, in whatever order they end.
    """

    def __init__(self) -> None:
        self._lock, self._runs = threading.Lock(), 0
        self._limit: Any = None

    @contextmanager
    def hold(self, threads: int) -> Iterator[None]:
        """Hold the limit for one run."""
        import threadpoolctl

        with self._lock:
            self._runs += 1
            if self._runs == 1:
                self._limit = threadpoolctl.threadpool_limits(threads, user_api="blas")
        try:
            yield
        finally:
            with self._lock:
                self._runs -= 1
                if self._runs == 0:
                    self._limit.restore_original_limits()


BLAS_LIMIT = BlasLimit()
