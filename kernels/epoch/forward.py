"""The forward pass of a block of rows, a panel of units at a time.

`layers.py` says how arrays lie.
"""

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import (
    all_panels,
    bias_panel,
    n_panels,
    own_panels,
    padded_width,
    size_of,
    unit_panel,
    weight_panel,
)
from fastnn.kernels.ops.activations import IDENTITY, vactivate
from fastnn.kernels.ops.dropout import drop
from fastnn.kernels.ops.matmul import OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.team import STOPPED, barrier
from fastnn.kernels.vector.simd import ONE, lanes, vadd, vload, vscale_add, vstore


@inlined
def hidden_sums(layers, layer, n_rows, out, panel):
    """Weighted sums of a layer after the first for a panel of its units."""
    for q in all_panels(layers, layer):
        inp = unit_panel(layers, layer, q)
        depth = min(inp.width, size_of(layers, layer) - inp.first)
        right_at = weight_panel(layers, layer, panel) + inp.first * panel.width
        multiply_panel(
            out, panel.at, panel.row, out, inp.at, inp.row, STRIDE_1, layers.parameters, right_at, panel.width,
            depth, n_rows, panel.vectors, q > 0,
        )  # fmt: skip


@inlined
def finish_units(layers, layer, n_rows, scale, out, panel):
    """``out = activation(scale * out + bias)`` for a panel of the units that a layer's weights lead to."""
    n, one, bias_at = lanes(out), out.dtype.type(1), bias_panel(layers, layer, panel)
    code = layers.activation if layer < layers.n_weights - 1 else IDENTITY
    for h in range(0, panel.width, n):
        bias = vload(layers.parameters, bias_at + h, ONE)
        for s in range(n_rows):
            at = panel.at + s * panel.row + h
            vstore(out, at, vactivate(code, vscale_add(scale, vload(out, at, ONE), bias), one))


@inlined
def drop_units(rows, dropout, layer, values, panel):
    """Apply the mask of the units that a layer's weights lead to, for the samples `rows`."""
    never_inline()
    for s in range(len(rows)):
        at = panel.at + s * panel.row
        units = values[at : at + panel.width]
        drop(units, dropout.keys[layer], rows[s], panel.first, dropout.threshold, dropout.scale)


@inlined
def finish_layer(layers, layer, t, threads, rows, scale, dropout, out):
    """Thread t's share of what follows a layer's weighted sums: scale, bias, activation and mask."""
    never_inline()
    for p in own_panels(layers, layer + 1, t, threads):
        panel = unit_panel(layers, layer + 1, p)
        finish_units(layers, layer, len(rows), scale, out, panel)
        if dropout.threshold and layer + 1 < layers.n_weights:
            drop_units(rows, dropout, layer, out, panel)


@inlined
def logit_parts(layers, n_rows, out, parts, p, panel):
    """What the units of panel p of the last hidden layer add to the logits."""
    layer = layers.n_weights - 1
    depth = min(panel.width, size_of(layers, layer) - panel.first)
    first = unit_panel(layers, layer + 1, START).at
    padded = padded_width(layers, layer + 1)
    for q in all_panels(layers, layer + 1):
        classes = unit_panel(layers, layer + 1, q)
        right_at = weight_panel(layers, layer, classes) + panel.first * classes.width
        multiply_panel(
            parts, p * (len(parts) // n_panels(layers, layer)) + classes.at - first, padded, out, panel.at, panel.row,
            STRIDE_1, layers.parameters, right_at, classes.width, depth, n_rows, classes.vectors, OVERWRITE,
        )  # fmt: skip


@inlined
def sum_logits(layers, begin, end, out, parts):
    """The logits of rows `begin` to `end` of a block: bias and all panels' parts, in the order of the panels."""
    n, last = lanes(out), layers.n_weights
    padded, count = padded_width(layers, last), n_panels(layers, last - 1)
    classes, apart = unit_panel(layers, last, START), len(parts) // count
    at, bias_at = classes.at, bias_panel(layers, last - 1, classes)
    for h in range(0, padded, n):
        bias = vload(layers.parameters, bias_at + h, ONE)
        for s in range(begin, end):
            total = bias
            for p in range(count):
                total = vadd(total, vload(parts, p * apart + s * padded + h, ONE))
            vstore(out, at + s * padded + h, total)


@inlined
def forward_block(t, threads, layers, rows, dropout, units, gate, goal):
    """From the first layer's outputs to each panel's part of the logits; returns the barriers' goal, or STOPPED."""
    never_inline()
    hidden, n_rows, out = layers.n_weights - 1, len(rows), units.out
    for layer in range(1, hidden):
        goal += threads
        if not barrier(gate, goal):
            return STOPPED
        for p in own_panels(layers, layer + 1, t, threads):
            hidden_sums(layers, layer, n_rows, out, unit_panel(layers, layer + 1, p))
        finish_layer(layers, layer, t, threads, rows, out.dtype.type(1), dropout, out)
    for p in own_panels(layers, hidden, t, threads) if hidden > 0 else range(0):
        logit_parts(layers, n_rows, out, units.parts, p, unit_panel(layers, hidden, p))
    return goal
