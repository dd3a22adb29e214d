"""Pictures of training and of predictions, in the manner of scikit-learn's displays.

A display keeps what it shows as attributes and draws it with `plot`, which leaves `figure_` and `ax_` or `axes_`; the
`from_...` constructors plot at once. Unless given Axes, it makes a figure that pyplot knows nothing of: nothing to
close, no screen needed, and a notebook shows the display itself.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.atomic import write_atomically
from fastnn.errors import DataError, SettingsError
from fastnn.training import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's blue and vermilion, which colour-blind people can tell apart.
_BLUE, _VERMILION, _GREY = "#0072B2", "#D55E00", "#5F5F5F"
_MOST_CLASSES_WITH_TEXT = 20
_GRID_COLUMNS = 6


class _Display:
    """What all displays share: the figure they own or were given, its file, its picture in a notebook."""

    figure_: Any = None
    _owns_figure = False

    def plot(self) -> Self:
        raise NotImplementedError

    def save(self, path: str | Path, dpi: float = 150) -> Path:
        """Write the whole figure to `path`, whose ending chooses the format (.png, .pdf, .svg, ...), and return it.

        It is written aside and renamed, so that there is never half a picture of this name. SettingsError for an ending
        that Matplotlib does not know, FileError where the file cannot be written.
        """
        target, known = Path(path), sorted(self._root().canvas.get_supported_filetypes())
        ending = target.suffix[1:].lower()
        if ending not in known:
            raise SettingsError(f"{target}: the ending is {target.suffix!r}, expected one of .{', .'.join(known)}")
        write_atomically(target, self._render(ending, dpi))
        return target

    def _render(self, ending: str, dpi: float | Literal["figure"]) -> bytes:
        picture = BytesIO()
        box = "tight" if self._owns_figure else None
        self._root().savefig(picture, format=ending, dpi=dpi, bbox_inches=box)
        return picture.getvalue()

    def _root(self) -> "Figure":
        return (self.figure_ or self.plot().figure_).figure

    def _new_figure(self, width: float, height: float) -> "Figure":
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height), layout="constrained")

    def _repr_png_(self) -> bytes | None:
        self._root()
        # A figure of the caller's is shown by whoever made it: a second picture of it would be one too many.
        return self._render("png", "figure") if self._owns_figure else None


class LearningCurveDisplay(_Display):
    """Loss and accuracy over E epochs, of training and (where there was one) validation, with the best epoch marked.

    Parameters
    ----------
    history : History, object with a method ``to_frame()``, or DataFrame
        Columns epoch (1, 2, ...), loss and accuracy (0 to 1); validation_loss and validation_accuracy if there are any,
        NaN in epochs that were not validated. DataError if it is no history, or one without epochs.

    Attributes
    ----------
    epochs : ndarray of int64 and shape (E,)
    loss, accuracy, validation_loss, validation_accuracy : ndarray of float64 and shape (E,)
        A validation column is None where no epoch was validated.
    best_epoch : int or None
        The first epoch with the lowest validation loss (without validation: training loss); None if no loss is finite.
    """

    def __init__(self, history: Any) -> None:
        if isinstance(history, History):  # without pandas, whose import takes longer than the figure
            frame: Any = history.arrays()
        else:
            frame = history.to_frame() if hasattr(history, "to_frame") else history
        if not isinstance(frame, dict) and not hasattr(frame, "columns"):
            raise DataError(f"history is {type(history).__name__}, expected a training history or its DataFrame")
        epochs = _column(frame, "epoch")
        if not len(epochs) or not np.isfinite(epochs).all():
            raise DataError(f"the history has {len(epochs)} epochs, expected at least one, numbered 1, 2, 3, ...")
        self.epochs = epochs.astype(np.int64)
        self.loss, self.accuracy = _column(frame, "loss"), _column(frame, "accuracy")
        self.validation_loss = _column_or_none(frame, "validation_loss")
        self.validation_accuracy = _column_or_none(frame, "validation_accuracy")
        judge = self.loss if self.validation_loss is None else self.validation_loss
        finite = np.where(np.isfinite(judge), judge, np.inf)
        self.best_epoch = int(self.epochs[finite.argmin()]) if np.isfinite(finite).any() else None

    @classmethod
    def from_history(cls, history: Any, ax: "Sequence[Axes] | None" = None) -> Self:
        """Plot `history` (see the class), into `ax` (two Axes) or a new figure."""
        return cls(history).plot(ax)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> Self:
        """Draw the two panels, into `ax` (two Axes, else SettingsError) or a new figure."""
        self._owns_figure = ax is None
        panels = np.ravel(np.asarray(self._new_figure(9.0, 3.6).subplots(1, 2) if ax is None else ax, dtype=object))
        if len(panels) != 2:
            raise SettingsError(f"ax holds {len(panels)} Axes, expected two: for the loss and for the accuracy")
        loss_ax, accuracy_ax = panels
        self._draw_panel(loss_ax, self.loss, self.validation_loss, falling=True)
        self._draw_panel(accuracy_ax, self.accuracy, self.validation_accuracy, falling=False)
        accuracy_ax.yaxis.set_major_formatter(_percent)
        self.axes_, self.figure_ = (loss_ax, accuracy_ax), loss_ax.figure
        return self

    def _draw_panel(self, ax: "Axes", train: np.ndarray, validation: np.ndarray | None, falling: bool) -> None:
        from matplotlib.ticker import MaxNLocator

        curves: list[tuple[str, np.ndarray, str, Any]] = [("training", train, _BLUE, "-")]
        if validation is not None:
            curves.append(("validation", validation, _VERMILION, (0, (4, 1.5))))
        for name, values, colour, line in curves:
            drawn = np.isfinite(values)
            marker = "o" if drawn.sum() <= 15 else ""
            ax.plot(self.epochs[drawn], values[drawn], color=colour, ls=line, lw=1.8, marker=marker, ms=3.5, label=name)
        values = np.concatenate([values for _, values, _, _ in curves])
        values = values[np.isfinite(values)]
        if len(values):
            low, high = float(values.min()), float(values.max())
            span = max(high - low, 0.02 * abs(high), 1e-6)
            # The label of the best epoch gets a strip of its own, so that no curve runs through it.
            below, above, most = (0.06, 0.17, np.inf) if falling else (0.17, 0.06, 1.002)
            ax.set_ylim(max(low - below * span, 0.0), min(high + above * span, most))
        margin = max(0.03 * float(np.ptp(self.epochs)), 0.5)
        ax.set_xlim(self.epochs.min() - margin, self.epochs.max() + margin)
        if self.best_epoch is not None:
            self._mark_best(ax, self.best_epoch, curves[-1], falling)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        ax.set(xlabel="epoch", ylabel="loss" if falling else "accuracy")
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(curves), frameon=False, handlelength=2.8)

    def _mark_best(self, ax: "Axes", best: int, curve: tuple[str, np.ndarray, str, Any], falling: bool) -> None:
        _, values, colour, _ = curve
        ax.axvline(best, color=_GREY, lw=0.9, zorder=1)
        ax.plot(best, values[self.epochs == best][0], "o", color=colour, mec="black", mew=1.4, ms=7, label="_best")
        edge, va = (1, "top") if falling else (0, "bottom")
        ha = "right" if best > sum(ax.get_xlim()) / 2 else "left"
        ax.text(best, edge, f"  best epoch {best}  ", transform=ax.get_xaxis_transform(), ha=ha, va=va, color=_GREY)


class ConfusionDisplay(_Display):
    """The confusion matrix of C classes as a heat map.

    The diagonal (what was right) is blue, the rest (what was taken for something else) orange, each with a scale of
    its own and both by the share of the true class: on one scale a good classifier's mistakes would all look like zero.
    Up to 20 classes the cells carry their numbers.

    Parameters
    ----------
    confusion : integer array-like of shape (C, C)
        Rows are true classes, columns predicted ones; else DataError.
    class_names : sequence of C names, optional
        By default 0 to C - 1.
    normalize : bool
        Write percentages of the true class into the cells instead of counts.

    Attributes
    ----------
    confusion, rates : ndarray of int64, and of float64, and shape (C, C)
        Counts, and shares of the true class, from 0 to 1; 0 for a class without samples.
    class_names : list of C str
    texts_ : ndarray of Text and shape (C, C), or None
        The numbers in the cells; None above 20 classes.
    """

    texts_: np.ndarray | None = None

    def __init__(self, confusion: ArrayLike, class_names: Sequence[object] | None = None, normalize: bool = False):
        self.confusion = evaluation.check_confusion(confusion)
        self.class_names = evaluation.check_names(class_names, len(self.confusion))
        self.normalize = normalize
        self.rates = self.confusion / np.maximum(self.confusion.sum(axis=1, keepdims=True), 1)

    @classmethod
    def from_predictions(
        cls,
        labels: ArrayLike,
        predictions: ArrayLike,
        class_names: Sequence[object] | None = None,
        normalize: bool = False,
        ax: "Axes | None" = None,
    ) -> Self:
        """Count `labels` against `predictions` (integers of shape (N,)) and plot, into `ax` or a new figure."""
        n_classes = None if class_names is None else len(class_names)
        return cls(evaluation.confusion(labels, predictions, n_classes), class_names, normalize).plot(ax)

    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the heat map, into `ax` or a new figure."""
        from matplotlib.colors import LinearSegmentedColormap

        n_classes = len(self.confusion)
        self._owns_figure = ax is None
        if ax is None:
            side = min(n_classes * (0.5 if n_classes <= 12 else 0.38), 8.0) + 0.09 * max(map(len, self.class_names))
            ax = self._new_figure(max(side, 3.0) + 2.0, max(side, 3.0) + 0.4).subplots()
        diagonal = np.eye(n_classes, dtype=bool)
        worst = float(self.rates[~diagonal].max(initial=0.0))
        colours = np.zeros((n_classes, n_classes, 4))
        for name, shown, ends, top in (
            ("mistaken", ~diagonal, ["#FFFFFF", "#F7BE94", _VERMILION], worst or 0.01),
            ("right", diagonal, ["#E3F0F8", "#00588A"], 1.0),
        ):
            rates = np.ma.masked_array(self.rates, ~shown)
            image = ax.imshow(rates, cmap=LinearSegmentedColormap.from_list(name, ends), vmin=0, vmax=top)
            colours[shown] = image.to_rgba(self.rates)[shown]
            bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, aspect=28, pad=0.03, format=_percent)
            bar.ax.set_title(name, fontsize=9, pad=8, loc="left")
            bar.set_label("share of the true class" if name == "mistaken" else "")
        self._label(ax)
        self.texts_ = self._write(ax, colours) if n_classes <= _MOST_CLASSES_WITH_TEXT else None
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _label(self, ax: "Axes") -> None:
        ticks = np.arange(0, len(self.class_names), -(-len(self.class_names) // 30))
        names = [self.class_names[tick] for tick in ticks]
        turned = max(map(len, names)) > 3
        ax.set_xticks(ticks, names, parse_math=False, rotation=45 if turned else 0, ha="right" if turned else "center")
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


class SamplesDisplay(_Display):
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
            ax.set_title(title, fontsize=8, pad=3, parse_math=False, color=_VERMILION if wrong else "black")
            ax.spines[:].set(color=_VERMILION if wrong else "#BBBBBB", linewidth=2.5 if wrong else 0.8)
        figure.suptitle(self._heading(), fontsize=11, y=None if titles else 0.5)
        self.figure_ = figure
        return self

    def _choose(self, labels: np.ndarray | None, proba: np.ndarray) -> np.ndarray:
        return np.arange(len(proba))

    def _heading(self) -> str:
        right = "" if self.labels is None else f", {np.sum(self.labels == self.predictions):,} of them right"
        return f"{len(self.rows):,} of {self.n_images:,} images{right}"

    def _title(self, place: int) -> str:
        confidence = self.confidences[place]
        percent = "> 99 %" if 0.995 <= confidence < 1 else f"{100 * confidence:.0f} %"
        said = f"said {self.class_names[self.predictions[place]]} ({percent})"
        if self.labels is None:
            return said
        true = f"true {self.class_names[self.labels[place]]},"
        return f"{true} {said}" if len(true) + len(said) <= 25 else f"{true}\n{said}"


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


def _column(frame: Any, name: str) -> np.ndarray:
    if name not in frame:
        raise DataError(f"the history has no column {name}, found {', '.join(map(str, frame)) or 'none'}")
    if isinstance(frame[name], np.ndarray):
        return np.asarray(frame[name], np.float64)
    try:
        return np.asarray(frame[name].to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        raise DataError(f"the history's column {name} is {frame[name].dtype}, expected numbers") from None


def _column_or_none(frame: Any, name: str) -> np.ndarray | None:
    values = _column(frame, name) if name in frame else np.empty(0)
    return values if np.isfinite(values).any() else None


def _percent(share: float, _: object = None) -> str:
    return f"{100 * share:.4g} %"
