"""The first layer for sparse inputs when threads share rows: each sample is a list of its nonzero inputs.

For narrow layers: a sample's sums stay in registers and all weights stay in a nearby cache, so gathering samples first
would gain nothing. The whole data set is listed once, because listing takes as long as a pass through the layer.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import INPUTS, size_of, weight_panel
from fastnn.kernels.vector.bits import list_nonzero
from fastnn.kernels.vector.memory import flattened
from fastnn.kernels.vector.simd import ONE, TWO, VECTOR, load, load_as, prefetch, vadd, vload, vscale_add, vstore, vzero

# A sample's list is prefetched this many samples before it is visited, so that it arrives in time.
AHEAD = 3


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


@inlined
def csr_sums(layout, rows, csr, out, panel):
    """Compute the weighted sums. `panel` is one or two vectors wide."""
    never_inline()
    weight, weight_at, width = layout.parameters, weight_panel(layout, INPUTS, panel), panel.width
    for s in range(len(rows)):
        ask_ahead(csr, rows, s)
        if panel.vectors == 2:
            _sum(out, panel.at + s * panel.row, csr, rows[s], weight, weight_at, width, TWO)
        else:
            _sum(out, panel.at + s * panel.row, csr, rows[s], weight, weight_at, width, ONE)


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


@inlined
def csr_weight_gradient(layout, rows, step, csr, dout, panel):
    """Compute the gradient of the weights, before the scale of the inputs.

    In ``step.state``, the first block of a chunk overwrites the chunk's gradient; later blocks add to it.
    """
    never_inline()
    at, width, gradient = weight_panel(layout, INPUTS, panel), panel.width, step.state.gradient
    if step.is_first:
        gradient[at : at + size_of(layout, INPUTS) * width] = 0
    for s in range(len(rows)):
        if panel.vectors == 2:
            _add_outer(gradient, at, width, dout, panel.at + s * panel.row, csr, rows[s], TWO)
        else:
            _add_outer(gradient, at, width, dout, panel.at + s * panel.row, csr, rows[s], ONE)
