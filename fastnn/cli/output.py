"""Messages other than results: one line each, on stderr."""

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr)


def say_notes(notes: Iterable[str], options: argparse.Namespace) -> None:
    """Print what was decided for the user, such as the column of the labels, unless `--quiet` is given."""
    for note in () if getattr(options, "quiet", False) else notes:
        say(f"fastnn: {note}")


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning as one line in the command's format."""
    text = str(message)
    say(text if text.startswith("fastnn: ") else f"fastnn: {category.__name__}: {text}")


@contextlib.contextmanager
def log_to_stderr() -> Iterator[None]:
    """Print the library's log messages, such as the notice that kernels are being compiled, on stderr."""
    import logging

    class ToStderr(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"fastnn: {record.getMessage()}")

    logger, handler = logging.getLogger("fastnn"), ToStderr()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
