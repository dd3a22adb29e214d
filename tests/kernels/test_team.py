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
    barrier, marks = team.new_barrier(), np.zeros(8 * threads, np.int64)
    faults = [None] * threads

    def work(t):
        faults[t] = _count_up(team.Member(t, threads, barrier), 500, marks)

    team.run_team(work, threads, barrier, caller_works)
    assert faults == [0] * threads


@pytest.mark.parametrize("caller_works", [False, True])
def test_an_exception_in_one_thread_stops_the_others(caller_works):
    barrier = team.new_barrier()

    def work(t):
        if t == 1:
            raise ZeroDivisionError("on purpose")
        _wait(team.Member(t, 2, barrier), MANY)

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        team.run_team(work, 2, barrier, caller_works)


def test_ctrl_c_waits_for_a_thread_whose_start_it_interrupts(monkeypatch):
    """The thread runs already when Ctrl-C ends the wait of `start`."""
    barrier, ended = team.new_barrier(), []
    start = threading.Thread.start

    def interrupted(thread):
        start(thread)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt

    def work(t):
        while not barrier[team.STOP]:
            time.sleep(0.001)
        time.sleep(0.05)
        ended.append(t)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        team.run_team(work, 2, barrier)
    assert ended == [0]


def test_ctrl_c_stops_running_threads():
    barrier, passed = team.new_barrier(), [None, None]

    def interrupt():
        while barrier[team.COUNT] < 1000:  # until both threads are running
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    def work(t):
        passed[t] = _wait(team.Member(t, 2, barrier), MANY)

    interrupter = threading.Thread(target=interrupt, daemon=True)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        team.run_team(work, 2, barrier)
    interrupter.join()
    assert barrier[team.STOP] == 1
    assert all(400 < count < MANY for count in passed)


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
        team.run_team(lambda t: found.update({t: os.sched_getaffinity(0)}), threads, team.new_barrier())
        assert found == {t: set(cores) for t in range(threads)}
        one_by_one = [[core] for core in cores] if threads == len(cores) > 1 else []
        assert sorted(each for each in asked if len(each) == 1) == one_by_one
        assert os.sched_getaffinity(0) == set(cores)
