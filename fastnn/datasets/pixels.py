"""The rules of all readers: which numbers are valid pixels and labels, and the largest value of a pixel."""

from dataclasses import replace
from math import isqrt

import numpy as np

from fastnn.datasets.arrays import LARGEST_LABEL
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError

LABEL_EXPECTED = f"a label (a whole number from 0 to {LARGEST_LABEL})"


def square(n_pixels: int) -> tuple[int, int] | None:
    """Return (side, side) if `n_pixels` is a square number of at least 2 x 2, else None."""
    side = isqrt(n_pixels)
    return (side, side) if side * side == n_pixels and side > 1 else None


def check_not_empty(shape: tuple[int, ...], name: str) -> None:
    """Raise DataError if an array of this shape has no samples or no pixels."""
    if shape[0] == 0:
        raise DataError(f"{name}: found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required")
    if 0 in shape:
        raise DataError(f"{name}: found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required")


def as_pixels(values: np.ndarray, name: str) -> np.ndarray:
    """Convert numbers of any type and byte order to pixels: (N, D), C-contiguous, uint8, float32 or float64.

    Integers must be from 0 to 255 and become uint8. Floats must be finite and keep their type, except that float16
    becomes float32. Raises DataError, with the first invalid sample and pixel, if a value is invalid.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind in "iu":
        invalid, pixel_type = (values < 0) | (values > 255), "u1"
        expected = "integers from 0 to 255, or floating-point numbers"
    else:
        invalid, pixel_type = ~np.isfinite(values), f"f{max(values.dtype.itemsize, 4)}"
        expected = "finite numbers"
    if invalid.any():
        sample, pixel = (int(indices[0]) for indices in np.nonzero(invalid))
        raise DataError(
            f"{name}: sample {sample}, pixel {pixel} (from 0): found {values[sample, pixel]}, expected {expected}"
        )
    return np.ascontiguousarray(values, pixel_type)


def are_labels(values: np.ndarray) -> np.ndarray:
    """Return for each number whether it is a valid label: a whole number from 0 to 9999."""
    with np.errstate(invalid="ignore"):  # every comparison with NaN is False, so NaN is invalid
        return (values >= 0) & (values <= LARGEST_LABEL) & (np.floor(values) == values)


def as_labels(values: np.ndarray, name: str) -> np.ndarray:
    """Convert numbers to labels, (N,) int64; raise DataError if one is not a valid label."""
    valid = are_labels(values)
    if not valid.all():
        sample = int(valid.argmin())
        raise DataError(f"{name}: label {sample} (from 0): found {values[sample]}, expected {LABEL_EXPECTED}")
    return values.astype(np.int64)


def pixel_scale(*images: np.ndarray) -> float:
    """Return the largest value a pixel can have, guessed from one or more arrays of the same scale.

    - uint8: 16 if a row has 64 pixels and none is above 16 (the 8x8 digits), else 255.
    - floats: the same as for uint8 if all values are whole numbers from 0 to 255 and one is above 1. Otherwise 1,
      because the values are fractions, or features that are not pixels.
    """
    largest = max(float(array.max()) for array in images)
    if any(array.dtype != np.uint8 for array in images) and (largest <= 1 or not all(map(_holds_bytes, images))):
        return 1.0
    return 16.0 if images[0].shape[1] == 64 and largest <= 16 else 255.0


def matched(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    """Convert a training set and a test set to one dtype and one pixel_max.

    Raises DataError if they differ in width, image shape or scale.
    """
    for what, of_train, of_test in (
        ("pixels per row", train.images.shape[1], test.images.shape[1]),
        ("as image shape", train.image_shape, test.image_shape),
    ):
        if of_train != of_test:
            expected = f"{of_train} as in the training set {train.name}"
            raise DataError(f"{test.name}: found {of_test} {what}, expected {expected}")
    types = [part.images.dtype for part in (train, test) if part.images.dtype != np.uint8]
    if not types:
        pixel_max = max(train.pixel_max, test.pixel_max)
        return replace(train, pixel_max=pixel_max), replace(test, pixel_max=pixel_max)
    for scaled, other in ((train, test), (test, train)):
        if _is_fractions(scaled.images) and _holds_bytes(other.images) and other.images.max() > 1:
            raise DataError(
                f"{test.name}: the pixels of {scaled.name} are fractions up to 1, those of {other.name} are whole "
                "numbers, expected training and test set to have one scale"
            )
    pixel_max = pixel_scale(train.images, test.images)
    wide = np.result_type(*types)
    train, test = (replace(part, images=part.images.astype(wide, copy=False)) for part in (train, test))
    return replace(train, pixel_max=pixel_max), replace(test, pixel_max=pixel_max)


def _holds_bytes(images: np.ndarray) -> bool:
    """Return whether all values are whole numbers from 0 to 255."""
    if images.dtype == np.uint8:
        return True
    return bool(images.min() >= 0 and images.max() <= 255 and (np.floor(images) == images).all())


def _is_fractions(images: np.ndarray) -> bool:
    return images.dtype != np.uint8 and bool(images.max() <= 1) and not _holds_bytes(images)
