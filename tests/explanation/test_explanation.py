"""Tests of explanations: the numbers equal the reference backend's, and the text and the figure show them."""

import dataclasses
import json
import math
import re
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import Dataset, MLPClassifier, load_digits, train
from fastnn.backends import layerwise, reference
from fastnn.errors import DataError, SettingsError
from fastnn.explanation import ExplainDisplay, Explanation, explain
from fastnn.network import ACTIVATIONS, BatchNorm, Dense, Network
from tests.explanation.slopes import slopes
from tests.parity import assert_same_bits, make_inputs, make_network

# Inputs are halved. For the inputs 2 and -2, unit 0 sums to 1.5, unit 1 to -1 (output 0); the logits are 3 and 1.
HAND = Network([[[2.0, -1.0], [0.5, 0.0]], [[2.0, 1.0], [7.0, 5.0]]], [[0.0, 0.0], [0.0, -0.5]], input_scale=0.5)


def _case(sizes, kind, dtype, activation):
    rng = np.random.default_rng(5)
    return make_network(rng, sizes, kind, dtype, activation), make_inputs(rng, (1, sizes[0]), kind)[0]


# --- The numbers -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("sizes", "kind"), [((784, 128, 10), "uint8"), ((64, 32, 8, 3), "float64"), ((6, 1), "float64")]
)
def test_every_number_equals_the_reference_backends(sizes, kind, activation, dtype):
    network, row = _case(sizes, kind, dtype, activation)
    label = sizes[-1] // 2
    found = explain(network, row, label)
    passes = layerwise.forward(reference, network, row[None])
    gradients = reference.loss_and_gradients(network, row[None], np.array([label]))
    for layer, expected, *parameters in zip(found.layers, passes, gradients.dweights, gradients.dbiases, strict=True):
        arrays = expected.inp[0], expected.forward.sums[0], expected.out[0], *parameters
        assert_same_bits([layer.inp, layer.sums, layer.out, layer.dweight, layer.dbias], arrays)
    assert [layer.activation for layer in found.layers] == [activation] * (len(sizes) - 2) + ["identity"]
    logits, proba = (predict(network, row[None])[0] for predict in (reference.predict_logits, reference.predict_proba))
    shifted = logits - logits.max()
    assert_same_bits([found.logits, found.shifted, found.exp, found.proba], [logits, shifted, np.exp(shifted), proba])
    np.testing.assert_array_equal(found.exp / np.dtype(dtype).type(found.total), found.proba, strict=True)
    assert abs(found.proba.sum() - 1) <= 4 * np.finfo(dtype).eps
    assert found.loss == gradients.loss
    assert found.loss == pytest.approx(-math.log(found.proba[label]), rel=1e-4, abs=1e-6)
    assert found.prediction == found.proba.argmax()


