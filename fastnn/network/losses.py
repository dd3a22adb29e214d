"""The table of losses: one row for each output of a network, with the loss that belongs to it.

Dimensions: B samples, C outputs. `logits` (B, C) are the last layer's weighted sums.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fastnn.network.activations import logistic


class Loss(NamedTuple):
    """One row of the table. Functions take logits (B, C), and targets: labels (B,) or numbers (B, C)."""

    outputs: Callable[[np.ndarray], np.ndarray]  # the network's outputs, (B, C): probabilities or numbers
    # The loss of each row, (B,), and its gradient with respect to the logits, (B, C), of (logits, targets, smoothing).
    row_losses: Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]
    # Which rows are predicted correctly, bool (B,), of (logits, targets); None if outputs have no accuracy.
    is_correct: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    uses_labels: bool  # whether targets are labels
    target_range: tuple[float, float]  # the smallest and the largest target allowed
    are_independent: bool  # whether each output has a probability of its own, a yes-or-no label
    class_counts: Callable[[int], tuple[int, ...]]  # the possible numbers of classes for C outputs, the usual one first
    # The logits whose outputs are the mean of the outputs of several networks, of the logits of each.
    mean_logits: Callable[[Sequence[np.ndarray]], np.ndarray]
    formula: str  # the loss of a row in words

    def n_correct(self, logits: np.ndarray, targets: np.ndarray) -> int:
        """Return the number of rows predicted correctly; 0 if outputs have no accuracy."""
        return 0 if self.is_correct is None else int(self.is_correct(logits, targets).sum())

    def accuracy(self, n_correct: float, n_rows: int) -> float:
        """Return the fraction of correct rows; NaN if outputs have no accuracy."""
        return float("nan") if self.is_correct is None else n_correct / n_rows


def softmax_terms(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``shifted = logits - max(logits)``, ``exp(shifted)`` and the sum of each row of ``exp(shifted)``, (B, 1).

    Subtracting a number from all logits of a row leaves its probabilities unchanged. Subtracting the largest logit
    prevents overflow.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    exp = np.exp(shifted)
    return shifted, exp, exp.sum(axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    """``exp(logits) / sum(exp(logits))`` in each row."""
    _, exp, total = softmax_terms(logits)
    return exp / total


def cross_entropy(logits: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The loss ``-log(probability of the label)`` and its gradient ``probability - one_hot(label)``.

    Label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7) replaces ``one_hot`` by ``(1 - smoothing) *
    one_hot + smoothing / C``, and the loss by the cross-entropy with these targets.
    """
    rows, n_classes = np.arange(len(logits)), logits.shape[1]
    shifted, exp, total = softmax_terms(logits)
    losses = np.log(total[:, 0]) - (1 - smoothing) * shifted[rows, labels]
    dlogits = exp / total
    dlogits[rows, labels] -= 1 - smoothing
    if smoothing:
        losses -= smoothing * shifted.mean(axis=1)
        dlogits -= smoothing / n_classes
    return losses, dlogits


def binary_cross_entropy(logits: np.ndarray, targets: np.ndarray, _: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The sum of ``-y log p - (1 - y) log(1 - p)`` over a row, and its gradient ``p - y``; p is ``logistic(logit)``.

    The code uses an equal form that cannot overflow: ``max(logit, 0) - logit * y + log(1 + exp(-abs(logit)))``.
    """
    losses = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return losses.sum(axis=1), logistic(logits) - targets


def half_squared_error(outs: np.ndarray, targets: np.ndarray, _: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The sum of ``(out - target)**2 / 2`` over a row, and its gradient ``out - target``."""
    errors = outs - targets
    return 0.5 * (errors**2).sum(axis=1), errors


def exponential(logits: np.ndarray) -> np.ndarray:
    """``exp(logits)``; infinity beyond the range of the dtype."""
    with np.errstate(over="ignore"):
        return np.exp(logits)


def poisson_deviance(logits: np.ndarray, targets: np.ndarray, _: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Half the Poisson deviance, summed over a row, and its gradient ``out - y``; out is ``exp(logit)``.

    The deviance of one output is ``2 * (y log(y / out) - y + out)``. The code uses ``y (log(y) - logit) - y + out``,
    in which out cannot underflow to a division by 0, and ``0 log(0) = 0``.
    """
    outs = exponential(logits)
    excess = targets * (np.log(np.where(targets > 0, targets, 1)) - logits)
    return (excess - targets + outs).sum(axis=1), outs - targets


def mean_of_logarithms(logarithms: Sequence[np.ndarray]) -> np.ndarray:
    """``log(mean(exp(each)))``, which neither overflows nor underflows."""
    mean: np.ndarray = np.logaddexp.reduce(logarithms) - np.asarray(logarithms[0]).dtype.type(np.log(len(logarithms)))
    return mean


def mean_softmax(logits: Sequence[np.ndarray]) -> np.ndarray:
    """The logarithms of the mean probabilities, which are logits of them."""
    terms = map(softmax_terms, logits)
    return mean_of_logarithms([shifted - np.log(total) for shifted, _, total in terms])


def mean_logistic(logits: Sequence[np.ndarray]) -> np.ndarray:
    """``log(p / (1 - p))`` of the mean p of the probabilities; ``log p = -log(1 + exp(-logit))`` of each."""
    yes, no = ([-np.logaddexp(0, sign * each) for each in logits] for sign in (-1, 1))
    return mean_of_logarithms(yes) - mean_of_logarithms(no)


LOSSES: dict[str, Loss] = {
    "softmax": Loss(
        outputs=softmax,
        row_losses=cross_entropy,
        is_correct=lambda logits, labels: logits.argmax(axis=1) == labels,
        uses_labels=True,
        target_range=(0, np.inf),
        are_independent=False,
        class_counts=lambda n_outputs: (n_outputs,),
        mean_logits=mean_softmax,
        formula="-log(probability of the label)",
    ),
    "logistic": Loss(
        outputs=logistic,
        row_losses=binary_cross_entropy,
        # A row is correct if each logit is above 0 exactly where its target is above 0.5.
        is_correct=lambda logits, targets: ((logits > 0) == (targets > 0.5)).all(axis=1),
        uses_labels=False,
        target_range=(0, 1),
        are_independent=True,
        class_counts=lambda n_outputs: (2, 1) if n_outputs == 1 else (n_outputs,),
        mean_logits=mean_logistic,
        formula="sum of -target * log(output) - (1 - target) * log(1 - output)",
    ),
    "identity": Loss(
        outputs=lambda logits: logits,
        row_losses=half_squared_error,
        is_correct=None,
        uses_labels=False,
        target_range=(-np.inf, np.inf),
        are_independent=False,
        class_counts=lambda n_outputs: (),
        mean_logits=lambda logits: np.mean(logits, axis=0),
        formula="sum of (output - target)^2 / 2",
    ),
    "exp": Loss(
        outputs=exponential,
        row_losses=poisson_deviance,
        is_correct=None,
        uses_labels=False,
        target_range=(0, np.inf),
        are_independent=False,
        class_counts=lambda n_outputs: (),
        mean_logits=mean_of_logarithms,
        formula="sum of target * log(target / output) - target + output",
    ),
}
"""The loss of every output by the name of the output: dict of str to `Loss`."""
