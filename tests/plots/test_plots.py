"""Tests of the figures of runs, confusion and samples. They check the contents, not the pixels."""

from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from fastnn import evaluation
from fastnn.errors import DataError, FileError, SettingsError
from fastnn.plots import ConfusionDisplay, LearningCurveDisplay, MistakesDisplay, SamplesDisplay
from fastnn.training.history import EpochRecord, History

PNG = b"\x89PNG"
LABELS = np.array([0, 1, 2, 1, 0, 2])
PROBA = np.array([
    [0.90, 0.10, 0.00],
    [0.30, 0.60, 0.10],
    [0.70, 0.10, 0.20],  # true 2, predicted 0, ahead by 0.50
    [0.01, 0.01, 0.98],  # true 1, predicted 2, ahead by 0.97: the worst mistake
    [1.00, 0.00, 0.00],
    [0.002, 0.001, 0.997],
])  # fmt: skip
IMAGES = np.random.default_rng(2).integers(0, 256, (6, 12), dtype=np.uint8)


def history(validation_loss, loss=(2.0, 1.0, 0.5, 0.25)):
    frame = pd.DataFrame({"epoch": range(1, len(loss) + 1), "learning_rate": 0.1, "loss": loss})
    frame["accuracy"] = 1 - frame["loss"] / 4
    if validation_loss is not None:
        frame["validation_loss"] = validation_loss
        frame["validation_accuracy"] = 1 - frame["validation_loss"] / 3
    frame["seconds"] = 1.0
    return frame


def curve(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


def labels_overlap(figure, texts):
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in texts]
    return any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_curves_show_the_history():
    frame = history([2.1, 1.2, 1.1, 1.3])
    display = LearningCurveDisplay.from_history(frame)
    for ax, name in zip(display.axes_, ("loss", "accuracy"), strict=True):
        train, validation = curve(ax, "training"), curve(ax, "validation")
        np.testing.assert_array_equal(train.get_xydata(), frame[["epoch", name]])
        np.testing.assert_array_equal(validation.get_xydata(), frame[["epoch", f"validation_{name}"]])
        assert train.get_linestyle() != validation.get_linestyle()
        assert train.get_color() != validation.get_color()
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", name)
    display.figure_.draw_without_rendering()
    assert all(label.get_text().endswith(" %") for label in display.axes_[1].get_yticklabels())


@pytest.mark.parametrize(("validation_loss", "best"), [
    ([2.1, 1.2, 1.1, 1.3], 3),
    ([2.1, 1.1, 1.1, 1.3], 2),
    ([np.nan, 1.5, np.nan, 1.6], 2),
    ([np.nan] * 4, 4),
    (None, 4),
])  # fmt: skip
def test_the_best_epoch_is_marked(validation_loss, best):
    frame = history(validation_loss)
    display = LearningCurveDisplay.from_history(frame)
    assert display.best_epoch == best
    validated = display.validation_loss is not None
    assert validated == (validation_loss is not None and np.isfinite(validation_loss).any())
    for ax, name in zip(display.axes_, ("loss", "accuracy"), strict=True):
        value = frame.loc[best - 1, f"validation_{name}" if validated else name]
        np.testing.assert_array_equal(curve(ax, f"best epoch {best}").get_xydata(), [[best, value]])
        assert len([line for line in ax.lines if list(line.get_xdata()) == [best, best]]) == 1
        shown = [text.get_text() for text in ax.get_legend().get_texts()]
        assert shown == ["training", *["validation"] * validated, f"best epoch {best}"]


def test_the_validation_curve_skips_epochs_without_validation():
    display = LearningCurveDisplay.from_history(history([np.nan, 1.5, np.nan, 1.6]))
    np.testing.assert_array_equal(curve(display.axes_[0], "validation").get_xydata(), [[2, 1.5], [4, 1.6]])


def test_a_single_epoch_is_drawn_as_a_marker():
    display = LearningCurveDisplay.from_history(history([0.9], loss=(0.8,)))
    for ax in display.axes_:
        assert curve(ax, "training").get_marker() == "o"
        assert ax.get_xlim() == (0.5, 1.5)
    assert display._repr_png_().startswith(PNG)


def test_the_legend_with_the_best_epoch_is_above_both_panels():
    """There, no curve runs through it, and it fits the panel."""
    loss = tuple(1 + np.exp(-np.arange(1200) / 80))
    display = LearningCurveDisplay.from_history(history([0.9 + 0.001 * epoch for epoch in range(1200)], loss))
    assert display.best_epoch == 1
    display.figure_.draw_without_rendering()
    assert curve(display.axes_[0], "training").get_marker() in ("", "None")
    for ax in display.axes_:
        legend = ax.get_legend().get_window_extent()
        assert legend.y0 >= ax.bbox.y1 - 1
        assert ax.bbox.x0 <= legend.x0 < legend.x1 <= ax.bbox.x1 + 1


