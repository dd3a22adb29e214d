"""Finds a sheet of paper that lies on a table of another brightness."""

import numpy as np

from fastnn.datasets.pictures.background import otsu_threshold
from fastnn.datasets.pictures.resize import shrunk

_SIDE = 128
# The least part of the picture, and the least difference in brightness from the table.
_LEAST_AREA = 0.08
_LEAST_CONTRAST = 40.0
# The part that a sheet and the quadrilateral between its corners have in common. For a disc it is 0.64.
_QUADRILATERAL = 0.9
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
    """Return whether the area has four corners, is lighter than its surroundings, and has a table round it.

    area: (height, width) bool
    pixels: (height, width) float32
    scale: the side of these pixels in pixels of the original picture
    """
    from PIL import Image, ImageDraw

    reached = sum(bool(side.mean() > 0.03) for side in (area[0], area[-1], area[:, 0], area[:, -1]))
    if reached > 1 or not _LEAST_AREA <= area.mean() < 0.97:
        return False
    if np.median(pixels[area]) - np.median(pixels[~area]) < _LEAST_CONTRAST:
        return False
    corners = _corners(area)
    quadrilateral = Image.new("L", area.shape[::-1])
    ImageDraw.Draw(quadrilateral).polygon([(x, y) for y, x in corners], fill=1)
    between = np.asarray(quadrilateral) > 0
    fit = (area & between).sum() / (area | between).sum()
    sides = np.hypot(*(corners - np.roll(corners, 1, axis=0)).T) + 1
    is_long = sides.max() > _LONGEST_SIDE * sides.min()
    return bool(fit >= _QUADRILATERAL and sides.min() * scale >= _SHORTEST_SIDE and not is_long)


def _corners(area: np.ndarray) -> np.ndarray:
    """Return the y and x of the area's corners, in order: (4, 2) float.

    Of the extreme points in four directions at right angles, those at the angle of the largest quadrilateral.
    """
    from scipy import ndimage

    points = np.argwhere(area & ~ndimage.binary_erosion(area)).astype(float)
    angles = np.deg2rad(np.arange(0, 90, 3)[:, None] + [0, 90, 180, 270])
    farthest = np.argmax(np.stack([np.sin(angles), np.cos(angles)], axis=-1) @ points.T, axis=-1)
    quadrilaterals = points[farthest]  # (angles, 4, 2)
    y, x = quadrilaterals[..., 0], quadrilaterals[..., 1]
    areas = np.abs(np.sum(x * np.roll(y, 1, axis=1) - y * np.roll(x, 1, axis=1), axis=1))
    return quadrilaterals[areas.argmax()]
