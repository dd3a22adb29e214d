"""Evaluates a network or a model on labelled data: loss, accuracy, logits, metrics per class or of a regression."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import Backend, reference
from fastnn.backends.arguments import check_finite_inputs, check_targets
from fastnn.backends.choice import CHOOSER, prediction_work
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError
from fastnn.evaluation.metrics import ClassScores, confusion, per_class
from fastnn.interruptible import interruptible
from fastnn.models import Copies, Model, as_dataset, as_model, as_network
from fastnn.models.blocks import some_rows
from fastnn.models.model import class_probabilities, default_classes
from fastnn.models.rows import in_order
from fastnn.network import Network, check_scale
from fastnn.network.standardization import merged_moments, moments
from fastnn.streams import BlockedData

# About how many times a loss or an output function reads or writes a logit.
_N_LOGIT = 8


def evaluate(
    network: Any,
    data: Any,
    *,
    backend: str | Backend = "auto",
    l2: float = 0.0,
    threads: int | None = None,
    copies: Copies | None = None,
) -> tuple[float, float]:
    """Return loss and accuracy of a network on labelled data.

    Parameters
    ----------
    network : Network, Model, result of `train`, or fitted estimator
        D inputs and C outputs. For a model or an estimator, labels are looked up in its classes. For an `Ensemble`,
        loss and accuracy are those of the mean of its outputs.
    data : Dataset, (images, labels), or BlockedData
        N samples with labels of shape (N,), or targets of shape (N, C). Blocks are read one after the other.
    backend : str or Backend
        "auto", "numba" or "numpy", as in `TrainingConfig`, or a backend object.
    l2 : float
        The L2 strength: the loss includes ``l2 / 2`` times the sum of the squared weights; for an `Ensemble`, the mean
        of these sums.
    threads : int, optional
        The number of threads of the Numba backend, as in `train`.
    copies : Copies or None
        Average the outputs over changed copies of each image, as `Model.predict` does.

    Returns
    -------
    loss : float
        The mean loss over the samples, plus the L2 term.
    accuracy : float
        From 0 to 1; NaN for outputs that are numbers. With several logistic outputs, a sample is correct only if all
        its outputs are correct.

    Raises
    ------
    DataError
        If the data have no labels or do not match the network, or a label is none of the model's classes.
    SettingsError
        If `network` or `data` is something else.

    Warns
    -----
    UserWarning
        If the range of the inputs does not fit the network's input scale.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,), seed=0)
    >>> loss, accuracy = fastnn.evaluate(network, data, backend="numpy")
    >>> 0 < accuracy < 0.3  # random weights
    True
    """
    is_model, is_blocked = isinstance(network, Model) or hasattr(network, "to_model"), isinstance(data, BlockedData)
    data = data if is_blocked else as_dataset(data)
    model = as_model(network) if is_model else Model.for_network(as_network(network))
    if not is_model:
        _check_class_count(model.network, data)
    elif not is_blocked:
        data = data_for(model, data)
    if is_blocked:
        loss, accuracy = evaluate_blocks(model, data, backend, threads, is_model, copies)
        images = data.head().images
    else:
        evaluated, images = evaluate_mean(model, data, backend, threads, copies), data.images
        loss, accuracy = evaluated.loss, evaluated.accuracy
    for each in model.networks:
        check_scale(each, images, stacklevel=3)
    penalty = sum(each.l2_penalty(l2) for each in model.networks) / len(model.networks)
    return loss + penalty, accuracy


def _check_class_count(network: Network, data: Dataset | BlockedData) -> None:
    """Raise DataError if data have names for other classes than a network has outputs: their numbers differ."""
    expected = default_classes(network.output, network.n_outputs)
    if expected is None or data.classes is None or data.has_targets or len(data.classes) in (1, len(expected)):
        return
    raise DataError(
        f"{data.name} has {len(data.classes)} classes, the network {len(expected)}, and no names for them: give a Model"
    )


class Evaluation(NamedTuple):
    """The result of `evaluate_logits`."""

    logits: np.ndarray  # (N, C)
    labels: np.ndarray  # labels (N,), or targets (N, C)
    loss: float  # the mean loss, without the L2 term
    accuracy: float  # NaN for outputs that are numbers


def evaluate_logits(network: Network, data: Dataset, backend: str | Backend, threads: int | None = None) -> Evaluation:
    """Return logits, loss and accuracy of a network on labelled data; the errors are those of `check_fit`.

    The backend computes the logits. The reference always computes the loss: compiling a kernel for it takes longer.
    """
    images, labels = check_fit(network, data)
    engine = CHOOSER.predictor(backend, network, images) if isinstance(backend, str) else backend
    return evaluate_checked(network, images, labels, engine, threads)


def evaluate_checked(
    network: Network, images: Any, labels: np.ndarray, engine: Backend, threads: int | None
) -> Evaluation:
    """Do the work of `evaluate_logits` for the result of `check_fit`, which does not change from epoch to epoch."""
    return _scored(network, engine.predict_logits(network.core, images, threads), labels)


def evaluate_mean(
    model: Model,
    data: Dataset,
    backend: str | Backend,
    threads: int | None = None,
    copies: Copies | None = None,
) -> Evaluation:
    """Return what `evaluate_logits` does, of the mean of the outputs over the networks of a model and over copies."""
    first, *others = networks = model.networks
    if not others and copies is None:
        return evaluate_logits(first, data, backend, threads)
    labels, *_ = (check_fit(network, data)[1] for network in networks)
    engines = [
        CHOOSER.predictor(backend, network, data.images) if isinstance(backend, str) else backend
        for network in networks
    ]
    versions = (data.images,) if copies is None else copies.of(data.images, model.row_format, engines[0])
    logits = [
        engine.predict_logits(network, version, threads, check_finite=True)
        for version in versions
        for network, engine in zip(networks, engines, strict=True)
    ]
    work = _N_LOGIT * len(logits) * logits[0].size
    return _scored(first, interruptible(first.loss.mean_logits, logits, work=work), labels)


def _scored(network: Network, logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    """Return the evaluation of logits for the outputs of a network."""
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite or NaN loss is enough to report divergence
        loss, _ = interruptible(reference.mean_loss, network.output, logits, labels, work=_N_LOGIT * logits.size)
        n_correct = interruptible(network.loss.n_correct, logits, labels, work=logits.size)
    return Evaluation(logits, labels, loss, network.loss.accuracy(n_correct, len(logits)))


def evaluate_blocks(
    model: Model,
    data: BlockedData,
    backend: str | Backend,
    threads: int | None,
    looks_up_classes: bool = False,
    copies: Copies | None = None,
) -> tuple[float, float]:
    """Return the mean loss, without the L2 term, and the accuracy, as `evaluate_mean` does, block by block.

    looks_up_classes: whether the model gives the columns and the classes
    """
    loss, n_correct, n_rows = 0.0, 0, 0
    for found in _of_blocks(model, data, backend, threads, looks_up_classes, copies):
        loss, n_rows = loss + found.loss * len(found.labels), n_rows + len(found.labels)
        n_correct += 0 if np.isnan(found.accuracy) else round(found.accuracy * len(found.labels))
    return loss / n_rows, model.networks[0].loss.accuracy(n_correct, n_rows)


def _of_blocks(
    model: Model,
    data: BlockedData,
    backend: str | Backend,
    threads: int | None,
    looks_up_classes: bool,
    copies: Copies | None,
) -> Iterator[Evaluation]:
    """Yield the evaluations of some thousand rows at a time, as `evaluate_mean` returns them."""
    for samples in some_rows(data):
        samples = data_for(model, samples) if looks_up_classes else samples
        if isinstance(backend, str):
            backend = CHOOSER.choose(backend, prediction_work(model.networks[0], samples.images, len(data)))
        yield evaluate_mean(model, samples, backend, threads, copies)


def check_fit(network: Network, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and the labels or targets of the data in the form that backends accept.

    Raises DataError if the data have no labels or no samples, have numbers that are not finite in the dtype of the
    network, or do not match the network.
    """
    if data.labels is None:
        raise DataError(f"{data.name} has no labels")
    if not len(data):
        raise DataError(f"{data.name} has no samples")
    try:
        images = check_finite_inputs(network, data.images)
        return images, check_targets(network, _targets(network, data), len(data))
    except DataError as error:
        raise DataError(f"{data.name}: {error}") from None


