"""Gradient clipping: the steps of both backends against formulas, and what is refused."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import fastnn
from fastnn import AdamW, BatchNorm, Dense, Network, SettingsError, TrainingConfig, get_backend
from fastnn.optim.clipping import clip_by_norm, global_norm

BACKENDS = ("numpy", "numba")


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    return rng.normal(size=(40, 6)), rng.integers(0, 3, 40)


def _step(network, data, backend, **settings):
    """Return the change of all parameters in one full-batch step of plain gradient descent, at rate 1."""
    trained = fastnn.train(
        network, data, epochs=1, batch_size=None, learning_rate=1.0, backend=backend, **settings
    ).network
    pairs = zip([*trained.weights, *trained.biases], [*network.weights, *network.biases], strict=True)
    return np.concatenate([(after - before).ravel() for after, before in pairs])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_follows_the_clipped_gradient(backend, data):
    """The gradient is that of the loss with its L2 term, from central differences of the loss."""
    network = Network.initialize((6, 5, 3), dtype="float64", activation="tanh", seed=1)
    arrays = [array.copy() for array in (*network.weights, *network.biases)]

    def loss():
        probabilities = get_backend("numpy").predict_proba(network.like(arrays[:2], arrays[2:]), data[0])
        penalty = 0.05 * sum((array**2).sum() for array in arrays[:2])
        return -np.log(probabilities[np.arange(40), data[1]]).mean() + penalty

    gradient = []
    for array in arrays:
        for place in np.ndindex(array.shape):
            array[place] += 1e-6
            above = loss()
            array[place] -= 2e-6
            gradient.append((above - loss()) / 2e-6)
            array[place] += 1e-6
    gradient = np.array(gradient)
    norm, largest = math.sqrt(sum(value * value for value in gradient)), max(abs(gradient))
    assert np.allclose(_step(network, data, backend, l2=0.1), -gradient, atol=1e-8)
    short = _step(network, data, backend, l2=0.1, clip_norm=norm / 3)
    assert np.allclose(short, -gradient / 3, atol=1e-8)
    limited = _step(network, data, backend, l2=0.1, clip_value=largest / 2)
    assert np.allclose(limited, -np.sign(gradient) * np.minimum(abs(gradient), largest / 2), atol=1e-8)
    assert (abs(gradient) > largest / 2).sum() > 1
    unclipped = _step(network, data, backend, l2=0.1, clip_norm=norm * 1.001)
    assert np.allclose(unclipped, -gradient, atol=1e-8)


@pytest.mark.parametrize("clipping", [{"clip_norm": 0.3}, {"clip_value": 0.02}])
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", AdamW(weight_decay=0.1)])
def test_both_backends_clip_alike(optimizer, clipping, data):
    layers = [Dense(9, "tanh"), BatchNorm("relu"), Dense(3)]
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "optimizer": optimizer, **clipping}
    results = [
        fastnn.train(
            Network.initialize((6,), layers, dtype=dtype, seed=2), data, backend=backend, **settings
        ).network.weights
        for backend, dtype in (("numba", "float32"), ("numpy", "float64"))
    ]
    for found, expected in zip(*results, strict=True):
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)
    free = fastnn.train(
        Network.initialize((6,), layers, seed=2), data, **{**settings, "clip_norm": None, "clip_value": None}
    )
    assert not np.allclose(free.network.weights[0], results[0][0], rtol=1e-3)


def test_the_norm_neither_overflows_nor_hides_a_gradient_that_is_not_finite():
    huge = [np.full(4, 1e30, np.float32), np.array([1e200])]
    assert global_norm(huge[:1]) == pytest.approx(2e30)
    assert global_norm(huge) == pytest.approx(1e200)
    clip_by_norm(huge, 1.0)
    assert huge[1] == pytest.approx(1)
    assert global_norm([np.array([3e-25], np.float32), np.array([4e-25], np.float32)]) == pytest.approx(5e-25)
    assert global_norm([np.zeros(3)]) == 0
    assert math.isnan(global_norm([np.array([1.0, np.nan])]))
    assert math.isinf(global_norm([np.array([1.0, -np.inf])]))


def test_clipping_keeps_a_run_finite_that_diverges_without_it():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(64, 4)) * 30
    data, network = (inputs, inputs[:, :1] ** 2), Network.initialize((4, 8, 1), output="identity")
    settings = {"learning_rate": 0.5, "epochs": 5, "backend": "numpy"}
    with pytest.raises(fastnn.DivergenceError):
        fastnn.train(network, data, **settings)
    assert np.isfinite(fastnn.train(network, data, clip_norm=1.0, **settings).loss)


def test_both_kinds_at_once_are_refused():
    with pytest.raises(SettingsError, match=r"clip_norm is 1 and clip_value is 0\.5, expected one of them"):
        TrainingConfig(clip_norm=1, clip_value=0.5)


@pytest.mark.parametrize("form", ["array", "sparse"])
def test_fused_gradients_are_clipped_with_dropout_and_sample_weights(form, data):
    """The reference, in float64, takes the same steps; the last batch is shorter, and one has no weight."""
    inputs, labels = np.where(data[0] > 0, data[0], 0).astype(np.float32), data[1]
    weight = np.random.default_rng(5).random(40)
    weight[:8] = 0
    given = csr_matrix(inputs) if form == "sparse" else inputs
    settings = {"epochs": 3, "batch_size": 7, "learning_rate": 0.1, "dropout": 0.3, "clip_norm": 0.2, "l2": 0.01}
    results = [
        fastnn.train(
            Network.initialize((6, 16, 9, 3), dtype=dtype, seed=2),
            (given, labels),
            backend=backend,
            sample_weight=weight,
            shuffle=False,
            optimizer="adam",
            **settings,
        )
        for backend, dtype in (("numba", "float32"), ("numpy", "float64"))
    ]
    for found, expected in zip(*(result.network.weights for result in results), strict=True):
        assert np.allclose(found, expected, rtol=1e-3, atol=1e-5)
    losses, accuracies = ([result.history.column(name) for result in results] for name in ("loss", "accuracy"))
    assert np.allclose(*losses, rtol=1e-4)
    assert np.array_equal(*accuracies)


def test_clipped_training_has_the_same_bits_with_any_number_of_threads(data):
    inputs = np.random.default_rng(1).normal(size=(600, 40)).astype(np.float32)
    labels = (inputs[:, 0] > 0).astype(np.int64)
    network = Network.initialize((40, 300, 2))
    found = [
        fastnn.train(network, (inputs, labels), epochs=2, batch_size=300, clip_norm=0.1, backend="numba", threads=n)
        for n in (1, 3)
    ]
    for one, other in zip(*(result.network.weights for result in found), strict=True):
        np.testing.assert_array_equal(one, other)