def test_a_fastnn_history_is_drawn_like_its_data_frame():
    records = [EpochRecord(epoch, 0.1, 2 / epoch, 0.5, np.nan, np.nan, 1.0) for epoch in (1, 2, 3)]
    direct, framed = (LearningCurveDisplay(each) for each in (History(records), History(records).to_frame()))
    for name in ("epochs", "loss", "accuracy"):
        np.testing.assert_array_equal(getattr(direct, name), getattr(framed, name))
    assert direct.validation_loss is framed.validation_loss is None
    assert direct.loss.tolist() == [2.0, 1.0, 2 / 3]


def test_curves_are_drawn_into_the_given_axes():
    figure = Figure()
    axes = figure.subplots(2, 1)
    display = LearningCurveDisplay.from_history(history(None), ax=axes)
    assert display.axes_ == tuple(axes)
    assert display.figure_ is figure
    assert display._repr_png_() is None
    with pytest.raises(SettingsError, match="ax holds 1 Axes, expected two"):
        LearningCurveDisplay.from_history(history(None), ax=axes[0])


@pytest.mark.parametrize(("bad", "found"), [
    ([1, 2], "history is list, expected"),
    (pd.DataFrame({"epoch": [1], "loss": [1.0]}), "no column accuracy, found epoch, loss"),
    (history(None).iloc[:0], "the history has 0 epochs"),
    (history(None).assign(loss="low"), "column loss is .*, expected numbers"),
])  # fmt: skip
def test_an_invalid_history_raises_a_one_line_error(bad, found):
    with pytest.raises(DataError, match=found) as caught:
        LearningCurveDisplay.from_history(bad)
    assert "\n" not in str(caught.value)


def test_the_cells_show_the_counts():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 10, (2, 800))
    display = ConfusionDisplay.from_predictions(labels, predictions)
    matrix = evaluation.confusion(labels, predictions)
    np.testing.assert_array_equal(display.confusion, matrix)
    np.testing.assert_array_equal([[int(text.get_text()) for text in row] for row in display.texts_], matrix)
    assert all(text.get_position() == (cell[1], cell[0]) for cell, text in np.ndenumerate(display.texts_))
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("predicted class", "true class")
    assert not labels_overlap(display.figure_, list(display.texts_.ravel()))


def test_colours_show_fractions_of_the_true_class_with_a_separate_scale_for_the_diagonal():
    display = ConfusionDisplay([[8, 2], [0, 5]])
    misclassified, correct = display.plot().ax_.images
    found = [correct.get_array(), misclassified.get_array()]
    np.testing.assert_allclose(found[0].filled(-1.0), [[0.8, -1.0], [-1.0, 1.0]])
    np.testing.assert_allclose(found[1].filled(-1.0), [[-1.0, 0.2], [0.0, -1.0]])
    assert misclassified.get_clim() == (0, 0.2)
    assert correct.get_clim() == (0, 1)


def test_normalized_cells_show_percentages_of_the_true_class():
    display = ConfusionDisplay.from_predictions([0] * 8 + [1], [0] * 7 + [1, 1], ["no", "yes", "never"], normalize=True)
    found = [[text.get_text() for text in row] for row in display.texts_]
    assert found == [["87.5", "12.5", "0.0"], ["0.0", "100.0", "0.0"], ["0.0", "0.0", "0.0"]]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["no", "yes", "never"]
    assert "%" in display.ax_.get_xlabel()


def test_numbers_are_readable_on_every_colour():
    display = ConfusionDisplay([[90, 10, 0], [4, 3, 3], [1, 0, 40]]).plot()
    colours = {int(text.get_text()): text.get_color() for text in display.texts_.ravel()}
    assert (colours[90], colours[3], colours[1]) == ("white", "black", "black")


def test_many_classes_get_no_numbers_and_fewer_ticks():
    assert ConfusionDisplay(np.eye(20, dtype=int)).plot().texts_ is not None
    display = ConfusionDisplay(np.eye(62, dtype=int)).plot()
    assert display.texts_ is None
    assert not display.ax_.texts
    assert not labels_overlap(display.figure_, display.ax_.get_xticklabels())


def test_class_names_with_dollar_signs_are_not_read_as_formulas():
    display = ConfusionDisplay([[1, 0], [0, 1]], ["$", "$^$"]).plot()
    assert display._repr_png_().startswith(PNG)


def test_the_first_mistake_is_the_worst():
    display = MistakesDisplay.from_predictions(IMAGES, (3, 4), LABELS, PROBA)
    np.testing.assert_array_equal(display.rows, evaluation.mistakes(LABELS, PROBA))
    np.testing.assert_array_equal(display.axes_[0].images[0].get_array(), IMAGES[3].reshape(3, 4))
    assert [ax.get_title() for ax in display.axes_] == ["true 1\npredicted 2 (98 %)", "true 2\npredicted 0 (70 %)"]
    assert display.figure_.get_suptitle() == "2 of 2 mistakes among 6 images, worst first"
    assert not any(len(ax.get_xticks()) or len(ax.get_yticks()) for ax in display.axes_)


