"""The backward pass of a block of rows, one panel of units at a time.

`layout.py` describes the arrays. If `step.is_last`, the gradient of a weight is computed a few rows at a time, and
these rows of the weight are updated at once.
"""

from fastnn.kernels.epoch.forward import drop_units
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import (
    ACTIVATION,
    FIRST_HIDDEN,
    INPUTS,
    Matrix,
    View,
    all_panels,
    bias_panel,
    by_vectors,
    own_panels,
    size_of,
    unit_panel,
    weight_block,
)
from fastnn.kernels.ops.activations import vslope
from fastnn.kernels.ops.dropout import KEEP_PROB
from fastnn.kernels.ops.matmul import ONE_ROW, OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.ops.optimizers import BIASES, apply_update, multiply_and_update
from fastnn.kernels.team import wait
from fastnn.kernels.vector.simd import ONE, lanes, vadd, vload, vstore, vzero
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
    dinp, weight = View(dout, panel.at, panel.row), View(scratch.transposed, START, panel.width)
    for q in all_panels(layout, layer + 1):
        outputs = unit_panel(layout, layer + 1, q)
        at, depth = weight_block(layout, layer, panel, outputs)
        columns = min(outputs.width, size_of(layout, layer + 1) - outputs.first)
        transpose_weights(layout, at, outputs.width, depth, columns, scratch.transposed, scratch.offsets)
        left = Matrix(dout, outputs.at, outputs.row, STRIDE_1)
        multiply_panel(dinp, left, weight, columns, n_rows, panel.vectors, q > 0)


@inlined
def slope_units(code, n_rows, out, dout, panel, keep_prob):
    """Multiply `dout` by the slope of the activation with this code, for a panel of hidden units.

    The activation's outputs are ``keep_prob * out``, because dropout has multiplied `out` by ``1 / keep_prob``.
    """
    for at in range(panel.at, panel.at + n_rows * panel.width, lanes(out)):
        vstore(dout, at, vslope(code, vload(dout, at, ONE), vload(out, at, ONE), out, keep_prob))


@inlined
def update_block(layout, layer, n_rows, step, units, gradient_tile, inputs, outputs):
    """Update the weights from panel `inputs` to panel `outputs`. Returns the sum of their squares, 0 without L2."""
    at, height = weight_block(layout, layer, inputs, outputs)
    weight, dout = View(layout.parameters, at, outputs.width), View(units.dout, outputs.at, outputs.row)
    left, one = Matrix(units.out, inputs.at, STRIDE_1, inputs.row), gradient_tile.dtype.type(1)
    return multiply_and_update(step, one, weight, left, dout, height, n_rows, gradient_tile)


@inlined
def sum_rows(dout, n_rows, out, out_at, add, n):
    """``out = dout.sum(axis=0)`` for `n` vectors of columns. If `add` is true, the sum is added to `out` instead.

    dout: a `View` of n_rows rows
    """
    total = vload(out, out_at, n) if add else vzero(out, n)
    for s in range(n_rows):
        total = vadd(total, vload(dout.array, dout.at + s * dout.row, n))
    vstore(out, out_at, total)


sum_panel = by_vectors(sum_rows)


@inlined
def update_bias(layout, layer, n_rows, step, dout, gradient_tile, panel):
    """Update the biases of a panel's units."""
    never_inline()
    real, at, rows = gradient_tile.dtype.type, bias_panel(layout, layer, panel), View(dout, panel.at, panel.row)
    if step.is_last:
        sum_panel(panel.vectors, rows, n_rows, gradient_tile, START, OVERWRITE)
        apply_update(panel.vectors, step, BIASES, real(1), layout.parameters, at, gradient_tile, ONE_ROW)
    else:
        sum_panel(panel.vectors, rows, n_rows, step.state.gradient, at, not step.is_first)


@inlined
def update_between(member, layout, layer, n_rows, step, units, penalty, gradient_tile):
    """Update those weights between two hidden layers that lead to this member's panels.

    penalty: the sums of the weights' squares, overwritten for these panels
    """
    for q in own_panels(member, layout, layer + 1):
        outputs, squares = unit_panel(layout, layer + 1, q), 0.0
        for p in all_panels(layout, layer):
            inputs = unit_panel(layout, layer, p)
            squares += update_block(layout, layer, n_rows, step, units, gradient_tile, inputs, outputs)
        penalty[layer * (len(penalty) // layout.n_weights) + q] = squares
        update_bias(layout, layer, n_rows, step, units.dout, gradient_tile, outputs)


@inlined
def backward_block(member, layout, rows, step, dropout, units, penalty, scratch):
    """Run the backward pass, and update all parameters except those of the first layer.

    Returns False if the team must stop. Unless `step.is_last`, the gradients are only added up in ``step.state``, and
    no parameter changes.

    Weights that lead out of the last hidden layer are updated by the owners of the panels they lead out of: no other
    thread reads them. Weights between hidden layers are updated by the owners of the panels they lead to. This happens
    after the next barrier, when all threads have read these weights.
    """
    never_inline()
    n_layers, n_rows, dout, gradient_tile = layout.n_weights, len(rows), units.dout, scratch.gradient_tile
    hidden, n_penalties = n_layers - 1, len(penalty) // n_layers
    for p in own_panels(member, layout, hidden) if hidden > 0 else range(0):
        panel, squares = unit_panel(layout, hidden, p), 0.0
        input_gradient(layout, hidden, n_rows, dout, scratch, panel)
        for q in all_panels(layout, n_layers):
            classes = unit_panel(layout, n_layers, q)
            squares += update_block(layout, hidden, n_rows, step, units, gradient_tile, panel, classes)
        penalty[hidden * n_penalties + p] = squares
    if member.t == 0 and hidden > 0:
        for q in all_panels(layout, n_layers):
            update_bias(layout, hidden, n_rows, step, dout, gradient_tile, unit_panel(layout, n_layers, q))
    for layer in range(hidden, 0, -1):
        if layer < hidden and not wait(member):
            return False
        for p in own_panels(member, layout, layer):
            panel = unit_panel(layout, layer, p)
            if layer < hidden:
                input_gradient(layout, layer, n_rows, dout, scratch, panel)
            drop_units(rows, dropout, layer, dout, panel)
            keep_prob = dout.dtype.type(dropout.rates[layer, KEEP_PROB])
            slope_units(layout.table[layer, ACTIVATION], n_rows, units.out, dout, panel, keep_prob)
        if layer + 1 < hidden:
            update_between(member, layout, layer + 1, n_rows, step, units, penalty, gradient_tile)
    if hidden > 1:
        if not wait(member):
            return False
        update_between(member, layout, FIRST_HIDDEN, n_rows, step, units, penalty, gradient_tile)
    return True


@inlined
def update_first_bias(member, layout, n_rows, step, dout, gradient_tile):
    """Update the biases of this member's panels of the first layer."""
    for p in own_panels(member, layout, FIRST_HIDDEN):
        update_bias(layout, INPUTS, n_rows, step, dout, gradient_tile, unit_panel(layout, FIRST_HIDDEN, p))
