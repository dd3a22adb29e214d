"""The number of threads: of a run, by the limits of the machine, and of an epoch."""

import subprocess
import sys
import threading

import joblib
import pytest

from fastnn.backends import threads
from fastnn.backends.threads import EPOCHS_TO_RETRY, TeamSize


def test_all_threads_run_while_none_shares_its_core():
    size = TeamSize(4)
    for _ in range(3):
        assert size.next() == 4
        size.note(1.0, [0.99, 0.8, 0.97, 1.0])


@pytest.mark.parametrize(("most", "fewer"), [(2, 1), (4, 3)])
def test_a_thread_that_shares_its_core_is_left_out_for_a_few_epochs(most, fewer):
    size = TeamSize(most)
    size.note(1.0, [1.0] * (most - 1) + [0.5])
    for _ in range(EPOCHS_TO_RETRY):
        assert size.next() == fewer
        size.note(1.0, [1.0] * fewer)
    assert size.next() == most


def test_further_threads_are_left_out_while_cores_are_shared_but_one_always_runs():
    size = TeamSize(3)
    for expected in (3, 2, 1, 1):
        assert size.next() == expected
        size.note(1.0, [0.5] * expected)


def test_epochs_too_short_to_time_do_not_change_the_number_of_threads():
    size = TeamSize(2)
    size.note(0.001, [0.0, 0.001])
    assert size.next() == 2


def test_the_next_number_of_threads_follows_from_those_that_ran_not_from_the_maximum():
    size = TeamSize(8)
    size.note(1.0, [1.0, 0.4])  # two threads ran, because the layer has only two panels
    assert size.next() == 1


@pytest.fixture
def machine(monkeypatch):
    """A function that sets the cores of the CPU affinity, the CPU quota and environment variables."""

    def configure(cores, quota=None, **environment):
        threads._recent_quota.cache_clear()
        monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
        for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    yield configure
    threads._recent_quota.cache_clear()


@pytest.mark.parametrize(("cores", "quota", "environment", "expected"), [
    (8, None, {}, 8),
    (8, 0.5, {}, 1),
    (8, 2.0, {}, 2),
    (8, 2.1, {}, 3),
    (8, 64.0, {}, 8),
    (8, None, {"OMP_NUM_THREADS": "3"}, 3),
    (8, None, {"OMP_NUM_THREADS": "4,2"}, 4),
    (8, None, {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "5"}, 5),
    (8, 2.0, {"NUMBA_NUM_THREADS": "5"}, 2),
    (8, None, {"NUMBA_NUM_THREADS": "5", "LOKY_MAX_CPU_COUNT": "2"}, 2),
    (8, None, {"OMP_NUM_THREADS": "100"}, 8),
    (5000, None, {}, 1024),
    *((8, None, {"OMP_NUM_THREADS": text}, 8) for text in ("", "0", "-1", "many", "²", "9" * 5000)),
])  # fmt: skip
def test_the_usable_cores_are_at_most_those_of_each_limit(machine, cores, quota, environment, expected):
    machine(cores, quota, **environment)
    assert threads.usable_cores() == threads.resolve_threads(None) == expected
    assert threads.resolve_threads(7) == 7  # the user's number is used as it is


def _cores_of_worker():
    return threads.usable_cores()


@pytest.mark.slow
def test_the_worker_processes_of_joblib_share_the_cores():
    cores = threads.usable_cores()
    assert joblib.Parallel(n_jobs=8)([joblib.delayed(_cores_of_worker)()] * 2) == [max(1, cores // 8)] * 2


@pytest.mark.parametrize("jobs", [2, 3])
def test_the_threads_of_joblib_share_the_cores(machine, jobs):
    machine(7)
    together = threading.Barrier(jobs)

    def cores():
        together.wait(60)  # each thread of the pool has one call
        return threads.usable_cores()

    found = joblib.Parallel(jobs, backend="threading", batch_size=1)([joblib.delayed(cores)()] * jobs)
    assert found == [7 // jobs] * jobs
    assert threads.usable_cores() == 7


def test_a_share_is_that_of_its_thread_and_ends_with_its_block(machine):
    machine(8)
    found = []
    with threads.share_of_cores(3):
        other = threading.Thread(target=lambda: found.append(threads.usable_cores()))
        other.start()
        other.join()
        found += [threads.usable_cores(), threads.resolve_threads(5)]
        with threads.share_of_cores(100):
            found.append(threads.usable_cores())
    assert [*found, threads.usable_cores()] == [8, 3, 5, 8, 8]


def test_nothing_of_dask_or_joblib_is_imported_to_count_cores():
    program = "import sys; from fastnn.backends.threads import usable_cores; usable_cores()"
    loaded = "print({'distributed', 'dask', 'joblib', 'multiprocessing'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", f"{program}; {loaded}"], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
