"""Tests of network.js in headless Chromium: every number is compared with the reference backend's."""

import json

import numpy as np
import pytest

import fastnn
from fastnn.backends import layerwise, reference
from fastnn.evaluation import occlusion
from fastnn.models import Model
from fastnn.network import ACTIVATIONS, LOSSES
from fastnn.pages.assets import read_asset
from fastnn.pages.page import ACTIVATION_NAMES, _stored_arrays, as_stored, network_chain

TOLERANCE = 1e-5  # of probabilities, as promised
SETUP = """
const stored = %s, decode = (arrays) => arrays.map(Network.decode);
const chain = { ...stored, standardization: stored.standardization && {
  mean: Network.decode(stored.standardization.mean), scale: Network.decode(stored.standardization.scale) } };
window.network = Network.create(chain, {
  weights: decode(stored.weights), biases: decode(stored.biases), statistics: decode(stored.statistics) });
window.Network = Network;
"""


@pytest.fixture
def load(browser, tmp_path):
    """A function that opens a page with a network, and returns one that runs a script in it."""

    def load(network, weights="float32"):
        stored = json.dumps({**network_chain(network), **_stored_arrays(network, weights)})
        page = tmp_path / "network.html"
        page.write_text(f"<!DOCTYPE html><script>{read_asset('network.js')}{SETUP % stored}</script>", "utf-8")
        browser.get(page.as_uri())
        assert browser.get_log("browser") == []
        return browser.execute_script

    return load


def with_random_arrays(network, seed=0):
    """Return the network with random biases and statistics: all zeros and ones would hide errors."""
    rng = np.random.default_rng(seed)
    biases = [rng.normal(0, 0.1, bias.shape).astype(np.float32) for bias in network.biases]
    statistics = [rng.uniform(0.5, 1.5, each.shape).astype(np.float32) for each in network.statistics]
    return network.like(network.weights, biases, statistics)


LENET = [
    fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Conv2D(16, 5), fastnn.MaxPool2D(), fastnn.Dense(120),
    fastnn.Dense(84), fastnn.Dense(10),
]  # fmt: skip
IMAGE_LAYERS = [
    fastnn.Conv2D(4, (3, 5), stride=(2, 1), padding=(1, 2), activation="tanh"), fastnn.BatchNorm("leaky_relu"),
    fastnn.MaxPool2D((3, 2), stride=2, padding=1), fastnn.Conv2D(5, 2, padding=1, activation="elu"),
    fastnn.AvgPool2D((2, 3), stride=(1, 2), padding=(1, 0), activation="silu"), fastnn.Dense(7, "gelu"),
    fastnn.BatchNorm(), fastnn.Dense(6, "logistic"), fastnn.Dense(3),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["dense", "convolutional"])
def test_probabilities_of_a_thousand_test_images_are_those_of_the_reference(kind, mnist, load):
    train, test = mnist
    layers = [64] if kind == "dense" else LENET[:-1]
    start = fastnn.Network.for_data(train, layers)
    config = {"epochs": 1, "learning_rate": 0.1, "batch_size": 64}
    network = fastnn.train(start, train.take(np.arange(10_000)), **config).network
    images = test.images[:1000]
    found = load(network)(
        "return arguments[0].map((row) => Array.from(Network.forward(network, row).outputs))", images.tolist()
    )
    expected = reference.predict_proba(network, images)
    assert np.abs(np.array(found) - expected).max() < TOLERANCE
    assert (np.argmax(found, axis=1) == test.labels[:1000]).mean() > 0.85  # a network that has learned


