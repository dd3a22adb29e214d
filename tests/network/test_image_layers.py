"""Layers of images: shapes, equal layers, the repr of networks, JSON, initial weights, and errors of one line."""

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from fastnn import AvgPool2D, BatchNorm, Conv2D, Dataset, Dense, MaxPool2D, Network, SettingsError
from fastnn.network.layers import LAYERS, from_json, to_json

LENET = [Conv2D(6, 5), MaxPool2D(), Conv2D(16, 5), MaxPool2D(), Dense(120), Dense(84), Dense(10)]
ALL_KINDS = [
    Conv2D(4, (5, 3), (2, 1), (1, 2), "identity"), BatchNorm("gelu"), MaxPool2D((2, 3), 2, (0, 1), "tanh"),
    AvgPool2D(2, (1, 2)), Conv2D(3, 3, padding="same"), Dense(7),
]  # fmt: skip


def test_a_network_infers_all_shapes():
    network = Network.initialize((1, 28, 28), LENET)
    assert network.shapes == ((1, 28, 28), (6, 24, 24), (6, 12, 12), (16, 8, 8), (16, 4, 4), (120,), (84,), (10,))
    assert network.sizes == (784, 3456, 864, 1024, 256, 120, 84, 10)
    assert [weight.shape for weight in network.weights] == [
        (1, 5, 5, 6), (6, 5, 5, 16), (256, 120), (120, 84), (84, 10)
    ]  # fmt: skip
    assert [bias.shape for bias in network.biases] == [(6,), (16,), (120,), (84,), (10,)]
    assert network.n_parameters == 44_426
    assert network.n_multiplications == 25 * 6 * 576 + 150 * 16 * 64 + 256 * 120 + 120 * 84 + 84 * 10
    assert (network.n_inputs, network.n_outputs, network.is_dense) == (784, 10, False)
    assert network.activation == ("relu", "identity", "relu", "identity", "relu", "relu")


def test_the_repr_shows_windows_and_what_is_unusual_about_them():
    assert repr(Network.initialize((1, 28, 28), LENET)) == (
        "Network(1x28x28 -> conv 5x5 6x24x24 relu -> max pool 2x2 6x12x12 -> conv 5x5 16x8x8 relu -> max pool 2x2 "
        "16x4x4 -> 120 relu -> 84 relu -> 10 softmax, float32, 44,426 parameters)"
    )
    assert repr(Network.initialize((2, 11, 9), ALL_KINDS)) == (
        "Network(2x11x9 -> conv 5x3 stride 2x1 padding 1x2 4x5x11 identity -> batch norm gelu -> max pool 2x3 stride 2 "
        "padding 0x1 4x2x6 tanh -> avg pool 2x2 stride 1x2 4x1x3 -> conv 3x3 padding 1 3x1x3 relu -> 7 softmax, "
        "float32, 313 parameters)"
    )


def test_a_number_and_a_pair_of_it_are_equal_layers():
    for one, other in (
        (Conv2D(4, 3, 2, 1), Conv2D(4, (3, 3), [2, 2], (1, 1))),
        (Conv2D(4, 3, padding="same"), Conv2D(4, np.array([3, 3]), np.int64(1), 1)),
        (Conv2D(4, (5, 3), padding="same"), Conv2D(4, (5, 3), padding=(2, 1))),
        (MaxPool2D(), MaxPool2D(2, 2)),
        (MaxPool2D((2, 3)), MaxPool2D((2, 3), (2, 3), 0)),
        (AvgPool2D(3, padding=1), AvgPool2D(size=(3, 3), stride=None, padding=(1, 1))),
    ):
        assert one == other
        assert hash(one) == hash(other)
        assert repr(one) == repr(other)
    assert MaxPool2D() != AvgPool2D()
    with pytest.raises(FrozenInstanceError):
        MaxPool2D().size = 3


def test_the_layers_survive_json():
    for network in (Network.initialize((1, 28, 28), LENET), Network.initialize((2, 11, 9), ALL_KINDS)):
        text = json.dumps(to_json(network.layers))
        assert tuple(from_json(json.loads(text))) == network.layers
    assert {layer["kind"] for layer in to_json(ALL_KINDS)} == set(LAYERS)
    assert to_json([Conv2D(np.int64(4), np.int32(3))]) == to_json([Conv2D(4, 3)])
    damaged = to_json([Conv2D(4)])[0]
    for name, value in (("kernel", [3]), ("kernel", "33"), ("stride", 0), ("padding", [9, 9]), ("channels", 4.5)):
        with pytest.raises(SettingsError, match=name):
            from_json([{**damaged, name: value}])


