"""Fixtures that several test files share."""

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fastnn.backends.choice import CHOOSER
from fastnn.backends.compiled import distortion, fused, operations, predict, predict_csr
from fastnn.backends.threads import TeamSize
from fastnn.datasets import load_mnist
from fastnn.files.atomic import write_atomically
from fastnn.kernels import team
from fastnn.plots.display import Display
from fastnn.training import checkpoint
from tests.browser import start_browser
from tests.figures import PIXEL

# Dask sets such variables in the process that starts a worker, and leaves them there. Each test begins without that.
THREADS = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


@pytest.fixture(autouse=True)
def usual_threads():
    """Let programs that a test starts have as many threads as the tests have."""
    for name, value in THREADS.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


# A process that a script starts in the background ignores Ctrl-C, and so do its children. Tests that send Ctrl-C to a
# child would then wait forever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Tests run on kernels, however small their work is. Those of the choice have choosers and processes of their own.
for dtype in (np.float32, np.float64):
    CHOOSER.note_loaded(np.dtype(dtype))
FAULTS = pytest.StashKey()  # the number of faults of each kind that tests/faults tried


def pytest_addoption(parser):
    parser.addoption(
        "--faults",
        metavar="TIMES",
        default="1",
        help="try TIMES as many cases in tests/faults as by default; full: 100 times as many, in hours",
    )


def pytest_sessionfinish(session):
    """Send the counts of faults to the process that started this one, with `pytest -n`."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = dict(session.config.stash.get(FAULTS, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Add the counts of an ended worker process."""
    node.config.stash.setdefault(FAULTS, Counter()).update(getattr(node, "workeroutput", {}).get("faults", {}))


def pytest_terminal_summary(terminalreporter, config):
    """Print a line for each kind of fault."""
    counts = config.stash.get(FAULTS, None)
    if counts:
        terminalreporter.section(f"faults tried ({config.getoption('--faults')} times the usual number)")
        for what, count in counts.items():
            terminalreporter.write_line(f"{count:10,} {what}")


@pytest.fixture(scope="session")
def mnist():
    """MNIST as (train, test)."""
    return load_mnist()


@pytest.fixture(scope="session")
def mnist_small(mnist):
    """The first 2,000 training images of MNIST and their labels."""
    train, _ = mnist
    return np.ascontiguousarray(train.images[:2000]), train.labels[:2000].astype(np.int64)


@pytest.fixture
def undrawn_figures(monkeypatch):
    """Write figures of one pixel."""
    monkeypatch.setattr(Display, "save", lambda display, path, dpi=150: write_atomically(Path(path), PIXEL))


@pytest.fixture
def started(monkeypatch):
    """Run small jobs on as many threads as large ones; return a list with the number of threads of each team so far.

    An epoch runs on the requested threads, at most one per panel of units or per chunk of a batch. A prediction runs on
    at most one thread per `ROWS` rows.
    Layer by layer, each product of a dense layer is a team.
    """
    monkeypatch.setattr(fused, "ONE_THREAD_EPOCH", 0)
    monkeypatch.setattr(fused, "ONE_THREAD_STEP", 0)
    monkeypatch.setattr(predict, "ONE_THREAD_PREDICTION", 0)
    monkeypatch.setattr(predict_csr, "ONE_THREAD_PRODUCTS", 0)
    monkeypatch.setattr(operations, "ONE_THREAD_PRODUCT", 0)
    monkeypatch.setattr(distortion, "ONE_THREAD_PIXELS", 0)
    monkeypatch.setattr(TeamSize, "next", lambda size: size.most)  # even while other processes keep cores busy
    run_team, counts = team.run_team, []

    def counted(work, *arguments, **options):
        workers = []  # thread objects, because the identifier of an ended thread may be reused

        def run(member):
            workers.append(threading.current_thread())
            work(member)

        try:
            return run_team(run, *arguments, **options)
        finally:
            counts.append(len(set(workers)))

    monkeypatch.setattr(team, "run_team", counted)
    return counts


@pytest.fixture
def copies_after_every_batch(monkeypatch):
    """Copy the state after every batch, and write it only at the end of a run."""
    monkeypatch.setattr(checkpoint, "FIRST_PART", 1)
    monkeypatch.setattr(checkpoint, "SECONDS_OF_PART", 0.0)
    monkeypatch.setattr(checkpoint, "MAX_COST", float("inf"))
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_WRITES", float("inf"))


@pytest.fixture
def stop_after(monkeypatch):
    """Return a function that makes the next run stop with an exception after some copies of its state; 0: never."""
    take, left = checkpoint.Saver._take, [0, KeyboardInterrupt()]

    def counted(saver, make_mark):
        take(saver, make_mark)
        left[0] -= 1
        if left[0] == 0:
            raise left[1]

    def stop(copies, error=None):
        left[:] = copies, KeyboardInterrupt() if error is None else error

    monkeypatch.setattr(checkpoint.Saver, "_take", counted)
    return stop


@pytest.fixture(scope="session")
def browser():
    """A headless browser; each test opens its own page."""
    chromium = start_browser()
    yield chromium
    chromium.quit()
