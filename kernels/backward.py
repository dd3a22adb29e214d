"""The way back through the layers for a block of rows, a panel of units at a time.

`layers.py` says how arrays lie. A weight's gradient exists a few rows at a time, which move their weights at once.
"""

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
from fastnn.kernels.simd import (
    FOUR,
    ONE,
    TWO,
    transpose_tile,
    vadd,
    vfma,
    vload,
    vsplat,
    vstore,
    vzero,
)  # fmt: skip
from fastnn.kernels.sparse_input import collect, collect_listed, is_used
from fastnn.kernels.updates import SGD, settle


@inlined
def turn(layers, weight_at, width, depth, columns, turned, places):
    """The transpose of a panel's weights: ``turned[k, r] = weight[r, k]``, k < columns, r < depth, else 0.

    weight: rows of `width` from `weight_at` on. turned: rows as long as `depth` rounded up to whole vectors.
    """
    n = lanes(turned)
    padded = (depth + n - 1) // n * n
    for r in range(0, padded, n):
        for j in range(n):
            places[j] = weight_at + min(r + j, depth - 1) * width
        for k in range(0, columns, n):
            transpose_tile(turned, k * padded + r, padded, layers.parameters, places, START, k)
    for k in range(columns):
        turned[k * padded + depth : (k + 1) * padded] = 0


@inlined
def input_gradient(layers, layer, n_rows, dout, turned, places, panel):
    """Gradient of a layer's inputs, the units of `panel`, before the activation that made them; no mask applied yet."""
    depth = min(panel.width, layers.sizes[layer] - panel.first)
    for q in all_panels(layers, layer + 1):
        outputs = unit_panel(layers, layer + 1, q)
        weight_at = weight_panel(layers, layer, outputs) + panel.first * outputs.width
        columns = min(outputs.width, layers.sizes[layer + 1] - outputs.first)
        turn(layers, weight_at, outputs.width, depth, columns, turned, places)
        multiply_panel(
            dout, panel.at, panel.row, dout, outputs.at, outputs.row, STRIDE_1, turned, START, panel.width, columns,
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
def update_packed(layers, n_rows, rule, rate, is_first, is_last, packed, work, piece, panel, n):
    """`update_inputs` for packed inputs, for a panel of `n` vectors."""
    n_inputs, width, real = layers.sizes[0], panel.width, piece.dtype.type
    at, penalty = weight_panel(layers, INPUTS, panel), 0.0
    n_groups = (n_rows + GROUP - 1) // GROUP
    if is_first and is_last and rule.kind == SGD and rule.l2 == real(0):
        # The plainest rule moves weights straight from the registers, and leaves alone those of inputs nobody uses.
        back = vsplat(-rate * layers.scale, n)
        for i in range(n_inputs):
            if is_used(packed, n_groups, n_inputs, i):
                total = collect(work.dout, panel.at, panel.row, packed, n_groups, n_inputs, i, n)
                w = at + i * width
                vstore(layers.parameters, w, vfma(back, total, vload(layers.parameters, w, n)))
        return penalty
    for i in range(0, n_inputs, PIECE):
        count = min(PIECE, n_inputs - i)
        for k in range(count):
            total = collect(work.dout, panel.at, panel.row, packed, n_groups, n_inputs, i + k, n)
            vstore(piece, k * width, total)
        penalty += settle(
            rule, rate, rule.l2, layers.scale, is_first, is_last, layers.parameters, state(work), at + i * width, piece,
            count, panel.vectors,
        )  # fmt: skip
    return penalty


@inlined
def update_rows(
    layers, at, left, left_at, left_row, height, n_rows, rule, rate, scale, is_first, is_last, work, piece, outputs
):
    """Gradient and step of `height` rows of weights, from `at` on, that lead to the panel `outputs`; returns the sum of
    their squares.

    The gradient is ``scale * left.T @ dout``, a few rows at a time. left: flat, (n_rows, height) from `left_at` on, its
    rows `left_row` apart.
    """
    penalty = 0.0
    for i in range(0, height, PIECE):
        count = min(PIECE, height - i)
        multiply_panel(
            piece, START, outputs.width, left, left_at + i, STRIDE_1, left_row, work.dout, outputs.at, outputs.row,
            n_rows, count, outputs.vectors, OVERWRITE,
        )  # fmt: skip
        penalty += settle(
            rule, rate, rule.l2, scale, is_first, is_last, layers.parameters, state(work), at + i * outputs.width,
            piece, count, outputs.vectors,
        )  # fmt: skip
    return penalty


@inlined
def update_inputs(layers, n_rows, rule, rate, is_first, is_last, inputs, work, piece, panel):
    """Gradient and step of the first layer's weights that lead to a panel's units; returns the sum of their squares."""
    if len(inputs.packed.users):
        block = (layers, n_rows, rule, rate, is_first, is_last, inputs.packed, work, piece, panel)
        if panel.vectors == 4:
            return update_packed(*block, FOUR)
        if panel.vectors == 2:
            return update_packed(*block, TWO)
        return update_packed(*block, ONE)
    if len(inputs.ends):  # threads share rows, so the gradient is kept as a whole in any case
        gradient, gradient_at, scale = work.gradient, weight_panel(layers, INPUTS, panel), layers.scale
        if is_first:
            gradient[gradient_at : gradient_at + layers.sizes[0] * panel.width] = 0
        for s in range(n_rows):
            at, nonzero = panel.at + s * panel.row, (inputs.numbers, inputs.value, inputs.ends[s], inputs.ends[s + 1])
            if panel.vectors == 2:
                collect_listed(gradient, gradient_at, work.dout, at, scale, *nonzero, TWO)
            else:
                collect_listed(gradient, gradient_at, work.dout, at, scale, *nonzero, ONE)
        return 0.0
    n_inputs = layers.sizes[0]
    return update_rows(
        layers, weight_panel(layers, INPUTS, panel), inputs.dense, START, n_inputs, n_inputs, n_rows, rule, rate,
        layers.scale, is_first, is_last, work, piece, panel,
    )  # fmt: skip


@inlined
def update_block(layers, layer, n_rows, rule, rate, is_first, is_last, work, piece, inputs, outputs):
    """Gradient and step of the weights between two panels of units; returns the sum of their squares."""
    at = weight_panel(layers, layer, outputs) + inputs.first * outputs.width
    height = min(inputs.width, layers.sizes[layer] - inputs.first)
    return update_rows(
        layers, at, work.out, inputs.at, inputs.row, height, n_rows, rule, rate, piece.dtype.type(1), is_first, is_last,
        work, piece, outputs,
    )  # fmt: skip


@inlined
def sum_rows(dout, n_rows, piece, panel, n):
    """``piece = dout.sum(axis=0)`` for a panel of `n` vectors."""
    total = vzero(piece, n)
    for s in range(n_rows):
        total = vadd(total, vload(dout, panel.at + s * panel.row, n))
    vstore(piece, START, total)


@inlined
def update_bias(layers, layer, n_rows, rule, rate, is_first, is_last, work, piece, panel):
    """Gradient and step of the biases of a panel's units."""
    real = piece.dtype.type
    if panel.vectors == 4:
        sum_rows(work.dout, n_rows, piece, panel, FOUR)
    elif panel.vectors == 2:
        sum_rows(work.dout, n_rows, piece, panel, TWO)
    else:
        sum_rows(work.dout, n_rows, piece, panel, ONE)
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
