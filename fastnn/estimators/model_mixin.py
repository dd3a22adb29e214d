"""How a fitted estimator is kept: as a model file, as ONNX, or pickled."""

import os
import warnings
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fastnn.backends.base import TrainerState
from fastnn.errors import InconsistentVersionWarning
from fastnn.estimators.fit_watch import WatchState
from fastnn.files.model_file import save, versions
from fastnn.files.onnx import export_onnx
from fastnn.network.model import Model
from fastnn.training.history import History

# What a first fit goes on from.
NOTHING_BEFORE: tuple[WatchState, History, TrainerState | None] = (WatchState(), History(), None)


class ModelFileMixin(BaseEstimator):
    """Saving, loading and pickling; the estimator has `_model_fields` and `_take_model_fields`."""

    def to_model(self) -> Model:
        """The fitted network with its classes, features and settings of prediction, as a model file holds them."""
        check_is_fitted(self, "network_")
        names = getattr(self, "feature_names_in_", None)
        return Model(self.network_, feature_names=None if names is None else tuple(names), **self._model_fields())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a model file, which `fastnn.load` and `from_model` read: safetensors, no pickle, in one step.

        Raises
        ------
        DataError
            If the labels are neither whole numbers nor strings.
        FileError
            If the file cannot be written; an old file is then as it was.
        """
        model = self.to_model()
        save(
            path, model.network, classes=model.classes, feature_names=model.feature_names, unknown=model.unknown
        )  # fmt: skip

    def export_onnx(self, path: str | os.PathLike[str], X: Any = None) -> None:
        """Write an ONNX file that has been loaded in onnxruntime and compared with `predict`, on the rows X if given.

        Raises
        ------
        DataError
            If it does not agree; no file is written.
        MissingDependencyError
            Without the packages of the extra "onnx".
        """
        rows = None if X is None else self._check_data(X, reset=False)
        export_onnx(path, self.to_model(), rows=rows)

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """The fitted estimator that a model file holds; of its parameters, those that prediction needs are set."""
        network = model.network
        estimator = cls(
            hidden_layer_sizes=network.sizes[1:-1], activation=network.activation, input_scale=network.input_scale,
            dtype=network.dtype.name,
        )  # fmt: skip
        estimator._take_model_fields(model)
        estimator.network_ = network
        estimator.n_features_in_ = network.n_inputs
        if model.feature_names is not None:
            estimator.feature_names_in_ = np.array(model.feature_names, dtype=object)
        estimator.n_outputs_, estimator.n_layers_ = network.n_outputs, len(network.sizes)
        estimator.out_activation_ = network.output
        estimator._watched, estimator._history, estimator._state = NOTHING_BEFORE
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_fastnn_version": versions()["fastnn"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        pickled, current = state.pop("_fastnn_version", "unknown"), versions()["fastnn"]
        if pickled != current:
            warnings.warn(
                f"{type(self).__name__} was pickled by fastnn {pickled} and is read by {current}, which may fail or "
                "give other results; model files (save) are read by every later version",
                InconsistentVersionWarning,
                stacklevel=2,
            )
        super().__setstate__(state)
