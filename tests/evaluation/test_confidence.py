"""Tests of calibration and thresholds, against scikit-learn and cases worked by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from fastnn.errors import DataError, SettingsError
from fastnn.evaluation import Threshold, calibration_error, coverage_curve, probability_text, reliability, threshold_for


@pytest.fixture
def overconfident():
    """Labels (500,) int64, and probabilities (500, 4) float32 that are more extreme than those the labels follow."""
    rng = np.random.default_rng(11)
    proba = rng.dirichlet(np.full(4, 0.3), 500)
    labels = np.array([rng.choice(4, p=row**0.7 / np.sum(row**0.7)) for row in proba])
    return labels, proba.astype(np.float32)


@pytest.mark.parametrize("n_bins", [1, 10, 15])
def test_bins_are_those_of_scikit_learn(overconfident, n_bins):
    labels, proba = overconfident
    bins = reliability(labels, proba, n_bins)
    correct, confidence = proba.argmax(axis=1) == labels, proba.max(axis=1).astype(float)
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=n_bins)
    filled = bins.counts > 0
    np.testing.assert_allclose(bins.accuracy[filled], accuracy, rtol=1e-12)
    np.testing.assert_allclose(bins.confidence[filled], mean_confidence, rtol=1e-12)
    assert np.isnan(bins.accuracy[~filled]).all()
    assert bins.counts.sum() == 500
    assert bins.edges.tolist() == np.linspace(0, 1, n_bins + 1).tolist()


def test_calibration_error_by_hand():
    # Two bins. Their common edge 0.5 belongs to the first. The gaps are |1/2 - 0.4375| and |2/3 - 0.75|.
    proba = [
        [0.375, 0.375, 0.25],  # predicted 0, correct
        [0.5, 0.5, 0.0],  # predicted 0 (the first of equals), wrong
        [0.625, 0.375, 0.0],  # correct
        [0.0, 0.75, 0.25],  # correct
        [0.0, 0.125, 0.875],  # wrong
    ]
    bins = reliability([0, 1, 0, 1, 0], proba, n_bins=2)
    assert bins.counts.tolist() == [2, 3]
    np.testing.assert_allclose(bins.confidence, [0.4375, 0.75])
    np.testing.assert_allclose(bins.accuracy, [1 / 2, 2 / 3])
    assert calibration_error([0, 1, 0, 1, 0], proba, 2) == pytest.approx(2 / 5 * 0.0625 + 3 / 5 * (0.75 - 2 / 3))


def test_confident_correct_answers_are_calibrated_and_confident_wrong_ones_are_not():
    assert calibration_error([0, 1], [[1, 0], [0, 1]]) == 0
    assert calibration_error([1, 0], [[1, 0], [0, 1]]) == 1
    assert calibration_error([0], [[1.00005, 0]]) == 0  # rounding, as in a softmax


def test_coverage_by_hand_counts_equal_confidences_together():
    proba = [[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.6, 0.4]]  # correct, correct, wrong, correct
    curve = coverage_curve([0, 1, 1, 0], proba)
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.6]
    assert curve.coverage.tolist() == [0.25, 0.75, 1.0]
    assert curve.accuracy.tolist() == [1.0, 2 / 3, 0.75]


def test_each_point_of_the_curve_agrees_with_its_threshold(overconfident):
    labels, proba = overconfident
    curve = coverage_curve(labels, proba)
    predicted, confidence = proba.argmax(axis=1), proba.max(axis=1)
    assert len(curve.thresholds) == len(np.unique(confidence))
    for threshold, coverage, accuracy in list(zip(*curve, strict=True))[::17]:
        answered = confidence >= threshold
        assert coverage == answered.mean()
        assert accuracy == pytest.approx(np.mean(predicted[answered] == labels[answered]), abs=1e-15)
    assert curve.coverage[-1] == 1


def test_the_threshold_has_the_largest_coverage_that_reaches_the_accuracy(overconfident):
    labels, proba = overconfident
    predicted, confidence = proba.argmax(axis=1), proba.max(axis=1)
    found = threshold_for(labels, proba, 0.85)
    assert found is not None
    answered = confidence >= found.threshold
    assert found.coverage == answered.mean()
    assert found.accuracy == pytest.approx(np.mean(predicted[answered] == labels[answered]))
    assert found.accuracy >= 0.85
    assert 0.1 < found.coverage < 0.9
    for lower in np.unique(confidence[confidence < found.threshold]):
        assert np.mean((predicted == labels)[confidence >= lower]) < 0.85


def test_the_threshold_can_answer_all_or_one_or_none():
    proba = [[0.9, 0.1], [0.2, 0.8], [0.8, 0.2], [0.6, 0.4]]
    assert threshold_for([0, 1, 1, 0], proba, 0.75) == Threshold(0.6, 1.0, 0.75)
    assert threshold_for([0, 1, 1, 0], proba, 1) == Threshold(0.9, 0.25, 1.0)
    assert threshold_for([1, 1, 1, 0], proba, 0.9) is None  # the most confident answer is wrong


@pytest.mark.parametrize("accuracy", [0, -0.5, 1.01, float("nan"), "0.9", True])
def test_an_invalid_accuracy_is_an_error(accuracy):
    with pytest.raises(SettingsError, match=r"accuracy is .*, expected a number above 0, at most 1"):
        threshold_for([0], [[0.9, 0.1]], accuracy)


def test_invalid_input_is_named_in_one_line():
    for function in (reliability, calibration_error, coverage_curve):
        with pytest.raises(DataError, match="labels are empty"):
            function([], np.empty((0, 3)))
        with pytest.raises(DataError, match="labels hold 2 at sample 1, expected 0 to 1"):
            function([0, 2], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(SettingsError, match="n_bins is 0, expected a whole number, 1 or more"):
        reliability([0], [[0.9, 0.1]], n_bins=0)


@pytest.mark.parametrize(("proba", "digits", "text"), [
    (1.0, 1, "100.0 %"), (1 - 1e-9, 1, "> 99.9 %"), (0.9995, 1, "> 99.9 %"), (0.9994, 1, "99.9 %"),
    (0.0005, 1, "0.1 %"), (0.0004, 1, "< 0.1 %"), (0.0, 1, "< 0.1 %"), (0.5, 1, "50.0 %"),
    (0.995, 0, "> 99 %"), (0.9949, 0, "99 %"), (0.004, 0, "< 1 %"), (0.99999, 2, "> 99.99 %"), (0.98761, 2, "98.76 %"),
])  # fmt: skip
def test_a_probability_is_never_rounded_to_certainty(proba, digits, text):
    assert probability_text(proba, digits) == text
    assert probability_text(np.float32(proba), digits)[-1] == "%"
