"""A whole epoch of training in one nogil call a thread, for any depth.

Dimensions: N samples in the data set, B in a batch, D inputs, L layers of weights, C classes; `layers.py` says how
arrays lie. Threads share the work in one of two ways.

By panels: each owns panels of a hidden layer, and alone reads and writes their weights, those that lead in and those
that lead out; a panel's part of the logits is all that others need. No gradient is stored.

By rows, where no layer has more than one panel: a batch is cut into parts, each with a gradient of its own; these are
added in the order of the parts. Two barriers a step serve any depth, and a full batch is as many rows as one likes.

Either way every number is computed by one thread, in an order that does not depend on how many there are, so the bits
of the result do not either.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.backward import (
    input_gradient,
    slope_units,
    state,
    update_between,
    update_bias,
    update_block,
    update_inputs,
)  # fmt: skip
from fastnn.kernels.dense import ONE_ROW, START
from fastnn.kernels.forward import drop_units, logit_parts, own_units, sum_logits
from fastnn.kernels.inputs import Inputs, gather
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
from fastnn.kernels.simd import ONE, vadd, vload, vstore
from fastnn.kernels.softmax import cross_entropy_rows
from fastnn.kernels.sparse_input import Packed
from fastnn.kernels.team import ARRIVALS, STOP, atomic_load, barrier
from fastnn.kernels.updates import rate_of_step, settle

# The first and only thread, where a part of a batch is worked through; no literals, for the reason in `dense.py`.
FIRST, ONLY = np.int64(0), np.int64(1)
LOSS, WEIGHT, CORRECT, FAILED, N_RESULTS = range(5)
STOPPED = -1
# Where threads share rows, a batch is cut into at most PARTS parts of PART_ROWS rows or more.
PARTS, PART_ROWS = 16, 16
# Then they share the parameters of a layer in at most PARTS slices of so many vectors or more.
SLICE_VECTORS = 16


class Data(NamedTuple):
    """The data set: images (N, D), labels (N,), weights (N,), or (0,) if none."""

    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class Dropout(NamedTuple):
    """Masks of an epoch: keys (L - 1,); the hash below which a unit drops; the share that stays; 1 / share."""

    keys: np.ndarray
    threshold: np.uint32
    share: np.floating
    scale: np.floating


class Work(NamedTuple):
    """Scratch.

    By panels, of all threads, by rows, of each one after the other: out, dout (BLOCK * padded units,), each layer's
    outputs and their gradients; parts, what each panel of the last hidden layer adds to the logits; row_loss, row_right
    (BLOCK,). By panels, of two blocks, by rows, of each thread, a row: row_label, row_weight (BLOCK,); values and
    users, or numbers, value and ends, or dense, see `Inputs`.

    Of all threads: slot_1, slot_2, the optimizer's state, laid out like the parameters, or empty; gradient, likewise:
    by panels, one, for batches of several blocks, by rows, one a part after the other; part_loss, part_right (PARTS,),
    by panels empty; penalty; results (N_RESULTS,), what the epoch reports.

    Of one thread each, a row: piece and turned, a few rows and a square of a panel; columns, the logits of as many rows
    as a vector has lanes; squares, by rows, sums that nobody asks for.
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
    part_loss: np.ndarray
    part_right: np.ndarray
    penalty: np.ndarray
    results: np.ndarray
    values: np.ndarray
    users: np.ndarray
    numbers: np.ndarray
    value: np.ndarray
    ends: np.ndarray
    dense: np.ndarray
    piece: np.ndarray
    turned: np.ndarray
    columns: np.ndarray
    squares: np.ndarray


