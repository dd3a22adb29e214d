"""Tests of the labels and models that users give to displays: strings, frames, estimators, pipelines, data sets."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.datasets import load_digits as sklearn_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import DataError, Dataset, MLPClassifier, MLPRegressor, Network, SettingsError, train
from fastnn.backends import reference
from fastnn.plots import (
    ActivationsDisplay,
    ClassAveragesDisplay,
    ClassScoresDisplay,
    ConfusionDisplay,
    CoverageDisplay,
    DistributionsDisplay,
    LearningCurveDisplay,
    MistakesDisplay,
    ReliabilityDisplay,
    RunsDisplay,
    SamplesDisplay,
    WeightsDisplay,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
PICTURES = (MistakesDisplay, SamplesDisplay)
KINDS = {
    "strings": lambda y: np.array(list("zyx"))[y],
    "list": lambda y: [f"c{label}" for label in y],
    "floats": lambda y: y.astype(float),
    "bool": lambda y: y > 0,
    "1, 2, 3": lambda y: y + 1,
    "negative": lambda y: y - 1,
    "bytes": lambda y: np.array(list("abc"), "S1")[y],
    "Int64": lambda y: pd.Series(y, index=y[::-1] * 7).astype("Int64"),
    "boolean": lambda y: pd.Series(y > 0).astype("boolean"),
    "category": lambda y: pd.Series(np.array(list("abc"))[y]).astype("category"),
    "column": lambda y: y[:, None],
}


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(0)
    return rng.integers(0, 3, 60), rng.integers(0, 3, 60)


@pytest.fixture(scope="module")
def digits():
    X, y = sklearn_digits(return_X_y=True)
    return X[:400], np.array(["nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[y[:400]]


@pytest.fixture(scope="module")
def model(digits):
    return MLPClassifier((16,), max_iter=15, random_state=0, input_scale=1 / 16, image_shape=(8, 8)).fit(*digits)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_every_kind_are_counted_as_scikit_learn_does(numbers, kind):
    true, predicted = (KINDS[kind](each) for each in numbers)
    flat = [np.ravel(np.asarray(each).astype(str) if kind == "bytes" else each) for each in (true, predicted)]
    display = ConfusionDisplay.from_predictions(true, predicted)
    np.testing.assert_array_equal(display.confusion, metrics.confusion_matrix(*flat))
    names = [str(int(each)) if kind == "floats" else str(each) for each in np.unique(np.concatenate(flat))]
    assert display.class_names == names
    scores = ClassScoresDisplay.from_predictions(true, predicted)
    assert scores.class_names == names
    np.testing.assert_allclose([each.recall for each in scores.scores], metrics.recall_score(*flat, average=None))


def test_the_order_and_the_names_of_classes(numbers):
    letters = [np.array(list("abc"))[each] for each in numbers]
    expected = metrics.confusion_matrix(*letters, labels=["c", "a", "b", "d"])
    for arguments in ({"classes": ["c", "a", "b", "d"]}, {"class_names": ["c", "a", "b", "d"]}):
        display = ConfusionDisplay.from_predictions(*letters, **arguments)
        np.testing.assert_array_equal(display.confusion, expected)
        assert display.class_names == ["c", "a", "b", "d"]
    named = ConfusionDisplay.from_predictions(*letters, ["ant", "bee", "cat"])  # names of the sorted classes
    np.testing.assert_array_equal(named.confusion, metrics.confusion_matrix(*letters))
    assert named.class_names == ["ant", "bee", "cat"]
    # Files often hold the numbers of the classes as text.
    texts = ConfusionDisplay.from_predictions(numbers[0].astype(str), numbers[1], classes=[0, 1, 2])
    np.testing.assert_array_equal(texts.confusion, metrics.confusion_matrix(*numbers))


@pytest.mark.parametrize(
    ("labels", "predictions", "options", "found"),
    [
        (
            ["a", "b"],
            [0, 1],
            {},
            "labels and predictions are strings and numbers, expected both to be the same classes",
        ),
        (["a", "b"], ["a"], {}, "predictions hold 1 samples, expected 2"),
        (["a", None], ["a", "b"], {}, "labels hold None at sample 1, expected whole numbers, booleans or strings"),
        ([0, 1.5], [0, 1], {}, r"labels hold 1\.5 at sample 1, expected whole numbers"),
        ([0, np.nan], [0, 1], {}, "labels hold nan at sample 1"),
        (np.array(["a", 1], object), ["a", "b"], {}, "labels hold 1 and 'a', expected only numbers or only strings"),
        (["a", "x"], ["a", "b"], {"classes": ["a", "b"]}, "labels hold 'x' at sample 1, expected one of the classes"),
        (["a", "b"], ["a", "b"], {"classes": ["a", "a"]}, "expected all of them different"),
        ([[0, 1]], [0, 1], {}, r"labels have shape \(1, 2\)"),
        ([], [], {}, "labels are empty"),
        (pd.Series([1, None], dtype="Int64"), [1, 1], {}, "labels have a missing value at 1"),
    ],
)
def test_labels_that_cannot_be_classes_raise_a_one_line_error(labels, predictions, options, found):
    with pytest.raises(DataError, match=found) as caught:
        ConfusionDisplay.from_predictions(labels, predictions, **options)
    assert "\n" not in str(caught.value)


def test_strings_find_their_column_of_the_probabilities(digits, model):
    X, y = digits
    proba, columns = model.predict_proba(X), np.searchsorted(model.classes_, y)
    for display, name in ((ReliabilityDisplay, "bins"), (CoverageDisplay, "curve")):
        expected = getattr(display(columns, proba), name)
        for found in (display(y, proba), display(pd.Series(y), proba, classes=model.classes_)):
            for one, other in zip(getattr(found, name), expected, strict=True):
                np.testing.assert_array_equal(one, other)
    few = y[:3]
    with pytest.raises(
        DataError, match="labels hold 3 different strings, expected 10 as proba has columns; pass classes"
    ):
        ReliabilityDisplay(few, proba[:3])
    assert ReliabilityDisplay(few, proba[:3], classes=list(model.classes_)).bins.counts.sum() == 3
    with pytest.raises(DataError, match="classes holds 2 classes, expected 10"):
        CoverageDisplay(few, proba[:3], classes=["nil", "one"])
    names = MistakesDisplay(X, (8, 8), y, proba, model.classes_)
    assert names.n_chosen == np.sum(model.predict(X) != y)


def test_every_display_of_predictions_takes_an_estimator(digits, model):
    """A pipeline, a model of a file, a data set and a pair give the same as predictions computed by hand."""
    X, y = digits
    pairs = [
        (model, X, y),
        (model.to_model(), X, list(y)),
        (model.to_model(), Dataset(X, y), None),
        (model, (X, y), None),
    ]
    pairs.append((make_pipeline("passthrough", model), pd.DataFrame(X).to_numpy(), pd.Series(y, index=y)))
    expected = ConfusionDisplay.from_predictions(y, model.predict(X))
    bins = ReliabilityDisplay(np.searchsorted(model.classes_, y), model.predict_proba(X)).bins
    for estimator, *samples in pairs:
        display = ConfusionDisplay.from_estimator(estimator, *samples)
        np.testing.assert_array_equal(display.confusion, expected.confusion)
        assert display.class_names == expected.class_names == model.classes_.tolist()
        assert ClassScoresDisplay.from_estimator(estimator, *samples).class_names == expected.class_names
        np.testing.assert_array_equal(ReliabilityDisplay.from_estimator(estimator, *samples).bins.counts, bins.counts)
        assert CoverageDisplay.from_estimator(estimator, *samples).curve.coverage[-1] == 1
        for pictures in PICTURES:
            drawn = pictures.from_estimator(estimator, *samples, n=3)
            assert drawn.image_shape == (8, 8)
            assert drawn.class_names == expected.class_names
    assert SamplesDisplay.from_estimator(model, X, n=2).labels is None
    with pytest.raises(DataError, match="y is None, expected the true class of each sample"):
        ConfusionDisplay.from_estimator(model, X)
    with pytest.raises(DataError, match="labels hold 'ten' at sample 0, expected one of the classes"):
        ReliabilityDisplay.from_estimator(model, X[:1], ["ten"])
    with pytest.raises(SettingsError, match=r"found the path .model\.safetensors. "):
        ConfusionDisplay.from_estimator("model.safetensors", X, y)
    with pytest.raises(DataError, match="the model has no classes"):
        ConfusionDisplay.from_estimator(MLPRegressor(hidden_layer_sizes=(4,), max_iter=2).fit(X, np.arange(400)), X, y)


def test_classifiers_of_other_libraries_and_unknown_samples(digits, model):
    X, y = digits
    other = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X[:300], y[:300])
    display = ConfusionDisplay.from_estimator(other, X[300:], y[300:])
    np.testing.assert_array_equal(display.confusion, metrics.confusion_matrix(y[300:], other.predict(X[300:])))
    assert SamplesDisplay.from_estimator(other, X, y, image_shape=(8, 8), n=2).images.shape == (2, 64)
    unsure = MLPClassifier.from_model(model.to_model()).set_params(threshold=0.9)
    display = ConfusionDisplay.from_estimator(unsure, X, y)
    assert display.class_names == [*model.classes_, "unknown"]
    assert display.confusion[:, -1].sum() == np.sum(unsure.predict(X) == "unknown") > 0
    assert not display.confusion[-1].any()


def test_displays_of_networks_take_what_holds_one(digits, model):
    X, y = digits
    data, columns = Dataset(X, y, pixel_max=16), np.searchsorted(model.classes_, y)
    gradients = reference.loss_and_gradients(model.network_, X, columns).dweights
    for given in (model, model.to_model(), make_pipeline("passthrough", model)):
        np.testing.assert_array_equal(WeightsDisplay.from_estimator(given).images[3].ravel(), model.coefs_[0][:, 3])
        for image in (X[0], X[0].reshape(8, 8), X[:1]):
            activations = ActivationsDisplay.from_estimator(given, image).activations
            np.testing.assert_allclose(activations, model.transform(X[:1])[0], rtol=1e-5)
        for samples in ((X, y), (data,)):
            for found, expected in zip(
                DistributionsDisplay.from_estimator(given, *samples).gradients, gradients, strict=True
            ):
                np.testing.assert_array_equal(found, expected)
    network = Network.for_data(Dataset(X, columns), (8,))
    result = train(network, Dataset(X, columns, 16), epochs=2, learning_rate=0.1, backend="numpy")
    assert WeightsDisplay.from_network(result, (8, 8)).n_units == 8
    with pytest.raises(DataError, match="image_shape is None"):
        WeightsDisplay.from_network(result)
    with pytest.raises(SettingsError, match=r"found an? ndarray, expected a Model"):
        WeightsDisplay(X, (8, 8))


def test_a_standardised_network_is_drawn_with_raw_inputs(digits):
    X, y = digits
    model = MLPClassifier((16,), max_iter=3, random_state=0, standardize=True).fit(X, y)
    scaled = StandardScaler().fit_transform(X)
    expected = DistributionsDisplay(model.network_.core, scaled, np.searchsorted(model.classes_, y))
    found = DistributionsDisplay.from_estimator(model, X, y)
    for one, other in zip(found.gradients, expected.gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    activations = ActivationsDisplay(model, X[0], (8, 8)).activations
    np.testing.assert_allclose(activations, model.transform(X[:1])[0], atol=1e-5)


def test_curves_take_what_holds_a_history(digits, model):
    X, y = digits
    given = (model, model.history_, make_pipeline("passthrough", model))
    for each in given:
        np.testing.assert_array_equal(LearningCurveDisplay.from_estimator(each).loss, model.loss_curve_)
    data = Dataset(X, np.searchsorted(model.classes_, y), 16)
    result = train(Network.for_data(data, (8,)), data, epochs=2, learning_rate=0.1, backend="numpy")
    runs = RunsDisplay.from_histories({"estimator": model, "result": result}).runs
    assert runs["result"].loss.tolist() == result.history.column("loss").tolist()
    with pytest.raises(DataError, match="history is Model, expected a training history, its DataFrame, the result of"):
        LearningCurveDisplay.from_estimator(model.to_model())
    with pytest.raises(SettingsError, match="histories is list, expected a dict of the name of each run"):
        RunsDisplay.from_histories([result])


def test_class_averages_of_names_and_data_sets(digits):
    X, y = digits
    expected = [X[y == name].mean(axis=0).reshape(8, 8) for name in np.unique(y)]
    for arguments in ((X, (8, 8), y), (Dataset(X, y, image_shape=(8, 8)),)):
        display = ClassAveragesDisplay.from_samples(*arguments)
        np.testing.assert_allclose(display.means, expected)
        assert display.class_names == np.unique(y).tolist()
