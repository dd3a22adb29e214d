"""Tests of `check_gradients`: correct gradients pass, even of extreme networks, and deliberate faults do not."""

import functools
import itertools
from unittest.mock import Mock

import numpy as np
import pytest
from sklearn.datasets import load_iris

import fastnn
from fastnn import Network
from fastnn.backends import reference
from fastnn.datasets import Dataset, load_digits
from fastnn.explanation import gradient_check
from fastnn.explanation.gradient_check import check_gradients
from fastnn.network import ACTIVATIONS, LOSSES, BatchNorm, Dense

BACKENDS = pytest.mark.parametrize("backend", ["numpy", "numba"])


def flowers():
    """Return a third of the iris data: inputs (50, 4) float64, from about 0 to 8, and labels (50,)."""
    iris = load_iris()
    return iris.data[::3], iris.target[::3].astype(np.int64)


def trained(data, labels, sizes, output="softmax", epochs=100, **options):
    """Return a network trained with L-BFGS until its gradients are small, and its targets."""
    targets = labels if output == "softmax" else np.eye(sizes[-1])[labels]
    options = {"dtype": "float64", "input_scale": 1.0, "activation": "tanh", **options}
    network = Network.initialize(sizes, output=output, seed=3, **options)
    settings = {"epochs": epochs, "optimizer": "lbfgs", "batch_size": None, "backend": "numpy"}
    return fastnn.train(network, Dataset(data, targets), **settings).network, targets


def largest_gradient(network, inp, targets, **options):
    result = reference.loss_and_gradients(network, inp, targets, **options)
    return max(np.abs(array).max() for array in (*result.dweights, *result.dbiases)), result.loss


