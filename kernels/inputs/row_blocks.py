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
STRIP = 16
STRIPS = BLOCK // STRIP
# The most units a layer may have, and how many are summed at a time: of a strip in float32, ten sums are ten registers
# of AVX-512.
MOST_UNITS = 10
AT_ONCE = TEN if WHOLE_REGISTERS else FIVE
# Numbers of scratch for what is transposed: the sums of a strip, and the gradients of a block's.
SCRATCH = (1 + STRIPS) * STRIP * STRIP
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
    users: np.ndarray


@kernel
def mark_inputs(csr, bits, marks):
    """``marks[s]`` (N,) has the bits ``bits[i]`` (D,) of all inputs i that sample s of the lists `csr` has."""
    for s in range(len(marks)):
        mark = np.uint64(0)
        for k in range(csr.indptr[s], csr.indptr[s + 1]):
            mark |= load(bits, np.int64(load(csr.indices, k)))
        marks[s] = mark


@kernel
def count_strips(csr, order, n_inputs, indptr, users):
    """Fill `indptr` and `users`, zeros before, of a `Bsr` for the samples `order` of the lists `csr`."""
    n_entries = 0
    for strip in range(len(indptr) - 1):
        begin, bit, number = strip * STRIP, np.uint16(1 << strip % STRIPS), np.uint16(strip % STRIPS)
        of_block = users[strip // STRIPS * n_inputs : (strip // STRIPS + 1) * n_inputs]
        for s in range(begin, min(begin + STRIP, len(order))):
            if s + AHEAD < len(order):
                ask_for(csr, order[s + AHEAD])
            for k in range(csr.indptr[order[s]], csr.indptr[order[s] + 1]):
                of_block[np.uint64(load(csr.indices, k))] |= bit
        for i in range(n_inputs):
            n_entries += (of_block[i] >> number) & np.uint16(1)
        indptr[strip + 1] = n_entries


@kernel
def fill_strips(csr, order, bsr, places):
    """Fill `indices` and `data`, zeros before, of a `Bsr` whose strips have been counted. places (D,) is scratch."""
    n_inputs = len(places)
    for strip in range(len(bsr.indptr) - 1):
        begin, at, bit = strip * STRIP, strip // STRIPS * n_inputs, np.uint16(1 << strip % STRIPS)
        entry = bsr.indptr[strip]
        for i in range(n_inputs):
            if bsr.users[at + i] & bit:
                bsr.indices[entry], places[i] = i, entry * STRIP
                entry += 1
        for s in range(begin, min(begin + STRIP, len(order))):
            if s + AHEAD < len(order):
                ask_for(csr, order[s + AHEAD])
            for k in range(csr.indptr[order[s]], csr.indptr[order[s] + 1]):
                place = load(places, np.int64(load(csr.indices, k))) + s - begin
                bsr.data[np.uint64(place)] = load(csr.data, k)


@inlined
def _sum(turned, bsr, strip, weight, weight_at, width):
    """``turned[u] = inputs @ weight[:, u]`` for the samples of a strip."""
    for u in range(0, MOST_UNITS, len(AT_ONCE)):
        sums = vzeros(turned, SIXTEEN, AT_ONCE)
        for k in range(bsr.indptr[strip], bsr.indptr[strip + 1]):
            w = weight_at + np.int64(load(bsr.indices, k)) * width + u
            sums = vadd_scaled(sums, weight, w, vload_as(bsr.data, k * STRIP, turned, SIXTEEN))
        vstore_all(turned, u * STRIP, sums)


@inlined
def bsr_sums(layers, start, n_rows, bsr, out, panel, turned, places):
    """Weighted sums of the first layer, before scale and bias, for rows from `start` on and its only panel of units.

    Sums stay in registers for all inputs of a strip. turned (SCRATCH,), 0 where nothing here has written it, and places
    are scratch.
    """
    never_inline()
    weight, weight_at, n = layers.parameters, weight_panel(layers, INPUTS, panel), lanes(out)
    for u in range(STRIP):
        places[u] = u * STRIP
    for s in range(0, n_rows, STRIP):
        _sum(turned, bsr, (start + s) // STRIP, weight, weight_at, panel.width)
        at = panel.at + s * panel.row
        for u in range(0, panel.width, n):
            for r in range(0, STRIP, n):
                transpose_tile(out, at + r * panel.row + u, panel.row, turned, places, u, r)


@inlined
def _turn(dout, n_rows, panel, turned, places):
    """Transpose a block's gradients, strip after strip, behind room for one.

    A strip's first row stands for those it lacks: what is multiplied by their 0 is as finite as all others.
    """
    n = lanes(dout)
    for s in range(0, n_rows, STRIP):
        for r in range(STRIP):
            places[r] = panel.at + (s + r if s + r < n_rows else s) * panel.row
        for u in range(0, panel.width, n):
            for r in range(0, STRIP, n):
                transpose_tile(turned, (STRIP + s + u) * STRIP + r, STRIP, dout, places, r, u)


@inlined
def _collect(bsr, todo, cursor, turned):
    """Sums of ``input * dout[u]`` for the units u, at ``turned[u]``, over the strips of a block whose bits are set in
    `todo`, each of which has its next entry for the input at `cursor`.
    """
    for u in range(0, MOST_UNITS, len(AT_ONCE)):
        sums, left = vzeros(turned, SIXTEEN, AT_ONCE), todo
        while left:
            strip = trailing_zeros(left)
            left &= left - _ONE_BIT
            entry = load(cursor, strip)
            if u + len(AT_ONCE) == MOST_UNITS:
                cursor[np.uint64(strip)] = entry + 1
            at = ((1 + strip) * STRIP + u) * STRIP
            sums = vadd_products(sums, turned, at, vload_as(bsr.data, entry * STRIP, turned, SIXTEEN))
        vstore(turned, u, vsum_each(sums))


@inlined
def collect_bsr(layers, start, n_rows, bsr, dout, gradient, is_first, panel, turned, places):
    """Gradient, before scaling, of the first layer's weights, which is kept: added to unless `is_first`.

    An input's gradient stays in registers for all samples of a block, with a sample in each lane until the end. places
    is scratch: where samples stand, then each strip's next entry.
    """
    never_inline()
    n_inputs, at, width, n = size_of(layers, INPUTS), weight_panel(layers, INPUTS, panel), panel.width, lanes(dout)
    if is_first:
        gradient[at : at + n_inputs * width] = 0
    _turn(dout, n_rows, panel, turned, places)
    cursor, first, users = places[STRIP : STRIP + STRIPS], start // STRIP, start // BLOCK * n_inputs
    for strip in range((n_rows + STRIP - 1) // STRIP):
        cursor[strip] = bsr.indptr[first + strip]
    for i in range(n_inputs):
        todo = np.uint64(load(bsr.users, users + i))
        if todo:
            _collect(bsr, todo, cursor, turned)
            for h in range(at + i * width, at + (i + 1) * width, n):
                total = vload(turned, h - at - i * width, ONE)
                vstore(gradient, h, vadd(vload(gradient, h, ONE), total))
