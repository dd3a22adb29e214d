"""The engines of a sweep: threads of this process, and processes by joblib. Each yields the records as runs end.

The order in which runs end, the number of jobs and the engine change no bit of any record.
"""

import queue
import threading
from collections.abc import Generator, Sequence

from fastnn.backends import get_backend
from fastnn.backends.threads import usable_cores
from fastnn.checks import MAX_THREADS, check_integer
from fastnn.errors import WorkerError
from fastnn.sweeps.record import SweepRecord
from fastnn.sweeps.runs import Run, Shared, Stopped, run_one

# Windows can interrupt only a wait that has a timeout.
_POLL_SECONDS = 0.1


def shares(runs: Sequence[Run], jobs: int | None) -> tuple[int, int]:
    """Return the number of runs at once, and the number of threads of each.

    Together, the runs have as many threads as there are cores. By default, each has one thread, or the number that its
    settings state.
    """
    cores = usable_cores()
    if jobs is None:
        threads = max((run.config.threads or 1 for run in runs), default=1)
        jobs = max(1, cores // threads)
    jobs = min(check_integer("jobs", jobs, 1, MAX_THREADS), max(1, len(runs)))
    return jobs, max(1, cores // jobs)


def in_threads(shared: Shared, runs: Sequence[Run], jobs: int | None) -> Generator[SweepRecord]:
    """Run in threads of this process, which share the data without a copy: the kernels hold no interpreter lock.

    When the iterator is closed, as by Ctrl-C, the runs that have not finished end at once and leave no record.
    """
    jobs, threads = shares(runs, jobs)
    waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
    ended: queue.SimpleQueue[SweepRecord | BaseException] = queue.SimpleQueue()
    for run in runs:
        waiting.put(run)
    over = threading.Event()

    def work() -> None:
        try:
            while not over.is_set():
                ended.put(run_one(shared, waiting.get_nowait(), threads, over.is_set))
        except (queue.Empty, Stopped):
            pass
        except BaseException as error:
            ended.put(error)

    for backend in {run.config.backend for run in runs}:
        get_backend(backend)  # imported once, before several threads want it
    workers = [threading.Thread(target=work, name=f"fastnn sweep {n}", daemon=True) for n in range(jobs)]
    try:
        for number, worker in enumerate(workers):
            try:
                worker.start()
            except RuntimeError:  # the system has no more threads
                if not number:
                    raise
                break
        for _ in runs:
            record = _next(ended)
            if isinstance(record, BaseException):
                raise record
            yield record
    finally:
        over.set()
        for worker in workers:
            while worker.ident is not None and worker.is_alive():
                worker.join(_POLL_SECONDS)


def _next(ended: "queue.SimpleQueue[SweepRecord | BaseException]") -> SweepRecord | BaseException:
    while True:
        try:
            return ended.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            pass


def in_processes(shared: Shared, runs: Sequence[Run], jobs: int | None) -> Generator[SweepRecord]:
    """Run in processes of joblib, which map the data into their memory: one copy on disk or in shared memory for all.

    WorkerError if a process ends, as without memory.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    jobs, threads = shares(runs, jobs)
    parallel = Parallel(jobs, backend="loky", batch_size=1, return_as="generator_unordered", mmap_mode="r")
    results = parallel(delayed(run_one)(shared, run, threads) for run in runs)
    try:
        yield from results
    except BrokenProcessPool as error:
        reason = str(error).partition("\n")[0].strip()
        raise WorkerError(f"a process of the sweep ended: {reason}; fewer jobs need less memory") from None
    finally:
        results.close()
