"""Estimates the background of a grey picture: a smooth surface, or the level round each place."""

import numpy as np

from fastnn.datasets.pictures.resize import resized

# Differences below this, on a scale of 255, are not ink.
MIN_CONTRAST = 16.0
_FIT_SIDE = 128
# Strokes are narrower than this fraction of the picture's shorter side; wider areas, such as shadows, are background.
_STROKE_FRACTION = 0.22


def smooth_background(grey: np.ndarray) -> np.ndarray | np.float32:
    """Estimate the background: the median of the border or, for an unevenly lit photograph, a curved surface."""
    height, width = grey.shape
    margin = max(1, round(0.04 * min(height, width)))
    inner = np.zeros(grey.shape, bool)
    inner[margin : height - margin, margin : width - margin] = True
    border = grey[~inner]
    level = np.float32(np.median(border))
    low, high = np.percentile(border, (5, 95))
    if high - low < MIN_CONTRAST or min(height, width) < 56:
        return level
    return _fitted_surface(grey, level)


def local_contrast(grey: np.ndarray, is_dark: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how much a picture differs from the background round each place, and this background.

    Both are (height, width) float32. The contrast of ink is positive.

    The background is a morphological closing (for dark ink) or opening (for light ink), which fills everything that
    is narrower than strokes may be. Edges of shadows, sheets and thumbs remain in the background. The contrast is
    relative to its level, so ink in a shadow counts as much as ink in the light.
    """
    from scipy import ndimage

    size = max(3, round(_STROKE_FRACTION * min(grey.shape)))
    smooth = ndimage.gaussian_filter(grey, 1.0, mode="nearest") if min(grey.shape) > 56 else grey
    if is_dark:
        background = ndimage.grey_closing(smooth, (size, size), mode="nearest")
        contrast = (background - grey) * (255 / (background + 30))
    else:
        background = ndimage.grey_opening(smooth, (size, size), mode="nearest")
        contrast = (grey - background) * (255 / (background + 60))
    return contrast - np.median(contrast), background


def _fitted_surface(grey: np.ndarray, level: np.float32) -> np.ndarray:
    """Fit a quadratic surface to the pixels that are not ink. `level` is the median of the border."""
    height, width = grey.shape
    scale = min(1.0, _FIT_SIDE / max(height, width))
    small = resized(grey, max(1, round(height * scale)), max(1, round(width * scale)))
    values = small.reshape(-1).astype(float)
    terms = _quadratic_terms(*small.shape)
    # Pixels far from the surface are ink. Each fit leaves them out, so the surface approaches the background.
    is_background = np.abs(values - level) <= max(float(otsu_threshold(np.abs(values - level))), MIN_CONTRAST)
    for _ in range(8):
        kept = terms[is_background]
        coefficients = np.linalg.lstsq(kept.T @ kept, kept.T @ values[is_background], rcond=None)[0]
        residual = values - terms @ coefficients
        before, is_background = is_background, np.abs(residual) <= 3 * robust_deviation(residual[is_background]) + 1
        if np.array_equal(before, is_background):
            break
    one, x1, y1, xx, xy, yy = coefficients.astype(np.float32)
    y, x = _axes(height, width)
    return (one + y * (y1 + y * yy))[:, None] + x * (x1 + x * xx) + (xy * y)[:, None] * x


def _axes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x, from -1 to 1: (height,) and (width,) float32."""
    return np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)


def _quadratic_terms(height: int, width: int) -> np.ndarray:
    """Return the terms 1, x, y, xx, xy, yy at each pixel: (height * width, 6) float64."""
    y, x = (axis.reshape(-1).astype(float) for axis in np.meshgrid(*_axes(height, width), indexing="ij"))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def otsu_threshold(values: np.ndarray) -> float:
    """Return Otsu's threshold, which splits the values into two groups with the largest variance between them."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + int(np.nanargmax(np.nan_to_num(variance_between)))])


def robust_deviation(values: np.ndarray) -> float:
    """Estimate the standard deviation from the median absolute deviation, which ignores outliers."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0
