"""The first layer for sparse inputs as lists: each sample is a list of its nonzero inputs.

Two kinds of data are visited sample by sample. If a layer is narrow, a sample's sums stay in registers and all weights
stay in a nearby cache, so gathering samples first would gain nothing. If few samples of a group use the same input, as
with the words of texts, a group needs nearly as many visits as its lists, and tests the masks of all inputs besides.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import GRADIENT_ROWS, INPUTS, by_vectors, size_of, weight_panel
from fastnn.kernels.ops.optimizers import WEIGHTS, Step, apply_update
from fastnn.kernels.vector.bits import list_nonzero
from fastnn.kernels.vector.memory import flattened
from fastnn.kernels.vector.simd import VECTOR, load, load_as, prefetch, vadd, vload, vscale_add, vstore, vzero

# A sample's list is prefetched this many samples before it is visited, so that it arrives in time.
AHEAD = 3
# The `is_first` of an update whose gradient is complete; typed for the reason that `ops/matmul.py` gives.
ALL_ADDED = np.bool_(True)


class Csr(NamedTuple):
    """A data set in compressed sparse rows: the nonzero inputs of sample after sample.

    indptr: (N + 1,) int64, the position of each sample's first entry, then the number of entries
    indices: (entries,) uint16 or uint32, the input of each entry, 0 to D - 1, ascending within a sample
    data: (entries,) uint8 or the working dtype, the value of each entry
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray


@kernel
def list_inputs(images, csr):
    """Fill `csr` with the nonzero inputs of `images`.

    images: (N, D)
    csr: overwritten; `indices` and `data` need room for one vector more than there are entries

    Faster than testing one input at a time: the nonzero inputs of a whole vector are appended without a branch that
    depends on the data.
    """
    flat, n_inputs, n, at = flattened(images), images.shape[1], VECTOR // max(4, images.itemsize), 0
    for s in range(len(images)):
        csr.indptr[s] = at
        row, i = s * n_inputs, 0
        while i + n <= n_inputs:
            at += list_nonzero(csr.indices, csr.data, at, flat, row + i, i)
            i += n
        while i < n_inputs:
            value = flat[row + i]
            csr.indices[at], csr.data[at] = i, value
            at += value != 0
            i += 1
    csr.indptr[len(images)] = at


