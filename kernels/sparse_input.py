"""The first layer when most inputs are zero: only the others are visited, forward and backward.

Four of five pixels of a handwritten digit are zero, so the first layer, nearly all the work of a digit network, becomes
several times smaller. What decides the speed then is memory: samples lie scattered over the data set, so a group of 64
is gathered once a step and transposed on the way, input by input, sample beside sample. An input's 64 values are then
one cache line (of bytes), and a comparison of that line with 0 says, bit by bit, which samples use the input.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined
from fastnn.kernels.layers import GROUP, lanes
from fastnn.kernels.simd import (
    load_as,
    nonzero_mask,
    trailing_zeros,
    transpose_tile,
    vload,
    vscale_add,
    vstore,
    vzero,
)

_ONE_BIT = np.uint64(1)


class Packed(NamedTuple):
    """A thread's copy of the inputs of a block: for each group of 64 samples,

    values (D * 64,): input by input, sample beside sample, in the data's dtype; users (D,): bit s says whether sample s
    has the input other than 0. places (64,) is scratch: where the group's rows start.
    """

    values: np.ndarray
    users: np.ndarray
    places: np.ndarray


@inlined
def pack_group(images, rows, packed, group):
    """Gather the samples `rows` (at most 64) of `images` (N, D) as group `group` of a block."""
    n_inputs, flat, n = images.shape[1], images.reshape(-1), lanes(images)
    for s in range(GROUP):  # missing samples repeat the first, and no input has them as users
        packed.places[s] = rows[s if s < len(rows) else 0] * n_inputs
    at = group * n_inputs
    column = 0
    while column + n <= n_inputs:
        for s in range(0, GROUP, n):
            transpose_tile(packed.values, (at + column) * GROUP + s, GROUP, flat, packed.places, s, column)
        column += n
    for i in range(column, n_inputs):
        for s in range(GROUP):
            packed.values[(at + i) * GROUP + s] = flat[packed.places[s] + i]
    present = ~np.uint64(0) >> np.uint64(GROUP - len(rows))
    for i in range(n_inputs):
        packed.users[at + i] = nonzero_mask(packed.values, (at + i) * GROUP) & present


@inlined
def spread(out, out_at, packed, group, n_inputs, weight, weight_at, n):
    """Add the group's weighted sums: ``out[s] += inputs[s] @ weight`` for a panel of `n` vectors.

    out: rows of the panel's width from `out_at` on, for the group's 64 samples; weight: rows of that width. Four inputs
    go together, since neighbouring pixels mostly have the same users: a sample's sums are loaded and stored once for
    them.
    """
    width, users, values = len(n) * lanes(out), packed.users, packed.values
    at = group * n_inputs
    i = 0
    while i + 4 <= n_inputs:
        todo = users[at + i] | users[at + i + 1] | users[at + i + 2] | users[at + i + 3]
        if todo:
            w = weight_at + i * width
            w0, w1 = vload(weight, w, n), vload(weight, w + width, n)
            w2, w3 = vload(weight, w + 2 * width, n), vload(weight, w + 3 * width, n)
            while todo:
                s = trailing_zeros(todo)
                todo &= todo - _ONE_BIT
                x, o = (at + i) * GROUP + s, out_at + s * width
                total = vscale_add(load_as(values, x, out), w0, vload(out, o, n))
                total = vscale_add(load_as(values, x + GROUP, out), w1, total)
                total = vscale_add(load_as(values, x + 2 * GROUP, out), w2, total)
                vstore(out, o, vscale_add(load_as(values, x + 3 * GROUP, out), w3, total))
        i += 4
    while i < n_inputs:
        todo = users[at + i]
        w0 = vload(weight, weight_at + i * width, n)
        while todo:
            s = trailing_zeros(todo)
            todo &= todo - _ONE_BIT
            o = out_at + s * width
            vstore(out, o, vscale_add(load_as(values, (at + i) * GROUP + s, out), w0, vload(out, o, n)))
        i += 1


@inlined
def collect(piece, piece_at, dout, dout_at, packed, n_groups, n_inputs, i, n):
    """Gradient of the weights of inputs i and i + 1, one panel of `n` vectors: two rows of `piece`.

    dout: rows of the panel's width from `dout_at` on, for all samples of the block. The sums stay in registers; two
    inputs go together, since they mostly have the same users. Returns whether any sample uses either. Where i + 1 is no
    input any more, the second row is 0.
    """
    width, users, values = len(n) * lanes(dout), packed.users, packed.values
    sum0, sum1 = vzero(dout, n), vzero(dout, n)
    any_user = False
    for group in range(n_groups):
        at, first = group * n_inputs + i, dout_at + group * GROUP * width
        paired = i + 1 < n_inputs
        todo = users[at] | users[at + 1] if paired else users[at]
        any_user |= todo != 0
        x = at * GROUP
        if paired:
            while todo:
                s = trailing_zeros(todo)
                todo &= todo - _ONE_BIT
                d = vload(dout, first + s * width, n)
                sum0 = vscale_add(load_as(values, x + s, dout), d, sum0)
                sum1 = vscale_add(load_as(values, x + GROUP + s, dout), d, sum1)
        while todo:
            s = trailing_zeros(todo)
            todo &= todo - _ONE_BIT
            sum0 = vscale_add(load_as(values, x + s, dout), vload(dout, first + s * width, n), sum0)
    vstore(piece, piece_at, sum0)
    vstore(piece, piece_at + width, sum1)
    return any_user
