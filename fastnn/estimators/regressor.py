"""MLPRegressor: scikit-learn's, on our kernels."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions

from fastnn.errors import DataError
from fastnn.estimators.base import BaseMLP, if_epochs
from fastnn.estimators.callbacks import with_callbacks
from fastnn.network.model import Model


class MLPRegressor(RegressorMixin, BaseMLP):
    """A multilayer perceptron that answers with one or more numbers, with scikit-learn's parameters and attributes.

    The loss is half the squared error, summed over the targets of a sample. Where they are several, scikit-learn
    reports that divided by their number, but follows the same gradient.

    Parameters
    ----------
    loss : {"squared_error"}
    **others
        As in MLPClassifier, which has `class_weight`, `threshold` and `unknown_label` besides. Early stopping looks at
        R^2, the coefficient of determination.

    Attributes
    ----------
    All of MLPClassifier's but `classes_`; `validation_scores_` are R^2, `out_activation_` is "identity", and the
    accuracies of `history_` are NaN.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error"})],
    }
    _target_options: ClassVar[dict[str, Any]] = {"y_numeric": True}

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
        dropout: float = 0.0,
        input_scale: float = 1.0,
        dtype: Any = "float32",
        schedule: Any = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.backend = backend
        self.n_threads = n_threads
        self.dropout = dropout
        self.input_scale = input_scale
        self.dtype = dtype
        self.schedule = schedule

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train on X and y: y of shape (N,) or (N, C), numbers; all else as in MLPClassifier."""
        self._validate_params()
        with self._all_or_nothing():
            return self._fit(X, y, sample_weight, validation_data, incremental=False, tasks=True)

    @if_epochs
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch on X and y, from where the last fit stopped, the optimizer's state included."""
        self._validate_params()
        with self._all_or_nothing():
            return self._fit(X, y, sample_weight, None, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The numbers, float64: (N,) for one target, else (N, C)."""
        answers = self._answers(X).astype(np.float64)
        return answers[:, 0] if answers.shape[1] == 1 else answers

    # --- What the base asks for ------------------------------------------------------------------------------------
    def _encode(self, y: Any, *, keep: bool, incremental: bool) -> np.ndarray:
        """Targets (N, C) in the working dtype."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        with np.errstate(over="ignore"):  # seen by the check of targets
            return y.reshape(len(y), -1).astype(self._dtype)

    def _output(self, targets: np.ndarray) -> tuple[str, int]:
        return "identity", targets.shape[1]

    def _stratify(self, targets: np.ndarray) -> None:
        return None

    def _score_logits(self, logits: np.ndarray, targets: np.ndarray, weight: np.ndarray | None) -> float:
        return float(r2_score(targets, logits, sample_weight=weight)) if np.isfinite(logits).all() else float("nan")

    def _model_fields(self) -> dict[str, Any]:
        return {"classes": None, "unknown": None}

    def _take_model_fields(self, model: Model) -> None:
        if model.classes is not None:
            raise DataError("the model answers with classes, expected one with numbers: see MLPClassifier")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