@pytest.mark.parametrize(("labels", "n", "titles", "heading"), [
    (LABELS, 1, ["true one\npredicted two (98 %)"], "1 of 2 mistakes among 6 images, worst first"),
    (PROBA.argmax(axis=1), 9, [], "no mistakes among 6 images"),
])  # fmt: skip
def test_at_most_n_mistakes_are_drawn_and_the_heading_counts_them(labels, n, titles, heading):
    display = MistakesDisplay.from_predictions(IMAGES, (3, 4), labels, PROBA, ["nil", "one", "two"], n=n)
    assert [ax.get_title() for ax in display.axes_] == titles
    assert display.figure_.get_suptitle() == heading
    assert display._repr_png_().startswith(PNG)


def test_samples_keep_their_order_and_misclassified_ones_are_framed():
    display = SamplesDisplay.from_predictions(IMAGES, (3, 4), LABELS, PROBA)
    for ax, image in zip(display.axes_, IMAGES, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), image.reshape(3, 4))
    titles = [ax.get_title() for ax in display.axes_]
    assert titles[0] == "true 0\npredicted 0 (90 %)"
    assert titles[4:] == ["true 0\npredicted 0 (100 %)", "true 2\npredicted 2 (> 99 %)"]
    framed = [ax.spines["left"].get_linewidth() > 1 for ax in display.axes_]
    np.testing.assert_array_equal(framed, PROBA.argmax(axis=1) != LABELS)
    assert display.figure_.get_suptitle() == "6 of 6 images: 4 correct"


def test_samples_without_labels_show_the_predicted_class():
    display = SamplesDisplay.from_predictions(IMAGES / 255, (3, 4), None, PROBA, n=2)
    assert [ax.get_title() for ax in display.axes_] == ["predicted 0 (90 %)", "predicted 1 (60 %)"]
    assert display.figure_.get_suptitle() == "2 of 6 images"


def test_long_class_names_do_not_overlap():
    names = ["an ankle boot", "a pullover, or a shirt", "trousers"]
    display = SamplesDisplay.from_predictions(IMAGES, (3, 4), LABELS, PROBA, names)
    assert not labels_overlap(display.figure_, [ax.title for ax in display.axes_])


def test_images_are_drawn_into_the_given_figure():
    figure = Figure(layout="constrained")
    part = figure.add_subfigure(figure.add_gridspec(1, 2)[1])
    display = SamplesDisplay.from_predictions(IMAGES, (3, 4), LABELS, PROBA, figure=part)
    assert display.figure_ is part
    assert part.axes == list(display.axes_)


@pytest.mark.parametrize(("change", "found"), [
    ({"image_shape": None}, r"image_shape is None, expected \(height, width\)"),
    ({"image_shape": (4, 4)}, r"images have shape \(6, 12\), expected 6 rows of 4 x 4 pixels"),
    ({"image_shape": (3, 4, 1)}, r"image_shape is \(3, 4, 1\)"),
    ({"proba": PROBA[:5]}, "expected 5 rows"),
    ({"labels": LABELS + 1}, "labels hold 3 at sample 2, expected 0 to 2"),
    ({"labels": None}, "labels are None"),
    ({"class_names": ["a", "b"]}, "class_names has 2 names, expected 3"),
    ({"images": IMAGES.astype(str)}, "expected numbers"),
    ({"n": 0}, "n is 0, expected a whole number, 1 or more"),
])  # fmt: skip
def test_bad_image_data_raise_a_one_line_error(change, found):
    arguments = {"images": IMAGES, "image_shape": (3, 4), "labels": LABELS, "proba": PROBA, **change}
    with pytest.raises((DataError, SettingsError), match=found) as caught:
        MistakesDisplay.from_predictions(**arguments)
    assert "\n" not in str(caught.value)


def test_a_failed_save_leaves_the_old_file_unchanged(tmp_path, monkeypatch):
    display = ConfusionDisplay([[1, 0], [0, 1]])
    path = tmp_path / "a.png"
    assert display.save(path) == path
    before = path.read_bytes()
    assert before.startswith(PNG)

    monkeypatch.setattr("os.replace", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(FileError, match=r"a\.png: .*No space left on device"):
        display.plot().save(path, dpi=30)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_save_raises_for_a_bad_extension_or_a_missing_folder(tmp_path):
    display = ConfusionDisplay([[1]])
    with pytest.raises(SettingsError, match=r"the extension is '\.xyz', expected one of .*\.png"):
        display.save(tmp_path / "a.xyz")
    with pytest.raises(FileError, match="missing"):
        display.save(tmp_path / "missing" / "a.svg")
