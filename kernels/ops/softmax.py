"""Softmax and cross-entropy, forward and backward, for as many rows at once as a vector has lanes.

Dimensions: B rows, C classes, n rows at once. Row by row, every row would wait for its largest logit, its sum and its
logarithm, one after the other. With a row in each lane, and class after class, nothing goes across lanes.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.vector.exp_log import vexp, vlog
from fastnn.kernels.vector.simd import (
    ONE,
    lanes,
    vadd,
    vdiv,
    vlarger,
    vload,
    vmul,
    vsplat,
    vstore,
    vsub,
    vwhere_equal,
    vzero,
)
from fastnn.kernels.vector.tiles import transpose_tile


@inlined
def softmax_columns(columns, n_classes, row_weight, top, total, best):
    """Logits of n rows, class by class, row beside row, become ``share * softmax``: columns (C * n,), overwritten.

    share (n,). top, total and best (n,) are overwritten by each row's largest logit, the sum of exp(logit - top) and
    the first class that has the largest. The largest is subtracted first, so that exp cannot overflow. A NaN makes its
    row NaN.
    """
    n, real = lanes(columns), columns.dtype.type
    largest = vload(columns, 0, ONE)
    for c in range(1, n_classes):
        largest = vlarger(largest, vload(columns, c * n, ONE))
    first, sums = vsplat(real(n_classes), ONE), vzero(columns, ONE)
    for c in range(n_classes - 1, -1, -1):
        logit = vload(columns, c * n, ONE)
        first = vwhere_equal(logit, largest, vsplat(real(c), ONE), first)
        exp = vexp(vsub(logit, largest))
        sums = vadd(sums, exp)
        vstore(columns, c * n, exp)
    factor = vdiv(vload(row_weight, 0, ONE), sums)
    for c in range(n_classes):
        vstore(columns, c * n, vmul(vload(columns, c * n, ONE), factor))
    vstore(top, 0, largest)
    vstore(total, 0, sums)
    vstore(best, 0, first)


@inlined
def cross_entropy_rows(
    logits, at, row, n_classes, labels, row_weight, dlogits, losses, correct, columns, row_stats, offsets
):
    """Losses of n rows, and ``dlogits = share * (softmax(logits) - one_hot(label))``.

    logits, dlogits: flat, rows from `at` on, `row` apart, padded to whole vectors; of all n rows, `dlogits` is
    overwritten. labels, losses, right: of as many rows as count, at most n; share (n,). columns, figures (3 * n,) and
    places are scratch.
    """
    n = lanes(logits)
    for r in range(n):
        offsets[r] = at + r * row
    for c in range(0, n_classes, n):
        transpose_tile(columns, c * n, n, logits, offsets, 0, c)
    top, total, best = row_stats[:n], row_stats[n : 2 * n], row_stats[2 * n : 3 * n]
    softmax_columns(columns, n_classes, row_weight, top, total, best)
    vstore(total, 0, vlog(vload(total, 0, ONE)))
    for k in range(n):
        offsets[k] = k * n
    for c in range(0, n_classes, n):
        columns[min(n_classes, c + n) * n : (c + n) * n] = 0
        transpose_tile(dlogits, at + c, row, columns[c * n : (c + n) * n], offsets, 0, 0)
    for r in range(len(labels)):
        chosen = at + r * row + labels[r]
        dlogits[chosen] -= row_weight[r]
        # Two parts, since the logarithm would be lost beside a large logit.
        losses[r] = np.float64(total[r]) - np.float64(logits[chosen] - top[r])
        correct[r] = best[r] == labels[r]


@inlined
def fill_columns(logits, start, columns):
    """Transpose n rows of `logits` (B, C) from `start` on; beyond the last, it stands again. Returns the rows taken."""
    n, n_rows = lanes(columns), len(logits) - start
    for r in range(n):
        row = logits[start + min(r, n_rows - 1)]
        for c in range(len(row)):
            columns[c * n + r] = row[c]
    return min(n, n_rows)


@kernel
def softmax(logits, out):
    """Each row of `out` is the softmax of that of `logits`: (B, C), (B, C); `out` is overwritten."""
    n, n_classes = lanes(out), logits.shape[1]
    columns, row_stats = np.empty(n_classes * n, out.dtype), np.empty(3 * n, out.dtype)
    row_weight = np.ones(n, out.dtype)
    for start in range(0, len(logits), n):
        n_rows = fill_columns(logits, start, columns)
        softmax_columns(columns, n_classes, row_weight, row_stats[:n], row_stats[n:], row_stats[2 * n :])
        for r in range(n_rows):
            for c in range(n_classes):
                out[start + r, c] = columns[c * n + r]


@kernel
def softmax_cross_entropy(logits, labels, row_weights, dlogits):
    """Weighted sum of the rows' losses, and its gradient: (B, C), (B,), (B,) -> dlogits (B, C), overwritten.

    `shares` is what each row counts, 1 / B for a mean. Loss and gradient share the one pass of exponentials.
    """
    n, n_classes, loss = lanes(dlogits), logits.shape[1], 0.0
    columns, row_stats, row_weight = (
        np.empty(n_classes * n, dlogits.dtype),
        np.empty(3 * n, dlogits.dtype),
        np.zeros(n, dlogits.dtype),
    )
    top, total = row_stats[:n], row_stats[n : 2 * n]
    for start in range(0, len(logits), n):
        n_rows = fill_columns(logits, start, columns)
        for r in range(n_rows):
            row_weight[r] = row_weights[start + r]
        softmax_columns(columns, n_classes, row_weight, top, total, row_stats[2 * n :])
        vstore(total, 0, vlog(vload(total, 0, ONE)))
        for r in range(n_rows):
            s, label = start + r, labels[start + r]
            for c in range(n_classes):
                dlogits[s, c] = columns[c * n + r]
            dlogits[s, label] -= row_weights[s]
            loss_of_row = np.float64(total[r]) - np.float64(logits[s, label] - top[r])
            loss += np.float64(row_weights[s]) * loss_of_row
    return loss
