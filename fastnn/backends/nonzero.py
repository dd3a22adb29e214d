"""The inputs of a data set that are not 0, in the forms that kernels take: samples as lists, and strips of samples."""

from typing import Any, NamedTuple

import numpy as np

from fastnn.aligned import aligned_zeros
from fastnn.backends.layout import no_csr, read_only, to_csr
from fastnn.kernels import layers
from fastnn.kernels.bsr_input import MOST_UNITS, STRIP, Bsr, count_strips, fill_strips, mark_inputs
from fastnn.kernels.csr_input import Csr, list_inputs

# Samples that are looked at to find the inputs that tell most of them apart, how many inputs are compared for that, and
# how many taken.
_LOOKED_AT, _COMPARED, _TAKEN = 2048, 512, 20
# An entry of a sample's own list takes as long as so many multiplications of a strip.
_MULTIPLICATIONS_AN_ENTRY = 2


class Strips(NamedTuple):
    """The samples' numbers in the order in which strips have them, int64 (N,), and the strips."""

    order: np.ndarray
    bsr: Bsr

    @property
    def serve(self) -> bool:
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
        self._strips: Strips | None = None

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

    def no_strips(self) -> Bsr:
        """Empty arrays of the dtypes of `strips`."""
        dtypes = (np.int64, self._kind, self._images.dtype, np.uint16)
        return Bsr(*(read_only(np.empty(0, dtype)) for dtype in dtypes))

    def strips(self) -> Strips:
        """The data set in strips, or `no_strips` where samples have too little in common."""
        if self._strips is None:
            # Whoever goes through strips needs no lists, which would take half as much memory again.
            self._strips = self._cut(self._lists or self._list())
        return self._strips

    def _list(self) -> Csr:
        if self._given is not None:
            return self.given_lists(self._kind)
        room = self.count + layers.VECTOR  # the kernel writes vectors at once
        csr = Csr(
            np.zeros(len(self._images) + 1, np.int64), np.empty(room, self._kind), np.empty(room, self._images.dtype)
        )
        list_inputs(self._images, csr)
        return Csr(*map(read_only, csr))

    def _cut(self, csr: Csr) -> Strips:
        n_inputs, n_strips = self._images.shape[1], -(-(len(csr.indptr) - 1) // STRIP)
        order = _alike(csr, n_inputs)
        users = np.zeros(-(-n_strips * STRIP // layers.BLOCK) * n_inputs, np.uint16)
        indptr = np.zeros(n_strips + 1, np.int64)
        count_strips(csr, order, n_inputs, indptr, users)
        n_entries = int(indptr[-1])
        if n_entries * MOST_UNITS > _MULTIPLICATIONS_AN_ENTRY * self.count:
            return Strips(order, self.no_strips())
        bsr = Bsr(indptr, np.zeros(n_entries, self._kind), aligned_zeros(n_entries * STRIP, self._images.dtype), users)
        fill_strips(csr, order, bsr, np.zeros(n_inputs, np.int64))
        return Strips(order, Bsr(*map(read_only, bsr)))


def _alike(csr: Csr, n_inputs: int) -> np.ndarray:
    """The samples in an order in which neighbours mostly have the same inputs.

    They are sorted by whether they have the input that tells most about all others, then by the one that tells most
    about what is left, and so on: the order of Gray's code, in which only one of these changes at a time.
    """
    n_samples, telling = len(csr.indptr) - 1, _telling_inputs(csr, n_inputs)
    bits = np.zeros(n_inputs, np.uint64)
    bits[telling] = np.uint64(1) << np.arange(63, 63 - len(telling), -1, dtype=np.uint64)
    marks = np.empty(n_samples, np.uint64)
    mark_inputs(csr, read_only(bits), marks)
    for shift in (1, 2, 4, 8, 16, 32):
        marks ^= marks >> np.uint64(shift)
    return np.argsort(marks, kind="stable")


def _telling_inputs(csr: Csr, n_inputs: int) -> list[int]:
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
    has = has[:, :-1] - has[:, :-1].mean(axis=0)
    covariance, telling = has.T @ has, []
    for _ in range(min(_TAKEN, len(compared))):
        explained = (covariance**2).sum(axis=0) / np.maximum(covariance.diagonal(), 1e-3)
        best = int(np.argmax(explained))
        telling.append(int(compared[best]))
        covariance -= np.outer(covariance[best], covariance[best]) / max(covariance[best, best], 1e-3)
    return telling
