"""Checks SciPy's matrices in compressed sparse rows (CSR), without importing SciPy."""

from typing import Any

import numpy as np

from fastnn.errors import DataError


def is_sparse(inp: Any) -> bool:
    """Return whether `inp` is a SciPy sparse matrix or array, of any format."""
    return not isinstance(inp, np.ndarray) and hasattr(inp, "tocsr")


def canonical(inp: Any) -> Any:
    """Return the CSR matrix `inp` with sorted column indices, no duplicates and no explicit zeros.

    Therefore equal data give equal index and value arrays. The result has its own `indptr` and `indices`, which are
    checked after they are copied: kernels read and write where these say, and the caller's arrays may change at any
    time. It shares the values if they already have this form. The arrays of `inp` are never changed.

    Raises DataError if `inp` has another sparse format, or if its indptr or indices do not match its shape. The kernels
    rely on this check. Flags that SciPy has cached in `inp` are ignored.
    """
    if getattr(inp, "format", None) != "csr":
        found = getattr(inp, "format", type(inp).__name__)
        raise DataError(f"inputs are a sparse matrix of format {found!r}, expected 'csr': try .tocsr()")
    indptr, indices, data, shape = np.array(inp.indptr), np.array(inp.indices), np.asarray(inp.data), inp.shape
    if not _fits(indptr, indices, data, shape):
        raise DataError(f"inputs are a CSR matrix whose indptr or indices do not fit its shape {shape}")
    matrix = type(inp)((data[: indptr[-1]], indices[: indptr[-1]], indptr), shape=shape)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if np.count_nonzero(matrix.data) < len(matrix.data):
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return matrix


def _fits(indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Return whether the arrays of a CSR matrix fit its shape."""
    if len(shape) != 2 or any(each.ndim != 1 for each in (indptr, indices, data)):
        return False
    if any(each.dtype.kind not in "iu" for each in (indptr, indices)):
        return False
    # Neighbours are compared, not subtracted: a difference can wrap.
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or not (indptr[1:] >= indptr[:-1]).all():
        return False
    if len(indices) != len(data) or indptr[-1] > len(data):
        return False
    used = indices[: indptr[-1]]
    return not len(used) or bool(used.min() >= 0 and used.max() < shape[1])
