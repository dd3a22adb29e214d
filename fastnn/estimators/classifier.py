"""MLPClassifier: scikit-learn's, on our kernels, with what was asked for there."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets, type_of_target

from fastnn.backends.base import check_sample_weight
from fastnn.backends.reference import is_correct
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.estimators.base import BaseMLP, if_epochs
from fastnn.estimators.callbacks import with_callbacks
from fastnn.network.model import Model, class_probabilities, decide

NO_THRESHOLD = "threshold is given, but y is multilabel: each label has a probability of its own"


class MLPClassifier(ClassifierMixin, BaseMLP):
    """A multilayer perceptron that classifies, with the parameters and attributes of scikit-learn's.

    With equal parameters, `random_state` and ``dtype="float64"`` it has scikit-learn's weights at every epoch, up to
    rounding. What differs is listed in docs/from-scikit-learn.md.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; ``()`` for none.
    activation : {"relu", "tanh", "logistic", "identity"}
        Of the hidden layers.
    solver : {"adam", "sgd", "lbfgs"}
    alpha : float
        Strength of the L2 term: a batch's loss has ``alpha / 2 * (sum of squared weights)``, divided by the number of
        its samples, or by the sum of their weights.
    batch_size : int or "auto"
        Samples a step, at most N; "auto" is 200 or N. L-BFGS takes all.
    learning_rate : {"constant", "invscaling", "adaptive"}
        For "sgd". "invscaling": ``learning_rate_init / (t + 1) ** power_t`` after t samples, changed once an epoch.
        "adaptive": a fifth whenever `n_iter_no_change` epochs have not improved, until 1e-6.
    learning_rate_init : float
    power_t : float
    max_iter : int
        The most epochs; of L-BFGS, iterations.
    shuffle : bool
        Whether each epoch has an order of its own.
    random_state : int, RandomState or None
        Draws the weights, the validation samples, the order of each epoch, and dropout.
    tol : float
        What counts as an improvement of the loss, or of the validation score; for L-BFGS, the largest entry of the
        gradient at which it has converged.
    verbose : bool
        Print a line an epoch.
    warm_start : bool
        Whether `fit` goes on from the weights it finds.
    momentum : float, in [0, 1)
        For "sgd".
    nesterovs_momentum : bool
    early_stopping : bool
        Hold out `validation_fraction`, unless `fit` is given validation data; stop when the accuracy on it does not
        improve, and keep the best weights. For "sgd" and "adam".
    validation_fraction : float
    beta_1, beta_2, epsilon : float
        Adam's.
    n_iter_no_change : int
        Epochs in a row without improvement before the end.
    max_fun : int
        The most evaluations of the loss by L-BFGS.
    backend : {"auto", "numba", "numpy"}
    n_threads : int or None
        At most so many; None: the cores this process may use. The results do not depend on it.
    dropout : float, in [0, 1)
        The share of hidden units dropped in each training step (Srivastava et al. 2014). Not for "lbfgs".
    class_weight : dict of label to float, "balanced" or None
        What the samples of a class count in training, times their `sample_weight`; 1 for classes not in the dict.
        "balanced": ``N / (C * samples of the class)``. Not for multilabel targets.
    input_scale : float
        Inputs are multiplied by it inside the network: ``1 / 255`` lets pixels stay uint8.
    dtype : {"float32", "float64"}
        The arithmetic of the network; scikit-learn's is float64 for most inputs.
    schedule : str, function of (epoch, epochs), or None
        The learning rate's factor in each epoch, of `max_iter`: see `fastnn.optim.schedules`. For "sgd" and "adam",
        and not beside "invscaling" or "adaptive".
    threshold : float or None
        `predict` answers `unknown_label` where the largest probability is lower. Not for multilabel targets.
    unknown_label : int, str or None
        None is -1, or "unknown" for strings.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels, sorted.
    coefs_, intercepts_ : list of ndarray, (fan_in, fan_out) and (fan_out,)
    network_ : Network
        The same as one object, for `fastnn.explain` and the plots.
    loss_, loss_curve_, best_loss_ : float, list of float, float or None
        Of the training data; the best is None with early stopping.
    validation_scores_, best_validation_score_ : list of float and float, or None without validation data
        Accuracies.
    history_ : DataFrame
        A row an epoch, of all fits since the weights were drawn: losses and accuracies of training and validation data
        (these without weights), learning rate, seconds.
    n_iter_, t_ : int
        Epochs of the last fit; samples trained on.
    n_layers_, n_outputs_, out_activation_ : int, int, {"softmax", "logistic"}
    n_features_in_, feature_names_in_ : int, ndarray of str
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "threshold": [Interval(Real, 0, 1, closed="right"), None],
        "unknown_label": [str, Real, None],
    }
    _target_options: ClassVar[dict[str, Any]] = {}

    classes_: np.ndarray

    def __init__(
        self,
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
        class_weight: Any = None,
        input_scale: float = 1.0,
        dtype: Any = "float32",
        schedule: Any = None,
        threshold: float | None = None,
        unknown_label: Any = None,
    ) -> None:
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
        self.class_weight = class_weight
        self.input_scale = input_scale
        self.dtype = dtype
        self.schedule = schedule
        self.threshold = threshold
        self.unknown_label = unknown_label

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Train on X and y.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (N, D)
            uint8 stays uint8, CSR stays sparse; all else becomes the estimator's dtype.
        y : array-like of shape (N,), or indicators of 0 and 1 of shape (N, C)
            Labels of any type that can be sorted; indicators for multilabel targets.
        sample_weight : array-like of shape (N,), or None
            What each sample counts, 0 or more.
        validation_data : (X, y) or (X, y, sample_weight), or None
            Data to watch the fit with: `history_` has the losses, `validation_scores_` the accuracies; `early_stopping`
            uses them instead of holding some out.

        Raises
        ------
        ValueError
            If a parameter or the data cannot be used. TypeError for what is no array.
        DivergenceError
            If the loss is not finite any more; its `result` has the network after the last good epoch.
        TrainingInterrupted
            On Ctrl-C (it is a KeyboardInterrupt); the estimator is fitted to the last whole epoch then.
        """
        self._validate_params()
        with self._all_or_nothing():
            return self._fit(X, y, sample_weight, validation_data, incremental=False, tasks=True)

    @if_epochs
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """One epoch on X and y, from where the last fit stopped, the optimizer's state included.

        `classes`, of shape (C,), is all labels there will be; the first call needs it. The rest is as in `fit`.
        """
        self._validate_params()
        if self.class_weight == "balanced":
            raise ValueError("class_weight 'balanced' needs all data at once: give partial_fit a dict of weights")
        if not hasattr(self, "classes_") and classes is None and type_of_target(y) == "multilabel-indicator":
            classes = np.arange(np.shape(y)[1])
        with self._all_or_nothing():
            _check_partial_fit_first_call(self, classes)
            return self._fit(X, y, sample_weight, None, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row (N,), or indicators (N, C); `unknown_label` below the `threshold`."""
        proba = self.predict_proba(X)
        if self._multilabel and self.threshold is not None:
            raise ValueError(NO_THRESHOLD)
        return decide(proba, self.classes_, self._unknown(), self._multilabel)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, in the order of `classes_`: (N, C), in the estimator's dtype.

        Rows sum to 1, but of multilabel targets, where each column is the probability of its own label.
        """
        answers = self._answers(X)
        return class_probabilities(answers, len(self.classes_), self._multilabel)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of `predict_proba`; minus infinity where that is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @property
    def _multilabel(self) -> bool:
        return self.out_activation_ == "logistic" and self.n_outputs_ > 1

    def _unknown(self) -> tuple[float, Any] | None:
        """The threshold and the label for 'I do not know', of the type of the classes and none of them."""
        if self.threshold is None:
            return None
        text = self.classes_.dtype.kind in "OUS"
        label = self.unknown_label
        if label is None:
            label = "unknown" if text else -1
        if isinstance(label, str) != text or label in self.classes_.tolist():
            kind = "a string" if text else "a number"
            raise ValueError(f"unknown_label is {label!r}, expected {kind} that is none of the classes")
        return float(self.threshold), label

    # --- What the base asks for ------------------------------------------------------------------------------------
    def _encode(self, y: Any, *, keep: bool, incremental: bool) -> np.ndarray:
        """Class numbers (N,), of two classes or multilabel 0 and 1 (N, C); `classes_` are set unless they are kept."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind == "multilabel-indicator":
            indicators = y.toarray() if is_sparse(y) else np.asarray(y)
            if not keep and not (incremental and hasattr(self, "classes_")):
                self.classes_ = np.arange(indicators.shape[1])
            if self.threshold is not None:
                raise ValueError(NO_THRESHOLD)
            if indicators.shape[1] != len(self.classes_):
                raise ValueError(f"y has {indicators.shape[1]} labels, expected {len(self.classes_)}")
            return indicators.astype(self._dtype)
        check_classification_targets(y)
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if y.ndim != 1:
            raise ValueError(f"y has shape {y.shape}: several classes for each of several outputs are not supported")
        try:
            labels = np.unique(y)
            known = labels if not (keep or (incremental and hasattr(self, "classes_"))) else self.classes_
            place = np.searchsorted(known, y)
        except TypeError as error:
            raise ValueError("y has labels that cannot be compared with one another, as None and strings") from error
        unseen = np.setdiff1d(labels, known)
        if len(unseen):
            raise ValueError(f"y has classes {unseen.tolist()} that were not there before, expected {known.tolist()}")
        if keep and self.warm_start and not incremental and len(labels) < len(known):
            raise ValueError(
                f"warm_start needs the classes of the previous fit: expected {known.tolist()}, y has {labels.tolist()}"
            )
        self.classes_ = known
        self._unknown()
        return place.astype(self._dtype)[:, None] if len(known) <= 2 else place

    def _output(self, targets: np.ndarray) -> tuple[str, int]:
        return ("softmax", len(self.classes_)) if targets.ndim == 1 else ("logistic", targets.shape[1])

    def _stratify(self, targets: np.ndarray) -> np.ndarray | None:
        """What keeps its shares in a split: for one output as scikit-learn has it, none."""
        return targets if targets.ndim == 2 and targets.shape[1] == 1 else None

    def _class_weight(self, targets: np.ndarray) -> np.ndarray | None:
        if self.class_weight is None:
            return None
        if targets.ndim == 2 and targets.shape[1] > 1:
            raise ValueError("class_weight is given, but y is multilabel: weigh its samples by sample_weight")
        numbers, classes = targets.reshape(-1).astype(np.int64), self.classes_.tolist()
        if self.class_weight == "balanced":
            counts = np.bincount(numbers, minlength=len(classes))
            by_class = len(numbers) / (len(classes) * np.maximum(1, counts))
        else:
            strange = [label for label in self.class_weight if label not in classes]
            if strange:
                raise ValueError(f"class_weight has {strange}, which are no classes, expected some of {classes}")
            by_class = np.array([float(self.class_weight.get(label, 1)) for label in classes])
        weight: np.ndarray = by_class[numbers]
        return check_sample_weight(weight, len(numbers), np.dtype(np.float64))

    def _score_logits(self, logits: np.ndarray, targets: np.ndarray, weight: np.ndarray | None) -> float:
        return float(np.average(is_correct(self.out_activation_, logits, targets), weights=weight))

    def _model_fields(self) -> dict[str, Any]:
        return {"classes": tuple(self.classes_.tolist()), "unknown": self._unknown()}

    def _take_model_fields(self, model: Model) -> None:
        if model.classes is None:
            raise DataError("the model answers with numbers, expected one with classes: see MLPRegressor")
        self.classes_ = np.array(model.classes)
        if model.unknown is not None:
            self.threshold, self.unknown_label = model.unknown

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
