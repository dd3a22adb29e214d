"""Checks the gradients of any network and any backend against central differences of the loss."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import Backend, get_backend, layerwise, reference
from fastnn.backends.arguments import check_data
from fastnn.backends.base import LossAndGradients
from fastnn.checks import check_integer
from fastnn.evaluation.evaluate import check_fit, data_for
from fastnn.models import as_dataset, as_model
from fastnn.network import ACTIVATIONS, Network
from fastnn.network.layers import Arrays, MaxPool2D
from fastnn.optim.config import LossConfig
from fastnn.randomness import dropout_keys, generator

# The default number of parameters to compare. A network of any size then needs seconds.
N_WEIGHTS = 1000
# The step. In float64, a central difference is most accurate for steps near the cube root of the unit roundoff.
EPSILON = 1e-5
# The difference that is always accepted, as a fraction of the largest gradient.
LIMIT = 1e-7
# The difference between the losses of the backend and of the reference that is always accepted, as a fraction of it:
# kernels may sum in another order and use another exponential function.
LOSS_LIMIT = 1e-9
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
        The name of the worst parameter, such as "weight[0, 2] of layer 1", or "the loss itself" if the backend's loss
        is not that of the reference.
    passed : bool
        Whether every error is within its tolerance.
    tolerance : float
        The largest accepted difference, divided by the largest gradient.
    kinks : int
        The number of parameters that were left out because an activation has its kink within the step.
    checked : int
        The number of parameters that were compared.
    """

    largest_error: float
    place: str
    passed: bool
    tolerance: float
    kinks: int
    checked: int


