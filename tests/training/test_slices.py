"""Training in slices: the same function as without, and one tree of sums whoever computes which slice."""

from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn import BatchNorm, Conv2D, Dense, MaxPool2D, Network, SettingsError
from fastnn.backends import get_backend
from fastnn.backends.arguments import check_data
from fastnn.backends.slices import SlicedTrainer, add_tree
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Adam, Optimizer

LENET = [Conv2D(4, 3, activation="relu"), MaxPool2D(2), Dense(16)]
NETWORKS: dict[str, Any] = {
    "by rows": ((64, 24, 10), None),
    "by units": ((64, 90, 70, 10), None),
    "images": ((1, 8, 8), [*LENET, Dense(10)]),
    "layer by layer": ((64, 20, 10), "gelu"),
    "batch norm": ((64,), [Dense(20), BatchNorm(), Dense(10)]),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adamw, l2": {"optimizer": "adamw", "l2": 0.01, "learning_rate": 0.002},
    "clip_norm": {"clip_norm": 0.4, "l2": 0.001},
    "clip_value": {"clip_value": 0.01, "optimizer": "nesterov"},
    "dropout, smoothing": {"dropout": 0.3, "label_smoothing": 0.1, "l2": 0.1, "divide_l2": True},
}


def _network(name: str) -> Network:
    shape, layers = NETWORKS[name]
    if layers is None or isinstance(layers, str):
        return Network.initialize(shape, activation=layers or "relu", seed=1, input_scale=1 / 16)
    return Network.initialize(shape, layers, seed=1, input_scale=1 / 16)


@pytest.fixture(scope="module")
def digits():
    data = fastnn.load_digits()
    return data.take(np.arange(310)), np.random.default_rng(0).random(310)


def _run(network, digits, **settings):
    data, weight = digits
    defaults = {"epochs": 2, "batch_size": 50, "learning_rate": 0.05, "threads": 1}
    return fastnn.train(network, data, sample_weight=weight, **{**defaults, **settings})


def _difference(one, two):
    arrays = zip((*one.network.weights, *one.network.biases), (*two.network.weights, *two.network.biases), strict=True)
    return max(float(abs(a - b).max() / max(1, abs(a).max())) for a, b in arrays)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", [each for each in NETWORKS if each != "batch norm"])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_slices_train_the_same_function(backend, name, options, digits):
    # 14 steps of float32, whose sums are rounded in another order: 7 of the batches have 50 samples, the last ones 10.
    network = _network(name)
    whole = _run(network, digits, backend=backend, **options)
    sliced = _run(network, digits, backend=backend, slices=8, **options)
    assert _difference(whole, sliced) < 2e-5
    assert sliced.loss == pytest.approx(whole.loss, rel=2e-5)
    assert sliced.history[-1].accuracy == pytest.approx(whole.history[-1].accuracy, abs=0.02)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bits_depend_on_the_slices_and_on_no_threads(name, digits):
    network = _network(name)
    found = {
        (slices, threads): _run(network, digits, backend="numba", slices=slices, threads=threads).digest()
        for slices, threads in ((4, 1), (4, 2), (8, 1))
    }
    assert found[4, 1] == found[4, 2]
    assert found[4, 1] != found[8, 1]


def test_one_step_is_that_of_a_float64_reference():
    rng = np.random.default_rng(2)
    images, labels, weight = rng.random((30, 12)), rng.integers(0, 3, 30), rng.random(30)
    network = Network.initialize((12, 7, 3), dtype="float64", seed=3)
    expected = get_backend("numpy").loss_and_gradients(network, images, labels, sample_weight=weight, l2=0.1)
    small = Network(
        [each.astype(np.float32) for each in network.weights], [each.astype(np.float32) for each in network.biases]
    )
    for backend in ("numpy", "numba"):
        engine = get_backend(backend)
        trainer = engine.trainer(small, images, labels, "sgd", sample_weight=weight, l2=0.1, slices=8)
        result = trainer.run_epoch(np.arange(30), 30, 0.5)
        assert result.loss == pytest.approx(expected.loss, rel=1e-4)
        stepped = trainer.network()
        for before, after, gradient in zip(
            (*network.weights, *network.biases),
            (*stepped.weights, *stepped.biases),
            (*expected.dweights, *expected.dbiases),
            strict=True,
        ):
            np.testing.assert_allclose(after, before - 0.5 * gradient, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"clip_norm": 0.3}])
def test_one_slice_has_the_bits_of_numpy_without_slices(backend, options, digits):
    network, rate = _network("by rows"), {"learning_rate": 0.01}
    whole, sliced = (_run(network, digits, backend=backend, **rate, **options, slices=slices) for slices in (None, 1))
    if backend == "numpy" and not options.get("clip_norm"):  # the norm is added in another order
        assert whole.digest() == sliced.digest()
    assert _difference(whole, sliced) < 1e-6


