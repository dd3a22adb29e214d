"""Draws the confusion matrix."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.plots.display import VERMILION, Display, Names, percent
from fastnn.plots.labels import class_pairs, predicted_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_CLASSES_WITH_TEXT = 20


class ConfusionDisplay(Display):
    """Heat map of the confusion matrix of C classes.

    The colour of a cell shows its fraction of the samples of the true class. The diagonal (correct) is blue, and the
    other cells (misclassified) are orange. The two scales are separate: on a common scale, all mistakes of a good
    classifier would look like zero. With up to 20 classes, the cells also show numbers.

    Parameters
    ----------
    confusion : integer array-like of shape (C, C)
        Rows are true classes, columns predicted classes.
    class_names : sequence of C names, optional
        By default 0 to C - 1.
    normalize : bool
        Whether the cells show percentages of the true class instead of counts.

    Attributes
    ----------
    confusion : ndarray of int64 and shape (C, C)
        Counts.
    rates : ndarray of float64 and shape (C, C)
        Fractions of the true class, from 0 to 1; 0 for a class without samples.
    class_names : list of C str
    texts_ : ndarray of Text and shape (C, C), or None
        The numbers in the cells; None above 20 classes.

    Raises
    ------
    DataError
        If `confusion` is not a square matrix of counts, or `class_names` does not have C names.
    """

    texts_: np.ndarray | None = None

    def __init__(self, confusion: ArrayLike, class_names: Names = None, normalize: bool = False):
        self.confusion = evaluation.check_confusion(confusion)
        self.class_names = evaluation.check_names(class_names, len(self.confusion))
        self.normalize = normalize
        self.rates = self.confusion / np.maximum(self.confusion.sum(axis=1, keepdims=True), 1)

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        predictions: ArrayLike,
        class_names: Names = None,
        normalize: bool = False,
        ax: "Axes | None" = None,
        *,
        classes: Names = None,
    ) -> Self:
        """Count each pair of true and predicted class, and plot into `ax` or a new figure.

        Parameters
        ----------
        labels, predictions : array-like of shape (N,)
            Strings, whole numbers or booleans.
        class_names : sequence of C names, optional
            The name of each class; whole numbers are then class numbers from 0 to C - 1. By default the classes
            themselves.
        normalize, ax
            As in the class, and the Axes to draw in.
        classes : sequence of C labels, optional
            The classes in the order of the rows. By default all that occur, sorted.

        Raises
        ------
        DataError
            If a label is missing, or is none of the classes.

        Examples
        --------
        >>> from fastnn.plots import ConfusionDisplay
        >>> display = ConfusionDisplay.from_predictions(["cat", "dog", "dog"], ["cat", "cat", "dog"])
        >>> display.class_names, display.confusion.tolist()
        (['cat', 'dog'], [[1, 0], [1, 1]])
        """
        pairs = class_pairs(labels, predictions, class_names, classes)
        counts = evaluation.confusion(pairs.labels, pairs.predictions, len(pairs.names))
        return cls(counts, pairs.names, normalize).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        class_names: Names = None,
        normalize: bool = False,
        ax: "Axes | None" = None,
    ) -> Self:
        """Predict X, count each pair of true and predicted class, and plot into `ax` or a new figure.

        Parameters
        ----------
        estimator : fitted classifier, Model, Network or result of `train`
        X : array-like of shape (N, D), or Dataset, or pair of images and labels
        y : array-like of shape (N,), optional
            The true classes; by default those of X.
        class_names, normalize, ax
            As in `from_predictions`. By default the estimator's classes are the names.

        Raises
        ------
        DataError
            If a label is none of the estimator's classes.
        """
        pairs = predicted_pairs(estimator, X, y)
        counts = evaluation.confusion(pairs.labels, pairs.predictions, len(pairs.names))
        return cls(counts, pairs.names if class_names is None else class_names, normalize).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the heat map into `ax` or a new figure."""
        from matplotlib.colors import LinearSegmentedColormap

        n_classes = len(self.confusion)
        side = min(n_classes * (0.5 if n_classes <= 12 else 0.38), 8.0) + 0.09 * max(map(len, self.class_names))
        (ax,) = self._panels(ax, 1, "one", (max(side, 3.0) + 2.0, max(side, 3.0) + 0.4))
        diagonal = np.eye(n_classes, dtype=bool)
        worst = float(self.rates[~diagonal].max(initial=0.0))
        colours = np.zeros((n_classes, n_classes, 4))
        for name, shown, ends, top in (
            ("errors", ~diagonal, ["#FFFFFF", "#F7BE94", VERMILION], worst or 0.01),
            ("correct", diagonal, ["#E3F0F8", "#00588A"], 1.0),
        ):
            rates = np.ma.masked_array(self.rates, ~shown)
            image = ax.imshow(rates, cmap=LinearSegmentedColormap.from_list(name, ends), vmin=0, vmax=top)
            colours[shown] = image.to_rgba(self.rates)[shown]
            bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, aspect=28, pad=0.03, format=percent)
            bar.ax.set_title(name, fontsize=9, pad=8, loc="left")
            bar.set_label("fraction of the true class" if name == "errors" else "")
        self._label(ax)
        self.texts_ = self._write(ax, colours) if n_classes <= _MAX_CLASSES_WITH_TEXT else None
        return self

    def _label(self, ax: "Axes") -> None:
        ticks = np.arange(0, len(self.class_names), -(-len(self.class_names) // 30))
        names = [self.class_names[tick] for tick in ticks]
        rotated = max(map(len, names)) > 3
        ax.set_xticks(
            ticks, names, parse_math=False, rotation=45 if rotated else 0, ha="right" if rotated else "center"
        )
        ax.set_yticks(ticks, names, parse_math=False)
        ax.tick_params(length=0)
        ax.set(
            xlabel=f"predicted class{' (cells: % of the true class)' if self.normalize else ''}", ylabel="true class"
        )

    def _write(self, ax: "Axes", colours: np.ndarray) -> np.ndarray:
        texts = np.empty(self.confusion.shape, dtype=object)
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9 if len(self.confusion) <= 12 else 7}
        for (row, column), count in np.ndenumerate(self.confusion):
            text = f"{100 * self.rates[row, column]:.1f}" if self.normalize else str(count)
            luminance = colours[row, column, :3] ** 2.2 @ (0.2126, 0.7152, 0.0722)
            colour = ("black" if luminance > 0.2 else "white") if count else "#767676"
            texts[row, column] = ax.text(column, row, text, color=colour, **style)
        return texts
