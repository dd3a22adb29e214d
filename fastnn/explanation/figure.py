"""An explanation as a figure: the sample, what spoke for and against, hidden layers, logits and probabilities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn.explanation.steps import Explanation, explain
from fastnn.network import Network
from fastnn.plots.display import BLUE, GREY, VERMILION, Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_OTHERS = "#A6A6A6"
_MOST_CLASSES_WITH_TEXT = 20


class ExplainDisplay(Display):
    """One sample's way through a network.

    Above, the sample as the first layer takes it, what each input says for the class predicted (blue) and for its
    rival (vermilion), the logits and the probabilities; below, what each unit of the hidden layers gives.

    Parameters
    ----------
    explanation : Explanation
        What `fastnn.explain` returns: all numbers drawn are its own.

    Attributes
    ----------
    explanation : Explanation
    axes_ : dict of str to Axes
        "inputs", "contributions", "logits", "probabilities", and "layer 1", "layer 2", ... for the hidden layers.
    """

    axes_: "dict[str, Axes]"

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation

    @classmethod
    def from_network(
        cls,
        network: Network,
        row: ArrayLike,
        label: int | None = None,
        *,
        class_names: Sequence[object] | None = None,
        image_shape: tuple[int, int] | None = None,
        figure: "Figure | SubFigure | None" = None,
    ) -> Self:
        """Explain `row` (see `fastnn.explain` for the parameters and errors) and draw, into `figure` or a new one."""
        return cls(explain(network, row, label, class_names=class_names, image_shape=image_shape)).plot(figure)

    def plot(self, figure: "Figure | SubFigure | None" = None) -> Self:
        """Draw all panels, into `figure` (which should be empty) or a new one."""
        explanation, hidden = self.explanation, self.explanation.layers[:-1]
        n_classes = len(explanation.proba)
        tall = float(np.clip(0.24 * n_classes, 2.4, 5.0)) + 0.5
        self._owns_figure = figure is None
        if figure is None:
            figure = self._new_figure(12.0, tall + 0.5 + 1.5 * len(hidden))
        grid = figure.add_gridspec(1 + len(hidden), 4, height_ratios=[tall, *[1.5] * len(hidden)])
        names = ("inputs", "contributions", "logits", "probabilities")
        self.axes_ = {name: figure.add_subplot(grid[0, column]) for column, name in enumerate(names)}
        self.axes_["probabilities"].sharey(self.axes_["logits"])
        self._draw_inputs(self.axes_["inputs"])
        self._draw_contributions(self.axes_["contributions"])
        self._draw_classes(self.axes_["logits"], explanation.logits)
        self._draw_probabilities(self.axes_["probabilities"])
        for place, layer in enumerate(hidden):
            ax = self.axes_[f"layer {place + 1}"] = figure.add_subplot(grid[1 + place, :])
            _draw_bars(ax, layer.out, BLUE)
            title = f"layer {place + 1}: {layer.activation}"
            if layer.activation == "relu":
                title += f", {np.count_nonzero(layer.out):,} of {len(layer.out):,} units active"
            _title(ax, title)
            ax.set(xlabel="unit" if place == len(hidden) - 1 else "", ylabel="output")
        figure.suptitle(self._heading(), fontsize=12, parse_math=False)
        self.figure_ = figure
        return self

    def _heading(self) -> str:
        explanation = self.explanation
        predicted, share = explanation.class_names[explanation.prediction], explanation.proba[explanation.prediction]
        heading = f"taken for {predicted} ({_percent(share)})"
        if explanation.label is None:
            return heading
        return f"{heading}, label {explanation.class_names[explanation.label]}, loss {explanation.loss:.4g}"

    def _draw_inputs(self, ax: "Axes") -> None:
        inp, shape = self.explanation.layers[0].inp, self.explanation.image_shape
        _title(ax, "scaled inputs")
        if shape is None:
            _draw_bars(ax, inp, GREY)
            ax.set(xlabel="input")
        else:
            ax.imshow(inp.reshape(shape), cmap="gray_r", vmin=min(0.0, float(inp.min())))
            ax.set(xticks=[], yticks=[], anchor="N")

    def _draw_contributions(self, ax: "Axes") -> None:
        from matplotlib.colors import LinearSegmentedColormap

        explanation = self.explanation
        values, shape, names = explanation.contributions, explanation.image_shape, explanation.class_names
        predicted = names[explanation.prediction]
        rival = "" if explanation.rival is None else f", not {names[explanation.rival]} (vermilion)"
        _title(ax, f"for {predicted} (blue){rival}")
        if shape is None:
            _draw_bars(ax, values, np.where(values < 0, VERMILION, BLUE))
            ax.set(xlabel="input")
            return
        most = float(np.abs(values).max()) or 1.0
        colours = LinearSegmentedColormap.from_list("evidence", [VERMILION, "#FFFFFF", BLUE])
        image = ax.imshow(values.reshape(shape), cmap=colours, vmin=-most, vmax=most)
        ax.set(xticks=[], yticks=[], anchor="N")
        # An inset, since a bar with a place of its own in the layout would make this image smaller than the other.
        ax.figure.colorbar(
            image, cax=ax.inset_axes((0, -0.1, 1, 0.05)), orientation="horizontal", label="input * gradient"
        )

    def _draw_classes(self, ax: "Axes", values: np.ndarray) -> None:
        """Bars of all classes, the first on top; the prediction and its rival in their colours."""
        explanation = self.explanation
        classes = np.arange(len(values))
        colours = np.full(len(values), _OTHERS, dtype=object)
        colours[explanation.prediction] = BLUE
        if explanation.rival is not None:
            colours[explanation.rival] = VERMILION
        ax.barh(classes, values, color=colours.tolist())
        ax.axvline(0, color=GREY, lw=0.8)
        names = [
            f"{name} (label)" if i == explanation.label else name for i, name in enumerate(explanation.class_names)
        ]
        ticks = classes[:: -(-len(classes) // 30)]
        ax.set_yticks(ticks, [names[tick] for tick in ticks], parse_math=False)
        ax.set_ylim(len(values) - 0.4, -0.6)
        ax.spines[["top", "right"]].set_visible(False)
        _title(ax, "logits")
        ax.set(xlabel="weighted sum")

    def _draw_probabilities(self, ax: "Axes") -> None:
        proba = self.explanation.proba
        self._draw_classes(ax, proba)
        ax.tick_params(labelleft=False)
        _title(ax, "probabilities")
        ax.set(xlabel="exp(z - max(z)) / sum", xlim=(0, 1))
        if len(proba) > _MOST_CLASSES_WITH_TEXT:
            return
        for place, share in enumerate(proba):
            inside = share > 0.7
            ax.text(
                share - 0.02 if inside else share + 0.02, place, _percent(share), fontsize=8,
                va="center", ha="right" if inside else "left", color="white" if inside else "black",
            )  # fmt: skip


def _draw_bars(ax: "Axes", values: np.ndarray, colours: object) -> None:
    from matplotlib.ticker import MaxNLocator

    places = np.arange(len(values))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.bar(places, values, width=0.85, color=colours)
    silent = values == 0
    # A mark where there is no bar, so that a 0 is not taken for a gap.
    ax.plot(places[silent], values[silent], "|", color=GREY, ms=5, mew=0.8)
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set_xlim(-0.8, len(values) - 0.2)
    ax.spines[["top", "right"]].set_visible(False)


def _title(ax: "Axes", text: str) -> None:
    ax.set_title(text, fontsize=10, parse_math=False)


def _percent(share: float) -> str:
    return "< 0.1 %" if share < 0.0005 else "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"
