"""Sample weights by class, so that rare classes count more in training."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.checks import check_number, short
from fastnn.datasets.convert import as_dataset, is_in_blocks
from fastnn.errors import DataError, SettingsError
from fastnn.suggestions import did_you_mean

BALANCED = "balanced"


def class_weights(data: Any, weights: str | Mapping[Any, float] = BALANCED) -> np.ndarray:
    """Return the weight of each sample by its class, for the argument `sample_weight` of `fastnn.train`.

    Parameters
    ----------
    data : Dataset, (images, labels), or BlockedData
        The training data, with classes. Only the labels of blocks are read, where they are stored apart.
    weights : "balanced", or dict of class to float
        "balanced" gives each class the same total weight: a sample of a class weighs N / (C * samples of the class),
        where C is the number of classes with samples. A dict names classes as `Dataset.classes` does, or by number; the
        others weigh 1.

    Returns
    -------
    ndarray of shape (N,), float64

    Raises
    ------
    DataError
        If the data have no classes.
    SettingsError
        If a class has no sample, or a weight is not a finite number, 0 or more.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> data = fastnn.Dataset(np.zeros((4, 2)), ["cat", "cat", "cat", "dog"])
    >>> weight = fastnn.class_weights(data)
    >>> weight.round(3)
    array([0.667, 0.667, 0.667, 2.   ])
    >>> fastnn.class_weights(data, {"dog": 5})
    array([1., 1., 1., 5.])
    >>> result = fastnn.train(fastnn.Network.for_data(data, (3,)), data, sample_weight=weight, epochs=1)
    """
    if is_in_blocks(data):
        labels = np.concatenate(list(data.labels())) if data.has_labels else None
    else:
        data = as_dataset(data)
        labels = data.labels
    if labels is None or data.has_targets:
        found = "no labels" if labels is None else "numbers as labels"
        raise DataError(f"{data.name} has {found}, expected classes, which have weights")
    present, numbers = np.unique(labels, return_inverse=True)
    if isinstance(weights, str) and weights == BALANCED:
        by_class = len(numbers) / (len(present) * np.bincount(numbers))
    elif isinstance(weights, Mapping):
        by_class = _given_weights([data.classes[k] if data.classes else int(k) for k in present], weights)
    else:
        raise SettingsError(f"class weights are {short(weights)}, expected {BALANCED!r} or a weight for each class")
    result: np.ndarray = by_class[numbers]
    return result


def _given_weights(classes: list[Any], weights: Mapping[Any, float]) -> np.ndarray:
    """Return the weight of each class. A class is found by its value or by its text."""
    by_class = np.ones(len(classes))
    texts = [str(label) for label in classes]
    for label, weight in weights.items():
        if str(label) not in texts:
            meant = did_you_mean(str(label), texts)
            raise SettingsError(f"class weights name {short(label)}{meant}, which is no class of the data")
        by_class[texts.index(str(label))] = check_number(f"the weight of class {short(label)}", weight, 0)
    return by_class
