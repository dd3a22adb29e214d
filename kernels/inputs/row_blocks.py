"""The first layer of a full batch where most inputs are zero and it has ten units or fewer: a sample in each lane.

A vector has room for more units than such a layer has, so with units in the lanes, as in `csr_input.py`, a part of
every multiplication is wasted. Here sixteen samples are in the lanes, and an input that any of the sixteen has is
multiplied for all. A full batch may go through its samples in any order: with those beside each other that have much
the same inputs, that is a third of the inputs for images of digits, of which a single sample has a fifth.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.inputs.csr import AHEAD, ask_for
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

# Samples of a strip, and strips of a block of rows: as many as `Bsr.users` has bits.
ROW_BLOCK = 16
ROW_BLOCKS = BLOCK // ROW_BLOCK
# The most units a layer may have, and how many are summed at a time: of a strip in float32, ten sums are ten registers
# of AVX-512.
MOST_UNITS = 10
AT_ONCE = TEN if WHOLE_REGISTERS else FIVE
# Numbers of scratch for what is transposed: the sums of a strip, and the gradients of a block's.
SCRATCH = (1 + ROW_BLOCKS) * ROW_BLOCK * ROW_BLOCK
_ONE_BIT = np.uint64(1)


class Bsr(NamedTuple):
    """A data set in blocked compressed sparse rows: blocks of STRIP samples, in an order of their own, by one input.

    indptr (S + 1,): where each strip's entries begin, and the last's end; indices (E,): of each, the number of the
    input, rising within a strip; data (E * STRIP,): the samples' values, 0 beyond the last sample. users (B * D,): for
    each BLOCK of samples and each input, a bit for each strip, whether it has an entry.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    nonzero_masks: np.ndarray


@kernel
def mark_inputs(csr, bits, marks):
    """``marks[s]`` (N,) has the bits ``bits[i]`` (D,) of all inputs i that sample s of the lists `csr` has."""
    for s in range(len(marks)):
        mark = np.uint64(0)
        for k in range(csr.indptr[s], csr.indptr[s + 1]):
            mark |= load(bits, np.int64(load(csr.indices, k)))
        marks[s] = mark


@kernel
def count_row_blocks(csr, order, n_inputs, indptr, nonzero_masks):
    """Fill `indptr` and `users`, zeros before, of a `Bsr` for the samples `order` of the lists `csr`."""
    n_entries = 0
    for row_block in range(len(indptr) - 1):
        begin, number = row_block * ROW_BLOCK, np.uint16(row_block % ROW_BLOCKS)
        bit = np.uint16(1 << row_block % ROW_BLOCKS)
        of_block = nonzero_masks[row_block // ROW_BLOCKS * n_inputs : (row_block // ROW_BLOCKS + 1) * n_inputs]
        for s in range(begin, min(begin + ROW_BLOCK, len(order))):
            if s + AHEAD < len(order):
                ask_for(csr, order[s + AHEAD])
            for k in range(csr.indptr[order[s]], csr.indptr[order[s] + 1]):
                of_block[np.uint64(load(csr.indices, k))] |= bit
        for i in range(n_inputs):
            n_entries += (of_block[i] >> number) & np.uint16(1)
        indptr[row_block + 1] = n_entries


@kernel
def fill_row_blocks(csr, order, bsr, offsets):
    """Fill `indices` and `data`, zeros before, of a `Bsr` whose strips have been counted. places (D,) is scratch."""
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
            if s + AHEAD < len(order):
                ask_for(csr, order[s + AHEAD])
            for k in range(csr.indptr[order[s]], csr.indptr[order[s] + 1]):
                place = load(offsets, np.int64(load(csr.indices, k))) + s - begin
                bsr.data[np.uint64(place)] = load(csr.data, k)


@inlined
def _sum(transposed, bsr, row_block, weight, weight_at, width):
    """``turned[u] = inputs @ weight[:, u]`` for the samples of a strip."""
    for u in range(0, MOST_UNITS, len(AT_ONCE)):
        sums = vzeros(transposed, SIXTEEN, AT_ONCE)
        for k in range(bsr.indptr[row_block], bsr.indptr[row_block + 1]):
            w = weight_at + np.int64(load(bsr.indices, k)) * width + u
            sums = vadd_scaled(sums, weight, w, vload_as(bsr.data, k * ROW_BLOCK, transposed, SIXTEEN))
        vstore_all(transposed, u * ROW_BLOCK, sums)


@inlined
def row_block_sums(layout, start, n_rows, bsr, out, panel, transposed, offsets):
    """Weighted sums of the first layer, before scale and bias, for rows from `start` on and its only panel of units.

    Sums stay in registers for all inputs of a strip. turned (SCRATCH,), 0 where nothing here has written it, and places
    are scratch.
    """
    never_inline()
    weight, weight_at, n = layout.parameters, weight_panel(layout, INPUTS, panel), lanes(out)
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
    """Transpose a block's gradients, strip after strip, behind room for one.

    A strip's first row stands for those it lacks: what is multiplied by their 0 is as finite as all others.
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
    """Sums of ``input * dout[u]`` for the units u, at ``turned[u]``, over the strips of a block whose bits are set in
    `todo`, each of which has its next entry for the input at `cursor`.
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
def row_block_weight_gradient(layout, start, n_rows, bsr, dout, gradient, is_first, panel, transposed, offsets):
    """Gradient, before scaling, of the first layer's weights, which is kept: added to unless `is_first`.

    An input's gradient stays in registers for all samples of a block, with a sample in each lane until the end. places
    is scratch: where samples stand, then each strip's next entry.
    """
    never_inline()
    n_inputs, at, width, n = size_of(layout, INPUTS), weight_panel(layout, INPUTS, panel), panel.width, lanes(dout)
    if is_first:
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
