"""Tests of explanations of networks for images: numbers, words and figure, against the reference and by hand."""

import json
import math

import numpy as np
import pytest

import fastnn
from fastnn.backends import layerwise, reference
from fastnn.errors import DataError
from fastnn.explanation import ExplainDisplay, explain
from fastnn.explanation.text import KINDS
from fastnn.network import ACTIVATIONS, LAYERS, AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D, Network
from tests.explanation.slopes import slopes

# Every kind of layer, with padding, strides and windows that overlap.
LAYERS_OF_ALL_KINDS = [
    Conv2D(3, (3, 2), stride=(1, 2), padding=(1, 0), activation="tanh"),
    BatchNorm("elu"),
    MaxPool2D(3, stride=2, padding=1),
    Conv2D(4, 2, activation="silu"),
    AvgPool2D(2, stride=1, padding=1, activation="logistic"),
    Dense(6, "tanh"),
    Dense(3),
]


@pytest.fixture
def network():
    rng = np.random.default_rng(7)
    network = Network.initialize((2, 6, 8), LAYERS_OF_ALL_KINDS, dtype="float64", seed=2)
    arrays = [[rng.normal(size=array.shape) for array in each] for each in (network.weights, network.biases)]
    return network.like(*arrays, [rng.uniform(0.2, 2, array.shape) for array in network.statistics])


@pytest.fixture
def image():
    return np.random.default_rng(8).normal(size=(2, 6, 8))


# --- The numbers -----------------------------------------------------------------------------------------------------
def test_every_number_has_the_shape_of_its_layer_and_equals_the_references(network, image):
    found = explain(network, image, 1)
    passes = layerwise.forward(reference, network, image.reshape(1, -1))
    for layer, each, before, after in zip(found.layers, passes, network.shapes, network.shapes[1:], strict=False):
        assert layer.inp.shape == ((math.prod(before),) if isinstance(layer.layer, Dense) else before)
        assert layer.sums.shape == layer.out.shape == layer.dsums.shape == after
        np.testing.assert_array_equal(layer.inp.ravel(), each.inp.ravel())
        np.testing.assert_array_equal(layer.sums, each.forward.sums[0])
        np.testing.assert_array_equal(layer.out, each.out[0])
    gradients = reference.loss_and_gradients(network, image.reshape(1, -1), np.array([1]))
    assert found.loss == gradients.loss
    pool = found.layers[2]
    assert (pool.weight, pool.bias, pool.dweight, pool.dbias) == (None, None, None, None)
    np.testing.assert_array_equal(pool.taps, passes[2].forward.saved[0])
    assert [layer.taps is None for layer in found.layers] == [number != 2 for number in range(7)]
    np.testing.assert_allclose(found.layers[0].dbias, found.layers[0].dsums.sum(axis=(1, 2)))


def test_gradients_and_contributions_areslopes(network, image):
    row = image.reshape(-1).copy()
    found = explain(network, row, 1)

    def loss():
        return -math.log(reference.predict_proba(network, row[None])[0, 1])

    def difference():
        logits = reference.predict_logits(network, row[None])[0]
        return logits[found.prediction] - logits[found.rival]

    np.testing.assert_allclose(found.contributions, row * slopes(difference, row), atol=1e-7)
    weighted = [layer for layer in found.layers if layer.weight is not None]
    for layer, weight, bias in zip(weighted, network.weights, network.biases, strict=True):
        np.testing.assert_allclose(layer.dweight, slopes(loss, weight), atol=1e-7)
        np.testing.assert_allclose(layer.dbias, slopes(loss, bias), atol=1e-7)


def test_json_contains_every_number(network, image):
    found = explain(network, image, 1)
    layers = json.loads(json.dumps(found.to_dict()))["layers"]
    np.testing.assert_array_equal(layers[0]["out"], found.layers[0].out)
    np.testing.assert_array_equal(layers[0]["dweight"], found.layers[0].dweight)
    np.testing.assert_array_equal(layers[2]["taps"], found.layers[2].taps)
    assert "dweight" not in layers[2]


