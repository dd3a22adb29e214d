"""Augmentation: every epoch trains on images that are moved, turned, scaled, sheared or distorted, at random."""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from fastnn.checks import check_number
from fastnn.errors import SettingsError
from fastnn.randomness import row_numbers, uniform
from fastnn.suggestions import did_you_mean

# The draws of an image: shift down and right, rotation, scale and shear, and four of the erased rectangle. The draws of
# the pixels have further units of the same hash: two displacements from FIRST_FIELD on, noise after them.
_N_AFFINE, _N_DRAWS, FIRST_FIELD = 5, 9, 16
# Gaussian weights beyond so many standard deviations are left out, as with ``truncate=3`` of SciPy's `gaussian_filter`.
_TRUNCATE = 3.0
# The displacements of the pixels are drawn as whole numbers from -FIELD_SCALE to FIELD_SCALE - 1.
FIELD_SCALE = 2**15


class Distortion(NamedTuple):
    """What happens to each of B images, as the backends' `distort` computes it. Pixels are in the units of the data.

    Attributes
    ----------
    shape : tuple of (int, int)
        The height H and the width W of an image.
    affine : ndarray of shape (B, 6), float64
        (a, b, c, d, e, f): the pixel (y, x) comes from ``(a * y + b * x + c, d * y + e * x + f)``.
    numbers : ndarray of shape (B,), uint32
        The hash of each image that its displacements and its noise follow from.
    taps : ndarray of shape (2, K), float64
        The weights that smooth the displacements downwards and across: of a pixel itself, then of those at distance 1,
        2, ... The second row includes the factor that makes pixels of the drawn numbers. K is 0 without displacements.
    noise : float
        The standard deviation of the noise of a pixel, 0 for none.
    boxes : ndarray of shape (B, 4), int64
        The first row, the first column, the height and the width of the rectangle that is erased.
    levels : tuple of (float, float)
        The smallest and the largest value of a pixel with noise. Erased pixels have the smallest.
    """

    shape: tuple[int, int]
    affine: np.ndarray
    numbers: np.ndarray
    taps: np.ndarray
    noise: float
    boxes: np.ndarray
    levels: tuple[float, float]

    def part(self, rows: slice) -> "Distortion":
        """Return the distortion of some of the images."""
        return self._replace(affine=self.affine[rows], numbers=self.numbers[rows], boxes=self.boxes[rows])


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How much the images of an epoch may differ from the training images.

    The draws of an image depend on the seed, the epoch and the number of its row only. Each is uniform between minus
    and plus the setting, but for the noise, which is normal, and the erased rectangle. Between pixels, images are
    interpolated bilinearly. Where an image moves away from its border, the pixels of the border are repeated.

    Parameters
    ----------
    shift : float
        The largest shift in each direction, in pixels.
    rotate : float
        The largest rotation, in degrees, up to 180.
    scale : float
        The largest change of size, as a fraction of the size, from 0 to below 1.
    shear : float
        The largest angle by which vertical lines are slanted, in degrees, from 0 to below 90.
    alpha : float
        The strength of the elastic distortion of Simard, Steinkraus and Platt 2003, "Best practices for convolutional
        neural networks applied to visual document analysis", who use 34 for digits: every pixel draws a displacement,
        down and across, from -1 to 1; the displacements are smoothed and multiplied by `alpha`, in pixels.
    sigma : float
        The standard deviation of the Gaussian weights that smooth the displacements, in pixels, above 0; up to a
        distance of 3 `sigma`, with zeros outside of the image.
    noise : float
        The standard deviation of the noise added to each pixel, as a fraction of the range of the pixels.
    erase : float
        The largest height and the largest width of a rectangle that is set to the smallest value of a pixel, as a
        fraction of the height and the width of the image, from 0 to below 1. The sizes are uniform from 0 on, and so is
        the place in the image. After Zhong et al. 2017, "Random erasing data augmentation" (arXiv:1708.04896).

    Raises
    ------
    SettingsError
        If a setting is out of range, or nothing is changed.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> result = fastnn.train(network, data, epochs=2, augment=fastnn.Augment(shift=0.5, rotate=10))
    >>> result.config.augment
    Augment(shift=0.5, rotate=10)
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    alpha: float = 0.0
    sigma: float = 4.0
    noise: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        below = {"rotate": 180.001, "scale": 1.0, "shear": 90.0, "erase": 1.0}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "sigma":
                check_number("sigma", value, high=1e6, above=0)
            else:
                check_number(each.name, value, 0, below.get(each.name, 1e6))
        if not any(getattr(self, each.name) for each in fields(self) if each.name != "sigma"):
            raise SettingsError("all settings of augment are 0, expected one above 0, or augment=None")

    def __repr__(self) -> str:
        """Return the settings that differ from the defaults."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        given = (f"{each.name}={values[each.name]!r}" for each in fields(self) if values[each.name] != each.default)
        return f"Augment({', '.join(given)})"

    def draw(
        self, shape: tuple[int, int], key: np.uint64, counters: np.ndarray, levels: tuple[float, float]
    ) -> Distortion:
        """Return the distortion of B images, which depends on the key and on the counter of each image only.

        Parameters
        ----------
        shape : tuple of (int, int)
            The height and the width of the images.
        key : uint64
            In training, `fastnn.randomness.augmentation_key` of the seed and the epoch.
        counters : ndarray of shape (B,), integers
            In training, the number of each image in the training data.
        levels : tuple of (float, float)
            The smallest and the largest value of a pixel.
        """
        draws = 2 * uniform(key, counters, _N_DRAWS) - 1  # (B, draws), from -1 to 1
        return Distortion(
            shape=shape,
            affine=self._affine(draws[:, :_N_AFFINE].T, shape),
            numbers=row_numbers(key, counters),
            taps=self._taps(max(shape)),
            noise=float(self.noise * (levels[1] - levels[0])),
            boxes=self._boxes((draws[:, _N_AFFINE:] + 1) / 2, shape),
            levels=(float(levels[0]), float(levels[1])),
        )

    def _affine(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return where each pixel comes from: the inverse of shear, rotation and scaling about the middle, and shift.

        draws: (5, B)
        """
        down, right, turn, zoom, slant = draws
        angle, factor = math.radians(self.rotate) * turn, 1 + self.scale * zoom
        tangent = np.tan(math.radians(self.shear) * slant)
        a, b = np.cos(angle) / factor, np.sin(angle) / factor
        d, e = -b - tangent * a, a - tangent * b
        y, x = ((size - 1) / 2 for size in shape)
        c, f = y - self.shift * down - a * y - b * x, x - self.shift * right - d * y - e * x
        return np.stack((a, b, c, d, e, f), axis=1)

    def _taps(self, size: int) -> np.ndarray:
        if not self.alpha:
            return np.empty((2, 0))
        radius = int(_TRUNCATE * self.sigma + 0.5)
        weights = np.exp(-0.5 * (np.arange(radius + 1) / self.sigma) ** 2)
        weights /= weights[0] + 2 * weights[1:].sum()
        weights = weights[:size]
        return np.stack((weights, weights * (self.alpha / FIELD_SCALE)))

    def _boxes(self, draws: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return the rectangles, (B, 4), from draws (B, 4) between 0 and 1."""
        most = np.floor(self.erase * np.array(shape))
        sizes = np.floor(draws[:, :2] * (most + 1)).astype(np.int64)
        sizes *= (sizes > 0).all(axis=1, keepdims=True)
        places = np.floor(draws[:, 2:] * (np.array(shape) - sizes + 1)).astype(np.int64)
        return np.concatenate((places, sizes), axis=1)


def get_augment(augment: "str | Augment | None") -> Augment | None:
    """Return what a text such as "shift=2,rotate=10" describes; an object or None stays as it is.

    Raises SettingsError for a name that is no setting, or a value that is no number in its range.
    """
    if augment is None or isinstance(augment, Augment):
        return augment
    expected = "expected NAME=VALUE,... such as shift=2,rotate=10"
    if not isinstance(augment, str):
        raise SettingsError(f"augment is {augment!r}, {expected}, an Augment or None")
    names, values = [each.name for each in fields(Augment)], {}
    for part in augment.split(","):
        name, _, value = (text.strip() for text in part.partition("="))
        if name not in names:
            meant = did_you_mean(name, names)
            raise SettingsError(f"augment is {augment!r}{meant}, {expected}; names are {', '.join(names)}")
        try:
            values[name] = float(value)
        except ValueError:
            raise SettingsError(f"augment is {augment!r}: {name} is no number, {expected}") from None
    return Augment(**values)
