"""Finds a sheet of paper that lies on a table of another brightness."""

import numpy as np

from fastnn.datasets.background import otsu_threshold
from fastnn.datasets.resize import shrunk

_SIDE = 128
# The least part of the picture, and the least difference in brightness from the table.
_LEAST_AREA = 0.08
_LEAST_CONTRAST = 40.0
# The least part of its turned bounding box that a sheet fills. A disc or a ring with its hole fills 0.79.
_RECTANGULARITY = 0.84
_SHORTEST_SIDE = 56
_LONGEST_SIDE = 3.0  # as a multiple of the shorter side
_MARGIN = 2  # pixels of the reduced picture at the edge of the sheet


def find_sheet(grey: np.ndarray) -> np.ndarray | None:
    """Return where the sheet is, without its edge: (height, width) bool; None without a sheet.

    The table must be seen on three sides at least: an area that reaches two sides of the picture may be light beside a
    shadow.

    grey: (height, width) float32, from 0 to 255
    """
    from PIL import Image
    from scipy import ndimage

    if min(grey.shape) < _SHORTEST_SIDE:
        return None
    small = shrunk(grey, _SIDE)
    for pixels in (small, 255 - small):
        labels, count = ndimage.label(pixels > otsu_threshold(pixels))
        if not count:
            continue
        sheet = ndimage.binary_fill_holes(labels == 1 + np.argmax(np.bincount(labels.reshape(-1))[1:]))
        if _is_sheet(sheet, pixels, max(grey.shape) / max(small.shape)):
            inside = ndimage.binary_erosion(sheet, np.ones((3, 3)), _MARGIN)
            return np.asarray(Image.fromarray(inside).resize(grey.shape[::-1], Image.Resampling.NEAREST))
    return None


def _is_sheet(area: np.ndarray, pixels: np.ndarray, scale: float) -> bool:
    """Return whether the area is like a rectangle, lighter than its surroundings, with a table round it.

    area: (height, width) bool
    pixels: (height, width) float32
    scale: the side of these pixels in pixels of the original picture
    """
    reached = sum(bool(side.mean() > 0.03) for side in (area[0], area[-1], area[:, 0], area[:, -1]))
    if reached > 1 or not _LEAST_AREA <= area.mean() < 0.97:
        return False
    if np.median(pixels[area]) - np.median(pixels[~area]) < _LEAST_CONTRAST:
        return False
    short, long = _turned_box(area)
    is_filled = area.sum() >= _RECTANGULARITY * short * long
    return bool(is_filled and short * scale >= _SHORTEST_SIDE and long <= _LONGEST_SIDE * short)


def _turned_box(area: np.ndarray) -> tuple[float, float]:
    """Return the sides of the smallest rectangle round the area, at any angle, the shorter side first."""
    y, x = np.nonzero(area)
    angles = np.deg2rad(np.arange(0, 90, 3))[:, None]
    sides = np.stack([
        np.ptp(x * np.cos(angles) + y * np.sin(angles), axis=1) + 1,
        np.ptp(y * np.cos(angles) - x * np.sin(angles), axis=1) + 1,
    ])  # fmt: skip
    best = sides[:, sides.prod(axis=0).argmin()]
    return float(best.min()), float(best.max())
