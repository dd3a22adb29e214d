"""Reads the samples given to a command: labelled data or pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from fastnn.datasets import Dataset
    from fastnn.models.model import Model


def read_test_data(files: Sequence[str] | None) -> "Dataset":
    """Return the test set of the files, or all samples if there is no test set; without files, MNIST's test images."""
    from fastnn.datasets import load_mnist, read_files

    first, second = read_files(files) if files else load_mnist()
    return first if second is None else second


def prepare_pictures(images: Sequence[str], path: str, model: "Model") -> "np.ndarray":
    """Return the pictures as rows for the model, shape (images, 784)."""
    import numpy as np

    from fastnn.datasets import prepare_image
    from fastnn.errors import DataError

    if model.image_shape != (28, 28):
        found = "data other than images" if model.image_shape is None else "{} x {} images".format(*model.image_shape)
        expected = "one for 28 x 28 images, the size of prepared pictures"
        raise DataError(f"{path} is a model for {found}, expected {expected}")
    rows = np.stack([prepare_image(image) for image in images])
    # A network trained on data scaled to 0 ... 1 needs its pixels scaled the same way.
    return rows / np.float32(255) if model.network.input_scale == 1 else rows
