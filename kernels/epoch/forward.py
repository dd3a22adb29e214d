"""The forward pass of a block of rows, one panel of units at a time.

`layout.py` describes the arrays.
"""

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import (
    ACTIVATION,
    Matrix,
    View,
    all_panels,
    bias_panel,
    n_panels,
    own_panels,
    padded_width,
    unit_panel,
    weight_block,
)
from fastnn.kernels.ops.activations import vactivate
from fastnn.kernels.ops.dropout import SCALE, drop, number_of, threshold_of
from fastnn.kernels.ops.matmul import OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.team import wait
from fastnn.kernels.vector.simd import ONE, lanes, vadd, vload, vscale_add, vstore


@inlined
def hidden_sums(layout, layer, n_rows, out, panel):
    """Compute the weighted sums of a layer after the first for a panel of its units."""
    sums = View(out, panel.at, panel.row)
    for q in all_panels(layout, layer):
        inp = unit_panel(layout, layer, q)
        at, depth = weight_block(layout, layer, inp, panel)
        left, weight = Matrix(out, inp.at, inp.row, STRIDE_1), View(layout.parameters, at, panel.width)
        multiply_panel(sums, left, weight, depth, n_rows, panel.vectors, q > 0)


@inlined
def finish_units(layout, layer, n_rows, scale, out, panel):
    """``out = activation(scale * out + bias)`` for a panel of the units that the weights of `layer` lead to."""
    n, code, bias_at = lanes(out), layout.table[layer + 1, ACTIVATION], bias_panel(layout, layer, panel)
    for h in range(0, panel.width, n):
        bias = vload(layout.parameters, bias_at + h, ONE)
        for s in range(n_rows):
            at = panel.at + s * panel.row + h
            vstore(out, at, vactivate(code, vscale_add(scale, vload(out, at, ONE), bias), out))


@inlined
def drop_units(rows, dropout, layer, values, panel):
    """Apply the dropout mask of the samples `rows` to a panel of the units of `layer`, unless none are dropped.

    values: a block's outputs or gradients, changed in place
    """
    never_inline()
    threshold, scale = threshold_of(dropout, layer), values.dtype.type(dropout.rates[layer, SCALE])
    for s in range(len(rows) if threshold else 0):
        at = panel.at + s * panel.row
        number = number_of(dropout, rows[s])
        drop(values[at : at + panel.width], dropout.keys[layer], number, panel.first, threshold, scale)


@inlined
def finish_layer(member, layout, layer, rows, scale, dropout, out):
    """Finish the weighted sums of this member's panels: apply scale, bias, activation and dropout mask."""
    never_inline()
    for p in own_panels(member, layout, layer + 1):
        panel = unit_panel(layout, layer + 1, p)
        finish_units(layout, layer, len(rows), scale, out, panel)
        if layer + 1 < layout.n_weights:
            drop_units(rows, dropout, layer + 1, out, panel)


@inlined
def write_partial_logits(layout, n_rows, out, partial_logits, p, panel):
    """Compute the contribution of panel p of the last hidden layer to the logits.

    out: a block's outputs, `Units.out`
    partial_logits: `Units.partial_logits`; those of panel p are overwritten
    """
    layer = layout.n_weights - 1
    begin = p * (len(partial_logits) // n_panels(layout, layer)) - unit_panel(layout, layer + 1, START).at
    padded, left = padded_width(layout, layer + 1), Matrix(out, panel.at, panel.row, STRIDE_1)
    for q in all_panels(layout, layer + 1):
        classes = unit_panel(layout, layer + 1, q)
        at, depth = weight_block(layout, layer, panel, classes)
        logits, weight = View(partial_logits, begin + classes.at, padded), View(layout.parameters, at, classes.width)
        multiply_panel(logits, left, weight, depth, n_rows, classes.vectors, OVERWRITE)


@inlined
def sum_logits(layout, begin, end, out, partial_logits):
    """Compute the logits of the rows `begin` to `end` of a block: the bias plus all partial logits, panel by panel."""
    n, last = lanes(out), layout.n_weights
    padded, count = padded_width(layout, last), n_panels(layout, last - 1)
    classes, apart = unit_panel(layout, last, START), len(partial_logits) // count
    at, bias_at = classes.at, bias_panel(layout, last - 1, classes)
    for s in range(begin, end):
        for h in range(0, padded, n):
            total = vload(layout.parameters, bias_at + h, ONE)
            for p in range(count):
                total = vadd(total, vload(partial_logits, p * apart + s * padded + h, ONE))
            vstore(out, at + s * padded + h, total)


@inlined
def forward_block(member, layout, rows, dropout, units):
    """Compute all hidden layers after the first, and the partial logits. Returns False if the team must stop."""
    never_inline()
    hidden, n_rows, out = layout.n_weights - 1, len(rows), units.out
    for layer in range(1, hidden):
        if not wait(member):
            return False
        for p in own_panels(member, layout, layer + 1):
            hidden_sums(layout, layer, n_rows, out, unit_panel(layout, layer + 1, p))
        finish_layer(member, layout, layer, rows, out.dtype.type(1), dropout, out)
    for p in own_panels(member, layout, hidden) if hidden > 0 else range(0):
        write_partial_logits(layout, n_rows, out, units.partial_logits, p, unit_panel(layout, hidden, p))
    return True
