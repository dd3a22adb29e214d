"""The first layer of at most ten units, for a full batch of sparse inputs: one sample per lane.

A vector has room for more units than such a layer has. With units in the lanes, as in `csr.py`, part of every
multiplication is wasted. Here sixteen samples, a row block, are in the lanes, and an input that any of them uses is
multiplied for all. A full batch may visit its samples in any order, so similar samples are made neighbours. For images
of digits, a row block then uses a third of the inputs, and a single sample a fifth.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.inputs.csr import ask_ahead
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import BLOCK, INPUTS, size_of, weight_panel
from fastnn.kernels.vector.bits import trailing_zeros
from fastnn.kernels.vector.simd import (
    FIVE,
    ONE,
    SIXTEEN,
    TEN,
    WHOLE_REGISTERS,
    lanes,
    load,
    vadd,
    vload,
    vload_as,
    vstore,
)
from fastnn.kernels.vector.sums import vadd_products, vadd_scaled, vstore_all, vsum_each, vzeros
from fastnn.kernels.vector.tiles import transpose_tile

# The number of samples in a row block, and of row blocks in a BLOCK of rows. A mask of `Bsr` has one bit per row block.
ROW_BLOCK = 16
ROW_BLOCKS = BLOCK // ROW_BLOCK
# The maximum number of units of the layer, and the number of units that are summed at a time: ten float32 sums of a row
# block are ten registers of AVX-512.
MOST_UNITS = 10
AT_ONCE = TEN if WHOLE_REGISTERS else FIVE
# The number of scratch elements for transposed values: the sums of one row block, then the gradients of a block's row
# blocks.
SCRATCH = (1 + ROW_BLOCKS) * ROW_BLOCK * ROW_BLOCK
_ONE_BIT = np.uint64(1)


class Bsr(NamedTuple):
    """A data set in blocked compressed sparse rows: an entry is one input of the ROW_BLOCK samples of a row block.

    The samples are reordered first (`order` below), so that row blocks hold similar ones.

    indptr: (row blocks + 1,) int64, the position of each row block's first entry, then the number of entries
    indices: (entries,) uint16 or uint32, the input of each entry, ascending within a row block
    data: (entries * ROW_BLOCK,), the samples' values for each entry, 0 beyond the last sample
    nonzero_masks: (blocks * D,) uint16, one per input of a BLOCK of samples; bit k is set if row block k has an entry
        for the input
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    nonzero_masks: np.ndarray


class RowBlockWork(NamedTuple):
    """A `Bsr` and a thread's scratch for it.

    bsr: the whole data set
    transposed: (SCRATCH,), scratch; must be 0 where the functions of this file have not written it
    offsets: (GROUP,) int64, scratch for offsets of samples and for each row block's next entry
    """

    bsr: Bsr
    transposed: np.ndarray
    offsets: np.ndarray


@kernel
def mark_inputs(csr, bits, marks):
    """Compute each sample's mark: the bitwise OR of the bits of its nonzero inputs.

    csr: the data set, N samples
    bits: (D,) uint64, the bits of each input
    marks: (N,) uint64, overwritten
    """
    for s in range(len(marks)):
        mark = np.uint64(0)
        for k in range(csr.indptr[s], csr.indptr[s + 1]):
            mark |= load(bits, np.int64(load(csr.indices, k)))
        marks[s] = mark


