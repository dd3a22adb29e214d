"""A check of gradients by central differences, for any network and either backend."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import Backend, get_backend, reference
from fastnn.backends.base import check_inputs, check_sample_weight, check_targets
from fastnn.network import Network
from fastnn.randomness import dropout_keys

# In float64, the error of a central difference is least near the cube root of the rounding error.
EPSILON = 1e-5
LIMIT = 1e-7
# The model's rounding errors are standard deviations, and the last rounding of the loss alone may reach one of them.
DEVIATIONS = 4
# A step has to be long enough to move a large weight.
LEAST_STEP = 1e-12
# A larger truncation error, as a share of the largest gradient, would excuse real faults.
MOST_TRUNCATION = 1e-4
# A difference that the rounding error does not explain is computed again with steps shorter by these factors.
SHORTER = 8.0 ** np.arange(6)


class GradientCheck(NamedTuple):
    """The result of `check_gradients`.

    `largest_error` is the difference between a gradient and its central difference, and `tolerance` the limit of that
    difference, both divided by the largest gradient. They belong to the parameter at `place`, where the difference is
    largest in comparison to its limit. `kinks` is the number of parameters that were left out because a ReLU has its
    kink within the step.
    """

    largest_error: float
    place: str
    passed: bool
    tolerance: float
    kinks: int


def check_gradients(
    network: Network, inp: np.ndarray, labels: np.ndarray, *, backend: str | Backend = "auto", **options: Any
) -> GradientCheck:
    """Compare backpropagation with ``(loss(w + eps) - loss(w - eps)) / (2 * eps)`` for every weight and bias.

    The check runs in float64, whatever the network's dtype. It passes if every difference is within its tolerance.

    Parameters
    ----------
    inp, labels : ndarray of shape (B, D), (B,)
        A small batch: the check runs the network twice for each parameter.
    backend : {"auto", "numpy", "numba"} or Backend
        The backend whose gradients are checked.
    **options
        `l2`, `sample_weight`, `dropout`, `seed` and `epoch`, as `loss_and_gradients` takes them.

    Returns
    -------
    GradientCheck

    Notes
    -----
    `eps` is 1e-5. The tolerance is the sum of:

    - 1e-7 of the largest gradient.
    - Rounding, ``4 * deviation / eps``, where `deviation` is the rounding error of the loss. With the unit roundoff u,
      a weighted sum of n terms has the error ``sqrt(n) * u * sum(abs(terms))`` (Higham and Mary 2019,
      doi:10.1137/18M1226312); the gradient of the loss with respect to the sum carries it into the loss. An
      activation's error is ``2 * u * abs(out)``. The loss of a row adds ``u * (sqrt(C) + max(abs(logit)))``, their mean
      ``u * (sqrt(B) * loss + penalty)``, and a layer's own L2 penalty of n terms ``sqrt(n) * u * penalty``. The errors
      are independent, so their squares add up. Sums that a parameter does not reach round alike in both passes and do
      not count.
    - Truncation, which falls with ``eps**2``: twice the estimate from the difference with a step of ``eps / 8``, at
      most 1e-4 of the largest gradient or 8 times the rounding. It counts only where the other two do not explain the
      difference. The check then uses the step among `eps`, ``eps / 8``, ..., ``eps / 8**5`` whose rounding and
      truncation have the least sum.

    The difference means nothing where a weighted sum of a ReLU layer changes its sign within the step. Such parameters
    are left out if they exceed the tolerance, and counted in `kinks`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> network = fastnn.Network.initialize((4, 5, 3), activation="tanh", seed=1)
    >>> inp, labels = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])
    >>> check = fastnn.check_gradients(network, inp, labels, backend="numpy", l2=0.1)
    >>> check.passed, check.largest_error < check.tolerance, check.kinks
    (True, True, 0)
    """
    engine = get_backend(backend) if isinstance(backend, str) else backend
    weights = [weight.astype(np.float64) for weight in network.weights]
    biases = [bias.astype(np.float64) for bias in network.biases]

    def exact() -> Network:
        return network.like(weights, biases)

    def loss() -> float:
        return engine.loss_and_gradients(exact(), inp, labels, **options).loss

    gradients = engine.loss_and_gradients(exact(), inp, labels, **options)
    scale = max(float(np.abs(gradient).max()) for gradient in (*gradients.dweights, *gradients.dbiases))
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite tolerance does not pass
        model = _ErrorModel(exact(), inp, labels, **options)
    kinks, largest_ratio, worst = 0, -1.0, (np.inf, "", 0.0)
    for kind, arrays, found in (("weight", weights, gradients.dweights), ("bias", biases, gradients.dbiases)):
        for layer, (array, gradient) in enumerate(zip(arrays, found, strict=True)):
            steps = np.maximum(EPSILON, LEAST_STEP * np.abs(array))
            for index in np.ndindex(array.shape):
                step, deviation = float(steps[index]), float(model.deviations[layer][index[-1]])
                difference, uncertainty = _central_difference(loss, array, index, step), deviation / step
                if not abs(difference - gradient[index]) <= LIMIT * scale + uncertainty:
                    if model.has_kink(exact, array, index, step):
                        kinks += 1
                        continue
                    difference, rounding, truncation = _best_difference(loss, array, index, step, deviation)
                    uncertainty = rounding + min(truncation, max(8 * rounding, MOST_TRUNCATION * scale))
                error, tolerance = float(abs(difference - gradient[index])), LIMIT * scale + uncertainty
                ratio = error / tolerance if np.isfinite([error, tolerance]).all() else np.inf
                if ratio > largest_ratio:
                    largest_ratio = ratio
                    worst = error, f"{kind}{list(map(int, index))} of layer {layer + 1}", tolerance
    error, place, tolerance = worst
    unit = scale or 1.0
    return GradientCheck(error / unit, place, 0 <= largest_ratio <= 1, float(tolerance / unit), kinks)


def _central_difference(loss: Callable[[], float], array: np.ndarray, index: tuple[int, ...], step: float) -> float:
    kept = array[index]
    array[index] = high = kept + step
    loss_above = loss()
    array[index] = low = kept - step
    loss_below = loss()
    array[index] = kept
    return (loss_above - loss_below) / (high - low)  # the step as it was rounded, not as it was meant


def _best_difference(
    loss: Callable[[], float], array: np.ndarray, index: tuple[int, ...], step: float, deviation: float
) -> tuple[float, float, float]:
    """The difference whose estimated error is least among those of several steps, its rounding and its truncation."""
    steps = step / SHORTER
    differences = np.array([_central_difference(loss, array, index, each) for each in steps])
    # The truncation falls by 64 from step to step, so a change is 63 times what the shorter step has.
    changes = np.abs(np.diff(differences)) / 63
    roundings, truncations = deviation / steps, 2 * np.array([64 * changes[0], *changes])
    best = int(np.argmin(roundings + truncations))
    return float(differences[best]), float(roundings[best]), float(truncations[best])


class _ErrorModel:
    """How far a central difference may be from the exact gradient, from one pass of the reference.

    deviations : for each layer (fan_out,), the rounding error of the loss as far as a parameter of that unit changes it
    """

    def __init__(
        self,
        network: Network,
        inp: np.ndarray,
        targets: np.ndarray,
        *,
        l2: float = 0.0,
        sample_weight: np.ndarray | None = None,
        dropout: float = 0.0,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self._inp = inp = check_inputs(network, inp)
        targets = check_targets(network, targets, inp.shape[0])
        sample_weight = check_sample_weight(sample_weight, inp.shape[0], network.dtype)
        keys = dropout_keys(seed, epoch, len(network.weights) - 1)
        self._masks = masks = reference.dropout_masks(network, dropout, keys, np.arange(inp.shape[0]))
        inps, outs = reference.forward(network, inp, masks)
        loss, dout = reference.LOSSES[network.output](outs[-1], targets, sample_weight)
        terms_l2 = [0.5 * l2 * np.sum(weight**2) for weight in network.weights]
        # Squared errors, in units of roundoff; below, `own` is of the layer's units, `later` of all that follows.
        counts = np.ones(inp.shape[0]) if sample_weight is None else sample_weight
        row_errors = counts / (counts.sum() or 1) * (np.sqrt(network.n_outputs) + np.abs(outs[-1]).max(axis=1))
        later = (np.sqrt(inp.shape[0]) * loss + sum(terms_l2)) ** 2 + (row_errors**2).sum()
        last = len(outs) - 1
        self.deviations = [np.zeros(0)] * len(outs)
        for layer in range(last, -1, -1):
            weight, bias = network.weights[layer], network.biases[layer]
            dsum = reference.activate_backward(dout, outs[layer], network.activation if layer < last else "identity")
            sizes = abs(inps[layer]) @ np.abs(weight) + np.abs(bias)
            own = (len(weight) + 1) * ((dsum * sizes) ** 2).sum(axis=0) + ((2 * dout * outs[layer]) ** 2).sum(axis=0)
            penalty = weight.size * terms_l2[layer] ** 2
            self.deviations[layer] = DEVIATIONS * np.finfo(np.float64).eps / 2 * np.sqrt(own + later + penalty)
            later += own.sum()
            if layer:
                dout = dsum @ weight.T
                dout = dout * masks[layer - 1] if masks else dout

    def has_kink(self, network: Callable[[], Network], array: np.ndarray, index: tuple[int, ...], step: float) -> bool:
        """Whether a weighted sum of a ReLU layer changes its sign within the step."""
        kept, patterns = array[index], []
        for moved in (kept - step, kept, kept + step):
            array[index] = moved
            patterns.append(_open_units(network(), self._inp, self._masks))
        array[index] = kept
        return any(
            not np.array_equal(one, other)
            for before, after in ((0, 1), (1, 2))
            for one, other in zip(patterns[before], patterns[after], strict=True)
        )


def _open_units(network: Network, inp: np.ndarray, masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each ReLU layer, where it lets its input through."""
    return [out > 0 for out in reference.forward(network, inp, masks)[1][:-1]] if network.activation == "relu" else []
