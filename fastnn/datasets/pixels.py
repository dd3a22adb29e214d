"""The rules of all readers: which numbers are valid pixels, and the largest value of a pixel."""

from dataclasses import replace

import numpy as np

from fastnn.checks import short
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError

LARGEST_BYTE = 255
# A sparse matrix of a few bytes can declare any number of rows and columns. Each row takes 8 bytes in a CSR matrix, and
# a network has weights for each column.
MAX_SPARSE_SIDE = 2**24


def check_not_empty(shape: tuple[int, ...], name: str) -> None:
    """Raise DataError if an array of this shape has no samples or no pixels."""
    if shape[0] == 0:
        raise DataError(f"{name}: found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required")
    if 0 in shape:
        raise DataError(f"{name}: found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required")


def check_sparse_shape(shape: tuple[int, ...]) -> None:
    """Raise ValueError, to which the reader adds the place, if a sparse matrix declares too many rows or columns."""
    if max(shape) > MAX_SPARSE_SIDE:
        raise ValueError(f"a sparse matrix of shape {shape}, above {MAX_SPARSE_SIDE} rows or columns")


def as_pixels(values: np.ndarray, name: str) -> np.ndarray:
    """Convert numbers of any type and byte order to pixels: (N, D), C-contiguous, uint8, float32 or float64.

    Integers must be from 0 to 255 and become uint8. Floats must be finite and keep their type, except that float16
    becomes float32. Raises DataError, with the first invalid sample and pixel, if a value is invalid.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind in "iu":
        invalid, pixel_type = (values < 0) | (values > LARGEST_BYTE), "u1"
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


def pixel_scale(*images: np.ndarray) -> float:
    """Return the largest value a pixel can have, guessed from one or more arrays of the same scale.

    - uint8: 1 if all are 0 or 1, 16 if a row has 64 pixels and none is above 16 (the 8x8 digits), else 255.
    - floats: the same as for uint8 if all values are whole numbers from 0 to 255 and one is above 1. Otherwise 1,
      because the values are fractions, or features that are not pixels.
    """
    largest = max(float(array.max()) for array in images)
    if largest == 1 or (
        any(array.dtype != np.uint8 for array in images) and (largest < 1 or not all(map(holds_bytes, images)))
    ):
        return 1.0
    return 16.0 if images[0].shape[1] == 64 and largest <= 16 else 255.0


def matched(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    """Convert a training set and a test set to one dtype, one pixel_max, one order of columns and the same classes.

    Raises DataError if they differ in width, names of columns, image shape or scale, or if the test set has labels that
    the training set lacks.
    """
    test = _with_features_of(train, test)
    for what, of_train, of_test in (
        ("pixels per row" if train.image_shape else "inputs per row", train.images.shape[1], test.images.shape[1]),
        ("as image shape", train.image_shape, test.image_shape),
    ):
        if of_train != of_test:
            expected = f"{of_train} as in the training set {train.name}"
            raise DataError(f"{test.name}: found {of_test} {what}, expected {expected}")
    train, test = _with_one_scale(train, test)
    return train, _with_classes_of(train, test)


def _with_features_of(train: Dataset, test: Dataset) -> Dataset:
    """Return the test set with the columns in the order of the training set, by their names."""
    names, own = train.feature_names, test.feature_names
    if names is None or own is None or names == own:
        return test
    missing = [name for name in names if name not in own]
    extra = [name for name in own if name not in names]
    if missing or extra or len(set(names)) < len(names):
        found = f"the columns {short(extra or list(own))} instead of {short(missing or list(names))}"
        raise DataError(f"{test.name}: found {found}, expected those of the training set {train.name}")
    order = [own.index(name) for name in names]
    return replace(test, images=np.ascontiguousarray(test.images[:, order]), feature_names=names)


def _with_classes_of(train: Dataset, test: Dataset) -> Dataset:
    """Return the test set with labels that number the classes of the training set."""
    if train.labels is None or test.labels is None or train.has_targets or test.has_targets:
        if train.labels is not None and test.labels is not None and train.has_targets != test.has_targets:
            kinds = ["numbers to predict" if part.has_targets else "classes" for part in (test, train)]
            raise DataError(f"{test.name}: labels are {kinds[0]}, expected {kinds[1]} as in {train.name}")
        return test
    if train.classes is None and test.classes is None:
        return test
    return test.with_classes(range(train.n_classes) if train.classes is None else train.classes)


def _with_one_scale(train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    types = [part.images.dtype for part in (train, test) if part.images.dtype != np.uint8]
    if not types:
        pixel_max = max(train.pixel_max, test.pixel_max)
        return replace(train, pixel_max=pixel_max), replace(test, pixel_max=pixel_max)
    is_image = train.image_shape is not None
    for scaled, other in ((train, test), (test, train)):
        if is_image and _is_fractions(scaled.images) and holds_bytes(other.images) and other.images.max() > 1:
            raise DataError(
                f"{test.name}: the pixels of {scaled.name} are fractions up to 1, those of {other.name} are whole "
                "numbers, expected training and test set to have one scale"
            )
    pixel_max = pixel_scale(train.images, test.images)
    if train.pixel_max == test.pixel_max and not is_image:
        pixel_max = train.pixel_max
    wide = np.result_type(*types)
    train, test = (replace(part, images=part.images.astype(wide, copy=False)) for part in (train, test))
    return replace(train, pixel_max=pixel_max), replace(test, pixel_max=pixel_max)


def holds_bytes(images: np.ndarray) -> bool:
    """Return whether all values are whole numbers from 0 to 255."""
    if images.dtype == np.uint8:
        return True
    return bool(images.min() >= 0 and images.max() <= LARGEST_BYTE and (np.floor(images) == images).all())


def _is_fractions(images: np.ndarray) -> bool:
    return images.dtype != np.uint8 and bool(images.max() <= 1) and not holds_bytes(images)
