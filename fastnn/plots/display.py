"""What all displays share: the figure they own or were given, its file, its picture in a notebook, the colours."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from fastnn.errors import SettingsError
from fastnn.files.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people can tell apart.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#5F5F5F"
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


class Display:
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

    def png(self, dpi: float = 150) -> bytes:
        """The whole figure as the bytes of a PNG file."""
        return self._render("png", dpi)

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

    def _panels(self, ax: Any, count: int, expected: str, size: tuple[float, float], **grid: Any) -> "list[Axes]":
        """The Axes to draw in: `ax` (an Axes or several), else those of a new figure of that size and grid.

        SettingsError, with `expected` in it, where `ax` holds not `count` of them.
        """
        self._owns_figure = ax is None
        panels = np.ravel(np.asarray(self._new_figure(*size).subplots(**grid) if ax is None else ax, dtype=object))
        if len(panels) != count:
            raise SettingsError(f"ax holds {len(panels)} Axes, expected {expected}")
        return list(panels)

    def _repr_png_(self) -> bytes | None:
        self._root()
        # A figure of the caller's is shown by whoever made it: a second picture of it would be one too many.
        return self._render("png", "figure") if self._owns_figure else None


def percent(share: float, _: object = None) -> str:
    """A share as ticks and titles show it."""
    return f"{100 * share:.4g} %"


def tidy(ax: "Axes") -> None:
    """A light grid, and no lines where there is no scale."""
    ax.grid(alpha=0.25)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
