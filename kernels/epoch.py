"""A whole epoch of training in one nogil call a thread, for any depth; and the forward pass of many rows.

Dimensions: N samples in the data set, B in a batch, D inputs, L layers of weights, C classes. Parameters, their state
and their gradients are flat arrays of one layout (`Layers`), so one compiled kernel serves every depth and width.

How threads share a step: each owns panels of columns of every layer, and alone computes and updates them; between
phases stands a barrier. Every number is computed by one thread, in an order that does not depend on how many there
are, so the bits of the result do not either.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.activations import IDENTITY, activate_backward
from fastnn.kernels.dense import add_weight_gradient, forward_row, input_gradient_row
from fastnn.kernels.dropout import drop
from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.matmul import PANEL, dot, n_panels
from fastnn.kernels.softmax import cross_entropy_row
from fastnn.kernels.sparse_input import nonzero_positions, set_positions, users_of_inputs
from fastnn.kernels.team import barrier
from fastnn.kernels.updates import SGD, rate_of_step, update

# A batch is worked through in blocks of at most this many rows: their activations stay in the second-level cache, and a
# full batch needs no more memory than a small one.
BLOCK = 256

LOSS, WEIGHT, CORRECT, FAILED, N_RESULTS = range(5)


class Layers(NamedTuple):
    """A network's shape, and where its arrays lie.

    parameters: all weights and biases, flat. sizes (L + 1,): units of each layer, inputs first. weight_at, bias_at
    (L,): where weight (sizes[l], sizes[l + 1]) and bias (sizes[l + 1],) start. unit_at (L + 1,): where a layer's units
    start among those of all layers but the inputs. panel_at (L,): likewise its panels. activation: the code of the
    hidden layers'. scale: of the inputs, in the working dtype.
    """

    parameters: np.ndarray
    sizes: np.ndarray
    weight_at: np.ndarray
    bias_at: np.ndarray
    unit_at: np.ndarray
    panel_at: np.ndarray
    activation: int
    scale: np.floating


class Data(NamedTuple):
    """The data set: images (N, D), bits (N, W), or (0, 0) if dense, labels (N,), weights (N,), or (0,) if none."""

    images: np.ndarray
    bits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class Dropout(NamedTuple):
    """Masks of an epoch: keys (L - 1,); the hash below which a unit drops; the share that stays, and 1 / share."""

    keys: np.ndarray
    threshold: np.uint32
    share: np.floating
    scale: np.floating


class Work(NamedTuple):
    """What the threads of an epoch share.

    out, dout (BLOCK * units of all layers but the inputs,): each layer's outputs and their gradients. slot_1, slot_2:
    the optimizer's state, laid out like the parameters, or empty. gradient: likewise, for batches of several blocks.
    row_loss, row_right (BLOCK,), penalty (all panels,): parts of sums. results (N_RESULTS,): what the epoch reports.
    """

    out: np.ndarray
    dout: np.ndarray
    slot_1: np.ndarray
    slot_2: np.ndarray
    gradient: np.ndarray
    row_loss: np.ndarray
    row_right: np.ndarray
    penalty: np.ndarray
    results: np.ndarray


@inlined
def layer_weight(layers, layer):
    """The weight of a layer: (sizes[layer], sizes[layer + 1])."""
    start, height, width = layers.weight_at[layer], layers.sizes[layer], layers.sizes[layer + 1]
    return layers.parameters[start : start + height * width].reshape((height, width))


@inlined
def layer_units(layers, flat, layer):
    """The units of a layer other than the inputs, in `out` or `dout`: (BLOCK, sizes[layer])."""
    start, width = layers.unit_at[layer] * BLOCK, layers.sizes[layer]
    return flat[start : start + BLOCK * width].reshape((BLOCK, width))


@inlined
def first_panel(t, threads, width):
    """Where the panels of thread t start; they end where those of thread t + 1 do."""
    return n_panels(width) * t // threads


@inlined
def hidden_forward(layers, layer, inp, n_rows, every, out, p):
    """Panel p of a layer after the first, for the first `n_rows` rows of a block: inp -> out, both (BLOCK, units)."""
    lo, width = p * PANEL, out.shape[1]
    hi = min(lo + PANEL, width)
    weight, bias_at = layer_weight(layers, layer), layers.bias_at[layer]
    bias = layers.parameters[bias_at : bias_at + width]
    activation = layers.activation if layer < len(layers.weight_at) - 1 else IDENTITY
    scale = out.dtype.type(1)
    for s in range(n_rows):
        forward_row(inp[s], every, inp.shape[1], scale, weight, bias, activation, out[s, lo:hi], lo, hi)


@inlined
def input_forward(layers, data, rows, every, which, out, p):
    """Panel p of the first layer for the samples `rows`: images -> out (BLOCK, units)."""
    lo, width = p * PANEL, out.shape[1]
    hi = min(lo + PANEL, width)
    weight, bias_at = layer_weight(layers, 0), layers.bias_at[0]
    bias = layers.parameters[bias_at : bias_at + width]
    activation = layers.activation if len(layers.weight_at) > 1 else IDENTITY
    for s in range(len(rows)):
        image, row = data.images[rows[s]], out[s, lo:hi]
        if len(data.bits):
            count = set_positions(data.bits[rows[s]], which)
            forward_row(image, which, count, layers.scale, weight, bias, activation, row, lo, hi)
        else:
            forward_row(image, every, len(image), layers.scale, weight, bias, activation, row, lo, hi)


@inlined
def backward_panel(layers, layer, n_rows, rows, dropout, work, p):
    """Gradient of the layer's inputs, panel p, before the activation and the mask of the layer that made them."""
    lo, width = p * PANEL, layers.sizes[layer]
    hi = min(lo + PANEL, width)
    weight = layer_weight(layers, layer)
    dout, dinp = layer_units(layers, work.dout, layer + 1), layer_units(layers, work.dout, layer)
    inp = layer_units(layers, work.out, layer)
    for s in range(n_rows):
        input_gradient_row(dout[s], weight, dinp[s], lo, hi)
        if dropout.threshold:
            drop(dinp[s, lo:hi], dropout.keys[layer - 1], rows[s], lo, dropout.threshold, dropout.scale)
        activate_backward(layers.activation, dinp[s, lo:hi], inp[s, lo:hi], dropout.share)


