"""What went wrong in a run, in plain language: `diagnose` looks for five illnesses that a run's numbers give away.

The thresholds lie outside what healthy runs show, so that whoever is told something has reason to look;
docs/diagnosis.md has the figures by which they were set.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.backends import reference
from fastnn.backends.base import check_inputs
from fastnn.datasets.dataset import Dataset
from fastnn.network import Network
from fastnn.training.history import History
from fastnn.training.train import TrainingResult

# How far the loss jumps up, as a share of what it was after the first epoch.
JUMP = 0.5
# A loss this near to that of guessing is stuck, and one of twice as much was driven there.
STUCK, HOPELESS = 0.99, 2.0
# A layer that lost half of its units does what one of half the width would.
DEAD = 0.5
# A loss that falls by less than 2 % an epoch, and 20 % in all, needs at least five such runs to arrive.
SLOW_PER_EPOCH, SLOW_IN_ALL, SLOW_EPOCHS = 0.02, 0.2, 5
# A slow loss falls in most epochs, or wanders no more than dropout makes it.
STEADY, WANDERING = 0.75, 0.05
# A network that is right this often may be slow because little is left to learn.
GOOD_ACCURACY = 0.9
# The validation loss in each of the last epochs, over the lowest there was.
TURNED, TURNED_EPOCHS = 1.5, 3
# A class that is found half of the time is missed so many times in a row in less than one of a hundred runs.
FEWEST_SAMPLES = 7
_ROWS_AT_ONCE = 1024

# Of each hidden layer: how many units are dead, and how many there are.
_Dead = list[tuple[int, int]]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run: its name, the numbers that show it, and what to try."""

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
    """Look for a learning rate too high or too low, overfitting, dead units, and classes that are never predicted.

    Parameters
    ----------
    history : History or TrainingResult
        Of a result, its network is used too, whether the run diverged, and which epoch's weights were kept.
    network : Network, optional
        The trained network; by default that of the result.
    data : Dataset, optional
        What it was trained on. Dead units are looked for in a network with ReLU, by its outputs for all samples.
    confusion : integer array-like of shape (C, C), optional
        Rows are true classes, columns predicted ones. By it, classes are found that are never predicted.

    Returns
    -------
    list of Finding
        Causes before what may follow from them; empty where nothing was found.

    Raises
    ------
    DataError
        If `data` do not fit the network, or `confusion` is no square matrix of counts.
    """
    counts = None if confusion is None else evaluation.check_confusion(confusion)
    diverged, kept = False, None
    if isinstance(history, TrainingResult):
        network = history.network if network is None else network
        diverged, kept, history = history.stopped == "diverged", history.best_epoch, history.history
    dead = None
    if network is not None and data is not None and network.activation == "relu":
        dead = _count_dead(network, data)
    findings = [
        _too_high(history, diverged, _guessing_loss(network, data, counts), dead)
        or _too_low(history, dead)
        or _overfitting(history[:kept]),
        _dead_units(dead),
    ]
    found = [finding for finding in findings if finding is not None]
    return found + _never_predicted(counts, "Heal what is named above first" if found else None)


# --- The learning rate -----------------------------------------------------------------------------------------------
def _too_high(history: History, diverged: bool, guessing: float | None, dead: _Dead | None) -> Finding | None:
    loss = history.column("loss")
    name = "learning rate too high"
    if diverged or not np.isfinite(loss).all():
        epoch = 1 + int(np.append(np.isfinite(loss), False).argmin())
        evidence = f"the loss was not finite any more in epoch {epoch}"
        return Finding(name, evidence, "Try a third of the learning rate, and inputs scaled to about 0 to 1")
    if len(loss) == 0:
        return None
    rate = history.column("learning_rate").max()
    lower = float(f"{rate / 3:.1g}")
    advice = f"Try a learning rate of {lower:g} (it was up to {rate:.3g}), and inputs scaled to about 0 to 1"
    before, after = _largest_rise(loss)
    if loss[after] - loss[before] > JUMP * loss[0]:
        places = f"{loss[before]:.4g} (epoch {before + 1}) to {loss[after]:.4g} (epoch {after + 1})"
        return Finding(name, f"the training loss rose from {places}", advice)
    if guessing is None:
        return None
    if loss[-1] >= HOPELESS * guessing or (loss[-1] >= STUCK * guessing and _dying(dead)):
        guess = f"no better than that of guessing by how frequent the classes are, {guessing:.4g}"
        return Finding(name, f"the training loss is {loss[-1]:.4g} after {len(loss)} epochs, {guess}", advice)
    return None


