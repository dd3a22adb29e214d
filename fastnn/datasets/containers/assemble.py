"""Assembles a `Dataset` from the arrays of a file: any layout of images, any form of labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np

from fastnn.checks import short
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pictures.grey import LUMA
from fastnn.datasets.pixels import LARGEST_BYTE, as_pixels, check_not_empty, pixel_scale
from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.datasets.tables.target import are_classes
from fastnn.errors import DataError

# Rows of this number of pixels are images: 28 x 28 as of MNIST, and 8 x 8 as of scikit-learn's digits.
_KNOWN_SHAPES = {784: (28, 28), 64: (8, 8)}
# Sparse labels become an array, so that a few bytes could declare any size.
_MAX_SPARSE_LABELS = 2**24
_IMAGES_EXPECTED = "(N, D), (N, height, width), or one, three or four channels before or after height and width"


@dataclass(frozen=True)
class Named:
    """An array, and the name of its source in messages."""

    name: str
    values: Any


def dataset_of_arrays(
    images: Named,
    labels: Named | None,
    options: ReadOptions,
    *,
    classes: Sequence[Any] | None = None,
    feature_names: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    """Return the data set of images and their labels. Raises DataError, with the place, for what cannot be used."""
    rows, shape, pixel_max, image_notes = images_as_rows(images, options)
    values, label_notes = None, cast(tuple[str, ...], ())
    if labels is not None and options.label != "none":
        values, label_notes = label_values(labels, len_of(rows), images.name, options)
    if classes is not None and not _numbers_of(values, len(classes)):
        classes = None
    if feature_names is not None and len(feature_names) != rows.shape[1]:
        feature_names = None
    return Dataset(
        rows,
        values,
        pixel_max,
        shape,
        images.name,
        None if classes is None else tuple(classes),
        None if feature_names is None else tuple(map(str, feature_names)),
        (*notes, *image_notes, *label_notes),
    )


def len_of(values: Any) -> int:
    """Return the number of rows of an array or a sparse matrix."""
    return int(values.shape[0])


def images_as_rows(images: Named, options: ReadOptions) -> tuple[Any, tuple[int, int] | None, float, tuple[str, ...]]:
    """Return samples as rows of numbers, the image shape, the largest value of a pixel, and notes. Raises DataError."""
    rows, shape, notes = _rows(images, options)
    return rows, shape, options.pixel_max or _scale(rows, images.values), notes


def _rows(images: Named, options: ReadOptions) -> tuple[Any, tuple[int, int] | None, tuple[str, ...]]:
    values, name = images.values, images.name
    if is_sparse(values):
        return _sparse_rows(values, name), options.image_shape, ()
    if values.dtype.kind not in "buif":
        text = f", such as {short(values.flat[0])}" if values.size and values.dtype.kind in "US" else ""
        raise DataError(f"{name}: found values of type {values.dtype}{text}, expected numbers")
    values, shape, notes = as_planes(values, name)
    check_not_empty(values.shape, name)
    rows = values.reshape(len(values), -1)
    rows = as_inputs(rows, name, options)
    if options.image_shape is not None:
        shape = options.image_shape
    elif shape is None:
        shape = known_shape(rows)
    return rows, shape, notes


def as_planes(values: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, int] | None, tuple[str, ...]]:
    """Return images without channels, (N, D) or (N, height, width), their shape if it is known, and notes."""
    error = DataError(f"{name}: found shape {values.shape}, expected {_IMAGES_EXPECTED}")
    if values.ndim == 2:
        return values, None, ()
    if values.ndim == 3:
        return values, None if 1 in values.shape[1:] else (values.shape[1], values.shape[2]), ()
    if values.ndim != 4:
        raise error
    axis = next((axis for counts in ((1,), (3, 4)) for axis in (3, 1) if values.shape[axis] in counts), None)
    if axis is None:
        raise error
    planes = np.moveaxis(values, axis, 3)
    shape = (planes.shape[1], planes.shape[2])
    if planes.shape[3] == 1:
        return planes[..., 0], None if 1 in shape else shape, ()
    return _grey(planes), shape, (f"{name}: colour images ({planes.shape[3]} channels) are read as grey",)


def _grey(planes: np.ndarray) -> np.ndarray:
    """Return the brightness of colour images (N, height, width, 3 or 4), in their own type."""
    grey = np.empty(planes.shape[:3], planes.dtype if planes.dtype.kind == "f" else np.float32)
    for start in range(0, len(planes), 1024):  # blocks, because products need a floating-point copy
        grey[start : start + 1024] = planes[start : start + 1024, ..., :3].astype(np.float32) @ LUMA
    return grey if planes.dtype.kind == "f" else np.rint(grey).astype(planes.dtype)


def as_inputs(rows: np.ndarray, name: str, options: ReadOptions) -> np.ndarray:
    """Convert rows of numbers to uint8 if they are whole numbers from 0 to 255, else to float32 or float64.

    Missing values (NaN) of floats are replaced by the mean of their column if the options say so.
    """
    if rows.dtype == bool:
        return rows.view(np.uint8)
    if rows.dtype.kind in "iu" and rows.dtype != np.uint8 and (rows.min() < 0 or rows.max() > 255):
        return np.ascontiguousarray(rows, np.float32)
    if rows.dtype.kind == "f" and options.missing == "mean" and (absent := np.isnan(rows)).any():
        counts = (~absent).sum(axis=0)
        if not counts.all():
            raise DataError(f"{name}: column {int(counts.argmin())} (from 0) has no value, expected at least one")
        means = np.where(absent, 0, rows).sum(axis=0, dtype=np.float64) / counts
        rows = np.where(absent, means.astype(rows.dtype), rows)
    return as_pixels(rows, name)


def known_shape(rows: np.ndarray) -> tuple[int, int] | None:
    """Return the image shape of rows of 784 pixels or 64, else None. Negative numbers above -1 are pixels, too."""
    shape = _KNOWN_SHAPES.get(rows.shape[1])
    return shape if rows.dtype == np.uint8 or (rows.min() >= -1 and rows.max() <= 255) else None


def _sparse_rows(values: Any, name: str) -> Any:
    if values.ndim != 2 or values.dtype.kind not in "buif":
        raise DataError(f"{name}: found a sparse array of shape {values.shape} and type {values.dtype}")
    check_not_empty(values.shape, name)
    try:
        rows = canonical(values.tocsr())
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None
    if not np.isfinite(rows.data).all():
        raise DataError(f"{name}: found values that are not finite, expected finite numbers")
    return rows if rows.dtype.kind == "f" and rows.dtype.itemsize >= 4 else rows.astype(np.float32)


def _scale(rows: Any, stored: Any) -> float:
    """Return the largest value a pixel can have; of images with more than 8 bits, by the number of bits in use."""
    if not is_sparse(rows):
        if stored.ndim > 2 and stored.dtype.kind in "iu" and rows.dtype != np.uint8 and rows.min() >= 0:
            return 2.0 ** int(rows.max()).bit_length() - 1
        return pixel_scale(rows)
    # Counts of words are whole numbers, too: only bytes that use their range are taken for pixels.
    data = rows.data
    whole = len(data) and data.min() >= 0 and data.max() <= LARGEST_BYTE and (np.floor(data) == data).all()
    return 255.0 if whole and data.max() > 200 else 1.0


def _numbers_of(labels: np.ndarray | None, n_classes: int) -> bool:
    """Return whether labels number this many classes, from 0."""
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iuf" or not len(labels):
        return False
    return bool(labels.min() >= 0 and labels.max() < n_classes and (np.floor(labels) == labels).all())


def label_values(
    labels: Named, n_samples: int, images_name: str, options: ReadOptions
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels (N,), numbers or texts, or targets (N, C) float; and notes. Raises DataError."""
    values, name = labels.values, labels.name
    notes: tuple[str, ...] = ()
    if is_sparse(values):
        if prod(values.shape) > _MAX_SPARSE_LABELS:
            raise DataError(f"{name}: found sparse labels of shape {values.shape}, expected one for each sample")
        values = values.toarray()
    if values.dtype.kind not in "buifUSO":
        raise DataError(f"{name}: found labels of type {values.dtype}, expected numbers or texts")
    if values.ndim > 2 and values.size == n_samples:
        values = values.reshape(-1)
    if values.ndim == 2 and values.shape[0] == 1 != n_samples:
        values = values.T
    if values.ndim not in (1, 2) or len(values) != n_samples:
        found = f"{len(values)} labels" if values.ndim in (1, 2) else f"shape {values.shape}"
        raise DataError(f"{name}: found {found}, expected {n_samples}, one for each image in {images_name}")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        values, notes = _rows_of_labels(values, name, options)
    if values.ndim == 2:
        return values, notes
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.isfinite(values).argmin())
        raise DataError(f"{name}: label {row} (from 0): found {values[row]}, expected a finite number")
    return _by_task(values, name, options, notes)


