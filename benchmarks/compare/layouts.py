"""Converts weights between the order of axes in fastnn, channels first, and channels as the last axis."""

import numpy as np

from benchmarks.compare.architecture import Conv, is_weighted, shapes
from benchmarks.compare.problems import Problem


def channels_last(problem: Problem, weights: list[np.ndarray], back: bool = False) -> list[np.ndarray]:
    """Return weights for channels as the last axis: of convolutions, and of the dense layer after them.

    With `back`, undo this.
    """
    found, remaining = [], iter(weights)
    axes = (2, 0, 1, 3) if back else (1, 2, 0, 3)
    for layer, shape in zip(problem.layers, shapes(problem.layers, problem.input_shape), strict=False):
        if not is_weighted(layer):
            continue
        weight = next(remaining)
        if isinstance(layer, Conv):
            weight = weight.transpose(axes)
        elif len(shape) == 3:
            rows = (*shape[1:], shape[0]) if back else shape
            weight = weight.reshape(*rows, -1).transpose(axes).reshape(weight.shape)
        found.append(weight)
    return found
