"""Separates the digits of a grey picture from everything else, then scales and centres them like MNIST's digits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from fastnn.datasets.pictures.background import (
    MIN_CONTRAST,
    local_contrast,
    otsu_threshold,
    robust_deviation,
    smooth_background,
)
from fastnn.datasets.pictures.crops import box_of_strokes, separated
from fastnn.datasets.pictures.edges import edge_support
from fastnn.datasets.pictures.grey import LARGEST_SIDE
from fastnn.datasets.pictures.lines import without_lines
from fastnn.datasets.pictures.marks import Component, Marks, find_marks
from fastnn.datasets.pictures.resize import resized, shrunk
from fastnn.datasets.pictures.sheets import find_sheet

_SIDE = 28
_BOX = 20
# The local background takes longer, and finds no digits that are small.
_LOCAL_SIDE = 512
_CELLS = 128
# The smallest contrast of ink as a multiple of the noise. Smaller differences from the background are not ink.
_NOISE_MULTIPLE = 5.0
# Ink fainter than this fraction of the strongest ink does not enlarge the bounding box of the digit.
_EDGE_FRACTION = 0.02
# Where the background is uneven, ink fainter than the first fraction does not connect marks, nor, if everything is
# connected to the border, ink fainter than the second.
_STRONG_FRACTIONS = (0.3, 0.55)
# A mark that contains a filled square of this fraction of its size is no digit, but a sheet or a shadow.
_BLOB_FRACTION = 0.5
_CUT_BLOB_FRACTION = 0.38
_CORNER_BLOB_FRACTION = 0.28  # if it covers a corner of the picture
# A digit on a sheet has at least this fraction of the sheet's size, leaves a margin, and its contrast is this part of
# the contrast between sheet and table.
_SHEET_MARK = 0.15
_SHEET_OVERLAP = 0.02
_SHEET_MARGIN = 0.95
_SHEET_CONTRAST = 0.2
# A digit that is cut off has nearly all ink. A side of the picture is cut by at most this part of ink, in few places.
_CUT_MASS = 0.85
_REST_MASS = 0.2  # the part of its ink that is a digit if the rest is not
_CUT_SIDE = 0.4
_MOST_MASS = 0.3
_CUT_PLACES = 8


@dataclass(frozen=True)
class _Reading:
    """The ink of a picture under one estimate of the background."""

    ink: np.ndarray  # (height, width) float32 from 0 to 255, without lines
    edge: float  # ink above this value enlarges the bounding box
    is_ruled: bool  # whether lines were removed
    is_dark: bool  # whether ink is darker than the background
    cell: int  # the side of a cell in pixels
    marks: Marks  # of cells


def find_digits(grey: np.ndarray, invert: Literal["auto"] | bool) -> list[np.ndarray] | None:
    """Return the ink of each digit: (h, w) float32, cropped, from 0 (background) to 255; None without ink.

    An empty list means that there is ink, but no mark that can be a digit. Digits are ordered in rows from top to
    bottom, and from left to right within a row.

    grey: (height, width) float32, from 0 to 255
    invert: whether ink is darker than the background; "auto" chooses the larger total contrast
    """
    grey = shrunk(grey, LARGEST_SIDE)
    sheet = _sheet_reading(grey, invert)
    if sheet is not None:
        return _cropped_digits(sheet)
    smooth = _smooth_reading(grey, invert)
    if smooth is not None and _is_clean(smooth):
        return _cropped_digits(smooth)
    cut_off = None if smooth is None else _cut_off_digit(smooth)
    local = _local_reading(shrunk(grey, _LOCAL_SIDE), invert)
    if smooth is not None and cut_off is not None:
        mass = 0.0 if local is None else max(digit.mass for digit in local.marks.digits)
        is_rest = mass < _REST_MASS * cut_off.mass or _fills(smooth, cut_off) or _is_gap(smooth, cut_off, local)
        if local is None or (is_rest and _is_cut_by_strokes(smooth, cut_off)):
            return [_cropped(smooth, cut_off)]
    if local is not None and smooth is None:
        # Without a smooth background, most ink must belong to the digits; noise has many marks.
        mass = sum(digit.mass for digit in local.marks.digits)
        local = local if mass >= _MOST_MASS * local.marks.total else None
    if local is not None:
        return _cropped_digits(local)
    return None if smooth is None else []


def fit_ink(ink: np.ndarray) -> np.ndarray:
    """Scale ink to 20 x 20 pixels, keeping its aspect ratio, and put its centre of mass at the centre of 28 x 28.

    ink: (h, w) float32, cropped to the digit, not all 0
    returns: (784,) uint8, with 255 as the largest value
    """
    scale = _BOX / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    small = resized(ink, height, width)
    small *= 255 / small.max()
    centres = [
        np.average(np.arange(size), weights=small.sum(axis=axis, dtype=float))
        for axis, size in ((1, height), (0, width))
    ]
    # In MNIST, the centre of mass is in pixel 14 of 0 to 27 on both axes: half a pixel right of and below the middle.
    top, left = (
        int(np.clip(round(_SIDE / 2 - centre), 0, _SIDE - size))
        for centre, size in zip(centres, small.shape, strict=True)
    )
    out = np.zeros((_SIDE, _SIDE), np.uint8)
    out[top : top + height, left : left + width] = np.rint(small)
    return out.reshape(-1)


def _smooth_reading(grey: np.ndarray, invert: Literal["auto"] | bool) -> _Reading | None:
    """Read the picture with a smooth background, as of a sheet that fills the picture; None without ink."""
    contrast = grey - smooth_background(grey)
    if invert == "auto":
        invert = bool(np.maximum(-contrast, 0).sum(dtype=float) > np.maximum(contrast, 0).sum(dtype=float))
    if invert:
        contrast = -contrast
    ink = np.maximum(contrast, 0)
    threshold = otsu_threshold(ink)
    strong = ink[ink > threshold]
    if not strong.size:
        return None
    scaled = _scaled(ink, strong, robust_deviation(contrast[ink <= threshold]))
    return None if scaled is None else _marked(*scaled, bool(invert))


def _local_reading(grey: np.ndarray, invert: Literal["auto"] | bool) -> _Reading | None:
    """Read the picture with the background round each place; None without a digit."""
    kinds = (True, False) if invert == "auto" else (invert,)
    found = [_local_reading_of(grey, is_dark) for is_dark in kinds]
    readings = [reading for reading in found if reading is not None]
    if not readings:
        return None
    best = max(readings, key=_score)
    for other in readings:
        # The gaps between strokes look like strokes of the other kind, but the strokes reach further.
        if other is not best and _bounds(other).encloses(_bounds(best)) and _score(other) > 0.2 * _score(best):
            return other
    return best


def _local_reading_of(grey: np.ndarray, is_dark: bool) -> _Reading | None:
    contrast, background = local_contrast(grey, is_dark)
    ink = np.maximum(contrast, 0)
    strong = ink[ink > otsu_threshold(ink)]
    if not strong.size or (full := float(np.percentile(strong, 90))) < 2 * MIN_CONTRAST:
        return None
    cell = _cell(grey)
    cells = [_in_cells(pixels, cell, "edge").mean(axis=(1, 3)) for pixels in (grey, background)]
    support = partial(edge_support, grey=cells[0], background=cells[1], is_dark=is_dark)
    for fraction in _STRONG_FRACTIONS:
        first = _marked(np.minimum(ink * (255 / full), 255), 255 * fraction, is_dark, support)
        if first.marks.digits:
            break
    else:
        return None
    # The strength of these digits and the noise round them set the scale.
    bounds = _bounds(first)
    margin = bounds.size // 4 + 2
    area = np.s_[
        max(bounds.top - margin, 0) * cell : (bounds.bottom + margin) * cell,
        max(bounds.left - margin, 0) * cell : (bounds.right + margin) * cell,
    ]
    is_ink = np.isin(first.marks.labels, [number for digit in first.marks.digits for number in digit.numbers])
    is_near = np.kron(is_ink, np.ones((cell, cell), bool))[: grey.shape[0], : grey.shape[1]]
    kept = np.where(first.ink > 0, ink, 0)
    strong = kept[is_near & (first.ink > first.edge)]
    scaled = _scaled(kept, strong, robust_deviation(contrast[area][first.ink[area] <= first.edge]))
    return (
        None if scaled is None else replace(first, ink=scaled[0], edge=max(scaled[1], 255 * _STRONG_FRACTIONS[0] / 2))
    )


def _scaled(ink: np.ndarray, strong: np.ndarray, noise: float) -> tuple[np.ndarray, float] | None:
    """Scale ink to 0 ... 255, from the noise to the strong ink; None if it is hardly stronger than the noise.

    Also returns the value above which ink enlarges the bounding box of a digit.
    """
    full = float(np.percentile(strong, 90))
    if full < max(MIN_CONTRAST, _NOISE_MULTIPLE * noise):
        return None
    floor = min(3 * noise, full / 2)
    gain = 255 / (full - floor)
    return np.clip((ink - floor) * gain, 0, 255), 255 * _EDGE_FRACTION + min(3 * noise * gain, 100)


def _marked(ink: np.ndarray, edge: float, is_dark: bool, support: Callable[[np.ndarray], np.ndarray] | None = None
            ) -> _Reading:  # fmt: skip
    """Remove lines, and find the marks."""
    mask = ink > edge
    is_line = mask & ~without_lines(mask)
    ink[is_line] = 0
    cell = _cell(ink)
    is_marked = np.asarray(_in_cells(ink > edge, cell).any(axis=(1, 3)))
    sums = _in_cells(ink, cell).mean(axis=(1, 3))
    return _Reading(ink, edge, bool(is_line.any()), is_dark, cell, find_marks(is_marked, sums, support))


def _cell(pixels: np.ndarray) -> int:
    """Return the side of a cell in pixels."""
    return -(-max(pixels.shape) // _CELLS)


def _in_cells(pixels: np.ndarray, cell: int, mode: Literal["constant", "edge"] = "constant") -> np.ndarray:
    """Return the pixels of each cell: (rows, cell, columns, cell)."""
    padded = np.pad(pixels, [(0, -side % cell) for side in pixels.shape], mode)
    return padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell)


def _score(reading: _Reading) -> float:
    return max(digit.score for digit in reading.marks.digits)


def _bounds(reading: _Reading) -> Component:
    digits = reading.marks.digits
    bounds = digits[0]
    for digit in digits[1:]:
        bounds = bounds.merged(digit)
    return bounds


def _is_clean(reading: _Reading) -> bool:
    """Return whether the ink consists of digits alone: no part is at the border or solid."""
    marks = reading.marks
    return bool(marks.digits) and not marks.at_border and not any(_is_blob(reading, d) for d in marks.digits)


def _is_blob(reading: _Reading, digit: Component, fraction: float = _BLOB_FRACTION) -> bool:
    from scipy import ndimage

    mask = np.isin(reading.marks.labels, digit.numbers)[digit.top : digit.bottom, digit.left : digit.right]
    side = int(fraction * digit.size) + 2
    return bool(ndimage.minimum_filter(np.pad(mask, 1), side, mode="constant").any())


def _sheet_reading(grey: np.ndarray, invert: Literal["auto"] | bool) -> _Reading | None:
    """Read what is on a sheet of paper on a table; None without a sheet or a digit on it."""
    sheet = find_sheet(grey)
    if sheet is None:
        return None
    rows, columns = (np.flatnonzero(sheet.any(axis=axis)) for axis in (1, 0))
    area = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside, level = sheet[area], np.median(grey[sheet])
    paper = np.where(inside, grey[area], level)
    found = _smooth_reading(paper, invert)
    if found is None or not _is_clean(found):
        return None
    is_mark = np.isin(found.marks.labels, [number for digit in found.marks.digits for number in digit.numbers])
    is_mark = np.kron(is_mark, np.ones((found.cell, found.cell), bool))[: paper.shape[0], : paper.shape[1]]
    is_ink = is_mark & (found.ink > 127)
    # The uneven ink of a thick digit is as large as the digit; what is written on a sheet leaves a margin.
    if (is_mark & ~inside).sum() > _SHEET_OVERLAP * is_mark.sum() or not is_ink.any():
        return None
    difference = abs(level - np.median(grey[~sheet]))
    is_strong = abs(level - np.median(paper[is_ink])) >= _SHEET_CONTRAST * difference
    sides = [np.ptp(np.flatnonzero(is_mark.any(axis=axis))) + 1 for axis in (1, 0)]
    has_margin = all(side <= _SHEET_MARGIN * length for side, length in zip(sides, paper.shape, strict=True))
    return found if is_strong and has_margin and max(sides) >= _SHEET_MARK * max(paper.shape) else None


def _cut_off_digit(reading: _Reading) -> Component | None:
    """Return the digit that touches the border of the picture, if nothing else is there."""
    marks = reading.marks
    digit = max(marks.at_border, key=lambda component: component.mass, default=None)
    if digit is None or digit.mass < _CUT_MASS * marks.total:
        return None
    fraction = _CORNER_BLOB_FRACTION if _covers_corner(reading, digit) else _CUT_BLOB_FRACTION
    return None if _is_blob(reading, digit, fraction) else digit


def _covers_corner(reading: _Reading, digit: Component) -> bool:
    """Return whether the digit covers a corner of the picture, as shadows do."""
    mark = np.isin(reading.marks.labels, digit.numbers)
    ends = np.s_[:4], np.s_[-4:]
    return any(mark[rows, columns].mean() > 0.5 for rows in ends for columns in ends)


def _fills(reading: _Reading, digit: Component) -> bool:
    """Return whether the digit reaches from side to side, as in a picture that is cut to its size."""
    rows, columns = reading.marks.labels.shape
    return digit.height >= 0.85 * rows and digit.width >= 0.85 * columns


def _is_gap(reading: _Reading, digit: Component, other: _Reading | None) -> bool:
    """Return whether the other reading found what the digit encloses, such as the hole of a 0."""
    if other is None or other.is_dark == reading.is_dark or _covers_corner(reading, digit):
        return False
    gap = _bounds(other).scaled(max(reading.marks.labels.shape) / max(other.marks.labels.shape))
    return digit.encloses(gap)


def _is_cut_by_strokes(reading: _Reading, digit: Component) -> bool:
    """Return whether the ink meets the border as a few strokes, unlike a shadow."""
    mark = np.isin(reading.marks.labels, digit.numbers)
    sides = mark[0], mark[:, -1], mark[-1, ::-1], mark[::-1, 0]
    places = np.count_nonzero(np.diff(np.concatenate(sides).astype(np.int8)) > 0)
    is_narrow = all(bool(side.mean() <= _CUT_SIDE) for side in sides)
    return bool(places <= _CUT_PLACES) and (_fills(reading, digit) or is_narrow)


def _cropped_digits(reading: _Reading) -> list[np.ndarray]:
    digits = _in_reading_order(reading.marks.digits)
    return [part for digit in digits for part in separated(_cropped(reading, digit))]


def _in_reading_order(digits: list[Component]) -> list[Component]:
    """Order digits in rows from top to bottom, and from left to right within a row."""
    rows: list[list[Component]] = []
    for digit in sorted(digits, key=lambda digit: digit.top + digit.bottom):
        middle = (digit.top + digit.bottom) / 2
        if rows and any(other.top < middle < other.bottom for other in rows[-1]):
            rows[-1].append(digit)
        else:
            rows.append([digit])
    return [digit for row in rows for digit in sorted(row, key=lambda digit: digit.left + digit.right)]


def _cropped(reading: _Reading, digit: Component) -> np.ndarray:
    """Return the ink of the digit and of its surroundings of one cell, cropped to the pixels above the edge value."""
    from scipy import ndimage

    near = ndimage.binary_dilation(np.isin(reading.marks.labels, digit.numbers), np.ones((3, 3)))
    near = np.kron(near, np.ones((reading.cell, reading.cell), bool))
    height, width = reading.ink.shape
    ink = np.where(near[:height, :width], reading.ink, np.float32(0))
    return ink[box_of_strokes(ink, reading.edge, reading.is_ruled)]
