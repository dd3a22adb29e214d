"""The nonzero inputs of a data set in the two forms that kernels use: one list per sample, and row blocks."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.compiled.layout import empty_csr, readonly_view, to_csr
from fastnn.errors import DataError
from fastnn.interruptible import interruptible
from fastnn.kernels.inputs.csr import Csr, list_inputs
from fastnn.kernels.inputs.row_blocks import MOST_UNITS, ROW_BLOCK, Bsr, count_row_blocks, fill_row_blocks, mark_inputs
from fastnn.kernels.layout import BLOCK
from fastnn.kernels.vector.simd import VECTOR, WHOLE_REGISTERS
from fastnn.network.aligned import aligned_zeros

# The numbers of samples drawn, inputs compared and inputs chosen to find the most informative inputs.
_N_SAMPLED, _N_COMPARED, _N_CHOSEN = 2048, 512, 20
# If fewer than one input in this many is nonzero, sixteen samples share too few inputs for row blocks. Counting the
# shared inputs would take long, so row blocks are not tried.
_MAX_INPUTS_PER_NONZERO = 64
# About how many times lists and row blocks read or write an entry.
_N_ENTRY = 16
# The number of inputs that are listed in one call of the kernel.
_LISTED_AT_ONCE = 2**20


class RowBlocks(NamedTuple):
    """A data set in row blocks, or empty arrays if lists are faster.

    order: (N,) int64, the samples in the order of the row blocks
    bsr: the row blocks
    """

    order: np.ndarray
    bsr: Bsr

    @property
    def is_faster(self) -> bool:
        """Whether row blocks are faster than lists because samples share many inputs."""
        return len(self.bsr.indptr) > 0


class NonzeroInputs:
    """The nonzero inputs of a data set. Each form is built on its first request.

    images: (N, D), uint8 or the working dtype; (0, D) if the data set is `matrix`
    matrix: None, or the data set as a SciPy CSR matrix
    real: the working dtype
    index_dtype: the dtype of the indices in `lists` and `row_blocks`
    is_matrix: whether the data set is a SciPy matrix
    """

    def __init__(self, images: np.ndarray, matrix: Any, real: np.dtype) -> None:
        self.is_matrix = matrix is not None
        self._images, self._matrix, self._real = images, matrix, real
        self.index_dtype: type[np.unsignedinteger] = np.uint16 if images.shape[1] <= 2**16 else np.uint32
        self._lists: Csr | None = None
        self._row_blocks: RowBlocks | None = None

    @cached_property
    def count(self) -> int:
        """The number of nonzero inputs. It is counted on the first request."""
        if self._matrix is not None:
            return int(self._matrix.nnz)
        return int(interruptible(np.count_nonzero, self._images, work=self._images.size))

    @property
    def _work(self) -> int:
        return self._images.size + _N_ENTRY * self.count

    def matrix_lists(self, index_dtype: type[np.unsignedinteger]) -> Csr:
        """The data set as lists with `index_dtype` indices if it is a SciPy matrix, otherwise empty arrays."""
        if self._matrix is None:
            return empty_csr(index_dtype, self._images.dtype)
        return to_csr(self._matrix, self._real, index_dtype)

    def empty_lists(self) -> Csr:
        """Empty arrays with the dtypes of `lists`."""
        return empty_csr(self.index_dtype, self._images.dtype)

    def lists(self) -> Csr:
        """The data set in compressed sparse rows."""
        if self._lists is None:
            self._lists = interruptible(self._make_lists, work=self._work)
        return self._lists

    def empty_row_blocks(self) -> Bsr:
        """Empty arrays with the dtypes of `row_blocks`."""
        dtypes = (np.int64, self.index_dtype, self._images.dtype, np.uint16)
        return Bsr(*(readonly_view(np.empty(0, dtype)) for dtype in dtypes))

    def row_blocks(self, n_units: int) -> RowBlocks:
        """The data set in row blocks, or empty arrays if lists are faster for a layer of `n_units`.

        The first call chooses: later calls return the same result.
        """
        if self._row_blocks is None:
            csr = self._lists or interruptible(self._make_lists, work=self._work)
            self._row_blocks = interruptible(self._make_row_blocks, csr, n_units, work=self._work)
            if not self._row_blocks.is_faster:  # with row blocks, lists would be half as much memory again
                self._lists = csr
        return self._row_blocks

    def _make_lists(self) -> Csr:
        if self._matrix is not None:
            return self.matrix_lists(self.index_dtype)
        csr = Csr(np.zeros(len(self._images) + 1, np.int64), *self._empty_entries(self.count))
        n_rows, at = max(1, _LISTED_AT_ONCE // self._images.shape[1]), 0
        for start in range(0, len(self._images), n_rows):
            at += self._list_rows(self._images[start : start + n_rows], csr, start, at)
        return Csr(*map(readonly_view, csr))

    def _empty_entries(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Arrays for the indices and the data of `count` entries, and of one vector more: the kernel stores vectors."""
        return np.empty(count + VECTOR, self.index_dtype), np.empty(count + VECTOR, self._images.dtype)

    def _list_rows(self, rows: np.ndarray, csr: Csr, start: int, at: int) -> int:
        """List the samples from `start` on in `csr`, from entry `at` on; return the number of their entries.

        The caller's array may have more nonzero inputs by now than when they were counted. So where the samples could
        fill more than the room that is left in `csr`, the kernel writes aside. DataError if there are more.
        """
        fits, indptr = at + rows.size <= self.count, csr.indptr[start : start + len(rows) + 1]
        indices, data = (csr.indices[at:], csr.data[at:]) if fits else self._empty_entries(rows.size)
        part = Csr(indptr, indices, data)
        list_inputs(rows, part)
        n_entries = int(indptr[-1])
        if at + n_entries > self.count:
            raise DataError("inputs changed while a trainer was made of them, expected them to stay as they are")
        if not fits:
            csr.indices[at : at + n_entries] = part.indices[:n_entries]
            csr.data[at : at + n_entries] = part.data[:n_entries]
        indptr += at
        return n_entries

    def _make_row_blocks(self, csr: Csr, n_units: int) -> RowBlocks:
        n_inputs, n_row_blocks = self._images.shape[1], -(-(len(csr.indptr) - 1) // ROW_BLOCK)
        empty = RowBlocks(np.empty(0, np.int64), self.empty_row_blocks())
        if n_units > MOST_UNITS or n_row_blocks * ROW_BLOCK * n_inputs > _MAX_INPUTS_PER_NONZERO * self.count:
            return empty
        order = _similar_order(csr, n_inputs)
        nonzero_masks = np.zeros(-(-n_row_blocks * ROW_BLOCK // BLOCK) * n_inputs, np.uint16)
        indptr = np.zeros(n_row_blocks + 1, np.int64)
        count_row_blocks(csr, order, n_inputs, indptr, nonzero_masks)
        n_entries = int(indptr[-1])
        if n_entries * MOST_UNITS > _multiplications_per_entry(self._real, n_units) * self.count:
            return empty
        data = aligned_zeros(n_entries * ROW_BLOCK, self._images.dtype)
        bsr = Bsr(indptr, np.zeros(n_entries, self.index_dtype), data, nonzero_masks)
        fill_row_blocks(csr, order, bsr, np.zeros(n_inputs, np.int64))
        return RowBlocks(order, Bsr(*map(readonly_view, bsr)))


def _multiplications_per_entry(real: np.dtype, n_units: int) -> float:
    """The number of multiplications in row blocks that take as long as one list entry, or slightly less."""
    if real == np.float32:
        return 2.0
    # Sixteen float64 fill two registers of AVX-512; AVX2 has too few registers for the sums. Lists add eight units at
    # once.
    return 1.4 if WHOLE_REGISTERS and n_units > VECTOR // real.itemsize else 0.0


def _similar_order(csr: Csr, n_inputs: int) -> np.ndarray:
    """The samples in an order in which neighbours mostly have the same nonzero inputs.

    They are sorted by whether they use the most informative input, then the next most informative one, and so on. The
    sort order is that of the Gray code, in which neighbouring codes differ in one of these inputs only.
    """
    n_samples, informative = len(csr.indptr) - 1, _most_informative_inputs(csr, n_inputs)
    bits = np.zeros(n_inputs, np.uint64)
    bits[informative] = np.uint64(1) << np.arange(63, 63 - len(informative), -1, dtype=np.uint64)
    marks = np.empty(n_samples, np.uint64)
    mark_inputs(csr, readonly_view(bits), marks)
    for shift in (1, 2, 4, 8, 16, 32):
        marks ^= marks >> np.uint64(shift)
    return np.argsort(marks, kind="stable")


def _most_informative_inputs(csr: Csr, n_inputs: int) -> list[int]:
    """The inputs whose use explains most of the variance of all inputs' use, estimated on a sample of the data set.

    Chosen greedily, as in a pivoted Cholesky decomposition: each one explains most of the variance that those before it
    leave unexplained.
    """
    n_samples = len(csr.indptr) - 1
    sampled = range(0, n_samples, -(-n_samples // _N_SAMPLED))
    lists = [csr.indices[csr.indptr[s] : csr.indptr[s + 1]] for s in sampled]
    counts = np.bincount(np.concatenate(lists), minlength=n_inputs)
    compared = np.argsort(np.abs(2 * counts - len(lists)), kind="stable")[:_N_COMPARED]
    column = np.full(n_inputs, len(compared))  # inputs that are not compared share a last column, which is dropped
    column[compared] = np.arange(len(compared))
    uses = np.zeros((len(lists), len(compared) + 1), np.float32)
    for row, indices in zip(uses, lists, strict=True):
        row[column[indices]] = 1
    # Sums of whole numbers are exact in any order, so every machine chooses the same inputs.
    together, frequency = (uses[:, :-1].T @ uses[:, :-1]).astype(np.float64), counts[compared] / len(lists)
    covariance, informative = together - np.outer(frequency, counts[compared]), []
    for _ in range(min(_N_CHOSEN, len(compared))):
        explained = (covariance**2).sum(axis=0) / np.maximum(covariance.diagonal(), 1)
        best = int(np.argmax(explained))
        if covariance[best, best] < 1:  # less than one in 2048 samples: the rest adds no information
            break
        informative.append(int(compared[best]))
        covariance -= np.outer(covariance[best], covariance[best]) / covariance[best, best]
    return informative
