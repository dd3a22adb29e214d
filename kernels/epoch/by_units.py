"""A whole epoch of training in one nogil call per thread; the threads share panels of units.

A thread owns panels of every hidden layer. It alone updates the weights that lead into them and, from the last hidden
layer, those that lead out. With one hidden layer, other threads need only its partial logits. Gradients are stored only
if a batch has several blocks. One thread computes each number, in an order that does not depend on the number of
threads, so the bits of the result do not depend on it either.
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
    block_loss,
    gather_samples,
    half_squares,
    is_finite,
    report,
)
from fastnn.kernels.epoch.forward import finish_layer, forward_block
from fastnn.kernels.inputs.csr import Csr
from fastnn.kernels.inputs.dense import copy_inputs, dense_sums, update_dense
from fastnn.kernels.inputs.packed import Packed, pack, pack_csr, packed_sums, update_packed
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import BLOCK, FIRST_HIDDEN, INPUTS, own_panels, unit_panel
from fastnn.kernels.ops.optimizers import State, Step, l2_of_step, rate_of_step
from fastnn.kernels.team import wait


class Inputs(NamedTuple):
    """The inputs of a block in one of two forms; the arrays of the other form have length 0.

    packed: for sparse inputs, group by group
    dense: (BLOCK * D,), sample after sample, in the working dtype
    """

    packed: Packed
    dense: np.ndarray


class WorkByUnits(NamedTuple):
    """The arrays of an epoch besides the network and the data.

    A double-buffered array has two rows that alternate: one holds the current block while the next block is gathered
    into the other.

    units: a block's units, shared by all threads
    state: the optimizer's state, shared by all threads
    samples: `label`, `target` and `weight` have two rows (double-buffered), `loss` and `correct` have one
    inputs: all arrays have two rows (double-buffered)
    csr: the data set if it was given as lists, otherwise of length 0
    penalty: (L * panels of the widest layer,) float64, sums of squared weights
    results: (N_RESULTS,) float64, see `run_epoch_by_units`
    scratch: all arrays have one row per thread
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
def gather_block(data, csr, rows, samples, inputs, scratch, t, threads):
    """Gather thread t's part of the samples and inputs of a block.

    rows: (at most BLOCK,) int64, the samples of the block
    csr: the data set, if it was given as lists
    samples, inputs: overwritten
    scratch: thread t's

    Samples are scattered over memory. Because they are gathered together, their cache misses overlap.
    """
    never_inline()
    gather_samples(data, rows, samples, t, threads)
    if len(csr.indptr):
        pack_csr(csr, rows, data.images.shape[1], inputs.packed, t, threads)
    elif len(inputs.packed.nonzero_masks):
        pack(data.images, rows, inputs.packed, scratch.offsets, t, threads)
    else:
        copy_inputs(data.images, rows, inputs.dense, t, threads)


@inlined
def input_sums(layout, t, threads, n_rows, inputs, out):
    """Compute the weighted sums of the first layer, before scale and bias, for thread t's panels."""
    for p in own_panels(layout, FIRST_HIDDEN, t, threads):
        panel = unit_panel(layout, FIRST_HIDDEN, p)
        if len(inputs.packed.nonzero_masks):
            packed_sums(layout, n_rows, inputs.packed, out, panel)
        else:
            dense_sums(layout, n_rows, inputs.dense, out, panel)


@inlined
def update_inputs(layout, t, threads, n_rows, step, inputs, dout, state, penalty, gradient_tile):
    """Update the first layer's weights that lead to thread t's panels, and write the sums of squares to `penalty`."""
    for p in own_panels(layout, FIRST_HIDDEN, t, threads):
        panel = unit_panel(layout, FIRST_HIDDEN, p)
        if len(inputs.packed.nonzero_masks):
            penalty[p] = update_packed(layout, n_rows, step, inputs.packed, dout, state, panel)
        else:
            penalty[p] = update_dense(layout, n_rows, step, inputs.dense, dout, state, gradient_tile, panel)


