"""Batch normalisation, forward and backward.

Dimensions: B rows, H units. The obvious loops finish one unit after the other and so jump through memory; NumPy writes
an array for each step of a formula. The loops here visit the rows in order, which LLVM vectorises, and keep only one
number per unit. Sums over rows are in float64, because a full batch has many rows.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import kernel


class Statistics(NamedTuple):
    """The statistics of a batch.

    mean: (H,)
    slope: (H,), 1 / sqrt(variance + epsilon)
    """

    mean: np.ndarray
    slope: np.ndarray


class Scratch(NamedTuple):
    """Memory for numbers of each unit.

    sums, products: (H,) float64
    shift, tilt: (H,), the dtype of the inputs
    """

    sums: np.ndarray
    products: np.ndarray
    shift: np.ndarray
    tilt: np.ndarray


def new_scratch(n_units: int, dtype: np.dtype) -> Scratch:
    """Scratch for batches of `n_units` units."""
    return Scratch(*np.empty((2, n_units)), *np.empty((2, n_units), dtype))


@kernel
def batch_statistics(inp, mean, variance, sums):
    """The mean and the variance of each unit over the rows; the variance is divided by B.

    Faster than the obvious loops because memory is read in order.

    inp: (B, H), float32 or float64
    mean: (H,), the dtype of `inp`, overwritten
    variance: (H,), the dtype of `inp`, overwritten
    sums: (H,) float64, scratch
    """
    n_rows = len(inp)
    sums[:] = 0
    for s in range(n_rows):
        for h in range(len(sums)):
            sums[h] += inp[s, h]
    for h in range(len(sums)):
        mean[h] = sums[h] / n_rows
    sums[:] = 0
    for s in range(n_rows):
        for h in range(len(sums)):
            deviation = np.float64(inp[s, h] - mean[h])
            sums[h] += deviation * deviation
    for h in range(len(sums)):
        variance[h] = sums[h] / n_rows


@kernel
def batch_norm(inp, mean, factor, bias, out):
    """``out = (inp - mean) * factor + bias``.

    Faster than the formula of batch normalisation because the caller has divided the weight by the deviation once, and
    no intermediate array is written.

    inp: (B, H), float32 or float64
    mean, factor, bias: (H,), the dtype of `inp`
    out: (B, H), the dtype of `inp`, overwritten
    """
    for s in range(len(out)):
        for h in range(len(mean)):
            out[s, h] = (inp[s, h] - mean[h]) * factor[h] + bias[h]


@kernel
def batch_norm_backward(dout, inp, weight, statistics, dinp, dweight, dbias, scratch):
    """The gradients of `batch_norm` with the mean and variance of the batch and ``factor = weight * slope``.

    Faster than the obvious loops because both sums over the rows share one pass, and all that depends on the unit alone
    is computed once.

    dout: (B, H), float32 or float64, the gradient of the output
    inp: (B, H), the dtype of `dout`
    weight: (H,), the dtype of `dout`
    statistics: a `Statistics` of the dtype of `dout`
    dinp: (B, H), overwritten
    dweight, dbias: (H,), overwritten
    scratch: a `Scratch`
    """
    (mean, slope), (sums, products, shift, tilt) = statistics, scratch
    n_rows, n_units, real = len(dout), len(mean), dinp.dtype.type
    sums[:] = 0
    products[:] = 0
    for s in range(n_rows):
        for h in range(n_units):
            sums[h] += dout[s, h]
        for h in range(n_units):
            products[h] += np.float64(dout[s, h] * (inp[s, h] - mean[h]))
    for h in range(n_units):
        dbias[h], dweight[h] = sums[h], products[h] * slope[h]
        shift[h], tilt[h] = sums[h] / n_rows, dweight[h] * slope[h] / real(n_rows)
    for s in range(n_rows):
        for h in range(n_units):
            centred = dout[s, h] - shift[h] - (inp[s, h] - mean[h]) * tilt[h]
            dinp[s, h] = weight[h] * slope[h] * centred
