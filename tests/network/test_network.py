"""A network is a chain of layers: shapes, arrays, activations, initial weights and errors."""

import json

import numpy as np
import pytest

from fastnn import BatchNorm, Dataset, Dense, Network, SettingsError
from fastnn.network.aligned import CACHE_LINE, aligned_copy, aligned_zeros
from fastnn.network.layers import from_json, to_json

LAYERS = [Dense(4, "identity"), BatchNorm("tanh", momentum=0.5), Dense(3, "gelu"), Dense(2)]


def test_a_chain_gives_each_layer_its_arrays():
    network = Network.initialize((5,), LAYERS)
    assert repr(network) == (
        "Network(5 -> 4 identity -> batch norm tanh -> 3 gelu -> 2 softmax, float32, 55 parameters)"
    )
    assert network.sizes == (5, 4, 4, 3, 2)
    shapes = [(arrays.weight.shape, arrays.bias.shape, len(arrays.statistics)) for _, arrays in network.chain()]
    assert shapes == [((5, 4), (4,), 0), ((4,), (4,), 2), ((4, 3), (3,), 0), ((3, 2), (2,), 0)]
    assert network.activation == ("identity", "tanh", "gelu")
    assert network.decayed == [True, False, True, True]


def test_the_layers_of_a_network_survive_json_and_a_copy():
    network = Network.initialize((5,), LAYERS, input_scale=0.5, output="logistic")
    assert tuple(from_json(json.loads(json.dumps(to_json(network.layers))))) == network.layers
    copy = network.like(network.weights, network.biases, [array + 1 for array in network.statistics])
    assert (copy.layers, copy.shapes, copy.input_scale, copy.output) == (
        network.layers, network.shapes, 0.5, "logistic"
    )  # fmt: skip
    assert (copy.statistics[0] == 1).all()


def test_an_activation_for_each_hidden_layer():
    network = Network.initialize((5, 4, 3, 2), activation=["gelu", "relu"])
    assert [layer.activation for layer in network.layers] == ["gelu", "relu", "identity"]
    assert Network(network.weights, network.biases, ["gelu", "relu"]).layers == network.layers
    data = Dataset(np.ones((2, 5)), np.array([0, 1]))
    assert Network.for_data(data, iter([4, 3])).sizes == (5, 4, 3, 2)
    mixed = Network.for_data(data, [Dense(4, "silu"), BatchNorm(), 3], activation="elu")
    assert [layer.activation for layer in mixed.layers] == ["silu", "identity", "elu", "identity"]


@pytest.mark.parametrize(("activation", "is_normal"), [("relu", True), ("silu", True), ("tanh", False)])
def test_the_initial_weights_suit_the_activation(activation, is_normal):
    """He's are normal, so some of 40,000 exceed three deviations; Glorot's are bounded. The variances are exact."""
    network = Network.initialize((200, 200, 200), activation=activation)
    for weight in network.weights:  # the last layer has the distribution of the layer before it
        assert weight.var() == pytest.approx(2 / 200 if is_normal else 2 / 400, rel=0.05)
        assert (np.abs(weight).max() > 3 * weight.std()) == is_normal


BAD = {
    "no layers": (lambda: Network.initialize((5,), []), r"layers are \[\], expected one or more"),
    "a last activation": (
        lambda: Network.initialize((5,), [Dense(2, "relu")]),
        "last layer is relu, expected identity",
    ),
    "a name": (lambda: Dense(3, "swish"), "activation of a dense layer is 'swish', expected one of relu"),
    "both": (lambda: Network.initialize((5,), LAYERS, activation="tanh"), "activation is 'tanh' beside layers"),
    "no sequence": (lambda: Network.initialize((5,), Dense(2)), "layers are Dense.*expected one or more"),
    "no hidden sequence": (lambda: Network.for_data(Dataset(np.ones((2, 5)), np.array([0, 1])), 8), "hidden is 8"),
    "no activation": (
        lambda: Network.initialize((5, 4, 2), activation=None),
        "activation is None, expected one of relu",
    ),
    "units": (lambda: Dense(0), "units of a dense layer is 0"),
    "momentum": (lambda: BatchNorm(momentum=1), "momentum of a batch_norm layer is 1"),
    "epsilon": (lambda: BatchNorm(epsilon=0), "epsilon of a batch_norm layer is 0"),
    "activations": (lambda: Network.initialize((5, 4, 2), activation=["relu", "relu"]), "2 activations, expected one"),
    "input shape": (
        lambda: Network.initialize((0,), [Dense(2)]),
        r"input_shape is \(0,\), expected sizes from 1 to",
    ),
    "a missing array": (lambda: Network([np.ones((5, 2))], [np.ones(2)], layers=LAYERS), "1 weights, expected 4"),
    "a shape": (
        lambda: Network([np.ones((5, 3))], [np.ones(3)], layers=[Dense(2)]),
        r"layer 1: weight of shape \(5, 3\), expected \(5, 2\)",
    ),
    "statistics": (
        lambda: Network.initialize((5,), LAYERS).like(*_arrays(), [np.ones(4), np.full(4, np.nan)]),
        r"layer 2: statistics of shape \(4,\), expected finite numbers",
    ),
    "a kind": (lambda: from_json([{"kind": "os.system"}]), "layer 1 is .*, expected a kind from dense, batch_norm"),
    "a field": (lambda: from_json([{"kind": "dense", "units": 3}]), r"layer 1, dense, has \['units'\], expected"),
    "no list": (lambda: from_json({"kind": "dense"}), "layers are .*, expected a list"),
}


def _arrays():
    network = Network.initialize((5,), LAYERS)
    return network.weights, network.biases


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_in_one_line(case):
    call, words = BAD[case]
    with pytest.raises(SettingsError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [7, (3, 5), (0, 4), ()])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_aligned_arrays_are_contiguous_and_start_on_a_cache_line(shape, dtype):
    zeros = aligned_zeros(shape, dtype)
    copy = aligned_copy(np.ones(shape, order="F"), dtype)
    for array, value in ((zeros, 0), (copy, 1)):
        assert array.ctypes.data % CACHE_LINE == 0 or not array.size
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, np.full(shape, value, dtype), strict=True)


def test_the_arrays_of_a_network_start_on_cache_lines():
    network = Network.initialize((5, 4, 3))
    assert all(array.ctypes.data % CACHE_LINE == 0 for array in (*network.weights, *network.biases))


def test_new_outputs_replace_the_last_layer_only():
    network = Network.initialize((5,), LAYERS, input_scale=0.5, dtype="float64")
    statistics = [array + 1 for array in network.statistics]
    network = network.like(network.weights, [bias + 1 for bias in network.biases], statistics)
    new = network.with_outputs(6, output="logistic", seed=9)
    fresh = Network.initialize((5,), [*LAYERS[:-1], Dense(6)], seed=9, dtype="float64")
    assert (new.layers, new.shapes, new.output, new.input_scale) == (fresh.layers, fresh.shapes, "logistic", 0.5)
    assert all((one == other).all() for one, other in zip(new.weights[:-1], network.weights[:-1], strict=True))
    assert all((one == other).all() for one, other in zip(new.biases[:-1], network.biases[:-1], strict=True))
    assert (new.weights[-1] == fresh.weights[-1]).all()
    assert not new.biases[-1].any()
    assert all((one == other).all() for one, other in zip(new.statistics, network.statistics, strict=True))
    assert network.with_outputs(2).output == "softmax"
    with pytest.raises(SettingsError, match=r"the last layer of .* is BatchNorm.*, expected a dense one"):
        Network.initialize((5,), [Dense(2), BatchNorm()]).with_outputs(3)
