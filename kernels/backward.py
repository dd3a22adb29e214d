"""The loss of a block of rows and the way back through the layers, a panel of units at a time.

`layers.py` says how arrays lie. A weight's gradient exists a few rows at a time, which move their weights at once.
"""

import numpy as np

from fastnn.kernels.activations import vslope
from fastnn.kernels.dense import ONE_ROW, OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.jit import inlined
from fastnn.kernels.layers import (
    GROUP,
    INPUTS,
    PIECE,
    all_panels,
    lanes,
    own_panels,
    unit_panel,
    weight_panel,
)  # fmt: skip
from fastnn.kernels.simd import FOUR, ONE, TWO, vadd, vexp, vload, vmul, vsplat, vstore, vsub, vsum, vzero
from fastnn.kernels.sparse_input import collect
from fastnn.kernels.updates import SGD, settle


@inlined
def cross_entropy(layers, s, label, share, out, dout):
    """Loss of row s of a block, and ``dout = share * (softmax(out) - one_hot(label))``; returns loss, whether right."""
    n, last, real = lanes(out), len(layers.weight_at), out.dtype.type
    n_classes = layers.sizes[last]
    top, best, at_label = real(-np.inf), 0, 0
    for q in all_panels(layers, last):
        classes = unit_panel(layers, last, q)
        at = classes.at + s * classes.width
        for c in range(classes.width):
            if classes.first + c >= n_classes:
                out[at + c] = real(-np.inf)  # padding: its exponential is 0
            elif out[at + c] > top:
                top, best = out[at + c], classes.first + c
            if classes.first + c == label:
                at_label = at + c
    sums = vzero(out, ONE)
    for q in all_panels(layers, last):
        classes = unit_panel(layers, last, q)
        for h in range(0, classes.width, n):
            at = classes.at + s * classes.width + h
            exp = vexp(vsub(vload(out, at, ONE), vsplat(top, ONE)))
            vstore(dout, at, exp)
            sums = vadd(sums, exp)
    total = vsum(sums)
    factor = vsplat(share / total, ONE)
    for q in all_panels(layers, last):
        classes = unit_panel(layers, last, q)
        for h in range(0, classes.width, n):
            at = classes.at + s * classes.width + h
            vstore(dout, at, vmul(vload(dout, at, ONE), factor))
    dout[at_label] -= share
    return np.float64(np.log(total)) - np.float64(out[at_label] - top), best == label


@inlined
def input_gradient(layers, layer, n_rows, dout, turned, panel):
    """Gradient of a layer's inputs, the units of `panel`, before the activation that made them; no mask applied yet."""
    depth = min(panel.width, layers.sizes[layer] - panel.first)
    for q in all_panels(layers, layer + 1):
        outputs = unit_panel(layers, layer + 1, q)
        weight_at = weight_panel(layers, layer, outputs) + panel.first * outputs.width
        columns = min(outputs.width, layers.sizes[layer + 1] - outputs.first)
        for k in range(columns):
            for r in range(depth):
                turned[k * panel.width + r] = layers.parameters[weight_at + r * outputs.width + k]
            for r in range(depth, panel.width):
                turned[k * panel.width + r] = 0
        multiply_panel(
            dout, panel.at, panel.width, dout, outputs.at, outputs.width, STRIDE_1, turned, START, panel.width, columns,
            n_rows, panel.vectors, q > 0,
        )  # fmt: skip


@inlined
def slope_units(layers, n_rows, out, dout, panel, share):
    """`dout` times the slope of the activation of a panel's hidden units, whose outputs are `share` times `out`."""
    one = out.dtype.type(1)
    for at in range(panel.at, panel.at + n_rows * panel.width, lanes(out)):
        vstore(dout, at, vslope(layers.activation, vload(dout, at, ONE), vload(out, at, ONE), one, share))


@inlined
def state(work):
    """The optimizer's slots and the kept gradient, as `settle` takes them."""
    return work.slot_1, work.slot_2, work.gradient


