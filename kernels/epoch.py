"""A whole epoch of training in one nogil call a thread, for any depth; and the forward pass of many rows.

Dimensions: N samples in the data set, B in a batch, D inputs, L layers of weights, C classes; `layers.py` says how
arrays lie. How threads share a step of one hidden layer: each owns panels of it, and alone reads and writes their
weights, those that lead in and those that lead out; a panel's part of the logits is all that others need. Every number
is computed by one thread, in an order that does not depend on how many there are, so the bits of the result do not
either.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.activations import vactivate, vslope
from fastnn.kernels.dense import OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.dropout import drop
from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.layers import BLOCK, GROUP, PIECE, all_panels, lanes, n_panels, own_panels, unit_panel, weight_panel
from fastnn.kernels.simd import (
    FOUR,
    ONE,
    TWO,
    vadd,
    vexp,
    vload,
    vmul,
    vscale_add,
    vsplat,
    vstore,
    vsub,
    vsum,
    vzero,
)  # fmt: skip
from fastnn.kernels.sparse_input import Packed, collect, pack_group, spread
from fastnn.kernels.team import barrier
from fastnn.kernels.updates import SGD, rate_of_step, settle

LOSS, WEIGHT, CORRECT, FAILED, N_RESULTS = range(5)
# The first hidden layer's units, or the classes where there is none; no literal, for the reason in `dense.py`.
FIRST_HIDDEN = np.int64(1)


class Data(NamedTuple):
    """The data set: images (N, D), labels (N,), weights (N,), or (0,) if none, whether to skip inputs that are 0."""

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    sparse: bool


class Dropout(NamedTuple):
    """Masks of an epoch: keys (L - 1,); the hash below which a unit drops; the share that stays; 1 / share."""

    keys: np.ndarray
    threshold: np.uint32
    share: np.floating
    scale: np.floating


class Work(NamedTuple):
    """Scratch. Of all threads: out, dout (BLOCK * padded units,), each layer's outputs and their gradients; slot_1,
    slot_2, the optimizer's state, laid out like the parameters, or empty; gradient, likewise, for batches of several
    blocks; parts, what each panel of the last hidden layer adds to the logits; row_loss, row_right (BLOCK,); penalty;
    results (N_RESULTS,), what the epoch reports. Of one thread each, a row: values and users, see `Packed`; dense, the
    inputs of a block where they are not skipped; piece and turned, a few rows and a square of a panel.
    """

    out: np.ndarray
    dout: np.ndarray
    slot_1: np.ndarray
    slot_2: np.ndarray
    gradient: np.ndarray
    parts: np.ndarray
    row_loss: np.ndarray
    row_right: np.ndarray
    penalty: np.ndarray
    results: np.ndarray
    values: np.ndarray
    users: np.ndarray
    dense: np.ndarray
    piece: np.ndarray
    turned: np.ndarray


@inlined
def padded_width(layers, layer):
    """The columns of a layer's units, padding counted."""
    panel = unit_panel(layers, layer, n_panels(layers, layer) - 1)
    return panel.first + panel.width