@kernel
def count_row_blocks(csr, order, n_inputs, indptr, nonzero_masks):
    """Count the entries of each row block, and set the bits of the row blocks that have an entry for an input.

    csr: the data set, N samples
    order: (N,) int64, the samples' order in the row blocks
    indptr: that of a `Bsr`, overwritten; must be zeros
    nonzero_masks: that of a `Bsr`, overwritten; must be zeros
    """
    n_entries = 0
    for row_block in range(len(indptr) - 1):
        begin, number = row_block * ROW_BLOCK, np.uint16(row_block % ROW_BLOCKS)
        bit = np.uint16(1 << row_block % ROW_BLOCKS)
        of_block = nonzero_masks[row_block // ROW_BLOCKS * n_inputs : (row_block // ROW_BLOCKS + 1) * n_inputs]
        for s in range(begin, min(begin + ROW_BLOCK, len(order))):
            ask_ahead(csr, order, s)
            for k in range(csr.indptr[order[s]], csr.indptr[order[s] + 1]):
                of_block[np.uint64(load(csr.indices, k))] |= bit
        for i in range(n_inputs):
            n_entries += (of_block[i] >> number) & np.uint16(1)
        indptr[row_block + 1] = n_entries


@kernel
def fill_row_blocks(csr, order, bsr, offsets):
    """Fill the `indices` and `data` of a `Bsr` that `count_row_blocks` has counted.

    csr: the data set, N samples
    order: (N,) int64, the samples' order in the row blocks
    bsr: `indices` and `data` are overwritten; `data` must be zeros
    offsets: (D,) int64, scratch
    """
    n_inputs = len(offsets)
    for row_block in range(len(bsr.indptr) - 1):
        begin, at = row_block * ROW_BLOCK, row_block // ROW_BLOCKS * n_inputs
        bit = np.uint16(1 << row_block % ROW_BLOCKS)
        entry = bsr.indptr[row_block]
        for i in range(n_inputs):
            if bsr.nonzero_masks[at + i] & bit:
                bsr.indices[entry], offsets[i] = i, entry * ROW_BLOCK
                entry += 1
        for s in range(begin, min(begin + ROW_BLOCK, len(order))):
            ask_ahead(csr, order, s)
            for k in range(csr.indptr[order[s]], csr.indptr[order[s] + 1]):
                place = load(offsets, np.int64(load(csr.indices, k))) + s - begin
                bsr.data[np.uint64(place)] = load(csr.data, k)


@inlined
def _sum(transposed, bsr, row_block, weight, weight_at, width):
    """``transposed[u] = inputs @ weight[:, u]`` for the samples of a row block."""
    for u in range(0, MOST_UNITS, len(AT_ONCE)):
        sums = vzeros(transposed, SIXTEEN, AT_ONCE)
        for k in range(bsr.indptr[row_block], bsr.indptr[row_block + 1]):
            w = weight_at + np.int64(load(bsr.indices, k)) * width + u
            sums = vadd_scaled(sums, weight, w, vload_as(bsr.data, k * ROW_BLOCK, transposed, SIXTEEN))
        vstore_all(transposed, u * ROW_BLOCK, sums)


@inlined
def row_block_sums(layout, start, n_rows, row_blocks, out, panel):
    """Compute the weighted sums for the rows from `start` on.

    The sums of a row block stay in registers for all its inputs.
    """
    never_inline()
    weight, weight_at, n = layout.parameters, weight_panel(layout, INPUTS, panel), lanes(out)
    bsr, transposed, offsets = row_blocks
    for u in range(ROW_BLOCK):
        offsets[u] = u * ROW_BLOCK
    for s in range(0, n_rows, ROW_BLOCK):
        _sum(transposed, bsr, (start + s) // ROW_BLOCK, weight, weight_at, panel.width)
        at = panel.at + s * panel.row
        for u in range(0, panel.width, n):
            for r in range(0, ROW_BLOCK, n):
                transpose_tile(out, at + r * panel.row + u, panel.row, transposed, offsets, u, r)


@inlined
def _transpose_gradients(dout, n_rows, panel, transposed, offsets):
    """Transpose a block's gradients, row block after row block, into `transposed`, after the space for one row block.

    Missing rows of a row block repeat its first row. So their inputs, which are 0, multiply no leftover NaN or
    infinity.
    """
    n = lanes(dout)
    for s in range(0, n_rows, ROW_BLOCK):
        for r in range(ROW_BLOCK):
            offsets[r] = panel.at + (s + r if s + r < n_rows else s) * panel.row
        for u in range(0, panel.width, n):
            for r in range(0, ROW_BLOCK, n):
                transpose_tile(transposed, (ROW_BLOCK + s + u) * ROW_BLOCK + r, ROW_BLOCK, dout, offsets, r, u)


@inlined
def _weight_gradient(bsr, todo, cursor, transposed):
    """``transposed[u] = sum(input * dout[u])`` for one input and each unit u, over the row blocks in `todo`.

    todo: uint64, bit k is set if row block k has an entry for the input
    cursor: (ROW_BLOCKS,) int64, the next entry of each row block, advanced past the entries used
    """
    for u in range(0, MOST_UNITS, len(AT_ONCE)):
        sums, left = vzeros(transposed, SIXTEEN, AT_ONCE), todo
        while left:
            row_block = trailing_zeros(left)
            left &= left - _ONE_BIT
            entry = load(cursor, row_block)
            if u + len(AT_ONCE) == MOST_UNITS:
                cursor[np.uint64(row_block)] = entry + 1
            at = ((1 + row_block) * ROW_BLOCK + u) * ROW_BLOCK
            sums = vadd_products(sums, transposed, at, vload_as(bsr.data, entry * ROW_BLOCK, transposed, SIXTEEN))
        vstore(transposed, u, vsum_each(sums))


@inlined
def row_block_weight_gradient(layout, start, n_rows, step, row_blocks, dout, panel):
    """`csr_weight_gradient` for the rows from `start` on.

    An input's gradient stays in registers for all samples of a block, one sample per lane until the end.
    """
    never_inline()
    n_inputs, at, width, n = size_of(layout, INPUTS), weight_panel(layout, INPUTS, panel), panel.width, lanes(dout)
    (bsr, transposed, offsets), gradient = row_blocks, step.state.gradient
    if step.is_first:
        gradient[at : at + n_inputs * width] = 0
    _transpose_gradients(dout, n_rows, panel, transposed, offsets)
    cursor = offsets[ROW_BLOCK : ROW_BLOCK + ROW_BLOCKS]
    first, nonzero_masks = start // ROW_BLOCK, start // BLOCK * n_inputs
    for row_block in range((n_rows + ROW_BLOCK - 1) // ROW_BLOCK):
        cursor[row_block] = bsr.indptr[first + row_block]
    for i in range(n_inputs):
        todo = np.uint64(load(bsr.nonzero_masks, nonzero_masks + i))
        if todo:
            _weight_gradient(bsr, todo, cursor, transposed)
            for h in range(at + i * width, at + (i + 1) * width, n):
                total = vload(transposed, h - at - i * width, ONE)
                vstore(gradient, h, vadd(vload(gradient, h, ONE), total))
