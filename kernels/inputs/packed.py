"""The first layer for sparse inputs when threads share panels: zeros are skipped.

Four of five pixels of a handwritten digit are zero. Skipping them makes the first layer, which is nearly all the work
of a digit network, several times smaller. Memory then limits the speed. Samples are scattered over the data set, so a
group of 64 is gathered once per step and transposed on the way: input by input, with the samples side by side. The 64
values of an input, if they are bytes, are then one cache line. Comparing that line with 0 gives one bit per sample:
whether the sample uses the input, that is, whether the input is nonzero in the sample.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.inputs.ahead import prefetch_part, tiles_of
from fastnn.kernels.inputs.csr import ask_ahead
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import GRADIENT_ROWS, GROUP, INPUTS, View, by_vectors, size_of, weight_panel
from fastnn.kernels.ops.dropout import number_of, row_hash, threshold_of, unit_hash
from fastnn.kernels.ops.optimizers import SGD, WEIGHTS, move_row
from fastnn.kernels.team import own_part
from fastnn.kernels.vector.bits import nonzero_mask, trailing_zeros
from fastnn.kernels.vector.memory import flattened
from fastnn.kernels.vector.simd import (
    lanes,
    load,
    load_as,
    prefetch,
    vadd,
    vfma,
    vload,
    vload_part,
    vmul,
    vscale_add,
    vsplat,
    vstore,
    vsum,
    vzero,
)
from fastnn.kernels.vector.tiles import transpose_tile

_ONE_BIT = np.uint64(1)
# An input's values are prefetched this many inputs before they are visited: another thread packed half of them, and
# they are still in that thread's cache.
VALUES_AHEAD = 48
# The next samples are prefetched part by part, one part for so many inputs whose weights are updated.
INPUTS_PER_PART = 4 * GRADIENT_ROWS


class Packed(NamedTuple):
    """The inputs of a block, group after group of GROUP samples.

    values: (groups * D * GROUP,), the data's dtype, input by input, a group's samples side by side
    nonzero_masks: (groups * D,) uint64, one per input of a group; bit s is set if the input is nonzero in sample s
    """

    values: np.ndarray
    nonzero_masks: np.ndarray


@inlined
def _prefetch_group(flat, offsets, first, end):
    """Prefetch the inputs from `first` to `end` of a group's samples.

    Cache lines are prefetched sample by sample, in an order the CPU recognises, and several are in flight at once.
    Without prefetching, the tiles that are read next would wait for each line of every sample.
    """
    for s in range(GROUP):
        for column in range(first, end, lanes(flat)):
            prefetch(flat, offsets[s] + column)
        prefetch(flat, offsets[s] + end - 1)


@inlined
def _drop_values(values, at, i, offsets, threshold):
    """Set the dropped values of input i to 0: those of the samples whose `row_hash` is in `offsets`, from GROUP on."""
    for s in range(GROUP):
        is_kept = unit_hash(np.uint32(offsets[GROUP + s]), i) >= threshold
        values[at + s] = values[at + s] if is_kept else values.dtype.type(0)


@inlined
def pack(member, images, rows, dropout, packed, offsets):
    """Gather and transpose samples, one tile of columns after another, in this member's part of the tiles.

    dropout: a `block.Dropout`, whose `rates` are those of the inputs first; None in a prediction, whose samples are
        prefetched here and not in the step before
    packed: overwritten
    offsets: (2 * GROUP,) int64, scratch; (GROUP,) without dropout

    Missing samples of the last group repeat its first sample; their bits in the masks are 0.
    """
    never_inline()
    n_inputs, flat, n = images.shape[1], flattened(images), lanes(images)
    part, tiles = tiles_of(member, images, len(rows))
    known = -1
    threshold = np.uint32(0)
    if dropout is not None:  # Numba decides this, and drops the branch
        threshold = threshold_of(dropout, INPUTS)
    for u in part:
        group, column = u // tiles, u % tiles * n
        at, of_group = group * n_inputs, rows[group * GROUP : (group + 1) * GROUP]
        end = min(column + n, n_inputs)
        if group != known:
            known = group
            for s in range(GROUP):
                offsets[s] = of_group[s if s < len(of_group) else 0] * n_inputs
            if dropout is None:
                _prefetch_group(flat, offsets, column, min(column + (part.stop - u) * n, n_inputs))
            else:
                for s in range(GROUP if threshold else 0):
                    row = of_group[s if s < len(of_group) else 0]
                    offsets[GROUP + s] = row_hash(dropout.keys[INPUTS], number_of(dropout, row))
        # The last tile is whole too: it overlaps the one before, with equal values unless some of these are dropped.
        if n_inputs >= n and (end - column == n or not threshold):
            start = end - n
            for s in range(0, GROUP, n):
                transpose_tile(packed.values, (at + start) * GROUP + s, GROUP, flat, offsets, s, start)
        else:
            for i in range(column, end):
                for s in range(GROUP):
                    packed.values[(at + i) * GROUP + s] = flat[offsets[s] + i]
        present = ~np.uint64(0) >> np.uint64(GROUP - len(of_group))
        for i in range(at + column, at + end):
            mask = nonzero_mask(packed.values, i * GROUP)
            if threshold and mask:
                _drop_values(packed.values, i * GROUP, i - at, offsets, threshold)
                mask = nonzero_mask(packed.values, i * GROUP)
            packed.nonzero_masks[i] = mask & present


@inlined
def _first_from(csr, row, i):
    """The position of the first entry of a sample's list that belongs to input i or a later one."""
    low, high = csr.indptr[row], csr.indptr[row + 1]
    while low < high:
        middle = (low + high) // 2
        if csr.indices[middle] < i:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def pack_csr(member, csr, rows, n_inputs, dropout, packed):
    """`pack` for samples that are already lists, for this member's part of the inputs in every group.

    packed: overwritten; it must hold another block, or zeros

    Only the values of inputs that the other block used are cleared. So the cost grows with the number of entries, not
    of inputs, except for reading every mask.
    """
    never_inline()
    part, threshold = own_part(member, n_inputs), threshold_of(dropout, INPUTS)
    for group in range((len(rows) + GROUP - 1) // GROUP):
        at, first = group * n_inputs, group * GROUP
        for i in range(at + part.start, at + part.stop):
            if packed.nonzero_masks[i]:
                packed.nonzero_masks[i] = 0
                packed.values[i * GROUP : (i + 1) * GROUP] = 0
        for s in range(min(GROUP, len(rows) - first)):
            ask_ahead(csr, rows, first + s)
            row, bit = rows[first + s], _ONE_BIT << np.uint64(s)
            number = row_hash(dropout.keys[INPUTS], number_of(dropout, row))
            for k in range(_first_from(csr, row, part.start), _first_from(csr, row, part.stop)):
                if threshold and unit_hash(number, csr.indices[k]) < threshold:
                    continue
                i = at + np.int64(csr.indices[k])
                packed.values[i * GROUP + s] = csr.data[k]
                packed.nonzero_masks[i] |= bit


@inlined
def _add_one(out, todo, values, x, w0, n):
    """``out[s] += values[x + s] * w0`` for each sample s whose bit is set in `todo`."""
    while todo:
        s = trailing_zeros(todo)
        todo &= todo - _ONE_BIT
        o = out.at + s * out.row
        vstore(out.array, o, vscale_add(load_as(values, x + s, out.array), w0, vload(out.array, o, n)))


@inlined
def _add_two(out, todo, values, x, w0, w1, n):
    """`_add_one` for an input and the next, whose values start GROUP elements later."""
    while todo:
        s = trailing_zeros(todo)
        todo &= todo - _ONE_BIT
        o = out.at + s * out.row
        total = vscale_add(load_as(values, x + s, out.array), w0, vload(out.array, o, n))
        vstore(out.array, o, vscale_add(load_as(values, x + GROUP + s, out.array), w1, total))


@inlined
def load_weights(weight, at, n_units, n):
    """`n` vectors of a row of weights; a single vector has only its first `n_units` lanes loaded, the others are 0."""
    return vload(weight, at, n) if len(n) > 1 else vload_part(weight, at, n_units, n)


@inlined
def add_sparse_product(out, packed, group, n_inputs, weight, n_units, n):
    """Add a group's weighted sums: ``out[s] += inputs[s] @ weight`` for `n` vectors of units.

    out: a `View`, one row per sample of the group
    packed: the inputs of the block that `group` belongs to
    weight: a `View`, one row per input; a single vector has only `n_units` units

    Four inputs are processed together, because a sample that uses a pixel mostly uses its neighbours too: a sample's
    sums are loaded and stored once for all four. A sample that uses only the first two or only the last two inputs,
    as at the edge of a stroke, is visited for these two alone.
    """
    nonzero_masks, values, sums, weights = packed.nonzero_masks, packed.values, out.array, weight.array
    at, i = group * n_inputs, 0
    while i + 4 <= n_inputs:
        for k in range(VALUES_AHEAD, VALUES_AHEAD + 4):
            prefetch(values, (at + i + k) * GROUP)
        low = load(nonzero_masks, at + i) | load(nonzero_masks, at + i + 1)
        high = load(nonzero_masks, at + i + 2) | load(nonzero_masks, at + i + 3)
        if low | high:
            w, x = weight.at + i * weight.row, (at + i) * GROUP
            w0, w1 = load_weights(weights, w, n_units, n), load_weights(weights, w + weight.row, n_units, n)
            w += 2 * weight.row
            w2, w3 = load_weights(weights, w, n_units, n), load_weights(weights, w + weight.row, n_units, n)
            todo = low & high
            while todo:
                s = trailing_zeros(todo)
                todo &= todo - _ONE_BIT
                o = out.at + s * out.row
                total = vscale_add(load_as(values, x + s, sums), w0, vload(sums, o, n))
                total = vscale_add(load_as(values, x + GROUP + s, sums), w1, total)
                total = vscale_add(load_as(values, x + 2 * GROUP + s, sums), w2, total)
                vstore(sums, o, vscale_add(load_as(values, x + 3 * GROUP + s, sums), w3, total))
            _add_two(out, low & ~high, values, x, w0, w1, n)
            _add_two(out, high & ~low, values, x + 2 * GROUP, w2, w3, n)
        i += 4
    while i < n_inputs:
        w0 = load_weights(weights, weight.at + i * weight.row, n_units, n)
        _add_one(out, nonzero_masks[at + i], values, (at + i) * GROUP, w0, n)
        i += 1


_add_panel = by_vectors(add_sparse_product)


@inlined
def sparse_weight_gradient(dout, packed, n_groups, n_inputs, i, j, n):
    """Return ``inputs[:, i] @ dout``, ``inputs[:, j] @ dout``, and whether any sample uses input i or j.

    These are the gradients, before scaling, of the weights from inputs i and j to a panel of `n` vectors.

    dout: a `View`, one row per sample of the block
    packed: the inputs of the block

    The sums stay in registers. Two inputs are processed together, because a sample that uses a pixel mostly uses its
    neighbours too: a row of `dout` is loaded once for both. Two sums per input alternate, so that enough additions are
    under way to hide their latency.
    """
    nonzero_masks, values, gradients = packed.nonzero_masks, packed.values, dout.array
    total_i, total_j, other_i, other_j = (
        vzero(gradients, n),
        vzero(gradients, n),
        vzero(gradients, n),
        vzero(gradients, n),
    )
    used = np.uint64(0)
    for group in range(n_groups):
        at, first = group * n_inputs, dout.at + group * GROUP * dout.row
        todo, x, y = load(nonzero_masks, at + i) | load(nonzero_masks, at + j), (at + i) * GROUP, (at + j) * GROUP
        used |= todo
        while todo:
            s = trailing_zeros(todo)
            todo &= todo - _ONE_BIT
            d = vload(gradients, first + s * dout.row, n)
            total_i = vscale_add(load_as(values, x + s, gradients), d, total_i)
            total_j = vscale_add(load_as(values, y + s, gradients), d, total_j)
            if todo:
                s = trailing_zeros(todo)
                todo &= todo - _ONE_BIT
                d = vload(gradients, first + s * dout.row, n)
                other_i = vscale_add(load_as(values, x + s, gradients), d, other_i)
                other_j = vscale_add(load_as(values, y + s, gradients), d, other_j)
    return vadd(total_i, other_i), vadd(total_j, other_j), used != 0


@inlined
def packed_sums(layout, n_rows, packed, out, panel):
    """Compute the weighted sums of the samples in `packed`."""
    never_inline()
    n_inputs = size_of(layout, INPUTS)
    weight = View(layout.parameters, weight_panel(layout, INPUTS, panel), panel.width)
    for s in range(n_rows):
        out[panel.at + s * panel.row : panel.at + s * panel.row + panel.width] = 0
    for group in range((n_rows + GROUP - 1) // GROUP):
        sums = View(out, panel.at + group * GROUP * panel.row, panel.row)
        _add_panel(panel.vectors, sums, packed, group, n_inputs, weight, panel.width)


@inlined
def _move_input(step, parameters, at, total, factor, back, squares, n):
    """Update an input's weights, or keep their gradient. Returns `squares`, plus the weights' squares with L2.

    total: the weights' gradient in this block, before `factor`, the scale of the inputs
    back: minus the learning rate, in every lane
    """
    if not step.is_first:
        total = vadd(vload(step.state.gradient, at, n), total)
    if not step.is_last:
        vstore(step.state.gradient, at, total)
        return squares
    before = move_row(step, WEIGHTS, parameters, at, vmul(total, factor), back, n)
    return squares if step.l2 == parameters.dtype.type(0) else vfma(before, before, squares)


@inlined
def _update_vectors(layout, n_rows, step, packed, dout, panel, ahead, n):
    """Update the weights of a panel of `n` vectors. Returns the sum of their squares, 0 without L2.

    ahead: an `Ahead`; it is prefetched meanwhile

    An input's gradient updates its weights straight from registers, so weights and the optimizer's state are fetched
    from the second-level cache while the next input's products are added.
    """
    n_inputs, width, parameters = size_of(layout, INPUTS), panel.width, layout.parameters
    at, counts, penalty = weight_panel(layout, INPUTS, panel), step.l2 != parameters.dtype.type(0), 0.0
    n_groups, factor, back = (n_rows + GROUP - 1) // GROUP, vsplat(layout.scale, n), vsplat(-step.rate, n)
    # Plain SGD, one block, no L2: the weights of unused inputs do not change, and one multiplication does the update.
    is_plain = step.rule.kind == SGD and not counts and step.is_first and step.is_last
    back_scaled, rows = vsplat(-step.rate * layout.scale, n), View(dout, panel.at, panel.row)
    for first in range(0, n_inputs, GRADIENT_ROWS):
        if first % INPUTS_PER_PART == 0:
            prefetch_part(ahead, first // INPUTS_PER_PART, (n_inputs + INPUTS_PER_PART - 1) // INPUTS_PER_PART)
        squares = vzero(parameters, n)  # a few rows are summed in the working dtype, all rows in float64
        for i in range(first, min(first + GRADIENT_ROWS, n_inputs), 2):
            j = min(i + 1, n_inputs - 1)
            total_i, total_j, used = sparse_weight_gradient(rows, packed, n_groups, n_inputs, i, j, n)
            w_i, w_j = at + i * width, at + j * width
            if not is_plain:
                squares = _move_input(step, parameters, w_i, total_i, factor, back, squares, n)
                if j > i:
                    squares = _move_input(step, parameters, w_j, total_j, factor, back, squares, n)
            elif used:
                before_i, before_j = vload(parameters, w_i, n), vload(parameters, w_j, n)
                vstore(parameters, w_i, vfma(back_scaled, total_i, before_i))
                vstore(parameters, w_j, vfma(back_scaled, total_j, before_j))
        if counts:
            penalty += np.float64(vsum(squares))
    return penalty


update_packed = by_vectors(_update_vectors)
