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
)
from fastnn.kernels.epoch.forward import finish_layer, forward_block
from fastnn.kernels.inputs.csr import Csr, csr_sums, csr_weight_gradient
from fastnn.kernels.inputs.dense import copy_inputs, dense_sums, update_dense
from fastnn.kernels.inputs.row_blocks import Bsr, row_block_sums, row_block_weight_gradient
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import BLOCK, FIRST_HIDDEN, INPUTS, unit_panel
from fastnn.kernels.ops.matmul import START
from fastnn.kernels.ops.optimizers import State, Step, apply_update, l2_of_step, rate_of_step
from fastnn.kernels.team import STOP, atomic_load, wait
from fastnn.kernels.vector.simd import FOUR, ONE, lanes, vadd, vload, vstore

# A batch is cut into at most CHUNKS chunks of CHUNK_ROWS rows or more.
CHUNKS, CHUNK_ROWS = 16, 32
# One thread computes a chunk: functions for a team are called as thread FIRST of ONLY one. These constants are typed,
# not literals; `matmul.py` gives the reason.
FIRST, ONLY, MORE_FOLLOW, NOTHING_KEPT = np.int64(0), np.int64(1), np.bool_(False), np.bool_(True)


class Inputs(NamedTuple):
    """The inputs in one of three forms; the arrays of the other forms have length 0.

    csr: the data set as lists
    bsr: the data set in row blocks
    dense: (BLOCK * D,), the samples of a block, in the working dtype
    row_block_scratch: (`row_blocks.SCRATCH`,), scratch for `bsr`
    """

    csr: Csr
    bsr: Bsr
    dense: np.ndarray
    row_block_scratch: np.ndarray


class WorkByRows(NamedTuple):
    """The arrays of an epoch besides the network and the data.

    One per thread:
        units: its arrays hold the threads' units one after the other
        samples: its arrays have one row per thread
        scratch: its arrays have one row per thread
        row_block_scratch: (threads, `row_blocks.SCRATCH`), for `bsr`
        dense: (threads, BLOCK * D), a block's samples in the working dtype, or (threads, 0) if `csr` or `bsr` is used
        own_barrier: (threads, BARRIER_SIZE) int64, a barrier for one thread

    Shared by all threads:
        state: the optimizer's state; `gradient` holds the gradients of all chunks, one after the other
        csr: the data set as lists; of length 0 if not used
        bsr: the data set in row blocks, in the order of the epoch's only batch; of length 0 if not used. Either `csr`
            or `bsr` is used if at least half of the inputs are 0, or if the data set was given as lists
        chunk_loss: (CHUNKS,) float64
        chunk_correct: (CHUNKS,) int64
        slices: (S, 5) int64, one row per slice of the parameters. The threads share the slices once all chunks are
            done. Columns: the offset of the slice, its number of rows (at most a gradient tile), the vectors in a row
            (4 or 1), whether it holds weights, whether it holds weights of the first layer
        penalty: (S,) float64, each slice's sum of squared weights
        results: (N_RESULTS,) float64, see `run_epoch_by_units`
    """

    units: Units
    state: State
    samples: Samples
    csr: Csr
    bsr: Bsr
    row_block_scratch: np.ndarray
    dense: np.ndarray
    chunk_loss: np.ndarray
    chunk_correct: np.ndarray
    slices: np.ndarray
    penalty: np.ndarray
    results: np.ndarray
    scratch: Scratch
    own_barrier: np.ndarray