@pytest.mark.parametrize("layers", [LENET, IMAGE_LAYERS], ids=["lenet", "all kinds"])
def test_every_layer_computes_what_the_reference_computes(layers, load):
    network = with_random_arrays(fastnn.Network.initialize((1, 28, 28), layers, input_scale=1 / 255))
    row = np.random.default_rng(1).integers(0, 256, 784)
    steps = load(network)(
        "return Network.forward(network, arguments[0]).steps.map(({inp, sums, out, taps}) =>"
        " [inp, sums, out, taps || []].map((each) => Array.from(each)))",
        row.tolist(),
    )
    passes = layerwise.forward(reference, network, row[None].astype(np.float32))
    assert len(steps) == len(passes)
    for found, expected in zip(steps, passes, strict=True):
        for name, values in zip(("inp", "sums", "out"), found, strict=False):
            wanted = (expected.forward.sums if name == "sums" else getattr(expected, name)).ravel()
            np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())
        if found[3]:
            np.testing.assert_array_equal(found[3], expected.forward.saved[0].ravel())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_its_derivative_are_those_of_the_table(activation, load):
    """A network of one input and one unit computes the activation; its gradient is the derivative."""
    assert activation in ACTIVATION_NAMES
    layers = [fastnn.Dense(1, activation), fastnn.Dense(2)]
    network = fastnn.Network([[[1.0]], [[1.0, 0.0]]], [[0.0], [0.0, 0.0]], layers=layers, input_shape=(1,))
    sums = np.concatenate([np.linspace(-9, 9, 181), [-40.0, -1e-3, 1e-3, 4.0, 4.1, 40.0]])
    found = load(network)(
        "return arguments[0].map((sum) => { const pass = Network.forward(network, [sum]);"
        " return [pass.logits[0], Network.backward(network, pass, Float64Array.of(1, 0))[0]]; })",
        sums.tolist(),
    )
    row = ACTIVATIONS[activation]
    out = row.forward(sums)
    derivative = row.derivative(sums if row.needs == "input" else out) * np.ones_like(sums)
    np.testing.assert_allclose(np.array(found)[:, 0], out, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.array(found)[:, 1], derivative, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("output", LOSSES)
def test_every_output_is_that_of_the_table(output, load):
    network = with_random_arrays(fastnn.Network.initialize((5, 4, 3), output=output))
    rows = np.random.default_rng(2).normal(0, 3, (20, 5)).astype(np.float32)
    found = load(network)(
        "return arguments[0].map((row) => Array.from(Network.forward(network, row).outputs))", rows.tolist()
    )
    np.testing.assert_allclose(found, reference.predict_proba(network, rows), rtol=1e-5, atol=1e-6)


def test_a_standardization_is_applied(load):
    rng = np.random.default_rng(3)
    scale = fastnn.Standardization(rng.normal(100, 20, 6), rng.uniform(0.1, 2, 6))
    network = with_random_arrays(fastnn.Network.initialize((6, 4, 3), input_scale=scale))
    rows = rng.normal(100, 20, (20, 6))
    found = load(network)(
        "return arguments[0].map((row) => Array.from(Network.forward(network, row).outputs))", rows.tolist()
    )
    expected = Model.for_network(network).predict_proba(rows, backend="numpy")
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize("layers", [None, LENET, IMAGE_LAYERS], ids=["dense", "lenet", "all kinds"])
def test_contributions_are_those_of_explain(layers, load, mnist):
    if layers is None:
        network = fastnn.Network.initialize((784, 32, 10), input_scale=1 / 255)
    else:
        network = fastnn.Network.initialize((1, 28, 28), layers, input_scale=1 / 255)
    network, run = with_random_arrays(network), None
    for row, label in zip(mnist[1].images[:5], (0, 1, 2, 0, 1), strict=True):
        expected = fastnn.explain(network, row, label)
        run = run or load(network)
        found = run(
            "const pass = Network.forward(network, arguments[0]);"
            "return Array.from(Network.contributions(network, pass, arguments[1], arguments[2]))",
            row.tolist(), expected.prediction, expected.rival,
        )  # fmt: skip
        wanted = expected.contributions
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
        assert np.abs(wanted).max() > 0


def test_contributions_of_a_single_logistic_output_are_those_of_explain(load):
    network = with_random_arrays(fastnn.Network.initialize((9, 4, 1), output="logistic"))
    rows = np.random.default_rng(4).normal(size=(6, 9)).astype(np.float32)
    run, predictions = load(network), set()
    for row in rows:
        expected = fastnn.explain(network, row)
        predictions.add(expected.prediction)
        found = run(
            "const pass = Network.forward(network, arguments[0]);"
            "return [Array.from(Network.contributions(network, pass, arguments[1], arguments[2])),"
            " Array.from(Network.probabilities(pass.outputs, 2))]",
            row.tolist(), expected.prediction, expected.rival,
        )  # fmt: skip
        np.testing.assert_allclose(found[0], expected.contributions, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found[1], expected.proba, atol=1e-6)
    assert predictions == {0, 1}


@pytest.mark.parametrize(("patch", "step"), [(5, 1), (4, 3)])
def test_hidden_patches_are_those_of_occlusion(patch, step, load, mnist):
    network = with_random_arrays(fastnn.Network.initialize((784, 16, 10), input_scale=1 / 255))
    row, label = mnist[1].images[7], 4
    found = load(network)(
        "const work = Network.occlusion(network, arguments[0], arguments[1], { shape: [28, 28], classCount: 10,"
        " background: 20, patch: arguments[2], step: arguments[3] });"
        "let result, last = 0; while (!(result = work.next()).done) last = result.value;"
        "return [Array.from(result.value.byPixel), result.value.probability, last]",
        row.tolist(), label, patch, step,
    )  # fmt: skip
    options = {"patch": patch, "step": step, "background": 20, "image_shape": (28, 28), "backend": "numpy"}
    expected = occlusion(network, row, label, **options)
    np.testing.assert_allclose(np.reshape(found[0], (28, 28)), expected.by_pixel, atol=1e-6)
    assert found[1] == pytest.approx(expected.probability, abs=1e-6)
    assert found[2] == 1
    assert np.abs(expected.by_pixel).max() > 1e-3


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_stored_weights_are_read_as_python_rounds_them(weights, load):
    layers = [fastnn.Conv2D(3, 3), fastnn.BatchNorm(), fastnn.MaxPool2D(), fastnn.Dense(10)]
    network = with_random_arrays(fastnn.Network.initialize((1, 8, 8), layers))
    small = [
        weight * np.float32(1e-5) if weight.ndim == 4 else weight for weight in network.weights
    ]  # subnormal halves
    network = network.like(small, network.biases)
    found = load(network, weights)(
        "return network.links.filter(({weight}) => weight).map(({weight}) => Array.from(weight))"
    )
    stored = as_stored(network, weights)
    for values, weight, original in zip(found, stored.weights, network.weights, strict=True):
        np.testing.assert_array_equal(np.array(values, np.float32), weight.ravel())
        if weights == "float32" or weight.ndim == 1:
            np.testing.assert_array_equal(weight, original)
        else:
            largest = np.abs(original).reshape(-1, original.shape[-1]).max(axis=0)
            # Half a step of the scale of a unit, or half a unit in the last place of a half.
            bound = largest / 254 if weights == "int8" else np.maximum(np.abs(original) * 2**-11, 2**-25)
            assert (np.abs(weight - original) <= bound * (1 + 1e-5)).all()
            assert (weight != original).any()