def test_an_image_of_one_channel_comes_in_any_shape_and_names_its_pixels():
    network = Network.initialize((1, 4, 5), [Conv2D(2, 2), Dense(3)])
    image = np.arange(20.0).reshape(4, 5)
    texts = {str(explain(network, given)) for given in (image, image.ravel(), image[None], image.reshape(1, 20))}
    assert len(texts) == 1
    assert "pixel (3, 4)" in texts.pop()
    with pytest.raises(DataError, match=r"row has shape \(19,\), expected \(20,\)"):
        explain(network, image.ravel()[1:])


def test_two_classes_of_one_logistic_output_are_explained_as_two_logits():
    network = Network.initialize((1, 4, 4), [Conv2D(2, 2), MaxPool2D(), Dense(1)], output="logistic", seed=1)
    image = np.arange(16.0)
    found = explain(network, image, 1)
    np.testing.assert_allclose(found.proba[1], reference.predict_proba(network, image[None])[0, 0], rtol=1e-6)
    assert found.layers[0].dweight.shape == (1, 2, 2, 2)


# --- The text --------------------------------------------------------------------------------------------------------
def _steps(text):
    """Return the lines of each step, with single spaces, by the step's title."""
    blocks = text.split("\n\n")[1:]
    return {
        block.split(". ", 1)[1].split(":")[0]: [" ".join(line.split()) for line in block.splitlines()]
        for block in blocks
    }


def test_the_text_of_a_network_by_hand():
    """The filter [[1, 2], [0, -1]] sees [[3, 2], [1, 0]] at (1, 1): 3 + 4 + 0 - 0 = 7, and the bias makes it 7.5.

    At (0, 0), (0, 1) and (1, 0), its sums are 1 + 2 - 3 + 0.5 = 0.5, 1 + 2 - 2 + 0.5 = 1.5 and 1 + 6 - 1 + 0.5 = 6.5.
    """
    image = [[1.0, 1, 1], [1, 3, 2], [1, 1, 0]]
    weights = [np.array([[1.0, 2], [0, -1]]).reshape(1, 2, 2, 1), np.array([[1.0, 0]])]
    layers = [Conv2D(1, 2), MaxPool2D(), Dense(2)]
    network = Network(weights, [np.array([0.5]), np.zeros(2)], layers=layers, input_shape=(1, 3, 3))
    found = explain(network, image, 1)
    np.testing.assert_array_equal(found.layers[0].sums, [[[0.5, 1.5], [6.5, 7.5]]])
    assert found.logits.tolist() == [7.5, 0]
    steps = _steps(str(found))
    relu = ACTIVATIONS["relu"]
    assert steps["Layer 1, 1x3x3 -> conv 2x2 1x2x2 relu"] == [
        f"2. Layer 1, 1x3x3 -> conv 2x2 1x2x2 relu: sum = {KINDS['conv2d'].formula}, output = {relu.formula}.",
        KINDS["conv2d"].note,
        "Active outputs: 4 of 4; the others output 0.",
        "largest output (row, column) mean nonzero",
        "filter 0 7.5 (1, 1) 4 4 of 4",
        "Largest output: filter 0 (1, 1), which sees rows 1 to 2 and columns 1 to 2 of the input.",
        "patch weights",
        "3 2 1 2",
        "1 0 0 -1",
        "input weight product",
        "pixel (1, 1) 3 1 3",
        "pixel (1, 2) 2 2 4",
        "pixel (2, 1) 1 0 0",
        "pixel (2, 2) 0 -1 0",
        "bias 0.5",
        "sum of filter 0 (1, 1) 7.5",
        f"output = {relu.formula} = 7.5",
    ]
    assert steps["Layer 2, 1x2x2 -> max pool 2x2 1x1x1"][-4:] == [
        "window", "0.5 1.5", "6.5 7.5", "The largest number is 7.5, of channel 0 (1, 1).",
    ]  # fmt: skip
    assert "Layer 2, 1x2x2 -> max pool 2x2 1x1x1: output = largest number of the window." in str(found)
    assert "channel 0 (0, 0) 7.5 1 7.5" in steps["Layer 3, 1x1x1 -> 2 classes"]
    # The error of the only winner is that of its channel: proba - 0 times the weight 1. All others are 0.
    error = f"{found.proba[0]:.4g}"
    back = steps["Backward through layer 1"]
    assert "error = (error of layer 2, added over the windows that it won) * derivative," in back[0]
    assert back[1] == f"derivative = {relu.derivative_formula}."
    assert f"filter 0 (1, 1) {error}" in back
    assert "Nonzero errors: 1 of 4." in back[2]
    assert f"filter 0, channel 0 (0, 0) {3 * found.proba[0]:.4g}" in back


