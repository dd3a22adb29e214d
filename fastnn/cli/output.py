"""The command's two streams: results on stdout, messages of one line on stderr. A broken stream gives no traceback."""

import argparse
import contextlib
import errno
import os
import shutil
import sys
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

_FRAMES = "|/-\\"
# Format characters that reorder the text around them. They can make a name look like another one.
_BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}


class OutputError(Exception):
    """Raised if a result cannot be written to stdout. It is no OSError, because argparse ignores those."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the result to stdout: {error.strerror or error}")
        self.is_closed_pipe = error.errno == errno.EPIPE


def printable(text: str, *, lines: bool = True) -> str:
    r"""Return `text` with its control characters escaped, such as "\x1b". `lines` keeps newlines and tabs."""
    keep = "\n\t" if lines else ""
    if text.isprintable():
        return text
    return "".join(each if each in keep or not _is_control(each) else _escaped(each) for each in text)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in _BIDI


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


class _Stream:
    """A text stream that hides the spinner before it writes. Everything else is that of the stream it wraps."""

    def __init__(self, target: TextIO | None) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class _Results(_Stream):
    """Stdout. It escapes what would control a terminal or cannot be encoded; an error of the device is OutputError."""

    def write(self, text: str) -> int:
        _spinner.stop()
        with self._errors() as target:
            encoding = getattr(target, "encoding", None) or "utf-8"
            target.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        if self._target is not None:
            with self._errors() as target:
                target.flush()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[TextIO]:
        try:
            if self._target is None:
                raise OSError(errno.EBADF, "it is closed")
            yield self._target
        except OSError as error:
            _discard(self._target)
            raise OutputError(error) from None


class _Messages(_Stream):
    """Stderr. Messages that cannot be written are lost: no result depends on them."""

    def write(self, text: str) -> int:
        _spinner.stop()
        self.draw(text)
        return len(text)

    def draw(self, text: str) -> None:
        """Write `text` and leave the spinner on the screen."""
        if self._target is not None:
            try:
                self._target.write(text)
                self._target.flush()
            except OSError:
                _discard(self._target)

    def flush(self) -> None:
        self.draw("")

    def isatty(self) -> bool:
        return self._target is not None and self._target.isatty()


def _discard(stream: TextIO | None) -> None:
    """Let what is left in the buffer of a broken stream go nowhere, so that flushing it at exit raises nothing."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), cast(TextIO, stream).fileno())


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Wrap stdout and stderr; at the end, write what is left in the buffer of stdout.

    A stream may be None, because it was closed when the process began. Results then raise OutputError.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = results, _ = cast(Any, (_Results(sys.stdout), _Messages(sys.stderr)))
    try:
        yield
    finally:
        try:
            _spinner.stop()
            results.flush()
        finally:
            sys.stdout, sys.stderr = streams


def say(text: str) -> None:
    """Print a message on stderr, as one line."""
    stream = sys.stderr if isinstance(sys.stderr, _Messages) else _Messages(sys.stderr)
    stream.write(f"{printable(text, lines=False)}\n")


def say_notes(notes: Iterable[str], options: argparse.Namespace) -> None:
    """Print what was decided for the user, such as the column of the labels, unless `--quiet` is given."""
    for note in () if getattr(options, "quiet", False) else notes:
        say(f"fastnn: {note}")


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning as one line in the command's format."""
    text = str(message)
    say(text if text.startswith("fastnn: ") else f"fastnn: {category.__name__}: {text}")


@contextlib.contextmanager
def log_to_stderr(quiet: bool = False) -> Iterator[None]:
    """Print the library's log messages, such as the notice that kernels are being compiled, on stderr.

    On a terminal, a spinner turns while kernels are compiled. `quiet` leaves out both.
    """
    import logging

    listener = None

    class ToStderr(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal listener
            say(f"fastnn: {record.getMessage()}")
            listener = listener or _spin_while_compiling()

    logger, handler = logging.getLogger("fastnn"), ToStderr()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        if listener is not None:
            from numba.core import event

            event.unregister("numba:compile", listener)


def _spin_while_compiling() -> Any:
    """Show the spinner during each compilation; return the listener for Numba's events, or None without a terminal."""
    if not _is_terminal() or "numba" not in sys.modules:
        return None
    from numba.core import event

    class Listener(event.Listener):
        depth = 0  # compiling a kernel compiles the functions it calls

        def on_start(self, _: Any) -> None:
            self.depth += 1
            if self.depth == 1:
                _spinner.start("compiling kernels")

        def on_end(self, _: Any) -> None:
            self.depth -= 1
            if self.depth == 0:
                _spinner.stop()

    listener = Listener()
    event.register("numba:compile", listener)
    return listener


@contextlib.contextmanager
def working(text: str, quiet: bool = False) -> Iterator[None]:
    """Show a spinner with `text` on a terminal while the block runs. Elsewhere and if `quiet`, show nothing."""
    if _is_terminal() and not quiet:
        _spinner.start(text)
    try:
        yield
    finally:
        _spinner.stop()


def _is_terminal() -> bool:
    return isinstance(sys.stderr, _Messages) and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Spinner:
    """A line on stderr that turns, with the seconds since it was started. Any other output replaces it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._text, self._began, self._width = "", 0.0, 0
        self._end: threading.Event | None = None

    def start(self, text: str) -> None:
        """Show the line, from a thread of its own; if it is shown already, change its text."""
        with self._lock:
            self._text = text
            if self._end is None:
                self._began, self._end = time.monotonic(), threading.Event()
                threading.Thread(target=self._turn, args=(self._end,), daemon=True).start()

    def stop(self) -> None:
        """Remove the line."""
        with self._lock:
            if self._end is not None:
                self._end.set()
                self._end = None
                self._draw("")

    def _turn(self, end: threading.Event) -> None:
        count = 0
        while not end.wait(0.1):
            with self._lock:
                if not end.is_set():
                    seconds = time.monotonic() - self._began
                    self._draw(f"{_FRAMES[count % len(_FRAMES)]} {self._text}, {seconds:.0f} s")
            count += 1

    def _draw(self, text: str) -> None:
        """Overwrite the line, which needs no control character but the carriage return."""
        stream = sys.stderr
        if isinstance(stream, _Messages) and (text or self._width):
            text = text[: shutil.get_terminal_size().columns - 1]
            stream.draw(f"\r{text.ljust(self._width)}\r")
            self._width = len(text)


_spinner = _Spinner()
