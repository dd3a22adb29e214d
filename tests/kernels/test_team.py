"""A team of threads meets at its barrier, and stops after an exception or Ctrl-C."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from fastnn.kernels import team
from fastnn.kernels.jit import kernel


@kernel
def _count_up(member, steps, marks):
    """In each step every thread writes its mark, then reads the marks of all threads after the barrier.

    Returns the number of outdated marks, or -1 if the team was stopped.
    """
    faults = 0
    for step in range(1, steps + 1):
        marks[member.t * 8] = step
        if not team.wait(member):
            return -1
        for other in range(member.threads):
            faults += marks[other * 8] < step
        if not team.wait(member):
            return -1
    return faults


@kernel
def _wait(member, steps):
    """Wait at the barrier `steps` times or until the team is stopped. Returns the number of completed waits."""
    for step in range(steps):
        if not team.wait(member):
            return step
    return steps


# Two threads need minutes for this many waits, so only a thread that is never stopped completes them all.
MANY = 2**30


@pytest.mark.parametrize("caller_works", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_no_thread_passes_the_barrier_before_all_have_arrived(threads, caller_works):
    marks, faults = np.zeros(8 * threads, np.int64), [None] * threads

    def work(member):
        faults[member.t] = _count_up(member, 500, marks)

    assert team.run_team(work, threads, caller_works) == threads
    assert faults == [0] * threads


@pytest.mark.parametrize("caller_works", [False, True])
def test_an_exception_in_one_thread_stops_the_others(caller_works):

    def work(member):
        if member.t == 1:
            raise ZeroDivisionError("on purpose")
        _wait(member, MANY)

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        team.run_team(work, 2, caller_works)


def test_ctrl_c_waits_for_a_thread_whose_start_it_interrupts(monkeypatch):
    """The thread runs already when Ctrl-C ends the wait of `start`."""
    ended = []
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    def work(member):
        while not member.barrier[team.STOP]:
            time.sleep(0.001)
        time.sleep(0.05)
        ended.append(member.t)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        team.run_team(work, 2)
    assert ended == [0]


def test_ctrl_c_stops_running_threads():
    barriers, passed = [], [None, None]

    def interrupt():
        while not barriers or barriers[0][team.COUNT] < 1000:  # until both threads are running
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    def work(member):
        barriers.append(member.barrier)
        passed[member.t] = _wait(member, MANY)

    interrupter = threading.Thread(target=interrupt, daemon=True)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        team.run_team(work, 2)
    interrupter.join()
    assert barriers[0][team.STOP] == 1
    assert all(400 < count < MANY for count in passed)


@pytest.mark.parametrize("caller_works", [False, True])
@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_team_shrinks_to_the_threads_that_the_system_starts(monkeypatch, allowed, caller_works):
    """The members that began before the refusal stop at their first barrier; then the smaller team does it all."""
    threads, faults, running = 4, {}, []
    marks, start = np.zeros(8 * threads, np.int64), threading.Thread.start

    def limited(thread):
        if sum(each.is_alive() for each in running) >= allowed:
            raise RuntimeError("can't start new thread")
        running.append(thread)
        start(thread)

    def work(member):
        faults[member.t, member.threads] = _count_up(member, 500, marks)

    monkeypatch.setattr(threading.Thread, "start", limited)
    size = max(1, allowed + caller_works)
    with pytest.warns(RuntimeWarning, match=f"started {allowed + caller_works} of 4 threads"):
        assert team.run_team(work, threads, caller_works) == size
    assert {key: value for key, value in faults.items() if key[1] == size} == {(t, size): 0 for t in range(size)}
    assert all(value == -1 for key, value in faults.items() if key[1] == threads)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind threads to cores")
@pytest.mark.parametrize("refused", [False, True])
def test_one_thread_per_core_starts_on_its_own_core_but_is_not_bound_to_it(monkeypatch, refused):
    """Each thread is moved to its own core and may then use all cores. It also runs if the system refuses the move."""
    cores, asked, found = sorted(os.sched_getaffinity(0)), [], {}
    move = os.sched_setaffinity

    def set_affinity(who, chosen):
        asked.append(sorted(chosen))
        if refused:
            raise OSError("refused")
        move(who, chosen)

    monkeypatch.setattr(os, "sched_setaffinity", set_affinity)
    for threads in (len(cores), len(cores) + 1):
        found.clear()
        asked.clear()
        team.run_team(lambda member: found.update({member.t: os.sched_getaffinity(0)}), threads)
        assert found == {t: set(cores) for t in range(threads)}
        one_by_one = [[core] for core in cores] if threads == len(cores) > 1 else []
        assert sorted(each for each in asked if len(each) == 1) == one_by_one
        assert os.sched_getaffinity(0) == set(cores)