@BACKENDS
@pytest.mark.parametrize("output", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_trained_networks_pass(backend, activation, output):
    """Check on all the data, where the gradient is nearly 0, and on a small weighted batch with L2."""
    data, labels = flowers()
    network, targets = trained(data, labels, (4, 3, 3, 3), output, activation=activation)
    check = check_gradients(network, data, targets, backend=backend)
    assert check.passed, check
    assert check.largest_error <= check.tolerance
    rows, weight = slice(None, None, 9), np.array([0.0, 1, 2.5, 0.5, 1, 3])
    check = check_gradients(network, data[rows], targets[rows], backend=backend, l2=0.1, sample_weight=weight)
    assert check.passed, check


@BACKENDS
def test_a_minimum_passes(backend):
    """At the solution of linear least squares, the gradient is far below the rounding error of a difference."""
    data, labels = flowers()
    targets = np.eye(3)[labels]
    solution = np.linalg.lstsq(np.hstack([data, np.ones((len(data), 1))]), targets, rcond=None)[0]
    network = Network([solution[:4]], [solution[4]], output="identity")
    scale, loss = largest_gradient(network, data, targets)
    assert 0 < 1e-7 * scale < 1e-6 * np.finfo(float).eps * loss / gradient_check.EPSILON
    check = check_gradients(network, data, targets, backend=backend)
    assert check.passed, check


@BACKENDS
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", [1.0, 1e5])
def test_unscaled_inputs_pass(backend, activation, size):
    """Inputs from 0 to 255, or 100,000 times larger, give a large loss."""
    rng = np.random.default_rng(8)
    inp, labels = rng.integers(0, 256, (6, 20)) * size, rng.integers(3, size=6)
    network = Network.initialize((20, 5, 3), activation=activation, seed=4)
    check = check_gradients(network, inp, labels, backend=backend, l2=1.0)
    assert check.passed, check
    assert check.tolerance < 1e-6


@BACKENDS
def test_a_loss_of_nearly_zero_passes(backend):
    """All rows have a probability of nearly 1: the loss is about 1e-13, no larger than its rounding error."""
    network = Network([np.eye(3) * 30.0], [np.zeros(3)])
    inp, labels = np.eye(3), np.arange(3)
    _, loss = largest_gradient(network, inp, labels)
    assert 0 < loss < 1e-12
    check = check_gradients(network, inp, labels, backend=backend)
    assert check.passed, check
    assert check.tolerance > 1


@BACKENDS
def test_steep_networks_pass(backend):
    """The weights are so large that a step of 1e-5 is too long."""
    rng = np.random.default_rng(1)
    network = Network.initialize((4, 5, 4, 3), activation="tanh", dtype="float64", seed=2)
    first, second, third = network.weights
    network = network.like([first * 0.1, second * 1e2, third * 1e2], network.biases)
    check = check_gradients(network, rng.normal(size=(6, 4)) * 0.01, rng.integers(3, size=6), backend=backend)
    assert check.passed, check
    assert check.tolerance < 1e-4


@BACKENDS
def test_large_weights_pass(backend):
    """The step of a weight of 1e13 is longer than its rounding error."""
    network = Network([np.array([[1e13, -1e13], [1.0, 2.0]])], [np.zeros(2)])
    check = check_gradients(network, np.array([[0.0, 1.0], [0.0, -2.0]]), np.array([0, 1]), backend=backend)
    assert check.passed, check


@BACKENDS
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_parameters_at_a_kink_are_left_out(backend, activation):
    """The first unit's sum is 0 for the first row, so the gradients of its two weights and its bias jump at a kink."""
    first = np.array([[0.5, -1.0], [0.25, 0.5]])
    network = Network([first, np.array([[0.5, -0.5], [1.0, 2.0]])], [np.zeros(2), np.zeros(2)], activation)
    inp, labels = np.array([[-1.0, 2.0], [3.0, 1.0]]), np.array([0, 1])
    check = check_gradients(network, inp, labels, backend=backend)
    assert (check.passed, check.kinks) == (True, 3 if activation in ("relu", "leaky_relu") else 0), check
    check = check_gradients(network, inp + 0.01, labels, backend=backend)
    assert (check.passed, check.kinks) == (True, 0), check


@pytest.mark.parametrize("size", [1.0, 1e5])
def test_unscaled_batch_norm_passes_and_is_checked_in_training_mode(size):
    """With a large mean, the normalised inputs lose digits; the running statistics, here 0 and 1, do not count."""
    rng = np.random.default_rng(7)
    layers = [BatchNorm(), Dense(4, "identity"), BatchNorm("silu"), Dense(3)]
    network = Network.initialize((5,), layers, seed=2)
    inp, labels = rng.integers(0, 256, (6, 5)) * size, rng.integers(3, size=6)
    check = check_gradients(network, inp, labels, backend="numpy")
    assert check.passed, check
    assert check.tolerance < 1e-6
    network = network.like(network.weights, network.biases, [array + 1 for array in network.statistics])
    assert check_gradients(network, inp, labels, backend="numpy") == check


def test_a_setting_that_is_none_is_an_error():
    network, inp, labels = problem("softmax", 0)
    with pytest.raises(fastnn.SettingsError, match="'momentum' is no setting"):
        check_gradients(network, inp, labels, momentum=0.9)


@pytest.mark.parametrize(("n_weights", "checked"), [(1000, 1000), (50, 50), (4, 4), (1, 1)])
def test_a_large_network_is_checked_on_a_sample(n_weights, checked):
    """The arrays have 64 * 60, 60 * 10, 60 and 10 entries."""
    network = Network.initialize((64, 60, 10), activation="tanh", input_scale=1 / 16)
    data = load_digits()
    check = check_gradients(network, data.images[:3], data.labels[:3], backend="numpy", n_weights=n_weights)
    assert (check.passed, check.checked, check.kinks) == (True, checked, 0)
    assert check_gradients(network, data.images[:3], data.labels[:3], backend="numpy", n_weights=n_weights) == check


def test_the_sample_has_a_share_of_every_array_and_all_of_small_ones():
    arrays = [np.zeros((784, 128)), np.zeros((128, 10)), np.zeros(128), np.zeros(10)]
    chosen = gradient_check._sample(arrays, 1000, 0)
    assert list(map(len, chosen)) == [431, 431, 128, 10]
    assert all(len(np.unique(each)) == len(each) for each in chosen)
    other = gradient_check._sample(arrays, 1000, 1)
    assert not np.array_equal(chosen[0], other[0])
    whole = gradient_check._sample(arrays, None, 0)
    assert all(np.array_equal(each, np.arange(array.size)) for each, array in zip(whole, arrays, strict=True))


def test_a_fault_in_a_large_array_is_found_by_the_sample():
    data, faulty = load_digits(), Mock()

    def halved(network, *given, **options):
        result = reference.loss_and_gradients(network, *given, **options)
        result.dweights[0][...] /= 2
        return result

    faulty.loss_and_gradients.side_effect = halved
    network = Network.initialize((64, 60, 10), input_scale=1 / 16)
    check = check_gradients(network, data.images[:3], data.labels[:3], backend=faulty, n_weights=200)
    assert not check.passed
    assert check.place.endswith("of layer 1")


@pytest.mark.parametrize("n_weights", [0, 1.5, "all"])
def test_a_number_of_weights_out_of_range_is_refused(n_weights):
    network, inp, labels = problem("softmax", 0)
    with pytest.raises(fastnn.SettingsError, match="n_weights is"):
        check_gradients(network, inp, labels, n_weights=n_weights)


@BACKENDS
def test_a_network_that_is_sure_of_its_images_passes(backend):
    """The default run's kind of network, trained: the gradients are so small that the rounding of the loss counts."""
    data = load_digits()
    network = Network.for_data(data, (32, 32))
    network = fastnn.train(network, data, epochs=40, batch_size=32, backend="numpy").network
    for first in range(0, 12, 3):
        rows = slice(first, first + 3)
        check = check_gradients(network, data.images[rows], data.labels[rows], backend=backend, n_weights=400)
        assert check.passed, check


def test_nothing_compared_does_not_pass():
    network, given = Network([np.ones((1, 2))], [np.zeros(2)]), (np.zeros((1, 1)), np.array([0]))
    undefined = Mock()
    undefined.loss_and_gradients.return_value = reference.loss_and_gradients(network, *given)._replace(loss=np.nan)
    assert not check_gradients(network, *given, backend=undefined).passed


# --- Faults ----------------------------------------------------------------------------------------------------------
class Faulty:
    """The reference backend with one fault in its gradients."""

    def __init__(self, fault):
        self._fault = fault

    def loss_and_gradients(self, network, *given, **options):
        result = reference.loss_and_gradients(network, *given, **options)
        self._fault(network, result, options.get("l2", 0.0))
        return result


def factor(network, result, l2):
    result.dweights[0][...] *= 2


def l2_term(network, result, l2):
    result.dweights[1][...] -= l2 * network.weights[1]


def transpose(network, result, l2):
    result.dweights[1][...] = result.dweights[1].T


def sign(network, result, l2):
    result.dbiases[0][...] *= -1


def one_entry(network, result, l2):
    result.dweights[1][2, 1] += 1e-6 * max(np.abs(array).max() for array in (*result.dweights, *result.dbiases))


# Each fault with the parameters in which it is found.
FAULTS = {
    factor: ("weight", 1), l2_term: ("weight", 2), transpose: ("weight", 2), sign: ("bias", 1),
    one_entry: ("weight", 2),
}  # fmt: skip
PROBLEMS = pytest.mark.parametrize(("name", "epochs"), [*itertools.product(LOSSES, (0, 20)), ("digits", 5)])


@functools.cache
def problem(name, epochs):
    """Return a network trained for `epochs` epochs, with inputs and targets."""
    if name == "digits":
        data = load_digits()
        network = Network.initialize((64, 4, 4, 10), input_scale=1 / 16, dtype="float64", seed=1)
    else:
        inp, labels = flowers()
        data = Dataset(inp, labels if name == "softmax" else np.eye(3)[labels])
        network = Network.initialize((4, 4, 4, 3), activation="tanh", dtype="float64", output=name, seed=3)
    if epochs:
        network = fastnn.train(network, data, epochs=epochs, backend="numpy").network
    rows = slice(None, None, len(data.images) // 15)
    return network, data.images[rows], data.labels[rows]


@pytest.mark.parametrize("fault", FAULTS)
@PROBLEMS
def test_a_fault_is_found(name, epochs, fault):
    network, inp, targets = problem(name, epochs)
    check = check_gradients(network, inp, targets, backend=Faulty(fault), l2=1e-3)
    assert not check.passed, check
    assert check.largest_error > check.tolerance
    kind, layer = FAULTS[fault]
    assert check.place.startswith(kind)
    assert check.place.endswith(f"of layer {layer}")


@PROBLEMS
def test_without_a_fault_they_pass(name, epochs):
    check = check_gradients(*problem(name, epochs), backend="numpy", l2=1e-3)
    assert check.passed, check
