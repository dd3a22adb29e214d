"""Loads and compiles kernels in threads of their own while the callers wait, so that Ctrl-C reaches the callers.

Python answers signals in the main thread, before the next line of Python. While LLVM emits a kernel, that line is in a
callback from LLVM, which cannot pass an exception on: Ctrl-C would be lost, or leave half a kernel. While LLVM
optimises, there is no line for seconds.

An interrupted caller leaves its job running. The next call of the kernel waits for that job and starts no other.

At the end of the process, a job ends at its next check (`leave_at_exit`). LLVM's optimiser cannot be
interrupted and takes seconds, and it must not run on while C++ destroys LLVM's global variables. So the C library is
told to end the process before it comes to that, where it can be told. Elsewhere the process waits for the optimiser.
While LLVM emits code, which takes less time, the process always waits: LLVM then calls Python, which is gone.
"""

import atexit
import contextlib
import contextvars
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# LLVM needs more stack than some systems give to threads.
_STACK = 16 * 2**20
# Windows cannot interrupt a wait without a timeout.
_POLL_SECONDS = 0.05


class InterruptedWaitError(Exception):
    """The call of a kernel was given up before the kernel was compiled (`stop_waiting_when`)."""


class _EndedError(BaseException):
    """The process ends. Threads that are still there are daemons. No handler in Numba may catch it."""


class _Here(threading.local):
    """What belongs to the current thread.

    job: the job that it runs, or None
    stopped: whether it should no longer wait for a job
    """

    job: "_Job | None" = None
    stopped: Callable[[], bool] | None = None


_here = _Here()
_jobs: dict[tuple[int, str], "_Job"] = {}
_ending = False


class _Job:
    """The compilation of one kernel for one signature, run at most once."""

    def __init__(self, key: tuple[int, str], make: Callable[[], Any]) -> None:
        self._key, self._make = key, make
        self._context = contextvars.copy_context()
        self._claim, self._wake = threading.Lock(), threading.Lock()
        self._wake.acquire()
        self.ended = self.in_optimizer = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Compile, unless another thread does so or has done so."""
        if not self._claim.acquire(blocking=False):
            return
        _here.job = self
        try:
            self.result = self._context.run(self._make)
        except BaseException as error:
            self.error = error
        finally:
            _here.job = None
            _jobs.pop(self._key, None)
            self.ended = True
            self._wake.release()

    @property
    def runs(self) -> bool:
        """Whether a thread compiles the kernel. None does yet if Ctrl-C met the start of the thread."""
        return self._claim.locked() and not self.ended

    def start(self) -> None:
        """Start a thread that calls `run`, unless one has begun to. Where none can start, run in this one."""
        if self._claim.locked():
            return
        # Daemons, because Python would wait for others at its end before it calls `_leave`.
        thread = threading.Thread(target=self.run, name="fastnn compiler", daemon=True)
        size = threading.stack_size(_STACK)
        try:
            thread.start()
        except RuntimeError:
            self.run()
        finally:
            threading.stack_size(size)

    def wait(self) -> None:
        """Wait a while, or until the job has ended."""
        if isinstance(self.error, _EndedError):
            time.sleep(_POLL_SECONDS)
        elif self._wake.acquire(timeout=_POLL_SECONDS):
            self._wake.release()  # for the next thread that waits


def compile_apart(kernel: Any, kind: str, make: Callable[[], Any]) -> Any:
    """The result of `make`, which loads or compiles a version of a kernel, from another thread.

    Waits, raises what `make` raised, and can be interrupted. Several threads that need the same version wait for one.

    kind: names the version
    """
    if _is_compiling() or _ending or _is_importing(kernel):
        return make()
    key = id(kernel), kind
    job = _jobs.setdefault(key, _Job(key, make))
    while not job.ended or isinstance(job.error, _EndedError):  # the end of the process ends this daemon as well
        job.start()
        job.wait()
        if not job.ended and _here.stopped and _here.stopped():
            raise InterruptedWaitError(f"{kernel.__name__} was given up before it was compiled")
    if job.error is not None:
        raise job.error
    return job.result


def stop_waiting_when(stopped: Callable[[], bool]) -> None:
    """Make this thread raise InterruptedWaitError when it waits for a kernel while `stopped` returns True."""
    _here.stopped = stopped


def leave_at_exit() -> None:
    """End this thread's job if the process ends. Compilers call this often."""
    if _ending and _here.job is not None:
        raise _EndedError


@contextlib.contextmanager
def optimizing() -> Iterator[None]:
    """Mark the block as one that the end of the process need not wait for: LLVM optimises, and never calls Python."""
    leave_at_exit()
    job = _here.job
    if job is not None:
        job.in_optimizer = True
    try:
        yield
    finally:
        if job is not None:
            job.in_optimizer = False
    leave_at_exit()


def _is_compiling() -> bool:
    """Whether this thread compiles already, so that it holds Numba's lock, which another thread would wait for."""
    if _here.job is not None:
        return True
    compiler_lock = sys.modules.get("numba.core.compiler_lock")
    try:
        return compiler_lock is not None and compiler_lock.global_compiler_lock.is_locked()
    except AttributeError:  # another version of Numba: compile in the calling thread
        return True


def _is_importing(kernel: Any) -> bool:
    """Whether the kernel's module is being imported. Another thread that imports it would wait for that."""
    spec = getattr(sys.modules.get(kernel.__module__), "__spec__", None)
    return getattr(spec, "_initializing", False)


def _finish() -> None:
    """Wait until no other thread runs a job."""
    for job in list(_jobs.values()):
        while job.runs and job is not _here.job:
            job.wait()


def _leave() -> None:
    """At the end of the process, wait until every job has ended or is in LLVM's optimiser and can be left there."""
    global _ending
    _ending = True
    if not _jobs:
        return
    can_leave = _skip_destructors()
    try:
        for job in list(_jobs.values()):
            while job.runs and not (can_leave and job.in_optimizer):
                job.wait()
    except BaseException:  # a second Ctrl-C, or another signal
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(130)
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        # Python ends as one that Ctrl-C has killed if KeyboardInterrupt left the code of the last `exec` or of the
        # program. In the meantime, Numba has called `exec`.
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


def _skip_destructors() -> bool:
    """Make `exit` of the C library end the process before it runs destructors. Returns whether that is possible."""
    try:
        library = ctypes.CDLL(None)
        library.fflush(None)
        # Both take the exit code first; `_exit` ignores the other argument. Handlers run in reverse order, so this one
        # runs before the destructors of libraries that are loaded now.
        return library.on_exit(library._exit, None) == 0
    except (OSError, AttributeError, TypeError):  # only the GNU library has `on_exit`; Windows cannot open None
        return False


atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    # A child has the locks of Numba and LLVM as they were, but not the thread that would release them.
    os.register_at_fork(before=_finish)
