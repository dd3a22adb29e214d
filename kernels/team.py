"""The team of threads that runs one epoch: its barrier, and `run_team`, which Ctrl-C can interrupt.

The threads are Python threads inside nogil kernels. They exist for one call: nothing needs shutting down, nothing
survives a fork, and any number of teams can run at once.
"""

import os
import platform
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from fastnn.kernels.compiler.background import stop_waiting_when
from fastnn.kernels.compiler.lazy import cgutils, ir, types
from fastnn.kernels.jit import inlined, intrinsic
from fastnn.kernels.vector.simd import element_pointer

# A barrier is an int64 array. The team uses two of its entries, one cache line apart: the arrival count and the stop
# flag. A kernel may use the others.
COUNT, STOP, BARRIER_SIZE = 0, 8, 16
# A step takes a few dozen microseconds, so most waits are shorter than a system call: a thread spins first. Then it
# yields, because the thread it waits for may have lost its core.
SPINS = 2000
# After Ctrl-C, a thread whose start was interrupted gets this long to begin.
_START_SECONDS = 1.0


class Member(NamedTuple):
    """A thread's place in its team.

    t: the number of the thread, from 0 on
    threads: the number of threads of the team
    barrier: the team's `new_barrier`
    """

    t: int
    threads: int
    barrier: np.ndarray


def new_barrier() -> np.ndarray:
    """A barrier without arrivals, its stop flag clear: (BARRIER_SIZE,) int64."""
    return np.zeros(BARRIER_SIZE, np.int64)


@intrinsic
def atomic_add(_, array, index, value):
    """Atomically add `value` to ``array[index]``; returns the value before the addition. `array`: int64."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, array, args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def atomic_load(_, array, index):
    """``array[index]`` of an int64 array, read atomically from memory at every call."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, array, *args)
        return builder.load_atomic(pointer, "seq_cst", 8, typ=ir.IntType(64))

    return types.int64(array, types.int64), codegen


def _call_without_arguments(name: str, returns):
    @intrinsic
    def call(_):
        def codegen(context, builder, signature, args):
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(returns, []), name)
            builder.call(function, [])
            return context.get_dummy_value()

        return types.void(), codegen

    return call


@intrinsic
def _nothing(_):
    return types.void(), lambda context, builder, signature, args: context.get_dummy_value()


# Kernels link to these functions by name, so they can be kept on disk. A ctypes function pointer would prevent that.
_yield_core = _call_without_arguments("SwitchToThread" if sys.platform == "win32" else "sched_yield", ir.IntType(32))
_on_x86 = platform.machine().lower() in ("x86_64", "amd64")
_pause = _call_without_arguments("llvm.x86.sse2.pause", ir.VoidType()) if _on_x86 else _nothing


@inlined
def own_part(member, count):
    """The range of the numbers from 0 to ``count - 1`` that belong to this member: an equal part, up to rounding."""
    if member.threads == 1:
        return range(count)  # without two divisions
    return range(count * member.t // member.threads, count * (member.t + 1) // member.threads)


@inlined
def wait(member):
    """Wait until all threads of the team have arrived. Returns False if the stop flag is set.

    The arrival count is never reset. From its own arrival number, a thread computes the count that completes its
    generation of arrivals. So the barrier needs no second counter, and no thread can miss a reset.
    """
    barrier, threads = member.barrier, member.threads
    complete = (atomic_add(barrier, COUNT, 1) // threads + 1) * threads
    spins = 0
    while atomic_load(barrier, COUNT) < complete:
        if atomic_load(barrier, STOP):
            return False
        spins += 1
        if spins < SPINS:
            _pause()
        else:
            _yield_core()
    return atomic_load(barrier, STOP) == 0


def _join(thread: threading.Thread) -> None:
    """Wait until a thread has ended. It may not have begun yet, or never begin, if Ctrl-C interrupted its start."""
    deadline = time.monotonic() + _START_SECONDS
    while thread.ident is None and time.monotonic() < deadline:
        time.sleep(0.001)
    if thread.ident is not None:
        thread.join()


def _start_apart(t: int, threads: int) -> None:
    """Move this thread to the t-th core if there is one core per thread. The system may move it again later.

    Linux tends to start a thread on the core of the thread that starts it. Linux can take milliseconds to notice that
    another core is idle, and a short epoch lasts no longer than that.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if threads == len(cores) > 1:
        with suppress(OSError):  # the set of allowed cores may have changed in the meantime
            try:
                os.sched_setaffinity(0, cores[t : t + 1])
            finally:
                os.sched_setaffinity(0, cores)


def run_team(work: Callable[[Member], None], threads: int, caller_works: bool = False) -> int:
    """Call `work` for each member of a team of `threads`, each in its own thread, and wait until all calls have ended.

    If the system does not let so many threads start, a smaller team does the work, and a warning tells its size.

    Parameters
    ----------
    work
        The function to call. It must return soon after the stop flag of the member's barrier is set. Until all members
        have met at the barrier, it must not change what a second call reads: a smaller team calls it again.
    threads
        The number of members.
    caller_works
        Whether the calling thread runs the work of member 0 itself. That saves one thread start, but Ctrl-C then takes
        effect only when that work has ended. By default the calling thread only waits, so that Ctrl-C reaches it.

    Returns
    -------
    int
        The number of members of the team that did the work.

    Raises
    ------
    BaseException
        The first exception that `work` raised, or `KeyboardInterrupt` after Ctrl-C, once all threads have ended.

    Warns
    -----
    RuntimeWarning
        If fewer threads could be started.
    """
    started = _run_members(work, threads, caller_works)
    if started < threads:
        warnings.warn(f"the system started {started} of {threads} threads", RuntimeWarning, stacklevel=2)
        return run_team(work, started, caller_works) if started else run_team(work, 1, caller_works=True)
    return threads


def _run_members(work: Callable[[Member], None], threads: int, caller_works: bool) -> int:
    """`run_team`, but return the number of members that could start; if that is less than `threads`, all have ended."""
    barrier, errors, finished = new_barrier(), list[BaseException](), threading.Semaphore(0)

    def run(t: int) -> None:
        try:
            _start_apart(t, threads)
            stop_waiting_when(lambda: bool(barrier[STOP]))
            work(Member(t, threads, barrier))
        except BaseException as error:
            errors.append(error)
            barrier[STOP] = 1
        finally:
            finished.release()

    members = [threading.Thread(target=run, args=(t,), daemon=True) for t in range(int(caller_works), threads)]
    begun = []
    try:
        for thread in members:
            begun.append(thread)  # before it starts: Ctrl-C may come while `start` waits for a thread that runs already
            if not _start(thread):
                begun.pop()
                break
        if len(begun) < len(members):
            barrier[STOP] = 1
        elif caller_works:
            work(Member(0, threads, barrier))
        for _ in begun:
            while not finished.acquire(timeout=0.05):  # Windows can interrupt only a wait that has a timeout
                pass
    except BaseException:
        barrier[STOP] = 1
        for thread in begun:
            _join(thread)
        raise
    if errors:
        raise errors[0]
    return threads - len(members) + len(begun)


def _start(thread: threading.Thread) -> bool:
    """Start a thread. Returns False if the system has no more threads."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True
