"""What a model knows of its input rows."""

from typing import NamedTuple

import numpy as np


class RowFormat(NamedTuple):
    """The columns of a model's input rows and, if a row is an image, its size and ink. Fields as in `Model`.

    pixels: (background, full ink), also for models of older files, which do not say
    means: the mean of each column in training, (D,), if the model keeps it
    """

    n_inputs: int
    image_shape: tuple[int, int] | None
    feature_names: tuple[str, ...] | None
    pixels: tuple[float, float]
    means: np.ndarray | None = None
