"""`DataChecksMixin`: the checks of X, y, sample weights and validation data, those of scikit-learn included."""

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from fastnn.backends.arguments import are_finite, check_sample_weight
from fastnn.checks import is_number
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.estimators.arguments import check_labels_given, check_rows, check_weights_given
from fastnn.estimators.plain_data import MAX_CAST_SIZE, N_PASSES, plain_rows
from fastnn.estimators.stacklevel import users_stacklevel
from fastnn.interruptible import LONG_WORK, interruptible
from fastnn.network import Network

# The mean of fewer validation rows says too little about their scale.
MIN_ROWS_TO_COMPARE = 5


class DataChecksMixin(BaseEstimator):
    """Mixin for the checks of data. The estimator defines `_encode`, `_as_rows`, and what it accepts."""

    _numeric_targets: bool  # whether the targets are numbers, rather than labels
    _accepts_sparse: bool  # whether X may be a sparse matrix

    dtype: str
    standardize: bool
    network_: Network
    n_features_in_: int

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(self.dtype)

    def _check_data(self, X: Any, y: Any = "no_validation", *, reset: bool, source: str = "") -> Any:
        """Return X, and y if given, after scikit-learn's checks. `source` is what messages add to "X" and "y".

        uint8 stays uint8, other dtypes become the working dtype, and sparse matrices become CSR. Finiteness is checked
        after the cast, because the cast can make a large float64 infinite. A network that standardises its inputs does
        so in float64, so float64 inputs stay as they are for it. So do large arrays: a cast would copy all of them,
        and backends cast them part by part. The check then tests whether the cast would make them infinite.
        """
        plain = None if isinstance(y, str) else self._plain_data(X, y, reset)
        if plain is not None:
            return plain, y
        check_rows(X, f"X{source}")
        if not isinstance(y, str):
            y = check_labels_given(y, f"y{source}", numeric=self._numeric_targets)
        X = self._as_rows(X, reset)
        dtype = self.network_.dtype if isinstance(y, str) else self._dtype
        dtypes = [dtype, np.dtype(np.uint8)]
        if self.network_.standardization is not None if isinstance(y, str) else self.standardize:
            dtypes = [np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.uint8)]
        elif getattr(X, "size", 0) > MAX_CAST_SIZE and not is_sparse(X):
            dtypes = [*dtypes, np.dtype(np.float64)]
        options: dict[str, Any] = {"accept_sparse": "csr" if self._accepts_sparse else False}
        if not isinstance(y, str):
            options |= {"multi_output": True, "y_numeric": self._numeric_targets}
        try:
            with np.errstate(over="ignore"):
                checked = self._validated(X, y, dtype=dtypes, reset=reset, **options)
        except OverflowError as error:  # a Python integer beyond the range of float64
            raise ValueError(f"Input X contains a value too large for {dtype}") from error
        inputs = checked if isinstance(y, str) else checked[0]
        is_cast_later = len(dtypes) > 2 and dtypes[0] == dtype and inputs.dtype.itemsize > dtype.itemsize
        if is_cast_later and not interruptible(are_finite, inputs, dtype, work=N_PASSES * inputs.size):
            raise ValueError(f"Input X contains infinity or a value too large for {dtype!r}.")
        return checked

    def _plain_data(self, X: Any, y: Any, reset: bool) -> np.ndarray | None:
        """Return X as scikit-learn's checks of X and y would, and set what they set; None if they are necessary."""
        if type(X) is not np.ndarray or X.ndim != 2 or self.standardize:
            return None
        if not reset and ("feature_names_in_" in vars(self) or self.n_features_in_ != X.shape[1]):
            return None
        if type(y) is not np.ndarray or y.shape != (len(X),):
            return None
        if y.dtype not in (np.float32, np.float64) if self._numeric_targets else y.dtype.kind not in "iub":
            return None
        rows = plain_rows(X, X.shape[1], self._dtype) if are_finite(y, y.dtype) else None
        if rows is not None and reset:
            self.__dict__.pop("feature_names_in_", None)
            self.n_features_in_ = X.shape[1]
        return rows

    def _validated(self, X: Any, y: Any, **options: Any) -> Any:
        """Return the result of scikit-learn's `validate_data`. Large data are checked so that Ctrl-C interrupts it."""
        work = N_PASSES * getattr(X, "size", 0)
        if work < LONG_WORK:
            return validate_data(self, X, y, **options)
        stand_in = object.__new__(type(self))  # a check that Ctrl-C has ended must not change this estimator
        stand_in.__dict__.update(self.__dict__)
        checked = interruptible(validate_data, stand_in, X, y, work=work, **options)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(stand_in, name):
                setattr(self, name, getattr(stand_in, name))
            else:
                self.__dict__.pop(name, None)
        return checked

    def _check_validation(self, validation_data: Any, training: Any) -> tuple[Dataset | None, np.ndarray | None]:
        """Return the user's validation data, checked like the inputs for training, and their sample weights."""
        if validation_data is None:
            return None, None
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            found = type(validation_data).__name__
            raise ValueError(f"validation_data is {found}, expected (X, y) or (X, y, sample_weight)")
        X, y, *weight = validation_data
        X, y = self._check_data(X, y, reset=False, source=" of validation_data")
        data = Dataset(X, self._encode(y, warm=True, incremental=True), name="validation_data")
        held_weight = self._check_weights(weight[0] if weight else None, len(data), " of validation_data")
        warn_of_other_scale(training, X)
        return data, check_sample_weight(held_weight, len(data), self._dtype)

    def _check_weights(self, sample_weight: Any, n_samples: int, source: str = "") -> np.ndarray | None:
        """Return the weight of each sample, float64; None if there are no weights. A number is the weight of all."""
        if sample_weight is None:
            return None
        dtype = np.dtype(np.float64)
        if is_number(sample_weight):
            sample_weight = np.full(n_samples, *check_weights_given([sample_weight], f"sample_weight{source}"))
        sample_weight = check_weights_given(sample_weight, f"sample_weight{source}")
        weight = check_array(sample_weight, ensure_2d=False, dtype=dtype, input_name="sample_weight")
        if not weight.any():  # scikit-learn's checks look for the word zero
            raise ValueError("sample_weight is zero for every sample, expected at least one above zero")
        return check_sample_weight(weight, n_samples, dtype)


