"""Epoch time as a function of the number of threads, the hidden units H, the samples N and the batch size."""

import numpy as np
import pytest

from fastnn import SGD, Network
from fastnn.backends import get_backend

ROWS = 6_000


def _epoch(timed, data, *, hidden=128, rows=ROWS, batch_size=64, threads=None):
    images, labels = np.ascontiguousarray(data.images[:rows]), data.labels[:rows]
    network = Network.initialize((784, hidden, 10), seed=4, input_scale=1 / 255)
    order = np.random.default_rng(4).permutation(rows)

    def trainer(name="numba"):
        return get_backend(name).trainer(network, images, labels, SGD(), threads=threads)

    def run(trainer):
        return trainer.run_epoch(order, batch_size, 0.1).loss

    expected = run(trainer("numpy"))
    assert abs(run(trainer()) - expected) <= 0.01 * expected  # the first call, which also compiles
    timed(run, setup=lambda: ((trainer(),), {}), compilation=False, rounds=5)


@pytest.mark.parametrize("hidden", [64, 256, 1024], ids=lambda units: f"H-{units}")
@pytest.mark.parametrize("threads", [1, 2, 4], ids=lambda threads: f"threads-{threads}")
def test_threads(timed, benchmark, mnist, threads, hidden):
    benchmark.group = f"threads, H {hidden}"
    _epoch(timed, mnist, hidden=hidden, threads=threads)


@pytest.mark.parametrize("hidden", [16, 32, 64, 128, 192, 256, 512, 1024, 2048], ids=lambda units: f"H-{units}")
def test_hidden_units(timed, benchmark, mnist, hidden):
    benchmark.group = "H"
    _epoch(timed, mnist, hidden=hidden, rows=2_000)


@pytest.mark.parametrize("rows", [1_000, 3_000, 10_000, 30_000], ids=lambda rows: f"N-{rows}")
def test_samples(timed, benchmark, mnist, rows):
    benchmark.group = "N"
    _epoch(timed, mnist, rows=rows)


@pytest.mark.parametrize("batch_size", [1, 4, 16, 64, 256, 1024], ids=lambda size: f"batch-{size}")
def test_batch(timed, benchmark, mnist, batch_size):
    benchmark.group = "batch"
    _epoch(timed, mnist, batch_size=batch_size)
