"""Images with what was said of them: in the order given, or the mistakes, worst first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.errors import DataError
from fastnn.plots.display import VERMILION, Display

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

_GRID_COLUMNS = 6


class SamplesDisplay(Display):
    """The first `n` of N images, each under a title: its true class, the class said, and how probable that seemed.

    Wrong ones are framed. Bad data raise DataError, an `n` below 1 SettingsError.

    Parameters
    ----------
    images : array-like of shape (N, D)
        One image a row, of whole numbers or floats; the larger a pixel, the darker it is drawn.
    image_shape : tuple of int
        (height, width) of an image, D pixels together.
    labels : integer array-like of shape (N,), or None
        The true classes, from 0 to C - 1; None where they are not known.
    proba : float array-like of shape (N, C)
        The probability of each class.
    class_names : sequence of C names, optional
        By default 0 to C - 1.
    n : int
        The most images to draw.

    Attributes
    ----------
    n_images, n_chosen : int
        N, and how many there are to draw; no more than `n` of them are drawn.
    rows : ndarray of int64 and shape (K,)
        Which of the N images are the K drawn.
    images, labels, predictions, confidences : ndarray of length K
        Pixels, true class (or None), class said and its probability, of those drawn.
    """

    _frames_mistakes = True

    def __init__(
        self,
        images: ArrayLike,
        image_shape: tuple[int, int] | None,
        labels: ArrayLike | None,
        proba: ArrayLike,
        class_names: Sequence[object] | None = None,
        n: SupportsIndex = 24,
    ):
        pixels, shares = np.asarray(images), evaluation.check_proba(proba)
        self.image_shape = evaluation.check_images(pixels, image_shape, len(shares))
        true = None if labels is None else evaluation.check_labels("labels", labels, len(shares), shares.shape[1])
        self.class_names = evaluation.check_names(class_names, shares.shape[1])
        chosen = self._choose(true, shares)
        self.n_images, self.n_chosen = len(shares), len(chosen)
        self.rows = chosen[: evaluation.check_count("n", n)]
        self.images = pixels[self.rows]
        self.labels = None if true is None else true[self.rows]
        self.predictions = shares[self.rows].argmax(axis=1)
        self.confidences = shares[self.rows, self.predictions]

    @classmethod
    def from_predictions(
        cls,
        images: ArrayLike,
        image_shape: tuple[int, int] | None,
        labels: ArrayLike | None,
        proba: ArrayLike,
        class_names: Sequence[object] | None = None,
        n: SupportsIndex = 24,
        figure: "Figure | SubFigure | None" = None,
    ) -> Self:
        """Choose the images (see the class for the parameters) and draw them, into `figure` or a new one."""
        return cls(images, image_shape, labels, proba, class_names, n).plot(figure)

    def plot(self, figure: "Figure | SubFigure | None" = None) -> Self:
        """Draw the images, into `figure` (which should be empty) or a new one."""
        columns, lines = max(min(len(self.rows), _GRID_COLUMNS), 1), max(-(-len(self.rows) // _GRID_COLUMNS), 1)
        titles = [self._title(place) for place in range(len(self.rows))]
        self._owns_figure = figure is None
        if figure is None:
            # Letters of eight points are about 0.07 inches wide: no title reaches into its neighbour's.
            letters = max((len(line) for title in titles for line in title.split("\n")), default=0)
            tall = float(np.clip(1.25 * self.image_shape[0] / self.image_shape[1], 0.3, 3.0))
            tall += 0.42 if any("\n" in title for title in titles) else 0.28
            figure = self._new_figure(max(max(1.25, 0.07 * letters) * columns, 4.6), tall * lines + 0.45)
        self.axes_ = np.empty(len(titles), dtype=object)
        low, high = min(float(self.images.min(initial=0)), 0.0), max(float(self.images.max(initial=0)), 1e-9)
        for place, title in enumerate(titles):
            ax = self.axes_[place] = figure.add_subplot(lines, columns, place + 1, xticks=[], yticks=[])
            ax.imshow(self.images[place].reshape(self.image_shape), cmap="gray_r", vmin=low, vmax=high)
            wrong = self._frames_mistakes and self.labels is not None and self.labels[place] != self.predictions[place]
            ax.set_title(title, fontsize=8, pad=3, parse_math=False, color=VERMILION if wrong else "black")
            ax.spines[:].set(color=VERMILION if wrong else "#BBBBBB", linewidth=2.5 if wrong else 0.8)
        figure.suptitle(self._heading(), fontsize=11, y=None if titles else 0.5)
        self.figure_ = figure
        return self

    def _choose(self, labels: np.ndarray | None, proba: np.ndarray) -> np.ndarray:
        return np.arange(len(proba))

    def _heading(self) -> str:
        correct = "" if self.labels is None else f", {np.sum(self.labels == self.predictions):,} of them right"
        return f"{len(self.rows):,} of {self.n_images:,} images{correct}"

    def _title(self, place: int) -> str:
        confidence = self.confidences[place]
        percent = "> 99 %" if 0.995 <= confidence < 1 else f"{100 * confidence:.0f} %"
        predicted = f"said {self.class_names[self.predictions[place]]} ({percent})"
        if self.labels is None:
            return predicted
        true = f"true {self.class_names[self.labels[place]]},"
        return f"{true} {predicted}" if len(true) + len(predicted) <= 25 else f"{true}\n{predicted}"


class MistakesDisplay(SamplesDisplay):
    """The `n` worst mistakes among N images, in the order of `fastnn.evaluation.mistakes`; `n_chosen` counts them all.

    Parameters and attributes are those of SamplesDisplay; `labels` are needed.
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
