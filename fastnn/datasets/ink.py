"""Separates the ink of a grey picture from its background, then scales and centres it like MNIST's digits."""

from typing import Literal

import numpy as np

_SIDE = 28
_BOX = 20
_LARGEST_SIDE = 1024
_MASK_SIDE = 128
# The smallest contrast of ink: on a scale of 255, and as a multiple of the noise. Smaller differences from the
# background are not ink.
_MIN_CONTRAST = 16.0
_NOISE_MULTIPLE = 5.0
# Ink fainter than this fraction of the strongest ink does not enlarge the bounding box of the digit.
_EDGE_FRACTION = 0.02
# A connected component with less than this fraction of all ink is a speck of dust.
_SPECK_FRACTION = 0.02


def find_ink(grey: np.ndarray, invert: Literal["auto"] | bool) -> np.ndarray | None:
    """Return the ink of a picture, cropped to the digit: (h, w) float32, from 0 (background) to 255; None without ink.

    grey: (height, width) float32, from 0 to 255
    invert: whether ink is darker than the background; "auto" chooses the larger total contrast
    """
    grey = _shrunk(grey)
    contrast = grey - _background(grey)
    if invert == "auto":
        invert = bool(np.maximum(-contrast, 0).sum(dtype=float) > np.maximum(contrast, 0).sum(dtype=float))
    ink = np.maximum(-contrast if invert else contrast, 0)
    threshold = _otsu_threshold(ink)
    strong = ink[ink > threshold]
    if not strong.size:
        return None
    noise = _robust_deviation(contrast[ink <= threshold])
    full = float(np.percentile(strong, 90))
    if full < max(_MIN_CONTRAST, _NOISE_MULTIPLE * noise):
        return None
    floor = min(3 * noise, full / 2)
    gain = 255 / (full - floor)
    return _cropped(np.clip((ink - floor) * gain, 0, 255), 255 * _EDGE_FRACTION + min(3 * noise * gain, 100))


def fit_ink(ink: np.ndarray) -> np.ndarray:
    """Scale ink to 20 x 20 pixels, keeping its aspect ratio, and put its centre of mass at the centre of 28 x 28.

    ink: (h, w) float32, cropped to the digit, not all 0
    returns: (784,) uint8, with 255 as the largest value
    """
    scale = _BOX / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    small = _resized(ink, height, width)
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


def _shrunk(grey: np.ndarray) -> np.ndarray:
    """Shrink the picture to at most 1,024 pixels per side, which is still 50 times the resolution of the result."""
    scale = _LARGEST_SIDE / max(grey.shape)
    if scale >= 1:
        return grey
    return _resized(grey, *(max(1, round(side * scale)) for side in grey.shape))


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize the picture: shrink it by averaging pixels, or enlarge it by interpolation."""
    from PIL import Image

    larger = max(height, width) > max(pixels.shape)
    method = Image.Resampling.LANCZOS if larger else Image.Resampling.BOX
    resized = Image.fromarray(np.ascontiguousarray(pixels, np.float32)).resize((width, height), method)
    return np.clip(np.asarray(resized), 0, 255)


def _background(grey: np.ndarray) -> np.ndarray | np.float32:
    """Estimate the background: the median of the border or, for an unevenly lit photograph, a curved surface."""
    height, width = grey.shape
    margin = max(1, round(0.04 * min(height, width)))
    inner = np.zeros(grey.shape, bool)
    inner[margin : height - margin, margin : width - margin] = True
    border = grey[~inner]
    level = np.float32(np.median(border))
    low, high = np.percentile(border, (5, 95))
    if high - low < _MIN_CONTRAST or min(height, width) < 2 * _SIDE:
        return level
    return _fitted_background(grey, level)


def _fitted_background(grey: np.ndarray, level: np.float32) -> np.ndarray:
    """Fit a quadratic surface to the pixels that are not ink. `level` is the median of the border."""
    height, width = grey.shape
    scale = min(1.0, _MASK_SIDE / max(height, width))
    small = _resized(grey, max(1, round(height * scale)), max(1, round(width * scale)))
    values = small.reshape(-1)
    terms = _quadratic_terms(*small.shape)
    # Pixels far from the surface are ink. Each fit leaves them out, so the surface approaches the background.
    is_background = np.abs(values - level) <= max(float(_otsu_threshold(np.abs(values - level))), _MIN_CONTRAST)
    for _ in range(8):
        coefficients = np.linalg.lstsq(terms[is_background], values[is_background], rcond=None)[0]
        distance = np.abs(values - terms @ coefficients)
        is_background = distance <= 3 * _robust_deviation((values - terms @ coefficients)[is_background]) + 1
    return (_quadratic_terms(height, width) @ coefficients.astype(np.float32)).reshape(height, width)


def _quadratic_terms(height: int, width: int) -> np.ndarray:
    """Return the terms 1, x, y, xx, xy, yy at each pixel: (height * width, 6) float32. x and y go from -1 to 1."""
    y, x = (axis.reshape(-1) for axis in np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _otsu_threshold(values: np.ndarray) -> float:
    """Return Otsu's threshold, which splits the values into two groups with the largest variance between them."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(np.nan_to_num(variance_between)))])


def _robust_deviation(values: np.ndarray) -> float:
    """Estimate the standard deviation from the median absolute deviation, which ignores outliers."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def _cropped(ink: np.ndarray, edge: float) -> np.ndarray:
    """Remove specks and surrounding noise from the ink, then crop it to the pixels above `edge`."""
    cell = -(-max(ink.shape) // _MASK_SIDE)
    padded = np.pad(ink, [(0, -side % cell) for side in ink.shape])
    cells = padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell)
    kept = _without_specks(np.any(cells > edge, axis=(1, 3)), cells.sum(axis=(1, 3), dtype=float))
    near = np.kron(_largest_nearby(kept), np.ones((cell, cell), bool))
    ink = np.where(near[: ink.shape[0], : ink.shape[1]], ink, np.float32(0))
    rows, columns = (np.flatnonzero((ink > edge).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _without_specks(mask: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return the mask without the connected components that have only a small fraction of the total mass.

    mask: (rows, columns) bool
    mass: (rows, columns), the ink in each cell
    """
    # Each cell takes the largest number nearby, until all cells of a component have the same number. SciPy's
    # function is not used, because importing it takes nearly as long as a prediction without Numba.
    numbers = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while not np.array_equal(numbers, nearby := np.where(mask, _largest_nearby(numbers), 0)):
        numbers = np.where(mask, nearby.reshape(-1)[nearby - 1], 0)  # what that cell has taken: saves many rounds
    component_mass = np.bincount(numbers.reshape(-1), np.where(mask, mass, 0).reshape(-1))
    return mask & (component_mass >= _SPECK_FRACTION * component_mass.sum())[numbers]


def _largest_nearby(values: np.ndarray) -> np.ndarray:
    """Return the maximum of each cell and its neighbours, at most eight."""
    rows = np.pad(values, 1)
    rows = np.maximum(np.maximum(rows[:-2], rows[1:-1]), rows[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
