"""Messages other than results: one line each, on stderr."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr)


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