def test_the_text_of_every_kind_of_layer(network, image):
    assert KINDS.keys() == LAYERS.keys()
    text = str(explain(network, image, 1))
    assert max(map(len, text.splitlines()[1:])) <= 120
    steps = _steps(text)
    conv = "\n".join(steps["Layer 1, 2x6x8 -> conv 3x2 stride 1x2 padding 1x0 3x6x4 tanh"])
    assert "Of the 2 channels, channel " in conv
    assert "channel 1 (" in conv
    assert "Active" not in conv
    norm = steps["Layer 2, 3x6x4 -> batch norm elu"]
    assert norm[-3] == "input mean variance normal weight bias sum"
    name, (inp, mean, variance, normal, weight, bias, total) = norm[-2][:16], map(float, norm[-2].split()[4:])
    assert name.startswith("channel ")
    assert normal == pytest.approx((inp - mean) / math.sqrt(variance), rel=2e-3)
    assert total == pytest.approx(weight * normal + bias, rel=2e-3, abs=2e-3)
    mean_of_window = steps["Layer 5, 4x2x1 -> avg pool 2x2 stride 1 padding 1 4x3x2 logistic"]
    assert any(line.startswith("The mean is ") for line in mean_of_window)
    assert mean_of_window[-1].startswith(f"output = {ACTIVATIONS['logistic'].formula} = ")
    assert "Layer 6, 4x3x2 -> 6 tanh" in steps


def test_padding_is_no_number_of_the_image():
    """A number of the padding is a - and a factor 0, and it wins no window, even if all numbers are negative."""
    layers = [Conv2D(1, 3, stride=3, padding=1, activation="identity"), Dense(2)]
    network = Network(
        [np.ones((1, 3, 3, 1)), np.ones((1, 2))], [np.zeros(1), np.zeros(2)], layers=layers, input_shape=(1, 2, 2)
    )
    steps = _steps(str(explain(network, [[1.0, 2], [3, 4]])))
    conv = steps["Layer 1, 1x2x2 -> conv 3x3 stride 3 padding 1 1x1x1"]
    assert "Largest output: filter 0 (0, 0), which sees rows -1 to 1 and columns -1 to 1 of the input." in conv
    assert [conv[6], conv[7]] == ["- - - 1 1 1", "- 1 2 1 1 1"]
    assert "padding 0 1 0" in conv
    assert conv[-1] == "sum of filter 0 (0, 0) 10"
    layers = [Conv2D(1, 1, activation="identity"), MaxPool2D(2, 2, 1), Dense(2)]
    weights = [-np.ones((1, 1, 1, 1)), np.ones((4, 2))]
    network = Network(weights, [np.zeros(1), np.zeros(2)], layers=layers, input_shape=(1, 2, 2))
    pool = _steps(str(explain(network, [[1.0, 2], [3, 4]])))["Layer 2, 1x2x2 -> max pool 2x2 padding 1 1x2x2"]
    assert pool[-3:] == ["- -", "- -1", "The largest number is -1, of channel 0 (0, 0)."]


