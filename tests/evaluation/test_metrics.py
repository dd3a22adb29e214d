"""Tests of metrics, mistakes and argument checks, against scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from sklearn import metrics

from fastnn.errors import DataError, SettingsError
from fastnn.evaluation import ClassScores, accuracy, check_images, check_names, confusion, mistakes, per_class


@pytest.fixture
def predicted():
    """True and predicted classes, (500,) each."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 7, 500)
    return labels, np.where(rng.random(500) < 0.7, labels, rng.integers(0, 7, 500))


def test_confusion_has_true_rows_and_predicted_columns():
    matrix = confusion([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 0, 2])
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 1, 0], [2, 0, 1]])
    assert matrix.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_confusion_agrees_with_scikit_learn(predicted, dtype):
    labels, predictions = predicted[0].astype(dtype), predicted[1].astype(dtype)
    np.testing.assert_array_equal(confusion(labels, predictions), metrics.confusion_matrix(labels, predictions))


def test_confusion_of_uint8_labels_does_not_overflow():
    labels = np.arange(200, dtype=np.uint8)
    np.testing.assert_array_equal(confusion(labels, labels[::-1]), np.eye(200, dtype=int)[::-1])


def test_confusion_has_zeros_for_classes_that_do_not_occur():
    np.testing.assert_array_equal(confusion([1], [0], n_classes=3), [[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(confusion([], [], n_classes=2), np.zeros((2, 2)))


def test_accuracy_agrees_with_scikit_learn(predicted):
    assert accuracy(*predicted) == pytest.approx(metrics.accuracy_score(*predicted), abs=1e-15)
    assert accuracy([1, 0, 2, 2], [1, 1, 2, 0]) == 0.5
    assert type(accuracy([1], [1])) is float


def test_per_class_agrees_with_scikit_learn(predicted):
    scores = per_class(confusion(*predicted))
    found = [[score.precision, score.recall, score.f1, score.support] for score in scores]
    expected = metrics.precision_recall_fscore_support(*predicted, zero_division=0)
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-12)
    assert [score.label for score in scores] == list(range(7))


def test_per_class_by_hand_with_classes_that_are_never_predicted_or_never_true():
    matrix = [[3, 1, 0, 0], [2, 4, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert per_class(matrix) == [
        ClassScores(0, 3 / 6, 3 / 4, 6 / 10, 4),
        ClassScores(1, 4 / 5, 4 / 6, 8 / 11, 6),
        ClassScores(2, 0.0, 0.0, 0.0, 1),
        ClassScores(3, 0.0, 0.0, 0.0, 0),
    ]


def test_mistakes_come_worst_first_and_equal_ones_in_order():
    proba = [
        [0.875, 0.125, 0.0],  # correct
        [0.625, 0.375, 0.0],  # wrong by 0.25
        [0.0, 0.75, 0.25],  # wrong by 0.75
        [0.0, 0.375, 0.625],  # wrong by 0.625
        [0.1875, 0.0, 0.8125],  # wrong by 0.625, although more confident than sample 2
        [0.5, 0.5, 0.0],  # a tie goes to the first class: wrong by 0
    ]
    found = mistakes([0, 1, 0, 0, 0, 1], proba)
    np.testing.assert_array_equal(found, [2, 3, 4, 1, 5])
    assert found.dtype == np.int64


def test_mistakes_are_all_wrong_samples_with_decreasing_margins():
    rng = np.random.default_rng(8)
    proba = rng.dirichlet(np.ones(4), 300).astype(np.float32)
    labels = rng.integers(0, 4, 300)
    found = mistakes(labels, proba)
    assert set(found) == set(np.flatnonzero(proba.argmax(axis=1) != labels))
    margins = [float(proba[row].max()) - float(proba[row, labels[row]]) for row in found]
    assert margins == sorted(margins, reverse=True)


def test_no_mistakes_give_an_empty_index_array():
    found = mistakes([1, 0], [[0.2, 0.8], [0.7, 0.3]])
    assert found.shape == (0,)
    assert found.dtype == np.int64
    assert mistakes([], np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize(("labels", "predictions", "found"), [
    ([0, 1], [0], "predictions hold 1 samples, expected 2"),
    ([[0], [1]], [0, 1], r"labels have shape \(2, 1\)"),
    ([0, 1], [[0.1, 0.9], [0.3, 0.7]], r"predictions have shape \(2, 2\)"),
    ([0.0, 1.0], [0, 1], "labels are float64, expected integers"),
    ([0, -1], [0, 1], "labels hold -1 at sample 1, expected 0 or more"),
    ([0, 1], np.array([2**63, 1], np.uint64), "predictions hold 9223372036854775808 at sample 0"),
    ([[0, 1], [0]], [0, 1], "labels is ragged"),
])  # fmt: skip
def test_invalid_predictions_are_named_in_one_line(labels, predictions, found):
    for function in (confusion, accuracy):
        with pytest.raises(DataError, match=found) as caught:
            function(labels, predictions)
        assert "\n" not in str(caught.value)


def test_classes_out_of_range_are_named():
    with pytest.raises(DataError, match="predictions hold 3 at sample 1, expected 0 to 2"):
        confusion([0, 1], [0, 3], n_classes=3)
    with pytest.raises(DataError, match="largest class is 4000000, expected below 10000"):
        confusion([0, 4_000_000], [0, 0])
    with pytest.raises(DataError, match="labels hold 2 at sample 0, expected 0 to 1"):
        mistakes([2], [[0.5, 0.5]])


def test_no_samples_are_an_error():
    with pytest.raises(DataError, match="labels are empty"):
        accuracy([], [])
    with pytest.raises(DataError, match="labels are empty"):
        confusion([], [])


@pytest.mark.parametrize("n_classes", [0, -1, 2.5])
def test_an_invalid_number_of_classes_is_an_error(n_classes):
    with pytest.raises(SettingsError, match=f"n_classes is {n_classes}, expected a whole number, 1 or more"):
        confusion([0], [0], n_classes=n_classes)


@pytest.mark.parametrize(("matrix", "found"), [
    ([[1, 2, 3], [4, 5, 6]], r"shape \(2, 3\)"),
    ([1, 2], r"shape \(2,\)"),
    ([[0.5, 0.5], [0.0, 1.0]], "float64, expected integer counts"),
    ([[1, -2], [0, 1]], "holds -2"),
    (np.empty((0, 0), int), r"shape \(0, 0\)"),
])  # fmt: skip
def test_an_invalid_confusion_matrix_is_an_error(matrix, found):
    with pytest.raises(DataError, match=found):
        per_class(matrix)


@pytest.mark.parametrize(("proba", "found"), [
    ([0.5, 0.5], r"shape \(2,\), expected \(samples, classes\)"),
    ([[0.5, np.nan], [0.5, 0.5]], "sample 0, class 1 is nan, expected a probability"),
    ([[0.5, 0.5], [7.0, -7.0]], "sample 1, class 0 is 7, expected a probability"),
    ([["a", "b"], ["c", "d"]], "expected floats"),
    ([[0.5, 0.5]], "labels hold 2 samples, expected 1"),
    (np.empty((2, 0)), r"shape \(2, 0\)"),
])  # fmt: skip
def test_invalid_probabilities_are_an_error(proba, found):
    with pytest.raises(DataError, match=found):
        mistakes([0, 1], proba)


def test_class_names_and_images_must_fit():
    assert check_names(None, 3) == ["0", "1", "2"]
    assert check_images(np.zeros((5, 6)), (2, 3), 5) == (2, 3)
    with pytest.raises(DataError, match="class_names has 2 names, expected 3"):
        check_names(["a", "b"], 3)
    with pytest.raises(DataError, match=r"images have shape \(5, 6\), expected 5 rows of 2 x 2 pixels"):
        check_images(np.zeros((5, 6)), (2, 2), 5)
