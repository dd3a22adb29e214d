"""MLPRegressor: fastnn's networks with the interface of scikit-learn's MLPRegressor."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d

from fastnn.errors import DataError
from fastnn.estimators.arguments import check_scored
from fastnn.estimators.base import NetworkEstimator, if_epochs
from fastnn.estimators.blocks import scored_blocks
from fastnn.estimators.callbacks import with_callbacks
from fastnn.estimators.continuation import continue_fit
from fastnn.estimators.data_checks import joined_validation
from fastnn.estimators.dense_layers import DenseLayersMixin
from fastnn.estimators.descriptions import described
from fastnn.estimators.one_fit import reads_one_fit
from fastnn.estimators.plain_data import plain_numbers
from fastnn.estimators.reported_loss import ReportedLoss
from fastnn.models.model import Model
from fastnn.network import LOSSES, Network
from fastnn.streams import BlockedData


@described("MLPRegressor")
class MLPRegressor(DenseLayersMixin, RegressorMixin, NetworkEstimator):
    """Multilayer perceptron for regression, with scikit-learn's parameters and attributes.

    The loss is half the squared error, or half the Poisson deviance. The steps follow the gradient of its sum over the
    targets, as in scikit-learn. With equal parameters, `random_state` and ``dtype="float64"``, the weights after every
    epoch equal scikit-learn's up to rounding. docs/from-scikit-learn.md lists the differences.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    MLPClassifier : The same for classes.
    TargetScale : Standardises targets of other sizes than about 1.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    >>> y = X[:, 0] * X[:, 1]
    >>> model = fastnn.MLPRegressor(hidden_layer_sizes=(20,), solver="lbfgs", tol=1e-3, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.98
    True
    """

    _numeric_targets = True

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str = "auto",
        n_threads: int | None = None,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        average: Any = None,
        initializer: str | None = None,
        transform_layer: int = -1,
        augment: Any = None,
        input_scale: float = 1.0,
        dtype: Any = "float32",
        schedule: Any = None,
        standardize: bool = False,
        image_shape: Any = None,
        buffer_blocks: int = 16,
        memory: Any = "1GB",
    ) -> None:
        self._set_parameters(locals())

    @with_callbacks
    @described("MLPRegressor")
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        validation_data: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        checkpoint: Any = None,
    ) -> Self:
        """Train on X and y.

        Parameters
        ----------
        {X}
        {y}
        {sample_weight}
        {validation_data}
        {X_val}
        {y_val}
        {sample_weight_val}
        {checkpoint}

        Returns
        -------
        {self}

        Raises
        ------
        {raises}
        """
        validation = joined_validation(validation_data, X_val, y_val, sample_weight_val)
        with self._fitting():
            return self._fit(X, y, sample_weight, validation, incremental=False, tasks=True, checkpoint=checkpoint)

    @described("MLPRegressor")
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return R^2, the coefficient of determination, of `predict` for X, weighted by `sample_weight`.

        Parameters
        ----------
        {X}
        {y}
        {sample_weight}

        Returns
        -------
        float
            At most 1; the mean over the targets.
        """
        if isinstance(X, BlockedData):
            y, predicted = scored_blocks(self, X, y)
            y, sample_weight = check_scored(y, sample_weight, numeric=True)
            return float(r2_score(y, predicted, sample_weight=sample_weight))
        y, sample_weight = check_scored(y, sample_weight, numeric=True)
        return float(super().score(X, y, sample_weight))

    @if_epochs
    @described("MLPRegressor")
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more epoch on X and y, resuming weights and optimizer state.

        Parameters
        ----------
        {X}
        {y}
        {sample_weight}

        Returns
        -------
        {self}

        Raises
        ------
        {raises}
        """
        with self._fitting() as kept:
            if kept is not None and not isinstance(X, BlockedData) and continue_fit(self, kept, X, y, sample_weight):
                return self
            return self._fit(X, y, sample_weight, None, incremental=True)

    @reads_one_fit
    @described("MLPRegressor")
    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted numbers.

        Parameters
        ----------
        {X}

        Returns
        -------
        ndarray of shape (N,) for one target, otherwise (N, C)
            In the dtype of the network: float32, or float64 for ``dtype="float64"``.
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    # --- Hooks of NetworkEstimator -----------------------------------------------------------------------------------
    def _encode(self, y: Any, *, warm: bool, incremental: bool) -> np.ndarray:
        """Return the targets, (N, C), in the working dtype."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        with np.errstate(over="ignore"):  # the check of targets finds infinities
            return y.reshape(len(y), -1).astype(self._dtype)

    def _plain_targets(self, y: Any, n_rows: int) -> np.ndarray | None:
        """Return what `_encode` returns, checked, within microseconds; None if its checks are necessary."""
        return plain_numbers(y, n_rows, self.n_outputs_, self._dtype)

    def _output(self, targets: np.ndarray) -> tuple[str, int]:
        return "exp" if self.loss == "poisson" else "identity", targets.shape[1]

    def _reported_loss(self, network: Network, n_samples: int, weight: np.ndarray | None) -> ReportedLoss:
        if self.loss == "poisson":  # scikit-learn's is a sum over the targets, too
            return ReportedLoss()
        is_lbfgs = self.solver == "lbfgs"
        batch_size = n_samples if is_lbfgs else 200 if self.batch_size == "auto" else int(self.batch_size)
        total = n_samples if weight is None else float(weight.sum())
        return ReportedLoss(network.n_outputs, -(-n_samples // batch_size), total, self.alpha, is_lbfgs)

    def _stratify(self, targets: np.ndarray) -> None:
        return None

    def _score_logits(self, logits: np.ndarray, targets: np.ndarray, weight: np.ndarray | None) -> float:
        outputs = LOSSES[self.out_activation_].outputs(logits)
        return r2(targets, outputs, weight) if np.isfinite(outputs).all() else float("nan")

    def _model_fields(self) -> dict[str, Any]:
        return {"classes": None, "unknown": None}

    def _set_model_fields(self, model: Model) -> None:
        if model.classes is not None:
            raise DataError("the model is a classifier, expected a regressor: use MLPClassifier.from_model")
        self.loss = "poisson" if model.network.output == "exp" else "squared_error"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def r2(targets: np.ndarray, outputs: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Return R^2, the mean over the targets, with the bits of scikit-learn's `r2_score` but without its checks.

    targets, outputs: (N, C), finite
    weight: (N,), the weight of each row
    """
    if len(targets) < 2:
        return float(r2_score(targets, outputs, sample_weight=weight))  # with its warning
    dtype = np.result_type(*(each for each in (targets, outputs, weight) if each is not None))
    targets, outputs = targets.astype(dtype, copy=False), outputs.astype(dtype, copy=False)
    factor: Any = 1.0 if weight is None else weight.astype(dtype, copy=False)[:, None]
    mean = np.average(targets, axis=0, weights=None if weight is None else factor[:, 0])
    errors = np.sum(factor * (targets - outputs) ** 2, axis=0)
    variance = np.sum(factor * (targets - mean) ** 2, axis=0)
    scores = np.ones(len(errors), dtype)
    is_wrong, varies = errors != 0, variance != 0
    scores[is_wrong & varies] = 1 - errors[is_wrong & varies] / variance[is_wrong & varies]
    scores[is_wrong & ~varies] = 0
    return float(np.average(scores))
