"""`SIGNALS`: answers the signals that ask the command to end: Ctrl-C, SIGTERM, a closed terminal, Ctrl-Break.

The first signal raises `Signalled` in the main thread, so that what there is of a run can be saved. A later one ends
the process at once. A signal that arrives where an exception would be lost or do harm is answered a little later.
"""

import _thread
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any, NoReturn

# Those that this system has. A process ended by a signal exits with 128 and its number, as shells have it.
_ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
# A terminal and `timeout` may send a signal twice, and people press Ctrl-C twice. What comes within so many seconds is
# the same wish: usually, and while a network is not saved yet.
_SAME_WISH, _SAME_WISH_UNSAVED = 0.1, 1.0
_RETRY_SECONDS = 0.01
# An import that is interrupted may raise ImportError, or abort the process inside an extension module. LLVM calls
# Python while it writes machine code, and discards the exception.
_IMPORTS, _LLVM = "<frozen importlib._bootstrap", f"{os.sep}llvmlite{os.sep}"


class Signalled(KeyboardInterrupt):
    """Raised in the main thread by the first signal."""


class SignalAnswers:
    """The handlers of the signals, and what has been received so far."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._since = 0.0
        self._is_raised = self._is_repeated = self._is_retry = False
        self._function: CodeType | None = None
        self._limit: CodeType | None = None
        self._show_lost: Callable[[Any], object] = sys.unraisablehook

    @property
    def exit_code(self) -> int:
        """The exit code after the signal received."""
        return 128 + (self.received or signal.SIGINT)

    @property
    def ending(self) -> str:
        """How the signal ended the command: "interrupted" or "terminated"."""
        return "interrupted" if self.received in (None, signal.SIGINT) else "terminated"

    @contextlib.contextmanager
    def answered(self, limit: CodeType | None = None) -> Iterator[None]:
        """Answer the signals while the block runs; restore the handlers afterwards.

        A signal that the process ignores, as after `nohup`, stays ignored, and a handler of the program that called the
        command stays in place. `limit` is the code of the function that no answer waits for, such as an import.
        """
        old, self._limit, self._show_lost = self.install(), limit, sys.unraisablehook
        sys.unraisablehook = self._on_lost
        try:
            yield
        finally:
            sys.unraisablehook = self._show_lost
            for number, handler in old.items():
                signal.signal(number, handler)
            if old:
                self.received, self._is_raised, self._is_repeated = None, False, False

    def install(self) -> dict[int, Any]:
        """Set the handlers; return those that they replace."""
        old: dict[int, Any] = {}
        for number in _ENDING:
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                with contextlib.suppress(ValueError):  # only the main thread may set handlers
                    signal.signal(number, self._answer)
                    old[number] = handler
        return old

    @contextlib.contextmanager
    def kept_outside(self, function: Callable[..., object]) -> Iterator[None]:
        """Raise `Signalled` in the block only while `function` runs; otherwise, at the end of the block.

        So nothing comes between the function and what is done with its result, however it ends. An error that the block
        raises is not replaced.
        """
        self._function = getattr(function, "__code__", None)
        failed = True
        try:
            yield
            failed = False
        finally:
            self._function = None
            if self._is_repeated:
                self.end_at_once()
            if self.received is not None and not self._is_raised and not failed:
                self._raise()

    def end_at_once(self) -> NoReturn:
        """End the process without anything else. Files are written atomically, so none is left in part."""
        with contextlib.suppress(OSError):
            os.write(2, f"fastnn: {self.ending} at once\n".encode())
        os._exit(self.exit_code)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        is_kept = self._function is not None and not _runs_in(frame, lambda code: code is self._function)
        if self._is_retry:
            self._is_retry = False
        elif self.received is None:
            self.received, self._since = number, time.monotonic()
        else:
            self._answer_again(is_kept)
        if is_kept or self._is_raised:
            return
        if _runs_in(frame, _loses_exceptions, self._limit):
            self._retry()
            return
        self._raise()

    def _answer_again(self, is_kept: bool) -> None:
        """End the process at once; if its work is being saved, right after that."""
        now = time.monotonic()
        wait = _SAME_WISH if self._function is None else _SAME_WISH_UNSAVED
        if now - self._since < wait:
            self._is_repeated = self._function is not None
        elif is_kept and not self._is_repeated:
            self._is_repeated, self._since = True, now
        else:
            self.end_at_once()

    def _raise(self) -> NoReturn:
        self._is_raised = True
        raise Signalled

    def _on_lost(self, lost: Any) -> None:
        """Answer the signal again if its exception was raised where Python must discard it, such as in `__del__`."""
        if lost.exc_type is not None and issubclass(lost.exc_type, Signalled):
            self._is_raised = False
            self._retry()
        else:
            self._show_lost(lost)

    def _retry(self) -> None:
        """Send the signal to this process again, a little later, from a thread that takes no lock of Python's."""
        _thread.start_new_thread(self._send_again, ())

    def _send_again(self) -> None:
        time.sleep(_RETRY_SECONDS)
        self._is_retry = True
        number = signal.Signals(self.received or signal.SIGINT)
        if hasattr(signal, "pthread_kill"):
            import threading

            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            _thread.interrupt_main(signal.Signals(number))


def _runs_in(frame: FrameType | None, is_meant: Callable[[CodeType], bool], limit: CodeType | None = None) -> bool:
    """Return whether a function on the stack is meant, up to the one with the code `limit`."""
    while frame is not None and frame.f_code is not limit:
        if is_meant(frame.f_code):
            return True
        frame = frame.f_back
    return False


def _loses_exceptions(code: CodeType) -> bool:
    return code.co_filename.startswith(_IMPORTS) or _LLVM in code.co_filename


SIGNALS = SignalAnswers()
