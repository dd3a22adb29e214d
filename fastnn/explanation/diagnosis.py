"""`diagnose` checks a run for common faults and explains each one it finds in plain language.

No healthy run reaches a threshold, so every finding deserves attention. docs/diagnosis.md has the measurements behind
the thresholds. Each rule is a function of `RunFacts` that returns a `Finding` or None.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn import evaluation
from fastnn.datasets.convert import describe
from fastnn.datasets.dataset import Dataset
from fastnn.errors import SettingsError
from fastnn.explanation.run_facts import DEAD, RunFacts
from fastnn.models import as_dataset, as_network
from fastnn.network import Network
from fastnn.optim.optimizers import DEEP, LBFGS
from fastnn.training.history import History
from fastnn.training.train import TrainingResult

# Inputs are too small if none reaches SMALL after scaling. They are too large if the root mean square of a column
# exceeds LARGE. One scale suits all columns if the largest size is at most COMPARABLE times the median.
SMALL, LARGE, COMPARABLE = 0.1, 20.0, 30.0
# The rise of the loss between two epochs, relative to the loss after the first epoch, that counts as a jump.
JUMP = 0.5
# The final loss, relative to that of guessing. From STUCK on, the network has learned nothing; from HOPELESS on,
# training has made it worse.
STUCK, HOPELESS = 0.99, 2.0
# A rate this many times the optimizer's usual one, or more, is the cause of a loss that does not fall; a rate of this
# fraction of it, or less, is too low.
FAR_ABOVE, FAR_BELOW = 5.0, 0.2
# A loss is slow if it falls by less than SLOW_PER_EPOCH per epoch and by less than SLOW_TOTAL in total: training then
# needs at least five such runs to converge. Runs of fewer than SLOW_EPOCHS epochs are not checked.
SLOW_PER_EPOCH, SLOW_TOTAL, SLOW_EPOCHS = 0.02, 0.2, 5
# The rate is too low if a slow loss falls in at least a fraction STEADY of the epochs, or if the units are known to be
# alive. The loss may rise by at most MAX_SLOW_RISE of its first value, which dropout alone can cause.
STEADY, MAX_SLOW_RISE = 0.75, 0.05
# A run that is not good is unfinished if its loss still falls by at least this fraction per epoch at the full learning
# rate, and it needs at least UNFINISHED_EPOCHS epochs to tell. The advice is MORE times the epochs.
STILL_FALLING, UNFINISHED_EPOCHS, MORE = 0.02, 3, 4
# The run overfits if the validation loss of each of the last OVERFIT_EPOCHS epochs is at least OVERFIT_RATIO times the
# lowest one.
OVERFIT_RATIO, OVERFIT_EPOCHS = 1.5, 3
# The number of samples from which a class that is never predicted is a finding. With a recall of one half, the network
# would miss them all with a probability of less than 1 %.
MIN_SUPPORT = 7
# A class is rare if it has at most this fraction of the average number of training samples of a class.
RARE = 0.25
# Layers of these activations pass on a quarter of a gradient or less, so that few of them make a network deep.
_SATURATED, _DEEP_SATURATED = ("logistic",), 3

# The typical sizes of targets, as the root of their mean square, that a regression learns at usual rates.
SMALL_TARGET, LARGE_TARGET = 0.01, 30.0


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
    settings : dict
        The remedy as values that JSON can store; empty if it is none that a program can follow. Most keys are settings
        of `TrainingConfig`. The others are "hidden" and "activation", as in `Network.for_data`; "pixel_max", as in
        `Dataset`; "standardize" (subtract the mean of each input column, and divide by its standard deviation); and
        "sample_weight", which is "balanced": the same total weight for each class.
    """

    name: str
    evidence: str
    advice: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}. {self.advice}."


