"""The moving average of the parameters: ``average += share * (parameters - average)`` after every step."""

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import by_vectors
from fastnn.kernels.vector.simd import lanes, vload, vscale_add, vstore, vsub


@inlined
def share_of_step(decay, step):
    """The share of the parameters after a step, counted from 1, in their average; see `EMA` of `fastnn.optim`."""
    return (1 - decay) / (1 - decay ** np.float64(step))


@inlined
def _average_rows(average, parameters, at, rows, share, n):
    """Move the average towards the parameters, for `rows` rows of `n` vectors from offset `at` on.

    share: in the working dtype
    """
    never_inline()
    width = len(n) * lanes(parameters)
    for k in range(at, at + rows * width, width):
        before = vload(average, k, n)
        vstore(average, k, vscale_add(share, vsub(vload(parameters, k, n), before), before))


average_panel = by_vectors(_average_rows)


@inlined
def average_numbers(average, parameters, numbers, share):
    """`average_panel` for a range of offsets of any length."""
    for k in numbers:
        average[k] += share * (parameters[k] - average[k])
