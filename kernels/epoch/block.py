"""Shared by epochs by units and epochs by rows: the types of their arguments, and the losses of a block.

Dimensions: N samples in the data set, D inputs, L layers of weights, C classes. `layout.py` describes how parameters
and units are laid out.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.finish import Finish
from fastnn.kernels.epoch.forward import sum_logits
from fastnn.kernels.inputs.strided import Strided, copy_rows
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import View, padded_width, size_of, unit_panel
from fastnn.kernels.ops.losses import is_softmax, row_loss
from fastnn.kernels.ops.matmul import ONE_ROW, START
from fastnn.kernels.ops.optimizers import Rule
from fastnn.kernels.ops.softmax import cross_entropy_rows
from fastnn.kernels.team import own_part
from fastnn.kernels.vector.memory import flattened
from fastnn.kernels.vector.simd import lanes, load, store

# The entries of an epoch's results.
LOSS, COUNTED, CORRECT, FAILED, N_RESULTS = range(5)


class Data(NamedTuple):
    """The data set. Softmax uses `labels`, other outputs use `targets`; the unused one has size 0.

    images: (N, D) uint8 or the working dtype, or (0, D) if the data set was given as lists of nonzero inputs
    labels: (N,) int64, or (0,)
    targets: (N, C), or (0, 0)
    weights: (N,), the sample weights, or (0,) if there are none
    source: where the images are, in any memory order, if they are not in `images`, which is then (0, D)
    """

    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    source: Strided


class Dropout(NamedTuple):
    """The dropout masks of an epoch.

    keys: (L,) uint64, one for the inputs and one per hidden layer
    rates: (L, 3) float64, likewise, see `kernels/ops/dropout.py`. The scale of the inputs is in that of the layout
    numbers: (N,) int64, the number of each row of the data in the hash, or (0,) if it is that of the row
    """

    keys: np.ndarray
    rates: np.ndarray
    numbers: np.ndarray


class Epoch(NamedTuple):
    """The settings of an epoch.

    order: (n,) int64, the samples to train on
    batch_size: the number of samples in a batch; the last batch may have fewer
    n_steps: the number of optimizer steps before this epoch
    rule: the optimizer
    dropout: the masks
    weight: what the weighted losses of a batch are divided by; 0 for the sum of the batch's sample weights. A slice of
        a batch, given as a batch of its own, is divided by the sum of the whole batch
    finish: what follows each update
    """

    order: np.ndarray
    batch_size: int
    n_steps: int
    rule: Rule
    dropout: Dropout
    weight: float
    finish: Finish


class Units(NamedTuple):
    """The values of a block's units, in the working dtype.

    out: (BLOCK * padded units of all layers,), the units' outputs
    dout: like `out`, their gradients
    partial_logits: (panels * BLOCK * padded classes,), the contribution of each panel of the last hidden layer to the
        logits
    """

    out: np.ndarray
    dout: np.ndarray
    partial_logits: np.ndarray


class Samples(NamedTuple):
    """The samples of a block. `label`, `target` and `weight` are gathered from the data set; two fields are results.

    smoothing: float64, the fraction of each label that is spread over all classes
    label: (BLOCK,) int64
    target: (BLOCK * C,), or (0,) for softmax
    weight: (BLOCK,)
    loss: (BLOCK,) float64
    correct: (BLOCK,) int64, whether the prediction is correct
    """

    smoothing: float
    label: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    loss: np.ndarray
    correct: np.ndarray


class Scratch(NamedTuple):
    """A thread's scratch.

    gradient_tile: (GRADIENT_ROWS * width of the widest panel,), a few rows of a weight's gradient
    transposed: (width of the widest panel ** 2,), a square part of a panel's weights, transposed
    columns: (padded classes * lanes,), the logits of as many rows as a vector has lanes
    row_stats: (4 * lanes,), four numbers for each of these rows
    offsets: (2 * GROUP,) int64, two numbers for each sample of a group
    """

    gradient_tile: np.ndarray
    transposed: np.ndarray
    columns: np.ndarray
    row_stats: np.ndarray
    offsets: np.ndarray


@inlined
def is_finite(number):
    """Whether `number` is neither NaN nor infinite.

    Numba's own test is ``number - number == 0``. If `number` is a sum, `reassoc` lets LLVM cancel its terms even if one
    is NaN, and the test passes.
    """
    return -np.inf < number < np.inf


@inlined
def batch_weight(data, epoch, batch):
    """The sum of a batch's sample weights; without weights, its number of samples. Or the number in `epoch`."""
    if epoch.weight != 0.0:
        return epoch.weight
    if not len(data.weights):
        return np.float64(len(batch))
    total = 0.0
    for s in range(len(batch)):
        total += np.float64(data.weights[batch[s]])
    return total


