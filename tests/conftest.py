"""What several tests share."""

import signal
import threading

import numpy as np
import pytest

from fastnn.backends.compiled import fused, predict
from fastnn.backends.threads import TeamSize
from fastnn.datasets import load_mnist
from fastnn.kernels import team

# A process that a script starts in its background ignores Ctrl-C, and so would what the tests start: some would wait
# for an answer for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mnist():
    """MNIST: (train, test)."""
    return load_mnist()


@pytest.fixture(scope="session")
def mnist_small(mnist):
    """The first 2,000 training images and labels."""
    train, _ = mnist
    return np.ascontiguousarray(train.images[:2000]), train.labels[:2000].astype(np.int64)


@pytest.fixture
def started(monkeypatch):
    """Small work gets as many threads as large work would; returns the number of threads of each team so far.

    An epoch gets the threads it asks for, at most one for each panel of units, or part of a batch; a prediction at most
    one for each `ROWS` rows. The first entry of a trainer is 1: an epoch of no rows, which compiles.
    """
    monkeypatch.setattr(fused, "ONE_THREAD_EPOCH", 0)
    monkeypatch.setattr(predict, "ONE_THREAD_PREDICTION", 0)
    monkeypatch.setattr(TeamSize, "next", lambda size: size.most)  # also while other processes keep cores busy
    run_team, counts = team.run_team, []

    def counted(work, *arguments, **options):
        workers = []  # the threads themselves: the number of one that has ended may be given to another

        def member(t):
            workers.append(threading.current_thread())
            work(t)

        try:
            run_team(member, *arguments, **options)
        finally:
            counts.append(len(set(workers)))

    monkeypatch.setattr(team, "run_team", counted)
    return counts
