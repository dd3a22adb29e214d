"""Tests of the figures of probabilities, classes and several runs. They check the contents, not the pixels."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn import metrics

from fastnn import evaluation
from fastnn.errors import DataError, SettingsError
from fastnn.plots import ClassAveragesDisplay, ClassScoresDisplay, CoverageDisplay, ReliabilityDisplay, RunsDisplay
from fastnn.plots.confidence import wilson_interval
from fastnn.training.history import EpochRecord, History

NAN = float("nan")
PNG = b"\x89PNG"


@pytest.fixture
def predictions():
    """Labels (500,) drawn from random probabilities (500, 4), and the probabilities."""
    rng = np.random.default_rng(11)
    proba = rng.dirichlet(np.full(4, 0.3), 500)
    return np.array([rng.choice(4, p=row) for row in proba]), proba


def history(losses, validation=None):
    pairs = zip(losses, validation or [NAN] * len(losses), strict=True)
    rows = [(0.1, loss, 1 - loss / 4, held, 1 - held / 3, 1.0) for loss, held in pairs]
    return History([EpochRecord(epoch, *row) for epoch, row in enumerate(rows, 1)])


def test_the_reliability_diagram_shows_the_bins(predictions):
    display = ReliabilityDisplay.from_predictions(*predictions, n_bins=12)
    bins = evaluation.reliability(*predictions, n_bins=12)
    accuracy_ax, count_ax = display.axes_
    filled = bins.counts > 0
    line = next(line for line in accuracy_ax.lines if line.get_label() == "this network")
    np.testing.assert_array_equal(line.get_xdata(), bins.confidence[filled])
    np.testing.assert_array_equal(line.get_ydata(), bins.accuracy[filled])
    np.testing.assert_array_equal(accuracy_ax.lines[0].get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_array_equal([bar.get_height() for bar in count_ax.patches], bins.counts)
    assert bins.counts.sum() == 500
    np.testing.assert_allclose([bar.get_x() for bar in count_ax.patches], np.arange(12) / 12)
    assert accuracy_ax.get_title() == f"expected calibration error {100 * bins.error:.3g} %"
    assert accuracy_ax.get_xlim() == count_ax.get_xlim() == (0, 1)


def test_each_accuracy_has_its_interval():
    """Wilson's interval contains the rates p that a test of the normal approximation at p does not reject."""
    low, high = wilson_interval(np.array([1.0, 0.5, 0.0, 0.9]), np.array([1, 2, 30, 1000]))
    for accuracy, count, ends in zip((1.0, 0.5, 0.0, 0.9), (1, 2, 30, 1000), zip(low, high, strict=True), strict=True):
        rates = np.linspace(0, 1, 200_001)
        kept = rates[np.abs(accuracy - rates) <= 1.959964 * np.sqrt(rates * (1 - rates) / count)]
        np.testing.assert_allclose(ends, (kept.min(), kept.max()), atol=1e-5)
    display = ReliabilityDisplay.from_predictions([0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    (lines,) = display.axes_[0].collections
    np.testing.assert_allclose(
        [line[:, 0] for line in lines.get_segments()], np.array([[0.6] * 2, [0.7] * 2, [0.9] * 2])
    )


def test_a_network_that_is_always_certain_can_be_drawn():
    display = ReliabilityDisplay.from_predictions([0, 1, 1], [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert display.bins.error == 0
    assert display.png(30).startswith(PNG)


def test_the_mark_shows_the_largest_coverage_with_the_requested_accuracy(predictions):
    display = CoverageDisplay.from_predictions(*predictions, accuracy=0.9)
    best = evaluation.threshold_for(*predictions, 0.9)
    curve, wanted, mark = display.ax_.lines
    np.testing.assert_array_equal(curve.get_xdata(), display.curve.coverage)
    np.testing.assert_array_equal(curve.get_ydata(), display.curve.accuracy)
    np.testing.assert_array_equal(wanted.get_ydata(), [0.9, 0.9])
    np.testing.assert_array_equal(mark.get_xydata(), [[best.coverage, best.accuracy]])
    (text,) = display.ax_.texts
    assert text.get_text().startswith(f"90 % accuracy at {100 * best.coverage:.4g} % coverage:")
    assert f"{best.threshold:.4f}" in text.get_text()


def test_an_accuracy_out_of_reach_is_reported():
    display = CoverageDisplay.from_predictions([1, 1], [[0.9, 0.1], [0.2, 0.8]], accuracy=0.99)
    assert display.best is None
    assert [text.get_text() for text in display.ax_.texts] == ["no threshold reaches an accuracy of 99 %"]
    assert len(display.ax_.lines) == 2


def test_class_averages_are_the_means_of_the_images():
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (60, 12), dtype=np.uint8), rng.integers(0, 3, 60)
    display = ClassAveragesDisplay.from_samples(images, (3, 4), labels, ["nil", "one", "two", "none"])
    assert display.counts.sum() == 60
    for label, image in enumerate(display.ax_.images[:3]):
        rows = [images[i].astype(float) for i in range(60) if labels[i] == label]
        np.testing.assert_allclose(image.get_array(), (sum(rows) / len(rows)).reshape(3, 4))
    np.testing.assert_array_equal(display.ax_.images[3].get_array(), np.zeros((3, 4)))
    counted = zip(["nil", "one", "two", "none"], [*np.bincount(labels), 0], strict=True)
    assert [text.get_text() for text in display.ax_.texts] == [f"{name} ({n})" for name, n in counted]


def test_bad_samples_cannot_be_averaged():
    images = np.zeros((2, 12))
    for arguments, found in (
        ((images, (4, 4), [0, 1]), "expected 2 rows of 4 x 4 pixels"),
        ((images, (3, 4), [0]), r"images have shape \(2, 12\), expected 1 rows"),
        ((images, (3, 4), [0, 5], ["a", "b"]), "labels hold 5 at sample 1, expected 0 to 1"),
        ((images[:0], (3, 4), []), "labels are empty"),
    ):
        with pytest.raises(DataError, match=found):
            ClassAveragesDisplay.from_samples(*arguments)


def test_markers_show_precision_and_recall(predictions):
    labels, predicted = predictions[0], predictions[1].argmax(axis=1)
    display = ClassScoresDisplay.from_predictions(labels, predicted, ["a", "b", "$c$", "d"])
    precision, recall, _, support = metrics.precision_recall_fscore_support(labels, predicted)
    for name, expected in (("precision", precision), ("recall", recall)):
        line = next(line for line in display.ax_.lines if line.get_label() == name)
        np.testing.assert_allclose(line.get_xdata(), expected)
        np.testing.assert_array_equal(line.get_ydata(), range(4))
        low, high = display.ax_.get_xlim()
        assert all(low <= value <= high for value in expected)
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == [f"{name} ({count})" for name, count in zip(["a", "b", "$c$", "d"], support, strict=True)]
    assert display.ax_.yaxis_inverted()
    assert display.png(30).startswith(PNG)


def test_several_runs_share_the_panels():
    first, second = history([2.0, 1.0, 0.5], [2.1, 0.9, 1.2]), history([1.5, 1.25, 1.1, 1.0])
    display = RunsDisplay.from_histories({"a": first, "b": second})
    for ax, name in zip(display.axes_, ("loss", "accuracy"), strict=True):
        dots, line, unvalidated = ax.lines
        expected = (dots, first, name), (line, first, f"validation_{name}"), (unvalidated, second, name)
        for drawn, run, column in expected:
            np.testing.assert_array_equal(drawn.get_xdata(), range(1, len(run) + 1))
            np.testing.assert_array_equal(drawn.get_ydata(), run.column(column))
        assert dots.get_color() == line.get_color() != unvalidated.get_color()
        assert dots.get_linestyle() != line.get_linestyle()
        assert line.get_marker() != unvalidated.get_marker()
        assert line.get_markevery() == [1]  # best epochs: 2 of the first run, 4 of the second
        assert unvalidated.get_markevery() == [3]
        assert ax.get_yscale() == "linear"
    (legend,) = display.figure_.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b (training)"]
    assert legend.get_title().get_text() == "lines: validation, dots: training"


def test_any_run_name_is_shown_unchanged():
    names = ["_hidden", "$x", "c" * 90]
    display = RunsDisplay.from_histories({name: history([1.0, 0.5], [1.0, 0.6]) for name in names})
    (legend,) = display.figure_.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    assert display.png(30).startswith(PNG)
    display.figure_.draw_without_rendering()
    assert all(legend.get_window_extent().y1 <= ax.get_window_extent().y0 for ax in display.axes_)


def test_losses_of_different_magnitudes_get_a_logarithmic_scale():
    display = RunsDisplay.from_histories({"good": history([2.0, 0.01]), "bad": history([900.0, 800.0])})
    assert display.axes_[0].get_yscale() == "log"
    assert display.axes_[1].get_yscale() == "linear"
    assert RunsDisplay.from_histories({"a": history([0.0, 100.0])}).axes_[0].get_yscale() == "linear"


def test_twenty_runs_have_different_styles():
    display = RunsDisplay.from_histories({f"run {n}": history([1 / n, 0.5 / n]) for n in range(1, 21)})
    styles = {(line.get_color(), line.get_marker()) for line in display.axes_[0].lines}
    assert len(styles) == 20


def test_runs_are_drawn_into_the_given_axes_and_errors_name_the_run():
    figure = Figure()
    axes = figure.subplots(1, 2)
    display = RunsDisplay.from_histories({"a": history([1.0])}, ax=axes)
    assert display.axes_ == tuple(axes)
    assert not figure.legends
    assert axes[1].get_legend() is not None
    with pytest.raises(SettingsError, match="histories contain no run"):
        RunsDisplay.from_histories({})
    with pytest.raises(DataError, match="b: the history has 0 epochs"):
        RunsDisplay.from_histories({"a": history([1.0]), "b": History()})
    with pytest.raises(SettingsError, match="ax holds 1 Axes, expected two"):
        RunsDisplay.from_histories({"a": history([1.0])}, ax=axes[:1])
