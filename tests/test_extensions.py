"""The worked examples of docs/design.md: how to add an activation, an optimizer and a layer, in one place each."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import fastnn
from fastnn.network.activations import ACTIVATIONS, Activation
from fastnn.network.layers import LAYERS, Forward, Layer
from fastnn.optim.optimizers import Optimizer

RNG = np.random.default_rng(0)
INPUTS, LABELS = RNG.standard_normal((8, 6)), RNG.integers(3, size=8)
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "numba"])


@BACKENDS
def test_an_activation_is_a_row_of_a_table(backend, monkeypatch):
    softsign = Activation(
        forward=lambda inp: inp / (1 + abs(inp)), derivative=lambda inp: 1 / (1 + abs(inp)) ** 2, needs="input",
        formula="sum / (1 + |sum|)", derivative_formula="1 / (1 + |sum|)^2",
        onnx=lambda graph, name: graph.add("Softsign", [name]),
    )  # fmt: skip
    monkeypatch.setitem(ACTIVATIONS, "softsign", softsign)
    network = fastnn.Network.initialize((6, 5, 3), activation="softsign", dtype="float64")
    assert fastnn.check_gradients(network, INPUTS, LABELS, backend=backend).passed


@dataclass(frozen=True)
class SignDescent(Optimizer):
    """Steps of the same length for every parameter (Bernstein et al. 2018, arXiv:1802.04434)."""

    def update(self, parameter, gradient, slots, learning_rate, step):
        parameter -= learning_rate * np.sign(gradient)


@BACKENDS
def test_an_optimizer_is_a_class(backend):
    network, data = fastnn.Network.initialize((6, 5, 3), dtype="float64"), fastnn.Dataset(INPUTS, LABELS)
    result = fastnn.train(network, data, optimizer=SignDescent(), learning_rate=0.01, epochs=1, backend=backend)
    moved = np.abs(result.network.weights[0] - network.weights[0])
    assert (np.isclose(moved, 0.01) | (moved == 0)).all()
    assert np.isclose(moved, 0.01).any()


@dataclass(frozen=True)
class Scale(Layer):
    """A scale and a shift for each unit."""

    kind: ClassVar[str] = "scale"
    is_decayed: ClassVar[bool] = False

    activation: str | None = None

    def parameter_shapes(self, input_shape):
        return input_shape, input_shape

    def initial_weight(self, rng, input_shape, initializer):
        return rng.uniform(0.5, 1.5, input_shape)

    def forward(self, ops, inp, arrays, training):
        return Forward(inp * arrays.weight + arrays.bias)

    def backward(self, ops, dsums, inp, saved, arrays, needs_dinp):
        return dsums * arrays.weight, (dsums * inp).sum(axis=0), dsums.sum(axis=0)


@BACKENDS
def test_a_layer_that_files_cannot_name_is_refused_before_training(backend, tmp_path):
    network = fastnn.Network.initialize((6,), [fastnn.Dense(5, "identity"), Scale("tanh"), fastnn.Dense(3)])
    seen = []
    with pytest.raises(fastnn.SettingsError, match=r"layer 2 is .*scale.*expected a kind from"):
        fastnn.train(
            network,
            fastnn.Dataset(INPUTS, LABELS),
            backend=backend,
            checkpoint=tmp_path / "run",
            callbacks=[seen.append],
        )
    assert not seen
    assert not [*tmp_path.iterdir()]


@BACKENDS
def test_a_layer_is_a_class(backend, monkeypatch, tmp_path):
    monkeypatch.setitem(LAYERS, "scale", Scale)
    layers = [fastnn.Dense(5, "identity"), Scale("tanh"), fastnn.Dense(3)]
    network = fastnn.Network.initialize((6,), layers, dtype="float64")
    assert fastnn.check_gradients(network, INPUTS, LABELS, backend=backend).passed
    fastnn.save(tmp_path / "model", network)
    loaded = fastnn.load(tmp_path / "model").network
    predict = fastnn.get_backend(backend).predict_proba
    np.testing.assert_array_equal(predict(loaded, INPUTS), predict(network, INPUTS))
