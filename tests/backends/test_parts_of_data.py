"""A trainer that gets its data part by part has the bits of one that has them all."""

import numpy as np
import pytest

from fastnn.backends import compiled, reference
from fastnn.backends.arguments import TrainingData, check_data
from fastnn.network import BatchNorm, Conv2D, Dense, Network
from fastnn.optim.config import TrainingConfig

N, BATCH = 700, 32
NETWORKS = {
    "by units": (lambda: Network.initialize((64, 40, 12, 5), seed=1), {}),
    "by rows": (lambda: Network.initialize((64, 10, 5), seed=1), {"batch_size": 300}),
    "images": (lambda: Network.initialize((1, 8, 8), [Conv2D(4), Dense(20), Dense(5)], seed=1), {}),
    "layer by layer": (
        lambda: Network.initialize((64,), [Dense(20), BatchNorm("relu"), Dense(8), Dense(5)], seed=1),
        {},
    ),
    "clipping": (lambda: Network.initialize((64, 40, 5), seed=1), {"clip_norm": 0.1}),
}


def _samples(is_sparse, weighted):
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (N, 64), np.uint8)
    images[rng.random(images.shape) < (0.8 if is_sparse else 0.1)] = 0
    return images, rng.integers(5, size=N), rng.random(N) if weighted else None


def _trained(engine, network, config, data, windows):
    """Train one epoch on windows of (data, order): those of a stream, or the whole epoch in one."""
    trainer, n_rows, done = None, sum(len(order) for _, order in windows), 0
    for part, order in windows:
        if trainer is None:
            trainer = engine.new_trainer(network, part, config, None)
        else:
            trainer.replace_data(part, alike=True)
        first, done = done, done + len(order)
        batches = range(first // config.batch_size, -(-done // config.batch_size))
        result = trainer.run_epoch(order, config.batch_size, 0.05, batches, n_rows)
    arrays = trainer.network()
    return result, [*arrays.weights, *arrays.biases, *arrays.statistics], trainer


@pytest.mark.parametrize("engine", [reference, compiled], ids=["numpy", "numba"])
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("is_sparse", "weighted"), [(True, False), (False, True)], ids=["sparse", "dense"])
def test_parts_of_the_data_train_as_the_whole_does(engine, kind, is_sparse, weighted):
    make, settings = NETWORKS[kind]
    network, settings = make(), {"batch_size": BATCH, "dropout": 0.3, "optimizer": "adam", **settings}
    config = TrainingConfig(**settings)
    data = check_data(network, *_samples(is_sparse, weighted)[:2], _samples(is_sparse, weighted)[2], config)
    order = np.random.default_rng(4).permutation(N)
    expected, whole, _ = _trained(engine, network, config, data, [(data, order)])

    cut = N // 2 // config.batch_size * config.batch_size
    parts = [np.sort(order[:cut]), np.sort(order[cut:])]

    def windows(numbered):
        for rows, in_order in zip(parts, (order[:cut], order[cut:]), strict=True):
            part = data.take(rows)._replace(numbers=rows if numbered else None)
            yield TrainingData(*part), np.searchsorted(rows, in_order)

    found, arrays, trainer = _trained(engine, network, config, data, [*windows(True)])
    assert found == expected
    assert all(np.array_equal(a, b) for a, b in zip(arrays, whole, strict=True))
    if kind in ("by units", "by rows") and engine is compiled:
        assert trainer.describe().kernel == kind
    other, _, _ = _trained(engine, network, config, data, [*windows(False)])  # numbers determine what is dropped
    assert other != expected


def test_an_order_of_some_batches_must_have_their_rows():
    network = Network.initialize((4, 3, 2), seed=0)
    trainer = reference.trainer(network, np.ones((10, 4), np.float32), np.zeros(10, np.int64))
    with pytest.raises(ValueError, match=r"order has 4 rows, expected the 6 of range\(0, 2\)"):
        trainer.run_epoch(np.arange(4), 3, 0.1, range(0, 2), 10)
    trainer.run_epoch(np.arange(6), 3, 0.1, range(0, 2), 10)
    result = trainer.run_epoch(np.arange(6, 10), 3, 0.1, range(2, 4), 10)
    assert result.failed_batch is None
    assert trainer.state().epochs == 1