# --- Forward ---------------------------------------------------------------------------------------------------------
@inlined
def pack_rows(data_images, sparse, rows, packed, dense):
    """Take a thread's copy of the inputs of the samples `rows` of a block."""
    n_inputs = data_images.shape[1]
    if sparse:
        for group in range((len(rows) + GROUP - 1) // GROUP):
            pack_group(data_images, rows[group * GROUP : group * GROUP + GROUP], packed, group)
    else:
        real = dense.dtype.type
        for s in range(len(rows)):
            image, row = data_images[rows[s]], dense[s * n_inputs : (s + 1) * n_inputs]
            for i in range(n_inputs):
                row[i] = real(image[i])


@inlined
def input_sums(layers, sparse, n_rows, packed, dense, out, panel):
    """Weighted sums of the first layer, before scale and bias, for a panel's units."""
    n_inputs, width = layers.sizes[0], panel.width
    weight_at = weight_panel(layers, START, panel)
    if sparse:
        out[panel.at : panel.at + n_rows * width] = 0
        for group in range((n_rows + GROUP - 1) // GROUP):
            at = panel.at + group * GROUP * width
            if panel.vectors == 4:
                spread(out, at, packed, group, n_inputs, layers.parameters, weight_at, FOUR)
            elif panel.vectors == 2:
                spread(out, at, packed, group, n_inputs, layers.parameters, weight_at, TWO)
            else:
                spread(out, at, packed, group, n_inputs, layers.parameters, weight_at, ONE)
    else:
        multiply_panel(
            out, panel.at, width, dense, START, n_inputs, STRIDE_1, layers.parameters, weight_at, width, n_inputs,
            n_rows, panel.vectors, OVERWRITE,
        )  # fmt: skip


@inlined
def hidden_sums(layers, layer, n_rows, out, panel):
    """Weighted sums of a layer after the first for a panel of its units."""
    for q in all_panels(layers, layer):
        inp = unit_panel(layers, layer, q)
        depth = min(inp.width, layers.sizes[layer] - inp.first)
        right_at = weight_panel(layers, layer, panel) + inp.first * panel.width
        multiply_panel(
            out, panel.at, panel.width, out, inp.at, inp.width, STRIDE_1, layers.parameters, right_at, panel.width,
            depth, n_rows, panel.vectors, q > 0,
        )  # fmt: skip


@inlined
def finish_units(layers, layer, n_rows, scale, out, panel):
    """``out = activation(scale * out + bias)`` for a panel of the units that a layer's weights lead to."""
    n, one = lanes(out), out.dtype.type(1)
    code = layers.activation if layer < len(layers.weight_at) - 1 else 0
    for h in range(0, panel.width, n):
        bias = vload(layers.parameters, layers.bias_at[layer] + panel.first + h, ONE)
        for s in range(n_rows):
            at = panel.at + s * panel.width + h
            vstore(out, at, vactivate(code, vscale_add(scale, vload(out, at, ONE), bias), one))


@inlined
def drop_units(n_rows, rows, dropout, layer, values, panel):
    """Apply the mask of the units that a layer's weights lead to."""
    for s in range(n_rows):
        at = panel.at + s * panel.width
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
            parts, p * BLOCK * padded + classes.at - first, classes.width, out, panel.at, panel.width, STRIDE_1,
            layers.parameters, right_at, classes.width, depth, n_rows, classes.vectors, OVERWRITE,
        )  # fmt: skip


# --- Loss ------------------------------------------------------------------------------------------------------------
@inlined
def sum_logits(layers, s, out, parts):
    """The logits of row s of a block: bias and all panels' parts, in the order of the panels."""
    n, last = lanes(out), len(layers.weight_at)
    first, padded = unit_panel(layers, last, START).at, padded_width(layers, last)
    count = n_panels(layers, last - 1)
    for q in all_panels(layers, last):
        classes = unit_panel(layers, last, q)
        for h in range(0, classes.width, n):
            at = classes.at + s * classes.width + h
            total = vload(layers.parameters, layers.bias_at[last - 1] + classes.first + h, ONE)
            for p in range(count):
                total = vadd(total, vload(parts, p * BLOCK * padded + at - first, ONE))
            vstore(out, at, total)


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


# --- Backward --------------------------------------------------------------------------------------------------------
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
    at, penalty = weight_panel(layers, START, panel), 0.0
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
        layers.bias_at[layer] + panel.first, piece, FIRST_HIDDEN, panel.vectors,
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


# --- The epoch -------------------------------------------------------------------------------------------------------
@inlined
def batch_weight(data, batch):
    """What the samples of a batch count in all."""
    if not len(data.weights):
        return np.float64(len(batch))
    total = 0.0
    for s in range(len(batch)):
        total += np.float64(data.weights[batch[s]])
    return total


@kernel
def run_epoch(t, threads, layers, data, order, batch_size, rule, step, dropout, work, gate):
    """Thread t of `threads`: train on the rows `order`, `batch_size` at a time; `step` counts the steps made before.

    Overwrites the parameters and the optimizer's state; thread 0 writes `work.results`: the sum of the batches' losses,
    each times the weight of its batch, that weight's sum, how many samples were right, and the first batch whose loss
    was not finite (-1: none), which ends the epoch. If the gate's stop flag is set, the epoch ends where it is.
    """
    n_layers, real = len(layers.weight_at), work.out.dtype.type
    hidden, out, dout = n_layers - 1, work.out, work.dout  # `hidden` is the last hidden layer, 0 if there is none
    packed = Packed(work.values[t], work.users[t], np.empty(GROUP, np.int64))
    dense, piece, turned = work.dense[t], work.piece[t], work.turned[t]
    n_penalties = len(work.penalty) // n_layers
    goal, total_loss, total_weight, n_right = 0, 0.0, 0.0, 0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        step += 1
        rate, weight, loss = real(rate_of_step(rule, step)), batch_weight(data, batch), 0.0
        for start in range(0, len(batch), BLOCK):
            rows = batch[start : start + BLOCK]
            is_first, is_last, n_rows = start == 0, start + BLOCK >= len(batch), len(rows)

            if len(own_panels(layers, FIRST_HIDDEN, t, threads)):
                pack_rows(data.images, data.sparse, rows, packed, dense)
            for layer in range(n_layers if hidden == 0 else hidden):
                if layer > 0:
                    goal += threads
                    if not barrier(gate, goal):
                        return
                for p in own_panels(layers, layer + 1, t, threads):
                    panel = unit_panel(layers, layer + 1, p)
                    if layer == 0:
                        input_sums(layers, data.sparse, n_rows, packed, dense, out, panel)
                        finish_units(layers, layer, n_rows, layers.scale, out, panel)
                    else:
                        hidden_sums(layers, layer, n_rows, out, panel)
                        finish_units(layers, layer, n_rows, real(1), out, panel)
                    if dropout.threshold and hidden > 0:
                        drop_units(n_rows, rows, dropout, layer, out, panel)
            for p in own_panels(layers, hidden, t, threads) if hidden > 0 else range(0):
                logit_parts(layers, n_rows, out, work.parts, p, unit_panel(layers, hidden, p))
            goal += threads
            if not barrier(gate, goal):
                return

            for s in range(n_rows * t // threads, n_rows * (t + 1) // threads):
                if hidden > 0:
                    sum_logits(layers, s, out, work.parts)
                share = 0.0
                if weight > 0:
                    share = (np.float64(data.weights[rows[s]]) if len(data.weights) else 1.0) / weight
                row_loss, right = cross_entropy(layers, s, data.labels[rows[s]], real(share), out, dout)
                work.row_loss[s] = share * row_loss if share > 0 else 0.0
                work.row_right[s] = right
            goal += threads
            if not barrier(gate, goal):
                return
            for s in range(n_rows):
                loss += work.row_loss[s]
                n_right += work.row_right[s]
            if not np.isfinite(loss):
                if t == 0:
                    work.results[FAILED] = first // batch_size
                return

            # Back through the layers. The weights out of the last hidden layer are moved by the owners of the panels
            # they lead out of, who alone read them; those between hidden layers by the owners of those they lead to,
            # once everybody has read them, which is after the next barrier.
            for p in own_panels(layers, hidden, t, threads) if hidden > 0 else range(0):
                panel, penalty = unit_panel(layers, hidden, p), 0.0
                input_gradient(layers, hidden, n_rows, dout, turned, panel)
                for q in all_panels(layers, n_layers):
                    penalty += update_block(
                        layers, hidden, n_rows, rule, rate, is_first, is_last, work, piece, panel,
                        unit_panel(layers, n_layers, q),
                    )  # fmt: skip
                work.penalty[hidden * n_penalties + p] = penalty
            if t == 0 and hidden > 0:
                for q in all_panels(layers, n_layers):
                    panel = unit_panel(layers, n_layers, q)
                    update_bias(layers, hidden, n_rows, rule, rate, is_first, is_last, work, piece, panel)
            for layer in range(hidden, 0, -1):
                if layer < hidden:
                    goal += threads
                    if not barrier(gate, goal):
                        return
                for p in own_panels(layers, layer, t, threads):
                    panel = unit_panel(layers, layer, p)
                    if layer < hidden:
                        input_gradient(layers, layer, n_rows, dout, turned, panel)
                    if dropout.threshold:
                        drop_units(n_rows, rows, dropout, layer - 1, dout, panel)
                    slope_units(layers, n_rows, out, dout, panel, dropout.share)
                if layer + 1 < hidden:
                    update_between(layers, layer + 1, t, threads, n_rows, rule, rate, is_first, is_last, work, piece)
            if hidden > 1:
                goal += threads
                if not barrier(gate, goal):
                    return
                update_between(layers, FIRST_HIDDEN, t, threads, n_rows, rule, rate, is_first, is_last, work, piece)
            for p in own_panels(layers, FIRST_HIDDEN, t, threads):
                panel = unit_panel(layers, FIRST_HIDDEN, p)
                work.penalty[p] = update_inputs(
                    layers, data.sparse, n_rows, rule, rate, is_first, is_last, packed, work, dense, piece, panel
                )
                update_bias(layers, FIRST_HIDDEN - 1, n_rows, rule, rate, is_first, is_last, work, piece, panel)
            if hidden > 1 or rule.l2 != real(0):
                goal += threads
                if not barrier(gate, goal):
                    return
        if rule.l2 != real(0):
            for k in range(len(work.penalty)):
                loss += 0.5 * np.float64(rule.l2) * work.penalty[k]
        total_loss += loss * weight
        total_weight += weight
    if t == 0:
        work.results[LOSS] = total_loss
        work.results[WEIGHT] = total_weight
        work.results[CORRECT] = n_right


@kernel
def predict_logits(layers, images, out, parts, packed, logits):
    """Forward pass of many rows on one thread: images (N, D) -> logits (N, C), overwritten; the others are scratch.

    Each row goes through the same sums in the same order whatever stands beside it, so a row alone and a row among
    others get the same bits.
    """
    n_layers, real = len(layers.weight_at), out.dtype.type
    last = n_layers - 1
    for start in range(0, len(images), GROUP):
        rows = np.arange(start, min(start + GROUP, len(images)))
        n_rows = len(rows)
        pack_rows(images, True, rows, packed, out)
        for layer in range(n_layers if last == 0 else last):
            for p in all_panels(layers, layer + 1):
                panel = unit_panel(layers, layer + 1, p)
                if layer == 0:
                    input_sums(layers, True, n_rows, packed, out, out, panel)
                    finish_units(layers, layer, n_rows, layers.scale, out, panel)
                else:
                    hidden_sums(layers, layer, n_rows, out, panel)
                    finish_units(layers, layer, n_rows, real(1), out, panel)
        if last > 0:
            for p in all_panels(layers, last):
                logit_parts(layers, n_rows, out, parts, p, unit_panel(layers, last, p))
        for s in range(n_rows):
            if last > 0:
                sum_logits(layers, s, out, parts)
            for q in all_panels(layers, n_layers):
                panel = unit_panel(layers, n_layers, q)
                for c in range(min(panel.width, layers.sizes[n_layers] - panel.first)):
                    logits[start + s, panel.first + c] = out[panel.at + s * panel.width + c]
