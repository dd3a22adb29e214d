"""The team: it waits, it stops, it stays interruptible."""

import os
import signal
import threading
import time

import numpy as np
import pytest

from fastnn.kernels import team
from fastnn.kernels.jit import kernel


@kernel
def _count_up(t, threads, steps, barrier, marks):
    """At each step every thread writes its mark, and after the barrier sees everybody's: returns the faults seen."""
    faults = 0
    for step in range(1, steps + 1):
        marks[t * 8] = step
        if not team.wait(barrier, threads):
            return -1
        for other in range(threads):
            faults += marks[other * 8] < step
        if not team.wait(barrier, threads):
            return -1
    return faults


@kernel
def _wait(t, threads, steps, barrier):
    """Meet at `steps` barriers, or until the team is to stop: returns how many were passed."""
    for step in range(steps):
        if not team.wait(barrier, threads):
            return step
    return steps


# Barriers that take two threads minutes: whoever is not stopped passes them all.
MANY = 2**30


@pytest.mark.parametrize("caller_works", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_nobody_passes_a_barrier_alone(threads, caller_works):
    barrier, marks = team.new_barrier(), np.zeros(8 * threads, np.int64)
    faults = [None] * threads

    def work(t):
        faults[t] = _count_up(t, threads, 500, barrier, marks)

    team.run_team(work, threads, barrier, caller_works)
    assert faults == [0] * threads


@pytest.mark.parametrize("caller_works", [False, True])
def test_an_exception_in_one_thread_ends_the_others(caller_works):
    barrier = team.new_barrier()

    def work(t):
        if t == 1:
            raise ZeroDivisionError("as told")
        _wait(t, 2, MANY, barrier)

    with pytest.raises(ZeroDivisionError, match="as told"):
        team.run_team(work, 2, barrier, caller_works)


def test_ctrl_c_stops_threads_in_the_middle_of_their_work():
    barrier, passed = team.new_barrier(), [None, None]

    def interrupt():
        while barrier[team.COUNT] < 1000:  # until both are at work
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    def work(t):
        passed[t] = _wait(t, 2, MANY, barrier)

    interrupter = threading.Thread(target=interrupt, daemon=True)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        team.run_team(work, 2, barrier)
    interrupter.join()
    assert barrier[team.STOP] == 1
    assert all(400 < count < MANY for count in passed)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no core can be asked for here")
@pytest.mark.parametrize("refused", [False, True])
def test_as_many_threads_as_cores_start_apart_and_are_not_tied(monkeypatch, refused):
    """Each is moved to a core of its own, may then use all, and works even if the system refuses."""
    cores, asked, found = sorted(os.sched_getaffinity(0)), [], {}
    move = os.sched_setaffinity

    def set_affinity(who, chosen):
        asked.append(sorted(chosen))
        if refused:
            raise OSError("not these")
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