def diagnose(
    history: History | TrainingResult,
    network: Network | None = None,
    data: Dataset | None = None,
    confusion: ArrayLike | None = None,
    *,
    for_command: bool = False,
) -> list[Finding]:
    """Return the faults of a run: badly scaled inputs, a bad learning rate, too few epochs, overfitting, dead units.

    Parameters
    ----------
    history : History or TrainingResult
        A TrainingResult also provides the network, the settings, whether the run diverged, and the epoch whose weights
        were kept. The rules then know the usual learning rates of the optimizer.
    network : Network, optional
        The trained network; by default that of the result.
    data : Dataset, optional
        The training data. With them, the scale of the inputs, the frequencies of the classes, and units of ReLU that
        output 0 for every sample are checked.
    confusion : integer array-like of shape (C, C), optional
        Rows are true classes, columns predicted classes. It shows classes that are never, or hardly, predicted.
    for_command : bool
        Whether to suggest the options of ``fastnn train`` instead of Python's arguments.

    Returns
    -------
    list of Finding
        Causes come before their possible consequences. Empty for a healthy run.

    Raises
    ------
    DataError
        If `data` do not match the network, or `confusion` is not a square matrix of counts.
    SettingsError
        If `history` is something else, such as an estimator.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> result = fastnn.train(network, data, epochs=5, learning_rate=1e-6, backend="numpy")
    >>> [finding.name for finding in fastnn.diagnose(result, data=data)]
    ['learning rate too low']
    >>> fastnn.diagnose(result, data=data)[0].settings
    {'learning_rate': 0.1}
    """
    counts = None if confusion is None else evaluation.check_confusion(confusion)
    result = history if isinstance(history, TrainingResult) else None
    if result is not None:
        history, network = result.history, result.network if network is None else network
    if not isinstance(history, History):
        raise SettingsError(f"history is {describe(history)}, expected a History or the result of train")
    network = None if network is None else as_network(network)
    data = None if data is None else as_dataset(data)
    run = RunFacts(history, result, network, data, counts, for_command)
    rules = (_inputs, _targets, _too_high, _too_deep, _too_low, _unfinished, _overfitting)
    cause = next((finding for finding in (rule(run) for rule in rules) if finding is not None), None)
    findings = [cause, _dead_units(run, cause), _missed_classes(run, cause)]
    return [finding for finding in findings if finding is not None]


# --- The inputs ------------------------------------------------------------------------------------------------------
def _inputs(run: RunFacts) -> Finding | None:
    sizes = run.input_sizes
    if sizes is None or not sizes.any() or run.is_good or not (len(run.history) or run.diverged):
        return None
    assert run.network is not None
    largest = run.largest_input * run.network.input_scale
    nonzero = sizes[sizes > 0]
    fits = float(nonzero.max()) <= COMPARABLE * float(np.median(nonzero))
    change = {"pixel_max": run.largest_input} if fits else {"standardize": True}
    remedy = (
        f"divide them by {run.largest_input:.6g}" if fits else "subtract each column's mean, divide by its deviation"
    )
    where = "in the files" if run.for_command else "before training, or by the data's pixel_max" if fits else "first"
    advice = f"Scale the inputs to about 0 to 1 {where}: {remedy}. Leave the learning rate as it is"
    if largest < SMALL:
        evidence = f"the largest input is {run.largest_input:.4g}, and {largest:.2g} after the network's scaling"
        return Finding("inputs too small", evidence, advice, change)
    if not sizes.max() <= LARGE:
        column = int(np.nan_to_num(sizes, nan=np.inf).argmax())
        evidence = f"the typical size of input {column} is {sizes[column]:.3g} after the network's scaling"
        return Finding("inputs too large", evidence, advice, change)
    return None


def _targets(run: RunFacts) -> Finding | None:
    data = run.data
    if run.network is None or run.network.output != "identity" or data is None or data.labels is None or not len(data):
        return None
    if data.labels.ndim != 2:
        return None
    size = float(np.sqrt((data.labels.astype(np.float64) ** 2).mean()))
    if SMALL_TARGET <= size <= LARGE_TARGET or size == 0:
        return None
    return Finding(
        "targets not scaled",
        f"the typical size of a target is {size:.3g}, where the network begins near 0 with outputs around 1",
        "Standardise the targets: train on fastnn.TargetScale.fit(labels).standardised(labels), and let its taken_up "
        "turn the network back. Leave the learning rate as it is",
    )


