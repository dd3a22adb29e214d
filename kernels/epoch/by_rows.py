"""A whole epoch of training in one nogil call a thread, threads sharing rows of a batch.

For networks of which no layer has more than one panel, and batches that are large beside them. A batch is cut into
parts, each with a gradient of its own; these are added in the order of the parts. Two barriers a step serve any depth,
and a full batch is as many rows as one likes. Parts do not depend on the number of threads, and each is worked through
by one, so the bits of the result do not depend on it either.
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
from fastnn.kernels.inputs.csr import Csr, collect_csr, csr_sums
from fastnn.kernels.inputs.dense import copy_inputs, dense_sums, update_dense
from fastnn.kernels.inputs.row_blocks import Bsr, bsr_sums, collect_bsr
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import BLOCK, FIRST_HIDDEN, INPUTS, unit_panel
from fastnn.kernels.ops.matmul import START
from fastnn.kernels.ops.optimizers import State, Step, l2_of_step, rate_of_step, settle
from fastnn.kernels.team import ARRIVALS, STOP, atomic_load, barrier
from fastnn.kernels.vector.simd import FOUR, ONE, lanes, vadd, vload, vstore

# A batch is cut into at most PARTS parts of PART_ROWS rows or more.
PARTS, PART_ROWS = 16, 32
# A part is worked through by one thread, which is the first and only one. No literals, for the reason in `dense.py`.
FIRST, ONLY, MORE_FOLLOW, NOTHING_KEPT = np.int64(0), np.int64(1), np.bool_(False), np.bool_(True)


class Inputs(NamedTuple):
    """Inputs in one form or another: csr or bsr, the data set, or dense (BLOCK * D,), a block's samples; those not used
    have length 0. strip_scratch is of the second.
    """

    csr: Csr
    bsr: Bsr
    dense: np.ndarray
    strip_scratch: np.ndarray


class RowWork(NamedTuple):
    """Scratch. Of each thread, one after the other: units; samples; scratch, dense (BLOCK * D,), samples in the working
    dtype, and strip_scratch (`bsr_input.SCRATCH`,), whose arrays have a row for each; alone, a gate.

    Of all threads: csr or bsr, the whole data set where most inputs are 0 or it was given as lists, bsr in the order of
    the epoch's only batch, those not used of length 0; state, of which gradient has one for each part, one
    after the other; part_loss, part_right (PARTS,); slices (S, 5) of the parameters, which threads share once the parts
    are done: where one begins, its rows, at most a piece, and vectors a row (4 or 1), whether they are weights, and
    whether those of the inputs; penalty (S,), sums of squared weights; results (N_RESULTS,), what the epoch reports.
    """

    units: Units
    state: State
    samples: Samples
    csr: Csr
    bsr: Bsr
    strip_scratch: np.ndarray
    dense: np.ndarray
    part_loss: np.ndarray
    part_right: np.ndarray
    slices: np.ndarray
    penalty: np.ndarray
    results: np.ndarray
    scratch: Scratch
    alone: np.ndarray


def n_parts(batch_size: int) -> int:
    """In how many parts a batch is cut: as many as have PART_ROWS rows, at most PARTS."""
    return min(PARTS, max(1, batch_size // PART_ROWS))


_n_parts = inlined(n_parts)


@inlined
def part_start(n_rows, parts, part, unit):
    """The row of a batch of `n_rows` where a part begins, a multiple of `unit`."""
    return min(n_rows, (n_rows + unit - 1) // unit * part // parts * unit)


@inlined
def do_block(layers, data, start, rows, weight, step, dropout, inputs, units, state, samples, penalty, scratch, gate):
    """Losses of a block, and its gradient, added to what is kept; `start` is where strips have its samples `rows`."""
    never_inline()
    n_rows, panel, dout = len(rows), unit_panel(layers, FIRST_HIDDEN, START), units.dout
    take_samples(data, rows, samples, FIRST, ONLY)
    if len(inputs.bsr.indptr):
        bsr_sums(layers, start, n_rows, inputs.bsr, units.out, panel, inputs.strip_scratch, scratch.places)
    elif len(inputs.csr.indptr):
        csr_sums(layers, rows, inputs.csr, units.out, panel)
    else:
        copy_inputs(data.images, rows, inputs.dense, FIRST, ONLY)
        dense_sums(layers, n_rows, inputs.dense, units.out, panel)
    finish_layer(layers, INPUTS, FIRST, ONLY, rows, layers.scale, dropout, units.out)
    goal = forward_block(FIRST, ONLY, layers, rows, dropout, units, gate, gate[ARRIVALS])
    lose_rows(FIRST, ONLY, layers, n_rows, weight, units, samples, scratch)
    backward_block(FIRST, ONLY, layers, rows, step, dropout, units, state, penalty, scratch, gate, goal)
    if len(inputs.bsr.indptr):
        collect_bsr(
            layers, start, n_rows, inputs.bsr, dout, state.gradient, step.is_first, panel, inputs.strip_scratch,
            scratch.places,
        )  # fmt: skip
    elif len(inputs.csr.indptr):
        collect_csr(layers, rows, inputs.csr, dout, state.gradient, step.is_first, panel)
    else:
        update_dense(layers, n_rows, step, inputs.dense, dout, state, scratch.piece, panel)


@inlined
def _sum_parts(gradient, size, parts, at, piece, rows, n):
    """The sum of the parts' gradients, in their order, of `rows` rows of `n` vectors of parameters from `at` on."""
    width = len(n) * lanes(piece)
    for h in range(0, rows * width, width):
        total = vload(gradient, at + h, n)
        for part in range(1, parts):
            total = vadd(total, vload(gradient, part * size + at + h, n))
        vstore(piece, h, total)


