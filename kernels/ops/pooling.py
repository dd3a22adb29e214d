"""Pools of groups of images, one sample per lane: any window, stride and padding.

`images.py` describes the stages and the tables. A pool of 2 x 2 right after a convolution is part of its tiles
(`convolution.py`); these functions serve all others. The windows are tables of the pixels that they really have, so
padding costs nothing and is never the largest.
"""

from fastnn.kernels.images import (
    ACTIVATION,
    CHANNELS_OUT,
    ENTRIES_AT,
    INP_AT,
    INP_CHANNEL,
    KIND,
    MAX_POOL,
    N_WINDOWS,
    OUT_AT,
    OUT_CHANNEL,
    POOL_SIZE,
    WINDOWS_AT,
)
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.ops.activations import IDENTITY
from fastnn.kernels.ops.convolution import activate_rows
from fastnn.kernels.vector.simd import ONE, lanes, vadd, vload, vmul, vsplat, vstore, vzero
from fastnn.kernels.vector.taps import largest_of_window, where_argmax


@inlined
def pool_stage(stage, table, values, argmax):
    """Compute the output of a pool for a group of images.

    Faster than a loop over samples, because each lane has a sample: the largest number of a window is found without a
    branch.

    stage: the stage's row of `Plan.stages`
    values, argmax: those of the group
    """
    never_inline()
    windows, entries = table[stage[WINDOWS_AT] :], table[stage[ENTRIES_AT] :]
    share = vsplat(values.dtype.type(1) / values.dtype.type(stage[POOL_SIZE]), ONE)
    for c in range(stage[CHANNELS_OUT]):
        inp_at, out_at = stage[INP_AT] + c * stage[INP_CHANNEL], stage[OUT_AT] + c * stage[OUT_CHANNEL]
        for w in range(0, 3 * stage[N_WINDOWS], 3):
            at, first, last = out_at + windows[w], windows[w + 1], windows[w + 2]
            if stage[KIND] == MAX_POOL:
                largest_of_window(values, argmax, at, values, inp_at, entries, first, last)
            else:
                total = vzero(values, ONE)
                for e in range(first, last):
                    total = vadd(total, vload(values, inp_at + entries[2 * e], ONE))
                vstore(values, at, vmul(share, total))
    if stage[ACTIVATION] != IDENTITY:
        activate_rows(stage, table, values)


@inlined
def pool_gradient(stage, table, argmax, dvalues):
    """Compute the gradient of a pool's input from that of its output: sums over all windows that a pixel is part of.

    dvalues: overwritten where the input is
    """
    never_inline()
    windows, entries, n = table[stage[WINDOWS_AT] :], table[stage[ENTRIES_AT] :], lanes(dvalues)
    share = vsplat(dvalues.dtype.type(1) / dvalues.dtype.type(stage[POOL_SIZE]), ONE)
    for c in range(stage[CHANNELS_OUT]):
        inp_at, out_at = stage[INP_AT] + c * stage[INP_CHANNEL], stage[OUT_AT] + c * stage[OUT_CHANNEL]
        for at in range(inp_at, inp_at + stage[INP_CHANNEL], n):
            vstore(dvalues, at, vzero(dvalues, ONE))
        for w in range(0, 3 * stage[N_WINDOWS], 3):
            at = out_at + windows[w]
            gradient = vload(dvalues, at, ONE)
            for e in range(windows[w + 1], windows[w + 2]):
                pixel = inp_at + entries[2 * e]
                if stage[KIND] == MAX_POOL:
                    part = where_argmax(argmax, at, entries[2 * e + 1], gradient)
                else:
                    part = vmul(share, gradient)
                vstore(dvalues, pixel, vadd(vload(dvalues, pixel, ONE), part))
