"""A whole epoch of training in one nogil call a thread, threads sharing panels of units.

Each owns panels of every hidden layer, and alone reads and writes their weights, those that lead in and those that lead
out; a panel's part of the logits is all that others need. No gradient is stored but where a batch has several blocks.
Every number is computed by one thread, in an order that does not depend on how many there are, so the bits of the
result do not either.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.backward import backward_block
from fastnn.kernels.epoch.block import (
    FAILED,
    Samples,
    Scratch,
    Units,
    batch_weight,
    half_squares,
    is_finite,
    lose_rows,
    report,
    take_samples,
)
from fastnn.kernels.epoch.forward import finish_layer, forward_block
from fastnn.kernels.inputs.csr import Csr
from fastnn.kernels.inputs.dense import copy_inputs, dense_sums, update_dense
from fastnn.kernels.inputs.packed import Packed, pack, pack_csr, packed_sums, update_packed
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import BLOCK, FIRST_HIDDEN, INPUTS, own_panels, unit_panel
from fastnn.kernels.ops.optimizers import State, Step, l2_of_step, rate_of_step
from fastnn.kernels.team import STOPPED, barrier


class Inputs(NamedTuple):
    """A block's inputs, packed where most are 0, or dense (BLOCK * D,), sample by sample in the working dtype; the
    arrays of the other form have length 0.
    """

    packed: Packed
    dense: np.ndarray


class PanelWork(NamedTuple):
    """Scratch: units and state, of all threads; samples, whose label, target and weight are (2, ...), and inputs, whose
    arrays have a row for each of two blocks, one worked on, one taken meanwhile; csr, the data set, if it was given as
    lists, else of length 0; penalty (L * most panels,), sums of
    squared weights; results (N_RESULTS,), what the epoch reports; scratch, whose arrays have a row for each thread.
    """

    units: Units
    state: State
    samples: Samples
    inputs: Inputs
    csr: Csr
    penalty: np.ndarray
    results: np.ndarray
    scratch: Scratch


@inlined
def take_block(data, csr, rows, samples, inputs, scratch, t, threads):
    """Thread t's share of taking a copy of the data of a block, the samples `rows`.

    Samples are drawn from anywhere in memory. Together their misses of the cache overlap; one by one they would not.
    """
    never_inline()
    take_samples(data, rows, samples, t, threads)
    if len(csr.indptr):
        pack_csr(csr, rows, data.images.shape[1], inputs.packed, t, threads)
    elif len(inputs.packed.users):
        pack(data.images, rows, inputs.packed, scratch.places, t, threads)
    else:
        copy_inputs(data.images, rows, inputs.dense, t, threads)


@inlined
def input_sums(layers, t, threads, n_rows, inputs, out):
    """Weighted sums of the first layer, before scale and bias, of thread t's panels."""
    for p in own_panels(layers, FIRST_HIDDEN, t, threads):
        panel = unit_panel(layers, FIRST_HIDDEN, p)
        if len(inputs.packed.users):
            packed_sums(layers, n_rows, inputs.packed, out, panel)
        else:
            dense_sums(layers, n_rows, inputs.dense, out, panel)


@inlined
def update_inputs(layers, t, threads, n_rows, step, inputs, dout, state, penalty, piece):
    """Gradient and step of the first layer's weights that lead to thread t's panels."""
    for p in own_panels(layers, FIRST_HIDDEN, t, threads):
        panel = unit_panel(layers, FIRST_HIDDEN, p)
        if len(inputs.packed.users):
            penalty[p] = update_packed(layers, n_rows, step, inputs.packed, dout, state, panel)
        else:
            penalty[p] = update_dense(layers, n_rows, step, inputs.dense, dout, state, piece, panel)


@kernel
def run_panel_epoch(t, threads, layers, data, order, batch_size, rule, n_steps, dropout, work, gate):
    """Thread t of `threads`: train on the rows `order`, `batch_size` at a time; `n_steps` steps were made before.

    Overwrites the parameters and the optimizer's state; thread 0 writes `work.results`: the sum of the batches' losses,
    each times the samples of its batch, and their number, without batches that do not count; how many samples were
    right; and the first batch whose loss was not finite (-1: none), which ends the epoch. If the gate's stop flag is
    set, the epoch ends where it is.
    """
    n_layers, real = layers.n_weights, work.units.out.dtype.type
    units, state, penalty, own = work.units, work.state, work.penalty, work.scratch
    scratch = Scratch(own.piece[t], own.turned[t], own.columns[t], own.figures[t], own.places[t])
    both, packed, dense = work.samples, work.inputs.packed, work.inputs.dense
    samples = Samples(both.label[0], both.target[0], both.weight[0], both.loss[0], both.right[0])
    next_samples = Samples(both.label[1], both.target[1], both.weight[1], both.loss[0], both.right[0])
    inputs = Inputs(Packed(packed.values[0], packed.users[0]), dense[0])
    next_inputs = Inputs(Packed(packed.values[1], packed.users[1]), dense[1])
    goal, total_loss, n_counted, n_right = 0, 0.0, 0, 0
    rate, l2, weight, loss = real(0), real(0), 0.0, 0.0
    first, start = 0, 0  # the batch, and the block in it
    if len(order):
        take_block(data, work.csr, order[:batch_size][:BLOCK], samples, inputs, scratch, t, threads)
    goal += threads
    if not barrier(gate, goal):
        return
    while first < len(order):
        batch = order[first : first + batch_size]
        if start == 0:
            n_steps += 1
            rate, weight, loss = real(rate_of_step(rule, n_steps)), batch_weight(data, batch), 0.0
            l2 = real(l2_of_step(rule, weight))
        rows = batch[start : start + BLOCK]
        n_rows, step = len(rows), Step(rule, rate, l2, start == 0, start + BLOCK >= len(batch))
        input_sums(layers, t, threads, n_rows, inputs, units.out)
        finish_layer(layers, INPUTS, t, threads, rows, layers.scale, dropout, units.out)
        goal = forward_block(t, threads, layers, rows, dropout, units, gate, goal)
        if goal == STOPPED:
            return
        goal += threads
        if not barrier(gate, goal):
            return

        # Nobody reads the other copy of inputs any more, so the next block's go there, in the shade of this barrier.
        next_first, next_start = (first + batch_size, 0) if step.is_last else (first, start + BLOCK)
        if next_first < len(order):
            following = order[next_first : next_first + batch_size][next_start : next_start + BLOCK]
            take_block(data, work.csr, following, next_samples, next_inputs, scratch, t, threads)
        lose_rows(t, threads, layers, n_rows, weight, units, samples, scratch)
        goal += threads
        if not barrier(gate, goal):
            return
        for s in range(n_rows):
            loss += samples.loss[s]
            n_right += samples.right[s]
        if not is_finite(loss):
            if t == 0:
                work.results[FAILED] = first // batch_size
            return

        goal = backward_block(t, threads, layers, rows, step, dropout, units, state, penalty, scratch, gate, goal)
        if goal == STOPPED:
            return
        update_inputs(layers, t, threads, n_rows, step, inputs, units.dout, state, penalty, scratch.piece)
        if n_layers > 2 or rule.l2 != 0.0:
            goal += threads
            if not barrier(gate, goal):
                return
        if step.is_last and weight > 0:
            total_loss += (loss + half_squares(l2, penalty)) * len(batch)
            n_counted += len(batch)
        first, start = next_first, next_start
        samples, next_samples, inputs, next_inputs = next_samples, samples, next_inputs, inputs
    report(t, work.results, total_loss, n_counted, n_right)