# --- The learning rate -----------------------------------------------------------------------------------------------
def _too_high(run: RunFacts) -> Finding | None:
    evidence = _high_evidence(run)
    if evidence is None:
        return None
    scale = "scale the inputs to about 0 to 1"
    if run.rate is None:
        divide = f"Divide the learning rate by 3, and {scale}"
        return Finding("learning rate too high", evidence, divide if run.config is None else scale.capitalize())
    usual = run.usual_rate
    lower = float(f"{run.rate / 3:.1g}") if usual is None else min(float(f"{run.rate / 3:.1g}"), usual)
    known = "" if usual is None else f"; {usual:.2g} is usual for {run.optimizer} here"
    # Only data that are not known may be badly scaled.
    unknown = f", and {scale}" if run.input_sizes is None else ""
    advice = f"Try a learning rate of {lower:g} (the highest was {run.rate:.3g}{known}){unknown}"
    return Finding("learning rate too high", evidence, advice, {"learning_rate": lower})


def _high_evidence(run: RunFacts) -> str | None:
    loss, guessing = run.loss, run.guessing_loss
    if run.diverged:
        epoch = 1 + int(np.append(np.isfinite(loss), False).argmin())
        return f"the training loss is not finite in epoch {epoch}"
    if not len(loss):
        return None
    before, after = _largest_rise(loss)
    if loss[after] - loss[before] > JUMP * loss[0]:
        rise = f"from {loss[before]:.4g} (epoch {before + 1}) to {loss[after]:.4g} (epoch {after + 1})"
        return f"the training loss rose {rise}"
    ends = f"the training loss is {loss[-1]:.4g} after {len(loss)} epochs"
    if guessing is not None and (
        loss[-1] >= HOPELESS * guessing or (loss[-1] >= STUCK * guessing and run.is_dying and run.ratio > FAR_BELOW)
    ):
        return f"{ends}, no better than guessing the class frequencies ({guessing:.4g})"
    far = run.ratio >= FAR_ABOVE and not run.is_searched and not run.is_good
    if far and (run.is_dying or (len(loss) >= SLOW_EPOCHS and _is_slow(loss))):
        why = "half of a layer or more is dead" if run.is_dying else f"it was {loss[0]:.4g} after the first"
        return f"{ends}, {why}, and the rate is {run.ratio:.3g} times the usual one"
    return None


def _too_low(run: RunFacts) -> Finding | None:
    loss = run.loss
    if len(loss) < SLOW_EPOCHS or run.is_good or run.rate is None or not _is_slow(loss):
        return None
    before, after = _largest_rise(loss)
    steady = np.mean(np.diff(loss) < 0) >= STEADY
    alive = bool(run.dead) and not run.is_dying
    if loss[after] - loss[before] > MAX_SLOW_RISE * loss[0] or not (steady or alive):
        return None
    evidence = f"in {len(loss)} epochs the training loss changed only from {loss[0]:.4g} to {loss[-1]:.4g}"
    if run.is_searched:
        advice = "Check that the labels belong to the inputs; a search found no learning rate that trains faster"
        return Finding("nothing learned", evidence, advice)
    rate, usual = run.rate, run.usual_rate
    highest = f"(the highest was {rate:.3g}"
    if usual is not None and run.ratio <= FAR_BELOW:
        advice = f"Try a learning rate of {usual:g} {highest}; {usual:g} is usual for {run.optimizer} here)"
        return Finding("learning rate too low", evidence, advice, {"learning_rate": usual})
    if usual is not None:
        advice = f"Try {_auto(run)}, which searches for a learning rate {highest})"
        return Finding("learning rate too low", evidence, advice, {"learning_rate": "auto"})
    advice = (
        f"Try a learning rate of {10 * rate:.3g} {highest}), smaller batches, which take more steps per epoch, or more "
        "epochs"
    )
    return Finding("learning rate too low", evidence, advice, {"learning_rate": float(f"{10 * rate:.3g}")})


def _auto(run: RunFacts) -> str:
    return "--learning-rate auto" if run.for_command else 'learning_rate="auto"'


def _is_slow(loss: np.ndarray) -> bool:
    fall = 1 - loss[-1] / loss[0]
    return bool(fall < min(SLOW_PER_EPOCH * (len(loss) - 1), SLOW_TOTAL))


