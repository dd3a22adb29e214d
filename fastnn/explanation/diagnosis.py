"""`diagnose` checks a run for five common faults and explains each one it finds in plain language.

No healthy run reaches a threshold, so every finding deserves attention. docs/diagnosis.md has the measurements behind
the thresholds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.backends import layerwise, reference
from fastnn.backends.base import check_inputs
from fastnn.datasets.dataset import Dataset
from fastnn.network import ACTIVATIONS, Network
from fastnn.training.history import History
from fastnn.training.train import TrainingResult

# The rise of the loss between two epochs, relative to the loss after the first epoch, that counts as a jump.
JUMP = 0.5
# The final loss, relative to that of guessing. From STUCK on, the network has learned nothing; from HOPELESS on,
# training has made it worse.
STUCK, HOPELESS = 0.99, 2.0
# A layer is a finding if at least this fraction of its units is dead: it does no more than a layer of half the width.
DEAD = 0.5
# A loss is slow if it falls by less than SLOW_PER_EPOCH per epoch and by less than SLOW_TOTAL in total: training then
# needs at least five such runs to converge. Runs of fewer than SLOW_EPOCHS epochs are not checked.
SLOW_PER_EPOCH, SLOW_TOTAL, SLOW_EPOCHS = 0.02, 0.2, 5
# The rate is too low if a slow loss falls in at least a fraction STEADY of the epochs, or if the units are known to be
# alive. The loss may rise by at most MAX_SLOW_RISE of its first value, which dropout alone can cause.
STEADY, MAX_SLOW_RISE = 0.75, 0.05
# From this training accuracy on, a slow loss is no fault: perhaps little is left to learn.
GOOD_ACCURACY = 0.9
# The run overfits if the validation loss of each of the last OVERFIT_EPOCHS epochs is at least OVERFIT_RATIO times the
# lowest one.
OVERFIT_RATIO, OVERFIT_EPOCHS = 1.5, 3
# The number of samples from which a class that is never predicted is a finding. With a recall of one half, the network
# would miss them all with a probability of less than 1 %.
MIN_SUPPORT = 7
_CHUNK_ROWS = 1024

# The number of dead units and the number of units, by the number of the layer, for layers whose units can die.
_DeadCounts = dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Finding:
    """One fault of a run.

    Attributes
    ----------
    name : str
        For example "overfitting".
    evidence : str
        The numbers that show it.
    advice : str
        A remedy to try.
    """

    name: str
    evidence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}. {self.advice}."


def diagnose(
    history: History | TrainingResult,
    network: Network | None = None,
    data: Dataset | None = None,
    confusion: ArrayLike | None = None,
) -> list[Finding]:
    """Return the faults of a run: a bad learning rate, overfitting, dead units, classes that are never predicted.

    Parameters
    ----------
    history : History or TrainingResult
        A TrainingResult also provides the network, whether the run diverged, and the epoch whose weights were kept.
    network : Network, optional
        The trained network; by default that of the result.
    data : Dataset, optional
        The training data. With them, layers with ReLU are checked for units that output 0 for every sample.
    confusion : integer array-like of shape (C, C), optional
        Rows are true classes, columns predicted classes. It shows the classes that are never predicted.

    Returns
    -------
    list of Finding
        Causes come before their possible consequences. Empty for a healthy run.

    Raises
    ------
    DataError
        If `data` do not match the network, or `confusion` is not a square matrix of counts.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> result = fastnn.train(network, data, epochs=5, learning_rate=1e-6, backend="numpy")
    >>> [finding.name for finding in fastnn.diagnose(result, data=data)]
    ['learning rate too low']
    """
    counts = None if confusion is None else evaluation.check_confusion(confusion)
    diverged, kept = False, None
    if isinstance(history, TrainingResult):
        network = history.network if network is None else network
        diverged, kept, history = history.stopped == "diverged", history.best_epoch, history.history
    dead = {} if network is None or data is None else _count_dead(network, data)
    findings = [
        _too_high(history, diverged, _guessing_loss(network, data, counts), dead)
        or _too_low(history, dead)
        or _overfitting(history[:kept]),
        _dead_units(dead),
    ]
    advice = "Check the number of training samples of the class; raise their sample_weight or add samples"
    findings.append(_never_predicted(counts, "Fix the findings above first" if any(findings) else advice))
    return [finding for finding in findings if finding is not None]


# --- The learning rate -----------------------------------------------------------------------------------------------
def _too_high(history: History, diverged: bool, guessing: float | None, dead: _DeadCounts) -> Finding | None:
    loss = history.column("loss")
    name = "learning rate too high"
    if diverged or not np.isfinite(loss).all():
        epoch = 1 + int(np.append(np.isfinite(loss), False).argmin())
        evidence = f"the training loss is not finite in epoch {epoch}"
        return Finding(name, evidence, "Divide the learning rate by 3, and scale the inputs to about 0 to 1")
    if not len(loss):
        return None
    rate = history.column("learning_rate").max()
    lower = float(f"{rate / 3:.1g}")
    advice = f"Try a learning rate of {lower:g} (the highest was {rate:.3g}), and scale the inputs to about 0 to 1"
    before, after = _largest_rise(loss)
    if loss[after] - loss[before] > JUMP * loss[0]:
        rise = f"from {loss[before]:.4g} (epoch {before + 1}) to {loss[after]:.4g} (epoch {after + 1})"
        return Finding(name, f"the training loss rose {rise}", advice)
    if guessing is None:
        return None
    if loss[-1] >= HOPELESS * guessing or (loss[-1] >= STUCK * guessing and _dying(dead)):
        guess = f"no better than guessing the class frequencies ({guessing:.4g})"
        return Finding(name, f"the training loss is {loss[-1]:.4g} after {len(loss)} epochs, {guess}", advice)
    return None


def _too_low(history: History, dead: _DeadCounts) -> Finding | None:
    if len(history) < SLOW_EPOCHS or history[-1].accuracy >= GOOD_ACCURACY:
        return None
    loss, rate = history.column("loss"), history.column("learning_rate").max()
    before, after = _largest_rise(loss)
    fall = 1 - loss[-1] / loss[0]
    steady = np.mean(np.diff(loss) < 0) >= STEADY
    alive = bool(dead) and not _dying(dead)
    slow = fall < min(SLOW_PER_EPOCH * (len(loss) - 1), SLOW_TOTAL)
    if not slow or loss[after] - loss[before] > MAX_SLOW_RISE * loss[0] or not (steady or alive):
        return None
    return Finding(
        "learning rate too low",
        f"in {len(loss)} epochs the training loss changed only from {loss[0]:.4g} to {loss[-1]:.4g}",
        f"Try a learning rate of {10 * rate:.3g} (the highest was {rate:.3g}), smaller batches, which take more "
        f"steps per epoch, or more epochs",
    )


def _largest_rise(loss: np.ndarray) -> tuple[int, int]:
    """Return the indices of the two epochs with the largest rise of the loss between them; equal if it never rose."""
    after = int((loss - np.minimum.accumulate(loss)).argmax())
    return int(loss[: after + 1].argmin()), after


def _guessing_loss(network: Network | None, data: Dataset | None, confusion: np.ndarray | None) -> float | None:
    """Return the lowest loss that is possible without the inputs: the entropy of the class frequencies."""
    if data is not None and data.labels is not None and len(data):
        counts: np.ndarray = np.bincount(data.labels)
    elif confusion is not None and confusion.any():
        counts = confusion.sum(axis=1)
    elif network is not None:
        counts = np.ones(network.n_classes)
    else:
        return None
    frequencies = counts[counts > 0] / counts.sum()
    return float(-(frequencies * np.log(frequencies)).sum())


# --- Overfitting -----------------------------------------------------------------------------------------------------
def _overfitting(history: History) -> Finding | None:
    validation, loss = history.column("validation_loss"), history.column("loss")
    if len(history) <= OVERFIT_EPOCHS or not np.isfinite(validation).all() or history[-1].validation_accuracy == 1:
        return None
    best = int(validation.argmin())
    if validation[-OVERFIT_EPOCHS:].min() < OVERFIT_RATIO * validation[best] or loss[-1] >= loss[best]:
        return None
    return Finding(
        "overfitting",
        f"the validation loss was lowest in epoch {best + 1} ({validation[best]:.4g}) and is {validation[-1]:.4g} in "
        f"epoch {len(loss)}, while the training loss kept falling from {loss[best]:.4g} to {loss[-1]:.4g}",
        "Try early stopping (it keeps the best epoch's network), dropout, L2, fewer units, or more training data",
    )


# --- Units and classes -----------------------------------------------------------------------------------------------
def _count_dead(network: Network, data: Dataset) -> _DeadCounts:
    """Count the units that output 0 for every sample, in each hidden layer whose activation allows it."""
    images = check_inputs(network, data.images)
    dead = {
        number: np.ones(size, bool)
        for number, (layer, size) in enumerate(zip(network.layers, network.sizes[1:], strict=True), start=1)
        if ACTIVATIONS[str(layer.activation)].can_die
    }
    for first in range(0, len(data), _CHUNK_ROWS):
        if not any(units.any() for units in dead.values()):
            break
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging run may leave huge weights
            passes = layerwise.forward(reference, network, images[first : first + _CHUNK_ROWS])
        for number, units in dead.items():
            units &= ~(passes[number - 1].out > 0).any(axis=0)
    return {number: (int(units.sum()), len(units)) for number, units in dead.items()}


def _dying(dead: _DeadCounts) -> bool:
    return any(count >= DEAD * units for count, units in dead.values())


def _dead_units(dead: _DeadCounts) -> Finding | None:
    layers = [
        f"{count} of {units} units of hidden layer {number}"
        for number, (count, units) in dead.items()
        if count >= DEAD * units
    ]
    if not layers:
        return None
    return Finding(
        "dead units",
        f"{' and '.join(layers)} output 0 for every training sample, so no gradient can revive them",
        "Train a new network with a lower learning rate, or with tanh, whose units cannot die",
    )


def _never_predicted(confusion: np.ndarray | None, advice: str) -> Finding | None:
    if confusion is None:
        return None
    support = confusion.sum(axis=1)
    missed = np.flatnonzero((confusion.sum(axis=0) == 0) & (support >= MIN_SUPPORT))
    if not len(missed):
        return None
    classes, them = ("classes", "them") if len(missed) > 1 else ("class", "it")
    belong = f"{support[missed].sum():,} of {support.sum():,} samples belong to {them}"
    evidence = f"no sample was predicted as {classes} {', '.join(map(str, missed))}, although {belong}"
    return Finding("class never predicted", evidence, advice)
