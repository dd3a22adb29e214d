"""Turns the labels and models that users give to a display into class numbers, names and probabilities.

Dimensions: N samples, C classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fastnn import evaluation
from fastnn.checks import short
from fastnn.datasets.arrays import as_array
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError
from fastnn.models import as_dataset, as_model
from fastnn.models.pipelines import is_pipeline


class ClassPairs(NamedTuple):
    """True and predicted classes as numbers, and the name of each class."""

    labels: np.ndarray  # (N,) int64, from 0 to C - 1
    predictions: np.ndarray  # (N,) int64, from 0 to C - 1
    names: list[str]  # C names


class Predictions(NamedTuple):
    """What a model or an estimator predicts for samples."""

    data: Dataset
    labels: np.ndarray | None  # (N,) int64, from 0 to C - 1
    proba: np.ndarray  # (N, C)
    names: list[str]  # C names

    @property
    def known_labels(self) -> np.ndarray:
        """The labels; DataError if there are none."""
        if self.labels is None:
            raise DataError("y is None, expected the true class of each sample")
        return self.labels


def class_pairs(labels: Any, predictions: Any, names: Sequence[object] | None, classes: Any) -> ClassPairs:
    """Return true and predicted classes as numbers.

    labels, predictions: array-like of shape (N,): strings, whole numbers or booleans
    names: C names of the classes, or None: the classes themselves
    classes: the C classes in the order of their numbers, or None: with `names`, whole numbers are class numbers, and
        strings are looked up in the names; without, the classes are all that occur, sorted
    Raises DataError if a label is missing, or is none of the classes.
    """
    true, predicted = class_array("labels", labels), class_array("predictions", predictions)
    if len(predicted) != len(true):
        raise DataError(f"predictions hold {len(predicted)} samples, expected {len(true)}")
    if classes is None and names is not None:
        if true.dtype != object and predicted.dtype != object:
            n_classes = len(names)
            true, predicted = (
                evaluation.check_labels(name, np.asarray(values, np.int64), None, n_classes)
                for name, values in (("labels", true), ("predictions", predicted))
            )
            return ClassPairs(true, predicted, evaluation.check_names(names, n_classes))
        found = _sorted_classes(true, predicted)
        is_order = set(found) <= set(map(str, names))
        classes = list(map(str, names)) if is_order else found
    if classes is None:
        classes = _sorted_classes(true, predicted)
        if not classes:
            raise DataError("labels are empty, expected at least one sample or the argument class_names")
    classes = _listed(classes)
    return ClassPairs(
        class_numbers("labels", true, classes),
        class_numbers("predictions", predicted, classes),
        evaluation.check_names(classes if names is None else names, len(classes)),
    )


def column_labels(labels: Any, n_classes: int, names: Sequence[object] | None, classes: Any) -> np.ndarray:
    """Return labels as the numbers of the columns of probabilities, (N,) int64.

    labels: array-like of shape (N,): strings, whole numbers or booleans
    names: the names of the columns, or None; strings are looked up in them
    classes: the class of each column, or None: whole numbers are column numbers, and C different strings are sorted
    Raises DataError if a label is missing or has no column.
    """
    values = class_array("labels", labels)
    if classes is None and values.dtype != object:
        return evaluation.check_labels("labels", np.asarray(values, np.int64), None, n_classes)
    if classes is None:
        found = _sorted_classes(values)
        texts = [] if names is None else list(map(str, names))
        if len(texts) == n_classes and set(found) <= set(texts):
            classes = texts
        elif len(found) == n_classes:
            classes = found
        else:
            raise DataError(
                f"labels hold {len(found)} different strings, expected {n_classes} as proba has columns; pass "
                "classes, the class of each column"
            )
    classes = _listed(classes)
    if len(classes) != n_classes:
        raise DataError(f"classes holds {len(classes)} classes, expected {n_classes}, one for each column of proba")
    return class_numbers("labels", values, classes)


def class_array(name: str, values: Any) -> np.ndarray:
    """Return classes as an array (N,) of int64, bool or object (str); DataError for anything else."""
    array = as_array(values, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{name} have shape {array.shape}, expected (samples,), one class each")
    if not len(array):
        return np.empty(0, np.int64)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.dtype.kind == "b":
        return array
    items = array.tolist()
    kinds = {_kind(item) for item in items}
    if kinds == {str}:
        return np.array([_text(item) for item in items], object)
    if kinds == {bool}:
        return np.array(items, bool)
    if str in kinds and kinds & {bool, float}:
        number, text = (next(item for item in items if (_kind(item) is str) == is_text) for is_text in (False, True))
        raise DataError(f"{name} hold {short(number)} and {short(text)}, expected only numbers or only strings")
    for row, item in enumerate(items):
        if _kind(item) is None or (_kind(item) is not str and (not np.isfinite(item) or int(item) != item)):
            raise DataError(f"{name} hold {short(item)} at sample {row}, expected whole numbers, booleans or strings")
    return np.array([int(item) for item in items], np.int64)


def class_numbers(name: str, values: np.ndarray, classes: list[Any]) -> np.ndarray:
    """Return the number of each value in the list `classes`, (N,) int64; DataError if a value is none of them.

    The string of a number stands for the number, and the other way round.
    """
    by_text = {str(each): number for number, each in enumerate(classes)}
    table: dict[Any, int] = {each: number for number, each in enumerate(classes)}
    numbers = np.empty(len(values), np.int64)
    for row, value in enumerate(values.tolist()):
        number = table.get(value, by_text.get(str(value)))
        if number is None:
            raise DataError(f"{name} hold {short(value)} at sample {row}, expected one of the classes {short(classes)}")
        numbers[row] = number
    return numbers


# --- Models and estimators -------------------------------------------------------------------------------------------
def predict(estimator: Any, X: Any, y: Any = None) -> Predictions:
    """Return the probabilities that an estimator or a model predicts for samples, and the samples' class numbers.

    estimator: a fitted classifier or pipeline of scikit-learn's kind, or what `as_model` takes
    X, y: samples (N, D) and their labels (N,) or None; or X is a Dataset, or a pair of both
    Raises DataError if the model predicts no classes, or a label is none of them.
    """
    data, values = _samples(X, y)
    inputs = data.images if isinstance(X, (Dataset, tuple)) else X
    if _is_classifier(estimator):
        classes, proba = list(np.asarray(estimator.classes_).tolist()), np.asarray(estimator.predict_proba(inputs))
        if data.image_shape is None:
            data = replace(data, image_shape=getattr(last_step(estimator), "image_shape", None))
    else:
        model = as_model(estimator)
        classes, proba = model.labels.tolist(), model.predict_proba(data if isinstance(X, (Dataset, tuple)) else X)
        if data.image_shape is None:
            data = replace(data, image_shape=model.image_shape)
    numbers = None if values is None else class_numbers("labels", class_array("labels", values), classes)
    return Predictions(data, numbers, proba, list(map(str, classes)))


def predicted_pairs(estimator: Any, X: Any, y: Any = None) -> ClassPairs:
    """Return the true classes of samples and those that `estimator` predicts; parameters and errors as of `predict`.

    The label for "I do not know" of a classifier with a threshold is one more class, the last.
    """
    data, values = _samples(X, y)
    if values is None:
        raise DataError("y is None, expected the true class of each sample")
    inputs = X if not isinstance(X, (Dataset, tuple)) else data
    if hasattr(estimator, "predict") and hasattr(estimator, "classes_"):
        classes = list(np.asarray(estimator.classes_).tolist())
        predictions = estimator.predict(data.images if inputs is data else inputs)
    else:
        model = as_model(estimator)
        classes, predictions = model.labels.tolist(), model.predict(inputs)
    others = [each for each in _sorted_classes(class_array("predictions", predictions)) if each not in classes]
    return class_pairs(values, predictions, None, [*classes, *others])


def last_step(estimator: Any) -> Any:
    """Return the last step of a pipeline; anything else is returned as it is."""
    return estimator.steps[-1][1] if is_pipeline(estimator) else estimator


def _is_classifier(estimator: Any) -> bool:
    return hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")


def _samples(X: Any, y: Any) -> tuple[Dataset, Any]:
    """Return the samples, and their labels as given."""
    if y is None and isinstance(X, (Dataset, tuple)):
        data = as_dataset(X, "X")
        if isinstance(X, tuple):
            return data, X[1]
        values = data.labels
        if values is not None and data.classes is not None:
            values = np.array(data.classes, object)[values]
        return data, values
    return (X, y) if isinstance(X, Dataset) else (Dataset(X, name="X"), y)


def _sorted_classes(*arrays: np.ndarray) -> list[Any]:
    kinds = {array.dtype == object for array in arrays if len(array)}
    if len(kinds) > 1:
        raise DataError("labels and predictions are strings and numbers, expected both to be the same classes")
    return sorted({value for array in arrays for value in array.tolist()})


def _listed(classes: Any) -> list[Any]:
    values = as_array(list(classes) if isinstance(classes, tuple) else classes, "classes").tolist()
    if len(set(map(str, values))) != len(values):
        raise DataError(f"classes are {short(values)}, expected all of them different")
    return list(values)


def _kind(item: Any) -> type | None:
    if isinstance(item, (str, bytes)):
        return str
    if isinstance(item, (bool, np.bool_)):
        return bool
    return float if isinstance(item, (int, float, np.number)) else None


def _text(item: str | bytes) -> str:
    return item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
