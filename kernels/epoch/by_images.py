"""A whole epoch of training of an image network in one nogil call per thread; the threads share the rows of a batch.

The network is a chain of convolutions and pools, the stages of `images.py`, followed by dense layers. The outputs of
the last stage are the units of the first layer of the dense layers' `Layout`; no weights lead into these. A block of
images passes through the stages group by group, one sample per lane, and through the dense layers as rows.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.backward import backward_block
from fastnn.kernels.epoch.block import Samples, Scratch, Units, block_loss, gather_samples
from fastnn.kernels.epoch.chunks import MORE_FOLLOW, epoch_of_chunks
from fastnn.kernels.epoch.finish import finish_weights
from fastnn.kernels.epoch.forward import drop_units, forward_block
from fastnn.kernels.images import (
    BIAS_AT,
    CHANNELS_OUT,
    CONV,
    HAS_INPUT_GRADIENT,
    IMAGE_BLOCK,
    KIND,
    N_TAPS,
    WEIGHT_AT,
    Own,
    Plan,
)
from fastnn.kernels.inputs.images import clear_rows, drop_pixels, gather_images, images_to_rows, rows_to_images
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import FIRST_HIDDEN, all_panels, unit_panel
from fastnn.kernels.ops.averaging import average_numbers
from fastnn.kernels.ops.convolution import (
    conv_stage,
    finish_gradient,
    input_gradient,
    pack_for_gradient,
    pack_for_sums,
    slope_rows,
    weight_gradient,
    widen_gradients,
)
from fastnn.kernels.ops.matmul import START
from fastnn.kernels.ops.max_norm import limit_columns
from fastnn.kernels.ops.optimizers import Step
from fastnn.kernels.ops.pooling import pool_gradient, pool_stage
from fastnn.kernels.team import STOP, Member, atomic_load, own_part
from fastnn.kernels.vector.simd import lanes


class Cut(NamedTuple):
    """How batches are cut into chunks.

    rows: the number of rows of a chunk, unless that makes more than `most` chunks
    most: the largest number of chunks, at most CHUNKS
    """

    rows: int
    most: int


class OwnByImages(NamedTuple):
    """What a thread needs to compute its chunks alone.

    alone: the only member of a team of one, for the functions that a team can share
    plan: the image layers; the same for all threads
    cut: how batches are cut into chunks
    images: the thread's arrays for the image layers
    units, samples, scratch: for one block
    penalty: (L * largest number of panels,) float64, written but never read: `WorkByChunks` has the sums of squares
    """

    alone: Member
    plan: Plan
    cut: Cut
    images: Own
    units: Units
    samples: Samples
    penalty: np.ndarray
    scratch: Scratch


# The first row of a chunk is a multiple of this number, so that no chunk but the last has an incomplete group.
GROUP_ROWS = 16


def n_image_chunks(cut: Cut, n_rows: int) -> int:
    """The number of chunks of a batch."""
    return min(cut.most, max(1, (n_rows + cut.rows - 1) // cut.rows))


_n_chunks = inlined(n_image_chunks)


@inlined
def _cut(own, n_rows):
    """How a batch is cut into chunks; see `epoch_of_chunks`."""
    return _n_chunks(own.cut, n_rows), GROUP_ROWS


@inlined
def image_stages(plan, parameters, packed, values, argmax):
    """Compute the outputs of all stages for a group of images, whose input is in `values`."""
    for s in range(len(plan.stages)):
        stage = plan.stages[s]
        if stage[KIND] == CONV:
            conv_stage(stage, plan.table, parameters, packed, START, values, argmax)
        else:
            pool_stage(stage, plan.table, values, argmax)


@inlined
def image_gradients(plan, values, argmax, own):
    """Compute the gradients of all stages for a group of images, from those of the last stage's output.

    values, argmax: those of the group
    own: the thread's `Own`; `sums` is added to
    """
    for s in range(len(plan.stages) - 1, -1, -1):
        stage = plan.stages[s]
        if stage[KIND] == CONV or stage[HAS_INPUT_GRADIENT]:
            slope_rows(stage, plan.table, values, own.dvalues)
        if stage[KIND] == CONV:
            widen_gradients(stage, plan.table, argmax, own.dvalues, own.wide, own.sums)
            weight_gradient(stage, plan.table, values, own.wide, own.sums)
            if stage[HAS_INPUT_GRADIENT]:
                input_gradient(stage, plan.table, own.wide, own.packed, own.zeros, argmax, own.dvalues)
        elif stage[HAS_INPUT_GRADIENT]:
            pool_gradient(stage, plan.table, argmax, own.dvalues)


@inlined
def pack_weights(plan, parameters, packed, needs_gradients):
    """Copy the weights of all convolutions in the order of tiles."""
    never_inline()
    for s in range(len(plan.stages)):
        stage = plan.stages[s]
        if stage[KIND] == CONV:
            pack_for_sums(stage, plan.table, parameters, packed)
            if needs_gradients and stage[HAS_INPUT_GRADIENT]:
                pack_for_gradient(stage, plan.table, parameters, packed)


@inlined
def _train_block(member, layout, data, rows, weight, step, dropout, own):
    """Compute the losses of a block of images and its gradient. Returns False if the team must stop.

    The gradient of the convolutions stays in ``own.images.sums``; that of the dense layers is written or added to that
    of the chunk.
    """
    never_inline()
    alone, plan, images, units, scratch = own.alone, own.plan, own.images, own.units, own.scratch
    n, size, n_rows, last = lanes(units.out), plan.size, len(rows), plan.stages[len(plan.stages) - 1]
    gather_samples(alone, data, rows, own.samples)
    for s in range(0, n_rows, n):
        if atomic_load(member.barrier, STOP):
            return False
        at = s // n * size
        values, argmax = images.values[at : at + size], images.argmax[at : at + size]
        gather_images(plan.rows, plan.n_inputs, data.images, rows[s : s + n], layout.scale, values, images.numbers,
                      scratch.offsets)  # fmt: skip
        drop_pixels(plan.rows, rows[s : s + n], dropout, values, scratch.offsets)
        image_stages(plan, layout.parameters, images.packed, values, argmax)
        images_to_rows(layout, last, values, units.out, s, scratch.offsets)
    for p in all_panels(layout, FIRST_HIDDEN):
        drop_units(rows, dropout, FIRST_HIDDEN, units.out, unit_panel(layout, FIRST_HIDDEN, p))
    forward_block(alone, layout, rows, dropout, units)
    block_loss(alone, layout, n_rows, weight, units, own.samples, scratch)
    backward_block(alone, layout, rows, step, dropout, units, own.penalty, scratch)
    clear_rows(layout, n_rows, (n_rows + n - 1) // n * n, units.dout)
    for s in range(0, n_rows, n):
        if atomic_load(member.barrier, STOP):
            return False
        at = s // n * size
        rows_to_images(layout, last, units.dout, s, images.dvalues, scratch.offsets)
        image_gradients(plan, images.values[at : at + size], images.argmax[at : at + size], images)
    return True


@inlined
def _train_chunk(member, layout, data, batch, begin, end, weight, step, dropout, own):
    """Compute the losses and the gradient of the rows `begin` to ``end - 1`` of a batch; see `epoch_of_chunks`."""
    plan, images, samples, loss, correct = own.plan, own.images, own.samples, 0.0, 0
    pack_weights(plan, layout.parameters, images.packed, True)
    for k in range(len(images.sums)):
        images.sums[k] = 0
    for start in range(begin, end, IMAGE_BLOCK):
        rows = batch[start : min(start + IMAGE_BLOCK, end)]
        part = Step(step.rule, step.rate, step.l2, start == begin, MORE_FOLLOW, step.state)
        if not _train_block(member, layout, data, rows, weight, part, dropout, own):
            return False, loss, correct
        for s in range(len(rows)):
            loss += samples.loss[s]
            correct += samples.correct[s]
    for s in range(len(plan.stages)):
        if plan.stages[s, KIND] == CONV:
            finish_gradient(plan.stages[s], plan.table, images.sums, images.numbers, step.state.gradient)
    return True, loss, correct


@inlined
def _finish(member, layout, own, finish, share):
    """Do what follows the update of a step, in this member's part of the parameters; see `epoch_of_chunks`.

    The columns of a convolution's weight are its filters.
    """
    never_inline()
    stages, parameters, average = own.plan.stages, layout.parameters, finish.average
    for s in range(len(stages)):
        if stages[s, KIND] == CONV:
            at, rows, width = stages[s, WEIGHT_AT], stages[s, N_TAPS], stages[s, CHANNELS_OUT]
            columns = own_part(member, width)
            if finish.max_norm > 0:
                limit_columns(parameters, at, rows, width, finish.max_norm, columns)
            if len(average):
                for k in range(at, at + rows * width, width):
                    average_numbers(average, parameters, range(k + columns.start, k + columns.stop), share)
                bias_at = stages[s, BIAS_AT]
                average_numbers(average, parameters, range(bias_at + columns.start, bias_at + columns.stop), share)
    for layer in range(FIRST_HIDDEN, layout.n_weights):
        finish_weights(member, layout, layer, finish, share)


_run_epoch = epoch_of_chunks(_cut, _train_chunk, _finish)


@kernel
def run_epoch_by_images(member, layout, data, epoch, work, own):
    """Train an image network on the batches of an epoch, or of a part of it, as one member of a team.

    layout: the parameters of the whole network, and the dense layers; no weights lead into their first layer
    work: a `WorkByChunks`, shared by the team
    own: this thread's `OwnByImages`

    All other arguments, the results and the stop flag are those of `run_epoch_by_units`.
    """
    _run_epoch(member, layout, data, epoch, work, own)
