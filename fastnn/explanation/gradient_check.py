"""Checks the gradients of any network and any backend against central differences of the loss."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import Backend, get_backend, reference
from fastnn.backends.base import check_inputs, check_sample_weight, check_targets
from fastnn.network import Network
from fastnn.randomness import dropout_keys

# The step. In float64, a central difference is most accurate for steps near the cube root of the unit roundoff.
EPSILON = 1e-5
# The difference that is always accepted, as a fraction of the largest gradient.
LIMIT = 1e-7
# The number of standard deviations of the rounding error that is accepted. The final rounding of the loss alone may
# reach one of them.
DEVIATIONS = 4
# The shortest step, as a fraction of the parameter. Rounding would swallow a shorter step of a large weight.
MIN_STEP = 1e-12
# The largest accepted truncation error, as a fraction of the largest gradient. A larger one would hide real faults.
MAX_TRUNCATION = 1e-4
# If rounding does not explain a difference, it is computed again with the step divided by each of these factors.
STEP_DIVISORS = 8.0 ** np.arange(6)


class GradientCheck(NamedTuple):
    """The result of `check_gradients`.

    `largest_error`, `place` and `tolerance` describe the worst parameter: the one whose error is largest relative to
    its tolerance.

    Attributes
    ----------
    largest_error : float
        The difference between the gradient and the central difference, divided by the largest gradient.
    place : str
        The name of the worst parameter, such as "weight[0, 2] of layer 1".
    passed : bool
        Whether every error is within its tolerance.
    tolerance : float
        The largest accepted difference, divided by the largest gradient.
    kinks : int
        The number of parameters that were left out because a ReLU has its kink within the step.
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

    The check always runs in float64. It passes if every difference is within its tolerance.

    Parameters
    ----------
    inp : ndarray of shape (B, D)
        A small batch: the check computes the loss at least twice for each parameter.
    labels : ndarray of shape (B,)
        Labels; or targets of shape (B, C) for outputs that need them.
    backend : {"auto", "numpy", "numba"} or Backend
        The backend whose gradients are checked.
    **options
        `l2`, `sample_weight`, `dropout`, `seed` and `epoch`, which are passed to `loss_and_gradients`.

    Returns
    -------
    GradientCheck

    Notes
    -----
    `eps` is 1e-5, or 1e-12 times the parameter if that is larger. The tolerance is the sum of three terms:

    - A constant: 1e-7 of the largest gradient.
    - The rounding error: ``4 * deviation / eps``, where `deviation` is the standard deviation of the rounding error of
      the loss.
    - The truncation error, which is proportional to ``eps**2``. It counts only if the other two terms do not explain
      the difference. The check then computes the difference for the steps `eps`, ``eps / 8``, ..., ``eps / 8**5``, and
      uses the step whose rounding and truncation errors have the smallest sum. Two successive steps give an estimate
      of the truncation error; the tolerance includes twice this estimate. It is limited to 1e-4 of the largest
      gradient or to 8 times the rounding error, whichever is larger.

    These errors contribute to `deviation`. They are independent, so their squares add up. The unit roundoff is u.

    - A weighted sum of n terms: ``sqrt(n) * u * sum(abs(terms))`` (Higham and Mary 2019, doi:10.1137/18M1226312),
      times the gradient of the loss with respect to the sum.
    - The output of a unit: ``2 * u * abs(out)``, times the gradient of the loss with respect to the output.
    - The loss of one row: ``u * (sqrt(C) + max(abs(logit)))``, times the row's fraction of the mean.
    - The mean over the rows, plus the L2 penalty of all layers: ``u * (sqrt(B) * loss + penalty)``.
    - The L2 penalty of the parameter's layer, a sum of n terms: ``sqrt(n) * u * penalty``.

    Sums that do not depend on the parameter round identically in both passes, so they do not count.

    If a weighted sum of a ReLU layer changes its sign within the step, the difference is meaningless. A parameter that
    exceeds its tolerance for this reason is left out and counted in `kinks`.

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
            steps = np.maximum(EPSILON, MIN_STEP * np.abs(array))
            for index in np.ndindex(array.shape):
                step, deviation = float(steps[index]), float(model.deviations[layer][index[-1]])
                difference, uncertainty = _central_difference(loss, array, index, step), deviation / step
                if not abs(difference - gradient[index]) <= LIMIT * scale + uncertainty:
                    if model.has_kink(exact, array, index, step):
                        kinks += 1
                        continue
                    difference, rounding, truncation = _best_difference(loss, array, index, step, deviation)
                    uncertainty = rounding + min(truncation, max(8 * rounding, MAX_TRUNCATION * scale))
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
    return (loss_above - loss_below) / (high - low)  # the actual step, after rounding


def _best_difference(
    loss: Callable[[], float], array: np.ndarray, index: tuple[int, ...], step: float, deviation: float
) -> tuple[float, float, float]:
    """Return the central difference with the smallest estimated error among several steps, and two parts of its error.

    These are the rounding error and the truncation error.
    """
    steps = step / STEP_DIVISORS
    differences = np.array([_central_difference(loss, array, index, each) for each in steps])
    # Each step has 1/64 of the truncation error of the step before. So the change between the two differences is 63
    # times the truncation error of the shorter step.
    changes = np.abs(np.diff(differences)) / 63
    roundings, truncations = deviation / steps, 2 * np.array([64 * changes[0], *changes])
    best = int(np.argmin(roundings + truncations))
    return float(differences[best]), float(roundings[best]), float(truncations[best])


class _ErrorModel:
    """Estimates the rounding error of the loss with one forward and backward pass of the reference.

    deviations: for each layer, (fan_out,). The accepted rounding error of the loss, `DEVIATIONS` standard deviations.
        For each unit, only sums that depend on its parameters count.
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
        # All errors here are squared and in units of the roundoff. `own` is the error of each unit of a layer, `later`
        # the error of all later computations.
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
    """Return, for each ReLU layer, which outputs are above 0: (B, fan_out) bool."""
    return [out > 0 for out in reference.forward(network, inp, masks)[1][:-1]] if network.activation == "relu" else []