def _targets(network: Network, data: Dataset) -> np.ndarray:
    """Return the labels or targets of the data. A network without classes needs numbers, not the numbers of classes."""
    assert data.labels is not None
    if data.classes is None or data.has_targets or network.loss.class_counts(network.n_outputs):
        return data.labels
    values = data.class_labels()
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        raise DataError(f"labels are texts, such as {texts[0]!r}, expected numbers for {network}")
    return np.array(values, np.float64)


def data_for(model: Model, data: Dataset) -> Dataset:
    """Return data with the columns and the class numbers of a model.

    Raises DataError if a column is missing, or a label is none of the model's classes.
    """
    data = with_columns_of(model, data)
    if model.classes is None or data.labels is None or data.has_targets:
        return data
    return data.with_classes(model.classes)


def with_columns_of(model: Model, data: Dataset) -> Dataset:
    """Return data with the columns of a model; DataError if one is missing."""
    images = in_order(model.row_format, data.images, data.feature_names, data.name)
    return data if images is data.images else replace(data, images=images, feature_names=model.feature_names)


class ClassEvaluation(NamedTuple):
    """The result of `evaluate_model` for a model with classes."""

    accuracy: float
    loss: float  # the mean loss, without the L2 term
    confusion: np.ndarray  # (C, C) int64; rows are true classes, columns are predicted classes
    per_class: list[ClassScores]
    proba: np.ndarray  # (N, C); of data in blocks, (0, C)
    labels: np.ndarray  # the number of each sample's class, (N,) int64; of data in blocks, (0,)


