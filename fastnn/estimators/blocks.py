"""Data in blocks in the place of X and y: what a fit needs of them, and predictions block by block."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn.backends.arguments import check_finite_inputs
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.estimators.arguments import check_labels_given
from fastnn.models.blocks import backend_for, of_each_row
from fastnn.network import Network
from fastnn.network.standardization import Standardization, merged_moments, moments
from fastnn.streams import BlockedData, BlockedView, blocks_ahead
from fastnn.streams.labels import Labels
from fastnn.streams.view import KeptLabels

# One label of each class looks like numbers to scikit-learn, which counts repetitions.
_REPEATS = 3


def check_blocks(estimator: Any, data: BlockedData, y: Any, has_validation: bool) -> None:
    """Raise SettingsError or DataError unless an estimator can be fitted on these data, whatever is in the blocks."""
    check_no_y(data, y)
    if estimator.solver == "lbfgs":
        raise SettingsError("solver is 'lbfgs' with BlockedData, expected 'sgd' or 'adam': it needs all rows at once")
    if estimator.early_stopping and not has_validation:
        raise SettingsError(
            "early_stopping is True with BlockedData, expected validation_data with it: no rows of blocks are held out"
        )


def check_no_y(data: BlockedData, y: Any) -> None:
    """Raise SettingsError if there is a y beside the blocks, and DataError if the blocks have no labels."""
    if y is not None:
        raise SettingsError("y is given with BlockedData, expected None: the blocks have the labels")
    if not data.has_labels:
        raise DataError(f"{data.name} has no labels, expected them in the blocks: give labels to open_data")


def first_rows(estimator: Any, data: BlockedData, *, reset: bool) -> Any:
    """Return the inputs of the first rows, (n, D), after the checks of their columns.

    reset: whether to set the attributes of the columns instead of comparing them
    """
    rows = data.head().images
    named: Any = rows[:1]
    if data.feature_names is not None:
        import pandas

        named = pandas.DataFrame(named.toarray() if is_sparse(named) else named, columns=[*data.feature_names])
    validate_data(estimator, named, reset=reset, skip_check_array=True)
    return rows


def as_images(rows: Any, data: BlockedData) -> Any:
    """Return rows as images (n, height, width) if data have an image shape."""
    return rows if data.image_shape is None or is_sparse(rows) else rows.reshape(len(rows), *data.image_shape)


def encoded(estimator: Any, data: BlockedData, *, warm: bool, incremental: bool) -> tuple[np.ndarray, BlockedView]:
    """Return the network's targets for a few labels, which stand for all, and the data with targets in their place.

    Sets the classes of a classifier, as `_encode` does. They are those that have rows in any block.
    """
    numeric, how = estimator._numeric_targets, {"warm": warm, "incremental": incremental}
    relabel: Callable[[np.ndarray], np.ndarray]
    if data.has_targets:
        if not numeric and data.n_classes == 1:
            raise DataError(
                f"{data.name} has numbers to predict as labels, expected classes: use MLPRegressor, or open_data with "
                "task='classification'"
            )
        targets = estimator._encode(_plain(np.stack([np.zeros(data.n_classes), np.ones(data.n_classes)])), **how)

        def relabel(labels: np.ndarray) -> np.ndarray:
            found: np.ndarray = estimator._encode(_plain(labels), warm=True, incremental=True)
            return found
    else:
        assert data.classes is not None
        values = classes_of_blocks(data)
        check_labels_given(values, "y", numeric=numeric)
        targets = estimator._encode(np.repeat(values, _REPEATS), **how)
        place = {value: at for at, value in enumerate(values.tolist())}
        relabel = targets[[_REPEATS * place.get(value, 0) for value in data.classes]].__getitem__

    kind = Labels(None, targets.shape[1]) if targets.ndim == 2 else Labels(tuple(range(len(estimator.classes_))))
    return targets, BlockedView(data, relabel, kind)


def classes_of_blocks(data: BlockedData) -> np.ndarray:
    """Return the sorted classes that have rows in any block; the column numbers of multilabel targets."""
    return np.arange(data.n_classes) if data.has_targets else np.array(sorted(data.present_classes()))


def standardization(data: BlockedData) -> Standardization:
    """Return the standardization of all rows, by a pass over the blocks."""
    n_rows, mean, variance = merged_moments(moments(block.images) for _, block in blocks_ahead(data))
    return Standardization.from_moments(n_rows, mean, variance)


def labels_and_predictions(estimator: Any, data: BlockedData) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the labels of all rows, as `KeptLabels` has them, and the predictions, by one pass."""
    kept = KeptLabels(data)
    predicted = estimator.predict(kept)
    return kept.kept, predicted


def scored_blocks(estimator: Any, data: BlockedData, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of all rows as `open_data` was given them, and the predictions."""
    check_no_y(data, y)
    labels, predicted = estimator._labels_and_predictions(data.with_stored_labels())
    return _plain(data.values_of(labels)), predicted


def _plain(targets: np.ndarray) -> np.ndarray:
    """Return targets (N, C) as scikit-learn expects them, (N,) of one column, and labels (N,) as they are."""
    return targets[:, 0] if targets.shape[1:] == (1,) else targets


def outputs_of_blocks(
    estimator: Any, data: BlockedData, function: Callable[[Network, Any, str], np.ndarray]
) -> np.ndarray:
    """Return the results of a function for all rows, (N, ...), while one or two blocks are in memory.

    function: of a network, some checked rows for it, (n, D), and the name of the backend; called in this thread
    """
    check_is_fitted(estimator, "network_")
    first_rows(estimator, data, reset=False)
    network = estimator.network_
    backend = backend_for(network, data, estimator.backend)

    def outputs(samples: Dataset) -> np.ndarray:
        if isinstance(data, KeptLabels):
            data.keep(samples)
        return function(network.core, check_finite_inputs(network, samples.images), backend)

    return of_each_row(data, outputs)
