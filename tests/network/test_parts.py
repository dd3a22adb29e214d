"""A network in two parts predicts, and is joined again, as the whole."""

import numpy as np
import pytest

from fastnn import AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D, Network, SettingsError, Standardization
from fastnn.backends import get_backend
from fastnn.models.hidden import features_of, hidden_outputs
from fastnn.network.parts import join, split, split_frozen
from tests.parity import assert_same_bits

LAYERS = [
    Conv2D(3, 3, padding=1, activation="tanh"), BatchNorm("relu"), MaxPool2D(), Conv2D(4, 2), AvgPool2D(),
    Dense(5, "gelu"), BatchNorm(), Dense(3),
]  # fmt: skip
N_LAYERS = range(1, len(LAYERS))


def make_network(dtype="float64", scale=None, **settings):
    """A network whose arrays, statistics included, are all different."""
    scale = Standardization(np.linspace(0, 1, 60), np.linspace(1, 2, 60)) if scale is None else scale
    network = Network.initialize((1, 6, 10), LAYERS, dtype=dtype, input_scale=scale, **settings)
    rng = np.random.default_rng(1)
    weights, biases, statistics = (
        [rng.uniform(0.5, 1.5, array.shape) * np.where(array == 0, 1, array) for array in arrays]
        for arrays in (network.weights, network.biases, network.statistics)
    )
    return network.like(weights, biases, statistics)


def arrays_of(network):
    return [*network.weights, *network.biases, *network.statistics]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("n_layers", N_LAYERS)
def test_the_tail_makes_the_logits_of_the_features(n_layers, backend):
    network, engine = make_network(), get_backend(backend)
    inputs = np.random.default_rng(2).uniform(-1, 2, (7, 60))
    front, tail = split(network, n_layers)
    features = features_of(front, inputs, engine)
    assert features.shape == (7, network.sizes[n_layers]) == (7, tail.n_inputs)
    expected = engine.predict_logits(network, inputs)
    np.testing.assert_allclose(engine.predict_logits(tail, features), expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_array_equal(features, hidden_outputs(network, inputs, n_layers - 1, backend=backend))


@pytest.mark.parametrize("n_layers", N_LAYERS)
@pytest.mark.parametrize("scale", [None, 0.25])
def test_joined_parts_are_the_network(n_layers, scale):
    network = make_network("float32", scale, output="logistic")
    joined = join(*split(network, n_layers))
    assert_same_bits(arrays_of(joined), arrays_of(network))
    same = ("layers", "shapes", "sizes", "output", "input_transform", "dtype")
    assert [getattr(joined, name) for name in same] == [getattr(network, name) for name in same]
    assert not any(np.shares_memory(a, b) for a, b in zip(arrays_of(joined), arrays_of(network), strict=True))


@pytest.mark.parametrize("n_layers", N_LAYERS)
def test_parts_share_the_arrays_and_change_nothing(n_layers):
    network = make_network()
    before = repr(network), network.layers, network.shapes
    front, tail = split(network, n_layers)
    shared = [*front.network.weights, *tail.weights, *front.network.biases, *tail.biases]
    shared += [*front.network.statistics, *tail.statistics]
    assert all(one is other for one, other in zip(shared, arrays_of(network), strict=True))
    assert (repr(network), network.layers, network.shapes) == before
    assert [layer for layer, _ in tail.chain()] == list(network.layers[n_layers:])


def test_a_dense_tail_of_feature_maps_has_flat_inputs():
    network = make_network()
    assert split(network, 5)[1].shapes == ((8,), (5,), (5,), (3,))
    assert split(network, 4)[1].shapes[0] == network.shapes[4]


def test_frozen_layers_end_before_the_next_layer_with_weights():
    network = make_network()
    assert [len(split_frozen(network, n)[0].network.layers) for n in range(1, 6)] == [1, 3, 5, 6, 7]
    assert [len(split_frozen(network, n)[0].network.weights) for n in range(1, 6)] == [1, 2, 3, 4, 5]
    with pytest.raises(SettingsError, match=r"frozen is 6, expected at most 5 of the 6 layers with weights of Network"):
        split_frozen(network, 6)


def test_parts_that_no_network_has():
    network = Network.initialize((1, 6, 6), [MaxPool2D(), Dense(4), Dense(2)])
    with pytest.raises(SettingsError, match=r"n_layers of Network\(.*\) is 3, expected a whole number, from 1 to 2"):
        split(network, 3)
    with pytest.raises(SettingsError, match=r"layers 1 to 1 of Network\(.*\) have no weights, expected some"):
        split(network, 1)
    front, tail = split(network, 2)
    with pytest.raises(SettingsError, match="weight of shape"):
        join(front._replace(network=split(Network.initialize((9, 3, 2)), 1)[0].network), tail)
