"""The threads of one epoch: their barrier, and how Python starts them and stays interruptible.

Threads are Python threads inside nogil kernels. They live for one call, so there is nothing to shut down, nothing that
a fork could leave behind, and any number of teams may run at once.
"""

import os
import platform
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels.jit import inlined
from fastnn.kernels.vector.simd import element_pointer

# The barrier of a team: an int64 array of two entries, a cache line apart.
COUNT, STOP, BARRIER_SIZE = 0, 8, 16
# A step is a few dozen microseconds: waits are mostly shorter than a trip to the operating system, so a thread spins at
# first; then it yields, since the thread it waits for may have lost its core.
SPINS = 2000


def new_barrier() -> np.ndarray:
    """A barrier at which nobody has arrived and nobody has asked to stop."""
    return np.zeros(BARRIER_SIZE, np.int64)


@intrinsic
def atomic_add(_, array, index, value):
    """``array[index] += value`` at once for all threads; returns what stood there before."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, array, args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), codegen


@intrinsic
def atomic_load(_, array, index):
    """``array[index]``, read anew at every call."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(element_pointer(context, builder, array, *args), "seq_cst", 8)

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


# Declared by name, so that compiled kernels can be kept on disk (a function pointer of ctypes could not).
_yield_core = _call_without_arguments("SwitchToThread" if sys.platform == "win32" else "sched_yield", ir.IntType(32))
_on_x86 = platform.machine().lower() in ("x86_64", "amd64")
_pause = _call_without_arguments("llvm.x86.sse2.pause", ir.VoidType()) if _on_x86 else _nothing


@inlined
def wait(barrier, threads):
    """Wait until all `threads` have arrived; False if the team is to stop instead.

    Arrivals are counted on and never reset: the thread's own number tells its generation, and the count at which that
    generation is complete. So the barrier needs no second counter, and no thread can miss a reset.
    """
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


def _start_apart(t: int, threads: int) -> None:
    """Have this thread go on at the t-th core, if there are as many as threads; it may be moved later, as any other.

    Linux tends to start a thread where the one that starts it runs, and may take milliseconds to see that another core
    is idle: as long as a short epoch.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if threads == len(cores) > 1:
        with suppress(OSError):  # who may use which cores can have changed just now
            try:
                os.sched_setaffinity(0, cores[t : t + 1])
            finally:
                os.sched_setaffinity(0, cores)


def run_team(work: Callable[[int], None], threads: int, barrier: np.ndarray, caller_works: bool = False) -> None:
    """Call ``work(t)`` for t = 0 ... threads - 1, each in a thread of its own, and wait.

    The caller's thread only waits, so that Ctrl-C reaches it. After Ctrl-C, or if one call raises, the stop flag of the
    barrier tells the other threads to stop, and the exception is raised here. If `caller_works`, the caller's thread
    does the work of t = 0: that saves starting a thread, but Ctrl-C then waits for the end of that work.
    """
    errors: list[BaseException] = []
    finished = threading.Semaphore(0)

    def member(t: int) -> None:
        try:
            _start_apart(t, threads)
            work(t)
        except BaseException as error:
            errors.append(error)
            barrier[STOP] = 1
        finally:
            finished.release()

    members = [threading.Thread(target=member, args=(t,), daemon=True) for t in range(int(caller_works), threads)]
    started = 0
    try:
        for thread in members:
            thread.start()
            started += 1
        if caller_works:
            work(0)
        for _ in members:
            while not finished.acquire(timeout=0.05):  # on Windows only a wait with a limit can be interrupted
                pass
    except BaseException:
        barrier[STOP] = 1
        for thread in members[:started]:
            thread.join()
        raise
    if errors:
        raise errors[0]
