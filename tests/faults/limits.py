"""Watches a block of code for what a reader must not do: take much memory, hang, warn, or write to stderr or stdout."""

import os
import re
import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTE = 1 << 20
HARD_LIMIT = 1500 * MEGABYTE  # of the memory beyond what the process has at the start; the machine stays usable


class Hang(BaseException):
    """Raised after too many seconds. It is no Exception, so that no reader takes it for a damaged file."""


class Watch:
    """What happened since the last look."""

    def __init__(self, outputs: list[int], caught: list[warnings.WarningMessage]) -> None:
        self._outputs, self._caught = outputs, caught
        self._written = [0] * len(outputs)
        self._start = 0

    def begin(self, seconds: float) -> None:
        """Start a case."""
        self._caught.clear()
        self._start = reset_peak()
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def found(self) -> str:
        """End the case; return what it did besides its work, or ""."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for index, descriptor in enumerate(self._outputs):
            size = os.fstat(descriptor).st_size
            before, self._written[index] = self._written[index], size
            if size > before:
                return f"printed {os.pread(descriptor, 200, before)!r}"
        if self._caught:
            return f"warned {self._caught[0].category.__name__}: {self._caught[0].message}"
        return ""

    def megabytes(self) -> float:
        """Return the memory that the case took beyond what the process had."""
        return max(0, peak() - self._start) / MEGABYTE


@contextmanager
def watched() -> Iterator[Watch]:
    """Redirect both outputs, catch warnings, limit the memory, and give a `Watch`."""

    def hang(*_: object) -> None:
        raise Hang("ran for too long")

    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    old_handler, old_limit = signal.signal(signal.SIGALRM, hang), resource.getrlimit(resource.RLIMIT_AS)
    size = (
        int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
    )
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        try:
            for number, file in ((1, out), (2, errors)):
                os.dup2(file.fileno(), number)
            if size:
                resource.setrlimit(resource.RLIMIT_AS, (size + HARD_LIMIT, old_limit[1]))
            assert caught is not None
            yield Watch([out.fileno(), errors.fileno()], caught)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            resource.setrlimit(resource.RLIMIT_AS, old_limit)
            signal.signal(signal.SIGALRM, old_handler)
            for number, descriptor in ((1, kept[0]), (2, kept[1])):
                os.dup2(descriptor, number)
                os.close(descriptor)


def reset_peak() -> int:
    """Make the peak of the process's memory its present size, and return that in bytes; 0 where this is unknown."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return peak()


def peak() -> int:
    """Return the peak of the process's memory since `reset_peak`, in bytes; 0 where this is unknown."""
    try:
        found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
