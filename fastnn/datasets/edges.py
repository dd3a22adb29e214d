"""Measures whether a mark ends at edges of the picture, as strokes do."""

import numpy as np


def edge_support(mark: np.ndarray, grey: np.ndarray, background: np.ndarray, is_dark: bool) -> float:
    """Return the part of a mark's outline where the picture returns to the level of the background.

    The gaps between dark strokes, or between a stroke and a dark table, look like light marks. Such a gap has open
    sides, where the light area continues.

    mark: (rows, columns) bool
    grey, background: (rows, columns) float32, from 0 to 255
    is_dark: whether the mark is darker than the background
    """
    from scipy import ndimage

    distance, nearest = ndimage.distance_transform_edt(~mark, return_indices=True)
    ring = (distance > 1.5) & (distance < 3.5)
    if not ring.any():
        return 1.0
    extreme = ndimage.minimum_filter(grey, 3) if is_dark else ndimage.maximum_filter(grey, 3)
    rows, columns = nearest[0][ring], nearest[1][ring]
    ink, level = extreme[rows, columns], background[rows, columns]
    change = (grey[ring] - ink) / np.where(np.abs(level - ink) < 1, np.copysign(1, level - ink), level - ink)
    return float((change > 0.5).mean())
