"""How a network does on labelled data: loss, accuracy, and what it answered."""

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
    network: Network,
    data: Dataset,
    *,
    backend: str | Backend = "auto",
    l2: float = 0.0,
    threads: int | None = None,
) -> tuple[float, float]:
    """Loss (with the L2 term, if any) and accuracy of a network on labelled data.

    A sample of a network with logistic outputs is right if all its answers are; the accuracy of numbers is NaN.
    `threads` is as in `train`, for the Numba backend.

    Raises
    ------
    DataError
        If the data have no labels or do not fit the network.
    """
    evaluated = evaluate_logits(network, data, backend, threads)
    return evaluated.loss + l2_penalty(network, l2), evaluated.accuracy


def l2_penalty(network: Network, l2: float) -> float:
    """``l2 / 2`` times the sum of the squared weights, biases not."""
    return 0.5 * l2 * sum(float(np.sum(weight**2, dtype=np.float64)) for weight in network.weights)


class Evaluation(NamedTuple):
    """Logits (N, C), labels (N,) or targets (N, C), the mean loss without L2 term, and the accuracy."""

    logits: np.ndarray
    labels: np.ndarray
    loss: float
    accuracy: float


def evaluate_logits(network: Network, data: Dataset, backend: str | Backend, threads: int | None = None) -> Evaluation:
    """What a network makes of labelled data.

    The loss is the reference's whichever backend has the logits: it takes less time than a kernel for it would take to
    compile. Raises DataError if the data have no labels or do not fit the network.
    """
    images, labels = check_fit(network, data)
    engine = get_backend(backend) if isinstance(backend, str) else backend
    logits = engine.predict_logits(network, images, threads)
    with np.errstate(over="ignore", invalid="ignore"):  # a network that went astray is seen by its loss
        loss, _ = reference.LOSSES[network.output](logits, labels)
        correct = reference.is_correct(network.output, logits, labels)
    return Evaluation(logits, labels, loss, np.nan if network.output == "identity" else float(correct.mean()))


def check_fit(network: Network, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The data's inputs, and labels or targets, as the backends take them; DataError, naming the data, if not fit."""
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
    """How a network does on labelled data: confusion (C, C), a score a class, and the probabilities (N, C)."""

    accuracy: float
    loss: float
    confusion: np.ndarray
    per_class: list[ClassScores]
    proba: np.ndarray


def evaluate_classes(network: Network, data: Dataset, backend: str) -> ClassEvaluation:
    """Run a network over labelled data once.

    Raises
    ------
    DataError
        If the data have no labels or do not fit the network.
    """
    logits, labels, loss, _ = evaluate_logits(network, data, backend)
    counts = confusion(labels, logits.argmax(axis=1), network.n_classes)
    accuracy = float(np.trace(counts) / counts.sum())
    return ClassEvaluation(accuracy, loss, counts, per_class(counts), reference.softmax(logits))
