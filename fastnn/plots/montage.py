"""Draws many small images in one Axes, each below its name."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.plots.display import signed_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_GAP = 0.08  # the gap beside an image, as a fraction of the width of its cell
_STRIP = 0.19  # the height above an image for its name, in inches
_FRAME = "#CCCCCC"


def montage_size(count: int, image_shape: tuple[int, int], columns: int, width: float) -> tuple[float, float]:
    """Return the size in inches, (width, height), of `count` named images in rows of `columns`, up to `width` wide."""
    columns = min(columns, count)
    cell = min(width / columns, 1.3)
    aspect = float(np.clip(image_shape[0] / image_shape[1], 0.15, 3.0))
    return cell * columns, -(-count // columns) * (cell * (1 - _GAP) * aspect + _STRIP)


def draw_montage(
    ax: "Axes", images: np.ndarray, names: list[str], columns: int, colours: Any, low: float, high: float
) -> "AxesImage":
    """Draw the images row by row, with their names, and return one of the drawn images for a colour bar.

    images: (K, height, width), K >= 1
    names: K strings

    ``ax.images`` and ``ax.texts`` hold the images and the names in the given order.
    """
    count, height, width = images.shape
    columns = min(columns, count)
    lines = -(-count // columns)
    total_width, total_height = montage_size(count, (height, width), columns, 9.0)
    cell, line = total_width / columns, total_height / lines
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        left, top = i % columns * cell, i // columns * line + _STRIP
        extent = (left, left + cell * (1 - _GAP), top + line - _STRIP - 0.02, top)
        drawn = ax.imshow(
            image, cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest", aspect="auto"
        )
        ax.text(left, top - 0.025, name, fontsize=8, va="bottom", parse_math=False)
    ax.set(xlim=(-0.02, total_width), ylim=(total_height, 0), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    return drawn


def draw_signed_montage(
    ax: "Axes", images: np.ndarray, names: list[str], columns: int, label: str, percentile: float = 100.0
) -> None:
    """Draw images of numbers with a sign, with a colour bar: 0 is white, and both scales end at the same magnitude.

    images: (K, height, width), K >= 1
    names: K strings
    percentile: the share of the magnitudes, in percent, that the scale covers
    """
    from matplotlib.patches import Rectangle

    limit = float(np.percentile(np.abs(images), percentile)) or 1.0
    drawn = draw_montage(ax, images, names, columns, signed_colours(), -limit, limit)
    extend = "neither" if percentile == 100 else "both"
    bar = ax.figure.colorbar(drawn, ax=ax, extend=extend, aspect=28, shrink=0.8, pad=0.02)
    bar.set_label(label)
    if images.min() >= 0:
        bar.ax.set_ylim(0, limit)
    for left, right, bottom, top in (image.get_extent() for image in ax.images):  # 0 is as white as the page
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=_FRAME, linewidth=0.6))
