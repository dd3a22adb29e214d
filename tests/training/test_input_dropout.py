"""Dropout of the inputs, and rates of their own for each layer, in both backends and every form of the inputs."""

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import BatchNorm, Conv2D, Dense, MaxPool2D, Network, SettingsError, TrainingConfig
from fastnn.randomness import dropout_keep, dropout_keys
from tests.parity import make_inputs

N = 150
# By units with packed inputs (39 bytes end within a tile) and with dense ones; by rows; a network without a hidden
# layer; by images with one and with two channels; layer by layer.
CASES = {
    "packed": ((39, 130, 70, 4), None, "uint8"),
    "dense": ((39, 130, 4), None, "float32"),
    "narrow, sparse": ((39, 12, 4), None, "uint8"),
    "rows": ((39, 12, 9, 4), None, "float32"),
    "no hidden layer": ((39, 4), None, "uint8"),
    "sparse matrix": ((39, 130, 4), None, "csr"),
    "images": ((1, 5, 8), [Conv2D(5, 3), MaxPool2D(), Dense(20), Dense(4)], "uint8"),
    "channels": ((2, 5, 4), [Conv2D(5, 3, padding=1), Dense(20), Dense(4)], "uint8"),
    "layer by layer": ((39,), [Dense(20, "identity"), BatchNorm("relu"), Dense(4)], "csr"),
}


def make(name, dtype, n_rows=N):
    sizes, layers, kind = CASES[name]
    rng = np.random.default_rng(2)
    inputs = make_inputs(rng, (n_rows, int(np.prod(sizes)) if layers else sizes[0]), "uint8" if kind == "csr" else kind)
    scale = 1 / 255 if inputs.dtype == np.uint8 else 1.0
    network = Network.initialize(sizes, layers, seed=3, dtype=dtype, input_scale=scale)
    return network, (scipy.sparse.csr_array(inputs) if kind == "csr" else inputs, rng.integers(0, 4, n_rows))


@pytest.mark.parametrize("batch_size", [32, 100])
@pytest.mark.parametrize("name", CASES)
def test_both_backends_drop_the_same_inputs(name, batch_size):
    dropout = (0.3,) if name == "no hidden layer" else (0.3, 0.5)
    settings = {"epochs": 2, "batch_size": batch_size, "dropout": dropout, "learning_rate": 0.1, "seed": 5}
    found, expected = (
        fastnn.train(*make(name, dtype), backend=backend, **settings)
        for backend, dtype in (("numba", "float32"), ("numpy", "float64"))
    )
    for one, other in zip(found.network.weights, expected.network.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)
    losses = [result.history.column("loss") for result in (found, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    kept = fastnn.train(*make(name, "float64"), backend="numpy", **{**settings, "dropout": (0.0, *dropout[1:])})
    assert not np.allclose(kept.history.column("loss"), losses[1], rtol=1e-3)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", ["packed", "dense", "narrow, sparse", "images", "sparse matrix"])
def test_a_step_sees_the_kept_inputs_scaled_up(name, backend):
    """One step of one sample, in the second epoch: as with these inputs, computed here, and without dropout."""
    network, (inputs, labels) = make(name, "float32", n_rows=3)
    order = np.array([1])
    settings = {"shuffle": lambda rows: order, "backend": backend, "learning_rate": 0.01, "seed": 9}
    first = fastnn.train(network, (inputs, labels), epochs=1, dropout=(0.4, 0.0), **settings)
    second = fastnn.train(
        first.network, (inputs, labels), epochs=1, dropout=(0.4, 0.0), resume=first.state, **settings
    )  # fmt: skip
    key = dropout_keys(9, 1, len(network.dropped_sizes))[0]
    is_kept = dropout_keep(key, np.arange(3), network.n_inputs, 0.4)
    dense = inputs.toarray() if name == "sparse matrix" else inputs
    scaled = np.where(is_kept, dense * np.float32(1 / 0.6), 0).astype(np.float32)
    expected = fastnn.train(first.network, (scaled, labels), epochs=1, **{**settings, "backend": "numpy"})
    assert 0.2 < 1 - is_kept.mean() < 0.6
    for one, other in zip(second.network.weights, expected.network.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.abs(second.network.weights[0] - first.network.weights[0]).max() > 1e-4


@pytest.mark.parametrize("name", ["packed", "rows", "images", "layer by layer"])
@pytest.mark.parametrize("dropout", [(0.3, 0.5), (0.4, 0.2, 0.6)])
def test_gradients_are_right_with_dropout_of_the_inputs(name, dropout):
    network, (inputs, labels) = make(name, "float64", n_rows=8)
    dropout = dropout[: len(network.dropped_sizes)]
    for backend in ("numpy", "numba") if name == "rows" else ("numpy",):
        inp = inputs.toarray() if scipy.sparse.issparse(inputs) else inputs
        assert fastnn.check_gradients(network, inp, labels, backend=backend, dropout=dropout, seed=4).passed


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_hidden_units_are_dropped_as_without_dropout_of_the_inputs(backend):
    """A rate for all hidden layers is short for that rate after 0 for the inputs: the same bits."""
    network, data = make("packed", "float32")
    settings = {"backend": backend, "epochs": 2, "learning_rate": 0.1}
    digests = {
        fastnn.train(network, data, dropout=dropout, **settings).digest()
        for dropout in (0.5, (0, 0.5), (0, 0.5, 0.5), [0.0, 0.5], np.array([0.0, 0.5]))
    }
    assert len(digests) == 1
    assert fastnn.train(network, data, dropout=(0, 0.5, 0.4), **settings).digest() not in digests


def test_the_bits_do_not_depend_on_the_threads(started):
    for name in ("packed", "dense", "images"):
        network, data = make(name, "float32")
        results = [
            fastnn.train(network, data, backend="numba", threads=n, dropout=(0.2, 0.5), epochs=2, batch_size=100)
            for n in (1, 3)
        ]
        assert results[0].digest() == results[1].digest()
    assert max(started) > 1


def test_rates_are_those_of_the_inputs_and_of_each_hidden_layer_in_turn():
    config = TrainingConfig(dropout=[0.1, 0.2, 0.3])
    assert config.dropout == (0.1, 0.2, 0.3)
    assert config.dropout_rates(3) == [0.1, 0.2, 0.3]
    assert config.dropout_rates(5) == [0.1, 0.2, 0.3, 0.3, 0.3]
    assert TrainingConfig.from_dict(config.to_dict()) == config
    assert TrainingConfig(dropout=0.4).dropout_rates(1) == [0.0]


@pytest.mark.parametrize(
    ("dropout", "message"),
    [
        ((0.2, 1.0), "a rate of dropout is 1.0, expected a finite number at least 0 and less than 1"),
        ((), "dropout is an empty sequence, expected a rate for the inputs first"),
        ("0.2,0.5", "dropout is '0.2,0.5', expected a finite number"),
        (((0.1, 0.2),), r"a rate of dropout is \(0.1, 0.2\), expected a finite number"),
        ((0.1, 0.2, 0.3, 0.4), "dropout has 4 rates, expected at most 3 for the network: of its inputs, and of 2"),
    ],
)
def test_rates_that_are_refused(dropout, message):
    with pytest.raises(SettingsError, match=message):
        fastnn.train(*make("packed", "float32"), dropout=dropout, backend="numpy")
