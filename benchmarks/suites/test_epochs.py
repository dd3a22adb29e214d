"""Training epochs on part of MNIST, by shape, batch size, optimizer, input and backend."""

import numpy as np
import pytest

from fastnn import Network
from fastnn.backends import get_backend
from fastnn.optim.optimizers import get_optimizer

ROWS = 6_000
RATES = {"sgd": 0.1, "momentum": 0.02, "nesterov": 0.02, "adam": 1e-3}
BACKENDS = ("numba", "numpy")


def _epoch(timed, data, backend, sizes, batch_size=64, optimizer="sgd", dense=False, **settings):
    images, scale = np.ascontiguousarray(data.images[:ROWS]), 1 / 255
    if dense:
        images, scale = (images.astype(np.float32) / 255 - np.float32(0.1307)) / np.float32(0.3081), 1.0
    network = Network.initialize(sizes, seed=1, input_scale=scale)
    order = np.random.default_rng(1).permutation(ROWS)

    def trainer(name):
        return get_backend(name).trainer(
            network, images, data.labels[:ROWS], get_optimizer(optimizer), seed=1, **settings
        )

    def run(trainer):
        return trainer.run_epoch(order, batch_size or ROWS, RATES[optimizer]).loss

    expected = run(trainer("numpy"))
    assert abs(run(trainer(backend)) - expected) <= 0.01 * expected  # the first call, which also compiles
    timed(run, setup=lambda: ((trainer(backend),), {}), compilation=False, rounds=5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "sizes",
    [(784, 10), (784, 10, 10), (784, 128, 10), (784, 800, 10), (784, 256, 128, 10)],
    ids=lambda sizes: "-".join(map(str, sizes)),
)
def test_shape(timed, mnist, backend, sizes):
    _epoch(timed, mnist, backend, sizes)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_size", [8, 32, 256, None], ids=lambda size: f"batch-{size or 'full'}")
def test_batch_size(timed, mnist, backend, batch_size):
    _epoch(timed, mnist, backend, (784, 128, 10), batch_size)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
def test_optimizer(timed, mnist, backend, optimizer):
    _epoch(timed, mnist, backend, (784, 128, 10), optimizer=optimizer)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("settings", [{"l2": 1e-4}, {"dropout": 0.2}], ids=["l2", "dropout"])
def test_regularization(timed, mnist, backend, settings):
    _epoch(timed, mnist, backend, (784, 128, 10), **settings)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dense_input(timed, mnist, backend):
    _epoch(timed, mnist, backend, (784, 128, 10), dense=True)