def n_parts(batch_size: int) -> int:
    """In how many parts threads that share rows cut a batch: as many as have PART_ROWS rows, at most PARTS."""
    return min(PARTS, max(1, batch_size // PART_ROWS))


_n_parts = inlined(n_parts)


@inlined
def _is_finite(number):
    """Whether it is a number and not infinite.

    Numba's own test is ``number - number == 0``, and where `number` is a sum, `reassoc` lets LLVM cancel its terms, NaN
    or not.
    """
    return -np.inf < number < np.inf


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
def take_rows(data, rows, work, buffer, inputs, t, threads):
    """Thread t's share of taking a copy of the data of a block, the samples `rows`."""
    for s in range(len(rows) * t // threads, len(rows) * (t + 1) // threads):
        work.row_label[buffer, s] = data.labels[rows[s]]
        work.row_weight[buffer, s] = data.weights[rows[s]] if len(data.weights) else 1
    gather(data.images, rows, inputs, t, threads)


@inlined
def inputs_of(work, buffer):
    """The place for the inputs of a block."""
    packed = Packed(work.values[buffer], work.users[buffer])
    return Inputs(packed, work.numbers[buffer], work.value[buffer], work.ends[buffer], work.dense[buffer])


@inlined
def forward_block(t, threads, layers, rows, inputs, dropout, work, gate, goal):
    """From inputs to each panel's part of the logits; returns the barriers' goal, or STOPPED."""
    never_inline()
    n_layers, n_rows, out = len(layers.weight_at), len(rows), work.out
    hidden = n_layers - 1
    for layer in range(n_layers if hidden == 0 else hidden):
        if layer > 0:
            goal += threads
            if not barrier(gate, goal):
                return STOPPED
        own_units(layers, layer, t, threads, n_rows, inputs, out)
        if dropout.threshold and hidden > 0:
            for p in own_panels(layers, layer + 1, t, threads):
                drop_units(n_rows, rows, dropout, layer, out, unit_panel(layers, layer + 1, p))
    for p in own_panels(layers, hidden, t, threads) if hidden > 0 else range(0):
        logit_parts(layers, n_rows, out, work.parts, p, unit_panel(layers, hidden, p))
    return goal


@inlined
def lose_rows(t, threads, layers, n_rows, label, row_weight, weight, work, columns):
    """Losses of a thread's rows of a block, their share of the batch counted, and the gradients of their logits."""
    never_inline()
    n_layers, n, real = len(layers.weight_at), lanes(work.out), work.out.dtype.type
    logits_at, padded = unit_panel(layers, n_layers, START).at, padded_width(layers, n_layers)
    figures, shares, places = np.empty(3 * n, work.out.dtype), np.zeros(n, work.out.dtype), np.empty(n, np.int64)
    # Rows go in as many at once as a vector has lanes, so threads share them by such groups.
    n_groups = (n_rows + n - 1) // n
    begin, stop = n_groups * t // threads * n, min(n_rows, n_groups * (t + 1) // threads * n)
    if n_layers > 1:
        sum_logits(layers, begin, stop, work.out, work.parts)
    for s in range(begin, stop, n):
        end = min(s + n, n_rows)
        for r in range(s, end):
            shares[r - s] = real(np.float64(row_weight[r]) / weight) if weight > 0 else real(0)
        at, row_loss = logits_at + s * padded, work.row_loss[s:end]
        cross_entropy_rows(
            work.out, at, padded, layers.sizes[n_layers], label[s:end], shares, work.dout, row_loss,
            work.row_right[s:end], columns, figures, places,
        )  # fmt: skip
        for r in range(end - s):
            row_loss[r] = np.float64(shares[r]) * row_loss[r] if shares[r] > 0 else 0.0


@inlined
def backward_block(
    t, threads, layers, rows, rule, rate, is_first, is_last, inputs, dropout, work, piece, turned, gate, goal,
):  # fmt: skip
    """Back through the layers; every weight's gradient moves it or, but for a batch's last block, is kept.

    The weights out of the last hidden layer are moved by the owners of the panels they lead out of, who alone read
    them; those between hidden layers by the owners of those they lead to, once everybody has read them, which is after
    the next barrier. Returns the barriers' goal, or STOPPED.
    """
    never_inline()
    n_layers, n_rows, out, dout = len(layers.weight_at), len(rows), work.out, work.dout
    hidden, places = n_layers - 1, np.empty(GROUP, np.int64)
    n_penalties = len(work.penalty) // n_layers
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
                return STOPPED
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
            return STOPPED
        update_between(layers, FIRST_HIDDEN, t, threads, n_rows, rule, rate, is_first, is_last, work, piece)
    for p in own_panels(layers, FIRST_HIDDEN, t, threads):
        panel = unit_panel(layers, FIRST_HIDDEN, p)
        work.penalty[p] = update_inputs(layers, n_rows, rule, rate, is_first, is_last, inputs, work, piece, panel)
        update_bias(layers, INPUTS, n_rows, rule, rate, is_first, is_last, work, piece, panel)
    return goal


@inlined
def report(t, work, total_loss, total_weight, n_right):
    """Thread 0 writes what the epoch reports."""
    if t == 0:
        work.results[LOSS] = total_loss
        work.results[WEIGHT] = total_weight
        work.results[CORRECT] = n_right


@inlined
def epoch_by_panels(t, threads, layers, data, order, batch_size, rule, step, dropout, work, gate):
    """`run_epoch`, threads sharing panels."""
    n_layers, real = len(layers.weight_at), work.out.dtype.type
    goal, total_loss, total_weight, n_right = 0, 0.0, 0.0, 0
    rate, weight, loss = real(0), 0.0, 0.0
    first, start, buffer = 0, 0, 0  # the batch, the block in it, and which of two copies of inputs it has
    if len(order):
        take_rows(data, order[:batch_size][:BLOCK], work, buffer, inputs_of(work, buffer), t, threads)
    goal += threads
    if not barrier(gate, goal):
        return
    while first < len(order):
        batch = order[first : first + batch_size]
        if start == 0:
            step += 1
            rate, weight, loss = real(rate_of_step(rule, step)), batch_weight(data, batch), 0.0
        rows = batch[start : start + BLOCK]
        is_first, is_last = start == 0, start + BLOCK >= len(batch)
        inputs = inputs_of(work, buffer)
        goal = forward_block(t, threads, layers, rows, inputs, dropout, work, gate, goal)
        if goal == STOPPED:
            return
        goal += threads
        if not barrier(gate, goal):
            return

        # Nobody reads the other copy of inputs any more, so the next block's go there, in the shade of this barrier.
        next_first, next_start = (first + batch_size, 0) if is_last else (first, start + BLOCK)
        if next_first < len(order):
            following = order[next_first : next_first + batch_size][next_start : next_start + BLOCK]
            take_rows(data, following, work, 1 - buffer, inputs_of(work, 1 - buffer), t, threads)
        lose_rows(
            t, threads, layers, len(rows), work.row_label[buffer], work.row_weight[buffer], weight, work,
            work.columns[t],
        )  # fmt: skip
        goal += threads
        if not barrier(gate, goal):
            return
        for s in range(len(rows)):
            loss += work.row_loss[s]
            n_right += work.row_right[s]
        if not _is_finite(loss):
            if t == 0:
                work.results[FAILED] = first // batch_size
            return

        goal = backward_block(
            t, threads, layers, rows, rule, rate, is_first, is_last, inputs, dropout, work,
            work.piece[t], work.turned[t], gate, goal,
        )  # fmt: skip
        if goal == STOPPED:
            return
        if n_layers > 2 or rule.l2 != real(0):
            goal += threads
            if not barrier(gate, goal):
                return
        if is_last:
            total_loss += (loss + half_squares(rule, work)) * weight
            total_weight += weight
        first, start, buffer = next_first, next_start, 1 - buffer
    report(t, work, total_loss, total_weight, n_right)


@inlined
def half_squares(rule, work):
    """The L2 term of the loss, from the sums of squares that the owners of weights left."""
    total = 0.0
    if rule.l2 != work.out.dtype.type(0):
        for k in range(len(work.penalty)):
            total += 0.5 * np.float64(rule.l2) * work.penalty[k]
    return total


@inlined
def own_part(t, threads, layers, data, batch, weight, part, n_parts, rule, dropout, work, own, gate):
    """Losses and gradient of a part of a batch, by one thread alone, block by block."""
    never_inline()
    first, end = len(batch) * part // n_parts, len(batch) * (part + 1) // n_parts
    loss, n_right, rate = 0.0, 0, own.out.dtype.type(0)
    inputs = inputs_of(own, t)
    for start in range(first, end, BLOCK):
        rows = batch[start : min(start + BLOCK, end)]
        take_rows(data, rows, own, t, inputs, FIRST, ONLY)
        goal = forward_block(FIRST, ONLY, layers, rows, inputs, dropout, own, gate, gate[ARRIVALS])
        lose_rows(FIRST, ONLY, layers, len(rows), own.row_label[t], own.row_weight[t], weight, own, own.columns[t])
        for s in range(len(rows)):
            loss += own.row_loss[s]
            n_right += own.row_right[s]
        backward_block(
            FIRST, ONLY, layers, rows, rule, rate, start == first, False, inputs, dropout, own,
            own.piece[t], own.turned[t], gate, goal,
        )  # fmt: skip
    work.part_loss[part], work.part_right[part] = loss, n_right


@inlined
def settle_slices(t, threads, layers, n_parts, rule, rate, work, piece):
    """Add the parts' gradients, in their order, and move the parameters: a thread's slices of them."""
    never_inline()
    n, size, real = lanes(piece), len(layers.parameters), piece.dtype.type
    for k in range(2 * len(layers.weight_at)):
        layer, is_bias = k // 2, k % 2
        begin = layers.bias_at[layer] if is_bias else layers.weight_at[layer]
        end = begin + padded_width(layers, layer + 1) if is_bias else layers.bias_at[layer]
        decay = real(0) if is_bias else rule.l2
        n_vectors = (end - begin) // n
        n_slices = min(PARTS, max(1, n_vectors // SLICE_VECTORS))
        for part in range(n_slices * t // threads, n_slices * (t + 1) // threads):
            low, high = begin + n_vectors * part // n_slices * n, begin + n_vectors * (part + 1) // n_slices * n
            squares = 0.0
            for at in range(low, high, len(piece)):
                count = min(len(piece), high - at)
                for h in range(0, count, n):
                    total = vload(work.gradient, at + h, ONE)
                    for other in range(1, n_parts):
                        total = vadd(total, vload(work.gradient, other * size + at + h, ONE))
                    vstore(piece, h, total)
                squares += settle(
                    rule, rate, decay, real(1), True, True, layers.parameters, state(work), at, piece, count // n,
                    ONE_ROW,
                )  # fmt: skip
            if not is_bias:
                work.penalty[layer * PARTS + part] = squares


@inlined
def epoch_by_rows(t, threads, layers, data, order, batch_size, rule, step, dropout, work, gate):
    """`run_epoch`, threads sharing rows."""
    real, size = work.out.dtype.type, len(layers.parameters)
    units, parts, alone = len(work.out) // len(work.piece), len(work.parts) // len(work.piece), np.zeros(16, np.int64)
    goal, total_loss, total_weight, n_right = 0, 0.0, 0.0, 0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        step += 1
        rate, weight, loss = real(rate_of_step(rule, step)), batch_weight(data, batch), 0.0
        n_parts = _n_parts(len(batch))
        for part in range(n_parts * t // threads, n_parts * (t + 1) // threads):
            if atomic_load(gate, STOP):
                return
            own = Work(
                work.out[t * units : (t + 1) * units], work.dout[t * units : (t + 1) * units], work.slot_1,
                work.slot_2, work.gradient[part * size : (part + 1) * size], work.parts[t * parts : (t + 1) * parts],
                work.row_label, work.row_weight, work.row_loss[t * BLOCK : (t + 1) * BLOCK],
                work.row_right[t * BLOCK : (t + 1) * BLOCK], work.part_loss, work.part_right, work.squares[t],
                work.results, work.values, work.users, work.numbers, work.value, work.ends, work.dense, work.piece,
                work.turned, work.columns, work.squares,
            )  # fmt: skip
            own_part(t, threads, layers, data, batch, weight, part, n_parts, rule, dropout, work, own, alone)
        goal += threads
        if not barrier(gate, goal):
            return
        for part in range(n_parts):
            loss += work.part_loss[part]
            n_right += work.part_right[part]
        if not _is_finite(loss):
            if t == 0:
                work.results[FAILED] = first // batch_size
            return
        settle_slices(t, threads, layers, n_parts, rule, rate, work, work.piece[t])
        goal += threads
        if not barrier(gate, goal):
            return
        total_loss += (loss + half_squares(rule, work)) * weight
        total_weight += weight
    report(t, work, total_loss, total_weight, n_right)


@kernel
def run_epoch(t, threads, layers, data, order, batch_size, rule, step, dropout, work, gate):
    """Thread t of `threads`: train on the rows `order`, `batch_size` at a time; `step` counts the steps made before.

    Overwrites the parameters and the optimizer's state; thread 0 writes `work.results`: the sum of the batches' losses,
    each times the weight of its batch, that weight's sum, how many samples were right, and the first batch whose loss
    was not finite (-1: none), which ends the epoch. If the gate's stop flag is set, the epoch ends where it is. Threads
    share rows if `work.part_loss` has places for the parts of a batch, else panels.
    """
    if len(work.part_loss):
        epoch_by_rows(t, threads, layers, data, order, batch_size, rule, step, dropout, work, gate)
    else:
        epoch_by_panels(t, threads, layers, data, order, batch_size, rule, step, dropout, work, gate)
