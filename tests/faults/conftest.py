"""Decides how many faults are tried, keeps what failed, and counts them; tests/conftest.py prints the counts.

Every case has its own seed, which is its name and number, so a run with more cases repeats those of a run with fewer.
"""

import os
import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest

from tests.conftest import FAULTS

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


@pytest.fixture(scope="session")
def faults(request):
    """The `Faults` of the session."""
    given = request.config.getoption("--faults")
    found = Faults(FULL if given == "full" else float(given))
    yield found
    request.config.stash.setdefault(FAULTS, Counter()).update(found.counts)


@pytest.fixture
def memory_folder(tmp_path):
    """A folder in memory, where there is one: a disk would start to write each of the thousands of files."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir="/dev/shm", prefix="fastnn-test-") as folder:
        yield Path(folder)
