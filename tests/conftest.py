"""Fixtures that several test files share."""

import signal
import threading

import numpy as np
import pytest

from fastnn.backends.compiled import fused, operations, predict
from fastnn.backends.threads import TeamSize
from fastnn.datasets import load_mnist
from fastnn.kernels import team

# A process that a script starts in the background ignores Ctrl-C, and so do its children. Tests that send Ctrl-C to a
# child would then wait forever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
def started(monkeypatch):
    """Run small jobs on as many threads as large ones; return a list with the number of threads of each team so far.

    An epoch runs on the requested threads, at most one per panel of units or per chunk of a batch. A prediction runs on
    at most one thread per `ROWS` rows. A trainer's first entry is 1: the epoch without rows that compiles its kernel.
    Layer by layer, each product of a dense layer is a team.
    """
    monkeypatch.setattr(fused, "ONE_THREAD_EPOCH", 0)
    monkeypatch.setattr(fused, "ONE_THREAD_STEP", 0)
    monkeypatch.setattr(predict, "ONE_THREAD_PREDICTION", 0)
    monkeypatch.setattr(operations, "ONE_THREAD_PRODUCT", 0)
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
