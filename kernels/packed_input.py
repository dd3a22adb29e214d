"""The first layer when most inputs are zero and threads share panels: only the others are visited.

Four of five pixels of a handwritten digit are zero, so the first layer, nearly all the work of a digit network, becomes
several times smaller. What decides the speed then is memory: samples lie scattered over the data set, so a group of 64
is gathered once a step and transposed on the way, input by input, sample beside sample. An input's 64 values are then
one cache line (of bytes), and a comparison of that line with 0 says, bit by bit, which samples use the input.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.csr_input import AHEAD, ask_for
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layers import GROUP, INPUTS, PIECE, lanes, weight_panel
from fastnn.kernels.simd import (
    FOUR,
    ONE,
    TWO,
    load_as,
    nonzero_mask,
    trailing_zeros,
    transpose_tile,
    vadd,
    vfma,
    vload,
    vmul,
    vscale_add,
    vsplat,
    vstore,
    vsum,
    vzero,
)
from fastnn.kernels.updates import SGD, move_row

_ONE_BIT = np.uint64(1)


class Packed(NamedTuple):
    """The inputs of a block: for each group of 64 samples,

    values (D * 64,): input by input, sample beside sample, in the data's dtype; users (D,): bit s says whether sample s
    has the input other than 0.
    """

    values: np.ndarray
    users: np.ndarray


@inlined
def pack(images, rows, packed, places, corner, t, threads):
    """Thread t's share of gathering the samples `rows` (at most a block) of `images` (N, D), tile of columns by tile.

    The missing samples of the last group repeat its first, and no input has them as users. places (GROUP,) and corner,
    a tile in the data's dtype, are scratch.
    """
    never_inline()
    n_inputs, flat, n = images.shape[1], images.reshape(-1), lanes(images)
    tiles = (n_inputs + n - 1) // n
    count = (len(rows) + GROUP - 1) // GROUP * tiles
    known = -1
    for u in range(count * t // threads, count * (t + 1) // threads):
        group, column = u // tiles, u % tiles * n
        first, at = group * GROUP, group * n_inputs
        n_rows = min(GROUP, len(rows) - first)
        if group != known:
            known = group
            for s in range(GROUP):
                places[s] = rows[first + (s if s < n_rows else 0)] * n_inputs
        end = min(column + n, n_inputs)
        if column + n <= n_inputs:
            for s in range(0, GROUP, n):
                transpose_tile(packed.values, (at + column) * GROUP + s, GROUP, flat, places, s, column)
        elif n_inputs >= n:  # the last columns, as the end of a whole tile that begins before them
            for s in range(0, GROUP, n):
                transpose_tile(corner, s, GROUP, flat, places, s, n_inputs - n)
            skipped = (n - (n_inputs - column)) * GROUP
            for k in range((n_inputs - column) * GROUP):
                packed.values[(at + column) * GROUP + k] = corner[skipped + k]
        else:
            for i in range(n_inputs):
                for s in range(GROUP):
                    packed.values[(at + i) * GROUP + s] = flat[places[s] + i]
        present = ~np.uint64(0) >> np.uint64(GROUP - n_rows)
        for i in range(at + column, at + end):
            packed.users[i] = nonzero_mask(packed.values, i * GROUP) & present


@inlined
def _first_from(csr, row, i):
    """Where the entries of a sample's list begin that are of input i or a later one."""
    low, high = csr.indptr[row], csr.indptr[row + 1]
    while low < high:
        middle = (low + high) // 2
        if csr.indices[middle] < i:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def pack_csr(csr, rows, n_inputs, packed, t, threads):
    """`pack` for samples that are lists already: thread t's share of the inputs, in every group.

    `packed` holds another block, or zeros: only inputs that that block used are cleared, so the work is that of the
    entries, however many inputs there are.
    """
    never_inline()
    begin, end = n_inputs * t // threads, n_inputs * (t + 1) // threads
    for group in range((len(rows) + GROUP - 1) // GROUP):
        at, first = group * n_inputs, group * GROUP
        for i in range(at + begin, at + end):
            if packed.users[i]:
                packed.users[i] = 0
                packed.values[i * GROUP : (i + 1) * GROUP] = 0
        for s in range(min(GROUP, len(rows) - first)):
            if first + s + AHEAD < len(rows):
                ask_for(csr, rows[first + s + AHEAD])
            row, bit = rows[first + s], _ONE_BIT << np.uint64(s)
            for k in range(_first_from(csr, row, begin), _first_from(csr, row, end)):
                i = at + np.int64(csr.indices[k])
                packed.values[i * GROUP + s] = csr.data[k]
                packed.users[i] |= bit


@inlined
def _add_one(out, out_at, out_row, todo, values, x, w0, n):
    """For the samples whose bits are set in `todo`: ``out[s] += values[x + s] * w0``."""
    while todo:
        s = trailing_zeros(todo)
        todo &= todo - _ONE_BIT
        o = out_at + s * out_row
        vstore(out, o, vscale_add(load_as(values, x + s, out), w0, vload(out, o, n)))


@inlined
def _add_two(out, out_at, out_row, todo, values, x, w0, w1, n):
    """The same for an input and its neighbour, whose values stand GROUP further."""
    while todo:
        s = trailing_zeros(todo)
        todo &= todo - _ONE_BIT
        o = out_at + s * out_row
        total = vscale_add(load_as(values, x + s, out), w0, vload(out, o, n))
        vstore(out, o, vscale_add(load_as(values, x + GROUP + s, out), w1, total))


@inlined
def spread(out, out_at, out_row, packed, group, n_inputs, weight, weight_at, n):
    """Add the group's weighted sums: ``out[s] += inputs[s] @ weight`` for a panel of `n` vectors.

    out: rows of that width from `out_at` on, `out_row` apart, for the group's 64 samples; weight: rows one after the
    other. Four inputs go together, since neighbouring pixels mostly have the same users: a sample's sums are loaded and
    stored once for them. Samples that use only one half of the four, as at the edge of a stroke, are visited for that
    half alone.
    """
    width, users, values = len(n) * lanes(out), packed.users, packed.values
    at = group * n_inputs
    i = 0
    while i + 4 <= n_inputs:
        low, high = users[at + i] | users[at + i + 1], users[at + i + 2] | users[at + i + 3]
        if low | high:
            w, x = weight_at + i * width, (at + i) * GROUP
            w0, w1 = vload(weight, w, n), vload(weight, w + width, n)
            w2, w3 = vload(weight, w + 2 * width, n), vload(weight, w + 3 * width, n)
            todo = low & high
            while todo:
                s = trailing_zeros(todo)
                todo &= todo - _ONE_BIT
                o = out_at + s * out_row
                total = vscale_add(load_as(values, x + s, out), w0, vload(out, o, n))
                total = vscale_add(load_as(values, x + GROUP + s, out), w1, total)
                total = vscale_add(load_as(values, x + 2 * GROUP + s, out), w2, total)
                vstore(out, o, vscale_add(load_as(values, x + 3 * GROUP + s, out), w3, total))
            _add_two(out, out_at, out_row, low & ~high, values, x, w0, w1, n)
            _add_two(out, out_at, out_row, high & ~low, values, x + 2 * GROUP, w2, w3, n)
        i += 4
    while i < n_inputs:
        w0 = vload(weight, weight_at + i * width, n)
        _add_one(out, out_at, out_row, users[at + i], values, (at + i) * GROUP, w0, n)
        i += 1


@inlined
def is_used(packed, n_groups, n_inputs, i):
    """Whether any sample of a block uses input i."""
    used = np.uint64(0)
    for group in range(n_groups):
        used |= packed.users[group * n_inputs + i]
    return used != 0


@inlined
def collect(dout, dout_at, dout_row, packed, n_groups, n_inputs, i, n):
    """Gradient of the weights of input i that lead to a panel of `n` vectors: ``inputs[:, i] @ dout``, before scaling.

    dout: rows of that width from `dout_at` on, `dout_row` apart, for all samples of the block. The sums stay in
    registers. Where they are few, two take turns, so that the processor need not wait for the last addition before the
    next.
    """
    users, values = packed.users, packed.values
    total, other = vzero(dout, n), vzero(dout, n)
    for group in range(n_groups):
        at, first = group * n_inputs + i, dout_at + group * GROUP * dout_row
        todo, x = users[at], at * GROUP
        while todo:
            s = trailing_zeros(todo)
            todo &= todo - _ONE_BIT
            total = vscale_add(load_as(values, x + s, dout), vload(dout, first + s * dout_row, n), total)
            if len(n) < 4 and todo:
                s = trailing_zeros(todo)
                todo &= todo - _ONE_BIT
                other = vscale_add(load_as(values, x + s, dout), vload(dout, first + s * dout_row, n), other)
    return vadd(total, other) if len(n) < 4 else total


@inlined
def packed_sums(layers, n_rows, packed, out, panel):
    """Weighted sums of the first layer, before scale and bias, for a panel's units."""
    never_inline()
    n_inputs, weight, weight_at = layers.sizes[0], layers.parameters, weight_panel(layers, INPUTS, panel)
    for s in range(n_rows):
        out[panel.at + s * panel.row : panel.at + s * panel.row + panel.width] = 0
    for group in range((n_rows + GROUP - 1) // GROUP):
        at = panel.at + group * GROUP * panel.row
        if panel.vectors == 4:
            spread(out, at, panel.row, packed, group, n_inputs, weight, weight_at, FOUR)
        elif panel.vectors == 2:
            spread(out, at, panel.row, packed, group, n_inputs, weight, weight_at, TWO)
        else:
            spread(out, at, panel.row, packed, group, n_inputs, weight, weight_at, ONE)


@inlined
def _update_vectors(layers, n_rows, step, packed, dout, state, panel, n):
    """`update_packed` for a panel of `n` vectors."""
    n_inputs, width, parameters, l2 = layers.sizes[0], panel.width, layers.parameters, step.l2
    at, none = weight_panel(layers, INPUTS, panel), parameters.dtype.type(0)
    n_groups = (n_rows + GROUP - 1) // GROUP
    if not step.is_last:
        for i in range(n_inputs):
            total, kept = collect(dout, panel.at, panel.row, packed, n_groups, n_inputs, i, n), at + i * width
            vstore(state.gradient, kept, total if step.is_first else vadd(vload(state.gradient, kept, n), total))
        return 0.0
    if step.is_first and step.rule.kind == SGD and l2 == none:
        # The plainest rule leaves alone the weights of inputs nobody uses.
        back = vsplat(-step.rate * layers.scale, n)
        for i in range(n_inputs):
            if is_used(packed, n_groups, n_inputs, i):
                total = collect(dout, panel.at, panel.row, packed, n_groups, n_inputs, i, n)
                w = at + i * width
                vstore(parameters, w, vfma(back, total, vload(parameters, w, n)))
        return 0.0
    penalty, factor, back = 0.0, vsplat(layers.scale, n), vsplat(-step.rate, n)
    for first in range(0, n_inputs, PIECE):
        squares = vzero(parameters, n)  # a few rows' in the working dtype, all in float64
        for i in range(first, min(first + PIECE, n_inputs)):
            total, w = collect(dout, panel.at, panel.row, packed, n_groups, n_inputs, i, n), at + i * width
            if not step.is_first:
                total = vadd(vload(state.gradient, w, n), total)
            before = move_row(step, l2, parameters, state, w, vmul(total, factor), back, n)
            if l2 != none:
                squares = vfma(before, before, squares)
        if l2 != none:
            penalty += np.float64(vsum(squares))
    return penalty


@inlined
def update_packed(layers, n_rows, step, packed, dout, state, panel):
    """Gradient and step of the first layer's weights that lead to a panel's units; returns the sum of their squares
    if the step counts them.

    An input's gradient moves its weights straight from the registers, so that these and the optimizer's state are
    fetched from the second-level cache while the next input's products are added.
    """
    never_inline()
    if panel.vectors == 4:
        return _update_vectors(layers, n_rows, step, packed, dout, state, panel, FOUR)
    if panel.vectors == 2:
        return _update_vectors(layers, n_rows, step, packed, dout, state, panel, TWO)
    return _update_vectors(layers, n_rows, step, packed, dout, state, panel, ONE)
