"""Draws images with their true and predicted classes: all in the given order, or only the mistakes, worst first."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.checks import check_integer
from fastnn.errors import DataError
from fastnn.plots.display import VERMILION, Display, ImageShape, Names
from fastnn.plots.labels import column_labels, predict

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

_GRID_COLUMNS = 6


class SamplesDisplay(Display):
    """The first `n` of N images, each with its true class, its predicted class and the probability of that class.

    Misclassified images are framed.

    Parameters
    ----------
    images : array-like of shape (N, D)
        One image per row, integer or float. Larger values are drawn darker.
    image_shape : tuple of int
        (height, width) of an image, with height * width = D.
    labels : array-like of shape (N,), or None
        The true classes: strings, whole numbers or booleans; None if they are unknown.
    proba : float array-like of shape (N, C)
        The probability of each class.
    class_names : sequence of C names, optional
        By default 0 to C - 1.
    n : int
        The maximum number of images to draw.
    classes : sequence of C labels, optional
        The class of each column of `proba`. By default whole numbers are the numbers of columns, and strings are
        looked up in `class_names` or sorted.

    Attributes
    ----------
    n_images, n_chosen : int
        N, and the number of images that could be drawn. The first `n` of these are drawn.
    rows : ndarray of int64 and shape (K,)
        The indices of the K images drawn.
    images : ndarray of shape (K, D)
        Their pixels.
    labels : ndarray of shape (K,), or None
        Their true classes.
    predictions : ndarray of shape (K,)
        Their predicted classes.
    confidences : ndarray of shape (K,)
        The probabilities of the predicted classes.

    Raises
    ------
    DataError
        If the arrays do not match each other or have a wrong type.
    SettingsError
        If `n` is not a positive whole number.
    """

    _frames_mistakes = True

    def __init__(
        self,
        images: ArrayLike,
        image_shape: ImageShape,
        labels: ArrayLike | None,
        proba: ArrayLike,
        class_names: Names = None,
        n: int = 24,
        *,
        classes: Names = None,
    ):
        pixels, proba = np.asarray(images), evaluation.check_proba(proba)
        self.image_shape = evaluation.check_images(pixels, image_shape, len(proba))
        true = None if labels is None else column_labels(labels, proba.shape[1], class_names, classes)
        if true is not None and len(true) != len(proba):
            raise DataError(f"labels hold {len(true)} samples, expected {len(proba)}")
        class_names = classes if class_names is None else class_names
        self.class_names = evaluation.check_names(class_names, proba.shape[1])
        chosen = self._choose(true, proba)
        self.n_images, self.n_chosen = len(proba), len(chosen)
        self.rows = chosen[: check_integer("n", n, 1)]
        self.images = pixels[self.rows]
        self.labels = None if true is None else true[self.rows]
        self.predictions = proba[self.rows].argmax(axis=1)
        self.confidences = proba[self.rows, self.predictions]

    @classmethod
    def from_predictions(
        cls,
        images: ArrayLike,
        image_shape: ImageShape,
        labels: ArrayLike | None,
        proba: ArrayLike,
        class_names: Names = None,
        n: int = 24,
        figure: "Figure | SubFigure | None" = None,
        *,
        classes: Names = None,
    ) -> Self:
        """Draw the images into `figure` or a new figure; the class describes the other parameters."""
        return cls(images, image_shape, labels, proba, class_names, n, classes=classes).plot(figure)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        image_shape: ImageShape = None,
        class_names: Names = None,
        n: int = 24,
        figure: "Figure | SubFigure | None" = None,
    ) -> Self:
        """Predict X and draw the images into `figure` or a new figure; the class describes the other parameters.

        `estimator`, `X`, `y` and the errors are those of `ConfusionDisplay.from_estimator`. `image_shape` is by default
        that of X or of the estimator.
        """
        found = predict(estimator, X, y)
        shape = found.data.image_shape if image_shape is None else image_shape
        names = found.names if class_names is None else class_names
        return cls(found.data.images, shape, found.labels, found.proba, names, n).plot(figure)

    def plot(self, figure: "Figure | SubFigure | None" = None) -> Self:
        """Draw the images into `figure`, which should be empty, or a new figure."""
        columns, rows = max(min(len(self.rows), _GRID_COLUMNS), 1), max(-(-len(self.rows) // _GRID_COLUMNS), 1)
        titles = [self._title(i) for i in range(len(self.rows))]
        self._owns_figure = figure is None
        if figure is None:
            # Letters of 8 points are about 0.07 inches wide. Columns as wide as the titles prevent overlap.
            letters = max((len(line) for title in titles for line in title.split("\n")), default=0)
            height = float(np.clip(1.25 * self.image_shape[0] / self.image_shape[1], 0.3, 3.0))
            height += 0.42 if any("\n" in title for title in titles) else 0.28
            figure = self._new_figure(max(max(1.25, 0.07 * letters) * columns, 4.6), height * rows + 0.45)
        self.axes_ = np.empty(len(titles), dtype=object)
        low, high = min(float(self.images.min(initial=0)), 0.0), max(float(self.images.max(initial=0)), 1e-9)
        for i, title in enumerate(titles):
            ax = self.axes_[i] = figure.add_subplot(rows, columns, i + 1, xticks=[], yticks=[])
            ax.imshow(self.images[i].reshape(self.image_shape), cmap="gray_r", vmin=low, vmax=high)
            wrong = self._frames_mistakes and self.labels is not None and self.labels[i] != self.predictions[i]
            ax.set_title(title, fontsize=8, pad=3, parse_math=False, color=VERMILION if wrong else "black")
            ax.spines[:].set(color=VERMILION if wrong else "#BBBBBB", linewidth=2.5 if wrong else 0.8)
        figure.suptitle(self._heading(), fontsize=11, y=None if titles else 0.5)
        self.figure_ = figure
        return self

    def _choose(self, labels: np.ndarray | None, proba: np.ndarray) -> np.ndarray:
        return np.arange(len(proba))

    def _heading(self) -> str:
        correct = "" if self.labels is None else f": {np.sum(self.labels == self.predictions):,} correct"
        return f"{len(self.rows):,} of {self.n_images:,} images{correct}"

    def _title(self, i: int) -> str:
        confidence = self.confidences[i]
        percent = evaluation.probability_text(confidence, digits=0)
        predicted = f"predicted {self.class_names[self.predictions[i]]} ({percent})"
        return predicted if self.labels is None else f"true {self.class_names[self.labels[i]]}\n{predicted}"


class MistakesDisplay(SamplesDisplay):
    """The `n` worst mistakes among N images, in the order of `fastnn.evaluation.mistakes`.

    Parameters, attributes and errors are those of SamplesDisplay. `labels` are required; `n_chosen` is the number of
    all mistakes.
    """

    _frames_mistakes = False

    def _choose(self, labels: np.ndarray | None, proba: np.ndarray) -> np.ndarray:
        if labels is None:
            raise DataError("labels are None, expected the true class of each sample")
        return evaluation.mistakes(labels, proba)

    def _heading(self) -> str:
        if not self.n_chosen:
            return f"no mistakes among {self.n_images:,} images"
        return f"{len(self.rows):,} of {self.n_chosen:,} mistakes among {self.n_images:,} images, worst first"