@inlined
def settle_slices(t, threads, layers, parts, step, work, piece):
    """Add the parts' gradients, in their order, and move the parameters: a thread's slices of them."""
    never_inline()
    real, state, size, slices = piece.dtype.type, work.state, len(layers.parameters), work.slices
    for k in range(len(slices) * t // threads, len(slices) * (t + 1) // threads):
        at, rows, vectors, is_weight, is_scaled = slices[k]
        total = piece
        if parts == 1:
            total = state.gradient[at : at + len(piece)]
        elif vectors == 4:
            _sum_parts(state.gradient, size, parts, at, piece, rows, FOUR)
        else:
            _sum_parts(state.gradient, size, parts, at, piece, rows, ONE)
        decay, scale = step.l2 if is_weight else real(0), layers.scale if is_scaled else real(1)
        work.penalty[k] = settle(step, decay, scale, layers.parameters, state, at, total, rows, vectors)


@kernel
def run_row_epoch(t, threads, layers, data, order, batch_size, rule, n_steps, dropout, work, gate):
    """Thread t of `threads`: train on the rows `order`; all is as `run_panel_epoch` says."""
    real, size, all_units, own = work.units.out.dtype.type, len(layers.parameters), work.units, work.scratch
    n_units, n_logits = len(all_units.out) // len(work.alone), len(all_units.parts) // len(work.alone)
    units = Units(
        all_units.out[t * n_units : (t + 1) * n_units], all_units.dout[t * n_units : (t + 1) * n_units],
        all_units.parts[t * n_logits : (t + 1) * n_logits],
    )  # fmt: skip
    label, target, sample_weight, sample_loss, right = work.samples
    samples = Samples(label[t], target[t], sample_weight[t], sample_loss[t], right[t])
    scratch = Scratch(own.piece[t], own.turned[t], own.columns[t], own.figures[t], own.places[t])
    inputs = Inputs(work.csr, work.bsr, work.dense[t], work.strip_scratch[t])
    slot_1, slot_2, gradient = work.state
    unit = BLOCK if len(work.bsr.indptr) else 1  # strips are in blocks
    unasked = np.empty(layers.n_weights)  # sums of squares, which the slices make instead
    goal, total_loss, n_counted, n_right = 0, 0.0, 0, 0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        n_steps += 1
        rate, weight, loss = real(rate_of_step(rule, n_steps)), batch_weight(data, batch), 0.0
        l2 = real(l2_of_step(rule, weight))
        parts = _n_parts(len(batch))
        for part in range(parts * t // threads, parts * (t + 1) // threads):
            begin, end = part_start(len(batch), parts, part, unit), part_start(len(batch), parts, part + 1, unit)
            state = State(slot_1, slot_2, gradient[part * size : (part + 1) * size])
            part_loss, part_right = 0.0, 0
            for start in range(begin, end, BLOCK):
                if atomic_load(gate, STOP):
                    return
                rows, step = batch[start : min(start + BLOCK, end)], Step(rule, rate, l2, start == begin, MORE_FOLLOW)
                do_block(
                    layers, data, start, rows, weight, step, dropout, inputs, units, state, samples, unasked, scratch,
                    work.alone[t],
                )  # fmt: skip
                for s in range(len(rows)):
                    part_loss += samples.loss[s]
                    part_right += samples.right[s]
            work.part_loss[part], work.part_right[part] = part_loss, part_right
        goal += threads
        if not barrier(gate, goal):
            return
        for part in range(parts):
            loss += work.part_loss[part]
            n_right += work.part_right[part]
        if not is_finite(loss):
            if t == 0:
                work.results[FAILED] = first // batch_size
            return
        whole = Step(rule, rate, l2, NOTHING_KEPT, NOTHING_KEPT)
        settle_slices(t, threads, layers, parts, whole, work, scratch.piece)
        goal += threads
        if not barrier(gate, goal):
            return
        if weight > 0:
            total_loss += (loss + half_squares(l2, work.penalty)) * len(batch)
            n_counted += len(batch)
    report(t, work.results, total_loss, n_counted, n_right)
