"""Softmax and cross-entropy, forward and backward, one row at a time.

Dimensions: B rows, C classes.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel


@inlined
def softmax_row(logits, out):
    """``out = softmax(logits)``, both (C,); returns max(logits), log(sum(exp(logits - max(logits)))).

    The row's largest logit is subtracted first, so that exp cannot overflow; the two parts are returned apart, since
    their sum would lose the small one. A NaN makes the whole row NaN.
    """
    top = logits[0]
    for c in range(1, len(logits)):
        top = max(top, logits[c])
    total = out.dtype.type(0)
    for c in range(len(logits)):
        out[c] = np.exp(logits[c] - top)
        total += out[c]
    for c in range(len(logits)):
        out[c] /= total
    return top, np.log(total)


@inlined
def cross_entropy_row(logits, label, share, dlogits):
    """Loss of one row, and ``dlogits = share * (softmax(logits) - one_hot(label))``; returns loss, whether right."""
    best = 0
    for c in range(1, len(logits)):
        if logits[c] > logits[best]:
            best = c
    top, log_total = softmax_row(logits, dlogits)
    loss = log_total - (logits[label] - top)
    dlogits[label] -= logits.dtype.type(1)
    for c in range(len(logits)):
        dlogits[c] *= share
    return loss, best == label


@kernel
def softmax(logits, out):
    """Each row of `out` is the softmax of that of `logits`: (B, C), (B, C); `out` is overwritten."""
    for s in range(len(logits)):
        softmax_row(logits[s], out[s])


@kernel
def softmax_cross_entropy(logits, labels, shares, dlogits):
    """Weighted sum of the rows' losses, and its gradient: (B, C), (B,), (B,) -> dlogits (B, C), overwritten.

    `shares` is what each row counts, 1 / B for a mean. Loss and gradient share the one pass of exponentials.
    """
    total = 0.0
    for s in range(len(logits)):
        loss, _ = cross_entropy_row(logits[s], labels[s], shares[s], dlogits[s])
        total += np.float64(shares[s]) * np.float64(loss)
    return total
