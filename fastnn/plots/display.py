"""The base class of all displays, with the colours and helpers they share."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from fastnn.errors import SettingsError
from fastnn.files.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind people can distinguish.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#5F5F5F"
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


ImageShape = tuple[int, int] | None  # (height, width); None is an error that names the argument
Names = Sequence[object] | None


class Display:
    """Base class of all displays: creates or accepts a figure, saves it, and shows it in notebooks."""

    figure_: Any = None
    ax_: Any = None
    axes_: Any = None
    _owns_figure = False

    def plot(self) -> Self:
        raise NotImplementedError

    def save(self, path: str | Path, dpi: float = 150) -> Path:
        """Write the whole figure to a file, atomically, and return its path.

        Parameters
        ----------
        path : str or Path
            The extension selects the format: .png, .pdf, .svg, ...
        dpi : float
            Resolution in dots per inch.

        Raises
        ------
        SettingsError
            If Matplotlib does not support the extension.
        FileError
            If the file cannot be written.
        """
        target, known = Path(path), sorted(self._root().canvas.get_supported_filetypes())
        extension = target.suffix[1:].lower()
        if extension not in known:
            raise SettingsError(f"{target}: the extension is {target.suffix!r}, expected one of .{', .'.join(known)}")
        write_atomically(target, self._render(extension, dpi))
        return target

    def png(self, dpi: float = 150) -> bytes:
        """Return the whole figure as the bytes of a PNG file, with `dpi` dots per inch."""
        return self._render("png", dpi)

    def _render(self, extension: str, dpi: float | Literal["figure"]) -> bytes:
        picture = BytesIO()
        box = "tight" if self._owns_figure else None
        self._root().savefig(picture, format=extension, dpi=dpi, bbox_inches=box)
        return picture.getvalue()

    def _root(self) -> "Figure":
        return (self.figure_ or self.plot().figure_).figure

    def _new_figure(self, width: float, height: float) -> "Figure":
        from matplotlib.figure import Figure

        return Figure(figsize=(width, height), layout="constrained")

    def _panels(self, ax: Any, count: int, expected: str, size: tuple[float, float], **grid: Any) -> "list[Axes]":
        """Return the Axes to draw in: those of `ax` (one or several), or those of a new figure of this size and grid.

        Sets `figure_`, `axes_` and `ax_`, the first of the Axes. Raises SettingsError if `ax` does not hold `count`
        Axes; `expected` is a part of the message.
        """
        self._owns_figure = ax is None
        given = self._new_figure(*size).subplots(**grid) if ax is None else ax
        panels = list(np.ravel(np.asarray(given, dtype=object)))
        if len(panels) != count:
            raise SettingsError(f"ax holds {len(panels)} Axes, expected {expected}")
        self.figure_, self.axes_, self.ax_ = panels[0].figure, tuple(panels), panels[0]
        return panels

    def _repr_png_(self) -> bytes | None:
        self._root()
        # A figure from the caller is shown by the caller. Returning it here would show it twice.
        return self._render("png", "figure") if self._owns_figure else None


def signed_colours() -> Any:
    """Return the colour map of numbers with a sign: vermilion below 0, white at 0, blue above."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("signed", [VERMILION, "#F7D9C4", "#FFFFFF", "#C2DDEE", BLUE])


def percent(fraction: float, _: object = None) -> str:
    """Return a fraction as a percentage, for titles and as a tick formatter."""
    return f"{100 * fraction:.4g} %"


def tidy(ax: "Axes") -> None:
    """Add a light grid and hide the top and right borders."""
    ax.grid(alpha=0.25)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def draw_bars(ax: "Axes", values: np.ndarray, colours: object) -> None:
    """Draw one bar per value (N,), with integers at the axis, and a tick for each value of 0, which has no bar."""
    from matplotlib.ticker import MaxNLocator

    indices, zero = np.arange(len(values)), values == 0
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.bar(indices, values, width=0.85, color=colours)
    ax.plot(indices[zero], values[zero], "|", color=GREY, ms=5, mew=0.8)
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set_xlim(-0.8, len(values) - 0.2)
    ax.spines[["top", "right"]].set_visible(False)