def check_gradients(
    network: Any,
    inp: Any,
    targets: Any,
    *,
    backend: str | Backend = "auto",
    n_weights: int | None = N_WEIGHTS,
    sample_weight: Any = None,
    epoch: int = 0,
    **settings: Any,
) -> GradientCheck:
    """Compare backpropagation with ``(loss(w + eps) - loss(w - eps)) / (2 * eps)`` for weights and biases.

    The check always runs in float64 and in training mode: `BatchNorm` uses the statistics of the batch. The reference
    computes the losses, which is faster than whole passes of the backend and independent of it. The check passes if
    the backend's own loss equals that of the reference up to rounding, and every difference is within its tolerance.

    Parameters
    ----------
    network : Network, Model, result of `train`, or fitted estimator
        The labels of a model or an estimator are looked up in its classes.
    inp : ndarray of shape (B, D)
        A small batch: the check computes the loss at least twice for each parameter.
    targets : ndarray
        Labels of shape (B,) for a softmax output, else numbers of shape (B, C).
    backend : {"auto", "numpy", "numba"} or Backend
        The backend whose gradients are checked.
    n_weights : int or None
        The largest number of weights and biases to compare. A network with more is checked on a sample, which the seed
        determines: every array gets an equal share, and an array with fewer entries than that is checked completely.
        None: all weights and biases.
    sample_weight, epoch, settings
        As in `Backend.loss_and_gradients`: the settings are `l2`, `divide_l2`, `dropout`, `label_smoothing` and `seed`.

    Returns
    -------
    GradientCheck

    Raises
    ------
    DataError
        If the data do not fit the network.
    SettingsError
        If a setting is out of range or does not fit the network.

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
      times the gradient of the loss with respect to the sum. For `BatchNorm`, n is B**2, because all rows share the
      errors of the mean and the variance.
    - The output of a unit: ``2 * u * abs(out)``, times the gradient of the loss with respect to the output.
    - The loss of one row: ``u * (sqrt(C) + max(abs(logit)))``, times the row's fraction of the mean.
    - The mean over the rows, plus the L2 penalty of all layers: ``u * (sqrt(B) * loss + penalty)``.
    - The L2 penalty of the parameter's layer, a sum of n terms: ``sqrt(n) * u * penalty``.

    Sums that do not depend on the parameter round identically in both passes, so they do not count.

    If a sum of a layer whose activation has a kink, such as ReLU, changes its sign within the step, the difference is
    meaningless. A parameter that exceeds its tolerance for this reason is left out and counted in `kinks`.

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
    if not isinstance(network, Network):
        model = as_model(network)
        network = model.network
        if model.classes is not None and not model.is_multilabel:
            data = data_for(model, as_dataset((inp, targets)))
            inp, targets = check_fit(network, data)
    engine = get_backend(backend) if isinstance(backend, str) else backend
    exact = network.like(*([array.astype(np.float64) for array in each] for each in (network.weights, network.biases)))
    config = LossConfig.from_settings(settings)
    gradients = engine.loss_and_gradients(exact, inp, targets, sample_weight=sample_weight, epoch=epoch, **settings)
    scale = max(float(np.abs(gradient).max()) for gradient in (*gradients.dweights, *gradients.dbiases))
    batch = _Batch(exact, inp, targets, sample_weight, epoch, config)
    parameters, loss = list(batch.parameters(gradients)), batch.loss
    accepted = max(float(deviations.max()) for *_, deviations in parameters)
    if not abs(gradients.loss - loss()) <= LOSS_LIMIT * abs(gradients.loss) + accepted:
        return GradientCheck(np.inf, "the loss itself", False, 0.0, 0, 0)
    chosen = _sample([*exact.weights, *exact.biases], n_weights, config.seed)
    kinks, largest_ratio, worst = 0, -1.0, (np.inf, "", 0.0)
    for indices, (name, array, gradient, deviations) in zip(chosen, parameters, strict=True):
        for index in zip(*np.unravel_index(indices, array.shape), strict=True):
            step, deviation = max(EPSILON, MIN_STEP * abs(float(array[index]))), float(deviations[index[-1]])
            difference, uncertainty = _central_difference(loss, array, index, step), deviation / step
            if not abs(difference - gradient[index]) <= LIMIT * scale + uncertainty:
                if batch.has_kink(array, index, step):
                    kinks += 1
                    continue
                difference, rounding, truncation = _best_difference(loss, array, index, step, deviation)
                uncertainty = rounding + min(truncation, max(8 * rounding, MAX_TRUNCATION * scale))
            error, tolerance = float(abs(difference - gradient[index])), LIMIT * scale + uncertainty
            ratio = error / tolerance if np.isfinite([error, tolerance]).all() else np.inf
            if ratio > largest_ratio:
                largest_ratio, worst = ratio, (error, name.format(list(map(int, index))), tolerance)
    error, place, tolerance = worst
    unit = scale or 1.0
    checked = sum(map(len, chosen)) - kinks
    return GradientCheck(error / unit, place, 0 <= largest_ratio <= 1, float(tolerance / unit), kinks, checked)


def _sample(arrays: list[np.ndarray], n_weights: int | None, seed: int) -> list[np.ndarray]:
    """Return the flat indices of the entries to compare, in ascending order, for each array."""
    sizes = [array.size for array in arrays]
    left = sum(sizes) if n_weights is None else check_integer("n_weights", n_weights, 1)
    counts = [0] * len(sizes)
    # The smallest arrays choose first, so that the larger ones share what is left.
    for position, number in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        counts[number] = min(sizes[number], -(-left // (len(sizes) - position)))
        left -= counts[number]
    rng = generator(seed, "sample")
    return [np.sort(rng.choice(size, count, replace=False)) for size, count in zip(sizes, counts, strict=True)]


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
    """Return the central difference with the smallest estimated error, its rounding error and its truncation error."""
    steps = step / STEP_DIVISORS
    differences = np.array([_central_difference(loss, array, index, each) for each in steps])
    # Each step has 1/64 of the truncation error of the step before. So the change between the two differences is 63
    # times the truncation error of the shorter step.
    changes = np.abs(np.diff(differences)) / 63
    roundings, truncations = deviation / steps, 2 * np.array([64 * changes[0], *changes])
    best = int(np.argmin(roundings + truncations))
    return float(differences[best]), float(roundings[best]), float(truncations[best])


class _Batch:
    """A batch in training, computed by the reference, to find kinks and to estimate the rounding error of the loss."""

    def __init__(
        self, network: Network, inp: Any, targets: Any, sample_weight: Any, epoch: int, config: LossConfig
    ) -> None:
        self._network, self._data = network, check_data(network, inp, targets, sample_weight, config)
        self._config, rows = config, np.arange(len(self._data.targets))
        keys = dropout_keys(config.seed, epoch, len(network.dropped_sizes))
        self._masks = layerwise.dropout_masks(network, config, keys, rows)

    def _forward(self) -> list[layerwise.LayerPass]:
        return layerwise.forward(reference, self._network, self._data.inputs, self._masks, training=True)

    def loss(self) -> float:
        """Return the loss of the batch with the network's current weights."""
        network, data, config = self._network, self._data, self._config
        logits = layerwise.as_rows(self._forward()[-1].out)
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite loss does not pass
            mean, _ = reference.mean_loss(
                network.output, logits, data.targets, data.sample_weight, config.label_smoothing
            )
        l2 = config.l2_of_batch(data.weight)
        return mean + (network.l2_penalty(l2) if l2 else 0.0)

    def parameters(self, gradients: LossAndGradients) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the names of the entries, as a template, the array, its gradient and its units' deviations."""
        numbers = [number for number, (_, arrays) in enumerate(self._network.chain(), 1) if arrays.weight is not None]
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite tolerance does not pass
            deviations = self._deviations()
        for kind, arrays, found in (
            ("weight", self._network.weights, gradients.dweights),
            ("bias", self._network.biases, gradients.dbiases),
        ):
            for number, array, gradient, deviation in zip(numbers, arrays, found, deviations, strict=True):
                yield f"{kind}{{}} of layer {number}", array, gradient, deviation

    def _deviations(self) -> list[np.ndarray]:
        """Return the accepted rounding error of the loss, `DEVIATIONS` standard deviations, for each layer's units."""
        network, data, passes = self._network, self._data, self._forward()
        logits, l2 = layerwise.as_rows(passes[-1].out), self._config.l2_of_batch(data.weight)
        loss, dout = reference.mean_loss(
            network.output, logits, data.targets, data.sample_weight, self._config.label_smoothing
        )
        decayed = zip(network.weights, network.decayed, strict=True)
        penalties = [0.5 * l2 * is_decayed * np.sum(weight**2) for weight, is_decayed in decayed]
        # All errors here are squared and in units of the roundoff. `own` is the error of each unit of a layer, `later`
        # the error of all later computations.
        shares = np.ones(len(logits)) if data.sample_weight is None else data.sample_weight
        row_errors = shares / shares.sum() * (np.sqrt(network.n_outputs) + np.abs(logits).max(axis=1))
        later = (np.sqrt(len(logits)) * loss + sum(penalties)) ** 2 + (row_errors**2).sum()
        deviations: list[np.ndarray] = []
        dout = dout.reshape(passes[-1].out.shape)
        for each in reversed(passes):
            sums, weight = each.forward.sums, each.arrays.weight
            dsums = reference.activate_backward(dout, sums, each.out, each.layer.activation)
            errors = _SUM_ERRORS.get(each.layer.kind, _linear_errors)(each)
            own = (errors * dsums**2 + (2 * dout * each.out) ** 2).sum(axis=_all_but_units(dout))
            if weight is not None:
                penalty = weight.size * penalties.pop() ** 2
                deviations.insert(0, DEVIATIONS * np.finfo(np.float64).eps / 2 * np.sqrt(own + later + penalty))
            later += own.sum()
            dout, _, _ = layerwise.backward(reference, [each], dout, needs_dinp=True)
        return deviations

    def has_kink(self, array: np.ndarray, index: tuple[int, ...], step: float) -> bool:
        """Whether the loss has a kink within the step.

        That is where a sum changes its sign in a layer whose activation has a kink, or another number of a window
        becomes the largest.
        """
        kept, patterns = array[index], []
        for moved in (kept - step, kept, kept + step):
            array[index] = moved
            passes = self._forward()
            signs = [each.forward.sums > 0 for each in passes if ACTIVATIONS[each.layer.activation].has_kink]
            patterns.append([*signs, *(each.forward.saved for each in passes if isinstance(each.layer, MaxPool2D))])
        array[index] = kept
        return any(not (low == mid).all() or not (mid == high).all() for low, mid, high in zip(*patterns, strict=True))


