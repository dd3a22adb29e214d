"""Runs long work on a thread of its own, so that Ctrl-C is answered while it runs.

Python answers signals in the main thread only, between two of its instructions. A product of NumPy is one instruction,
even if it takes seconds. So the main thread waits, and Ctrl-C can end a wait.
"""

import atexit
import contextvars
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")

# Less work than this takes a few milliseconds and runs in the thread of the caller. Starting a thread takes 0.1 ms.
LONG_WORK = 2**24
# The time of a multiplication in a matrix product, of drawing a place in a random order, and of sorting one of many
# numbers, as a multiple of the time of reading a number and writing it.
PER_MULTIPLICATION, PER_DRAW, PER_SORT = 1 / 16, 8, 32
# Windows can interrupt only a wait that has a timeout.
_POLL_SECONDS = 0.05
# After Ctrl-C, work that ends within this time is not left behind.
_END_SECONDS = 0.03


class _Abandoned(BaseException):
    """Ends work whose result nobody waits for."""


class _Call:
    """A call on a thread of its own, in the context of the thread that makes it, with its NumPy error handling."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        errors: dict[str, Any] = {**np.geterr(), "call": np.geterrcall()}
        self._context, self._errstate = contextvars.copy_context(), np.errstate(**errors)
        self._ended = threading.Lock()
        self._ended.acquire()
        self.is_abandoned = False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        _thread.call = self
        try:
            if not self.is_abandoned:  # Ctrl-C may come before the thread has begun
                self.result = self._context.run(self._run)
        except BaseException as error:
            self.error = error
        finally:
            if self.is_abandoned:
                self.result = self.error = None
            self._ended.release()

    def _run(self) -> Any:
        with self._errstate:
            return self._function()

    def wait(self) -> None:
        while not self._ended.acquire(timeout=_POLL_SECONDS):
            pass

    def release(self) -> None:
        """Let others wait, too."""
        self._ended.release()

    def abandon(self, thread: threading.Thread) -> None:
        self.is_abandoned = True
        _left_behind[:] = [each for each in _left_behind if each.is_alive()] + [thread]
        self._ended.acquire(timeout=_END_SECONDS)


_thread = threading.local()  # `call` is the `_Call` that the current thread runs
_left_behind: list[threading.Thread] = []


def interruptible(function: Callable[..., Result], /, *args: Any, work: float = float("inf"), **kwargs: Any) -> Result:
    """Return ``function(*args, **kwargs)``; Ctrl-C is answered at once, however long the call takes.

    In the main thread, long work runs on a thread of its own while the main thread waits. Signals reach no other
    thread, so elsewhere the function is called directly. It sees the context variables and the NumPy error handling of
    the caller.

    After an interrupt, the work is abandoned: it ends at its next `stop_if_abandoned`, or else when it is done. Its
    result is discarded. So the caller must not use what the function changes, and interrupts lose only this call. The
    process does not exit before abandoned work has ended: libraries such as OpenBLAS can block an exit forever. Another
    Ctrl-C during that wait ends the process at once.

    Parameters
    ----------
    function : callable
        Must not depend on the thread that runs it, and must not give warnings with a stack level.
    *args, **kwargs
        The arguments of the function.
    work : float
        About how many numbers the function reads and writes. Less than `LONG_WORK` runs in the caller's thread.

    Returns
    -------
    object
        The result of the function.

    Raises
    ------
    BaseException
        What the function raises, or `KeyboardInterrupt`, or what another signal handler raises.

    Examples
    --------
    >>> from fastnn.interruptible import interruptible
    >>> interruptible(sum, [1, 2, 3])
    6
    """
    if work < LONG_WORK or threading.current_thread() is not threading.main_thread():
        return function(*args, **kwargs)
    call = _Call(partial(function, *args, **kwargs))
    thread = threading.Thread(target=call.run, name="fastnn work", daemon=True)
    try:
        has_started = _start(thread)
        if has_started:
            call.wait()
    except BaseException:
        call.abandon(thread)
        raise
    if not has_started:
        return function(*args, **kwargs)
    if call.error is not None:
        try:
            raise call.error
        finally:
            del call  # the traceback of the error holds this frame
    result: Result = call.result
    return result


class Ahead:
    """A call that runs on a thread of its own while its caller goes on, which collects the result later.

    Parameters
    ----------
    function : callable
        As that of `interruptible`.
    *args
        Its arguments.

    Examples
    --------
    >>> from fastnn.interruptible import Ahead
    >>> ahead = Ahead(sum, [1, 2, 3])
    >>> ahead.result()
    6
    """

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._call = _Call(partial(function, *args))
        self._thread = threading.Thread(target=self._call.run, name="fastnn ahead", daemon=True)
        if not _start(self._thread):
            outer = getattr(_thread, "call", None)
            self._call.run()
            _thread.call = outer

    def result(self) -> Any:
        """Wait for the call, and return its result or raise its exception. Ctrl-C ends the wait at once."""
        self._call.wait()
        self._call.release()
        if self._call.error is not None:
            raise self._call.error
        return self._call.result

    def abandon(self) -> None:
        """Give the call up, as an interrupt of `interruptible` does."""
        self._call.abandon(self._thread)


def stop_if_abandoned() -> None:
    """End the current call of `interruptible` if it has been abandoned. Work calls this between two of its steps."""
    call = getattr(_thread, "call", None)
    if call is not None and call.is_abandoned:
        raise _Abandoned


def _start(thread: threading.Thread) -> bool:
    """Start a thread. Returns False if the system has no more threads."""
    try:
        thread.start()
    except RuntimeError:
        return False
    return True


@atexit.register
def _wait_for_the_rest() -> None:
    """Wait for abandoned work; after another Ctrl-C, exit without it."""
    try:
        for thread in _left_behind:
            while thread.is_alive():
                thread.join(_POLL_SECONDS)
    except KeyboardInterrupt:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(130)
