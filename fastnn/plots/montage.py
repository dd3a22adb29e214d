"""Many small images in one Axes, a name above each."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

# Of a cell that is one image wide: the gap beside an image. The strip for its name is as high as the letters need.
_GAP, _STRIP = 0.08, 0.19  # the latter in inches


def montage_size(count: int, image_shape: tuple[int, int], columns: int, width: float) -> tuple[float, float]:
    """Width and height, in inches, of `count` images with their names, `columns` of them `width` wide."""
    columns = min(columns, count)
    cell = min(width / columns, 1.3)
    tall = float(np.clip(image_shape[0] / image_shape[1], 0.15, 3.0))
    return cell * columns, -(-count // columns) * (cell * (1 - _GAP) * tall + _STRIP)


def draw_montage(
    ax: "Axes", images: np.ndarray, names: list[str], columns: int, colours: Any, low: float, high: float
) -> "AxesImage":
    """Draw `images` (K, height, width), at least one, row by row, and their `names`; returns one, for a colour bar.

    ``ax.images`` and ``ax.texts`` hold them in that order.
    """
    count, height, width = images.shape
    columns = min(columns, count)
    lines = -(-count // columns)
    total_width, total_height = montage_size(count, (height, width), columns, 9.0)
    cell, line = total_width / columns, total_height / lines
    for place, (image, name) in enumerate(zip(images, names, strict=True)):
        left, top = place % columns * cell, place // columns * line + _STRIP
        extent = (left, left + cell * (1 - _GAP), top + line - _STRIP - 0.02, top)
        drawn = ax.imshow(
            image, cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest", aspect="auto"
        )
        ax.text(left, top - 0.025, name, fontsize=8, va="bottom", parse_math=False)
    ax.set(xlim=(-0.02, total_width), ylim=(total_height, 0), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    return drawn
