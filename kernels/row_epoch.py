"""A whole epoch of training in one nogil call a thread, threads sharing rows of a batch.

For networks of which no layer has more than one panel, and batches that are large beside them. A batch is cut into
parts, each with a gradient of its own; these are added in the order of the parts. Two barriers a step serve any depth,
and a full batch is as many rows as one likes. Parts do not depend on the number of threads, and each is worked through
by one, so the bits of the result do not depend on it either.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.backward import backward_block
from fastnn.kernels.block import (
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
)  # fmt: skip
from fastnn.kernels.csr_input import Csr, collect_csr, csr_sums
from fastnn.kernels.dense import ONE_ROW, START
from fastnn.kernels.dense_input import copy_inputs, dense_sums, update_dense
from fastnn.kernels.forward import finish_layer, forward_block
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layers import BLOCK, FIRST_HIDDEN, INPUTS, lanes, padded_width, unit_panel
from fastnn.kernels.simd import ONE, vadd, vload, vstore
from fastnn.kernels.team import ARRIVALS, STOP, atomic_load, barrier
from fastnn.kernels.updates import State, Step, rate_of_step, settle

# A batch is cut into at most PARTS parts of PART_ROWS rows or more.
PARTS, PART_ROWS = 16, 16
# Then threads share the parameters of a layer in at most PARTS slices of so many vectors or more.
SLICE_VECTORS = 16
# A part is worked through by one thread, which is the first and only one. No literals, for the reason in `dense.py`.
FIRST, ONLY, MORE_FOLLOW, NOTHING_KEPT = np.int64(0), np.int64(1), np.bool_(False), np.bool_(True)


class RowWork(NamedTuple):
    """Scratch. Of each thread, one after the other: units; samples; scratch and dense (BLOCK * D,), samples in the
    working dtype, whose arrays have a row for each; alone, a gate.

    Of all threads: csr, where most inputs are 0, the whole data set, else of length 0; state, of which gradient has
    one for each part, one after the other; part_loss, part_right (PARTS,); penalty (L * PARTS,), sums of squared
    weights; results (N_RESULTS,), what the epoch reports.
    """

    units: Units
    state: State
    samples: Samples
    csr: Csr
    dense: np.ndarray
    part_loss: np.ndarray
    part_right: np.ndarray
    penalty: np.ndarray
    results: np.ndarray
    scratch: Scratch
    alone: np.ndarray


def n_parts(batch_size: int) -> int:
    """In how many parts a batch is cut: as many as have PART_ROWS rows, at most PARTS."""
    return min(PARTS, max(1, batch_size // PART_ROWS))


_n_parts = inlined(n_parts)


@inlined
def do_block(layers, data, rows, weight, step, dropout, csr, dense, units, state, samples, penalty, scratch, gate):
    """Losses of a block, and its gradient, added to what is kept."""
    never_inline()
    n_rows, panel, dout = len(rows), unit_panel(layers, FIRST_HIDDEN, START), units.dout
    take_samples(data, rows, samples, FIRST, ONLY)
    if len(csr.indptr):
        csr_sums(layers, rows, csr, units.out, panel)
    else:
        copy_inputs(data.images, rows, dense, FIRST, ONLY)
        dense_sums(layers, n_rows, dense, units.out, panel)
    finish_layer(layers, INPUTS, FIRST, ONLY, rows, layers.scale, dropout, units.out)
    goal = forward_block(FIRST, ONLY, layers, rows, dropout, units, gate, gate[ARRIVALS])
    lose_rows(FIRST, ONLY, layers, n_rows, weight, units, samples, scratch)
    backward_block(FIRST, ONLY, layers, rows, step, dropout, units, state, penalty, scratch, gate, goal)
    if len(csr.indptr):
        collect_csr(layers, rows, csr, dout, state.gradient, step.is_first, panel)
    else:
        update_dense(layers, n_rows, step, dense, dout, state, scratch.piece, panel)


@inlined
def settle_slices(t, threads, layers, parts, step, state, penalty, piece):
    """Add the parts' gradients, in their order, and move the parameters: a thread's slices of them."""
    never_inline()
    n, size, real = lanes(piece), len(layers.parameters), piece.dtype.type
    for k in range(2 * len(layers.weight_at)):
        layer, is_bias = k // 2, k % 2
        begin = layers.bias_at[layer] if is_bias else layers.weight_at[layer]
        end = begin + padded_width(layers, layer + 1) if is_bias else layers.bias_at[layer]
        decay = real(0) if is_bias else step.rule.l2
        scale = real(1) if is_bias or layer > 0 else layers.scale
        n_vectors = (end - begin) // n
        n_slices = min(PARTS, max(1, n_vectors // SLICE_VECTORS))
        for part in range(n_slices * t // threads, n_slices * (t + 1) // threads):
            low, high = begin + n_vectors * part // n_slices * n, begin + n_vectors * (part + 1) // n_slices * n
            squares = 0.0
            for at in range(low, high, len(piece)):
                count = min(len(piece), high - at)
                for h in range(0, count, n):
                    total = vload(state.gradient, at + h, ONE)
                    for other in range(1, parts):
                        total = vadd(total, vload(state.gradient, other * size + at + h, ONE))
                    vstore(piece, h, total)
                squares += settle(step, decay, scale, layers.parameters, state, at, piece, count // n, ONE_ROW)
            if not is_bias:
                penalty[layer * PARTS + part] = squares


@kernel
def run_row_epoch(t, threads, layers, data, order, batch_size, rule, n_steps, dropout, work, gate):
    """Thread t of `threads`: train on the rows `order`; all is as `run_panel_epoch` says."""
    real, size, one = work.units.out.dtype.type, len(layers.parameters), work.units
    n_units, n_logits, own = len(one.out) // len(work.alone), len(one.parts) // len(work.alone), work.scratch
    units = Units(
        one.out[t * n_units : (t + 1) * n_units], one.dout[t * n_units : (t + 1) * n_units],
        one.parts[t * n_logits : (t + 1) * n_logits],
    )  # fmt: skip
    samples = Samples(work.samples.label[t], work.samples.weight[t], work.samples.loss[t], work.samples.right[t])
    scratch = Scratch(own.piece[t], own.turned[t], own.columns[t], own.figures[t], own.places[t], own.corner[t])
    slot_1, slot_2, gradient = work.state
    penalty, unasked = work.penalty, np.empty(len(work.penalty))
    goal, total_loss, total_weight, n_right = 0, 0.0, 0.0, 0
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        n_steps += 1
        rate, weight, loss = real(rate_of_step(rule, n_steps)), batch_weight(data, batch), 0.0
        parts = _n_parts(len(batch))
        for part in range(parts * t // threads, parts * (t + 1) // threads):
            begin, end = len(batch) * part // parts, len(batch) * (part + 1) // parts
            state = State(slot_1, slot_2, gradient[part * size : (part + 1) * size])
            part_loss, part_right = 0.0, 0
            for start in range(begin, end, BLOCK):
                if atomic_load(gate, STOP):
                    return
                rows, step = batch[start : min(start + BLOCK, end)], Step(rule, rate, start == begin, MORE_FOLLOW)
                do_block(
                    layers, data, rows, weight, step, dropout, work.csr, work.dense[t], units, state, samples, unasked,
                    scratch, work.alone[t],
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
        whole = Step(rule, rate, NOTHING_KEPT, NOTHING_KEPT)
        settle_slices(t, threads, layers, parts, whole, work.state, penalty, scratch.piece)
        goal += threads
        if not barrier(gate, goal):
            return
        total_loss += (loss + half_squares(rule, penalty)) * weight
        total_weight += weight
    report(t, work.results, total_loss, total_weight, n_right)
