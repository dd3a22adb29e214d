"""The forward pass of a block of rows, a panel of units at a time.

`layers.py` says how arrays lie.
"""

from fastnn.kernels.activations import IDENTITY, vactivate
from fastnn.kernels.dense import OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.dropout import drop
from fastnn.kernels.jit import inlined
from fastnn.kernels.layers import (
    GROUP,
    INPUTS,
    all_panels,
    lanes,
    n_panels,
    own_panels,
    padded_width,
    unit_panel,
    weight_panel,
)  # fmt: skip
from fastnn.kernels.simd import FOUR, ONE, TWO, vadd, vload, vscale_add, vstore
from fastnn.kernels.sparse_input import spread, spread_listed


@inlined
def input_sums(layers, n_rows, inputs, out, panel):
    """Weighted sums of the first layer, before scale and bias, for a panel's units."""
    n_inputs = layers.sizes[0]
    weight_at = weight_panel(layers, INPUTS, panel)
    if len(inputs.packed.users):
        for s in range(n_rows):
            out[panel.at + s * panel.row : panel.at + s * panel.row + panel.width] = 0
        for group in range((n_rows + GROUP - 1) // GROUP):
            at = panel.at + group * GROUP * panel.row
            if panel.vectors == 4:
                spread(out, at, panel.row, inputs.packed, group, n_inputs, layers.parameters, weight_at, FOUR)
            elif panel.vectors == 2:
                spread(out, at, panel.row, inputs.packed, group, n_inputs, layers.parameters, weight_at, TWO)
            else:
                spread(out, at, panel.row, inputs.packed, group, n_inputs, layers.parameters, weight_at, ONE)
    elif len(inputs.ends):
        index, value = inputs.numbers, inputs.value
        for s in range(n_rows):
            at, begin, end = panel.at + s * panel.row, inputs.ends[s], inputs.ends[s + 1]
            if panel.vectors == 2:
                spread_listed(out, at, index, value, begin, end, layers.parameters, weight_at, TWO)
            else:
                spread_listed(out, at, index, value, begin, end, layers.parameters, weight_at, ONE)
    else:
        multiply_panel(
            out, panel.at, panel.row, inputs.dense, START, n_inputs, STRIDE_1, layers.parameters, weight_at,
            panel.width, n_inputs, n_rows, panel.vectors, OVERWRITE,
        )  # fmt: skip


@inlined
def hidden_sums(layers, layer, n_rows, out, panel):
    """Weighted sums of a layer after the first for a panel of its units."""
    for q in all_panels(layers, layer):
        inp = unit_panel(layers, layer, q)
        depth = min(inp.width, layers.sizes[layer] - inp.first)
        right_at = weight_panel(layers, layer, panel) + inp.first * panel.width
        multiply_panel(
            out, panel.at, panel.row, out, inp.at, inp.row, STRIDE_1, layers.parameters, right_at, panel.width,
            depth, n_rows, panel.vectors, q > 0,
        )  # fmt: skip


@inlined
def finish_units(layers, layer, n_rows, scale, out, panel):
    """``out = activation(scale * out + bias)`` for a panel of the units that a layer's weights lead to."""
    n, one = lanes(out), out.dtype.type(1)
    code = layers.activation if layer < len(layers.weight_at) - 1 else IDENTITY
    for h in range(0, panel.width, n):
        bias = vload(layers.parameters, layers.bias_at[layer] + panel.first + h, ONE)
        for s in range(n_rows):
            at = panel.at + s * panel.row + h
            vstore(out, at, vactivate(code, vscale_add(scale, vload(out, at, ONE), bias), one))


@inlined
def own_units(layers, layer, t, threads, n_rows, inputs, out):
    """Outputs of the units that a layer's weights lead to, thread t's panels of them; no mask applied yet."""
    for p in own_panels(layers, layer + 1, t, threads):
        panel = unit_panel(layers, layer + 1, p)
        if layer == 0:
            input_sums(layers, n_rows, inputs, out, panel)
            finish_units(layers, layer, n_rows, layers.scale, out, panel)
        else:
            hidden_sums(layers, layer, n_rows, out, panel)
            finish_units(layers, layer, n_rows, out.dtype.type(1), out, panel)


@inlined
def drop_units(n_rows, rows, dropout, layer, values, panel):
    """Apply the mask of the units that a layer's weights lead to."""
    for s in range(n_rows):
        at = panel.at + s * panel.row
        units = values[at : at + panel.width]
        drop(units, dropout.keys[layer], rows[s], panel.first, dropout.threshold, dropout.scale)


@inlined
def logit_parts(layers, n_rows, out, parts, p, panel):
    """What the units of panel p of the last hidden layer add to the logits."""
    layer = len(layers.weight_at) - 1
    depth = min(panel.width, layers.sizes[layer] - panel.first)
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
    n, last = lanes(out), len(layers.weight_at)
    padded, count = padded_width(layers, last), n_panels(layers, last - 1)
    apart, at = len(parts) // count, unit_panel(layers, last, START).at
    for h in range(0, padded, n):
        bias = vload(layers.parameters, layers.bias_at[last - 1] + h, ONE)
        for s in range(begin, end):
            total = bias
            for p in range(count):
                total = vadd(total, vload(parts, p * apart + s * padded + h, ONE))
            vstore(out, at + s * padded + h, total)
