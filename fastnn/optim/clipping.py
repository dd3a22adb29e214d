"""Gradient clipping: limits the gradients of a batch before the optimizer uses them."""

import math
from collections.abc import Sequence

import numpy as np

# A smaller sum of squares may have lost some of them: those of float32 numbers below 1e-19 underflow.
_SMALLEST = 1e-30


def clip_by_value(gradients: Sequence[np.ndarray], limit: float) -> None:
    """Limit every entry of the gradients to [-limit, limit], in place.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim.clipping import clip_by_value
    >>> gradient = np.array([3.0, -0.5])
    >>> clip_by_value([gradient], 1.0)
    >>> gradient
    array([ 1. , -0.5])
    """
    for gradient in gradients:
        np.clip(gradient, -limit, limit, out=gradient)


def clip_by_norm(gradients: Sequence[np.ndarray], limit: float) -> None:
    """Scale the gradients of all layers, in place, so that their joint Euclidean norm is at most `limit`.

    All are multiplied by the same factor, so the direction of the step stays (Pascanu et al. 2013, "On the difficulty
    of training recurrent neural networks", algorithm 1).

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim.clipping import clip_by_norm
    >>> weight, bias = np.array([3.0, 0.0]), np.array([4.0])
    >>> clip_by_norm([weight, bias], 1.0)
    >>> weight, bias
    (array([0.6, 0. ]), array([0.8]))
    """
    factor = clipping_factor(global_norm(gradients), limit)
    if factor != 1:
        for gradient in gradients:
            gradient *= gradient.dtype.type(factor)


def clipping_factor(norm: float, limit: float) -> float:
    """Return the factor that scales gradients of this norm down to the limit; 1 if they are not longer, or NaN."""
    return limit / norm if norm > limit else 1.0


def global_norm(gradients: Sequence[np.ndarray]) -> float:
    """Return the Euclidean norm of all entries of the gradients together; NaN or infinite if an entry is.

    NumPy adds in an order that depends on the shapes only, so the result does not depend on the number of threads.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        total = sum(float(np.square(gradient).sum(dtype=np.float64)) for gradient in gradients)
    if _SMALLEST < total < np.inf:
        return math.sqrt(total)
    largest = max(float(np.abs(gradient).max()) for gradient in gradients)
    if largest == 0 or not np.isfinite(largest):
        return largest
    # Squares overflow or underflow: the entries are divided by the largest one.
    scaled = (np.square(np.divide(gradient, largest, dtype=np.float64)).sum() for gradient in gradients)
    return largest * math.sqrt(sum(scaled))
