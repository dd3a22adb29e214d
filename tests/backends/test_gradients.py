"""Gradients agree with central differences in float64, for every activation and option. Wrong ones are caught."""

import itertools

import numpy as np
import pytest

from fastnn.backends import compiled, reference
from fastnn.explanation.gradient_check import check_gradients
from tests.parity import make_inputs, make_network

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
OPTIONS = {
    "plain": {},
    "l2": {"l2": 0.1},
    "dropout": {"dropout": 0.4, "seed": 3, "epoch": 1},
    "sample weights": {"sample_weight": np.array([0.0, 1.0, 2.5, 0.5, 1.0])},
    "all": {"l2": 0.05, "dropout": 0.2, "sample_weight": np.array([1.0, 0.0, 2.0, 3.0, 0.5])},
}


def _batch(kind, activation, seed=0):
    """A network and a batch whose weighted sums are not near 0, where ReLU's difference quotient is meaningless."""
    for attempt in itertools.count(seed):
        rng = np.random.default_rng(attempt)
        network = make_network(rng, (6, 5, 4, 3), kind, "float64", activation)
        inp = make_inputs(rng, (5, 6), kind)
        _, outs = reference.forward(
            make_network(np.random.default_rng(attempt), (6, 5, 4, 3), kind, "float64", "identity"), inp
        )
        if min(np.abs(out).min() for out in outs) > 1e-3:
            return network, inp, rng.integers(3, size=5)


@BACKENDS
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_gradients_are_correct(backend, options, activation, kind):
    check = check_gradients(*_batch(kind, activation), backend=backend, **options)
    assert check.passed, check
    assert 0 < check.largest_error < 1e-7


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_short_batch(n):
    network, inp, labels = _batch("float64", "tanh", seed=50)
    assert check_gradients(network, inp[:n], labels[:n], backend="numba", l2=0.1).passed


class _Wrong:
    """The reference backend with one fault in its gradients."""

    def __init__(self, fault):
        self._fault = fault

    def loss_and_gradients(self, *arguments, **options):
        result = reference.loss_and_gradients(*arguments, **options)
        self._fault(result)
        return result


def _negate(result):
    result.dweights[1][...] *= -1


def _forget_scale(result):
    result.dbiases[0][...] *= 5 / 4


def _nudge(result):
    result.dweights[2][0, 0] += 1e-5 * max(np.abs(dweight).max() for dweight in result.dweights)


@pytest.mark.parametrize("fault", [_negate, _forget_scale, _nudge])
def test_a_wrong_gradient_is_caught(fault):
    network, inp, labels = _batch("float64", "tanh")
    check = check_gradients(network, inp, labels, backend=_Wrong(fault))
    assert not check.passed
    assert "layer" in check.place