@inlined
def ask_ahead(csr, rows, s):
    """Prefetch the list of the sample that is visited AHEAD samples after ``rows[s]``."""
    if s + AHEAD >= len(rows) or rows[s + AHEAD] == rows[s] + AHEAD:  # the CPU prefetches consecutive samples
        return
    begin, end = csr.indptr[rows[s + AHEAD]], csr.indptr[rows[s + AHEAD] + 1]
    for k in range(begin, end, VECTOR // csr.indices.itemsize):
        prefetch(csr.indices, k)
    for k in range(begin, end, VECTOR // csr.data.itemsize):
        prefetch(csr.data, k)


@inlined
def _at(csr, k, at, width):
    """The offset of the weights of entry k's input; `at` is the offset of input 0's weights."""
    return at + width * np.int64(load(csr.indices, k))


@inlined
def _sum(out, out_at, csr, row, weight, weight_at, width, n):
    """``out = inputs @ weight`` for one sample and `n` vectors of units; four sums alternate to hide the latency."""
    data, k, end = csr.data, csr.indptr[row], csr.indptr[row + 1]
    sum0, sum1, sum2, sum3 = vzero(out, n), vzero(out, n), vzero(out, n), vzero(out, n)
    while k + 4 <= end:
        sum0 = vscale_add(load_as(data, k, out), vload(weight, _at(csr, k, weight_at, width), n), sum0)
        sum1 = vscale_add(load_as(data, k + 1, out), vload(weight, _at(csr, k + 1, weight_at, width), n), sum1)
        sum2 = vscale_add(load_as(data, k + 2, out), vload(weight, _at(csr, k + 2, weight_at, width), n), sum2)
        sum3 = vscale_add(load_as(data, k + 3, out), vload(weight, _at(csr, k + 3, weight_at, width), n), sum3)
        k += 4
    while k < end:
        sum0 = vscale_add(load_as(data, k, out), vload(weight, _at(csr, k, weight_at, width), n), sum0)
        k += 1
    vstore(out, out_at, vadd(vadd(sum0, sum1), vadd(sum2, sum3)))


_sum_list = by_vectors(_sum)


@inlined
def csr_sums(layout, rows, csr, out, panel):
    """Compute the weighted sums."""
    never_inline()
    weight, weight_at, width = layout.parameters, weight_panel(layout, INPUTS, panel), panel.width
    for s in range(len(rows)):
        ask_ahead(csr, rows, s)
        _sum_list(panel.vectors, out, panel.at + s * panel.row, csr, rows[s], weight, weight_at, width)


@inlined
def _add_outer(gradient, gradient_at, width, dout, dout_at, csr, row, n):
    """``gradient += outer(inputs, dout)`` for one sample and `n` vectors of units.

    Four entries are loaded before the first is stored: LLVM cannot reorder them, because it does not know that their
    inputs differ.
    """
    data, k, end, d = csr.data, csr.indptr[row], csr.indptr[row + 1], vload(dout, dout_at, n)
    while k + 4 <= end:
        w0, w1 = _at(csr, k, gradient_at, width), _at(csr, k + 1, gradient_at, width)
        w2, w3 = _at(csr, k + 2, gradient_at, width), _at(csr, k + 3, gradient_at, width)
        sum0 = vscale_add(load_as(data, k, dout), d, vload(gradient, w0, n))
        sum1 = vscale_add(load_as(data, k + 1, dout), d, vload(gradient, w1, n))
        sum2 = vscale_add(load_as(data, k + 2, dout), d, vload(gradient, w2, n))
        sum3 = vscale_add(load_as(data, k + 3, dout), d, vload(gradient, w3, n))
        vstore(gradient, w0, sum0)
        vstore(gradient, w1, sum1)
        vstore(gradient, w2, sum2)
        vstore(gradient, w3, sum3)
        k += 4
    while k < end:
        w = _at(csr, k, gradient_at, width)
        vstore(gradient, w, vscale_add(load_as(data, k, dout), d, vload(gradient, w, n)))
        k += 1


_add_list = by_vectors(_add_outer)


@inlined
def csr_weight_gradient(layout, rows, step, csr, dout, panel):
    """Compute the gradient of the weights, before the scale of the inputs.

    In ``step.state``, the first block of a batch or chunk overwrites the gradient; later blocks add to it.
    """
    never_inline()
    at, width, gradient = weight_panel(layout, INPUTS, panel), panel.width, step.state.gradient
    if step.is_first:
        gradient[at : at + size_of(layout, INPUTS) * width] = 0
    for s in range(len(rows)):
        _add_list(panel.vectors, gradient, at, width, dout, panel.at + s * panel.row, csr, rows[s])


@inlined
def update_csr(layout, rows, step, csr, dout, panel):
    """Add a block to the gradient, and update the weights after the last block of a batch.

    Returns the sum of the squares of the weights, 0 without L2.
    """
    csr_weight_gradient(layout, rows, step, csr, dout, panel)
    n_inputs, width, gradient, penalty = size_of(layout, INPUTS), panel.width, step.state.gradient, 0.0
    whole = Step(step.rule, step.rate, step.l2, ALL_ADDED, step.is_last, step.state)
    for first in range(0, n_inputs if step.is_last else 0, GRADIENT_ROWS):
        at, count = weight_panel(layout, INPUTS, panel) + first * width, min(GRADIENT_ROWS, n_inputs - first)
        total = gradient[at : at + count * width]
        penalty += apply_update(panel.vectors, whole, WEIGHTS, layout.scale, layout.parameters, at, total, count)
    return penalty