def _largest_rise(loss: np.ndarray) -> tuple[int, int]:
    """Return the indices of the two epochs with the largest rise of the loss between them; equal if it never rose."""
    after = int((loss - np.minimum.accumulate(loss)).argmax())
    return int(loss[: after + 1].argmin()), after


# --- Depth and epochs ------------------------------------------------------------------------------------------------
def _too_deep(run: RunFacts) -> Finding | None:
    loss = run.loss
    if run.network is None or len(loss) < SLOW_EPOCHS or run.is_good or run.ratio <= FAR_BELOW:
        return None
    layers = list(zip(run.network.layers[:-1], run.network.sizes[1:-1], strict=True))
    units = [size for layer, size in layers if layer.drops_inputs]
    saturated = sum(layer.activation in _SATURATED for layer, _ in layers)
    very_deep = run.n_hidden > 2 * DEEP
    deep = run.n_hidden > DEEP or saturated >= _DEEP_SATURATED
    if not (very_deep or (deep and (_is_slow(loss) or run.is_dying))):
        return None
    has_images = len(run.network.shapes[0]) > 1
    option = f"--hidden {' '.join(map(str, units[:2]))}" if run.for_command else f"hidden={tuple(units[:2])}"
    such_as = "" if has_images else f", such as {option}"
    batch_norm = "" if run.for_command else ", or BatchNorm between the layers"
    return Finding(
        "network too deep",
        f"in {len(loss)} epochs the training loss fell only from {loss[0]:.4g} to {loss[-1]:.4g}, and the gradient "
        f"passes {run.n_hidden} hidden layers",
        f"Try fewer hidden layers{such_as}{batch_norm}",
        {} if has_images else {"hidden": units[:2]},
    )


