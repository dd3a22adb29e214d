"""How many threads a run takes: what the user says, or the cores this process may use."""

import os
from pathlib import Path

from fastnn.checks import check_integer


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
