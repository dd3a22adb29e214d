"""Checks SciPy's matrices in compressed sparse rows (CSR), without importing SciPy."""

from typing import Any

import numpy as np

from fastnn.errors import DataError


def is_sparse(inp: Any) -> bool:
    """Return whether `inp` is a SciPy sparse matrix or array, of any format."""
    return not isinstance(inp, np.ndarray) and hasattr(inp, "tocsr")


def canonical(inp: Any) -> Any:
    """Return the CSR matrix `inp` with sorted column indices, no duplicates and no explicit zeros.

    Therefore equal data give equal index and value arrays. The result shares the arrays of `inp` if they already have
    this form; otherwise it has copies. The arrays of `inp` are never changed.

    Raises DataError if `inp` has another sparse format, or if its indptr or indices do not match its shape. The kernels
    rely on this check.
    """
    if inp.format != "csr":
        raise DataError(f"inputs are a sparse matrix of format {inp.format!r}, expected 'csr': try .tocsr()")
    indptr, indices, data = inp.indptr, inp.indices, inp.data
    has_rows = len(indptr) == inp.shape[0] + 1 and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    consistent = has_rows and len(indices) == len(data) and indptr[-1] <= len(data)
    if not consistent or (len(indices) and not (indices.min() >= 0 and indices.max() < inp.shape[1])):
        raise DataError(f"inputs are a CSR matrix whose indptr or indices do not fit its shape {inp.shape}")
    # A new object: SciPy caches in it whether the indices are sorted, and trusts that cache later.
    matrix = type(inp)((data[: indptr[-1]], indices[: indptr[-1]], indptr), shape=inp.shape)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if np.count_nonzero(matrix.data) < len(matrix.data):
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return matrix
