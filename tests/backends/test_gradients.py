"""Gradients agree with central differences in float64, for every layer, activation, loss and setting; AdamW by hand."""

import numpy as np
import pytest

from fastnn.backends import compiled, reference
from fastnn.explanation.gradient_check import check_gradients
from fastnn.network import ACTIVATIONS, LOSSES, BatchNorm, Dense, Network
from fastnn.optim.optimizers import AdamW
from tests.parity import make_inputs, make_network

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
SETTINGS = {
    "plain": {},
    "l2": {"l2": 0.1},
    "dropout": {"dropout": 0.4, "seed": 3, "epoch": 1},
    "all": {"l2": 0.05, "divide_l2": True, "dropout": 0.2, "sample_weight": np.array([1.0, 0.0, 2.0, 3.0, 0.5])},
}
# Batch normalisation of hidden sums, of outputs, of the logits and of the inputs.
CHAINS = {
    "hidden": [Dense(5, "identity"), BatchNorm("tanh"), Dense(4, "silu"), BatchNorm(), Dense(3)],
    "logits": [Dense(5, "elu"), Dense(3), BatchNorm()],
    "inputs": [BatchNorm("gelu"), Dense(3)],
}


def _batch(kind, activation):
    rng = np.random.default_rng(1)
    return (
        make_network(rng, (6, 5, 4, 3), kind, "float64", activation),
        make_inputs(rng, (5, 6), kind),
        rng.integers(3, size=5),
    )


def _chain(layers, output="softmax"):
    """A network with random scales and shifts, a batch and targets."""
    rng = np.random.default_rng(2)
    network = Network.initialize((6,), layers, output=output, dtype="float64", seed=3)
    arrays = [
        [array + 0.3 * rng.standard_normal(array.shape) for array in each] for each in (network.weights, network.biases)
    ]
    targets = rng.integers(3, size=5) if network.loss.uses_labels else rng.random((5, 3))
    return network.like(*arrays), rng.standard_normal((5, 6)), targets


def _assert_passes(check):
    assert check.passed, check
    assert 0 < check.largest_error < 1e-7
    assert check.kinks == 0


@BACKENDS
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_gradients_of_every_activation(backend, settings, activation, kind):
    _assert_passes(check_gradients(*_batch(kind, activation), backend=backend, **settings))


@BACKENDS
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("output", LOSSES)
def test_gradients_of_batch_norm_with_every_loss(backend, settings, layers, output):
    _assert_passes(check_gradients(*_chain(layers, output), backend=backend, **settings))


@BACKENDS
@pytest.mark.parametrize("output", LOSSES)
def test_gradients_of_every_loss(backend, output):
    _assert_passes(check_gradients(*_chain([Dense(5, "tanh"), Dense(3)], output), backend=backend))


@BACKENDS
@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_gradients_with_label_smoothing(backend, smoothing):
    settings = SETTINGS["all"] | {"label_smoothing": smoothing}
    _assert_passes(check_gradients(*_chain([Dense(5), Dense(3)]), backend=backend, **settings))


@BACKENDS
@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_short_batch(backend, n):
    network, inp, labels = _batch("float64", "tanh")
    assert check_gradients(network, inp[:n], labels[:n], backend=backend, l2=0.1).passed


def test_one_step_of_adamw_by_hand():
    """The decay leaves 1 - 0.1 * 0.2 of the weight; Adam's first step is the rate times the sign of the gradient."""
    weight, slots = np.array([2.0, -1.0]), [np.zeros(2), np.zeros(2)]
    rule = AdamW(epsilon=1e-12, weight_decay=0.2)
    rule.decay(weight, 0.1)
    rule.update(weight, np.array([3.0, -0.5]), slots, learning_rate=0.1, step=1)
    np.testing.assert_allclose(weight, [0.98 * 2 - 0.1, 0.98 * -1 + 0.1], rtol=1e-9)


@BACKENDS
def test_steps_of_adamw_equal_its_definition(backend):
    """Algorithm 2 of Loshchilov and Hutter 2019, with corrected moments; biases and scales do not decay."""
    network, inp, targets = _chain(CHAINS["inputs"])
    rate, decay, first, second, epsilon = 0.01, 0.3, 0.8, 0.95, 1e-14
    trainer = backend.trainer(network, inp, targets, AdamW(first, second, epsilon, decay))
    parameters = [array.copy() for array in (*network.weights, *network.biases)]
    moments = [(np.zeros_like(array), np.zeros_like(array)) for array in parameters]
    for step in (1, 2, 3):
        trainer.run_epoch(np.arange(5), 5, rate)
        n = len(network.weights)
        result = reference.loss_and_gradients(network.like(parameters[:n], parameters[n:]), inp, targets)
        for k, gradient in enumerate((*result.dweights, *result.dbiases)):
            mean, square = moments[k]
            moments[k] = mean, square = (
                first * mean + (1 - first) * gradient,
                second * square + (1 - second) * gradient**2,
            )
            ratio = (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + epsilon)
            parameters[k] = parameters[k] - rate * ratio - rate * decay * parameters[k] * (parameters[k].ndim == 2)
    trained = trainer.network()
    for found, expected in zip((*trained.weights, *trained.biases), parameters, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
