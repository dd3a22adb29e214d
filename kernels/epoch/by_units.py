"""A whole epoch of training in one nogil call per thread; the threads share panels of units.

A thread owns panels of every hidden layer. It alone updates the weights that lead into them and, from the last hidden
layer, those that lead out. With one hidden layer, other threads need only its partial logits. Gradients are stored only
if a batch has several blocks, and that of the first layer if its inputs are lists. One thread computes each number, in
an order that does not depend on the number of threads, so the bits of the result do not depend on it either.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.backward import backward_block, update_first_bias
from fastnn.kernels.epoch.block import (
    FAILED,
    Samples,
    Units,
    batch_weight,
    block_loss,
    gather_samples,
    half_squares,
    is_finite,
    report,
    sums_so_far,
)
from fastnn.kernels.epoch.finish import finish_weights, is_needed
from fastnn.kernels.epoch.forward import finish_layer, forward_block
from fastnn.kernels.inputs import DENSE, LISTS, PACKED, PACKED_LISTS
from fastnn.kernels.inputs.ahead import N_WHOLE, WHOLE, part_of, prefetch_part, samples_ahead
from fastnn.kernels.inputs.csr import Csr, csr_sums, update_csr
from fastnn.kernels.inputs.dense import dense_sums, gather_inputs, update_dense
from fastnn.kernels.inputs.packed import Packed, pack, pack_csr, packed_sums, update_packed
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import BLOCK, FIRST_HIDDEN, INPUTS, own_panels, unit_panel
from fastnn.kernels.ops.averaging import share_of_step
from fastnn.kernels.ops.optimizers import State, Step, l2_of_step, rate_of_step
from fastnn.kernels.team import wait


class Inputs(NamedTuple):
    """The inputs of a block, packed or dense; the other arrays have length 0. Lists are read where they are.

    form: DENSE, PACKED, PACKED_LISTS or LISTS
    packed: for sparse inputs, group by group
    dense: (BLOCK * D,), segment after segment, in the working dtype
    """

    form: int
    packed: Packed
    dense: np.ndarray


class WorkByUnits(NamedTuple):
    """The arrays of an epoch that all threads share, besides the network and the data.

    Samples and inputs are double-buffered: one of the two holds the current block while the next block is gathered into
    the other.

    units: a block's units
    state: the optimizer's state
    samples: two `Samples`, with the same `loss` and `correct`
    inputs: two `Inputs`
    csr: the data set if it was given as lists, otherwise of length 0
    penalty: (L * panels of the widest layer,) float64, sums of squared weights
    results: (N_RESULTS,) float64, see `run_epoch_by_units`
    """

    units: Units
    state: State
    samples: tuple[Samples, Samples]
    inputs: tuple[Inputs, Inputs]
    csr: Csr
    penalty: np.ndarray
    results: np.ndarray


@inlined
def gather_block(member, data, csr, rows, dropout, samples, inputs, offsets):
    """Gather this member's part of the samples and inputs of a block.

    rows: (at most BLOCK,) int64, the samples of the block
    csr: the data set, if it was given as lists
    samples, inputs: overwritten
    offsets: (2 * GROUP,) int64, scratch

    Samples are scattered over memory. Because they are gathered together, their cache misses overlap; packed samples
    are prefetched during the step before.
    """
    never_inline()
    gather_samples(member, data, rows, samples)
    if inputs.form == DENSE:
        gather_inputs(member, data, rows, dropout, inputs.dense)
    elif inputs.form == PACKED_LISTS:
        pack_csr(member, csr, rows, data.images.shape[1], dropout, inputs.packed)
    elif inputs.form != LISTS:
        pack(member, data.images, rows, dropout, inputs.packed, offsets)


@inlined
def input_sums(member, layout, rows, csr, inputs, out):
    """Compute the weighted sums of the first layer, before scale and bias, for this member's panels."""
    if inputs.form == DENSE:
        dense_sums(member, layout, len(rows), inputs.dense, out)
        return
    for p in own_panels(member, layout, FIRST_HIDDEN):
        panel = unit_panel(layout, FIRST_HIDDEN, p)
        if inputs.form == LISTS:
            csr_sums(layout, rows, csr, out, panel)
        else:
            packed_sums(layout, len(rows), inputs.packed, out, panel)


@inlined
def update_inputs(member, layout, rows, step, csr, inputs, ahead, dout, penalty, gradient_tile):
    """Update the first layer's weights that lead to this member's panels; write the sums of squares to `penalty`.

    ahead: the samples that are gathered in the next step; packed samples are prefetched meanwhile
    """
    if inputs.form == DENSE:
        update_dense(member, layout, len(rows), step, inputs.dense, dout, penalty, gradient_tile)
        return
    own = own_panels(member, layout, FIRST_HIDDEN)
    if len(own) == 0:
        prefetch_part(ahead, WHOLE, N_WHOLE)
    for p in own:
        panel, part = unit_panel(layout, FIRST_HIDDEN, p), part_of(ahead, p - own.start, len(own))
        if inputs.form == LISTS:
            penalty[p] = update_csr(layout, rows, step, csr, dout, panel)
        else:
            penalty[p] = update_packed(panel.vectors, layout, len(rows), step, inputs.packed, dout, panel, part)


