"""Models predict from whatever users have, and public functions take what is near to a model or a data set."""

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.datasets import load_diabetes, load_wine

import fastnn
from fastnn import DataError, Dataset, Model, Network, SettingsError
from fastnn.backends import layerwise, reference
from fastnn.evaluation.evaluate import evaluate_model
from fastnn.models import as_dataset, as_model, as_network
from fastnn.models.pictures import measured_pixels

WINE = load_wine(as_frame=True)
FRAME, NAMES = WINE.data, WINE.target_names[WINE.target]


@pytest.fixture(scope="module")
def wine():
    """A model of three cultivars, trained on a frame with string classes."""
    data = Dataset(FRAME, NAMES)
    network = Network.for_data(data, (16,), standardize=True)
    return Model.for_data(fastnn.train(network, data, epochs=40, learning_rate=0.1, backend="numpy").network, data)


@pytest.mark.parametrize("rows", [
    FRAME,
    FRAME.to_numpy(),
    FRAME.to_numpy().tolist(),
    FRAME.iloc[:, ::-1],
    FRAME.assign(number=range(len(FRAME)), name="a")[["name", *FRAME.columns[::-1], "number"]].drop(columns="name"),
    FRAME.set_index(FRAME.index[::-1]),
    Dataset(FRAME.iloc[:, ::-1]),
    Dataset(FRAME.to_numpy(), NAMES),
])  # fmt: skip
def test_rows_of_any_form_are_predicted_by_position_and_columns_by_name(wine, rows):
    assert wine.classes == ("class_0", "class_1", "class_2")
    assert wine.feature_names == tuple(FRAME.columns)
    predicted = wine.predict(rows)
    assert (predicted == NAMES).mean() > 0.95
    np.testing.assert_array_equal(predicted, wine.predict(FRAME))
    proba = wine.predict_proba(rows)
    np.testing.assert_array_equal(predicted, np.array(wine.classes)[proba.argmax(axis=1)])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_hidden_layers_of_any_kind_are_returned(wine, backend):
    """The reference is the whole chain, one layer after the other, on inputs that the test standardises."""
    layers = [fastnn.Dense(6, "tanh"), fastnn.BatchNorm("relu"), fastnn.Dense(3)]
    scaling = wine.network.standardization
    network = Network.initialize((13,), layers, input_scale=scaling)
    network = network.like(network.weights, network.biases, [np.full(6, 0.1), np.full(6, 2.0)])
    inputs = ((FRAME.to_numpy() - scaling.mean) * scaling.scale).astype(np.float32)
    passes = layerwise.forward(reference, network.core, inputs)
    model = Model(network, wine.classes, feature_names=wine.feature_names)
    for layer in (0, 1):
        for given in (layer, layer - 2):
            found = model.transform(FRAME.iloc[:, ::-1], given, backend=backend)
            np.testing.assert_allclose(found, passes[layer].out, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.transform(FRAME, backend=backend), found)
    for layer in (2, -3, 0.5, "0", True):
        with pytest.raises(SettingsError, match="expected a whole number, from -2 to 1"):
            model.transform(FRAME, layer)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_feature_maps_are_hidden_layers_as_flat_rows(backend):
    layers = [fastnn.MaxPool2D(), fastnn.Conv2D(3, 2, activation="tanh"), fastnn.AvgPool2D(), fastnn.Dense(4)]
    network = Network.initialize((1, 8, 6), layers, seed=1)
    images = np.random.default_rng(2).random((5, 48)).astype(np.float32)
    passes = layerwise.forward(reference, network, images)
    for layer in range(3):
        found = Model.for_network(network).transform(images, layer, backend=backend)
        np.testing.assert_allclose(found, passes[layer].out.reshape(5, -1), rtol=1e-5, atol=1e-6)


def test_one_row_is_a_table_of_one_row(wine):
    np.testing.assert_array_equal(wine.predict(FRAME.to_numpy()[5]), wine.predict(FRAME.iloc[5:6]))


