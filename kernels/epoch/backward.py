"""The backward pass of a block of rows, one panel of units at a time.

`layout.py` describes the arrays. If `step.is_last`, the gradient of a weight is computed a few rows at a time, and
these rows of the weight are updated at once.
"""

from fastnn.kernels.epoch.forward import drop_units
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import (
    FIRST_HIDDEN,
    INPUTS,
    all_panels,
    bias_panel,
    own_panels,
    size_of,
    unit_panel,
    weight_panel,
)
from fastnn.kernels.ops.activations import vslope
from fastnn.kernels.ops.matmul import ONE_ROW, OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.ops.optimizers import apply_update, multiply_and_update
from fastnn.kernels.team import wait
from fastnn.kernels.vector.simd import FOUR, ONE, TWO, lanes, vadd, vload, vstore, vzero
from fastnn.kernels.vector.tiles import transpose_tile


@inlined
def transpose_weights(layout, weight_at, width, depth, columns, transposed, offsets):
    """Transpose a panel's weights: ``transposed[k, r] = weight[r, k]`` for k < columns and r < depth, else 0.

    weight: (depth, width), the layout's parameters from `weight_at` on
    transposed: (columns, `depth` rounded up to whole vectors), flat, overwritten
    offsets: (GROUP,) int64, scratch
    """
    n = lanes(transposed)
    padded = (depth + n - 1) // n * n
    for r in range(0, padded, n):
        for j in range(n):
            offsets[j] = weight_at + min(r + j, depth - 1) * width
        for k in range(0, columns, n):
            transpose_tile(transposed, k * padded + r, padded, layout.parameters, offsets, START, k)
    for k in range(columns):
        transposed[k * padded + depth : (k + 1) * padded] = 0


@inlined
def input_gradient(layout, layer, n_rows, dout, scratch, panel):
    """Compute the gradient of the units of `panel` in `layer` from the gradients of the next layer, all in `dout`.

    The dropout mask and the slope of the activation are not applied yet.

    dout: a block's gradients, `Units.dout`; the rows of `panel` are overwritten
    """
    transposed, offsets = scratch.transposed, scratch.offsets
    depth = min(panel.width, size_of(layout, layer) - panel.first)
    for q in all_panels(layout, layer + 1):
        outputs = unit_panel(layout, layer + 1, q)
        weight_at = weight_panel(layout, layer, outputs) + panel.first * outputs.width
        columns = min(outputs.width, size_of(layout, layer + 1) - outputs.first)
        transpose_weights(layout, weight_at, outputs.width, depth, columns, transposed, offsets)
        multiply_panel(
            dout, panel.at, panel.row, dout, outputs.at, outputs.row, STRIDE_1, transposed, START, panel.width, columns,
            n_rows, panel.vectors, q > 0,
        )  # fmt: skip


@inlined
def slope_units(layout, n_rows, out, dout, panel, keep_prob):
    """Multiply `dout` by the slope of the activation for a panel of hidden units.

    The activation's outputs are ``keep_prob * out``, because dropout has multiplied `out` by ``1 / keep_prob``.
    """
    one = out.dtype.type(1)
    for at in range(panel.at, panel.at + n_rows * panel.width, lanes(out)):
        vstore(dout, at, vslope(layout.activation, vload(dout, at, ONE), vload(out, at, ONE), one, keep_prob))


@inlined
def update_block(layout, layer, n_rows, step, units, state, gradient_tile, inputs, outputs):
    """Update the weights from panel `inputs` to panel `outputs`. Returns the sum of their squares, 0 without L2."""
    at = weight_panel(layout, layer, outputs) + inputs.first * outputs.width
    height = min(inputs.width, size_of(layout, layer) - inputs.first)
    return multiply_and_update(
        layout, at, units.out, inputs.at, inputs.row, height, n_rows, step, gradient_tile.dtype.type(1), units.dout,
        state, gradient_tile, outputs,
    )  # fmt: skip


@inlined
def sum_rows(dout, n_rows, out, out_at, add, panel, n):
    """``out = dout.sum(axis=0)`` for a panel of `n` vectors. If `add` is true, the sum is added to `out` instead."""
    total = vload(out, out_at, n) if add else vzero(out, n)
    for s in range(n_rows):
        total = vadd(total, vload(dout, panel.at + s * panel.row, n))
    vstore(out, out_at, total)


