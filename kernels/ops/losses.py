"""Losses of independent outputs: binary cross-entropy (logistic outputs) and squared error (identity outputs).

The outputs of a softmax depend on each other, and softmax is most of the work in the last layer of a digit network, so
`softmax.py` is optimised further. The losses here need at most one exponential and one logarithm per output, in
float64, and the outputs of a row have no work in common.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel

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
def row_loss(output, outs, targets, row_weight, dout):
    """The loss of one row, summed over its outputs, and whether the row is predicted correctly.

    A row is correct if every logistic output is on the same side of 1/2 as its target. Rows with identity outputs are
    never correct. The loss of a logistic output p with target y is ``-y log p - (1 - y) log(1 - p)``. The code uses an
    equal form in which exp cannot overflow and a small loss is not rounded away beside 1.

    output: LOGISTIC_OUTPUT or IDENTITY_OUTPUT
    outs: (C,), the weighted sums of the last layer
    targets: (C,) or longer
    row_weight: the weight of the row in the batch loss, in the dtype of `dout`
    dout: (C,), overwritten by `row_weight` times the gradient of the loss
    """
    loss, correct, real = 0.0, is_logistic(output), dout.dtype.type
    for c in range(len(outs)):
        x, y = np.float64(outs[c]), np.float64(targets[c])
        error = x - y
        if is_logistic(output):
            exp = np.exp(-abs(x))
            error = (1.0 if x >= 0.0 else exp) / (1.0 + exp) - y
            loss += (x if x > 0.0 else 0.0) - x * y + np.log1p(exp)
            correct &= (x > 0.0) == (y > 0.5)
        else:
            loss += 0.5 * error * error
        dout[c] = row_weight * real(error) if row_weight > 0 else real(0)  # 0 even for an infinite error
    return loss, correct


@kernel
def element_loss(output, outs, targets, row_weights, dout):
    """The weighted sum of the rows' losses, and its gradient.

    Faster than the obvious loops because one pass computes both: the loss and the gradient of a logistic output share
    one exponential.

    output: LOGISTIC_OUTPUT or IDENTITY_OUTPUT
    outs: (B, C), float32 or float64, the weighted sums of the last layer
    targets: (B, C), the dtype of `outs`
    row_weights: (B,), the dtype of `outs`, the weight of each row, 1 / B for a mean
    dout: (B, C), the dtype of `outs`, overwritten by the gradient with respect to `outs`
    """
    loss = 0.0
    for s in range(len(outs)):
        loss_of_row, _ = row_loss(output, outs[s], targets[s], row_weights[s], dout[s])
        loss += np.float64(row_weights[s]) * loss_of_row
    return loss
