"""Saves fitted estimators as model files, as ONNX files or as pickles."""

import os
import warnings
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from fastnn.backends.base import TrainerState
from fastnn.datasets.dataset import Dataset
from fastnn.errors import InconsistentVersionWarning
from fastnn.estimators.fit_watch import WatchState
from fastnn.estimators.one_fit import reads_one_fit
from fastnn.files.c_source import CExport, export_c
from fastnn.files.model_file import save, versions
from fastnn.files.onnx import export_onnx
from fastnn.models.model import Model
from fastnn.models.pictures import measured_pixels
from fastnn.models.pipelines import after_scaling
from fastnn.network import Network, Standardization
from fastnn.training.history import History


def initial_state() -> tuple[WatchState, History, TrainerState | None]:
    """Return the state before the first fit: `_watch_state`, `_history` and `_state`."""
    return WatchState(), History(), None


class ModelFileMixin(BaseEstimator):
    """Mixin for saving, loading and pickling. The estimator defines the hooks for the fields of a model."""

    network_: Network
    _levels: np.ndarray | None

    @reads_one_fit
    def to_model(self, image_shape: tuple[int, int] | None = None, scaling: Standardization | None = None) -> Model:
        """Return the contents of a model file, a `Model`: the network with its classes, feature names and threshold.

        Labels keep their type: integers, floats, booleans or strings. Booleans become 0 and 1 with a threshold.

        Parameters
        ----------
        image_shape : (int, int), or None
            (height, width) of the image in a row of X; None: that of the estimator.
        scaling : Standardization, or None
            What a pipeline applies to its inputs before the estimator. The network of the model then takes the inputs
            of the pipeline.

        Returns
        -------
        Model
            It shares the arrays of the network, unless there is a `scaling`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        DataError
            If a label is neither a string nor a finite number.
        """
        check_is_fitted(self, "network_")
        names = getattr(self, "feature_names_in_", None)
        shape = self._picture_shape if image_shape is None else image_shape
        return Model(
            self.network_ if scaling is None else after_scaling(self.network_, scaling),
            image_shape=None if shape is None else tuple(shape),
            feature_names=None if names is None else tuple(names),
            pixels=self._pixels(shape, scaling),
            **self._model_fields(),
        )

    def _pixels(self, shape: Any, scaling: Standardization | None) -> tuple[float, float] | None:
        """Return `Model.pixels`, from the levels of the columns of the training data."""
        levels = getattr(self, "_levels", None)
        if levels is None or shape is None or np.prod(shape) != levels.shape[1]:
            return getattr(self, "_loaded_pixels", None)
        if scaling is not None:
            levels = np.round(levels / scaling.scale + scaling.mean, 4) + 0  # float32 rounding; + 0 turns -0 into 0
        scale = self.network_.input_scale
        pixel_max = float(levels.max()) if scale == 1 else round(1 / scale, 6)
        return measured_pixels(Dataset(levels, pixel_max=max(pixel_max, 1e-9), image_shape=tuple(shape)))

    def save(self, path: str | os.PathLike[str], image_shape: tuple[int, int] | None = None) -> None:
        """Write a model file in the safetensors format, without pickle. Read it with `fastnn.load` and `from_model`.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced.
        image_shape : (int, int), or None
            (height, width) of the image in a row of X; None: that of the estimator. With it,
            ``fastnn predict`` and ``fastnn explain`` read pictures for this model.

        Raises
        ------
        DataError
            If a label is neither a string nor a finite number, or `image_shape` does not match the number of inputs.
        FileError
            If the file cannot be written. An existing file then stays unchanged.
        """
        save(path, self.to_model(image_shape))

    @reads_one_fit
    def export_onnx(
        self, path: str | os.PathLike[str], X: Any = None, image_shape: tuple[int, int] | None = None
    ) -> None:
        """Write an ONNX file after checking in onnxruntime that it predicts the same as `predict`.

        Parameters
        ----------
        path : str or path-like
            The file to write. An existing file is replaced.
        X : array-like of shape (N, D), optional
            Rows for the check; by default 256 seeded random rows.
        image_shape : (int, int), or None
            As in `save`; part of the metadata of the file.

        Raises
        ------
        DataError, FileError, MissingDependencyError
            As in `fastnn.export_onnx`.
        """
        export_onnx(path, self.to_model(image_shape), rows=None if X is None else self._check_data(X, reset=False))

    @reads_one_fit
    def export_c(
        self,
        path: str | os.PathLike[str],
        X: Any = None,
        image_shape: tuple[int, int] | None = None,
        *,
        dtype: str = "float32",
        name: str | None = None,
    ) -> CExport:
        """Write a C99 file that predicts the same as `predict`.

        Parameters
        ----------
        path : str or path-like
            The file to write. An existing file is replaced.
        X : array-like of shape (N, D), optional
            Typical rows, which "int8" needs; by default seeded random rows.
        image_shape : (int, int), or None
            As in `save`; part of the comment of the file.
        dtype : {"float32", "int8"}
            What the program computes in.
        name : str or None
            The prefix of all names in the file; None: the name of the file.

        Returns
        -------
        CExport
            As `fastnn.export_c`.

        Raises
        ------
        DataError, FileError, SettingsError
            As in `fastnn.export_c`.
        """
        rows = None if X is None else self._check_data(X, reset=False)
        return export_c(path, self.to_model(image_shape), dtype=dtype, rows=rows, name=name)

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """Return a fitted estimator from a model, usually the result of `fastnn.load`.

        Only the parameters that prediction needs are set; the others have their defaults.

        Parameters
        ----------
        model : Model
            Its network is used, not copied.

        Returns
        -------
        estimator
            An instance of this class.

        Raises
        ------
        DataError
            If the model is a regressor and the estimator a classifier, or vice versa.
        """
        network = model.network
        estimator = cls(
            **cls._chain_parameters(model), input_scale=network.input_scale, dtype=network.dtype.name,
            standardize=network.standardization is not None,
        )  # fmt: skip
        estimator._set_model_fields(model)
        estimator.network_, estimator._levels, estimator._loaded_pixels = network, None, model.pixels
        estimator.n_features_in_ = network.n_inputs
        if model.feature_names is not None:
            estimator.feature_names_in_ = np.array(model.feature_names, dtype=object)
        estimator.n_outputs_, estimator.n_layers_ = network.n_outputs, len(network.sizes)
        estimator.out_activation_ = network.output
        estimator._watch_state, estimator._history, estimator._state = initial_state()
        return estimator

    @reads_one_fit
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
