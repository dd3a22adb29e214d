"""Evaluates a network on labelled data: loss, accuracy, logits, and metrics per class."""

from typing import NamedTuple

import numpy as np

from fastnn.backends import Backend, get_backend, reference
from fastnn.backends.base import check_inputs, check_targets
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.evaluation.metrics import ClassScores, confusion, per_class
from fastnn.network import Network


def evaluate(
    network: Network, data: Dataset, *, backend: str | Backend = "auto", l2: float = 0.0, threads: int | None = None
) -> tuple[float, float]:
    """Return loss and accuracy of a network on labelled data.

    Parameters
    ----------
    network : Network
        D inputs and C outputs.
    data : Dataset
        N samples with labels of shape (N,), or targets of shape (N, C).
    backend : str or Backend
        "auto", "numba" or "numpy", as in `get_backend`, or a backend object.
    l2 : float
        The L2 strength: the loss includes ``l2 / 2`` times the sum of the squared weights.
    threads : int, optional
        The number of threads of the Numba backend, as in `train`.

    Returns
    -------
    loss : float
        The mean loss over the samples, plus the L2 term.
    accuracy : float
        From 0 to 1; NaN for "identity" outputs. With several logistic outputs, a sample is correct only if all its
        outputs are correct.

    Raises
    ------
    DataError
        If the data have no labels or do not match the network.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,), seed=0)
    >>> loss, accuracy = fastnn.evaluate(network, data, backend="numpy")
    >>> 0 < accuracy < 0.3  # random weights
    True
    """
    evaluated = evaluate_logits(network, data, backend, threads)
    return evaluated.loss + network.l2_penalty(l2), evaluated.accuracy


class Evaluation(NamedTuple):
    """The result of `evaluate_logits`."""

    logits: np.ndarray  # (N, C)
    labels: np.ndarray  # labels (N,), or targets (N, C)
    loss: float  # the mean loss, without the L2 term
    accuracy: float  # NaN for "identity" outputs


def evaluate_logits(network: Network, data: Dataset, backend: str | Backend, threads: int | None = None) -> Evaluation:
    """Return logits, loss and accuracy of a network on labelled data; the errors are those of `check_fit`.

    The backend computes the logits. The reference always computes the loss: compiling a kernel for it takes longer.
    """
    images, labels = check_fit(network, data)
    engine = get_backend(backend) if isinstance(backend, str) else backend
    logits = engine.predict_logits(network.core, images, threads)
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite or NaN loss is enough to report divergence
        loss, _ = reference.mean_loss(network.output, logits, labels)
        n_correct = network.loss.n_correct(logits, labels)
    return Evaluation(logits, labels, loss, network.loss.accuracy(n_correct, len(logits)))


def check_fit(network: Network, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and the labels or targets of the data in the form that backends accept.

    Raises DataError if the data have no labels or no samples, contain NaN or infinity, or do not match the network.
    """
    if data.labels is None:
        raise DataError(f"{data.name} has no labels")
    if not len(data):
        raise DataError(f"{data.name} has no samples")
    try:
        images = check_inputs(network, data.images)
        if images.dtype.kind == "f" and not np.isfinite(images.data if is_sparse(images) else images).all():
            raise DataError("inputs contain NaN or infinity, expected finite numbers")
        return images, check_targets(network, data.labels, len(data))
    except DataError as error:
        raise DataError(f"{data.name}: {error}") from None


class ClassEvaluation(NamedTuple):
    """The result of `evaluate_classes`."""

    accuracy: float
    loss: float  # the mean loss, without the L2 term
    confusion: np.ndarray  # (C, C) int64; rows are true classes, columns are predicted classes
    per_class: list[ClassScores]
    proba: np.ndarray  # (N, C)


def evaluate_classes(network: Network, data: Dataset, backend: str) -> ClassEvaluation:
    """Evaluate a network with a softmax output on labelled data, in one forward pass; errors as in `check_fit`."""
    logits, labels, loss, accuracy = evaluate_logits(network, data, backend)
    counts = confusion(labels, logits.argmax(axis=1), network.n_classes)
    return ClassEvaluation(accuracy, loss, counts, per_class(counts), reference.softmax(logits))
