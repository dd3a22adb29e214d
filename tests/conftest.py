"""What several tests share."""

import signal

import numpy as np
import pytest

from fastnn.datasets import load_mnist

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