def test_a_network_computed_by_hand():
    found = explain(HAND, [2, -2], label=1)
    first, last = found.layers
    np.testing.assert_array_equal([first.inp, first.sums, first.out], [[1, -1], [1.5, -1], [1.5, 0]])
    np.testing.assert_array_equal([found.logits, found.shifted], [[3, 1], [0, -2]])
    proba = 1 / (1 + math.exp(-2))
    np.testing.assert_allclose(found.proba, [proba, 1 - proba])
    assert found.loss == pytest.approx(-math.log(1 - proba))
    np.testing.assert_allclose(last.dsums, [proba, -proba])
    np.testing.assert_allclose(last.dweight, [[1.5 * proba, -1.5 * proba], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(first.dsums, [2 * proba - proba, 0], atol=1e-15)
    np.testing.assert_allclose(first.dweight, [[proba, 0], [-proba, 0]], atol=1e-15)
    # z0 - z1 = (2 - 1) * unit 0 + 0.5 and unit 0 = 2 * 1 + 0.5 * -1: the inputs contribute 2 and -0.5, the biases 0.5.
    np.testing.assert_array_equal(found.contributions, [2, -0.5])


def _mixed(activation):
    """A chain with two batch normalisations whose running averages are not those of a new network, and a row."""
    rng = np.random.default_rng(6)
    layers = [Dense(6, "identity"), BatchNorm(activation), Dense(5, activation), BatchNorm(), Dense(4)]
    network = Network.initialize((7,), layers, dtype="float64", seed=3)
    arrays = [[rng.normal(size=array.shape) for array in each] for each in (network.weights, network.biases)]
    return network.like(*arrays, [rng.uniform(0.2, 2, array.shape) for array in network.statistics]), rng.normal(size=7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradients_of_every_layer_and_the_contributions_are_slopes_of_the_prediction(activation):
    network, row = _mixed(activation)
    found = explain(network, row, 2)

    def loss():
        return -math.log(reference.predict_proba(network, row[None])[0, 2])

    def difference():
        logits = reference.predict_logits(network, row[None])[0]
        return logits[found.prediction] - logits[found.rival]

    assert found.loss == pytest.approx(loss())
    np.testing.assert_allclose(found.contributions, row * slopes(difference, row), atol=1e-7)
    for layer, weight, bias in zip(found.layers, network.weights, network.biases, strict=True):
        np.testing.assert_allclose(layer.dweight, slopes(loss, weight), atol=1e-7)
        np.testing.assert_allclose(layer.dbias, slopes(loss, bias), atol=1e-7)


def test_the_rival_is_the_label_if_the_prediction_is_wrong_else_the_second_most_probable_class():
    network = Network([np.zeros((2, 4))], [[0.0, 3.0, 1.0, 2.0]])
    assert (explain(network, [1, 1]).prediction, explain(network, [1, 1]).rival) == (1, 3)
    assert explain(network, [1, 1], 1).rival == 3
    assert explain(network, [1, 1], 0).rival == 0
    one_class = explain(Network([np.ones((2, 1))], [[1.0]]), [3, 4], 0)
    assert (one_class.rival, one_class.loss, one_class.proba.tolist()) == (None, 0.0, [1.0])
    assert one_class.contributions.tolist() == [3, 4]
    assert "gradient of the logit of class 0. The logit is 8." in str(one_class)


def test_an_explanation_without_a_label_has_no_loss_and_no_gradients():
    found = explain(HAND, [2, -2])
    assert (found.label, found.loss) == (None, None)
    assert all(layer.dsums is None and layer.dweight is None and layer.dbias is None for layer in found.layers)
    assert "Loss" not in str(found)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.label = 1


def test_json_contains_every_number():
    network, row = _case((30, 20, 10), "uint8", "float32", "relu")
    found = explain(network, row, 3)
    read = json.loads(json.dumps(found.to_dict()))
    for layer, numbers in zip(found.layers, read["layers"], strict=True):
        for name in ("inp", "sums", "out", "dsums", "dweight", "dbias"):
            np.testing.assert_array_equal(np.float32(numbers[name]), getattr(layer, name))
    np.testing.assert_array_equal(np.float32(read["softmax"]["probabilities"]), found.proba)
    np.testing.assert_array_equal(np.float32(read["contributions"]["values"]), found.contributions)
    assert (read["prediction"], read["label"], read["loss"]) == (found.prediction, 3, found.loss)
    assert "dsums" not in explain(network, row).to_dict()["layers"][0]


@pytest.mark.parametrize(("row", "label", "options", "message"), [
    ([1.0], None, {}, r"row has shape \(1,\), expected \(2,\), one sample for Network\(2 -> 2 relu"),
    ([[1.0, 2.0], [3.0, 4.0]], None, {}, r"row has shape \(2, 2\)"),
    (["a", "b"], None, {}, "inputs have dtype <U1, expected numbers"),
    ([1.0, math.nan], None, {}, "row contains NaN or infinity"),
    *(([1.0, 2.0], label, {}, f"label is {label}, expected a whole number from 0 to 1") for label in (2, -1, 0.5)),
    ([1.0, 2.0], 0, {"class_names": ["a"]}, "class_names has 1 names, expected 2"),
    ([1.0, 2.0], 0, {"image_shape": (2, 2)}, "expected 1 rows of 2 x 2 pixels"),
])  # fmt: skip
def test_a_bad_argument_raises_a_one_line_error(row, label, options, message):
    with pytest.raises(DataError, match=message) as caught:
        explain(HAND, row, label, **options)
    assert "\n" not in str(caught.value)


def test_fastnn_explain_stays_a_function_after_the_package_is_imported():
    import fastnn.explanation as package

    assert fastnn.explain is package.explain
    assert isinstance(fastnn.explain(HAND, [1, 2]), Explanation)


# --- The text --------------------------------------------------------------------------------------------------------
def _steps(text):
    """Return the lines of each step, by the step's title."""
    blocks = text.split("\n\n")[1:]
    assert [int(block.split(".")[0]) for block in blocks] == list(range(1, len(blocks) + 1))
    return {block.split(". ", 1)[1].split(":")[0]: block.splitlines() for block in blocks}


def test_the_text_of_a_tiny_network_shows_every_number():
    text = str(explain(HAND, [2, -2], label=1, class_names=["no", "yes"]))
    steps = [[" ".join(line.split()) for line in lines] for lines in _steps(text).values()]
    assert len(steps) == 8
    assert steps[0][2:] == ["input 0 2 1", "input 1 -2 -1"]
    assert steps[1][1:10] == [
        "Active units: 1 of 2; the others output 0.", "sum output", "unit 0 1.5 1.5", "unit 1 -1 0",
        "input weight product", "input 0 1 2 2", "input 1 -1 0.5 -0.5", "bias 0", "sum of unit 0 1.5",
    ]  # fmt: skip
    assert steps[2][-5:] == [
        "input weight product", "unit 0 1.5 1 1.5", "unit 1 0 5 0", "bias -0.5", "logit of class yes 1",
    ]  # fmt: skip
    assert steps[3][2:] == [
        "no 3 0 1 0.8808", "yes 1 -2 0.1353 0.1192", "sum of all 1.135335 1", "Predicted class: no.",
    ]  # fmt: skip
    assert steps[4][2:] == ["input 0 2 input 1 -0.5", "sum 2 sum -0.5", "The biases contribute the rest, 0.5."]
    assert "-log(0.1192029) = 2.127" in steps[5][0]
    assert steps[5][1].endswith("log(1.135335) - (-2).")
    assert steps[6][3:5] == ["class no 0.8808", "class yes -0.8808"]
    assert steps[6][-4:-2] == ["unit 0 -> class no 1.5 0.8808 1.321", "unit 0 -> class yes 1.5 -0.8808 -1.321"]
    assert steps[7][-4:] == [
        "input 0 -> unit 0 1 0.8808 0.8808", "input 0 -> unit 1 1 0 0",
        "input 1 -> unit 0 -1 0.8808 -0.8808", "input 1 -> unit 1 -1 0 0",
    ]  # fmt: skip


def test_the_text_of_a_large_network_is_short_and_shows_the_largest_entries():
    network, row = _case((784, 128, 10), "uint8", "float32", "relu")
    found = explain(network, row, 3, image_shape=(28, 28))
    text = found.to_text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert len(lines) < 110
    steps = _steps(text)
    hidden = steps["Layer 1, 784 -> 128 relu"]
    assert f"784 numbers ({np.count_nonzero(row)} nonzero)" in text
    assert f"Active units: {np.sum(found.layers[0].out > 0)} of 128" in hidden[1]
    table = [line.split() for line in hidden if line.startswith("   unit")]
    largest = np.argsort(-found.layers[0].out)[:6]
    assert [(int(words[1]), float(words[3])) for words in table] == [
        (unit, float(f"{found.layers[0].out[unit]:.4g}")) for unit in largest
    ]
    # The products that are shown, the total of the others, and the bias add up to the sum.
    products = [line.split() for line in hidden if "pixel (" in line]
    assert len(products) == 6
    for _, y, x, inp, weight, product in products:
        pixel = int(y.strip("(,")) * 28 + int(x.strip(")"))
        assert float(inp) == pytest.approx(row[pixel] / 255, rel=1e-3)
        assert float(weight) == pytest.approx(network.weights[0][pixel, largest[0]], rel=1e-3)
        assert float(product) == pytest.approx(float(inp) * float(weight), rel=2e-3)
    *terms, total = [float(line.split()[-1]) for line in hidden[-9:]]
    assert hidden[-1].split()[:4] == ["sum", "of", "unit", str(largest[0])]
    assert sum(terms) == pytest.approx(total, abs=0.005)
    classes = [line.split() for line in steps["Softmax"] if line.split()[0].isdigit()]
    np.testing.assert_allclose([float(words[1]) for words in classes], found.logits, rtol=1e-3)
    np.testing.assert_allclose([float(words[4]) for words in classes], found.proba, rtol=1e-3)
    assert list(steps)[-2:] == ["Backward through layer 2", "Backward through layer 1"]


def test_the_text_of_every_layer_has_its_formulas_and_numbers():
    """Unit 0 is normalised by hand: (1.5 - 0.5) / sqrt(4) = 0.5; its sum is 3 * 0.5 - 0.25 = 1.25."""
    layers = [Dense(2, "identity"), BatchNorm("leaky_relu", epsilon=1e-12), Dense(2)]
    weights, biases = [np.eye(2), np.array([3.0, 1.0]), np.eye(2)], [np.zeros(2), np.array([-0.25, 0.0]), np.zeros(2)]
    statistics = [np.array([0.5, 0.0]), np.array([4.0, 1.0])]
    network = Network(weights, biases, layers=layers, statistics=statistics)
    found = explain(network, [1.5, -2.0], 1)
    steps = _steps(str(found))
    hidden = [" ".join(line.split()) for line in steps["Layer 2, 2 -> 2 batch norm leaky_relu"]]
    row = ACTIVATIONS["leaky_relu"]
    assert hidden[0].endswith(f"sum = weight * normal + bias, output = {row.formula}.")
    assert "running averages" in hidden[1]
    assert hidden[2:] == [
        "input mean variance normal weight bias sum output",
        "unit 0 1.5 0.5 4 0.5 3 -0.25 1.25 1.25",
        "unit 1 -2 0 1 -2 1 0 -2 -0.02",
    ]
    back = [" ".join(line.split()) for line in steps["Backward through layer 2"]]
    assert back[1] == f"derivative = {row.derivative_formula}."
    error = found.layers[1].dsums[0]
    assert back[-2] == f"unit 0 0.5 {error:.4g} {0.5 * error:.4g}"
    assert "error = (error of layer 2 * its weights / sqrt(variance + epsilon))" in steps["Backward through layer 1"][0]
    # The logits are 1.25 and -0.02. Their difference is 1.27 = 1.5 * 3 / 2 + 2 * 0.01 - 1.
    assert "biases and running means contribute the rest, -1" in str(found)
    assert found.to_dict()["layers"][1]["kind"] == "batch_norm"
    display = ExplainDisplay(found).plot()
    assert display.axes_["layer 2"].get_title() == "layer 2: batch norm leaky_relu"


def test_no_number_is_shown_as_minus_zero():
    assert "-0" not in str(explain(Network([[[-1.0]]], [[2.0]]), [0.0])).split()


def test_of_many_classes_the_most_probable_are_shown():
    network, row = _case((30, 20, 40), "uint8", "float32", "tanh")
    found = explain(network, row)
    lines = _steps(str(found))["Softmax"]
    shown = [int(line.split()[0]) for line in lines if line.split()[0].isdigit()]
    assert shown == np.argsort(-found.proba)[:6].tolist()
    assert "biases" not in str(found)  # with tanh, the contributions do not add up to the difference


# --- The figure ------------------------------------------------------------------------------------------------------
def _bars(ax, horizontal=False):
    return np.array([bar.get_width() if horizontal else bar.get_height() for bar in ax.patches])


def _display(label=3, **options):
    network, row = _case((784, 32, 16, 10), "uint8", "float32", "relu")
    return ExplainDisplay.from_network(network, row, label, image_shape=(28, 28), **options)


def test_the_figure_draws_the_numbers_of_the_explanation():
    display = _display()
    found, axes = display.explanation, display.axes_
    assert list(axes) == ["inputs", "contributions", "logits", "probabilities", "layer 1", "layer 2"]
    np.testing.assert_array_equal(axes["inputs"].images[0].get_array().ravel(), found.layers[0].inp)
    drawn = axes["contributions"].images[0]
    np.testing.assert_array_equal(drawn.get_array().ravel(), found.contributions)
    largest = np.abs(found.contributions).max()
    assert drawn.get_clim() == (-largest, largest)
    np.testing.assert_array_equal(_bars(axes["logits"], horizontal=True), found.logits)
    np.testing.assert_array_equal(_bars(axes["probabilities"], horizontal=True), found.proba)
    for number in (1, 2):
        ax, out = axes[f"layer {number}"], found.layers[number - 1].out
        np.testing.assert_array_equal(_bars(ax), out)
        assert ax.get_title() == f"layer {number}: relu, {np.sum(out > 0)} of {len(out)} units active"
    labels = [text.get_text() for text in axes["logits"].get_yticklabels()]
    assert labels == ["0", "1", "2", "3 (label)", *map(str, range(4, 10))]
    predicted, rival = found.prediction, found.rival
    assert axes["contributions"].get_title() == f"for {predicted} (blue), for {rival} (vermilion)"
    heading = display.figure_.get_suptitle()
    assert re.fullmatch(rf"predicted {predicted} \(.*label 3, loss {found.loss:.4g}", heading)
    colours = [bar.get_facecolor() for bar in axes["logits"].patches]
    assert len({colours[predicted], colours[rival]}) == 2
    assert len(set(colours)) == 3


def _overlap(texts):
    boxes = [text.get_window_extent() for text in texts if text.get_visible() and text.get_text()]
    return any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_texts_in_the_figure_do_not_overlap():
    display = _display(class_names=[f"class number {i}" for i in range(10)])
    display.figure_.draw_without_rendering()
    for ax in display.axes_.values():
        assert not _overlap([*ax.get_yticklabels(), *ax.get_xticklabels(), *ax.texts])
    # The class names appear once, beside the logits.
    assert not any(text.get_visible() and text.get_text() for text in display.axes_["probabilities"].get_yticklabels())
    assert not _overlap(display.axes_[name].title for name in ("inputs", "contributions", "logits"))


def test_inputs_without_an_image_shape_are_drawn_as_bars():
    display = ExplainDisplay.from_network(HAND, [2, -2], class_names=["$", "$^$"])
    np.testing.assert_array_equal(_bars(display.axes_["inputs"]), [1, -1])
    np.testing.assert_array_equal(_bars(display.axes_["contributions"]), [2, -0.5])
    assert (display._repr_png_() or b"").startswith(b"\x89PNG")


def test_the_panels_are_drawn_into_a_given_figure():
    figure = Figure()
    display = _display(figure=figure)
    assert display.figure_ is figure
    assert set(display.axes_.values()) <= set(figure.axes)
    assert display._repr_png_() is None


def test_networks_without_hidden_layers_with_one_class_or_many_are_drawn(tmp_path):
    for sizes in ((4, 1), (4, 62)):
        network = Network.initialize(sizes)
        display = ExplainDisplay.from_network(network, np.ones(4), label=0)
        assert list(display.axes_) == ["inputs", "contributions", "logits", "probabilities"]
        assert display.save(tmp_path / "figure.png").stat().st_size > 1000
    assert len(display.axes_["logits"].get_yticks()) == 21
    assert not display.axes_["probabilities"].texts


# --- Models, estimators and results of training ----------------------------------------------------------------------
def test_everything_that_holds_a_network_is_explained_alike():
    data = load_digits()
    images, labels = data.images[:200], data.labels[:200]
    estimator = MLPClassifier((16,), max_iter=2, random_state=0, input_scale=1 / 16, image_shape=(8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(images, np.array(list("abcdefghij"))[labels])
    expected = explain(estimator.network_, images[3], label=3, class_names="abcdefghij", image_shape=(8, 8))
    model = estimator.to_model()
    for given in (estimator, model, make_pipeline("passthrough", estimator)):
        for row in (images[3], images[3:4], images[3].reshape(8, 8), images[3].tolist()):
            assert str(explain(given, row, "d")) == str(expected)
    result = train(estimator.network_, Dataset(images, labels), epochs=1, learning_rate=1e-9, backend="numpy")
    assert explain(result, images[3]).prediction == expected.prediction
    with pytest.raises(DataError, match=r"label is 'k', expected one of the classes \['a', 'b'"):
        explain(estimator, images[3], "k")
    with pytest.raises(SettingsError, match="found a tuple of 2, expected a Model, a Network"):
        explain((images, labels), images[3])
    display = ExplainDisplay.from_estimator(estimator, images[3], "d")
    assert display.figure_.get_suptitle().endswith(f"label d, loss {expected.loss:.4g}")


def test_a_standardised_network_is_explained_from_raw_inputs():
    """The steps start from (given - mean) * scale, and the names of the columns name the inputs."""
    X, y = load_wine(return_X_y=True, as_frame=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = MLPClassifier((8,), max_iter=3, random_state=0, standardize=True, dtype="float64").fit(X, y)
    row, shuffled = X.iloc[5].to_numpy(), X.iloc[5:6, ::-1]
    found = explain(estimator, shuffled, label=0)
    np.testing.assert_allclose(found.layers[0].inp, StandardScaler().fit(X).transform(X)[5])
    np.testing.assert_allclose(found.proba, estimator.predict_proba(X.iloc[5:6])[0])
    np.testing.assert_array_equal(found.row, row)
    text = str(found)
    assert "1. Inputs: 13 numbers (13 nonzero), standardised: (given - mean) * scale." in text
    assert "alcohol" in text
    assert "proline" in text
    assert "input 0" not in text
    assert [label.get_text() for label in ExplainDisplay(found).plot().axes_["inputs"].get_xticklabels()] == [
        *X.columns
    ]


def test_two_classes_of_an_estimator_are_explained_as_two_logits():
    X, y = load_wine(return_X_y=True)
    X, y = X[y < 2], np.array(["no", "yes"])[y[y < 2]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator = MLPClassifier((8,), max_iter=3, random_state=0, standardize=True, dtype="float64").fit(X, y)
    for row, label in zip(X[::30], y[::30], strict=True):
        found = explain(estimator, row, label)
        np.testing.assert_allclose(found.proba, estimator.predict_proba(row[None])[0], rtol=1e-12)
        assert found.class_names[found.prediction] == estimator.predict(row[None])[0]
        dense = Dataset(row[None], np.array([[float(label == "yes")]]))
        loss = reference.loss_and_gradients(estimator.network_, dense.images, dense.labels)
        np.testing.assert_allclose(found.loss, loss.loss)
        np.testing.assert_allclose(found.layers[0].dweight, loss.dweights[0])
