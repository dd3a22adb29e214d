"""A whole epoch of training in one nogil call per thread; the threads share the rows of a batch.

Suits networks whose layers have one panel each, and batches that are large compared with the network. A batch is cut
into chunks. Each chunk has its own gradient, and the gradients are added in the order of the chunks. A step needs two
barriers for any depth, and a full batch may have any number of rows. The chunks do not depend on the number of
threads, and one thread computes each of them, so the bits of the result do not depend on that number either.
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
    sums_so_far,
)
from fastnn.kernels.epoch.forward import finish_layer, forward_block
from fastnn.kernels.inputs import LISTS, ROW_BLOCKS
from fastnn.kernels.inputs.csr import Csr, csr_sums, csr_weight_gradient
from fastnn.kernels.inputs.dense import dense_sums, gather_inputs, update_dense
from fastnn.kernels.inputs.row_blocks import RowBlockWork, row_block_sums, row_block_weight_gradient
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import BLOCK, FIRST_HIDDEN, INPUTS, unit_panel
from fastnn.kernels.ops.matmul import START
from fastnn.kernels.ops.optimizers import State, Step, apply_update, l2_of_step, rate_of_step
from fastnn.kernels.team import STOP, Member, atomic_load, own_part, wait
from fastnn.kernels.vector.simd import FOUR, ONE, lanes, vadd, vload, vstore

# A batch is cut into at most CHUNKS chunks of CHUNK_ROWS rows or more.
CHUNKS, CHUNK_ROWS = 16, 32
# The `is_last` of a chunk's blocks, and the `is_first` and `is_last` of the update after all chunks. Typed constants,
# not literals; `matmul.py` gives the reason.
MORE_FOLLOW, NOTHING_KEPT = np.bool_(False), np.bool_(True)


class Inputs(NamedTuple):
    """The inputs in one of three forms; the arrays of the other forms have length 0.

    form: LISTS, ROW_BLOCKS or DENSE. Dense inputs are used if more than half of the inputs are nonzero
    csr: the data set as lists
    row_blocks: the data set in row blocks, in the order of the epoch's only batch, and this thread's scratch
    dense: (BLOCK * D,), the samples of a block, in the working dtype
    """

    form: int
    csr: Csr
    row_blocks: RowBlockWork
    dense: np.ndarray


class WorkByRows(NamedTuple):
    """The arrays of an epoch that all threads share, besides the network and the data.

    state: the optimizer's state; `gradient` holds the gradients of all chunks, one after the other
    chunk_loss: (CHUNKS,) float64
    chunk_correct: (CHUNKS,) int64
    slices: (S, 5) int64, one row per slice of the parameters. The threads share the slices once all chunks are done.
        Columns: the offset of the slice, its number of rows (at most a gradient tile), the vectors in a row (4 or 1),
        whether it holds weights, whether it holds weights of the first layer
    penalty: (S,) float64, each slice's sum of squared weights
    results: (N_RESULTS,) float64, see `run_epoch_by_units`
    """

    state: State
    chunk_loss: np.ndarray
    chunk_correct: np.ndarray
    slices: np.ndarray
    penalty: np.ndarray
    results: np.ndarray


class OwnByRows(NamedTuple):
    """What a thread needs to compute its chunks alone.

    alone: the only member of a team of one, for the functions that a team can share
    inputs, units, samples, scratch: for one block
    penalty: (L,) float64, written but never read: `WorkByRows` has the sums of squares of the slices
    """

    alone: Member
    inputs: Inputs
    units: Units
    samples: Samples
    penalty: np.ndarray
    scratch: Scratch


def n_chunks(batch_size: int) -> int:
    """The number of chunks of a batch: at most CHUNKS, of CHUNK_ROWS rows or more; a smaller batch is one chunk."""
    return min(CHUNKS, max(1, batch_size // CHUNK_ROWS))


_n_chunks = inlined(n_chunks)


@inlined
def chunk_start(n_rows, chunks, chunk, unit):
    """The first row of a chunk in a batch of `n_rows`: a multiple of `unit`, at most `n_rows`."""
    return min(n_rows, (n_rows + unit - 1) // unit * chunk // chunks * unit)


@inlined
def train_block(layout, data, start, rows, weight, step, dropout, own):
    """Compute the losses of a block and its gradient.

    The first block of a chunk overwrites the chunk's gradient; later blocks add to it.

    start: the position of the block in the batch, which is also its position in the row blocks
    rows: (at most BLOCK,) int64, the samples of the block
    weight: the sum of the batch's sample weights
    step: the `gradient` of its state is the chunk's own, (parameters,)
    own: the thread's `OwnByRows`
    """
    never_inline()
    alone, inputs, units, samples, penalty, scratch = own
    n_rows, panel = len(rows), unit_panel(layout, FIRST_HIDDEN, START)
    gather_samples(alone, data, rows, samples)
    if inputs.form == ROW_BLOCKS:
        row_block_sums(layout, start, n_rows, inputs.row_blocks, units.out, panel)
    elif inputs.form == LISTS:
        csr_sums(layout, rows, inputs.csr, units.out, panel)
    else:
        gather_inputs(alone, data, rows, inputs.dense)
        dense_sums(alone, layout, n_rows, inputs.dense, units.out)
    finish_layer(alone, layout, INPUTS, rows, layout.scale, dropout, units.out)
    forward_block(alone, layout, rows, dropout, units)
    block_loss(alone, layout, n_rows, weight, units, samples, scratch)
    backward_block(alone, layout, rows, step, dropout, units, penalty, scratch)
    if inputs.form == ROW_BLOCKS:
        row_block_weight_gradient(layout, start, n_rows, step, inputs.row_blocks, units.dout, panel)
    elif inputs.form == LISTS:
        csr_weight_gradient(layout, rows, step, inputs.csr, units.dout, panel)
    else:
        update_dense(alone, layout, n_rows, step, inputs.dense, units.dout, penalty, scratch.gradient_tile)


@inlined
def _sum_chunks(gradient, size, chunks, at, gradient_tile, rows, n):
    """Add the chunks' gradients, in the order of the chunks, for `rows` rows of `n` vectors from offset `at` on.

    gradient: (chunks * size,), `size` elements per chunk
    gradient_tile: (rows, `n` vectors), flat, overwritten
    """
    width = len(n) * lanes(gradient_tile)
    for h in range(0, rows * width, width):
        total = vload(gradient, at + h, n)
        for chunk in range(1, chunks):
            total = vadd(total, vload(gradient, chunk * size + at + h, n))
        vstore(gradient_tile, h, total)


@inlined
def apply_update_slices(member, layout, chunks, step, work, gradient_tile):
    """Add the chunks' gradients, in the order of the chunks, and update the parameters, in this member's slices."""
    never_inline()
    real, gradient, size = gradient_tile.dtype.type, work.state.gradient, len(layout.parameters)
    for k in own_part(member, len(work.slices)):
        at, rows, vectors, is_weight, is_scaled = work.slices[k]
        total = gradient_tile
        if chunks == 1:
            total = gradient[at : at + len(gradient_tile)]
        elif vectors == 4:
            _sum_chunks(gradient, size, chunks, at, gradient_tile, rows, FOUR)
        else:
            _sum_chunks(gradient, size, chunks, at, gradient_tile, rows, ONE)
        scale = layout.scale if is_scaled else real(1)
        work.penalty[k] = apply_update(vectors, step, is_weight != 0, scale, layout.parameters, at, total, rows)


@kernel
def run_epoch_by_rows(member, layout, data, epoch, work, own):
    """Train on the batches of an epoch, or of a part of it, as one member of a team.

    work: a `WorkByRows`, shared by the team
    own: this thread's `OwnByRows`

    All other arguments, the results and the stop flag are those of `run_epoch_by_units`.
    """
    order, batch_size, rule, n_steps = epoch.order, epoch.batch_size, epoch.rule, epoch.n_steps
    real, size, samples = own.units.out.dtype.type, len(layout.parameters), own.samples
    slot_1, slot_2, gradient = work.state
    unit = BLOCK if own.inputs.form == ROW_BLOCKS else 1  # each mask of a `Bsr` covers a whole block
    total_loss, n_counted, n_correct = sums_so_far(work.results)
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        n_steps += 1
        rate, weight, loss = real(rate_of_step(rule, n_steps)), batch_weight(data, batch), 0.0
        l2 = real(l2_of_step(rule, weight))
        chunks = _n_chunks(len(batch))
        for chunk in own_part(member, chunks):
            begin, end = chunk_start(len(batch), chunks, chunk, unit), chunk_start(len(batch), chunks, chunk + 1, unit)
            state = State(slot_1, slot_2, gradient[chunk * size : (chunk + 1) * size])
            chunk_loss, chunk_correct = 0.0, 0
            for start in range(begin, end, BLOCK):
                if atomic_load(member.barrier, STOP):
                    return
                rows = batch[start : min(start + BLOCK, end)]
                step = Step(rule, rate, l2, start == begin, MORE_FOLLOW, state)
                train_block(layout, data, start, rows, weight, step, epoch.dropout, own)
                for s in range(len(rows)):
                    chunk_loss += samples.loss[s]
                    chunk_correct += samples.correct[s]
            work.chunk_loss[chunk], work.chunk_correct[chunk] = chunk_loss, chunk_correct
        if not wait(member):
            return
        for chunk in range(chunks):
            loss += work.chunk_loss[chunk]
            n_correct += work.chunk_correct[chunk]
        if not is_finite(loss):
            if member.t == 0:
                work.results[FAILED] = first // batch_size
            return
        whole = Step(rule, rate, l2, NOTHING_KEPT, NOTHING_KEPT, work.state)
        apply_update_slices(member, layout, chunks, whole, work, own.scratch.gradient_tile)
        if not wait(member):
            return
        if weight > 0:
            total_loss += (loss + half_squares(l2, work.penalty)) * len(batch)
            n_counted += len(batch)
    report(member, work.results, total_loss, n_counted, n_correct)
