"""Accepts plain inputs of a prediction without scikit-learn's checks, which take longer than a small prediction."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array, csr_matrix

from fastnn.backends.arguments import are_finite
from fastnn.estimators.plain_data import MAX_CAST_SIZE

# Larger sparse inputs are checked by scikit-learn: that takes only a small part of the time of their prediction.
MAX_PLAIN_ENTRIES = 2**20
_BYTES = np.dtype(np.uint8)
_REALS = frozenset(map(np.dtype, (np.float32, np.float64)))
# Other numbers become the working dtype, as in scikit-learn's checks.
_OTHERS = frozenset(map(np.dtype, "?bhHiIlLqQe"))


def rows_to_predict(estimator: Any, X: Any) -> Any:
    """Return `X` in the form of `DataChecksMixin._check_data`, or None if scikit-learn's checks are necessary.

    Those checks take a hundred times as long as the prediction of one row. They find nothing in finite numbers with the
    right shape, if neither the fit nor `X` has feature names. Everything else is left to them, and so are all errors
    and warnings. If the network does not standardise its inputs, an array is returned without a check whether it is
    finite: predict it with ``check_finite=True``, and run scikit-learn's checks if that raises DataError.
    """
    fitted = estimator.__dict__
    if "feature_names_in_" in fitted or "network_" not in fitted:
        return None
    if type(X) is np.ndarray:
        return _plain_array(fitted, X)
    if estimator._accepts_sparse and (type(X) is csr_matrix or type(X) is csr_array):
        return _plain_csr(fitted, X)
    return None


def _plain_array(fitted: dict[str, Any], X: np.ndarray) -> np.ndarray | None:
    if X.ndim != 2 or not X.size or X.shape[1] != fitted.get("n_features_in_"):
        return None
    if X.dtype == _BYTES:
        return X
    network = fitted["network_"]
    if X.size > MAX_CAST_SIZE:
        return X if X.dtype in _REALS and network.standardization is None else None
    if X.dtype not in _REALS and X.dtype not in _OTHERS:
        return None
    if network.standardization is not None:
        rows = X if X.dtype in _REALS else X.astype(np.float64)
        return rows if np.isfinite(rows).all() else None
    with np.errstate(over="ignore"):  # what becomes infinite is not finite in the dtype of the network
        return X.astype(network.dtype, copy=False)


def _plain_csr(fitted: dict[str, Any], X: Any) -> Any:
    """Return `X` itself: the backend checks its structure, and converts its values."""
    shape, data, network = X.shape, X.data, fitted["network_"]
    if (
        len(shape) != 2
        or not shape[0]
        or shape[1] != fitted.get("n_features_in_")
        or type(data) is not np.ndarray
        or data.ndim != 1
        or data.size > MAX_PLAIN_ENTRIES
        or network.standardization is not None
    ):
        return None
    if data.dtype == _BYTES:
        return X
    return X if data.dtype in _REALS and are_finite(data, network.dtype) else None
