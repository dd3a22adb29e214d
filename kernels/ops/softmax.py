"""Softmax and cross-entropy, forward and backward, for n rows at once, one row per lane of a vector.

Dimensions: B rows, C classes, n lanes. If rows were computed one after the other, each would wait for its largest
logit, then for its sum, then for its logarithm. With one row per lane, n rows are computed side by side, and no
operation crosses lanes.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.vector.exp_log import vexp, vlog
from fastnn.kernels.vector.simd import (
    ONE,
    VECTOR,
    lanes,
    load,
    store,
    vadd,
    vdiv,
    vfma,
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

# The number of rows that are computed faster side by side than one after the other.
MANY_ROWS = 4


@inlined
def softmax_columns(columns, n_classes, row_weight, top, total, best):
    """Replace the logits of n rows by ``row_weight * softmax(logits)``.

    The largest logit of a row is subtracted from its logits first, so that exp cannot overflow. A NaN makes its whole
    row NaN.

    columns: (C * n,), logits, element ``c * n + r`` for class c of row r, overwritten
    row_weight: (n,)
    top: (n,), overwritten by the largest logit of each row
    total: (n,), overwritten by the sum of ``exp(logit - top)`` of each row
    best: (n,), overwritten by the first class whose logit is the largest
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
def _invert(sums):
    """Replace each of n numbers by its reciprocal.

    Never inlined: where LLVM knows that all lanes are equal, it could divide, and so round, differently.

    sums: (n,)
    """
    never_inline()
    vstore(sums, 0, vdiv(vsplat(sums.dtype.type(1), ONE), vload(sums, 0, ONE)))


@inlined
def softmax_row(values, at, n_classes, scratch):
    """`softmax_rows` for one row. Its exponentials are computed side by side.

    scratch: (n,)
    """
    n, whole, real = lanes(values), n_classes - n_classes % lanes(values), values.dtype.type
    top = vsplat(values[at], ONE)
    if whole:
        maxima = vload(values, at, ONE)
        for c in range(n, whole, n):
            maxima = vlarger(maxima, vload(values, at + c, ONE))
        vstore(scratch, 0, maxima)
        for k in range(n):
            top = vlarger(top, vsplat(scratch[k], ONE))
    for c in range(whole, n_classes):
        top = vlarger(top, vsplat(values[at + c], ONE))
    for c in range(0, n_classes, n):
        vstore(values, at + c, vexp(vsub(vload(values, at + c, ONE), top)))
    sums, ones = vzero(values, ONE), vsplat(real(1), ONE)
    for c in range(n_classes - 1, -1, -1):
        sums = vfma(vsplat(values[at + c], ONE), ones, sums)
    vstore(scratch, 0, sums)
    _invert(scratch)
    factor = vload(scratch, 0, ONE)
    for c in range(0, n_classes, n):
        vstore(values, at + c, vfma(vload(values, at + c, ONE), factor, vzero(values, ONE)))


@inlined
def _softmax_side_by_side(columns, n_classes, scratch):
    """`softmax_rows` for n rows, one row per lane.

    columns: (C * n,), logits, element ``c * n + r`` for class c of row r, overwritten
    scratch: (n,)
    """
    n, ones = lanes(columns), vsplat(columns.dtype.type(1), ONE)
    top, sums = vload(columns, 0, ONE), vzero(columns, ONE)
    for c in range(1, n_classes):
        top = vlarger(top, vload(columns, c * n, ONE))
    for c in range(n_classes - 1, -1, -1):
        exp = vexp(vsub(vload(columns, c * n, ONE), top))
        sums = vfma(exp, ones, sums)
        vstore(columns, c * n, exp)
    vstore(scratch, 0, sums)
    _invert(scratch)
    factor = vload(scratch, 0, ONE)
    for c in range(n_classes):
        vstore(columns, c * n, vfma(vload(columns, c * n, ONE), factor, vzero(columns, ONE)))


@inlined
def softmax_rows(values, at, row, n_rows, n_classes, scratch, offsets):
    """Softmax of the rows of a flat array, in place.

    Row s begins at ``at + s * row``; the rest of its last vector is overwritten. A row's bits do not depend on the
    other rows, nor on their number. So sums and products are fused operations, which fast-math leaves as they are.

    Faster than row by row where there are MANY_ROWS: with one row per lane, no row waits for its own sums.

    scratch: (n + n * C,), C padded to whole vectors; (n,) is enough for fewer rows than MANY_ROWS
    offsets: (n,) int64, scratch
    """
    never_inline()
    n, columns = lanes(values), scratch[lanes(values) :]
    for s in range(0, n_rows, n):
        count, first = min(n, n_rows - s), at + s * row
        if count < MANY_ROWS:
            for r in range(count):
                softmax_row(values, first + r * row, n_classes, scratch)
            continue
        for r in range(n):
            offsets[r] = first + min(r, count - 1) * row
        for c in range(0, n_classes, n):
            transpose_tile(columns, c * n, n, values, offsets, 0, c)
        _softmax_side_by_side(columns, n_classes, scratch)
        if count < n:
            for r in range(count):
                for c in range(n_classes):
                    values[first + r * row + c] = columns[c * n + r]
            continue
        for k in range(n):
            offsets[k] = k * n
        for c in range(0, n_classes, n):
            transpose_tile(values, first + c, row, columns[c * n :], offsets, 0, 0)


