"""What all readers agree on: which numbers are pixels and labels, and what a full pixel is worth."""

from dataclasses import replace
from math import isqrt

import numpy as np

from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError

LARGEST_LABEL = 9999
"""Larger labels are refused: a network has an output for every number up to the largest."""


def square(n_pixels: int) -> tuple[int, int] | None:
    """(side, side) where that many pixels make a square of 2 x 2 or more, else None."""
    side = isqrt(n_pixels)
    return (side, side) if side * side == n_pixels and side > 1 else None


def check_not_empty(shape: tuple[int, ...], name: str) -> None:
    """Refuse arrays without samples or without pixels."""
    if shape[0] == 0:
        raise DataError(f"{name}: found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required")
    if 0 in shape:
        raise DataError(f"{name}: found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required")


def as_pixels(values: np.ndarray, name: str) -> np.ndarray:
    """Rows of typed numbers as the pixels of a data set.

    Integers must lie from 0 to 255 and become uint8; floats must be finite and stay what they are, but float16 becomes
    float32.

    Parameters
    ----------
    values : ndarray of shape (N, D), of any integer type, float16, float32 or float64, of any byte order
    name : str
        What messages call the file.

    Returns
    -------
    ndarray of uint8, float32 or float64 and shape (N, D), C-contiguous, in native byte order

    Raises
    ------
    DataError
        Naming the first sample and pixel that cannot be used.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind in "iu":
        wrong = (values < 0) | (values > 255)
        expected = "integers from 0 to 255, or floating-point numbers"
        pixel_type: np.dtype = np.dtype(np.uint8)
    else:
        wrong = ~np.isfinite(values)
        expected = "finite numbers"
        pixel_type = np.dtype(np.float32 if values.dtype.itemsize == 2 else f"f{values.dtype.itemsize}")
    if wrong.any():
        sample, pixel = (int(place[0]) for place in np.nonzero(wrong))
        raise DataError(
            f"{name}: sample {sample}, pixel {pixel} (from 0): found {values[sample, pixel]}, expected {expected}"
        )
    return np.ascontiguousarray(values, pixel_type)


def as_labels(values: np.ndarray, name: str) -> np.ndarray:
    """Typed numbers as labels: whole, from 0 to LARGEST_LABEL; int64 of shape (N,)."""
    with np.errstate(invalid="ignore"):  # NaN compares as False, which is what is wanted
        good = (values >= 0) & (values <= LARGEST_LABEL)
        if values.dtype.kind == "f":
            good &= np.floor(values) == values
    if not good.all():
        sample = int(np.argmin(good))
        raise DataError(
            f"{name}: label {sample} (from 0): found {values[sample]}, "
            f"expected a whole number from 0 to {LARGEST_LABEL}"
        )
    return values.astype(np.int64)


def pixel_scale(*images: np.ndarray) -> float:
    """The value of a full pixel in arrays of one origin, judged from all of them together.

    Bytes: 16 where a row has 64 pixels and none is above 16 (the 8x8 digits), else 255. Floats: 1 where none is above
    1, the same as for bytes where all are whole numbers from 0 to 255, else 1 (features on a scale of their own).
    """
    largest = max(float(part.max()) for part in images)
    if any(part.dtype != np.uint8 for part in images) and (largest <= 1 or not all(map(_holds_bytes, images))):
        return 1.0
    return 16.0 if images[0].shape[1] == 64 and largest <= 16 else 255.0


def matched(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    """Training and test set with one width, one image shape, one type and one scale; DataError if they do not fit."""
    for what, of_train, of_test in (
        ("pixels a row", train.images.shape[1], test.images.shape[1]),
        ("as image shape", train.image_shape, test.image_shape),
    ):
        if of_train != of_test:
            raise DataError(
                f"{test.name}: found {of_test} {what}, expected {of_train} as in the training set {train.name}"
            )
    if train.images.dtype == test.images.dtype == np.uint8:
        pixel_max = max(train.pixel_max, test.pixel_max)
        return replace(train, pixel_max=pixel_max), replace(test, pixel_max=pixel_max)
    for scaled, other in ((train, test), (test, train)):
        if _is_fractions(scaled.images) and _holds_bytes(other.images) and other.images.max() > 1:
            raise DataError(
                f"{test.name}: the pixels of {scaled.name} are fractions up to 1, those of {other.name} are whole "
                "numbers, expected one scale for training and test set"
            )
    pixel_max = pixel_scale(train.images, test.images)
    wide = np.result_type(*(part.images.dtype for part in (train, test) if part.images.dtype != np.uint8))
    return (
        replace(train, images=train.images.astype(wide, copy=False), pixel_max=pixel_max),
        replace(test, images=test.images.astype(wide, copy=False), pixel_max=pixel_max),
    )


def _holds_bytes(images: np.ndarray) -> bool:
    """Whether all are whole numbers from 0 to 255."""
    if images.dtype == np.uint8:
        return True
    return bool(images.min() >= 0 and images.max() <= 255 and (np.floor(images) == images).all())


def _is_fractions(images: np.ndarray) -> bool:
    return images.dtype != np.uint8 and bool(images.max() <= 1) and not _holds_bytes(images)
