"""The samples that a command is given: labelled data, or pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from fastnn.datasets import Dataset
    from fastnn.network.model import Model


def read_test_data(files: Sequence[str] | None) -> "Dataset":
    """The test part of the files, or all they hold; without files, MNIST's test images."""
    from fastnn.datasets import load_mnist, read_files

    first, second = read_files(files) if files else load_mnist()
    return first if second is None else second


def prepare_pictures(images: Sequence[str], path: str, model: "Model") -> "np.ndarray":
    """The pictures as rows for the model, shape (images, 784)."""
    import numpy as np

    from fastnn.datasets import prepare_image
    from fastnn.errors import DataError

    if model.image_shape != (28, 28):
        shape = "no images" if model.image_shape is None else f"{model.image_shape[0]} x {model.image_shape[1]} images"
        raise DataError(f"{path} takes {shape}; pictures are prepared as images of 28 x 28")
    rows = np.stack([prepare_image(image) for image in images])
    # Networks from data scaled to 0 ... 1 take prepared pixels scaled likewise.
    return rows / np.float32(255) if model.network.input_scale == 1 else rows