@inlined
def _next_block(epoch, first, start):
    """Where the next block begins: the position of its batch in `order`, and its own in the batch."""
    size = min(epoch.batch_size, len(epoch.order) - first)
    return (first, start + BLOCK) if start + BLOCK < size else (first + epoch.batch_size, 0)


@kernel
def run_epoch_by_units(member, layout, data, epoch, work, scratch):
    """Train on the batches of an epoch, or of a part of it, as one member of a team.

    member: this thread's place in the team; if the stop flag of its barrier is set, the epoch ends early
    layout: the network; its parameters are updated
    data: the data set
    epoch: the settings
    work: a `WorkByUnits`, shared by the team; its state is updated, and thread 0 writes its results
    scratch: this thread's own

    The results, one element each. The sums go on from the values that the caller sets:
        LOSS: the sum of the batches' losses, each times its number of samples
        COUNTED: the number of samples in LOSS; batches whose sample weights are all 0 are left out
        CORRECT: the number of samples whose prediction was correct
        FAILED: the number of the first batch in `order` whose loss was not finite, from 0; it ends the epoch. The
            caller sets it to -1 beforehand; it stays -1 if no batch fails
    """
    order, batch_size, rule, n_steps = epoch.order, epoch.batch_size, epoch.rule, epoch.n_steps
    units, penalty, real = work.units, work.penalty, work.units.out.dtype.type
    (samples, next_samples), (inputs, next_inputs) = work.samples, work.inputs
    total_loss, n_counted, n_correct = sums_so_far(work.results)
    rate, l2, weight, loss = real(0), real(0), 0.0, 0.0
    first, start = 0, 0  # the position of the batch in `order`, and of the block in the batch
    if len(order):
        rows = order[:batch_size][:BLOCK]
        if inputs.form == PACKED:
            prefetch_part(samples_ahead(member, data.images, rows), WHOLE, N_WHOLE)
        gather_block(member, data, work.csr, rows, epoch.dropout, samples, inputs, scratch.offsets)
    if not wait(member):
        return
    while first < len(order):
        batch = order[first : first + batch_size]
        if start == 0:
            n_steps += 1
            rate, weight, loss = real(rate_of_step(rule, n_steps)), batch_weight(data, epoch, batch), 0.0
            l2 = real(l2_of_step(rule, weight))
        rows = batch[start : start + BLOCK]
        n_rows, step = len(rows), Step(rule, rate, l2, start == 0, start + BLOCK >= len(batch), work.state)
        input_sums(member, layout, rows, work.csr, inputs, units.out)
        finish_layer(member, layout, INPUTS, rows, layout.scale, epoch.dropout, units.out)
        if not (forward_block(member, layout, rows, epoch.dropout, units) and wait(member)):
            return

        # No thread reads the other samples and inputs any more, so the next block is gathered there. The barrier after
        # the losses covers this too.
        next_first, next_start = _next_block(epoch, first, start)
        if next_first < len(order):
            following = order[next_first : next_first + batch_size][next_start : next_start + BLOCK]
            gather_block(
                member, data, work.csr, following, epoch.dropout, next_samples, next_inputs, scratch.offsets
            )  # fmt: skip
        block_loss(member, layout, n_rows, weight, units, samples, scratch)
        if not wait(member):
            return
        for s in range(n_rows):
            loss += samples.loss[s]
            n_correct += samples.correct[s]
        if not is_finite(loss):
            if member.t == 0:
                work.results[FAILED] = first // batch_size
            return

        if not backward_block(member, layout, rows, step, epoch.dropout, units, penalty, scratch):
            return
        update_first_bias(member, layout, n_rows, step, units.dout, scratch.gradient_tile)
        later_first, later_start = _next_block(epoch, next_first, next_start)
        later = order[later_first : later_first + batch_size][later_start : later_start + BLOCK]
        ahead = samples_ahead(member, data.images, later)
        update_inputs(member, layout, rows, step, work.csr, inputs, ahead, units.dout, penalty, scratch.gradient_tile)
        finishes, last = step.is_last and is_needed(epoch.finish), layout.n_weights - 1
        share = real(share_of_step(epoch.finish.decay, n_steps)) if finishes else real(0)
        for layer in range(max(last, 1) if finishes else 0):
            finish_weights(member, layout, layer, epoch.finish, share)
        if (layout.n_weights > 2 or rule.l2 != 0.0 or finishes) and not wait(member):
            return
        if finishes and last > 0:  # the weights that lead to a class have several owners
            finish_weights(member, layout, last, epoch.finish, share)
            if not wait(member):
                return
        if step.is_last and weight > 0:
            total_loss += (loss + half_squares(l2, penalty)) * len(batch)
            n_counted += len(batch)
        first, start = next_first, next_start
        samples, next_samples, inputs, next_inputs = next_samples, samples, next_inputs, inputs
    report(member, work.results, total_loss, n_counted, n_correct)