def test_a_last_layer_of_images_gives_classes():
    """Global average pooling: the channels of the last layer are the classes."""
    network = Network.initialize((1, 5, 5), [Conv2D(3, 2), AvgPool2D(4)], dtype="float64", seed=3)
    image = np.random.default_rng(4).random(25)
    found = explain(network, image, 2, class_names=["a", "b", "c"])
    np.testing.assert_allclose(found.logits, reference.predict_logits(network, image[None])[0])
    steps = _steps(str(found))
    last = steps["Layer 2, 3x4x4 -> avg pool 4x4 3x1x1 classes"]
    assert last[0].endswith("logit = mean of the window.")
    assert [line.split()[:2] for line in last[2:5]] == [["class", "a"], ["class", "b"], ["class", "c"]]
    assert f"Largest logit: class {'abc'[found.prediction]}, which sees rows 0 to 3" in "\n".join(last)
    assert "error = (error of layer 2 / window size, added over its windows) * derivative," in str(found)


# --- The figure ------------------------------------------------------------------------------------------------------
def test_the_figure_shows_filters_and_feature_maps(network, image):
    display = ExplainDisplay.from_network(network, image, 1)
    found, axes = display.explanation, display.axes_
    assert [name for name in axes if "layer" in name] == [
        "layer 1", "layer 1 filters", "layer 2", "layer 3", "layer 4", "layer 4 filters", "layer 5", "layer 6",
    ]  # fmt: skip
    for number in (1, 2, 3, 4, 5):
        pictures = [drawn.get_array() for drawn in axes[f"layer {number}"].images]
        np.testing.assert_array_equal(pictures, found.layers[number - 1].out)
    filters = [drawn.get_array() for drawn in axes["layer 1 filters"].images]
    np.testing.assert_array_equal(filters, network.weights[0].mean(axis=0).transpose(2, 0, 1))
    assert axes["layer 1 filters"].get_title() == "its filters, mean of 2 channels"
    assert axes["layer 3"].get_title() == "layer 3: max pool 3x3 stride 2 padding 1 3x3x2"
    np.testing.assert_allclose(axes["inputs"].images[0].get_array(), image.mean(axis=0))
    np.testing.assert_allclose(
        axes["contributions"].images[0].get_array(), found.contributions.reshape(2, 6, 8).sum(axis=0)
    )
    assert len(axes["layer 6"].patches) == 6


def test_of_many_maps_the_first_are_drawn():
    network = Network.initialize((1, 4, 4), [Conv2D(20, 3), Dense(2)])
    display = ExplainDisplay.from_network(network, np.ones(16))
    assert len(display.axes_["layer 1"].images) == len(display.axes_["layer 1 filters"].images) == 16
    assert display.axes_["layer 1"].get_title() == "layer 1: conv 3x3 20x2x2 relu, the first 16 filters"
    assert display.png(30).startswith(b"\x89PNG")


def test_the_command_explains_a_network_for_images(tmp_path, capsys):
    data = fastnn.load_digits()
    layers = [Conv2D(4, 3), MaxPool2D(), Dense(10)]
    network = Network.initialize((1, 8, 8), layers, input_scale=1 / 16)
    path, figure = tmp_path / "model.safetensors", tmp_path / "figure.png"
    fastnn.save(path, fastnn.Model.for_data(network, data))
    np.savez(tmp_path / "digits.npz", images=data.images[:5].reshape(5, 8, 8), labels=data.labels[:5])
    from fastnn.cli.command import main

    arguments = ["explain", str(path), "--row", "3", "--data", str(tmp_path / "digits.npz")]
    assert main([*arguments, "--out", str(figure)]) == 0
    out = capsys.readouterr().out
    assert "Layer 1, 1x8x8 -> conv 3x3 4x6x6 relu" in out
    assert figure.stat().st_size > 1000
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(
        np.array(found["layers"][0]["out"]), explain(network, data.images[3]).layers[0].out, rtol=1e-6
    )