@inlined
def sum_panel(dout, n_rows, out, out_at, add, panel):
    """`sum_rows` for a number of vectors that is known only at run time."""
    if panel.vectors == 4:
        sum_rows(dout, n_rows, out, out_at, add, panel, FOUR)
    elif panel.vectors == 2:
        sum_rows(dout, n_rows, out, out_at, add, panel, TWO)
    else:
        sum_rows(dout, n_rows, out, out_at, add, panel, ONE)


@inlined
def update_bias(layout, layer, n_rows, step, dout, state, gradient_tile, panel):
    """Update the biases of a panel's units."""
    never_inline()
    real, at = gradient_tile.dtype.type, bias_panel(layout, layer, panel)
    if step.is_last:
        sum_panel(dout, n_rows, gradient_tile, START, OVERWRITE, panel)
        apply_update(step, real(0), real(1), layout.parameters, state, at, gradient_tile, ONE_ROW, panel.vectors)
    else:
        sum_panel(dout, n_rows, state.gradient, at, not step.is_first, panel)


@inlined
def update_between(layout, layer, t, threads, n_rows, step, units, state, penalty, gradient_tile):
    """Update those weights between two hidden layers that lead to thread t's panels.

    penalty: the sums of the weights' squares, overwritten for these panels
    """
    for q in own_panels(layout, layer + 1, t, threads):
        outputs, squares = unit_panel(layout, layer + 1, q), 0.0
        for p in all_panels(layout, layer):
            squares += update_block(
                layout, layer, n_rows, step, units, state, gradient_tile, unit_panel(layout, layer, p), outputs
            )
        penalty[layer * (len(penalty) // layout.n_weights) + q] = squares
        update_bias(layout, layer, n_rows, step, units.dout, state, gradient_tile, outputs)


@inlined
def backward_block(t, threads, layout, rows, step, dropout, units, state, penalty, scratch, barrier):
    """Run the backward pass, and update all parameters except the weights of the first layer.

    Returns False if the team must stop. Unless `step.is_last`, the gradients are only added up in `state`, and no
    parameter changes.

    Weights that lead out of the last hidden layer are updated by the owners of the panels they lead out of: no other
    thread reads them. Weights between hidden layers are updated by the owners of the panels they lead to. This happens
    after the next barrier, when all threads have read these weights.
    """
    never_inline()
    n_layers, n_rows, dout, gradient_tile = layout.n_weights, len(rows), units.dout, scratch.gradient_tile
    hidden, n_penalties = n_layers - 1, len(penalty) // n_layers
    for p in own_panels(layout, hidden, t, threads) if hidden > 0 else range(0):
        panel, squares = unit_panel(layout, hidden, p), 0.0
        input_gradient(layout, hidden, n_rows, dout, scratch, panel)
        for q in all_panels(layout, n_layers):
            squares += update_block(
                layout, hidden, n_rows, step, units, state, gradient_tile, panel, unit_panel(layout, n_layers, q)
            )
        penalty[hidden * n_penalties + p] = squares
    if t == 0 and hidden > 0:
        for q in all_panels(layout, n_layers):
            update_bias(layout, hidden, n_rows, step, dout, state, gradient_tile, unit_panel(layout, n_layers, q))
    for layer in range(hidden, 0, -1):
        if layer < hidden and not wait(barrier, threads):
            return False
        for p in own_panels(layout, layer, t, threads):
            panel = unit_panel(layout, layer, p)
            if layer < hidden:
                input_gradient(layout, layer, n_rows, dout, scratch, panel)
            if dropout.threshold:
                drop_units(rows, dropout, layer - 1, dout, panel)
            slope_units(layout, n_rows, units.out, dout, panel, dropout.keep_prob)
        if layer + 1 < hidden:
            update_between(layout, layer + 1, t, threads, n_rows, step, units, state, penalty, gradient_tile)
    if hidden > 1:
        if not wait(barrier, threads):
            return False
        update_between(layout, FIRST_HIDDEN, t, threads, n_rows, step, units, state, penalty, gradient_tile)
    for p in own_panels(layout, FIRST_HIDDEN, t, threads):
        update_bias(layout, INPUTS, n_rows, step, dout, state, gradient_tile, unit_panel(layout, FIRST_HIDDEN, p))
    return True
