"""Crops the ink of a mark to its strokes, and separates digits that nearly touch."""

from itertools import pairwise

import numpy as np

from fastnn.datasets.pictures.marks import find_marks

_STRONG = 0.3  # ink of this fraction of the full ink connects a digit
# Strokes have at least the first fraction of the full ink. What is thinner than the second fraction of their width, or
# fainter, and further from them than the third fraction of the digit's size, is no part of the digit if the strokes
# have less than the last fraction of the whole size.
_STROKE_STRENGTH = 0.42
_THIN = 0.3
_STROKE_REACH = 0.04
_RULED_REACH = 0.015
_STROKE_PART = 0.93
# Digits that nearly touch are separated if together they are this much wider than high, each has this fraction of the
# height, and their columns overlap by at most the last fraction.
_WIDE = 1.05
_PART_HEIGHT = 0.5
_PART_OVERLAP = 0.15


def separated(ink: np.ndarray) -> list[np.ndarray]:
    """Separate digits with narrow gaps: return the ink of each, from left to right.

    ink: (height, width) float32, from 0 to 255
    """
    from scipy import ndimage

    height, width = ink.shape
    if width < _WIDE * height:
        return [ink]
    padded = np.pad(ink, 2)
    marks = find_marks(padded > 255 * _STRONG, padded)
    digits = sorted(marks.digits, key=lambda digit: digit.left)
    if min((digit.height for digit in digits), default=0) < _PART_HEIGHT * height:
        return [ink]
    for first, second in pairwise(digits):
        if first.right - second.left > _PART_OVERLAP * min(first.width, second.width):
            return [ink]
    if len(digits) == 1:
        return [ink]
    near = [ndimage.maximum_filter(np.isin(marks.labels, digit.numbers), 5) for digit in digits]
    return [np.where(mask, padded, np.float32(0))[_box(mask & (padded > 0))] for mask in near]


def box_of_strokes(ink: np.ndarray, edge: float, is_ruled: bool) -> tuple[slice, slice]:
    """Return the rows and columns of the ink above the edge value.

    A stain or what remains of a line is faint or thin, and reaches far beyond the strokes, unlike their own edges. If
    the rest is clearly smaller, or lines were removed, only the rest counts.

    ink: (height, width) float32, from 0 to 255
    edge: the value above which ink belongs to a digit
    is_ruled: whether lines were removed from the ink
    """
    from scipy import ndimage

    whole = _box(ink > edge)
    strokes = ink[whole] > 255 * _STROKE_STRENGTH
    if not strokes.any():
        return whole
    width = 2 * float(np.percentile(ndimage.distance_transform_edt(np.pad(strokes, 1)), 98))
    thick = ndimage.binary_opening(strokes, np.ones((side, side))) if (side := round(_THIN * width)) > 1 else strokes
    reach = max(2, round((_RULED_REACH if is_ruled else _STROKE_REACH) * max(strokes.shape)))
    near = ndimage.maximum_filter(thick, 2 * reach + 1) & (ink[whole] > edge)
    if not near.any():
        return whole
    rows, columns = _box(near)
    least = max(strokes.shape) * (1 if is_ruled else _STROKE_PART)
    if max(rows.stop - rows.start, columns.stop - columns.start) >= least:
        return whole
    top, left = whole[0].start, whole[1].start
    return slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop)


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns from the first to the last True."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
