"""Prepares pictures for a model as its training images were: their size, the side of the scale that is ink, the range.

Dimensions: D pixels in a row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.models.row_format import RowFormat

# The number of images that `measured_pixels` looks at.
_LOOKED_AT = 2000


def is_picture(value: Any) -> bool:
    """Return whether `value` is a path, or a picture of PIL."""
    return isinstance(value, str) or hasattr(value, "__fspath__") or type(value).__module__.startswith("PIL.")


def measured_pixels(data: Dataset) -> tuple[float, float] | None:
    """Return the values of the background and of full ink in the images of `data`; None if its rows are no images.

    The border of most images is background. So images whose border is mostly nearer the upper end are dark on light.
    """
    if data.image_shape is None or is_sparse(data.images) or not len(data):
        return None
    images = data.images[:: max(1, len(data) // _LOOKED_AT)]
    low, high = min(0.0, float(images.min())), data.pixel_max
    if low < 0:
        high = max(float(images.max()), low + 1e-9)
    border = np.ones(data.image_shape, bool)
    border[1:-1, 1:-1] = False
    level = float(np.median(images[:, border.reshape(-1)]))
    return (low, high) if level <= (low + high) / 2 else (high, low)


def picture_rows(rows: RowFormat, pictures: Sequence[Any], *, many: bool = False) -> np.ndarray:
    """Return pictures of one digit each as rows for a model, (N, D); DataError if a picture cannot be read or prepared.

    With `many`, a picture may have several digits, which become rows in the order of reading.
    Models for 28 x 28 images get MNIST's preparation, in their own range and with their own ink. Models for images of
    another size get the grey pixels of pictures of that size, as folders of pictures are read.
    """
    from fastnn.datasets.pictures.images import prepare_image

    if rows.image_shape not in (None, (28, 28)) and not many:
        return np.stack([_grey_row(rows, picture) for picture in pictures])
    check_takes_pictures(rows)
    if many:
        from fastnn.datasets.pictures.images import prepare_images

        return as_rows(rows, np.concatenate([prepare_images(picture) for picture in pictures]))
    return as_rows(rows, np.stack([prepare_image(picture) for picture in pictures]))


def _grey_row(rows: RowFormat, picture: Any) -> np.ndarray:
    """Return the grey pixels of a picture as a row, in the model's range; DataError if it has another size."""
    from fastnn.datasets.pictures.images import grey_of

    name, grey = grey_of(picture)
    if grey.shape != rows.image_shape:
        found, expected = (" x ".join(map(str, shape)) for shape in (grey.shape, rows.image_shape or ()))
        raise DataError(f"{name}: found a picture of {found} pixels, expected {expected}, as in training")
    low, high = sorted(rows.pixels)
    if (low, high) == (0, 255):
        return np.rint(grey).astype(np.uint8).reshape(-1)
    in_range: np.ndarray = low + grey.reshape(-1) * np.float32((high - low) / 255)
    return in_range


def check_takes_pictures(rows: RowFormat) -> None:
    """Raise DataError unless the model was trained on 28 x 28 images, the size of prepared pictures."""
    if rows.image_shape != (28, 28):
        if rows.image_shape is None:
            raise DataError("the model is for rows of a table, not for pictures: expected an array or a frame")
        found = "{} x {} images".format(*rows.image_shape)
        raise DataError(f"the model is for {found}, expected one for 28 x 28 images, the size of prepared pictures")


def as_rows(rows: RowFormat, prepared: np.ndarray) -> np.ndarray:
    """Return prepared images, (N, D) uint8 with ink 255 on 0, in the range and with the ink of the model's images."""
    background, ink = rows.pixels
    if {background, ink} == {0.0, 255.0}:
        return prepared if ink else 255 - prepared
    in_range: np.ndarray = background + prepared * np.float32((ink - background) / 255)
    return in_range
