"""MLPClassifier: fastnn's networks with the interface of scikit-learn's MLPClassifier, and more parameters."""

import math
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from fastnn.backends.arguments import check_sample_weight
from fastnn.checks import short
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.estimators.arguments import check_labels_given, check_scored
from fastnn.estimators.base import BaseMLP, if_epochs, joined_validation
from fastnn.estimators.callbacks import with_callbacks
from fastnn.estimators.continuation import continue_fit
from fastnn.estimators.one_fit import reads_one_fit
from fastnn.estimators.plain_data import is_plain_labels, plain_labels
from fastnn.interruptible import PER_SORT, interruptible
from fastnn.models.model import Model, class_probabilities, decide
from fastnn.network import LOSSES

NO_THRESHOLD = "threshold is set, expected None for multilabel y, whose labels have separate probabilities"


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multilayer perceptron for classification, with scikit-learn's parameters and attributes.

    With equal parameters, `random_state` and ``dtype="float64"``, the weights after every epoch equal scikit-learn's up
    to rounding. docs/from-scikit-learn.md lists the differences.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        The number of units of each hidden layer; ``()`` for none.
    activation : str or sequence of str
        The activation of all hidden layers, or one for each: a name in `fastnn.network.activations.ACTIVATIONS`.
    solver : {"adam", "sgd", "lbfgs"}
        The optimizer: Adam, gradient descent, or L-BFGS, which takes all samples in each step.
    alpha : float
        Strength of the L2 term: the loss of a batch includes ``alpha / 2 * (sum of squared weights)``, divided by the
        number of its samples, or by the sum of their weights.
    batch_size : int or "auto"
        Samples per step, at most N; "auto" is min(200, N). L-BFGS uses all samples.
    learning_rate : {"constant", "invscaling", "adaptive"}
        For "sgd". "invscaling" is ``learning_rate_init / (t + 1) ** power_t`` after t samples, updated once per epoch.
        "adaptive" divides the rate by 5 after more than `n_iter_no_change` epochs without improvement; training stops
        when the rate is at most 1e-6.
    learning_rate_init : float
        The learning rate of the first epoch. For "sgd" and "adam".
    power_t : float
        The exponent of "invscaling".
    max_iter : int
        The maximum number of epochs, or of iterations for L-BFGS.
    shuffle : bool
        Whether each epoch uses a new random order.
    random_state : int, RandomState or None
        Determines the initial weights, the validation samples, the order of each epoch, and dropout.
    tol : float
        The minimum improvement of the loss, or of the validation score. L-BFGS has converged when every entry of the
        gradient has at most this magnitude.
    verbose : bool
        Whether to print one line per epoch.
    warm_start : bool
        Whether `fit` continues from the current weights.
    momentum : float, in [0, 1)
        The part of the last step that the next one keeps. For "sgd".
    nesterovs_momentum : bool
        Whether to use Nesterov's momentum. For "sgd" with a `momentum` above 0.
    early_stopping : bool
        Hold out `validation_fraction` of the data (unless `fit` gets validation data), stop when the validation
        accuracy no longer improves, and keep the best weights. For "sgd" and "adam".
    validation_fraction : float
        The fraction of the training data that `early_stopping` holds out, above 0 and below 1.
    beta_1, beta_2, epsilon : float
        The decay rates of the two moments, and the number added to the root of the second. For "adam".
    n_iter_no_change : int
        The largest accepted number of consecutive epochs without improvement; after one more, training stops.
    max_fun : int
        The maximum number of loss evaluations of L-BFGS.
    backend : {"auto", "numba", "numpy"}
        As in `fastnn.get_backend`.
    n_threads : int or None
        The maximum number of threads; None for the cores available to the process, which joblib divides among its
        worker processes. The results do not depend on it.
    dropout : float, in [0, 1)
        The fraction of hidden units dropped in each training step (Srivastava et al. 2014). Not for "lbfgs".
    class_weight : dict of label to float, "balanced" or None
        The weight of each class in training, multiplied by `sample_weight`; 1 for classes not in the dict. "balanced"
        is ``N / (C * samples of the class)``. Not for multilabel targets.
    input_scale : float
        A factor that the network applies to its inputs. With ``1 / 255``, pixels can stay uint8.
    dtype : {"float32", "float64"}
        The dtype of the computation. scikit-learn computes most inputs in float64.
    schedule : str, function of (epoch, epochs), or None
        The factor of the learning rate in each of `max_iter` epochs; `fastnn.optim.schedules` describes the strings.
        For "sgd" and "adam" with a "constant" `learning_rate`.
    threshold : float or None
        `predict` returns `unknown_label` for rows whose largest probability is below the threshold. Not for multilabel
        targets.
    unknown_label : int, str or None
        None means -1 if the labels are numbers, and "unknown" if they are strings.
    standardize : bool
        Whether the network subtracts the mean of each input and divides by its standard deviation, both learned on X
        in `fit`, or in the first call of `partial_fit`, which needs at least two rows. Later calls and `warm_start`
        keep them. The columns of a sparse matrix are only divided. Files contain them, so raw rows go in.
    image_shape : (int, int), or None
        (height, width) of the image in each row of X, if it is one. Files, plots and `fastnn.explain` use it.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The sorted labels.
    coefs_, intercepts_ : list of ndarray, (fan_in, fan_out) and (fan_out,)
    network_ : Network
        The fitted network, for `fastnn.explain` and the plots; it holds the same arrays.
    loss_, loss_curve_, best_loss_ : float, list of float, float or None
        The training loss of the last epoch, of each epoch, and the lowest one. The lowest is None with early stopping.
    validation_scores_, best_validation_score_ : list of float and float, or None without validation data
        Validation accuracies.
    history_ : DataFrame
        One row per epoch of all fits since the weights were drawn: learning rate, seconds, and losses and accuracies
        of training and validation data. These accuracies ignore sample weights.
    n_iter_, t_ : int
        The number of epochs of the last fit, and the number of samples trained on.
    n_layers_, n_outputs_, out_activation_ : int, int, {"softmax", "logistic"}
    n_features_in_, feature_names_in_ : int, ndarray of str

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> model = fastnn.MLPClassifier((32,), early_stopping=True, random_state=0, input_scale=1 / 16)
    >>> model = model.fit(data.images[:1400], data.labels[:1400])
    >>> model.score(data.images[1400:], data.labels[1400:]) > 0.85
    True
    >>> model.predict_proba(data.images[:2]).shape
    (2, 10)
    """

    _numeric_targets = False

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
        standardize: bool = False,
        image_shape: Any = None,
    ) -> None:
        self._set_parameters(locals())

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any,
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
        X : array-like or SciPy sparse matrix of shape (N, D)
            uint8 stays uint8 and CSR stays sparse; other dtypes become the estimator's dtype.
        y : array-like of shape (N,) or (N, C)
            Labels (N,) of any sortable type, or indicators (N, C) of 0 and 1 for multilabel targets.
        sample_weight : array-like of shape (N,), or None
            The weight of each sample, 0 or more.
        validation_data : (X, y) or (X, y, sample_weight), or None
            Evaluated after each epoch: `history_` holds the losses and `validation_scores_` the accuracies.
            `early_stopping` uses these data instead of holding out a part of X.
        X_val, y_val, sample_weight_val
            Another way to give the validation data, with the names of scikit-learn. A pipeline transforms `X_val` like
            X if it has ``transform_input=["X_val"]``; it cannot transform `validation_data`.
        checkpoint : str, path or Checkpoint, or None
            A file for the state of the fit, see `fastnn.Checkpoint`. If it exists, the fit goes on from it, to the same
            bits as one that was never stopped; a fit that had ended is restored. The parameters and the data must be
            those of that fit, and `random_state` an integer. Not for ``warm_start=True`` and the solver "lbfgs".

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data are invalid.
        TypeError
            If X or y is not an array.
        DivergenceError
            If the loss becomes NaN or infinite. Its `result` holds the network of the last good epoch.
        TrainingInterrupted
            On Ctrl-C; it is a KeyboardInterrupt. The estimator is then fitted up to the last complete epoch.
        """
        validation = joined_validation(validation_data, X_val, y_val, sample_weight_val)
        with self._fitting():
            return self._fit(X, y, sample_weight, validation, incremental=False, tasks=True, checkpoint=checkpoint)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict` for X, weighted by `sample_weight`. Arguments as in `fit`."""
        y, sample_weight = check_scored(y, sample_weight, numeric=False)
        return float(super().score(X, y, sample_weight))

    @if_epochs
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one more epoch on X and y, resuming weights and optimizer state.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`, which also lists the errors.
        classes : array-like of shape (C,)
            All labels that can occur in any call. Required in the first call.

        Returns
        -------
        self
        """
        with self._fitting() as kept:
            self._set_classes(y, classes)
            if kept is not None and continue_fit(self, kept, X, y, sample_weight):
                return self
            return self._fit(X, y, sample_weight, None, incremental=True)

    @reads_one_fit
    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row, or `unknown_label` if its probability is below `threshold`.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (N, D)

        Returns
        -------
        ndarray of shape (N,)
            For multilabel targets, indicators of shape (N, C).
        """
        proba = self.predict_proba(X)
        if self._multilabel and self.threshold is not None:
            raise ValueError(NO_THRESHOLD)
        return decide(proba, self.classes_, self._unknown(), self._multilabel)

    @reads_one_fit
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like or SciPy sparse matrix of shape (N, D)

        Returns
        -------
        ndarray of shape (N, C), in the estimator's dtype
            Columns follow `classes_`. Rows sum to 1, except for multilabel targets, whose columns are independent.
        """
        return class_probabilities(self._outputs(X), len(self.classes_), self._multilabel)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`, minus infinity for probabilities of 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _set_classes(self, y: Any, classes: Any) -> None:
        """Set `classes_` in the first call of `partial_fit`, and check `classes` in later calls."""
        if isinstance(self.class_weight, str):
            raise ValueError("class_weight 'balanced' needs all data at once, expected a dict for partial_fit")
        known = getattr(self, "classes_", None)
        if known is not None and type(classes) in (np.ndarray, list) and np.array_equal(classes, known):
            return
        if classes is not None:
            labels = unique_labels(check_labels_given(classes, "classes", numeric=False))
            if known is not None and not np.array_equal(known, labels):
                raise ValueError(f"classes is {short(classes)}, expected {known.tolist()} as in the first call")
            self.classes_ = labels
        elif known is None:
            if type_of_target(y) != "multilabel-indicator":
                raise ValueError("classes is None, expected all labels in the first call of partial_fit")
            self.classes_ = np.arange(np.shape(y)[1])

    @property
    def _multilabel(self) -> bool:
        return self.out_activation_ == "logistic" and self.n_outputs_ > 1

    def _unknown(self) -> tuple[float, Any] | None:
        """Return `threshold` and the label for rows below it; raise ValueError if the label is unusable."""
        if self.threshold is None:
            return None
        text = self.classes_.dtype.kind in "OUS"
        label = self.unknown_label
        if label is None:
            label = "unknown" if text else -1
        if isinstance(label, str) != text or label in self.classes_.tolist():
            expected = "a string" if text else "a number"
            raise ValueError(f"unknown_label is {label!r}, expected {expected} that is none of the classes")
        return float(self.threshold), label

    # --- Hooks of BaseMLP ------------------------------------------------------------------------------------------
    def _encode(self, y: Any, *, warm: bool, incremental: bool) -> np.ndarray:
        """Return the targets of the network for `y`.

        - more than two classes: class numbers (N,)
        - at most two classes: 0 and 1, (N, 1)
        - multilabel targets: 0 and 1, (N, C)

        Sets `classes_` unless a previous fit or call has set them.
        """
        keep_classes = warm or (incremental and hasattr(self, "classes_"))
        if is_plain_labels(y):
            return self._encode_labels(y, keep_classes, warm, incremental)
        if type_of_target(y, input_name="y", raise_unknown=True) == "multilabel-indicator":
            indicators = y.toarray() if is_sparse(y) else np.asarray(y)
            if not keep_classes:
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
            raise ValueError(f"y has shape {y.shape}, expected (N,): multiclass-multioutput targets are not supported")
        return self._encode_labels(y, keep_classes, warm, incremental)

    def _encode_labels(self, y: np.ndarray, keep_classes: bool, warm: bool, incremental: bool) -> np.ndarray:
        """Do the work of `_encode` for labels (N,)."""
        try:
            labels = interruptible(np.unique, y, work=PER_SORT * len(y))
            known = self.classes_ if keep_classes else labels
            numbers = np.searchsorted(known, y)
        except TypeError as error:
            raise ValueError(
                "y mixes labels of types that cannot be sorted, expected for example only strings"
            ) from error
        unseen = () if known is labels else np.setdiff1d(labels, known)
        if len(unseen):
            raise ValueError(f"y has the new classes {unseen.tolist()}, expected only {known.tolist()}")
        if warm and self.warm_start and not incremental and len(labels) < len(known):
            raise ValueError(
                f"y has the classes {labels.tolist()}, expected {known.tolist()} as in the previous fit with warm_start"
            )
        self.classes_ = known
        self._unknown()
        return numbers.astype(self._dtype)[:, None] if len(known) <= 2 else numbers

    def _plain_targets(self, y: Any, n_rows: int) -> np.ndarray | None:
        """Return what `_encode` returns, checked, within microseconds; None if its checks are necessary."""
        numbers = None if self._multilabel else plain_labels(y, n_rows, self.classes_)
        if numbers is None or len(self.classes_) > 2:
            return numbers
        return numbers.astype(self._dtype)[:, None]

    def _output(self, targets: np.ndarray) -> tuple[str, int]:
        return ("softmax", len(self.classes_)) if targets.ndim == 1 else ("logistic", targets.shape[1])

    def _stratify(self, targets: np.ndarray) -> np.ndarray | None:
        """Return the classes to stratify by. Like scikit-learn, only targets of one column are stratified."""
        return targets if targets.ndim == 2 and targets.shape[1] == 1 else None

    def _class_weight(self, targets: np.ndarray) -> np.ndarray | None:
        if self.class_weight is None:
            return None
        if targets.ndim == 2 and targets.shape[1] > 1:
            raise ValueError("class_weight is set, expected None for multilabel y: use sample_weight")
        numbers, classes = targets.reshape(-1).astype(np.int64), self.classes_.tolist()
        if self.class_weight == "balanced":
            counts = np.bincount(numbers, minlength=len(classes))
            by_class = len(numbers) / (len(classes) * np.maximum(1, counts))
        else:
            unknown = [label for label in self.class_weight if label not in classes]
            if unknown:
                raise ValueError(f"class_weight has {unknown}, which are not classes, expected some of {classes}")
            by_class = np.array([float(self.class_weight.get(label, 1)) for label in classes])
        weight: np.ndarray = by_class[numbers]
        return check_sample_weight(weight, len(numbers), np.dtype(np.float64))

    def _score_logits(self, logits: np.ndarray, targets: np.ndarray, weight: np.ndarray | None) -> float:
        is_correct = LOSSES[self.out_activation_].is_correct
        assert is_correct is not None
        return float(np.average(is_correct(logits, targets), weights=weight))

    def _model_fields(self) -> dict[str, Any]:
        unknown = self._unknown()
        return {
            "classes": tuple(map(_stored_label, self.classes_.tolist())),
            "unknown": None if unknown is None else (unknown[0], _stored_label(unknown[1])),
        }

    def _set_model_fields(self, model: Model) -> None:
        if model.classes is None:
            raise DataError("the model is a regressor, expected a classifier: use MLPRegressor.from_model")
        self.classes_ = np.array(model.classes)
        if model.unknown is not None:
            self.threshold, self.unknown_label = model.unknown

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _stored_label(label: Any) -> int | str:
    """Return a label as a model file stores it: whole numbers and booleans as int; DataError for other numbers."""
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, str):
        return label
    if not isinstance(label, (bool, int, float)) or not math.isfinite(label) or int(label) != label:
        raise DataError(f"a label is {label!r}, expected whole numbers, booleans or strings to save or export")
    return int(label)
