"""What several tests share."""

import numpy as np
import pytest

from fastnn.datasets import load_mnist


@pytest.fixture(scope="session")
def mnist():
    """MNIST: (train, test)."""
    return load_mnist()


@pytest.fixture(scope="session")
def mnist_small(mnist):
    """The first 2,000 training images and labels."""
    train, _ = mnist
    return np.ascontiguousarray(train.images[:2000]), train.labels[:2000].astype(np.int64)
