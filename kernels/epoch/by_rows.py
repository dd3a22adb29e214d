"""A whole epoch of training in one nogil call per thread; the threads share the rows of a batch.

Suits networks whose layers have one panel each, and batches that are large compared with the network. `chunks.py`
describes how the threads share the work.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.backward import backward_block, update_first_bias
from fastnn.kernels.epoch.block import Samples, Scratch, Units, block_loss, gather_samples
from fastnn.kernels.epoch.chunks import CHUNKS, MORE_FOLLOW, epoch_of_chunks
from fastnn.kernels.epoch.finish import finish_weights
from fastnn.kernels.epoch.forward import finish_layer, forward_block
from fastnn.kernels.inputs import LISTS, ROW_BLOCKS
from fastnn.kernels.inputs.csr import Csr, csr_sums, csr_weight_gradient
from fastnn.kernels.inputs.dense import dense_sums, gather_inputs, update_dense
from fastnn.kernels.inputs.row_blocks import RowBlockWork, row_block_sums, row_block_weight_gradient
from fastnn.kernels.jit import always_inline, inlined, kernel
from fastnn.kernels.layout import BLOCK, FIRST_HIDDEN, INPUTS, unit_panel
from fastnn.kernels.ops.matmul import START
from fastnn.kernels.ops.optimizers import Step
from fastnn.kernels.team import STOP, Member, atomic_load

# A batch is cut into at most CHUNKS chunks of CHUNK_ROWS rows or more.
CHUNK_ROWS = 32


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


class OwnByRows(NamedTuple):
    """What a thread needs to compute its chunks alone.

    alone: the only member of a team of one, for the functions that a team can share
    inputs, units, samples, scratch: for one block
    penalty: (L,) float64, written but never read: `WorkByChunks` has the sums of squares of the slices
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
def train_block(layout, data, start, rows, weight, step, dropout, own):
    """Compute the losses of a block and its gradient.

    Inlined into its only caller: a call would copy hundreds of words, the fields of its arguments, for each block.

    The first block of a chunk overwrites the chunk's gradient; later blocks add to it.

    start: the position of the block in the batch, which is also its position in the row blocks
    rows: (at most BLOCK,) int64, the samples of the block
    weight: the sum of the batch's sample weights
    step: the `gradient` of its state is the chunk's own, (parameters,)
    own: the thread's `OwnByRows`
    """
    always_inline()
    alone, inputs, units, samples, penalty, scratch = own
    n_rows, panel = len(rows), unit_panel(layout, FIRST_HIDDEN, START)
    gather_samples(alone, data, rows, samples)
    if inputs.form == ROW_BLOCKS:
        row_block_sums(layout, start, n_rows, inputs.row_blocks, units.out, panel)
    elif inputs.form == LISTS:
        csr_sums(layout, rows, inputs.csr, units.out, panel)
    else:
        gather_inputs(alone, data, rows, dropout, inputs.dense)
        dense_sums(alone, layout, n_rows, inputs.dense, units.out)
    finish_layer(alone, layout, INPUTS, rows, layout.scale, dropout, units.out)
    forward_block(alone, layout, rows, dropout, units)
    block_loss(alone, layout, n_rows, weight, units, samples, scratch)
    backward_block(alone, layout, rows, step, dropout, units, penalty, scratch)
    update_first_bias(alone, layout, n_rows, step, units.dout, scratch.gradient_tile)
    if inputs.form == ROW_BLOCKS:
        row_block_weight_gradient(layout, start, n_rows, step, inputs.row_blocks, units.dout, panel)
    elif inputs.form == LISTS:
        csr_weight_gradient(layout, rows, step, inputs.csr, units.dout, panel)
    else:
        update_dense(alone, layout, n_rows, step, inputs.dense, units.dout, penalty, scratch.gradient_tile)


@inlined
def _cut(own, n_rows):
    """How a batch is cut into chunks; see `epoch_of_chunks`."""
    return _n_chunks(n_rows), BLOCK if own.inputs.form == ROW_BLOCKS else 1  # each mask of a `Bsr` covers a whole block


@inlined
def _train_chunk(member, layout, data, batch, begin, end, weight, step, dropout, own):
    """Compute the losses and the gradient of the rows `begin` to ``end - 1`` of a batch; see `epoch_of_chunks`."""
    always_inline()
    samples, loss, correct = own.samples, 0.0, 0
    for start in range(begin, end, BLOCK):
        if atomic_load(member.barrier, STOP):
            return False, loss, correct
        rows = batch[start : min(start + BLOCK, end)]
        part = Step(step.rule, step.rate, step.l2, start == begin, MORE_FOLLOW, step.state)
        train_block(layout, data, start, rows, weight, part, dropout, own)
        for s in range(len(rows)):
            loss += samples.loss[s]
            correct += samples.correct[s]
    return True, loss, correct


@inlined
def _finish(member, layout, own, finish, share):
    """Do what follows the update of a step, in this member's part of the parameters; see `epoch_of_chunks`."""
    for layer in range(layout.n_weights):
        finish_weights(member, layout, layer, finish, share)


_run_epoch = epoch_of_chunks(_cut, _train_chunk, _finish)


@kernel
def run_epoch_by_rows(member, layout, data, epoch, work, own):
    """Train on the batches of an epoch, or of a part of it, as one member of a team.

    work: a `WorkByChunks`, shared by the team
    own: this thread's `OwnByRows`

    All other arguments, the results and the stop flag are those of `run_epoch_by_units`.
    """
    _run_epoch(member, layout, data, epoch, work, own)
