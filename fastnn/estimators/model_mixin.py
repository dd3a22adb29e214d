"""Saves fitted estimators as model files, as ONNX files or as pickles."""

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
from fastnn.models.model import Model
from fastnn.training.history import History

# The state before the first fit.
INITIAL_STATE: tuple[WatchState, History, TrainerState | None] = (WatchState(), History(), None)


class ModelFileMixin(BaseEstimator):
    """Mixin for saving, loading and pickling. The estimator defines `_model_fields` and `_set_model_fields`."""

    def to_model(self) -> Model:
        """Return the contents of a model file, a `Model`: the network with its classes, feature names and threshold.

        Raises NotFittedError if the estimator is not fitted.
        """
        check_is_fitted(self, "network_")
        names = getattr(self, "feature_names_in_", None)
        return Model(self.network_, feature_names=None if names is None else tuple(names), **self._model_fields())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a model file in the safetensors format, without pickle. Read it with `fastnn.load` and `from_model`.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced.

        Raises
        ------
        DataError
            If the labels are neither whole numbers nor strings.
        FileError
            If the file cannot be written. An existing file then stays unchanged.
        """
        model = self.to_model()
        names = model.classes, model.feature_names
        save(path, model.network, classes=names[0], feature_names=names[1], unknown=model.unknown)

    def export_onnx(self, path: str | os.PathLike[str], X: Any = None) -> None:
        """Write an ONNX file after checking in onnxruntime that it predicts the same as `predict`.

        Parameters
        ----------
        path : str or path-like
        X : array-like of shape (N, D), optional
            Rows for the check; by default 256 seeded random rows.

        Raises
        ------
        DataError, FileError, MissingDependencyError
            As in `fastnn.export_onnx`.
        """
        export_onnx(path, self.to_model(), rows=None if X is None else self._check_data(X, reset=False))

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """Return a fitted estimator from a model, usually the result of `fastnn.load`.

        Only the parameters that prediction needs are set; the others have their defaults. DataError if the model is a
        regressor and the estimator a classifier, or vice versa.
        """
        network = model.network
        estimator = cls(
            hidden_layer_sizes=network.sizes[1:-1], activation=network.activation, input_scale=network.input_scale,
            dtype=network.dtype.name,
        )  # fmt: skip
        estimator._set_model_fields(model)
        estimator.network_ = network
        estimator.n_features_in_ = network.n_inputs
        if model.feature_names is not None:
            estimator.feature_names_in_ = np.array(model.feature_names, dtype=object)
        estimator.n_outputs_, estimator.n_layers_ = network.n_outputs, len(network.sizes)
        estimator.out_activation_ = network.output
        estimator._watch_state, estimator._history, estimator._state = INITIAL_STATE
        return estimator

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_fastnn_version": versions()["fastnn"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        pickled, current = state.pop("_fastnn_version", "unknown"), versions()["fastnn"]
        if pickled != current:
            warnings.warn(
                f"{type(self).__name__} was pickled by fastnn {pickled} and is loaded by {current}, which may fail or "
                "change results; every later version reads model files (save)",
                InconsistentVersionWarning,
                stacklevel=2,
            )
        super().__setstate__(state)
