"""Draws the mean image of each class, and its precision and recall."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.datasets.arrays import as_array
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError
from fastnn.plots.display import BLUE, VERMILION, Display, ImageShape, Names, percent, tidy
from fastnn.plots.labels import class_pairs, predicted_pairs
from fastnn.plots.montage import draw_montage, montage_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ClassAveragesDisplay(Display):
    """Montage of the mean image of each of C classes.

    Parameters
    ----------
    images : array-like of shape (N, D), or Dataset
        One image per row, integer or float. Larger values are drawn darker. A Dataset also has the other arguments.
    image_shape : tuple of int
        (height, width) of an image, with height * width = D.
    labels : array-like of shape (N,)
        The true classes: strings, whole numbers or booleans.
    class_names : sequence of C names, optional
        The name of each class; whole numbers are then class numbers from 0 to C - 1. By default the classes.
    classes : sequence of C labels, optional
        The classes in the order of the images. By default all that occur, sorted.

    Attributes
    ----------
    means : ndarray of float64 and shape (C, height, width)
        0 for a class without samples.
    counts : ndarray of int64 and shape (C,)
        The number of samples of each class.

    Raises
    ------
    DataError
        If there are no samples, a shape or type does not match, or a label is out of range.
    """

    def __init__(
        self,
        images: ArrayLike | Dataset,
        image_shape: ImageShape = None,
        labels: ArrayLike | None = None,
        class_names: Names = None,
        *,
        classes: Names = None,
    ) -> None:
        if isinstance(images, Dataset):
            image_shape = images.image_shape if image_shape is None else image_shape
            labels = images.labels if labels is None else labels
            class_names = images.classes if class_names is None else class_names
            images = images.images
        if labels is None:
            raise DataError("labels are None, expected the class of each image")
        if len(as_array(labels, "labels")) == 0:
            raise DataError("labels are empty, expected at least one sample to average")
        pixels = np.asarray(images)
        true, _, self.class_names = class_pairs(labels, labels, class_names, classes)
        shape = evaluation.check_images(pixels, image_shape, len(true))
        self.counts = np.bincount(true, minlength=len(self.class_names)).astype(np.int64)
        self.means = np.zeros((len(self.counts), *shape))
        for label in np.flatnonzero(self.counts):
            self.means[label] = pixels[true == label].mean(axis=0, dtype=np.float64).reshape(shape)

    @classmethod
    def from_samples(
        cls,
        images: ArrayLike | Dataset,
        image_shape: ImageShape = None,
        labels: ArrayLike | None = None,
        class_names: Names = None,
        ax: "Axes | None" = None,
        *,
        classes: Names = None,
    ) -> Self:
        """Average the images and plot the means into `ax` or a new figure; the class describes the other parameters."""
        return cls(images, image_shape, labels, class_names, classes=classes).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the mean images into `ax` or a new figure."""
        columns = 5 if len(self.means) <= 15 else 10
        width, height = montage_size(len(self.means), self.means.shape[1:], columns, 9.0)
        (ax,) = self._panels(ax, 1, "one", (max(width, 3.2), height + 0.4))
        names = [f"{name} ({count:,})" for name, count in zip(self.class_names, self.counts, strict=True)]
        low, high = min(float(self.means.min()), 0.0), max(float(self.means.max()), 1e-9)
        draw_montage(ax, self.means, names, columns, "gray_r", low, high)
        ax.set_title("mean image of each class (number of samples)", fontsize=11)
        return self


class ClassScoresDisplay(Display):
    """Dot plot of the precision and recall of each of C classes, one line per class.

    Parameters
    ----------
    confusion : integer array-like of shape (C, C)
        Rows are true classes, columns predicted classes.
    class_names : sequence of C names, optional
        By default 0 to C - 1.

    Attributes
    ----------
    scores : list of C ClassScores

    Raises
    ------
    DataError
        If `confusion` is not a square matrix of counts, or `class_names` does not have C names.
    """

    def __init__(self, confusion: ArrayLike, class_names: Names = None) -> None:
        self.scores = evaluation.per_class(confusion)
        self.class_names = evaluation.check_names(class_names, len(self.scores))

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        predictions: ArrayLike,
        class_names: Names = None,
        ax: "Axes | None" = None,
        *,
        classes: Names = None,
    ) -> Self:
        """Compute the scores of `predictions` for `labels` and plot them into `ax` or a new figure.

        The parameters and errors are those of `ConfusionDisplay.from_predictions`.
        """
        pairs = class_pairs(labels, predictions, class_names, classes)
        return cls(evaluation.confusion(pairs.labels, pairs.predictions, len(pairs.names)), pairs.names).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, class_names: Names = None, ax: "Axes | None" = None
    ) -> Self:
        """Predict X, compute the scores and plot them into `ax` or a new figure.

        The parameters and errors are those of `ConfusionDisplay.from_estimator`.
        """
        pairs = predicted_pairs(estimator, X, y)
        counts = evaluation.confusion(pairs.labels, pairs.predictions, len(pairs.names))
        return cls(counts, pairs.names if class_names is None else class_names).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the scores into `ax` or a new figure."""
        longest = max(map(len, self.class_names)) + len(f"{max(score.support for score in self.scores):,}")
        (ax,) = self._panels(ax, 1, "one", (5.2 + 0.07 * longest, 1.5 + 0.27 * len(self.scores)))
        rows = np.arange(len(self.scores))
        precision, recall = (
            np.array([getattr(each, name) for each in self.scores]) for name in ("precision", "recall")
        )
        ax.hlines(rows, np.minimum(precision, recall), np.maximum(precision, recall), color="#999999", lw=1.2, zorder=1)
        ax.plot(precision, rows, "D", color=VERMILION, ms=7.5, mec="white", mew=0.6, label="precision", clip_on=False)
        ax.plot(recall, rows, "o", color=BLUE, ms=5.5, mec="white", mew=0.6, label="recall", clip_on=False)
        names = [f"{name} ({each.support:,})" for name, each in zip(self.class_names, self.scores, strict=True)]
        ax.set_yticks(rows, names, parse_math=False)
        lowest = float(min(precision.min(), recall.min()))
        ax.set(xlim=(max(lowest - 0.08 * (1.02 - lowest), -0.03), 1.0), ylim=(len(rows) - 0.4, -0.6))
        ax.set(xlabel="precision, recall", ylabel="class (number of samples)")
        ax.xaxis.set_major_formatter(percent)
        tidy(ax)
        ax.tick_params(axis="y", length=0)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)
        return self