def n_chunks(batch_size: int) -> int:
    """The number of chunks of a batch: at most CHUNKS, of CHUNK_ROWS rows or more; a smaller batch is one chunk."""
    return min(CHUNKS, max(1, batch_size // CHUNK_ROWS))


_n_chunks = inlined(n_chunks)


@inlined
def chunk_start(n_rows, chunks, chunk, unit):
    """The first row of a chunk in a batch of `n_rows`: a multiple of `unit`, at most `n_rows`."""
    return min(n_rows, (n_rows + unit - 1) // unit * chunk // chunks * unit)


@inlined
def train_block(
    layout, data, start, rows, weight, step, dropout, inputs, units, state, samples, penalty, scratch, barrier
):
    """Compute the losses of a block and its gradient.

    The first block of a chunk overwrites the chunk's gradient; later blocks add to it.

    start: the position of the block in the batch, which is also its position in the row blocks
    rows: (at most BLOCK,) int64, the samples of the block
    weight: the sum of the batch's sample weights
    state: `gradient` is the chunk's own, (parameters,)
    """
    never_inline()
    n_rows, panel, dout = len(rows), unit_panel(layout, FIRST_HIDDEN, START), units.dout
    gather_samples(data, rows, samples, FIRST, ONLY)
    if len(inputs.bsr.indptr):
        row_block_sums(layout, start, n_rows, inputs.bsr, units.out, panel, inputs.row_block_scratch, scratch.offsets)
    elif len(inputs.csr.indptr):
        csr_sums(layout, rows, inputs.csr, units.out, panel)
    else:
        copy_inputs(data.images, rows, inputs.dense, FIRST, ONLY)
        dense_sums(layout, n_rows, inputs.dense, units.out, panel)
    finish_layer(layout, INPUTS, FIRST, ONLY, rows, layout.scale, dropout, units.out)
    forward_block(FIRST, ONLY, layout, rows, dropout, units, barrier)
    block_loss(FIRST, ONLY, layout, n_rows, weight, units, samples, scratch)
    backward_block(FIRST, ONLY, layout, rows, step, dropout, units, state, penalty, scratch, barrier)
    if len(inputs.bsr.indptr):
        row_block_weight_gradient(
            layout, start, n_rows, inputs.bsr, dout, state.gradient, step.is_first, panel, inputs.row_block_scratch,
            scratch.offsets,
        )  # fmt: skip
    elif len(inputs.csr.indptr):
        csr_weight_gradient(layout, rows, inputs.csr, dout, state.gradient, step.is_first, panel)
    else:
        update_dense(layout, n_rows, step, inputs.dense, dout, state, scratch.gradient_tile, panel)


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
def apply_update_slices(t, threads, layout, chunks, step, work, gradient_tile):
    """Add the chunks' gradients, in the order of the chunks, and update the parameters, in thread t's slices."""
    never_inline()
    real, state, size, slices = gradient_tile.dtype.type, work.state, len(layout.parameters), work.slices
    for k in range(len(slices) * t // threads, len(slices) * (t + 1) // threads):
        at, rows, vectors, is_weight, is_scaled = slices[k]
        total = gradient_tile
        if chunks == 1:
            total = state.gradient[at : at + len(gradient_tile)]
        elif vectors == 4:
            _sum_chunks(state.gradient, size, chunks, at, gradient_tile, rows, FOUR)
        else:
            _sum_chunks(state.gradient, size, chunks, at, gradient_tile, rows, ONE)
        decay, scale = step.l2 if is_weight else real(0), layout.scale if is_scaled else real(1)
        work.penalty[k] = apply_update(step, decay, scale, layout.parameters, state, at, total, rows, vectors)


@kernel
def run_epoch_by_rows(t, threads, layout, data, order, batch_size, rule, n_steps, dropout, work, barrier):
    """Train for one epoch, as thread t of `threads`.

    work: a `WorkByRows`

    All other arguments, the results and the stop flag are those of `run_epoch_by_units`.
    """
    real, size, all_units, own = work.units.out.dtype.type, len(layout.parameters), work.units, work.scratch
    n_units, n_logits = (
        len(all_units.out) // len(work.own_barrier),
        len(all_units.partial_logits) // len(work.own_barrier),
    )
    units = Units(
        all_units.out[t * n_units : (t + 1) * n_units], all_units.dout[t * n_units : (t + 1) * n_units],
        all_units.partial_logits[t * n_logits : (t + 1) * n_logits],
    )  # fmt: skip
    label, target, sample_weight, sample_loss, correct = work.samples
    samples = Samples(label[t], target[t], sample_weight[t], sample_loss[t], correct[t])
    scratch = Scratch(own.gradient_tile[t], own.transposed[t], own.columns[t], own.row_stats[t], own.offsets[t])
    inputs = Inputs(work.csr, work.bsr, work.dense[t], work.row_block_scratch[t])
    slot_1, slot_2, gradient = work.state
    unit = BLOCK if len(work.bsr.indptr) else 1  # each mask of a `Bsr` covers a whole block
    unasked = np.empty(layout.n_weights)  # sums of squares, never read: `work.penalty` has those of the slices
    total_loss, n_counted, n_correct = 0.0, 0, 0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        n_steps += 1
        rate, weight, loss = real(rate_of_step(rule, n_steps)), batch_weight(data, batch), 0.0
        l2 = real(l2_of_step(rule, weight))
        chunks = _n_chunks(len(batch))
        for chunk in range(chunks * t // threads, chunks * (t + 1) // threads):
            begin, end = chunk_start(len(batch), chunks, chunk, unit), chunk_start(len(batch), chunks, chunk + 1, unit)
            state = State(slot_1, slot_2, gradient[chunk * size : (chunk + 1) * size])
            chunk_loss, chunk_correct = 0.0, 0
            for start in range(begin, end, BLOCK):
                if atomic_load(barrier, STOP):
                    return
                rows, step = batch[start : min(start + BLOCK, end)], Step(rule, rate, l2, start == begin, MORE_FOLLOW)
                train_block(
                    layout, data, start, rows, weight, step, dropout, inputs, units, state, samples, unasked, scratch,
                    work.own_barrier[t],
                )  # fmt: skip
                for s in range(len(rows)):
                    chunk_loss += samples.loss[s]
                    chunk_correct += samples.correct[s]
            work.chunk_loss[chunk], work.chunk_correct[chunk] = chunk_loss, chunk_correct
        if not wait(barrier, threads):
            return
        for chunk in range(chunks):
            loss += work.chunk_loss[chunk]
            n_correct += work.chunk_correct[chunk]
        if not is_finite(loss):
            if t == 0:
                work.results[FAILED] = first // batch_size
            return
        whole = Step(rule, rate, l2, NOTHING_KEPT, NOTHING_KEPT)
        apply_update_slices(t, threads, layout, chunks, whole, work, scratch.gradient_tile)
        if not wait(barrier, threads):
            return
        if weight > 0:
            total_loss += (loss + half_squares(l2, work.penalty)) * len(batch)
            n_counted += len(batch)
    report(t, work.results, total_loss, n_counted, n_correct)