class RegressionEvaluation(NamedTuple):
    """The result of `evaluate_model` for a model whose outputs are numbers."""

    r2: float  # the coefficient of determination, the mean over the outputs; NaN for constant targets
    rmse: float  # the root of the mean squared error, over all outputs
    mae: float  # the mean absolute error
    loss: float  # the mean loss, without the L2 term
    predicted: np.ndarray  # (N, C); of data in blocks, (0, C)
    targets: np.ndarray  # (N, C), likewise


def evaluate_model(
    model: Model, data: Dataset | BlockedData, backend: str, copies: Copies | None = None
) -> ClassEvaluation | RegressionEvaluation:
    """Evaluate a model on labelled data, in one forward pass of each of its networks, and for each of the copies.

    Of data in blocks, the results have no outputs and labels of single rows.

    Raises DataError as `data_for` and `check_fit` do, and for a model of several yes-or-no labels.
    """
    if model.is_multilabel:
        n_outputs = model.networks[0].n_outputs
        raise DataError(f"the model has {n_outputs} yes-or-no labels, expected one of C classes")
    if isinstance(data, BlockedData):
        return _evaluate_model_on_blocks(model, data, backend, copies)
    data = data_for(model, data)
    logits, labels, loss, accuracy = evaluate_mean(model, data, backend, copies=copies)
    for network in model.networks:
        check_scale(network, data.images, stacklevel=3)
    outputs = interruptible(model.networks[0].loss.outputs, logits, work=_N_LOGIT * logits.size)
    if model.classes is None:
        return _regression(outputs, labels.astype(np.float64), loss)
    assert data.labels is not None
    proba, counts = _confusion(model, outputs, data.labels)
    return ClassEvaluation(accuracy, loss, counts, per_class(counts), proba, data.labels)


def _evaluate_model_on_blocks(
    model: Model, data: BlockedData, backend: str, copies: Copies | None
) -> ClassEvaluation | RegressionEvaluation:
    images, n_rows, loss = data.head().images, len(data), 0.0
    for network in model.networks:
        check_scale(network, images, stacklevel=4)
    n_classes, n_outputs = len(model.classes or ()), model.networks[0].n_outputs
    counts = np.zeros((n_classes, n_classes), np.int64)
    squared, absolute, parts = np.zeros(n_outputs), 0.0, []
    for found in _of_blocks(model, data, backend, None, True, copies):
        loss += found.loss * len(found.labels) / n_rows
        outputs = model.networks[0].loss.outputs(found.logits)
        if model.classes is not None:
            counts += _confusion(model, outputs, found.labels.reshape(-1).astype(np.int64))[1]
            continue
        errors = outputs - found.labels.astype(np.float64)
        squared, absolute = squared + (errors**2).sum(axis=0), absolute + float(np.abs(errors).sum())
        parts.append(moments(found.labels))
    if model.classes is not None:
        accuracy = float(np.trace(counts) / n_rows)
        return ClassEvaluation(accuracy, loss, counts, per_class(counts), np.zeros((0, n_classes)), np.zeros(0, int))
    spread, n_numbers, nothing = merged_moments(parts)[2] * n_rows, n_rows * n_outputs, np.zeros((0, n_outputs))
    rmse = float(np.sqrt(squared.sum() / n_numbers))
    return RegressionEvaluation(_r2(squared, spread), rmse, absolute / n_numbers, loss, nothing, nothing)


def _confusion(model: Model, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the classes, (N, C), and the confusion matrix."""
    assert model.classes is not None
    proba = class_probabilities(outputs, len(model.classes), is_multilabel=False)
    predicted = interruptible(proba.argmax, axis=1, work=proba.size)
    return proba, confusion(labels, predicted, len(model.classes))


def _regression(predicted: np.ndarray, targets: np.ndarray, loss: float) -> RegressionEvaluation:
    errors = predicted - targets
    r2 = _r2((errors**2).sum(axis=0), ((targets - targets.mean(axis=0)) ** 2).sum(axis=0))
    return RegressionEvaluation(
        r2, float(np.sqrt((errors**2).mean())), float(np.abs(errors).mean()), loss, predicted, targets
    )


def _r2(errors: np.ndarray, spread: np.ndarray) -> float:
    """Return R2, the mean over the outputs, from the sums of squared errors and of squared deviations; (C,) each."""
    with np.errstate(divide="ignore", invalid="ignore"):  # constant targets have no R2
        return float(np.where(spread > 0, 1 - errors / spread, np.nan).mean())
