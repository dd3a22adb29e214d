"""The inputs of a data set that are not 0, in the forms that kernels take: samples as lists, and strips of samples."""

from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.compiled.layout import no_csr, readonly_view, to_csr
from fastnn.kernels import layout as layers
from fastnn.kernels.inputs.csr import Csr, list_inputs
from fastnn.kernels.inputs.row_blocks import MOST_UNITS, ROW_BLOCK, Bsr, count_row_blocks, fill_row_blocks, mark_inputs
from fastnn.kernels.vector.simd import VECTOR, WHOLE_REGISTERS
from fastnn.network.aligned import aligned_zeros

# Samples that are looked at to find the inputs that tell most of them apart, how many inputs are compared for that, and
# how many taken.
_LOOKED_AT, _COMPARED, _TAKEN = 2048, 512, 20
# Where a sample has less than one input in so many, sixteen have little in common, and counting that would take long.
_RAREST = 64


class RowBlocks(NamedTuple):
    """The samples' numbers in the order in which strips have them, int64 (N,), and the strips."""

    order: np.ndarray
    bsr: Bsr

    @property
    def is_worthwhile(self) -> bool:
        """Whether samples have so much in common that strips are the faster way."""
        return len(self.bsr.indptr) > 0


class Nonzero:
    """A data set's inputs other than 0, each form made when it is first asked for.

    The data set is `images` (N, D), of a dtype that kernels take, or, if these are (0, D), the SciPy matrix `given`.
    real: the working dtype. `count` is how many inputs are not 0.
    """

    def __init__(self, images: np.ndarray, given: Any, real: np.dtype) -> None:
        self.count = int(np.count_nonzero(images)) if given is None else given.nnz
        self._images, self._given, self._real = images, given, real
        self._kind: type[np.unsignedinteger] = np.uint16 if images.shape[1] <= 2**16 else np.uint32
        self._lists: Csr | None = None
        self._row_blocks: RowBlocks | None = None

    def given_lists(self, kind: type[np.unsignedinteger]) -> Csr:
        """The data set with indices of that dtype if it was given as lists, else empty arrays."""
        if self._given is None:
            return no_csr(kind, self._images.dtype)
        return to_csr(self._given, self._real, kind)

    def no_lists(self) -> Csr:
        """Empty arrays of the dtypes of `lists`."""
        return no_csr(self._kind, self._images.dtype)

    def lists(self) -> Csr:
        """The data set in compressed sparse rows."""
        if self._lists is None:
            self._lists = self._list()
        return self._lists

    def no_row_blocks(self) -> Bsr:
        """Empty arrays of the dtypes of `strips`."""
        dtypes = (np.int64, self._kind, self._images.dtype, np.uint16)
        return Bsr(*(readonly_view(np.empty(0, dtype)) for dtype in dtypes))

    def row_blocks(self, n_units: int) -> RowBlocks:
        """The data set in strips, or none where lists are the faster way into a layer of `n_units`: always the same."""
        if self._row_blocks is None:
            csr = self._lists or self._list()
            self._row_blocks = self._cut(csr, n_units)
            if not self._row_blocks.is_worthwhile:  # row blocks make the lists unnecessary: half as much memory again
                self._lists = csr
        return self._row_blocks

    def _list(self) -> Csr:
        if self._given is not None:
            return self.given_lists(self._kind)
        room = self.count + VECTOR  # the kernel writes vectors at once
        csr = Csr(
            np.zeros(len(self._images) + 1, np.int64), np.empty(room, self._kind), np.empty(room, self._images.dtype)
        )
        list_inputs(self._images, csr)
        return Csr(*map(readonly_view, csr))

    def _cut(self, csr: Csr, n_units: int) -> RowBlocks:
        n_inputs, n_row_blocks = self._images.shape[1], -(-(len(csr.indptr) - 1) // ROW_BLOCK)
        none = RowBlocks(np.empty(0, np.int64), self.no_row_blocks())
        if n_units > MOST_UNITS or n_row_blocks * ROW_BLOCK * n_inputs > _RAREST * self.count:
            return none
        order = _similar_order(csr, n_inputs)
        nonzero_masks = np.zeros(-(-n_row_blocks * ROW_BLOCK // layers.BLOCK) * n_inputs, np.uint16)
        indptr = np.zeros(n_row_blocks + 1, np.int64)
        count_row_blocks(csr, order, n_inputs, indptr, nonzero_masks)
        n_entries = int(indptr[-1])
        if n_entries * MOST_UNITS > _multiplications_an_entry(self._real, n_units) * self.count:
            return none
        data = aligned_zeros(n_entries * ROW_BLOCK, self._images.dtype)
        bsr = Bsr(indptr, np.zeros(n_entries, self._kind), data, nonzero_masks)
        fill_row_blocks(csr, order, bsr, np.zeros(n_inputs, np.int64))
        return RowBlocks(order, Bsr(*map(readonly_view, bsr)))


def _multiplications_an_entry(real: np.dtype, n_units: int) -> float:
    """How many multiplications of a strip take as long as an entry of a sample's own list, or a little less."""
    if real == np.float32:
        return 2.0
    # Sixteen float64 are two registers of AVX-512 and more than AVX2 has for the sums; lists take eight units at once.
    return 1.4 if WHOLE_REGISTERS and n_units > VECTOR // real.itemsize else 0.0


def _similar_order(csr: Csr, n_inputs: int) -> np.ndarray:
    """The samples in an order in which neighbours mostly have the same inputs.

    They are sorted by whether they have the input that tells most about all others, then by the one that tells most
    about what is left, and so on: the order of Gray's code, in which only one of these changes at a time.
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
    """The inputs that explain most of the variance of all, what those before them explain taken out, by a sample."""
    n_samples = len(csr.indptr) - 1
    chosen = range(0, n_samples, -(-n_samples // _LOOKED_AT))
    lists = [csr.indices[csr.indptr[s] : csr.indptr[s + 1]] for s in chosen]
    counts = np.bincount(np.concatenate(lists), minlength=n_inputs)
    compared = np.argsort(np.abs(2 * counts - len(lists)), kind="stable")[:_COMPARED]
    place = np.full(n_inputs, len(compared))
    place[compared] = np.arange(len(compared))
    has = np.zeros((len(lists), len(compared) + 1), np.float32)
    for row, indices in zip(has, lists, strict=True):
        row[place[indices]] = 1
    # Whole numbers, so that the product is exact, whatever the order of its sums: the same inputs on every machine.
    together, share = (has[:, :-1].T @ has[:, :-1]).astype(np.float64), counts[compared] / len(lists)
    covariance, informative = together - np.outer(share, counts[compared]), []
    for _ in range(min(_TAKEN, len(compared))):
        explained = (covariance**2).sum(axis=0) / np.maximum(covariance.diagonal(), 1)
        best = int(np.argmax(explained))
        if covariance[best, best] < 1:  # of 2048 samples: the others say nothing that these do not
            break
        informative.append(int(compared[best]))
        covariance -= np.outer(covariance[best], covariance[best]) / covariance[best, best]
    return informative