def _linear_errors(each: layerwise.LayerPass) -> np.ndarray:
    """Return the squared rounding error of each sum of products of a layer, (B, H, ...), in units of the roundoff."""
    weight, bias = np.abs(each.arrays.weight), np.abs(each.arrays.bias)
    n_terms = weight.size // bias.size + 1
    return n_terms * each.layer.forward(reference, abs(each.inp), Arrays(weight, bias), training=True).sums ** 2


def _batch_norm_errors(each: layerwise.LayerPass) -> np.ndarray:
    """`_linear_errors` for batch normalisation: the sizes of ``weight * (inp - mean) / deviation + bias``."""
    inp, (_, variance) = np.abs(each.inp), each.forward.saved
    if each.inp.ndim == 2:
        weight, bias = each.arrays.weight, each.arrays.bias
    else:  # a unit is a channel
        weight, bias, variance = (array[:, None, None] for array in (each.arrays.weight, each.arrays.bias, variance))
    means, n_rows = inp.mean(axis=_all_but_units(inp), keepdims=True), inp[:, 0].size
    normal = (inp + means) / np.sqrt(variance + each.layer.epsilon)  # type: ignore[attr-defined]
    return (n_rows * (np.abs(weight) * normal + np.abs(bias))) ** 2


def _mean_errors(each: layerwise.LayerPass) -> np.ndarray:
    """`_linear_errors` for the means of windows."""
    n_terms = math.prod(each.layer.size)  # type: ignore[attr-defined]
    return n_terms * each.layer.forward(reference, abs(each.inp), each.arrays, training=True).sums ** 2


def _all_but_units(batch: np.ndarray) -> tuple[int, ...]:
    """Return the axes of a batch besides that of its units, which are the channels of images."""
    return (0, *range(2, batch.ndim))


# The estimates of layers whose sums are not plain sums of products, by the kind of layer. A maximum is exact.
_SUM_ERRORS: dict[str, Callable[[layerwise.LayerPass], Any]] = {
    "batch_norm": _batch_norm_errors,
    "avg_pool2d": _mean_errors,
    "max_pool2d": lambda each: 0.0,
}
