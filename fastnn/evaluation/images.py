"""One image as a row of inputs, and as a picture to draw."""

import numpy as np
from numpy.typing import ArrayLike

from fastnn.errors import DataError
from fastnn.evaluation.checks import check_images
from fastnn.models import Model


def single_image(
    model: Model, image: ArrayLike, image_shape: tuple[int, int] | None = None
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return an image as a row for the model, (D,), and its shape, (channels, height, width).

    Parameters
    ----------
    model : Model
    image : array-like of shape (D,), (1, D), (height, width) or (channels, height, width)
        One row of inputs, unscaled.
    image_shape : tuple of int, optional
        (height, width). By default that of the model, or of the image.

    Raises
    ------
    DataError
        If the image is not one row for the model, or its height and width are unknown or do not fit.
    """
    network = model.networks[0]
    row, shape = np.asarray(image), network.shapes[0]
    image_shape = model.image_shape if image_shape is None else image_shape
    if row.ndim == 2 and row.size == network.n_inputs:  # an image, or a batch of one row
        image_shape = (row.shape[0], row.shape[1]) if image_shape is None and 1 not in row.shape else image_shape
        row = row.reshape(-1)
    elif row.shape == shape:
        row = row.reshape(-1)
    if row.ndim != 1:
        raise DataError(f"image has shape {row.shape}, expected ({network.n_inputs},), one row of inputs")
    n_channels = shape[0] if len(shape) == 3 else 1
    if n_channels == 1:
        return row, (1, *check_images(row[None], image_shape, 1))
    if image_shape not in (None, shape[1:]) or row.size != network.n_inputs:
        raise DataError(f"image has {row.size} numbers and image_shape is {image_shape}, expected {shape}")
    return row, (n_channels, shape[1], shape[2])


def picture(row: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return a row of shape (channels, height, width) as one picture, (height, width): the mean of its channels."""
    channels = row.reshape(shape)
    return channels[0] if len(channels) == 1 else channels.mean(axis=0)
