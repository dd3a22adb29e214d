"""What the two ways of sharing an epoch's work have in common: what a kernel is given, and a block's losses.

Dimensions: N samples in the data set, B in a batch, D inputs, L layers of weights, C classes; `layers.py` says how
arrays lie.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.forward import sum_logits
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import padded_width, size_of, unit_panel
from fastnn.kernels.ops.losses import SOFTMAX_OUTPUT, row_loss
from fastnn.kernels.ops.matmul import START
from fastnn.kernels.ops.softmax import cross_entropy_rows
from fastnn.kernels.vector.simd import lanes

LOSS, COUNTED, CORRECT, FAILED, N_RESULTS = range(5)


class Data(NamedTuple):
    """The data set: images (N, D), or (0, D) where it was given as lists of what is not 0; labels (N,), of a softmax,
    or targets (N, C), of other outputs, those not used of length 0 in every direction; weights (N,), or (0,) if none.
    """

    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Dropout(NamedTuple):
    """Masks of an epoch: keys (L - 1,); the hash below which a unit drops; the share that stays; 1 / share."""

    keys: np.ndarray
    threshold: np.uint32
    keep_prob: np.floating
    scale: np.floating


class Units(NamedTuple):
    """A block's values: out, dout (BLOCK * padded units,), each layer's outputs and their gradients; parts, what each
    panel of the last hidden layer adds to the logits.
    """

    out: np.ndarray
    dout: np.ndarray
    partial_logits: np.ndarray


class Samples(NamedTuple):
    """A block's samples, each (BLOCK,): label, target (BLOCK * C,) and weight, which are taken; loss and right, which
    come out.
    """

    label: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    loss: np.ndarray
    correct: np.ndarray


class Scratch(NamedTuple):
    """A thread's own, each a row: piece and turned, a few rows and a square of a panel; columns, the logits of as many
    rows as a vector has lanes; figures, four numbers for each of these; places, a number for each sample of a group.
    """

    gradient_tile: np.ndarray
    transposed: np.ndarray
    columns: np.ndarray
    row_stats: np.ndarray
    offsets: np.ndarray


@inlined
def is_finite(number):
    """Whether it is a number and not infinite.

    Numba's own test is ``number - number == 0``, and where `number` is a sum, `reassoc` lets LLVM cancel its terms, NaN
    or not.
    """
    return -np.inf < number < np.inf


@inlined
def batch_weight(data, batch):
    """What the samples of a batch count in all."""
    if not len(data.weights):
        return np.float64(len(batch))
    total = 0.0
    for s in range(len(batch)):
        total += np.float64(data.weights[batch[s]])
    return total


@inlined
def gather_samples(data, rows, samples, t, threads):
    """Thread t's share of copying labels or targets, and weights, of the samples `rows`."""
    n_targets = data.targets.shape[1]
    for s in range(len(rows) * t // threads, len(rows) * (t + 1) // threads):
        if n_targets:
            for c in range(n_targets):
                samples.target[s * n_targets + c] = data.targets[rows[s], c]
        else:
            samples.label[s] = data.labels[rows[s]]
        samples.weight[s] = data.weights[rows[s]] if len(data.weights) else 1


@inlined
def block_loss(t, threads, layout, n_rows, weight, units, samples, scratch):
    """Losses of a thread's rows of a block, their share of the batch counted, and the gradients of their logits."""
    never_inline()
    out, n_layers, n, real = units.out, layout.n_weights, lanes(units.out), units.out.dtype.type
    logits_at, padded = unit_panel(layout, n_layers, START).at, padded_width(layout, n_layers)
    n_outputs = size_of(layout, n_layers)
    row_stats, row_weights = scratch.row_stats[: 3 * n], scratch.row_stats[3 * n :]
    # Rows go in as many at once as a vector has lanes, so threads share them by such groups.
    n_groups = (n_rows + n - 1) // n
    begin, stop = n_groups * t // threads * n, min(n_rows, n_groups * (t + 1) // threads * n)
    if n_layers > 1:
        sum_logits(layout, begin, stop, out, units.partial_logits)
    for s in range(begin, stop, n):
        end = min(s + n, n_rows)
        for r in range(n):
            counts = s + r < end and weight > 0
            row_weights[r] = real(np.float64(samples.weight[s + r]) / weight) if counts else real(0)
        loss_of_row = samples.loss[s:end]
        if layout.output == SOFTMAX_OUTPUT:
            cross_entropy_rows(
                out, logits_at + s * padded, padded, n_outputs, samples.label[s:end], row_weights, units.dout,
                loss_of_row, samples.correct[s:end], scratch.columns, row_stats, scratch.offsets,
            )  # fmt: skip
        else:
            for r in range(end - s):
                at = logits_at + (s + r) * padded
                loss_of_row[r], samples.correct[s + r] = row_loss(
                    layout.output, out[at : at + n_outputs], samples.target[(s + r) * n_outputs :], row_weights[r],
                    units.dout[at : at + n_outputs],
                )  # fmt: skip
        for r in range(end - s):
            loss_of_row[r] = np.float64(row_weights[r]) * loss_of_row[r] if row_weights[r] > 0 else 0.0


@inlined
def half_squares(l2, penalty):
    """The L2 term of the loss, from the sums of squares that the owners of weights left."""
    total = 0.0
    for k in range(len(penalty)):
        total += 0.5 * np.float64(l2) * penalty[k]
    return total


@inlined
def report(t, results, total_loss, n_counted, n_correct):
    """Thread 0 writes what the epoch reports."""
    if t == 0:
        results[LOSS] = total_loss
        results[COUNTED] = n_counted
        results[CORRECT] = n_correct
