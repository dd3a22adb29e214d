"""Augmentation: every epoch trains on images that are moved, turned, scaled or distorted a little, at random."""

import math
from dataclasses import dataclass, fields

import numpy as np

from fastnn.checks import check_number
from fastnn.errors import SettingsError
from fastnn.randomness import uniform
from fastnn.suggestions import did_you_mean

_GRID = 4  # an elastic distortion moves the points of a grid of 4 x 4, and the pixels between them
_N_AFFINE = 4  # the draws of shift (2), rotation and scale; those of the grid and of the noise follow
_N_GRID = 2 * _GRID**2


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much the images of an epoch may differ from the training images.

    The draws of an image depend on the seed, the epoch and the number of its row only. Each is uniform between minus
    and plus the setting, but for the noise, which is normal. Where an image moves away from its border, the pixels of
    the border are repeated.

    Parameters
    ----------
    shift : float
        The largest shift in each direction, in pixels.
    rotate : float
        The largest rotation, in degrees, up to 180.
    scale : float
        The largest change of size, as a fraction of the size, from 0 to below 1.
    elastic : float
        The largest distortion, in pixels: the points of a grid of 4 x 4 are moved, and the pixels between them
        smoothly. A simple form of the elastic distortions of Simard et al. 2003, "Best practices for convolutional
        neural networks applied to visual document analysis".
    noise : float
        The standard deviation of the noise added to each pixel, as a fraction of the range of the pixels.

    Raises
    ------
    SettingsError
        If a setting is out of range, or all are 0.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> result = fastnn.train(network, data, epochs=2, augmentation=fastnn.Augmentation(shift=0.5, rotate=10))
    >>> result.config.augmentation
    Augmentation(shift=0.5, rotate=10, scale=0.0, elastic=0.0, noise=0.0)
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    elastic: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for each, below in zip(fields(self), (1e6, 180.001, 1.0, 1e6, 1e6), strict=True):
            check_number(each.name, getattr(self, each.name), 0, below)
        if not any(getattr(self, each.name) for each in fields(self)):
            raise SettingsError("all settings of the augmentation are 0, expected one above 0, or augmentation=None")

    def apply(
        self, images: np.ndarray, shape: tuple[int, int], key: np.uint64, rows: np.ndarray, levels: tuple[float, float]
    ) -> np.ndarray:
        """Return the images (B, D) of an epoch, in the dtype of `images`.

        shape: (height, width), whose product is D
        key: `fastnn.randomness.augmentation_key` of the seed and the epoch
        rows: the number of each image in the training data, (B,)
        levels: the smallest and the largest value of a pixel
        """
        draws = (2 * uniform(key, rows, _N_AFFINE + _N_GRID) - 1).astype(np.float32)  # (B, draws), from -1 to 1
        result: np.ndarray = images.astype(np.float32 if images.dtype != np.float64 else np.float64)
        if self.shift or self.rotate or self.scale or self.elastic:
            result = _interpolated(result, shape, *self._sources(draws, shape))
        if self.noise:
            result += self.noise * (levels[1] - levels[0]) * _normal(key, rows, images.shape[1])
            np.clip(result, *levels, out=result)
        return (np.rint(result) if images.dtype.kind in "iu" else result).astype(images.dtype)

    def _sources(self, draws: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return where each pixel comes from: its row and its column in the image, (B, D) each."""
        height, width = shape
        y, x = (place.ravel() for place in np.mgrid[:height, :width].astype(np.float32))
        y, x = y - (height - 1) / 2, x - (width - 1) / 2
        down, right, turn, zoom = draws[:, :_N_AFFINE, None].transpose(1, 0, 2)  # (B, 1) each
        angle, factor = math.radians(self.rotate) * turn, 1 + self.scale * zoom
        sine, cosine = np.sin(angle) / factor, np.cos(angle) / factor
        source_y = cosine * y + sine * x + (height - 1) / 2 - self.shift * down
        source_x = cosine * x - sine * y + (width - 1) / 2 - self.shift * right
        if self.elastic:
            moves = self.elastic * draws[:, _N_AFFINE:].reshape(len(draws), 2, _GRID**2)
            between = _grid_weights(shape)
            # `einsum` adds in one order. A product by BLAS need not, with another number of threads.
            source_y += np.einsum("bp,pd->bd", moves[:, 0], between)
            source_x += np.einsum("bp,pd->bd", moves[:, 1], between)
        return source_y, source_x


def get_augmentation(augmentation: "str | Augmentation | None") -> Augmentation | None:
    """Return the augmentation that a text such as "shift=2,rotate=10" describes; an object or None stays as it is.

    Raises SettingsError for a name that is no setting, or a value that is no number in its range.
    """
    if augmentation is None or isinstance(augmentation, Augmentation):
        return augmentation
    expected = "expected NAME=VALUE,... such as shift=2,rotate=10"
    if not isinstance(augmentation, str):
        raise SettingsError(f"augmentation is {augmentation!r}, {expected}, an Augmentation or None")
    names, values = [each.name for each in fields(Augmentation)], {}
    for part in augmentation.split(","):
        name, _, value = (text.strip() for text in part.partition("="))
        if name not in names:
            meant = did_you_mean(name, names)
            raise SettingsError(f"augmentation is {augmentation!r}{meant}, {expected}; names are {', '.join(names)}")
        try:
            values[name] = float(value)
        except ValueError:
            raise SettingsError(f"augmentation is {augmentation!r}: {name} is no number, {expected}") from None
    return Augmentation(**values)


def _interpolated(images: np.ndarray, shape: tuple[int, int], y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the images at places between pixels, (B, D), bilinearly."""
    height, width = shape
    y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, across = (y - top).astype(images.dtype), (x - left).astype(images.dtype)
    corner = top * width + left + np.arange(len(images))[:, None] * images.shape[1]
    below, beside = width * (top < height - 1), (left < width - 1).astype(np.intp)
    pixels = images.ravel()

    def row_of(corner: np.ndarray) -> np.ndarray:
        first = pixels.take(corner, mode="clip")  # without "clip", NumPy makes a copy to check the places first
        return first + across * (pixels.take(corner + beside, mode="clip") - first)

    upper = row_of(corner)
    result: np.ndarray = upper + down * (row_of(corner + below) - upper)
    return result


def _grid_weights(shape: tuple[int, int]) -> np.ndarray:
    """Return how much each point of the grid moves each pixel, (points, D): bilinear weights."""
    along = []
    for size in shape:
        places = np.linspace(0, _GRID - 1, size) if size > 1 else np.zeros(1)
        along.append(np.maximum(0, 1 - np.abs(places - np.arange(_GRID)[:, None])))  # (grid, size)
    weights: np.ndarray = np.einsum("iy,jx->ijyx", *along).reshape(_GRID**2, -1).astype(np.float32)
    return weights


def _normal(key: np.uint64, rows: np.ndarray, n_pixels: int) -> np.ndarray:
    """Return normal numbers for each pixel, (B, n_pixels), after Box and Muller (1958)."""
    draws = uniform(key, rows, _N_AFFINE + _N_GRID + 2 * n_pixels)[:, _N_AFFINE + _N_GRID :]
    radius = np.sqrt(-2 * np.log1p(-draws[:, :n_pixels]))
    normal: np.ndarray = radius * np.cos(2 * np.pi * draws[:, n_pixels:])
    return normal