def test_the_initial_weights_count_the_whole_patch():
    """The inputs of a unit are a patch, and its outputs are those that a pixel reaches."""
    for activation, variance in (("relu", 2 / (8 * 15)), ("tanh", 2 / (8 * 15 + 300 * 15))):
        network = Network.initialize((8, 9, 9), [Conv2D(300, (3, 5), activation=activation), Dense(2)], seed=1)
        assert network.weights[0].shape == (8, 3, 5, 300)
        assert network.weights[0].var() == pytest.approx(variance, rel=0.05)
        assert not network.biases[0].any()
    both = [Network.initialize((8, 9, 9), [Conv2D(5), Dense(2)], dtype=dtype) for dtype in ("float32", "float64")]
    np.testing.assert_array_equal(both[0].weights[0], both[1].weights[0].astype(np.float32))


def test_channels_are_normalised_not_pixels():
    network = Network.initialize((3, 6, 5), [BatchNorm(), Conv2D(4, 2, activation="identity"), BatchNorm(), Dense(2)])
    assert [weight.shape for weight in network.weights] == [(3,), (3, 2, 2, 4), (4,), (80, 2)]
    assert [array.shape for array in network.statistics] == [(3,), (3,), (4,), (4,)]
    assert network.decayed == [False, True, False, True]


def test_a_network_for_data_has_the_shape_of_its_images():
    images = np.zeros((4, 20), np.uint8)
    data = Dataset(images, np.arange(4) % 3, image_shape=(5, 4))
    assert Network.for_data(data, [Conv2D(2, 2), 7]).shapes == ((1, 5, 4), (2, 4, 3), (7,), (3,))
    assert Network.for_data(data, [MaxPool2D(2)]).shapes[0] == (1, 5, 4)
    assert Network.for_data(data, [BatchNorm(), 7]).shapes[0] == (20,)  # no layer needs images
    with pytest.raises(SettingsError, match=r"layers are conv:2x3, which need images, but data has rows of 20 inputs"):
        Network.for_data(Dataset(images, np.arange(4) % 3), [Conv2D(2)])


BAD = {
    "no channels": (lambda: Conv2D(0), "channels of a conv2d layer is 0"),
    "half a channel": (lambda: Conv2D(2.5), "channels of a conv2d layer is 2.5"),
    "kernel 0": (lambda: Conv2D(4, 0), "kernel of a conv2d layer is 0, expected one whole number or two, 1 or more"),
    "three sizes": (lambda: Conv2D(4, (3, 3, 3)), r"kernel of a conv2d layer is \(3, 3, 3\), expected"),
    "no size": (lambda: Conv2D(4, ()), r"kernel of a conv2d layer is \(\), expected"),
    "a set": (lambda: Conv2D(4, {3, 5}), "kernel of a conv2d layer is {3, 5}, expected"),
    "a truth value": (lambda: Conv2D(4, True), "kernel of a conv2d layer is True"),
    "text as kernel": (lambda: Conv2D(4, "35"), "kernel of a conv2d layer is '35'"),
    "stride 0": (lambda: Conv2D(4, 3, (1, 0)), r"stride of a conv2d layer is \(1, 0\)"),
    "negative padding": (lambda: Conv2D(4, 3, padding=-1), "padding of a conv2d layer is -1.*0 or more"),
    "a word": (lambda: Conv2D(4, 3, padding="valid"), "padding of a conv2d layer is 'valid', expected numbers or 's"),
    "padding": (lambda: Conv2D(4, 3, padding=3), r"padding of a conv2d layer is \(3, 3\), expected at most 2: less th"),
    "an activation": (lambda: Conv2D(4, activation="swish"), "activation of a conv2d layer is 'swish'"),
    "pool size": (lambda: MaxPool2D(0), "size of a max_pool2d layer is 0"),
    "pool stride": (lambda: AvgPool2D(2, 0), "stride of an avg_pool2d layer is 0"),
    "pool padding": (lambda: AvgPool2D(2, padding=1.0), "padding of an avg_pool2d layer is 1.0"),
    "a dense layer first": (
        lambda: Network.initialize((1, 8, 8), [Dense(4), MaxPool2D(), Dense(2)]),
        r"layer 2: inputs of shape \(4,\) come into max_pool2d 2x2, expected \(channels, height, width\)",
    ),
    "a small image": (
        lambda: Network.initialize((1, 4, 8), [Conv2D(4, 5), Dense(2)]),
        "layer 1: inputs of shape .*expected at least the size of its window: with padding they are 4 x 8",
    ),
    "a flat input": (
        lambda: Network.initialize((64,), [Conv2D(4), Dense(2)]),
        r"layer 1: inputs of shape \(64,\) come into conv2d 3x3, .*: give input_shape=\(1, height, width\)",
    ),
    "a size 0": (lambda: Network.initialize((1, 0, 8), [Conv2D(4), Dense(2)]), r"input_shape is \(1, 0, 8\)"),
    "a weight": (
        lambda: Network([np.ones((4, 1, 3, 3))], [np.ones(4)], layers=[Conv2D(4)], input_shape=(1, 5, 5)),
        r"layer 1: weight of shape \(4, 1, 3, 3\), expected \(1, 3, 3, 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_in_one_line(case):
    call, words = BAD[case]
    with pytest.raises(SettingsError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