def _unfinished(run: RunFacts) -> Finding | None:
    loss, history = run.loss, run.history
    if len(loss) < UNFINISHED_EPOCHS or run.is_good or not run.ran_all_epochs or loss[-1] <= 0:
        return None
    validation = history.column("validation_loss")
    if np.isfinite(validation).all() and validation[-1] > (1 + MAX_SLOW_RISE) * validation.min():
        return None
    # A schedule that ends at 0 lets the loss stand still. So the fall is compared with the rates of these epochs.
    n_last = max(2, len(loss) // 3)
    rates = np.nan_to_num(history.column("learning_rate") / (run.rate or 1.0), nan=1.0)
    fall = np.log(loss[-n_last - 1] / loss[-1]) / max(float(rates[-n_last:].sum()), 1e-9)
    if fall < STILL_FALLING:
        return None
    epochs = MORE * len(loss)
    option = f"--epochs {epochs}" if run.for_command else f"epochs={epochs}"
    return Finding(
        "unfinished",
        f"in the last {n_last} of {len(loss)} epochs the training loss still fell from {loss[-n_last - 1]:.4g} to "
        f"{loss[-1]:.4g}",
        f"Train for more epochs: try {option}",
        {"epochs": epochs},
    )


# --- Overfitting -----------------------------------------------------------------------------------------------------
def _overfitting(run: RunFacts) -> Finding | None:
    history = run.kept
    validation, loss = history.column("validation_loss"), history.column("loss")
    if len(history) <= OVERFIT_EPOCHS or not np.isfinite(validation).all() or history[-1].validation_accuracy == 1:
        return None
    best = int(validation.argmin())
    if validation[-OVERFIT_EPOCHS:].min() < OVERFIT_RATIO * validation[best] or loss[-1] >= loss[best]:
        return None
    patience = max(OVERFIT_EPOCHS, len(history) // 10)
    dropout = "" if run.config is not None and isinstance(run.config.update_rule, LBFGS) else "dropout, "
    option = f"--patience {patience}" if run.for_command else f"early_stopping={patience}"
    return Finding(
        "overfitting",
        f"the validation loss was lowest in epoch {best + 1} ({validation[best]:.4g}) and is {validation[-1]:.4g} in "
        f"epoch {len(loss)}, while the training loss kept falling from {loss[best]:.4g} to {loss[-1]:.4g}",
        f"Try early stopping, {option} (it keeps the best epoch's network), {dropout}L2, fewer units, or more training "
        "data",
        {"early_stopping": patience},
    )


# --- Units and classes -----------------------------------------------------------------------------------------------
_FIX_FIRST = "Fix the findings above first"


def _dead_units(run: RunFacts, cause: Finding | None) -> Finding | None:
    if run.network is None or not run.is_dying:
        return None
    network = run.network
    names = [layer.unit_name(shape) for layer, shape in zip(network.layers, network.shapes[1:], strict=True)]
    layers = [
        f"{count} of {units} {names[number - 1]}s of hidden layer {number}"
        for number, (count, units) in run.dead.items()
        if count >= DEAD * units
    ]
    evidence = f"{' and '.join(layers)} output 0 for every training sample, so no gradient can revive them"
    if cause is not None:
        return Finding("dead units", evidence, f"{_FIX_FIRST}, and train a new network")
    option = "--activation leaky_relu" if run.for_command else 'activation="leaky_relu"'
    settings = {"activation": "leaky_relu"}
    if len(network.shapes[0]) > 1:  # each of its layers names its own activation
        option, settings = "leaky_relu as the activation of its layers", {}
    advice = f"Train a new network with {option}, whose units cannot die, or with a lower learning rate"
    return Finding("dead units", evidence, advice, settings)


def _missed_classes(run: RunFacts, cause: Finding | None) -> Finding | None:
    confusion = run.confusion
    if confusion is None:
        return None
    support, counts = confusion.sum(axis=1), run.class_counts
    if counts is not None and len(counts) != len(confusion):
        counts = None
    never = (confusion.sum(axis=0) == 0) & (support >= MIN_SUPPORT)
    if counts is not None:
        recall, accuracy = np.diag(confusion) / np.maximum(1, support), np.trace(confusion) / max(1, confusion.sum())
        rare = (counts > 0) & (counts <= RARE * counts.sum() / len(counts)) & (support >= MIN_SUPPORT)
        missed = np.flatnonzero(rare & (recall < accuracy / 2))
        if len(missed) and not (never & ~rare).any():
            return _imbalance(run, missed, counts, cause)
    if not never.any():
        return None
    missed = np.flatnonzero(never)
    classes, them = ("classes", "them") if len(missed) > 1 else ("class", "it")
    belong = f"{support[missed].sum():,} of {support.sum():,} samples belong to {them}"
    evidence = f"no sample was predicted as {classes} {', '.join(map(str, missed))}, although {belong}"
    advice, settings = (_FIX_FIRST, {}) if cause is not None else _for_missed(run, missed, counts)
    return Finding("class never predicted", evidence, advice, settings)


def _for_missed(run: RunFacts, missed: np.ndarray, counts: np.ndarray | None) -> tuple[str, dict[str, Any]]:
    """Return the advice, and the settings of it, for classes that are never predicted without a known cause."""
    if counts is None or not counts[missed].all():
        without = "Add samples: the class has no training samples" if counts is not None else ""
        more = "add samples" if run.for_command else "raise their sample_weight or add samples"
        return without or f"Check the number of training samples of the class; {more}", {}
    enough = f"there are {counts[missed].min():,} training samples or more of it, so their number is not the cause"
    if run.is_good:
        return f"Check the labels of the class: {enough}", {}
    if run.is_searched or run.rate is None:
        return f"Try more units or other inputs: {enough}", {}
    return f"Try {_auto(run)}, which searches for a learning rate, or more units: {enough}", {"learning_rate": "auto"}


def _imbalance(run: RunFacts, rare: np.ndarray, counts: np.ndarray, cause: Finding | None) -> Finding:
    assert run.confusion is not None
    found = ", ".join(
        f"class {label} has {counts[label]:,} of {counts.sum():,} training samples, and "
        f"{run.confusion[label, label]:,} of its {run.confusion[label].sum():,} samples are predicted correctly"
        for label in rare
    )
    if cause is not None:
        return Finding("class imbalance", found, _FIX_FIRST)
    if run.for_command:
        return Finding("class imbalance", found, "Weigh the class more, --class-weight balanced, or add samples of it")
    advice = "Give each class the same total sample_weight, as fastnn.class_weights does, or add samples of the class"
    return Finding("class imbalance", found, advice, {"sample_weight": "balanced"})