def joined_validation(
    validation_data: Any, X_val: Any, y_val: Any, sample_weight_val: Any
) -> tuple[Any, ...] | list[Any] | None:
    """Return the validation data of a fit as one value, from either of the two ways to give them.

    Raises ValueError if both ways are used or a part is missing.
    """
    if X_val is None and y_val is None and sample_weight_val is None:
        return validation_data
    if validation_data is not None:
        raise ValueError("validation_data and X_val, y_val are given, expected one of them")
    for name, value in (("X_val", X_val), ("y_val", y_val)):
        if value is None:
            raise ValueError(f"{name} is None, expected X_val and y_val together")
    return (X_val, y_val) if sample_weight_val is None else (X_val, y_val, sample_weight_val)


def _mean_and_std(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)


def warn_of_other_scale(X: Any, X_val: Any) -> None:
    """Warn if validation inputs look as if a pipeline had transformed only the training inputs, (N, D) and (M, D).

    In data of one kind, hardly any column has a mean more than three standard deviations away from that of the
    training data. Sparse matrices are not examined.
    """
    if is_sparse(X) or is_sparse(X_val) or len(X_val) < MIN_ROWS_TO_COMPARE:
        return
    mean, std = interruptible(_mean_and_std, X, work=N_PASSES * X.size)
    distance = np.abs(X_val.mean(axis=0, dtype=np.float64) - mean)[std > 0] / std[std > 0]
    far = int(np.count_nonzero(distance > 3))
    if far > 0.2 * len(distance):
        warnings.warn(
            f"{far} of {X.shape[1]} columns of the validation data lie more than 3 standard deviations from X, "
            "expected data scaled alike: a pipeline does not transform validation_data; pass X_val and y_val, and "
            "transform_input=['X_val'] to the pipeline",
            UserWarning,
            stacklevel=users_stacklevel(),
        )
