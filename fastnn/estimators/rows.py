"""Accepts the inputs of a small prediction within microseconds, if scikit-learn's checks would find nothing."""

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
    and warnings. Whether an array is finite is not checked here if the network does not standardise its inputs: with
    ``check_finite=True``, a backend finds that out while it reads them.
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
    if network.standardization is not None:
        if X.size > MAX_CAST_SIZE or (X.dtype not in _REALS and X.dtype not in _OTHERS):
            return None
        rows = X if X.dtype in _REALS else X.astype(np.float64)
        return rows if np.isfinite(rows).all() else None
    if X.dtype == network.dtype or (X.size > MAX_CAST_SIZE and X.dtype in _REALS):
        return X
    if X.size > MAX_CAST_SIZE or (X.dtype not in _REALS and X.dtype not in _OTHERS):
        return None
    with np.errstate(over="ignore"):  # what becomes infinite is not finite in the dtype of the network
        return X.astype(network.dtype)


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
