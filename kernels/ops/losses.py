"""Losses of independent outputs: binary cross-entropy (logistic outputs) and squared error (identity outputs).

The outputs of a softmax depend on each other, and softmax is most of the work in the last layer of a digit network, so
`softmax.py` is optimised further. The losses here need at most one exponential and one logarithm per output, in
float64, eight outputs at a time.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.vector.exp_log import vexp, vlog
from fastnn.kernels.vector.simd import (
    EIGHT,
    ONE,
    vadd,
    vdiv,
    vlarger,
    vload_as,
    vmul,
    vrelu,
    vsplat,
    vstore_as,
    vsub,
    vsum,
    vwhere_equal,
    vwhere_positive,
)

SOFTMAX_OUTPUT, LOGISTIC_OUTPUT, IDENTITY_OUTPUT = range(3)
OUTPUT_CODES = {"softmax": SOFTMAX_OUTPUT, "logistic": LOGISTIC_OUTPUT, "identity": IDENTITY_OUTPUT}


@inlined
def is_softmax(output):
    """Whether the outputs of a row depend on each other, and targets are labels."""
    return output == SOFTMAX_OUTPUT


@inlined
def is_logistic(output):
    """Whether each output is a logistic function of its weighted sum."""
    return output == LOGISTIC_OUTPUT


@inlined
def _cross_entropy_of_eight(x, y):
    """The losses of eight logistic outputs with weighted sums x and targets y, and ``p - y``, their gradients; float64.

    ``log(1 + exp)`` is corrected by the rounding error of ``1 + exp``, so that a small loss keeps its digits.
    """
    ones = vsplat(1.0, ONE)
    exp = vexp(vmul(vsplat(-1.0, ONE), vlarger(x, vsub(vsplat(0.0, ONE), x))))
    total = vadd(ones, exp)
    log = vwhere_equal(total, ones, exp, vdiv(vmul(vlog(total), exp), vsub(total, ones)))
    p = vadd(vdiv(exp, total), vwhere_positive(x, vdiv(vsub(ones, exp), total)))
    return vadd(vsub(vrelu(x), vmul(x, y)), log), vsub(p, y)


@inlined
def _cross_entropy(outs, targets, row_weight, dout, numbers):
    """`row_loss` of logistic outputs, eight at a time."""
    n_outputs, n_wrong, real, c = len(outs), 0, dout.dtype.type, 0
    sums, factor = vsplat(0.0, ONE), vsplat(np.float64(row_weight), ONE)
    while c + 8 <= n_outputs:
        losses, errors = _cross_entropy_of_eight(
            vload_as(outs, c, numbers, EIGHT), vload_as(targets, c, numbers, EIGHT)
        )
        sums = vadd(sums, losses)
        vstore_as(dout, c, vmul(factor, errors))
        c += 8
    loss = vsum(sums)
    while c < n_outputs:
        x, y = np.float64(outs[c]), np.float64(targets[c])
        exp = np.exp(-abs(x))
        loss += (x if x > 0.0 else 0.0) - x * y + np.log1p(exp)
        dout[c] = row_weight * real((1.0 if x >= 0.0 else exp) / (1.0 + exp) - y)
        c += 1
    for k in range(n_outputs):
        n_wrong += (outs[k] > 0) != (targets[k] > 0.5)
    return loss, n_wrong == 0


@inlined
def _squared_error(outs, targets, row_weight, dout):
    """`row_loss` of identity outputs: a loop that LLVM vectorises without help."""
    loss, real = 0.0, dout.dtype.type
    for c in range(len(outs)):
        error = np.float64(outs[c]) - np.float64(targets[c])
        loss += 0.5 * error * error
        dout[c] = row_weight * real(error)
    return loss, False


@inlined
def row_loss(output, outs, targets, row_weight, dout, numbers):
    """The loss of one row, summed over its outputs, and whether the row is predicted correctly.

    A row is correct if every logistic output is on the same side of 1/2 as its target. Rows with identity outputs are
    never correct. The loss of a logistic output p with target y is ``-y log p - (1 - y) log(1 - p)``. The code uses an
    equal form in which exp cannot overflow and a small loss is not rounded away beside 1.

    output: LOGISTIC_OUTPUT or IDENTITY_OUTPUT
    outs: (C,), the weighted sums of the last layer
    targets: (C,) or longer
    row_weight: the weight of the row in the batch loss, in the dtype of `dout`
    dout: (C,), overwritten by `row_weight` times the gradient of the loss
    numbers: any float64 array
    """
    never_inline()
    if is_logistic(output):
        loss, correct = _cross_entropy(outs, targets, row_weight, dout, numbers)
    else:
        loss, correct = _squared_error(outs, targets, row_weight, dout)
    if not row_weight > 0:
        for c in range(len(outs)):  # 0 even for an infinite error
            dout[c] = 0
    return loss, correct


@kernel
def element_loss(output, outs, targets, row_weights, dout, numbers):
    """The weighted sum of the rows' losses, and its gradient.

    Faster than the obvious loops because one pass computes both: the loss and the gradient of a logistic output share
    one exponential.

    output: LOGISTIC_OUTPUT or IDENTITY_OUTPUT
    outs: (B, C), float32 or float64, the weighted sums of the last layer
    targets: (B, C), the dtype of `outs`
    row_weights: (B,), the dtype of `outs`, the weight of each row, 1 / B for a mean
    dout: (B, C), the dtype of `outs`, overwritten by the gradient with respect to `outs`
    numbers: any float64 array
    """
    loss = 0.0
    for s in range(len(outs)):
        loss_of_row, _ = row_loss(output, outs[s], targets[s], row_weights[s], dout[s], numbers)
        loss += np.float64(row_weights[s]) * loss_of_row
    return loss