def _rows_of_labels(values: np.ndarray, name: str, options: ReadOptions) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the labels of one-hot rows, or rows of several numbers as targets."""
    if values.dtype.kind not in "buif":
        raise DataError(f"{name}: found texts of shape {values.shape}, expected one label for each sample")
    is_binary = bool(((values == 0) | (values == 1)).all())
    if is_binary and options.task != "regression" and (np.count_nonzero(values, axis=1) == 1).all():
        return values.argmax(axis=1), (f"{name}: labels are one-hot; the column of the 1, from 0, is the class",)
    if options.task == "classification":
        raise DataError(f"{name}: found shape {values.shape}, expected one label for each sample, or one-hot rows")
    if not np.isfinite(values).all():
        raise DataError(f"{name}: found numbers that are not finite, expected finite numbers")
    return values.astype(np.float64), (f"{name}: {values.shape[1]} numbers for each sample are targets to predict",)


def _by_task(
    values: np.ndarray, name: str, options: ReadOptions, notes: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels (N,) of classes or targets (N, 1), as the task or the values decide."""
    is_number = values.dtype.kind in "iuf"
    fractions = values.dtype.kind == "f" and bool((np.floor(values) != values).any())
    if options.task == "regression":
        if not is_number:
            raise DataError(f"{name}: found labels of type {values.dtype}, expected numbers to predict")
        return values.astype(np.float64).reshape(-1, 1), notes
    if options.task == "classification":
        if fractions:
            row = int((np.floor(values) != values).argmax())
            raise DataError(f"{name}: label {row} (from 0): found {values[row]}, expected a whole number for a class")
        return values, notes
    if not is_number or are_classes(values):
        return values, notes
    found = "fractions" if fractions else f"{len(np.unique(values))} different values in {len(values)} rows"
    note = f"{name}: {found}, read as numbers (regression); for classes, give task classification"
    return values.astype(np.float64).reshape(-1, 1), (*notes, note)