@kernel
def run_epoch_by_units(t, threads, layout, data, order, batch_size, rule, n_steps, dropout, work, barrier):
    """Train for one epoch, as thread t of `threads`.

    layout: the network; its parameters are updated
    data: the data set
    order: (n,) int64, the samples to train on
    batch_size: the number of samples in a batch; the last batch may have fewer
    rule: the optimizer
    n_steps: the number of optimizer steps before this epoch
    dropout: the masks of this epoch
    work: a `WorkByUnits`; its state is updated, and thread 0 writes its results
    barrier: the team's barrier; if its stop flag is set, the epoch ends early

    The results, one element each:
        LOSS: the sum of the batches' losses, each times its number of samples
        COUNTED: the number of samples in LOSS; batches whose sample weights are all 0 are left out
        CORRECT: the number of samples whose prediction was correct
        FAILED: the number of the first batch whose loss was not finite, counted from 0; that batch ends the epoch. The
            caller sets it to -1 beforehand; it stays -1 if no batch fails
    """
    n_layers, real = layout.n_weights, work.units.out.dtype.type
    units, state, penalty, own = work.units, work.state, work.penalty, work.scratch
    scratch = Scratch(own.gradient_tile[t], own.transposed[t], own.columns[t], own.row_stats[t], own.offsets[t])
    both, packed, dense = work.samples, work.inputs.packed, work.inputs.dense
    samples = Samples(both.label[0], both.target[0], both.weight[0], both.loss[0], both.correct[0])
    next_samples = Samples(both.label[1], both.target[1], both.weight[1], both.loss[0], both.correct[0])
    inputs = Inputs(Packed(packed.values[0], packed.nonzero_masks[0]), dense[0])
    next_inputs = Inputs(Packed(packed.values[1], packed.nonzero_masks[1]), dense[1])
    total_loss, n_counted, n_correct = 0.0, 0, 0
    rate, l2, weight, loss = real(0), real(0), 0.0, 0.0
    first, start = 0, 0  # the position of the batch in `order`, and of the block in the batch
    if len(order):
        gather_block(data, work.csr, order[:batch_size][:BLOCK], samples, inputs, scratch, t, threads)
    if not wait(barrier, threads):
        return
    while first < len(order):
        batch = order[first : first + batch_size]
        if start == 0:
            n_steps += 1
            rate, weight, loss = real(rate_of_step(rule, n_steps)), batch_weight(data, batch), 0.0
            l2 = real(l2_of_step(rule, weight))
        rows = batch[start : start + BLOCK]
        n_rows, step = len(rows), Step(rule, rate, l2, start == 0, start + BLOCK >= len(batch))
        input_sums(layout, t, threads, n_rows, inputs, units.out)
        finish_layer(layout, INPUTS, t, threads, rows, layout.scale, dropout, units.out)
        if not forward_block(t, threads, layout, rows, dropout, units, barrier):
            return
        if not wait(barrier, threads):
            return

        # No thread reads the other row of samples and inputs any more, so the next block is gathered there. The barrier
        # after the losses covers this too.
        next_first, next_start = (first + batch_size, 0) if step.is_last else (first, start + BLOCK)
        if next_first < len(order):
            following = order[next_first : next_first + batch_size][next_start : next_start + BLOCK]
            gather_block(data, work.csr, following, next_samples, next_inputs, scratch, t, threads)
        block_loss(t, threads, layout, n_rows, weight, units, samples, scratch)
        if not wait(barrier, threads):
            return
        for s in range(n_rows):
            loss += samples.loss[s]
            n_correct += samples.correct[s]
        if not is_finite(loss):
            if t == 0:
                work.results[FAILED] = first // batch_size
            return

        if not backward_block(t, threads, layout, rows, step, dropout, units, state, penalty, scratch, barrier):
            return
        update_inputs(layout, t, threads, n_rows, step, inputs, units.dout, state, penalty, scratch.gradient_tile)
        if (n_layers > 2 or rule.l2 != 0.0) and not wait(barrier, threads):
            return
        if step.is_last and weight > 0:
            total_loss += (loss + half_squares(l2, penalty)) * len(batch)
            n_counted += len(batch)
        first, start = next_first, next_start
        samples, next_samples, inputs, next_inputs = next_samples, samples, next_inputs, inputs
    report(t, work.results, total_loss, n_counted, n_correct)
