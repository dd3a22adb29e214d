"""Damaged files of every format: each is read or refused in one line, without much memory, warnings or output."""

import pytest

from fastnn.errors import FastnnError
from tests.faults.formats import FORMATS
from tests.faults.limits import Hang, watched
from tests.faults.mutations import damaged, damaged_parts

pytestmark = pytest.mark.faults

MEGABYTES = 256  # of a file of a few kilobytes
SECONDS = 20.0


def _make(rng, intact, structures):
    """Return a damaged file."""
    data, other = rng.choice(intact), rng.choice(intact)
    if structures and rng.random() < 0.6:
        return damaged_parts(rng, rng.choice(structures), data, other)
    return damaged(rng, data, other)


def _problem(watch, read, path):
    """Return what is wrong with how `read` takes a file, or ""."""
    watch.begin(SECONDS)
    try:
        read(path)
        problem = ""
    except FastnnError as error:
        message = str(error)
        problem = "" if message.isprintable() and 0 < len(message) < 2000 else f"message {message[:300]!r}"
    except Hang:
        problem = "ran for too long"
    except BaseException as error:
        problem = f"{type(error).__name__}: {str(error)[:200]}"
    problem = watch.found() or problem
    megabytes = watch.megabytes()
    return f"took {megabytes:.0f} MB; {problem}" if megabytes > MEGABYTES else problem


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_or_refused_in_one_line(faults, memory_folder, name):
    row = FORMATS[name]
    path = memory_folder / row.name
    problems = {}
    with watched() as watch:
        for intact in row.intact:  # imports what the reader needs, and shows that the intact files can be read
            path.write_bytes(intact)
            watch.begin(SECONDS)
            row.read(path)
        for case in faults.cases(row.cases):
            data = _make(faults.rng(name, case), row.intact, row.structures)
            path.write_bytes(data)
            problem = _problem(watch, row.read, path)
            if problem and len(problems) < 20:
                kept = faults.keep(f"{name}-{case}-{row.name}".replace(" ", "-"), data)
                problems.setdefault(problem.partition(": ")[0], f"case {case}: {problem} ({kept})")
    faults.counts["damaged files read or refused"] += len(faults.cases(row.cases))
    assert not problems, "\n".join([name, *problems.values()])