@inlined
def update_inputs(layers, sparse, n_rows, rule, rate, is_first, is_last, packed, work, dense, piece, panel):
    """Gradient and step of the first layer's weights that lead to a panel's units; returns the sum of their squares."""
    n_inputs, width, real = layers.sizes[0], panel.width, piece.dtype.type
    at, penalty = weight_panel(layers, INPUTS, panel), 0.0
    n_groups = (n_rows + GROUP - 1) // GROUP
    for i in range(0, n_inputs, PIECE):
        count = min(PIECE, n_inputs - i)
        if sparse:
            moves = False
            for k in range(0, count, 2):
                if panel.vectors == 4:
                    moves |= collect(piece, k * width, work.dout, panel.at, packed, n_groups, n_inputs, i + k, FOUR)
                elif panel.vectors == 2:
                    moves |= collect(piece, k * width, work.dout, panel.at, packed, n_groups, n_inputs, i + k, TWO)
                else:
                    moves |= collect(piece, k * width, work.dout, panel.at, packed, n_groups, n_inputs, i + k, ONE)
            if not moves and is_first and is_last and rule.kind == SGD and rule.l2 == real(0):
                continue
        else:
            multiply_panel(
                piece, START, width, dense, i, STRIDE_1, n_inputs, work.dout, panel.at, width, n_rows, count,
                panel.vectors, OVERWRITE,
            )  # fmt: skip
        penalty += settle(
            rule, rate, rule.l2, layers.scale, is_first, is_last, layers.parameters, state(work), at + i * width, piece,
            count, panel.vectors,
        )  # fmt: skip
    return penalty


@inlined
def update_block(layers, layer, n_rows, rule, rate, is_first, is_last, work, piece, inputs, outputs):
    """Gradient and step of the weights between two panels of units; returns the sum of their squares."""
    penalty, one = 0.0, piece.dtype.type(1)
    at = weight_panel(layers, layer, outputs) + inputs.first * outputs.width
    height = min(inputs.width, layers.sizes[layer] - inputs.first)
    for i in range(0, height, PIECE):
        count = min(PIECE, height - i)
        multiply_panel(
            piece, START, outputs.width, work.out, inputs.at + i, STRIDE_1, inputs.width, work.dout, outputs.at,
            outputs.width, n_rows, count, outputs.vectors, OVERWRITE,
        )  # fmt: skip
        penalty += settle(
            rule, rate, rule.l2, one, is_first, is_last, layers.parameters, state(work), at + i * outputs.width, piece,
            count, outputs.vectors,
        )  # fmt: skip
    return penalty


@inlined
def update_bias(layers, layer, n_rows, rule, rate, is_first, is_last, work, piece, panel):
    """Gradient and step of the biases of a panel's units."""
    n, real = lanes(piece), piece.dtype.type
    for h in range(0, panel.width, n):
        total = vzero(piece, ONE)
        for s in range(n_rows):
            total = vadd(total, vload(work.dout, panel.at + s * panel.width + h, ONE))
        vstore(piece, h, total)
    settle(
        rule, rate, real(0), real(1), is_first, is_last, layers.parameters, state(work),
        layers.bias_at[layer] + panel.first, piece, ONE_ROW, panel.vectors,
    )  # fmt: skip


@inlined
def update_between(layers, layer, t, threads, n_rows, rule, rate, is_first, is_last, work, piece):
    """Gradient and step of the weights between two hidden layers, by the owners of the panels they lead to."""
    for q in own_panels(layers, layer + 1, t, threads):
        outputs, penalty = unit_panel(layers, layer + 1, q), 0.0
        for p in all_panels(layers, layer):
            inputs = unit_panel(layers, layer, p)
            penalty += update_block(layers, layer, n_rows, rule, rate, is_first, is_last, work, piece, inputs, outputs)
        work.penalty[layer * (len(work.penalty) // len(layers.weight_at)) + q] = penalty
        update_bias(layers, layer, n_rows, rule, rate, is_first, is_last, work, piece, outputs)
