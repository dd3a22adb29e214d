"""`NetworkClassifier`: what the classifiers have in common, whatever layers their networks have."""

import math
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from fastnn.backends.arguments import check_sample_weight
from fastnn.checks import short
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.estimators.arguments import check_labels_given, check_scored
from fastnn.estimators.base import NetworkEstimator, if_epochs
from fastnn.estimators.blocks import check_no_y, classes_of_blocks, scored_blocks
from fastnn.estimators.callbacks import with_callbacks
from fastnn.estimators.continuation import continue_fit
from fastnn.estimators.data_checks import joined_validation
from fastnn.estimators.descriptions import described
from fastnn.estimators.one_fit import reads_one_fit
from fastnn.estimators.plain_data import is_plain_labels, plain_labels
from fastnn.interruptible import PER_SORT, interruptible
from fastnn.models.model import Model, class_probabilities, decide
from fastnn.network import LOSSES
from fastnn.streams import BlockedData

NO_THRESHOLD = "threshold is set, expected None for multilabel y, whose labels have separate probabilities"


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """Base class of the classifiers. A subclass has the parameters, and a mixin that makes layers of them."""

    _numeric_targets = False

    classes_: np.ndarray
    class_weight: Any
    threshold: float | None
    unknown_label: Any

    @with_callbacks
    @described("NetworkClassifier")
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

    @described("NetworkClassifier")
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy of `predict` for X, weighted by `sample_weight`.

        Parameters
        ----------
        {X}
        {y}
        {sample_weight}

        Returns
        -------
        float
            From 0 to 1. For multilabel targets, the fraction of samples whose labels are all correct.
        """
        if isinstance(X, BlockedData):
            y, predicted = scored_blocks(self, X, y)
            y, sample_weight = check_scored(y, sample_weight, numeric=False)
            return float(accuracy_score(y, predicted, sample_weight=sample_weight))
        y, sample_weight = check_scored(y, sample_weight, numeric=False)
        return float(super().score(X, y, sample_weight))

    @if_epochs
    @described("NetworkClassifier")
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one more epoch on X and y, resuming weights and optimizer state.

        Parameters
        ----------
        {X}
        {y}
        {sample_weight}
        {classes}

        Returns
        -------
        {self}

        Raises
        ------
        {raises}
        """
        with self._fitting() as kept:
            if isinstance(X, BlockedData) and classes is None and not hasattr(self, "classes_"):
                check_no_y(X, y)
                classes = classes_of_blocks(X)
            self._set_classes(y, classes)
            if kept is not None and not isinstance(X, BlockedData) and continue_fit(self, kept, X, y, sample_weight):
                return self
            return self._fit(X, y, sample_weight, None, incremental=True)

    @reads_one_fit
    @described("NetworkClassifier")
    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each row, or `unknown_label` if its probability is below `threshold`.

        Parameters
        ----------
        {X}

        Returns
        -------
        ndarray of shape (N,), in the dtype of `classes_`
            For multilabel targets, indicators of shape (N, C).
        """
        proba = self.predict_proba(X)
        if self._multilabel and self.threshold is not None:
            raise ValueError(NO_THRESHOLD)
        return decide(proba, self.classes_, self._unknown(), self._multilabel)

    @reads_one_fit
    @described("NetworkClassifier")
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        {X}

        Returns
        -------
        ndarray of shape (N, C), in the estimator's dtype
            Columns follow `classes_`. Rows sum to 1, except for multilabel targets, whose columns are independent.
        """
        return class_probabilities(self._outputs(X), len(self.classes_), self._multilabel)

    @described("NetworkClassifier")
    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        {X}

        Returns
        -------
        ndarray of shape (N, C), in the estimator's dtype
            Minus infinity for probabilities of 0.
        """
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

    # --- Hooks of NetworkEstimator -----------------------------------------------------------------------------------
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
            if labels.dtype == object:
                labels = np.array(labels.tolist())  # an array of strings, as in scikit-learn
            known = self.classes_ if keep_classes else labels
            numbers = np.searchsorted(known, y)
        except TypeError as error:
            raise ValueError(
                "y mixes labels of types that cannot be sorted, expected for example only strings"
            ) from error
        if warm and self.warm_start and not incremental and not np.array_equal(labels, known):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {known}, `y` has {labels}"
            )
        unseen = labels[:0] if known is labels else np.setdiff1d(labels, known)
        if len(unseen):
            raise ValueError(f"y has the new classes {unseen.tolist()}, expected only {known.tolist()}")
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
        return targets.astype(bool) if targets.ndim == 2 and targets.shape[1] == 1 else None

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
        unknown, labels = self._unknown(), self.classes_.tolist()
        if unknown is None:
            return {"classes": tuple(map(_stored_label, labels)), "unknown": None}
        # The label for unknown rows makes numbers of booleans, as in `predict`.
        dtype = np.result_type(self.classes_, np.array(unknown[1])) if self.classes_.dtype.kind in "biuf" else object
        *labels, label = np.array([*labels, unknown[1]], dtype).tolist()
        return {"classes": tuple(map(_stored_label, labels)), "unknown": (unknown[0], _stored_label(label))}

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


def _stored_label(label: Any) -> bool | int | float | str:
    """Return a label as a model file stores it; DataError for what is no finite number and no string."""
    if isinstance(label, np.generic):
        label = label.item()
    if not isinstance(label, (str, bool, int, float)) or (isinstance(label, float) and not math.isfinite(label)):
        raise DataError(f"a label is {label!r}, expected finite numbers, booleans or strings to save or export")
    return label
