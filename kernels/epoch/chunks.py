"""An epoch whose threads share the rows of a batch, for any way to compute the gradient of a few rows.

A batch is cut into chunks. Each chunk has its own gradient, and the gradients are added in the order of the chunks. A
step needs two barriers for any depth, and a full batch may have any number of rows. The chunks do not depend on the
number of threads, and one thread computes each of them, so the bits of the result do not depend on that number either.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.block import FAILED, batch_weight, half_squares, is_finite, report, sums_so_far
from fastnn.kernels.epoch.finish import is_needed
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.ops.averaging import share_of_step
from fastnn.kernels.ops.optimizers import State, Step, apply_update, l2_of_step, rate_of_step
from fastnn.kernels.team import own_part, wait
from fastnn.kernels.vector.simd import FOUR, ONE, lanes, vadd, vload, vstore

# The largest number of chunks of a batch.
CHUNKS = 16
# The `is_last` of a chunk's blocks, and the `is_first` and `is_last` of the update after all chunks. Typed constants,
# not literals; `matmul.py` gives the reason.
MORE_FOLLOW, NOTHING_KEPT = np.bool_(False), np.bool_(True)


class WorkByChunks(NamedTuple):
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


@inlined
def chunk_start(n_rows, chunks, chunk, unit):
    """The first row of a chunk in a batch of `n_rows`: a multiple of `unit`, at most `n_rows`."""
    return min(n_rows, (n_rows + unit - 1) // unit * chunk // chunks * unit)


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


def epoch_of_chunks(cut, train_chunk, finish_update):
    """A function that trains on the batches of an epoch as one member of a team.

    cut: the function of (own, the number of rows of a batch) that returns the number of chunks, and the row alignment
        of their starts
    train_chunk: the function that computes the losses and the gradient of a chunk. It returns whether it has finished,
        the sum of the losses and the number of correct predictions
    finish_update: the function that does what follows an update, in a member's part of the parameters
    """

    @inlined
    def run(member, layout, data, epoch, work, own):
        order, batch_size, rule, n_steps = epoch.order, epoch.batch_size, epoch.rule, epoch.n_steps
        real, size = own.units.out.dtype.type, len(layout.parameters)
        slot_1, slot_2, gradient = work.state
        total_loss, n_counted, n_correct = sums_so_far(work.results)
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            n_steps += 1
            rate, weight, loss = real(rate_of_step(rule, n_steps)), batch_weight(data, epoch, batch), 0.0
            l2 = real(l2_of_step(rule, weight))
            chunks, unit = cut(own, len(batch))
            for chunk in own_part(member, chunks):
                begin, end = (
                    chunk_start(len(batch), chunks, chunk, unit),
                    chunk_start(len(batch), chunks, chunk + 1, unit),
                )
                state = State(slot_1, slot_2, gradient[chunk * size : (chunk + 1) * size])
                step = Step(rule, rate, l2, NOTHING_KEPT, MORE_FOLLOW, state)
                finished, chunk_loss, chunk_correct = train_chunk(
                    member, layout, data, batch, begin, end, weight, step, epoch.dropout, own
                )
                if not finished:
                    return
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
            if is_needed(epoch.finish):
                finish_update(member, layout, own, epoch.finish, real(share_of_step(epoch.finish.decay, n_steps)))
                if not wait(member):
                    return
            if weight > 0:
                total_loss += (loss + half_squares(l2, work.penalty)) * len(batch)
                n_counted += len(batch)
        report(member, work.results, total_loss, n_counted, n_correct)

    return run
