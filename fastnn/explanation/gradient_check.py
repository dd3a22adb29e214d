"""A check of gradients by central differences, for any network and either backend."""

from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import Backend, get_backend
from fastnn.network import Network

# In float64, the error of a central difference is least near the cube root of the rounding error.
EPSILON = 1e-5
LIMIT = 1e-7


class GradientCheck(NamedTuple):
    """The largest difference between a gradient and its central difference, over the largest gradient; and where."""

    largest_error: float
    place: str
    passed: bool


def check_gradients(
    network: Network, inp: np.ndarray, labels: np.ndarray, *, backend: str | Backend = "auto", **options: Any
) -> GradientCheck:
    """Compare backpropagation with ``(loss(w + eps) - loss(w - eps)) / (2 * eps)`` for every weight and bias.

    It is done in float64, whatever the network's dtype, with eps 1e-5; `passed` means that the error is below 1e-7. A
    weighted sum of a ReLU layer that lies within eps of 0 makes the difference meaningless: choose inputs without one.

    Parameters
    ----------
    inp, labels : ndarray of shape (B, D), (B,)
        A small batch: the check runs the network twice for each parameter.
    **options
        `l2`, `sample_weight`, `dropout`, `seed` and `epoch`, as `loss_and_gradients` takes them.
    """
    engine = get_backend(backend) if isinstance(backend, str) else backend
    weights = [weight.astype(np.float64) for weight in network.weights]
    biases = [bias.astype(np.float64) for bias in network.biases]

    def exact() -> Network:
        return network.like(weights, biases)

    gradients = engine.loss_and_gradients(exact(), inp, labels, **options)
    errors: list[tuple[float, str]] = []
    scale = 0.0
    for kind, arrays, found in (("weight", weights, gradients.dweights), ("bias", biases, gradients.dbiases)):
        for layer, (array, gradient) in enumerate(zip(arrays, found, strict=True), start=1):
            scale = max(scale, float(np.abs(gradient).max()))
            for index in np.ndindex(array.shape):
                kept = array[index]
                losses = []
                for moved in (kept + EPSILON, kept - EPSILON):
                    array[index] = moved
                    losses.append(engine.loss_and_gradients(exact(), inp, labels, **options).loss)
                array[index] = kept
                difference = abs((losses[0] - losses[1]) / (2 * EPSILON) - gradient[index])
                errors.append((float(difference), f"{kind}{list(map(int, index))} of layer {layer}"))
    worst, place = max(errors)
    largest = worst / scale if scale else worst
    return GradientCheck(largest, place, largest < LIMIT)
