"""The ink in a grey picture: told from the ground, then fitted and centred as MNIST's digits were."""

from typing import Literal

import numpy as np

_SIDE = 28
_BOX = 20
_LARGEST_SIDE = 1024
_MASK_SIDE = 128
# Fainter differences from the ground than this, of 255, are taken for noise; so are those below the multiple of it.
_FAINTEST = 16.0
_NOISE_MULTIPLE = 5.0
# Ink fainter than this share of the darkest does not widen the box around the digit.
_EDGE = 0.02
# Marks with less than this share of all ink are dust.
_DUST = 0.02


def find_ink(grey: np.ndarray, invert: Literal["auto"] | bool) -> np.ndarray | None:
    """The ink of a picture, as large as its digit.

    Parameters
    ----------
    grey : ndarray of float32 and shape (height, width)
        From 0 to 255.
    invert : "auto" or bool
        Whether ink is darker than the ground.

    Returns
    -------
    ndarray of float32 and shape (h, w), cropped to the ink, from 0 (ground) to 255, or None where there is no ink
    """
    grey = _reduced(grey)
    above = grey - _ground(grey)
    if invert == "auto":
        invert = bool(np.maximum(-above, 0).sum(dtype=float) > np.maximum(above, 0).sum(dtype=float))
    ink = np.maximum(-above if invert else above, 0)
    threshold = _between(ink)
    strong = ink[ink > threshold]
    if not strong.size:
        return None
    noise = _spread(above[ink <= threshold])
    full = float(np.percentile(strong, 90))
    if full < max(_FAINTEST, _NOISE_MULTIPLE * noise):
        return None
    floor = min(3 * noise, full / 2)
    gain = 255 / (full - floor)
    return _cropped(np.clip((ink - floor) * gain, 0, 255), 255 * _EDGE + min(3 * noise * gain, 100))


def fit_ink(ink: np.ndarray) -> np.ndarray:
    """Fit ink in 20 x 20 pixels, keeping its aspect ratio, and put its centre of mass in the centre of 28 x 28.

    Parameters
    ----------
    ink : ndarray of float32 and shape (h, w)
        Cropped to the digit, not all 0.

    Returns
    -------
    ndarray of uint8 and shape (784,), its largest value 255
    """
    scale = _BOX / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    small = _resized(ink, height, width)
    small *= 255 / small.max()
    centres = [
        np.average(np.arange(size), weights=small.sum(axis=axis, dtype=float))
        for axis, size in ((1, height), (0, width))
    ]
    # In MNIST the centre of mass lies nearest to pixel 14 of 0 to 27, half a pixel right of and below the middle.
    top, left = (
        int(np.clip(round(_SIDE / 2 - centre), 0, _SIDE - size))
        for centre, size in zip(centres, small.shape, strict=True)
    )
    out = np.zeros((_SIDE, _SIDE), np.uint8)
    out[top : top + height, left : left + width] = np.rint(small)
    return out.reshape(-1)


def _reduced(grey: np.ndarray) -> np.ndarray:
    """The picture with no side above 1,024 pixels: 50 times what is needed."""
    scale = _LARGEST_SIDE / max(grey.shape)
    if scale >= 1:
        return grey
    return _resized(grey, *(max(1, round(side * scale)) for side in grey.shape))


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Another size: the mean of the pixels where smaller, interpolated where larger."""
    from PIL import Image

    larger = max(height, width) > max(pixels.shape)
    how = Image.Resampling.LANCZOS if larger else Image.Resampling.BOX
    resized = Image.fromarray(np.ascontiguousarray(pixels, np.float32)).resize((width, height), how)
    return np.clip(np.asarray(resized), 0, 255)


def _ground(grey: np.ndarray) -> np.ndarray | np.float32:
    """The background: the median of the border, or a curved surface where light falls unevenly on a photograph."""
    height, width = grey.shape
    strip = max(1, round(0.04 * min(height, width)))
    inner = np.zeros(grey.shape, bool)
    inner[strip : height - strip, strip : width - strip] = True
    border = grey[~inner]
    level = np.float32(np.median(border))
    low, high = np.percentile(border, (5, 95))
    if high - low < _FAINTEST or min(height, width) < 2 * _SIDE:
        return level
    return _surface(grey, level)


def _surface(grey: np.ndarray, level: np.float32) -> np.ndarray:
    """A quadratic surface through the pixels that are not ink."""
    height, width = grey.shape
    scale = min(1.0, _MASK_SIDE / max(height, width))
    small = _resized(grey, max(1, round(height * scale)), max(1, round(width * scale)))
    values = small.reshape(-1)
    terms = _quadratic(*small.shape)
    # Ink is what a surface through all pixels leaves over; without it, the next surface fits the ground better.
    ground = np.abs(values - level) <= max(float(_between(np.abs(values - level))), _FAINTEST)
    for _ in range(8):
        factors = np.linalg.lstsq(terms[ground], values[ground], rcond=None)[0]
        left = np.abs(values - terms @ factors)
        ground = left <= 3 * _spread((values - terms @ factors)[ground]) + 1
    return (_quadratic(height, width) @ factors.astype(np.float32)).reshape(height, width)


def _quadratic(height: int, width: int) -> np.ndarray:
    """The terms 1, x, y, xx, xy, yy at every pixel, x and y from -1 to 1; float32 of shape (height * width, 6)."""
    y, x = (part.reshape(-1) for part in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _between(values: np.ndarray) -> float:
    """Otsu's threshold: it parts the values into two groups that differ most."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(np.nan_to_num(apart)))])


def _spread(values: np.ndarray) -> float:
    """The standard deviation of the bulk of the values, from their median deviation."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def _cropped(ink: np.ndarray, edge: float) -> np.ndarray:
    """The ink without dust and noise around it, cropped to the pixels above `edge`."""
    cell = -(-max(ink.shape) // _MASK_SIDE)
    padded = np.pad(ink, [(0, -side % cell) for side in ink.shape])
    cells = padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell)
    kept = _without_dust(np.any(cells > edge, axis=(1, 3)), cells.sum(axis=(1, 3), dtype=float))
    near = np.zeros_like(kept)
    for row, column in zip(*np.nonzero(kept), strict=True):
        near[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    ink = np.where(np.kron(near, np.ones((cell, cell), bool))[: ink.shape[0], : ink.shape[1]], ink, np.float32(0))
    rows, columns = (np.flatnonzero((ink > edge).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _without_dust(mask: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """The mask without the connected marks that hold little of the mass."""
    left = set(zip(*(index.tolist() for index in np.nonzero(mask)), strict=True))
    marks = []
    while left:
        mark = [left.pop()]
        for row, column in mark:
            around = [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
            found = [cell for cell in around if cell in left]
            left.difference_update(found)
            mark.extend(found)
        marks.append((float(sum(mass[cell] for cell in mark)), mark))
    total = sum(weight for weight, _ in marks)
    kept = np.zeros_like(mask)
    for weight, mark in marks:
        if weight >= _DUST * total:
            kept[tuple(np.array(mark).T)] = True
    return kept
