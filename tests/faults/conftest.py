"""Decides how many faults are tried, keeps what failed, and prints the number of faults at the end of the run.

Every case has its own seed, which is its name and number, so a run with more cases repeats those of a run with fewer.
"""

import os
import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest

FULL = 100


class Faults:
    """The number of cases to try, their random generators, and the counts for the summary."""

    def __init__(self, times):
        self.times, self.counts = times, Counter()

    def cases(self, usual):
        """Return the numbers of the cases to try, where `usual` is how many a run without options tries."""
        return range(max(1, round(usual * self.times)))

    def rng(self, *name):
        """Return the random generator of a case."""
        return random.Random("/".join(map(str, name)))

    def keep(self, name, data):
        """Save the bytes of a case that failed, and return the path."""
        folder = Path(gettempdir(), "fastnn-faults")  # the folders of pytest are removed after a few runs
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        return folder / name


_FAULTS = pytest.StashKey()


@pytest.fixture(scope="session")
def faults(request):
    """The `Faults` of the session."""
    given = request.config.getoption("--faults")
    found = request.config.stash[_FAULTS] = Faults(FULL if given == "full" else float(given))
    return found


@pytest.fixture
def memory_folder(tmp_path):
    """A folder in memory, where there is one: a disk would start to write each of the thousands of files."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir="/dev/shm", prefix="fastnn-test-") as folder:
        yield Path(folder)


def pytest_terminal_summary(terminalreporter, config):
    """Print a line for each kind of fault."""
    found = config.stash.get(_FAULTS, None)
    if found is None or not found.counts:
        return
    terminalreporter.section(f"faults tried ({found.times:g} times the usual number)")
    for what, count in found.counts.items():
        terminalreporter.write_line(f"{count:10,} {what}")