@inlined
def smooth_label(logits, dlogits, label, smoothing, row_weight):
    """Spread the fraction `smoothing` of a row's label over all classes. Returns what this adds to the row's loss.

    logits: (C,)
    dlogits: (C,), the gradient with respect to `logits` without smoothing, changed
    smoothing: float64
    row_weight: the weight of the row, in the dtype of `dlogits`
    """
    real, share, added = dlogits.dtype.type, smoothing / len(logits), 0.0
    dlogits[label] += row_weight * real(smoothing)
    for c in range(len(logits)):
        dlogits[c] -= row_weight * real(share)
        added += share * np.float64(logits[label] - logits[c])
    return added


@inlined
def cross_entropy_rows(logits, dlogits, n_classes, samples, begin, end, row_weight, scratch):
    """Compute the losses of n rows, and ``dlogits = row_weight * (softmax(logits) - targets)``.

    The first rows are the samples `begin` to ``end - 1``. The others must have weight 0.

    logits: a `View` of n rows, padded to whole vectors
    dlogits: flat, laid out like the array of `logits`, all n rows overwritten
    samples: `label` and `smoothing` are read; `loss` is overwritten, and so is `correct`, whether the label has the
        largest logit
    row_weight: (n,)
    scratch: `columns`, `offsets` and the first 3 * n elements of `row_stats` are overwritten
    """
    n, columns, offsets = lanes(dlogits), scratch.columns, scratch.offsets
    for r in range(n):
        offsets[r] = logits.at + r * logits.row
    for c in range(0, n_classes, n):
        transpose_tile(columns, c * n, n, logits.array, offsets, 0, c)
    top, total, best = scratch.row_stats[:n], scratch.row_stats[n : 2 * n], scratch.row_stats[2 * n : 3 * n]
    softmax_columns(columns, n_classes, row_weight, top, total, best)
    vstore(total, 0, vlog(vload(total, 0, ONE)))
    for k in range(n):
        offsets[k] = k * n
    for c in range(0, n_classes, n):
        columns[min(n_classes, c + n) * n : (c + n) * n] = 0
        transpose_tile(dlogits, logits.at + c, logits.row, columns[c * n : (c + n) * n], offsets, 0, 0)
    for r in range(end - begin):
        label, at = load(samples.label, begin + r), logits.at + r * logits.row
        chosen = at + label
        store(dlogits, chosen, load(dlogits, chosen) - load(row_weight, r))
        # -log(softmax) is a difference in float64: a logarithm added to a large logit would be rounded away.
        loss = np.float64(load(total, r)) - np.float64(load(logits.array, chosen) - load(top, r))
        if samples.smoothing > 0:
            row, drow = logits.array[at : at + n_classes], dlogits[at : at + n_classes]
            loss += smooth_label(row, drow, label, samples.smoothing, row_weight[r])
        store(samples.loss, begin + r, loss)
        store(samples.correct, begin + r, np.int64(load(best, r) == label))


@inlined
def fill_columns(logits, start, columns):
    """Transpose n rows of `logits`, from `start` on, into `columns`. Returns the number of rows, at most n.

    If fewer than n rows are left, the last row is repeated.

    logits: (B, C)
    columns: (C * n,), element ``c * n + r`` for class c of row r, overwritten
    """
    n, n_rows = lanes(columns), len(logits) - start
    for r in range(n):
        row = logits[start + min(r, n_rows - 1)]
        for c in range(len(row)):
            columns[c * n + r] = row[c]
    return min(n, n_rows)


def new_scratch(logits: np.ndarray) -> np.ndarray:
    """Scratch for the softmax of `logits`."""
    return np.empty((logits.shape[1] + 4) * (VECTOR // logits.itemsize), logits.dtype)


@kernel
def softmax(logits, out, scratch):
    """The softmax of each row of `logits`.

    Faster than one row at a time because each lane of a vector holds one row, and the exponentials, sums and divisions
    of all lanes run side by side.

    logits: (B, C), float32 or float64
    out: (B, C), the dtype of `logits`, overwritten
    scratch: ((C + 4) * n,), the dtype of `logits`
    """
    n, n_classes = lanes(out), logits.shape[1]
    columns, row_weight = scratch[: n_classes * n], scratch[n_classes * n : (n_classes + 1) * n]
    row_stats = scratch[(n_classes + 1) * n :]
    row_weight[:] = 1
    for start in range(0, len(logits), n):
        n_rows = fill_columns(logits, start, columns)
        softmax_columns(columns, n_classes, row_weight, row_stats[:n], row_stats[n:], row_stats[2 * n :])
        for r in range(n_rows):
            for c in range(n_classes):
                out[start + r, c] = columns[c * n + r]


@kernel
def softmax_cross_entropy(logits, labels, row_weights, smoothing, dlogits, scratch):
    """The weighted sum of the rows' cross-entropies, and its gradient.

    Faster than the obvious loops for two reasons. Each lane of a vector holds one row, and all lanes are computed side
    by side. The loss and the gradient share one pass of exponentials.

    logits: (B, C), float32 or float64
    labels: (B,) int64, from 0 to C - 1
    row_weights: (B,), the dtype of `logits`, the weight of each row, 1 / B for a mean
    smoothing: float64, the fraction of each label that is spread over all classes
    dlogits: (B, C), the dtype of `logits`, overwritten by the gradient with respect to `logits`
    scratch: ((C + 4) * n,), the dtype of `logits`
    """
    n, n_classes, loss = lanes(dlogits), logits.shape[1], 0.0
    columns, row_weight = scratch[: n_classes * n], scratch[n_classes * n : (n_classes + 1) * n]
    row_stats = scratch[(n_classes + 1) * n :]
    row_weight[:] = 0
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
            if smoothing > 0:
                loss_of_row += smooth_label(logits[s], dlogits[s], label, smoothing, row_weights[s])
            loss += np.float64(row_weights[s]) * loss_of_row
    return loss
