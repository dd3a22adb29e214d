"""Draws an explanation: the sample, the contributions of its inputs, logits, probabilities and hidden layers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from fastnn.evaluation import probability_text
from fastnn.evaluation.images import picture
from fastnn.explanation.explanation import Explanation, explain
from fastnn.explanation.text import KINDS
from fastnn.network import ACTIVATIONS, Conv2D
from fastnn.plots.display import BLUE, GREY, VERMILION, Display, draw_bars
from fastnn.plots.montage import draw_signed_montage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.gridspec import SubplotSpec

_OTHERS = "#A6A6A6"
_MAX_CLASSES_WITH_TEXT = 20
_MAX_NAMED_INPUTS = 30
_MOST_MAPS, _MAPS_HEIGHT = 16, 2.2


class ExplainDisplay(Display):
    """Figure of the steps of one sample through a network.

    The top row has four panels: the scaled inputs, the contribution of each input to the predicted class (blue) or to
    its rival (vermilion), the logits, and the probabilities. Below, each hidden layer has a row with the outputs of its
    units, or with its feature maps; the row of a convolution begins with its filters, each of them the mean of its
    channels. Up to 16 filters and maps of a layer are drawn. Of a sample with several channels, the mean is drawn, and
    the sum of their contributions.

    Parameters
    ----------
    explanation : Explanation
        The result of `fastnn.explain`. Every number in the figure comes from it.

    Attributes
    ----------
    explanation : Explanation
    axes_ : dict of str to Axes
        "inputs", "contributions", "logits", "probabilities", and "layer 1", "layer 2", ... for the hidden layers;
        "layer 1 filters" if layer 1 is a convolution.
    """

    axes_: "dict[str, Axes]"

    def __init__(self, explanation: Explanation) -> None:
        self.explanation = explanation

    @classmethod
    def from_network(
        cls,
        network: Any,
        row: ArrayLike,
        label: Any = None,
        *,
        class_names: Sequence[object] | None = None,
        image_shape: tuple[int, int] | None = None,
        figure: "Figure | SubFigure | None" = None,
    ) -> Self:
        """Explain `row` and draw the explanation into `figure` or a new figure.

        The other parameters and the errors are those of `fastnn.explain`.
        """
        return cls(explain(network, row, label, class_names=class_names, image_shape=image_shape)).plot(figure)

    from_estimator = from_network

    def plot(self, figure: "Figure | SubFigure | None" = None) -> Self:
        """Draw all panels into `figure`, which should be empty, or a new figure."""
        explanation, hidden = self.explanation, self.explanation.layers[:-1]
        n_classes = len(explanation.proba)
        top = float(np.clip(0.24 * n_classes, 2.4, 5.0)) + 0.5
        heights = [_MAPS_HEIGHT if layer.out.ndim == 3 else 1.5 for layer in hidden]
        self._owns_figure = figure is None
        if figure is None:
            figure = self._new_figure(12.0, top + 0.5 + sum(heights))
        grid = figure.add_gridspec(1 + len(hidden), 4, height_ratios=[top, *heights])
        names = ("inputs", "contributions", "logits", "probabilities")
        self.axes_ = {name: figure.add_subplot(grid[0, column]) for column, name in enumerate(names)}
        self.axes_["probabilities"].sharey(self.axes_["logits"])
        self._draw_inputs(self.axes_["inputs"])
        self._draw_contributions(self.axes_["contributions"])
        self._draw_classes(self.axes_["logits"], explanation.logits)
        self._draw_probabilities(self.axes_["probabilities"])
        for number, layer in enumerate(hidden, start=1):
            is_last = number == len(hidden)
            if layer.out.ndim == 3:
                self._draw_maps(figure, grid[number, :], number)
            else:
                ax = self.axes_[f"layer {number}"] = figure.add_subplot(grid[number, :])
                self._draw_units(ax, number, "unit" if is_last else "")
        figure.suptitle(self._heading(), fontsize=12, parse_math=False)
        self.figure_ = figure
        return self

    def _draw_units(self, ax: "Axes", number: int, label: str) -> None:
        layer = self.explanation.layers[number - 1]
        draw_bars(ax, layer.out, BLUE)
        title = f"layer {number}: {KINDS[layer.layer.kind].title}{layer.activation}"
        if ACTIVATIONS[layer.activation].can_die:
            title += f", {np.count_nonzero(layer.out):,} of {len(layer.out):,} units active"
        _title(ax, title)
        ax.set(xlabel=label, ylabel="output")

    def _draw_maps(self, figure: "Figure | SubFigure", cell: "SubplotSpec", number: int) -> None:
        """Draw the feature maps of a layer, and the filters of a convolution on their left."""
        layer = self.explanation.layers[number - 1]
        cells = cell.subgridspec(1, 2, width_ratios=(1, 2.4))
        ax = self.axes_[f"layer {number}"] = figure.add_subplot(cells[0, 1])
        unit = f"{layer.layer.unit_name(layer.out.shape)}s"
        shown = "" if len(layer.out) <= _MOST_MAPS else f", the first {_MOST_MAPS} {unit}"
        words = layer.layer.describe(layer.out.shape)
        activation = "" if layer.activation == "identity" else f" {layer.activation}"
        names = [str(number) for number in range(len(layer.out))]
        self._draw_pictures(ax, layer.out, names, "output")
        _title(ax, f"layer {number}: {words}{activation}{shown}")
        if not isinstance(layer.layer, Conv2D):
            return
        ax = self.axes_[f"layer {number} filters"] = figure.add_subplot(cells[0, 0])
        assert layer.weight is not None
        n_channels = len(layer.weight)
        # In the order of their maps. The numbers would be larger than the filters.
        self._draw_pictures(ax, layer.weight.mean(axis=0).transpose(2, 0, 1), [""] * len(names), "weight")
        _title(ax, "its filters" + (f", mean of {n_channels} channels" if n_channels > 1 else ""))

    def _draw_pictures(self, ax: "Axes", pictures: np.ndarray, names: list[str], label: str) -> None:
        draw_signed_montage(ax, pictures[:_MOST_MAPS], names[:_MOST_MAPS], _MOST_MAPS // 2, label)

    def _heading(self) -> str:
        explanation = self.explanation
        predicted, proba = explanation.class_names[explanation.prediction], explanation.proba[explanation.prediction]
        heading = f"predicted {predicted} ({probability_text(proba)})"
        if explanation.label is None:
            return heading
        return f"{heading}, label {explanation.class_names[explanation.label]}, loss {explanation.loss:.4g}"

    def _draw_inputs(self, ax: "Axes") -> None:
        inp, shape = self.explanation.layers[0].inp, self.explanation.input_shape
        _title(ax, "scaled inputs" if self.explanation.network.standardization is None else "standardised inputs")
        if shape is None:
            draw_bars(ax, inp.ravel(), GREY)
            self._name_inputs(ax)
        else:
            drawn = picture(inp, shape)
            ax.imshow(drawn, cmap="gray_r", vmin=min(0.0, float(drawn.min())))
            ax.set(xticks=[], yticks=[], anchor="N")

    def _name_inputs(self, ax: "Axes") -> None:
        """Write the names of the inputs at the axis, or their numbers if there are no names or too many."""
        names = self.explanation.feature_names
        if names is None or len(names) > _MAX_NAMED_INPUTS:
            ax.set(xlabel="input")
        else:
            ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)

    def _draw_contributions(self, ax: "Axes") -> None:
        from matplotlib.colors import LinearSegmentedColormap

        explanation = self.explanation
        values, shape, names = explanation.contributions, explanation.input_shape, explanation.class_names
        predicted = names[explanation.prediction]
        rival = "" if explanation.rival is None else f", for {names[explanation.rival]} (vermilion)"
        _title(ax, f"for {predicted} (blue){rival}")
        if shape is None:
            draw_bars(ax, values, np.where(values < 0, VERMILION, BLUE))
            self._name_inputs(ax)
            return
        values = values.reshape(shape).sum(axis=0)
        limit = float(np.abs(values).max()) or 1.0
        colours = LinearSegmentedColormap.from_list("contributions", [VERMILION, "#FFFFFF", BLUE])
        image = ax.imshow(values, cmap=colours, vmin=-limit, vmax=limit)
        ax.set(xticks=[], yticks=[], anchor="N")
        # The layout ignores an inset, so this image stays as large as that of the inputs.
        ax.figure.colorbar(
            image, cax=ax.inset_axes((0, -0.1, 1, 0.05)), orientation="horizontal", label="input * gradient"
        )

    def _draw_classes(self, ax: "Axes", values: np.ndarray) -> None:
        """Draw one bar per class, class 0 on top, with the prediction and its rival highlighted."""
        explanation = self.explanation
        classes = np.arange(len(values))
        colours = np.full(len(values), _OTHERS, dtype=object)
        colours[explanation.prediction] = BLUE
        if explanation.rival is not None:
            colours[explanation.rival] = VERMILION
        ax.barh(classes, values, color=colours.tolist())
        ax.axvline(0, color=GREY, lw=0.8)
        names = list(explanation.class_names)
        if explanation.label is not None:
            names[explanation.label] += " (label)"
        ticks = slice(None, None, -(-len(classes) // 30))
        ax.set_yticks(classes[ticks], names[ticks], parse_math=False)
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
        if len(proba) > _MAX_CLASSES_WITH_TEXT:
            return
        for label, value in enumerate(proba):
            inside = value > 0.7
            ax.text(
                value - 0.02 if inside else value + 0.02, label, probability_text(value), fontsize=8,
                va="center", ha="right" if inside else "left", color="white" if inside else "black",
            )  # fmt: skip


def _title(ax: "Axes", text: str) -> None:
    ax.set_title(text, fontsize=10, parse_math=False)