@pytest.mark.parametrize(("rows", "message"), [
    (FRAME.drop(columns="ash"), "lacks the columns .*ash"),
    (FRAME.to_numpy()[:, :-1], "has 12 columns, expected 13"),
    (FRAME.replace({"ash": {FRAME.ash[3]: np.nan}}), "missing value at"),
    (np.where(FRAME.to_numpy() > 1000, np.inf, FRAME.to_numpy()), "NaN or infinity"),
    ([["a"] * 13], "expected numbers"),
    (np.zeros((2, 3, 4, 5, 6)), "shape"),
    ([[1.0] * 13, [2.0] * 12], "no array"),
    (pd.concat([FRAME, FRAME.ash], axis=1), "two columns of one name"),
    (csr_matrix(FRAME), "sparse matrix"),
    ("no-such-file.png", "is for rows of a table, not for pictures"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(wine, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        wine.predict(rows)
    assert "\n" not in str(caught.value)


def test_unknown_is_applied(wine):
    strict = Model(wine.network, wine.classes, unknown=(0.9999, "?"))
    assert {"?"} < set(strict.predict(FRAME)) <= {"?", *wine.classes}


def test_a_regression_predicts_numbers_and_has_no_probabilities():
    inputs, target = load_diabetes(return_X_y=True)
    data = Dataset(inputs, target / 100)
    network = Network.for_data(data, (8,))
    assert network.output == "identity"
    model = Model.for_data(fastnn.train(network, data, epochs=30, learning_rate=0.05, backend="numpy").network, data)
    assert model.predict(inputs).shape == (442,)
    scores = evaluate_model(model, data, "numpy")
    from sklearn import metrics

    predicted = model.predict(inputs, backend="numpy")
    assert scores.r2 == pytest.approx(metrics.r2_score(target / 100, predicted), abs=1e-6)
    assert scores.rmse == pytest.approx(metrics.root_mean_squared_error(target / 100, predicted), rel=1e-6)
    assert scores.mae == pytest.approx(metrics.mean_absolute_error(target / 100, predicted), rel=1e-6)
    with pytest.raises(DataError, match="no classes"):
        model.predict_proba(inputs)


def test_whole_numbers_are_targets_of_a_regression_and_not_numbers_of_classes():
    """Negative or large whole numbers are numbered as classes in a data set; a regression needs the numbers."""
    inputs, targets = np.array([[1.0], [2.0], [3.0]]), [-30, 250_000, 7]
    network = Network([[[2.0]]], [[1.0]], output="identity")
    loss, _ = fastnn.evaluate(network, (inputs, targets))
    assert loss == pytest.approx(0.5 * np.mean([(3 + 30) ** 2, (5 - 250_000) ** 2, (7 - 7) ** 2]))
    scores = evaluate_model(Model.for_network(network), Dataset(inputs, targets), "numpy")
    np.testing.assert_array_equal(scores.targets[:, 0], targets)
    result = fastnn.train(network, (inputs, targets), epochs=1, batch_size=None, learning_rate=1e-6, backend="numpy")
    assert result.history[0].loss == pytest.approx(loss)
    with pytest.raises(DataError, match="labels are texts, such as 'a', expected numbers"):
        fastnn.evaluate(network, (inputs, ["a", "b", "a"]))


# --- Pictures --------------------------------------------------------------------------------------------------------
FORMS = {
    "bytes": lambda pixels: pixels,
    "dark on light": lambda pixels: 255 - pixels,
    "fractions": lambda pixels: pixels / np.float32(255),
    "dark fractions": lambda pixels: 1 - pixels / np.float32(255),
    "from -1 to 1": lambda pixels: pixels / np.float32(127.5) - 1,
    "bits": lambda pixels: (pixels > 127).astype(np.uint8),
}


@pytest.mark.parametrize("form", FORMS)
def test_pictures_are_prepared_as_the_training_images_were(mnist, tmp_path, form):
    train, test = mnist
    change = FORMS[form]
    images = change(train.images[:6000])
    data = Dataset(images, train.labels[:6000], 255 if images.max() > 1 else 1, (28, 28))
    network = Network.for_data(data, (32,), standardize=form.startswith(("dark", "from")))
    trained = fastnn.train(network, data, epochs=8, learning_rate=0.05, batch_size=16, optimizer="sgd").network
    fastnn.save(tmp_path / "model.safetensors", trained, data=data)
    model = fastnn.load(tmp_path / "model.safetensors")
    pictures = [Image.fromarray(255 - test.images[row].reshape(28, 28)).resize((140, 140)) for row in range(60)]
    pictures[0].save(tmp_path / "digit.png")
    on_own_rows = (model.predict(change(test.images[:60])) == test.labels[:60]).mean()
    assert on_own_rows > 0.8
    assert (model.predict(pictures) == test.labels[:60]).mean() >= on_own_rows - 0.1
    assert model.predict(tmp_path / "digit.png") == model.predict(str(tmp_path / "digit.png")) == 7
    np.testing.assert_array_equal(model.predict(change(test.images[:9]).reshape(-1, 28, 28)), model.predict(
        change(test.images[:9])
    ))  # fmt: skip


@pytest.mark.parametrize(("form", "expected"), [
    ("bytes", (0, 255)), ("dark on light", (255, 0)), ("fractions", (0, 1)), ("dark fractions", (1, 0)),
    ("from -1 to 1", (-1, 1)), ("bits", (0, 1)),
])  # fmt: skip
def test_background_and_ink_are_measured(mnist_small, form, expected):
    images = FORMS[form](mnist_small[0])
    assert measured_pixels(Dataset(images, pixel_max=255 if images.max() > 1 else 1, image_shape=(28, 28))) == expected


def test_tables_have_no_pixels():
    assert measured_pixels(Dataset(FRAME)) is None


# --- What is near to a model or a data set ---------------------------------------------------------------------------
def test_labels_are_looked_up_in_the_classes_of_a_model(wine):
    """A file of two of the three cultivars, in another order of numbers, is evaluated by the names."""
    rows = NAMES != "class_0"
    data = Dataset(FRAME[rows], NAMES[rows])
    assert data.classes == ("class_1", "class_2")
    scores = evaluate_model(wine, data, "numpy")
    assert scores.accuracy == (wine.predict(FRAME[rows]) == NAMES[rows]).mean() > 0.9
    assert fastnn.evaluate(wine, data)[1] == scores.accuracy
    with pytest.raises(DataError, match="1 of 178 labels are none of the classes, such as 'owl' of sample 4"):
        fastnn.evaluate(wine, Dataset(FRAME, [*NAMES[:4], "owl", *NAMES[5:]]))


@pytest.mark.parametrize(("classes", "labels", "expected"), [
    (range(1, 10), [9, 1], [8, 0]),
    (["7", "3"], [3, 7], [1, 0]),
    ([7, 3], ["3", "7"], [1, 0]),
    ([0, 1], [True, False], [1, 0]),
    ([0, 1], ["True", "false"], [1, 0]),
    ([-1, 1], [1.0, -1.0], [1, 0]),
    (["b", "a"], ["a", "b"], [1, 0]),
])  # fmt: skip
def test_classes_are_found_by_value_or_text(classes, labels, expected):
    assert Dataset(np.zeros((2, 1)), labels).with_classes(classes).labels.tolist() == expected


def test_everything_near_is_taken(wine):
    classifier = fastnn.MLPClassifier((4,), solver="sgd", tol=1e9, random_state=0).fit(FRAME, NAMES)
    network = wine.network
    assert as_model(wine) is wine
    assert as_network(network) is network
    assert as_model(network).classes == (0, 1, 2)
    assert as_network(SimpleNamespace(network=network)) is network
    assert as_model(classifier).classes == wine.classes
    loss, accuracy = fastnn.evaluate(classifier, (FRAME, NAMES))
    assert accuracy == pytest.approx(classifier.score(FRAME, NAMES))
    assert np.isfinite(loss)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fastnn.evaluate("model.safetensors", (FRAME, NAMES)), "the path 'model.safetensors' .load it first"),
    (lambda: fastnn.evaluate(Network, (FRAME, NAMES)), "found the class Network"),
    (lambda: fastnn.evaluate(None, (FRAME, NAMES)), "found a NoneType"),
    (lambda: fastnn.train(Network.initialize((13, 3)), FRAME), "data is a DataFrame, expected a Dataset or a pair"),
    (lambda: fastnn.train(Network.initialize((13, 3)), (FRAME,)), "data is a tuple of 1, expected"),
    (lambda: as_dataset(fastnn.load_mnist()), "pair of data sets"),
])  # fmt: skip
def test_anything_else_is_named_with_what_to_give(call, message):
    with pytest.raises(SettingsError, match=message):
        call()


def test_models_can_be_pickled(wine):
    copy = pickle.loads(pickle.dumps(wine))
    np.testing.assert_array_equal(copy.predict(FRAME), wine.predict(FRAME))


def _words():
    data = fastnn.load_digits()
    return data.images, np.array(list("abcdefghij"))[data.labels]


def test_pairs_of_images_and_labels_are_data_sets_everywhere():
    images, words = _words()
    pair, data = (images[:200].tolist(), words[:200].tolist()), fastnn.Dataset(images[:200], words[:200])
    network = fastnn.Network.for_data(pair, (8,), seed=0)
    np.testing.assert_array_equal(network.weights[0], fastnn.Network.for_data(data, (8,), seed=0).weights[0])
    assert fastnn.Model.for_data(network, pair).classes == data.classes
    np.testing.assert_array_equal(fastnn.hold_out(pair, 0.1)[1].labels, fastnn.hold_out(data, 0.1)[1].labels)
    searches = [fastnn.find_learning_rate(network, each, backend="numpy").suggestion for each in (pair, data)]
    assert searches[0] == searches[1]


def test_gradients_of_a_model_are_checked_with_its_labels():
    images, words = _words()
    network = fastnn.Network.for_data((images, words), (8,), seed=0)
    model = fastnn.Model.for_data(network, (images, words))
    expected = fastnn.check_gradients(network, images[:4], np.array([0, 1, 2, 3]), backend="numpy", n_weights=50)
    assert fastnn.check_gradients(model, images[:4], words[:4], backend="numpy", n_weights=50) == expected


def test_what_is_no_history_is_refused():
    for value in (fastnn.MLPClassifier(), "run", None):
        with pytest.raises(fastnn.SettingsError, match="expected a History or the result of train"):
            fastnn.diagnose(value)


def test_a_network_is_not_evaluated_on_other_classes():
    """A network has no names for its classes, so the numbers of five of ten names would mean others."""
    images, words = _words()
    network = fastnn.Network.for_data((images, words), (8,), seed=0)
    some = words > "e"
    with pytest.raises(fastnn.DataError, match="5 classes, the network 10"):
        fastnn.evaluate(network, (images[some], words[some]), backend="numpy")
    model = fastnn.Model.for_data(network, (images, words))
    assert fastnn.evaluate(model, (images[some], words[some]), backend="numpy")[1] >= 0