class _Halves:
    """One of two ranks, without MPI: the other one is a trainer of this process, in another thread."""

    def __init__(self, rank, size, board, barrier):
        self.rank, self.size, self._board, self._barrier = rank, size, board, barrier

    def run(self, function):
        return function()

    def _all(self, own):
        self._barrier.wait(60)
        self._board[self.rank] = own
        self._barrier.wait(60)
        return [self._board[rank] for rank in range(self.size)]

    def gather(self, own, error=None):
        return np.stack(self._all(own.copy()))

    def sum_part(self, vector, bounds):
        part = slice(bounds[self.rank], bounds[self.rank + 1])
        return add_tree([each[part].copy() for each in self._all(vector.copy())])

    def share(self, vector, bounds):
        for rank, other in enumerate(self._all(vector.copy())):
            vector[bounds[rank] : bounds[rank + 1]] = other[bounds[rank] : bounds[rank + 1]]

    def collect(self, vectors, bounds):
        for vector in vectors:
            self.share(vector, bounds)

    def follow(self, slots, bounds):
        pass


class Rooted(Optimizer):
    """Divides each array's gradient by its norm: no part of an array can be updated without the others."""

    def update(self, parameter, gradient, slots, learning_rate, step):
        parameter -= learning_rate * gradient / np.linalg.norm(gradient)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("options", [{"optimizer": Adam(), "l2": 0.1}, {"clip_norm": 0.3}, {"optimizer": Rooted()}])
def test_ranks_have_the_bits_of_one_process(name, options, digits):
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    data, weight = digits
    network, engine = _network(name), get_backend("numba")
    config = TrainingConfig(slices=8, threads=1, **options)
    checked = check_data(network, data.images, data.labels, weight, config)
    board, barrier = {}, Barrier(4)

    def train(rank):
        ranks = _Halves(rank, 4, board, barrier)
        trainer = SlicedTrainer(engine.slice_engine(network, checked, config), network, checked, config, ranks=ranks)
        for _ in range(2):
            result = trainer.run_epoch(np.arange(310), 64, 0.01)
        return result, trainer.network(), trainer.state()

    alone = engine.new_trainer(network, checked, config)
    for _ in range(2):
        expected = alone.run_epoch(np.arange(310), 64, 0.01)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(train, range(4)))
    for result, trained, state in found:
        assert result == expected
        assert_same(trained, alone.network())
        for slot, other in zip(state.slots, alone.state().slots, strict=True):
            np.testing.assert_equal(slot, other)


def assert_same(one, two):
    np.testing.assert_equal(
        [*one.weights, *one.biases, *one.statistics], [*two.weights, *two.biases, *two.statistics]
    )  # fmt: skip


def test_a_small_last_batch_has_empty_slices(digits):
    data, _ = digits
    network, settings = _network("by units"), {"epochs": 1, "batch_size": 306, "learning_rate": 0.1}
    for backend in ("numpy", "numba"):
        whole = fastnn.train(network, data, backend=backend, **settings)
        sliced = fastnn.train(network, data, backend=backend, slices=8, **settings)
        assert _difference(whole, sliced) < 2e-6


def test_batch_norm_takes_the_statistics_of_each_slice(digits):
    data, _ = digits
    network = Network.initialize((64,), [BatchNorm(momentum=0.0), Dense(10)], seed=1)
    rows = np.arange(64)
    for backend in ("numpy", "numba"):
        trainer = get_backend(backend).trainer(network, data.images, data.labels, slices=4)
        trainer.run_epoch(rows, 64, 0.1)
        slices = (data.images[:64] * network.input_scale).reshape(4, 16, 64).astype(np.float64)
        mean, variance = trainer.network().statistics
        np.testing.assert_allclose(mean, slices.mean((0, 1)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(variance, slices.var(1, ddof=1).mean(0), rtol=1e-4, atol=1e-6)
    with pytest.raises(SettingsError, match="slices is 8 for too small a batch"):
        fastnn.train(network, data, batch_size=8, slices=8)


def test_a_run_continues_with_the_same_number_of_slices_only(digits, tmp_path):
    data, _ = digits
    network, path = _network("by rows"), tmp_path / "run.safetensors"
    settings = {"backend": "numpy", "batch_size": 50, "learning_rate": 0.05, "optimizer": "adam"}
    whole = fastnn.train(network, data, epochs=4, slices=4, **settings)
    fastnn.train(network, data, epochs=2, slices=4, checkpoint=path, **settings)
    with pytest.raises(SettingsError, match="slices was 4, found 8"):
        fastnn.train(network, data, resume=path, epochs=4, slices=8)
    assert fastnn.train(network, data, resume=path, epochs=4).digest() == whole.digest()
