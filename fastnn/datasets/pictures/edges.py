"""Measures whether marks end at edges of the picture, as strokes do."""

import numpy as np


def edge_support(labels: np.ndarray, grey: np.ndarray, background: np.ndarray, is_dark: bool) -> np.ndarray:
    """Return the part of each mark's outline where the picture returns to the level of the background.

    The gaps between dark strokes, or between a stroke and a dark table, look like light marks. Such a gap has open
    sides, where the light area continues.

    labels: (rows, columns) int32, the number of the mark of each cell, 0 for the background
    grey, background: (rows, columns) float32, from 0 to 255
    is_dark: whether marks are darker than the background
    returns: (numbers,) float, from 0 to 1
    """
    from scipy import ndimage

    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    ring = (distance > 1.5) & (distance < 3.5)
    extreme = ndimage.minimum_filter(grey, 3) if is_dark else ndimage.maximum_filter(grey, 3)
    rows, columns = nearest[0][ring], nearest[1][ring]
    ink, difference = extreme[rows, columns], (background - extreme)[rows, columns]
    is_edge = (grey[ring] - ink) * np.sign(difference) > 0.5 * np.abs(difference)
    numbers = labels[rows, columns]
    length = np.bincount(numbers, minlength=labels.max() + 1)
    found = np.bincount(numbers, is_edge, minlength=labels.max() + 1)
    return np.where(length > 0, found / np.maximum(length, 1), 1.0)