def _too_low(history: History, dead: _Dead | None) -> Finding | None:
    if len(history) < SLOW_EPOCHS or history[-1].accuracy >= GOOD_ACCURACY:
        return None
    loss, rate = history.column("loss"), history.column("learning_rate").max()
    before, after = _largest_rise(loss)
    fall = 1 - loss[-1] / loss[0]
    steady = np.mean(np.diff(loss) < 0) >= STEADY
    alive = dead is not None and not _dying(dead)
    slow = fall < min(SLOW_PER_EPOCH * (len(loss) - 1), SLOW_IN_ALL)
    if not slow or loss[after] - loss[before] > WANDERING * loss[0] or not (steady or alive):
        return None
    return Finding(
        "learning rate too low",
        f"in {len(loss)} epochs the training loss went only from {loss[0]:.4g} to {loss[-1]:.4g}",
        f"Try a learning rate of {10 * rate:.3g} (it was up to {rate:.3g}), smaller batches, which make more steps an "
        f"epoch, or more epochs",
    )


def _largest_rise(loss: np.ndarray) -> tuple[int, int]:
    """The two epochs, as indices, between which the loss rose most; the same one twice where it never rose."""
    lowest = np.minimum.accumulate(loss)
    after = int((loss - lowest).argmax())
    return int(loss[: after + 1].argmin()), after


def _guessing_loss(network: Network | None, data: Dataset | None, confusion: np.ndarray | None) -> float | None:
    """The least loss that is possible without looking at the inputs: the entropy of the classes' frequencies."""
    if data is not None and data.labels is not None and len(data):
        counts: np.ndarray = np.bincount(data.labels)
    elif confusion is not None and confusion.any():
        counts = confusion.sum(axis=1)
    elif network is not None:
        counts = np.ones(network.n_classes)
    else:
        return None
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


# --- Overfitting -----------------------------------------------------------------------------------------------------
def _overfitting(history: History) -> Finding | None:
    validation, loss = history.column("validation_loss"), history.column("loss")
    if len(history) <= TURNED_EPOCHS or not np.isfinite(validation).all() or history[-1].validation_accuracy == 1:
        return None
    best = int(validation.argmin())
    if validation[-TURNED_EPOCHS:].min() < TURNED * validation[best] or loss[-1] >= loss[best]:
        return None
    return Finding(
        "overfitting",
        f"the validation loss was lowest in epoch {best + 1} ({validation[best]:.4g}) and is {validation[-1]:.4g} in "
        f"epoch {len(loss)}, while the training loss went on falling from {loss[best]:.4g} to {loss[-1]:.4g}",
        "Try early stopping, which keeps the best epoch's network, dropout, L2, fewer units, or more training data",
    )


# --- Units and classes -----------------------------------------------------------------------------------------------
def _count_dead(network: Network, data: Dataset) -> _Dead:
    """Of each hidden layer, the units that give 0 for every sample, and all units."""
    images = check_inputs(network, data.images)
    silent = [np.ones(size, bool) for size in network.sizes[1:-1]]
    for first in range(0, len(data), _ROWS_AT_ONCE):
        if not any(layer.any() for layer in silent):
            break
        with np.errstate(over="ignore", invalid="ignore"):  # weights of a run that went astray may be huge
            _, outs = reference.forward(network, images[first : first + _ROWS_AT_ONCE])
        for layer, out in zip(silent, outs[:-1], strict=True):
            layer &= ~(out > 0).any(axis=0)
    return [(int(layer.sum()), len(layer)) for layer in silent]


def _dying(dead: _Dead | None) -> bool:
    return any(count >= DEAD * units for count, units in dead or ())


def _dead_units(dead: _Dead | None) -> Finding | None:
    if dead is None or not _dying(dead):
        return None
    layers = [
        f"{count} of {units} units of hidden layer {layer}"
        for layer, (count, units) in enumerate(dead, start=1)
        if count >= DEAD * units
    ]
    return Finding(
        "dead units",
        f"{' and '.join(layers)} give 0 for every training sample, so that no gradient can bring them back",
        "Start again with a lower learning rate, or with tanh, whose units cannot die",
    )


def _never_predicted(confusion: np.ndarray | None, advice: str | None) -> list[Finding]:
    if confusion is None:
        return []
    support = confusion.sum(axis=1)
    missed = np.flatnonzero((confusion.sum(axis=0) == 0) & (support >= FEWEST_SAMPLES))
    if not len(missed):
        return []
    classes = f"class{'es' if len(missed) > 1 else ''} {', '.join(map(str, missed))}"
    evidence = f"no sample was taken for {classes}, though {support[missed].sum():,} of {support.sum():,} show it"
    advice = advice or "See how many training samples the class has; give them more sample_weight, or add some"
    return [Finding("class never predicted", evidence, advice)]
