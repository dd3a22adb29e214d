"""A whole epoch of training in one nogil call a thread, for any depth.

Dimensions: N samples in the data set, B in a batch, D inputs, L layers of weights, C classes; `layers.py` says how
arrays lie. How threads share a step of one hidden layer: each owns panels of it, and alone reads and writes their
weights, those that lead in and those that lead out; a panel's part of the logits is all that others need. Every number
is computed by one thread, in an order that does not depend on how many there are, so the bits of the result do not
either.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.backward import (
    input_gradient,
    slope_units,
    update_between,
    update_bias,
    update_block,
    update_inputs,
)  # fmt: skip
from fastnn.kernels.dense import START
from fastnn.kernels.forward import copy_rows, drop_units, logit_parts, own_units, sum_logits
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layers import (
    BLOCK,
    FIRST_HIDDEN,
    GROUP,
    INPUTS,
    all_panels,
    lanes,
    own_panels,
    padded_width,
    unit_panel,
)
from fastnn.kernels.softmax import cross_entropy_rows
from fastnn.kernels.sparse_input import Packed, pack
from fastnn.kernels.team import barrier
from fastnn.kernels.updates import rate_of_step

LOSS, WEIGHT, CORRECT, FAILED, N_RESULTS = range(5)


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
    """Scratch.

    Of all threads: out, dout (BLOCK * padded units,), each layer's outputs and their gradients; slot_1, slot_2, the
    optimizer's state, laid out like the parameters, or empty; gradient, likewise, for batches of several blocks; parts,
    what each panel of the last hidden layer adds to the logits; row_loss, row_right (BLOCK,); penalty; results
    (N_RESULTS,), what the epoch reports. Of two blocks, a row each: row_label, row_weight (2, BLOCK); values and users,
    see `Packed`, or dense, where zeros are not skipped. Of one thread each, a row: piece and turned, a few rows and a
    square of a panel; columns, the logits of as many rows as a vector has lanes.
    """

    out: np.ndarray
    dout: np.ndarray
    slot_1: np.ndarray
    slot_2: np.ndarray
    gradient: np.ndarray
    parts: np.ndarray
    row_label: np.ndarray
    row_weight: np.ndarray
    row_loss: np.ndarray
    row_right: np.ndarray
    penalty: np.ndarray
    results: np.ndarray
    values: np.ndarray
    users: np.ndarray
    dense: np.ndarray
    piece: np.ndarray
    turned: np.ndarray
    columns: np.ndarray


@inlined
def batch_weight(data, batch):
    """What the samples of a batch count in all."""
    if not len(data.weights):
        return np.float64(len(batch))
    total = 0.0
    for s in range(len(batch)):
        total += np.float64(data.weights[batch[s]])
    return total


@inlined
def gather(data, order, batch_size, first, start, work, buffer, t, threads):
    """Thread t's share of taking a copy of a block's data: `start` rows into the batch that begins at `first`.

    Samples are drawn from anywhere in memory. Together their misses of the cache overlap; one by one they would not.
    """
    never_inline()
    rows = order[first : first + batch_size][start : start + BLOCK]
    for s in range(len(rows) * t // threads, len(rows) * (t + 1) // threads):
        work.row_label[buffer, s] = data.labels[rows[s]]
        work.row_weight[buffer, s] = data.weights[rows[s]] if len(data.weights) else 1
    if data.sparse:
        pack(data.images, rows, Packed(work.values[buffer], work.users[buffer]), t, threads)
    else:
        copy_rows(data.images, rows, work.dense[buffer], t, threads)


@kernel
def run_epoch(t, threads, layers, data, order, batch_size, rule, step, dropout, work, gate):
    """Thread t of `threads`: train on the rows `order`, `batch_size` at a time; `step` counts the steps made before.

    Overwrites the parameters and the optimizer's state; thread 0 writes `work.results`: the sum of the batches' losses,
    each times the weight of its batch, that weight's sum, how many samples were right, and the first batch whose loss
    was not finite (-1: none), which ends the epoch. If the gate's stop flag is set, the epoch ends where it is.
    """
    n_layers, real = len(layers.weight_at), work.out.dtype.type
    hidden, out, dout = n_layers - 1, work.out, work.dout  # `hidden` is the last hidden layer, 0 if there is none
    piece, turned, places = work.piece[t], work.turned[t], np.empty(GROUP, np.int64)
    n = lanes(out)
    columns, figures, shares = work.columns[t], np.empty(3 * n, out.dtype), np.zeros(n, out.dtype)
    n_penalties = len(work.penalty) // n_layers
    logits_at, padded = unit_panel(layers, n_layers, START).at, padded_width(layers, n_layers)
    goal, total_loss, total_weight, n_right = 0, 0.0, 0.0, 0
    rate, weight, loss = real(0), 0.0, 0.0
    first, start, buffer = 0, 0, 0  # the batch, the block in it, and which of two copies of inputs it has
    if len(order):
        gather(data, order, batch_size, first, start, work, buffer, t, threads)
    goal += threads
    if not barrier(gate, goal):
        return
    while first < len(order):
        batch = order[first : first + batch_size]
        if start == 0:
            step += 1
            rate, weight, loss = real(rate_of_step(rule, step)), batch_weight(data, batch), 0.0
        rows = batch[start : start + BLOCK]
        is_first, is_last, n_rows = start == 0, start + BLOCK >= len(batch), len(rows)
        row_label, row_weight = work.row_label[buffer], work.row_weight[buffer]
        packed, dense = Packed(work.values[buffer], work.users[buffer]), work.dense[buffer]

        for layer in range(n_layers if hidden == 0 else hidden):
            if layer > 0:
                goal += threads
                if not barrier(gate, goal):
                    return
            own_units(layers, layer, t, threads, data.sparse, n_rows, packed, dense, out)
            if dropout.threshold and hidden > 0:
                for p in own_panels(layers, layer + 1, t, threads):
                    drop_units(n_rows, rows, dropout, layer, out, unit_panel(layers, layer + 1, p))
        for p in own_panels(layers, hidden, t, threads) if hidden > 0 else range(0):
            logit_parts(layers, n_rows, out, work.parts, p, unit_panel(layers, hidden, p))
        goal += threads
        if not barrier(gate, goal):
            return

        # Nobody reads the other copy of inputs any more, so the next block's go there, in the shade of this barrier.
        this_batch, next_start = first, start + BLOCK
        if is_last:
            first, next_start = first + batch_size, 0
        start, buffer = next_start, 1 - buffer
        if first < len(order):
            gather(data, order, batch_size, first, start, work, buffer, t, threads)
        # Rows go in as many at once as a vector has lanes, so threads share them by such groups.
        n_groups = (n_rows + n - 1) // n
        for s in range(n_groups * t // threads * n, n_groups * (t + 1) // threads * n, n):
            end = min(s + n, n_rows)
            for r in range(s, end):
                if hidden > 0:
                    sum_logits(layers, r, out, work.parts)
                shares[r - s] = real(np.float64(row_weight[r]) / weight) if weight > 0 else real(0)
            at, row_loss = logits_at + s * padded, work.row_loss[s:end]
            cross_entropy_rows(
                out, at, padded, layers.sizes[n_layers], row_label[s:end], shares, dout, row_loss,
                work.row_right[s:end], columns, figures, places,
            )  # fmt: skip
            for r in range(end - s):
                row_loss[r] = np.float64(shares[r]) * row_loss[r] if shares[r] > 0 else 0.0
        goal += threads
        if not barrier(gate, goal):
            return
        for s in range(n_rows):
            loss += work.row_loss[s]
            n_right += work.row_right[s]
        if not np.isfinite(loss):
            if t == 0:
                work.results[FAILED] = this_batch // batch_size
            return

        # Back through the layers. The weights out of the last hidden layer are moved by the owners of the panels they
        # lead out of, who alone read them; those between hidden layers by the owners of those they lead to, once
        # everybody has read them, which is after the next barrier.
        for p in own_panels(layers, hidden, t, threads) if hidden > 0 else range(0):
            panel, penalty = unit_panel(layers, hidden, p), 0.0
            input_gradient(layers, hidden, n_rows, dout, turned, places, panel)
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
                    input_gradient(layers, layer, n_rows, dout, turned, places, panel)
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
            update_bias(layers, INPUTS, n_rows, rule, rate, is_first, is_last, work, piece, panel)
        if hidden > 1 or rule.l2 != real(0):
            goal += threads
            if not barrier(gate, goal):
                return
        if is_last:
            if rule.l2 != real(0):
                for k in range(len(work.penalty)):
                    loss += 0.5 * np.float64(rule.l2) * work.penalty[k]
            total_loss += loss * weight
            total_weight += weight
    if t == 0:
        work.results[LOSS] = total_loss
        work.results[WEIGHT] = total_weight
        work.results[CORRECT] = n_right