@inlined
def settle(rule, rate, decay, at, n, is_first, is_last, piece, layers, work):
    """The sum `piece` (n,), over one more block, of the gradient of parameters `at` to at + n: keep it, or apply it."""
    if not is_first:
        for h in range(n):
            piece[h] += work.gradient[at + h]
    if is_last:
        update(
            rule, rate, decay, layers.parameters[at : at + n], piece, work.slot_1[at : at + n], work.slot_2[at : at + n]
        )
    else:
        for h in range(n):
            work.gradient[at + h] = piece[h]


@inlined
def update_panel(layers, layer, data, rows, every, which, users, rule, rate, is_first, is_last, work, piece, p):
    """Weight and bias gradient of one panel of a layer from this block, applied with the batch's last block.

    A row of the gradient lives in `piece` only, and moves its weights at once: the gradient is never stored, unless the
    batch has several blocks.
    """
    real = work.out.dtype.type
    lo, width, height = p * PANEL, layers.sizes[layer + 1], layers.sizes[layer]
    hi = min(lo + PANEL, width)
    n = hi - lo
    dout, penalty = layer_units(layers, work.dout, layer + 1), 0.0
    sum_of_row = piece[:n]
    for i in range(height):
        at = layers.weight_at[layer] + i * width + lo
        if is_last and rule.l2 != real(0):
            row = layers.parameters[at : at + n]
            penalty += np.float64(dot(row, row))
        sum_of_row[:] = 0
        if layer > 0:
            inp = layer_units(layers, work.out, layer)
            add_weight_gradient(inp, every, i, every, len(rows), dout, lo, hi, sum_of_row)
        else:
            if len(data.bits):
                count = set_positions(users[i, : (len(rows) + 63) // 64], which)
                if count == 0 and is_first and is_last and rule.kind == SGD and rule.l2 == real(0):
                    continue  # nothing moves
                add_weight_gradient(data.images, rows, i, which, count, dout, lo, hi, sum_of_row)
            else:
                add_weight_gradient(data.images, rows, i, every, len(rows), dout, lo, hi, sum_of_row)
            for h in range(n):
                sum_of_row[h] *= layers.scale
        settle(rule, rate, rule.l2, at, n, is_first, is_last, sum_of_row, layers, work)
    sum_of_row[:] = 0
    for s in range(len(rows)):
        for h in range(n):
            sum_of_row[h] += dout[s, lo + h]
    settle(rule, rate, real(0), layers.bias_at[layer] + lo, n, is_first, is_last, sum_of_row, layers, work)
    if is_last:
        work.penalty[layers.panel_at[layer] + p] = penalty


@kernel
def run_epoch(t, threads, layers, data, order, batch_size, rule, step, dropout, work, gate):
    """Thread t of `threads`: train on the rows `order`, `batch_size` at a time; `step` counts the steps made before.

    Overwrites the parameters and the optimizer's state; thread 0 writes `work.results`: the sum of the batches' losses,
    each times the weight of its batch, that weight's sum, how many samples were right, and the first batch whose loss
    was not finite (-1: none), which ends the epoch. If the gate's stop flag is set, the epoch ends where it is.
    """
    n_layers, real = len(layers.weight_at), work.out.dtype.type
    every = np.arange(max(BLOCK, layers.sizes.max()))
    which = np.empty(max(BLOCK, data.bits.shape[1] * 64), np.int64)
    users = np.empty((data.bits.shape[1] * 64, BLOCK // 64), np.uint64)
    bit_block, piece = np.empty(64, np.uint64), np.empty(PANEL, work.out.dtype)
    goal, total_loss, total_weight, n_right = 0, 0.0, 0.0, 0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        step += 1
        rate = real(rate_of_step(rule, step))
        weight = np.float64(len(batch))
        if len(data.weights):
            weight = 0.0
            for s in range(len(batch)):
                weight += np.float64(data.weights[batch[s]])
        loss = 0.0
        for start in range(0, len(batch), BLOCK):
            rows = batch[start : start + BLOCK]
            is_first, is_last = start == 0, start + BLOCK >= len(batch)

            for layer in range(n_layers):
                out = layer_units(layers, work.out, layer + 1)
                for p in range(first_panel(t, threads, out.shape[1]), first_panel(t + 1, threads, out.shape[1])):
                    if layer == 0:
                        input_forward(layers, data, rows, every, which, out, p)
                    else:
                        hidden_forward(layers, layer, layer_units(layers, work.out, layer), len(rows), every, out, p)
                    if dropout.threshold and layer < n_layers - 1:
                        lo, hi = p * PANEL, min(p * PANEL + PANEL, out.shape[1])
                        for s in range(len(rows)):
                            drop(out[s, lo:hi], dropout.keys[layer], rows[s], lo, dropout.threshold, dropout.scale)
                goal += threads
                if not barrier(gate, goal):
                    return

            logits, dlogits = layer_units(layers, work.out, n_layers), layer_units(layers, work.dout, n_layers)
            for s in range(len(rows) * t // threads, len(rows) * (t + 1) // threads):
                share = 0.0
                if weight > 0:
                    share = (np.float64(data.weights[rows[s]]) if len(data.weights) else 1.0) / weight
                row_loss, right = cross_entropy_row(logits[s], data.labels[rows[s]], real(share), dlogits[s])
                work.row_loss[s] = share * np.float64(row_loss) if share > 0 else 0.0
                work.row_right[s] = right
            goal += threads
            if not barrier(gate, goal):
                return
            for s in range(len(rows)):
                loss += work.row_loss[s]
                n_right += work.row_right[s]
            if not np.isfinite(loss):
                if t == 0:
                    work.results[FAILED] = first // batch_size
                return

            # Each layer's inputs get their gradient in one phase and its weights move in the next, when nobody reads
            # them any more; the phases of neighbouring layers fall together.
            if len(data.bits):
                users_of_inputs(data.bits, rows, users, bit_block)
            for layer in range(n_layers - 1, -1, -1):
                if layer > 0:
                    width = layers.sizes[layer]
                    for p in range(first_panel(t, threads, width), first_panel(t + 1, threads, width)):
                        backward_panel(layers, layer, len(rows), rows, dropout, work, p)
                    goal += threads
                    if not barrier(gate, goal):
                        return
                width = layers.sizes[layer + 1]
                for p in range(first_panel(t, threads, width), first_panel(t + 1, threads, width)):
                    update_panel(
                        layers, layer, data, rows, every, which, users, rule, rate, is_first, is_last, work, piece, p
                    )
            goal += threads
            if not barrier(gate, goal):
                return
        if rule.l2 != real(0):
            for p in range(len(work.penalty)):
                loss += 0.5 * np.float64(rule.l2) * work.penalty[p]
        total_loss += loss * weight
        total_weight += weight
    if t == 0:
        work.results[LOSS] = total_loss
        work.results[WEIGHT] = total_weight
        work.results[CORRECT] = n_right


@kernel
def predict_logits(layers, images, work_out, logits):
    """Forward pass of many rows on one thread: images (N, D) -> logits (N, C), overwritten; work_out like `Work.out`.

    Each row goes through the same sums in the same order whatever stands beside it, so a row alone and a row among
    others get the same bits.
    """
    n_layers = len(layers.weight_at)
    every, which = np.arange(layers.sizes.max()), np.empty(layers.sizes[0] + 1, np.int64)
    weight, first_bias = layer_weight(layers, 0), layers.parameters[layers.bias_at[0] :]
    activation = layers.activation if n_layers > 1 else IDENTITY
    for start in range(0, len(images), BLOCK):
        n_rows = min(BLOCK, len(images) - start)
        out = layer_units(layers, work_out, 1)
        for s in range(n_rows):
            image = images[start + s]
            count = nonzero_positions(image, which)
            for lo in range(0, out.shape[1], PANEL):
                hi = min(lo + PANEL, out.shape[1])
                forward_row(
                    image, which, count, layers.scale, weight, first_bias, activation, out[s, lo:hi], lo, hi
                )  # fmt: skip
        for layer in range(1, n_layers):
            inp, out = out, layer_units(layers, work_out, layer + 1)
            for p in range(n_panels(out.shape[1])):
                hidden_forward(layers, layer, inp, n_rows, every, out, p)
        logits[start : start + n_rows] = out[:n_rows]
