"""Turns what users want a prediction of into rows for a model: arrays, lists, frames, data sets and pictures."""

from typing import Any

import numpy as np

from fastnn.checks import short
from fastnn.datasets.arrays import as_array, as_images, feature_names
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.models.pictures import is_picture, picture_rows
from fastnn.models.row_format import RowFormat


def model_rows(rows: RowFormat, values: Any) -> Any:
    """Return `values` as rows for a model: an array or a CSR matrix, (N, D).

    values: as `x` of `Model.predict`
    Raises DataError if they do not fit the model.
    """
    if is_picture(values):
        return picture_rows(rows, [values])
    if isinstance(values, (list, tuple)) and len(values) and all(map(is_picture, values)):
        return picture_rows(rows, values)
    if isinstance(values, Dataset):
        return in_order(rows, values.images, values.feature_names, values.name)
    names = feature_names(values)
    if names is not None and rows.feature_names is not None and set(rows.feature_names) <= set(names):
        if len(set(names)) < len(names):
            raise DataError("x has two columns of one name, expected different names")
        names = rows.feature_names  # other columns may be texts
        values = values.select(list(names)) if hasattr(values, "column_names") else values[list(names)]
    array = values if is_sparse(values) else _with_rows(rows, as_array(values, "x") if names is None else values)
    images, _, _ = as_images(array, "x")
    return in_order(rows, images, names, "x")


def _with_rows(rows: RowFormat, values: Any) -> Any:
    """Return an array with a row axis: a single row or a single image gets one."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "buif":
        is_image = rows.image_shape is not None and values.shape == rows.image_shape
        is_row = values.ndim == 1 and values.size == rows.n_inputs
        if (is_image and values.shape[1] != rows.n_inputs) or is_row:
            return values.reshape(1, -1)
    return values


def in_order(rows: RowFormat, images: Any, names: tuple[str, ...] | None, name: str) -> Any:
    """Return the columns in the model's order if both have names, else by position."""
    expected = rows.feature_names
    if names is not None and expected is not None and names != expected:
        missing = [each for each in expected if each not in names]
        if missing:
            raise DataError(f"{name} lacks the columns {short(missing)} of the model, found {short(list(names))}")
        if len(set(names)) < len(names):
            raise DataError(f"{name} has two columns of one name, expected different names")
        images = images[:, [names.index(each) for each in expected]]
    if images.shape[1] != rows.n_inputs:
        shape = "" if rows.image_shape is None else " ({} x {} pixels)".format(*rows.image_shape)
        raise DataError(f"{name} has {images.shape[1]} columns, expected {rows.n_inputs}{shape} as in training")
    return images
