"""Losses of outputs that stand each for itself: yes or no (logistic), or a number (identity).

Softmax ties a row's outputs together and is most of a digit network's last layer, hence the care in `softmax.py`. Here
there is one exponential and one logarithm an output, in float64, with nothing to share between them.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel

SOFTMAX_OUTPUT, LOGISTIC_OUTPUT, IDENTITY_OUTPUT = range(3)
OUTPUT_CODES = {"softmax": SOFTMAX_OUTPUT, "logistic": LOGISTIC_OUTPUT, "identity": IDENTITY_OUTPUT}


@inlined
def row_loss(output, outs, targets, row_weight, dout):
    """The loss of one row, summed over its outputs, and whether all of them are on their targets' side of the middle.

    output: LOGISTIC or IDENTITY; outs: what the last layer sums up, targets, and dout, of the same length, which is
    overwritten by `share` times the gradient. Of logistic outputs p, the loss is ``-y log p - (1 - y) log(1 - p)``,
    written so that no exp can overflow and a small loss is not rounded off beside 1.
    """
    loss, correct, real = 0.0, output == LOGISTIC_OUTPUT, dout.dtype.type
    for c in range(len(outs)):
        x, y = np.float64(outs[c]), np.float64(targets[c])
        error = x - y
        if output == LOGISTIC_OUTPUT:
            exp = np.exp(-abs(x))
            error = (1.0 if x >= 0.0 else exp) / (1.0 + exp) - y
            loss += (x if x > 0.0 else 0.0) - x * y + np.log1p(exp)
            correct &= (x > 0.0) == (y > 0.5)
        else:
            loss += 0.5 * error * error
        dout[c] = row_weight * real(error) if row_weight > 0 else real(0)  # even where the error is infinite
    return loss, correct


@kernel
def element_loss(output, outs, targets, row_weights, dout):
    """Weighted sum of the rows' losses, and its gradient: (B, C), (B, C), (B,) -> dout (B, C), overwritten."""
    loss = 0.0
    for s in range(len(outs)):
        loss_of_row, _ = row_loss(output, outs[s], targets[s], row_weights[s], dout[s])
        loss += np.float64(row_weights[s]) * loss_of_row
    return loss
