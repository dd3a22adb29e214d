"""SciPy's matrices in compressed sparse rows (CSR) as inputs. Nothing here imports SciPy; who makes one does."""

from typing import Any

import numpy as np

from fastnn.errors import DataError


def is_sparse(inp: Any) -> bool:
    """Whether `inp` is a sparse matrix or array, in whatever format."""
    return not isinstance(inp, np.ndarray) and hasattr(inp, "tocsr")


def canonical(inp: Any) -> Any:
    """The CSR matrix `inp` with each row's entries in rising order, none twice and none 0: equal data, equal lists.

    The result shares the arrays of `inp` if these are so already; otherwise they are copied, and never written.

    Raises
    ------
    DataError
        If `inp` is in another sparse format, or its lists are no rows of the matrix: kernels go where these say.
    """
    if inp.format != "csr":
        raise DataError(f"inputs are sparse in the format {inp.format!r}, expected 'csr': try .tocsr()")
    indptr, indices, data = inp.indptr, inp.indices, inp.data
    rows = len(indptr) == inp.shape[0] + 1 and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    whole = rows and len(indices) == len(data) and indptr[-1] <= len(data)
    if not whole or (len(indices) and not (indices.min() >= 0 and indices.max() < inp.shape[1])):
        raise DataError(f"inputs are a CSR matrix of shape {inp.shape} whose indptr or indices lead outside it")
    # An object of its own: SciPy notes in it what it finds out about the order, and believes such notes.
    matrix = type(inp)((data[: indptr[-1]], indices[: indptr[-1]], indptr), shape=inp.shape)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    if np.count_nonzero(matrix.data) < len(matrix.data):
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    return matrix
