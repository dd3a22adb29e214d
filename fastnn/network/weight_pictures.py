"""What a weight of the first layer looks like: filters, units as images, or a matrix."""

import numpy as np


def weight_pictures(weight: np.ndarray, image_shape: tuple[int, int] | None) -> tuple[str, np.ndarray]:
    """Return the kind of the pictures, and the pictures.

    image_shape: that of the inputs, or None

    - "filters" of a convolution: (filters, channels, height, width)
    - "units" of a dense layer whose inputs are an image: (units, height, width)
    - "matrix" of another dense layer: (units, inputs)
    """
    if weight.ndim == 4:
        return "filters", np.moveaxis(weight, -1, 0)
    if image_shape is not None and image_shape[0] * image_shape[1] == len(weight):
        return "units", weight.T.reshape(-1, *image_shape)
    return "matrix", weight.T