@inlined
def gather_samples(member, data, rows, samples):
    """Copy the labels or targets and the weights of this member's part of the samples `rows` into `samples`."""
    n_targets, targets, one = data.targets.shape[1], flattened(data.targets), samples.weight.dtype.type(1)
    for s in own_part(member, len(rows)):
        row = load(rows, s)
        if n_targets:
            target = samples.target[s * n_targets :]
            copy_rows(targets, row * n_targets, START, ONE_ROW, n_targets, target, n_targets)
        else:
            store(samples.label, s, load(data.labels, row))
        store(samples.weight, s, load(data.weights, row) if len(data.weights) else one)


@inlined
def block_loss(member, layout, n_rows, weight, units, samples, scratch):
    """Compute the losses of this member's rows of a block, and the gradients of their logits.

    Each row's loss is multiplied by its sample weight and divided by `weight`, the sum of the batch's weights.
    """
    never_inline()
    out, n_layers, n, real = units.out, layout.n_weights, lanes(units.out), units.out.dtype.type
    logits_at, padded = unit_panel(layout, n_layers, START).at, padded_width(layout, n_layers)
    n_outputs, row_weights = size_of(layout, n_layers), scratch.row_stats[3 * n :]
    # The loss is computed for n rows at a time, one per lane, so each member has whole groups of n rows.
    groups = own_part(member, (n_rows + n - 1) // n)
    begin, stop = groups.start * n, min(n_rows, groups.stop * n)
    if n_layers > 1:
        sum_logits(layout, begin, stop, out, units.partial_logits)
    for s in range(begin, stop, n):
        end = min(s + n, n_rows)
        for r in range(n):
            counts = s + r < end and weight > 0
            store(row_weights, r, real(np.float64(load(samples.weight, s + r)) / weight) if counts else real(0))
        if is_softmax(layout.output):
            logits = View(out, logits_at + s * padded, padded)
            cross_entropy_rows(logits, units.dout, n_outputs, samples, s, end, row_weights, scratch)
        else:
            for r in range(s, end):
                at = logits_at + r * padded
                outs, dout, target = out[at : at + n_outputs], units.dout[at : at + n_outputs], r * n_outputs
                samples.loss[r], samples.correct[r] = row_loss(
                    layout.output, outs, samples.target[target:], row_weights[r - s], dout, samples.loss
                )
        for r in range(end - s):
            row_weight = load(row_weights, r)
            store(samples.loss, s + r, np.float64(row_weight) * load(samples.loss, s + r) if row_weight > 0 else 0.0)


@inlined
def half_squares(l2, penalty):
    """The L2 term of the loss, from `penalty`, the sums of squares that the owners of the weights have written."""
    total = 0.0
    for k in range(len(penalty)):
        total += 0.5 * np.float64(l2) * penalty[k]
    return total


@inlined
def sums_so_far(results):
    """The sums of loss, counted samples and correct predictions with which the batches of a call begin."""
    return results[LOSS], np.int64(results[COUNTED]), np.int64(results[CORRECT])


@inlined
def report(member, results, total_loss, n_counted, n_correct):
    """Write the epoch's results, in thread 0 only."""
    if member.t == 0:
        results[LOSS] = total_loss
        results[COUNTED] = n_counted
        results[CORRECT] = n_correct
