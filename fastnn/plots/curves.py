"""Draws the learning curves of one run, or of several runs in the same panels."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastnn.errors import DataError, SettingsError
from fastnn.plots.display import BLUE, COLOURS, GREY, VERMILION, Display, percent, tidy
from fastnn.plots.labels import last_step
from fastnn.training.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TWO_PANELS = "two: for the loss and for the accuracy"
_HISTORY_EXPECTED = "expected a training history, its DataFrame, the result of train or a fitted estimator"
_MARKERS = "osD^vP*"  # mark the best epochs; 7 markers and 7 colours distinguish 49 runs


class LearningCurveDisplay(Display):
    """Loss and accuracy over E epochs, for training and validation (if any), with the best epoch marked.

    A run whose accuracy is NaN, because its outputs are numbers, has only the panel of the loss.

    Parameters
    ----------
    history : History, result of `train`, fitted estimator, object with a method ``to_frame()``, or DataFrame
        The columns are epoch (1, 2, ...), loss and accuracy (0 to 1), and optionally validation_loss and
        validation_accuracy, which are NaN for epochs without validation.

    Attributes
    ----------
    epochs : ndarray of int64 and shape (E,)
    loss, accuracy, validation_loss, validation_accuracy : ndarray of float64 and shape (E,)
        A validation column is None if no epoch was validated.
    best_epoch : int or None
        The first epoch with the lowest validation loss or, without validation, the lowest training loss. None if no
        loss is finite.

    Raises
    ------
    DataError
        If `history` is not a history, lacks a column, or has no epochs.
    """

    def __init__(self, history: Any) -> None:
        history = _history_of(history)
        if isinstance(history, History):  # avoids importing pandas, which takes longer than drawing
            frame: Any = history.arrays()
        else:
            frame = history.to_frame() if hasattr(history, "to_frame") else history
        if not isinstance(frame, dict) and not hasattr(frame, "columns"):
            raise DataError(f"history is {type(history).__name__}, {_HISTORY_EXPECTED}")
        epochs = _column(frame, "epoch")
        if not len(epochs) or not np.isfinite(epochs).all():
            raise DataError(f"the history has {len(epochs)} epochs, expected at least one, numbered 1, 2, 3, ...")
        self.epochs = epochs.astype(np.int64)
        self.loss, self.accuracy = _column(frame, "loss"), _column(frame, "accuracy")
        self.validation_loss = _column_or_none(frame, "validation_loss")
        self.validation_accuracy = _column_or_none(frame, "validation_accuracy")
        criterion = self.loss if self.validation_loss is None else self.validation_loss
        finite = np.where(np.isfinite(criterion), criterion, np.inf)
        self.best_epoch = int(self.epochs[finite.argmin()]) if np.isfinite(finite).any() else None

    @classmethod
    def from_history(cls, history: Any, ax: "Sequence[Axes] | None" = None) -> Self:
        """Plot `history` into `ax` (two Axes) or a new figure; the class describes the parameter."""
        return cls(history).plot(ax)

    @classmethod
    def from_estimator(cls, estimator: Any, ax: "Sequence[Axes] | None" = None) -> Self:
        """Plot the history of a fitted estimator, or of a pipeline that ends with one, into `ax` or a new figure."""
        return cls(estimator).plot(ax)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> Self:
        """Draw the panels into `ax`, two Axes (one without an accuracy), or a new figure; SettingsError otherwise."""
        if not np.isfinite(self.accuracy).any():
            (loss_ax,) = self._panels(ax, 1, "one, for the loss", (4.8, 3.6))
            self._draw_panel(loss_ax, self.loss, self.validation_loss, falling=True)
            return self
        loss_ax, accuracy_ax = self._panels(ax, 2, _TWO_PANELS, (9.0, 3.6), nrows=1, ncols=2)
        self._draw_panel(loss_ax, self.loss, self.validation_loss, falling=True)
        self._draw_panel(accuracy_ax, self.accuracy, self.validation_accuracy, falling=False)
        return self

    def _draw_panel(self, ax: "Axes", train: np.ndarray, validation: np.ndarray | None, falling: bool) -> None:
        curves: list[tuple[str, np.ndarray, str, Any]] = [("training", train, BLUE, "-")]
        if validation is not None:
            curves.append(("validation", validation, VERMILION, (0, (4, 1.5))))
        for name, values, colour, line in curves:
            drawn = np.isfinite(values)
            marker = "o" if drawn.sum() <= 15 else ""
            ax.plot(self.epochs[drawn], values[drawn], color=colour, ls=line, lw=1.8, marker=marker, ms=3.5, label=name)
        values = np.concatenate([values for _, values, _, _ in curves])
        values = values[np.isfinite(values)]
        if len(values):
            low, high = float(values.min()), float(values.max())
            span = max(high - low, 0.02 * abs(high), 1e-6)
            ax.set_ylim(max(low - 0.06 * span, 0.0), min(high + 0.06 * span, np.inf if falling else 1.002))
        _show_epochs(ax, self.epochs)
        if self.best_epoch is not None:
            self._mark_best(ax, self.best_epoch, curves[-1])
        _label_panel(ax, "loss" if falling else "accuracy")
        # Above the panel, no curve can run through it.
        style: dict[str, Any] = {"frameon": False, "handlelength": 2.2, "columnspacing": 1.0, "fontsize": 9}
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(curves) + 1, **style)

    def _mark_best(self, ax: "Axes", best: int, curve: tuple[str, np.ndarray, str, Any]) -> None:
        _, values, colour, _ = curve
        style: dict[str, Any] = {"color": colour, "mec": "black", "mew": 1.4, "ms": 7, "label": f"best epoch {best}"}
        ax.axvline(best, color=GREY, lw=0.9, zorder=1)
        ax.plot(best, values[self.epochs == best][0], "o", **style)


class RunsDisplay(Display):
    """Learning curves of several runs in the same panels, one colour per run, with the best epoch of each marked.

    A solid line shows the validation values of a run, and a dotted line its training values. A run without validation
    has only a solid line, of its training values. The loss axis is logarithmic if the largest loss is more than 50
    times the smallest.

    Parameters
    ----------
    histories : mapping of str to history
        Maps the name of each run to its history, which may have any type that `LearningCurveDisplay` accepts.

    Attributes
    ----------
    runs : dict of str to LearningCurveDisplay
        The curves of each run, as arrays.

    Raises
    ------
    SettingsError
        If there are no runs.
    DataError
        If a history is invalid; the message names the run.
    """

    def __init__(self, histories: Mapping[str, Any]) -> None:
        if not isinstance(histories, Mapping):
            found = type(histories).__name__
            raise SettingsError(f"histories is {found}, expected a dict of the name of each run to its history")
        if not histories:
            raise SettingsError("histories contain no run, expected at least one")
        self.runs: dict[str, LearningCurveDisplay] = {}
        for name, history in histories.items():
            try:
                self.runs[name] = LearningCurveDisplay(history)
            except DataError as error:
                raise DataError(f"{name}: {error}") from None

    @classmethod
    def from_histories(cls, histories: Mapping[str, Any], ax: "Sequence[Axes] | None" = None) -> Self:
        """Plot `histories` into `ax` (two Axes) or a new figure; the class describes the parameter."""
        return cls(histories).plot(ax)

    def plot(self, ax: "Sequence[Axes] | None" = None) -> Self:
        """Draw the two panels into `ax`, two Axes, or a new figure; SettingsError for another number."""
        size = (9.0, 3.7 + 0.2 * len(self.runs))
        loss_ax, accuracy_ax = self._panels(ax, 2, _TWO_PANELS, size, nrows=1, ncols=2)
        for panel, name in ((loss_ax, "loss"), (accuracy_ax, "accuracy")):
            lines = [_draw_run(panel, curves, name, index) for index, curves in enumerate(self.runs.values())]
            _show_epochs(panel, np.concatenate([curves.epochs for curves in self.runs.values()]))
            _label_panel(panel, name)
        losses = np.concatenate([np.asarray(line.get_ydata()) for line in loss_ax.lines])
        if len(losses) and losses.min() > 0 and losses.max() > 50 * losses.min():
            loss_ax.set_yscale("log")
        self._add_legend(accuracy_ax, lines)
        return self

    def _add_legend(self, ax: "Axes", lines: list[Any]) -> None:
        validated = [curves.validation_loss is not None for curves in self.runs.values()]
        names = [run if known else f"{run} (training)" for run, known in zip(self.runs, validated, strict=True)]
        title = "lines: validation, dots: training" if any(validated) else None
        style: dict[str, Any] = {"title": title, "frameon": False, "alignment": "left"}
        labels = [str(index) for index in range(len(names))]
        if self._owns_figure:  # below the panels there is room for long names
            legend = ax.figure.legend(lines, labels, loc="outside lower left", **style)
        else:
            legend = ax.legend(lines, labels, **style)
        # Set after the legend, because a name may contain $ or start with _.
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set(text=name, parse_math=False)


def _draw_run(ax: "Axes", curves: LearningCurveDisplay, name: str, index: int) -> Any:
    """Draw one run with its own colour and its own marker at the best epoch; return the line for the legend."""
    colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[(index + index // len(COLOURS)) % len(_MARKERS)]
    train, validation = getattr(curves, name), getattr(curves, f"validation_{name}")
    if validation is not None:
        drawn = np.isfinite(train)
        ax.plot(curves.epochs[drawn], train[drawn], color=colour, ls=(0, (1, 1.6)), lw=1.2)
    shown = train if validation is None else validation
    drawn = np.isfinite(shown)
    best = np.flatnonzero(curves.epochs[drawn] == curves.best_epoch).tolist()
    (line,) = ax.plot(
        curves.epochs[drawn], shown[drawn], color=colour, lw=1.8,
        marker=marker, markevery=best, ms=7, mec="black", mew=1.2,
    )  # fmt: skip
    return line


def _show_epochs(ax: "Axes", epochs: np.ndarray) -> None:
    margin = max(0.03 * float(np.ptp(epochs)), 0.5)
    ax.set_xlim(epochs.min() - margin, epochs.max() + margin)


def _label_panel(ax: "Axes", name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    ax.set(xlabel="epoch", ylabel=name)
    if name == "accuracy":
        ax.yaxis.set_major_formatter(percent)
    tidy(ax)


def _history_of(value: Any) -> Any:
    """Return the history of a result of `train`, an estimator or a pipeline; anything else as it is."""
    last = last_step(value)
    for owner, name in ((last, "history_"), (value, "history")):
        if hasattr(type(owner), name) or name in getattr(owner, "__dict__", {}):
            return getattr(owner, name)
    return value


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
