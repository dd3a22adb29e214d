"""Images with one sample per lane: gathered from the data set, and as rows of numbers for the dense layers."""

import numpy as np

from fastnn.kernels.images import OUT_AT
from fastnn.kernels.inputs.strided import copy_rows
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import FIRST_HIDDEN, INPUTS, all_panels, unit_panel
from fastnn.kernels.ops.dropout import number_of, row_hash, threshold_of, unit_hash
from fastnn.kernels.ops.matmul import ONE_ROW, START
from fastnn.kernels.vector.memory import array_at
from fastnn.kernels.vector.simd import ONE, lanes, vload, vmul, vsplat, vstore, vzero
from fastnn.kernels.vector.tiles import transpose_tile


@inlined
def gather_images(places, n_inputs, images, rows, scale, values, numbers, offsets):
    """Copy up to n samples into a buffer of a group, times `scale`. Lanes without a sample become 0.

    Faster than a loop over pixels, because whole vectors are converted and transposed.

    places: where the pixels are in the buffer, `Plan.rows`
    n_inputs: D, the number of pixels
    images: (N, D) uint8 or the working dtype
    rows: int64, the samples, one to n
    values: those of the group
    numbers: (2 * n * D,), D rounded up to whole vectors, scratch
    offsets: (n,) int64, scratch
    """
    never_inline()
    n = lanes(values)
    padded, flat = (n_inputs + n - 1) // n * n, array_at(images.ctypes.data, 1, images)
    for s in range(n):
        offsets[s] = s * padded
        if s < len(rows):
            copy_rows(flat, rows[s] * n_inputs, n_inputs, ONE_ROW, n_inputs, numbers[s * padded :], padded)
        else:
            for i in range(s * padded, (s + 1) * padded, n):
                vstore(numbers, i, vzero(numbers, ONE))
    pixels = n * padded
    for i in range(0, padded, n):
        transpose_tile(numbers, pixels + i * n, n, numbers, offsets, START, i)
    factor = vsplat(scale, ONE)
    for r in range(len(places)):
        source, target, width = places[r, 0], places[r, 1], places[r, 2]
        for k in range(0, width * n, n):
            vstore(values, target + k, vmul(factor, vload(numbers, pixels + source * n + k, ONE)))


@inlined
def drop_pixels(places, rows, dropout, values, offsets):
    """Set the dropped pixels of a group that `gather_images` has filled to 0, unless none are dropped.

    offsets: (n,) int64, scratch
    """
    never_inline()
    n, threshold = lanes(values), threshold_of(dropout, INPUTS)
    for s in range(len(rows) if threshold else 0):
        offsets[s] = row_hash(dropout.keys[INPUTS], number_of(dropout, rows[s]))
    for r in range(len(places) if threshold else 0):
        source, target, width = places[r, 0], places[r, 1], places[r, 2]
        for i in range(width):
            at = target + i * n
            for s in range(n):  # lanes without a sample are 0 already
                is_kept = unit_hash(np.uint32(offsets[s]), source + i) >= threshold
                values[at + s] = values[at + s] if is_kept else values.dtype.type(0)


@inlined
def scatter_images(places, n_inputs, values, out, start, count, numbers, offsets):
    """Copy samples of a group from a buffer to rows of an array: the reverse of `gather_images`.

    out: flat, (N, D), the rows `start` to ``start + count - 1`` overwritten
    count: the number of samples, one to n
    """
    never_inline()
    n = lanes(values)
    padded = (n_inputs + n - 1) // n * n
    pixels = n * padded
    for r in range(len(places)):
        source, target, width = places[r, 0], places[r, 1], places[r, 2]
        for k in range(0, width * n, n):
            vstore(numbers, pixels + source * n + k, vload(values, target + k, ONE))
    for k in range(n):
        offsets[k] = pixels + k * n
    for i in range(0, padded, n):
        transpose_tile(numbers, i, padded, numbers[i * n :], offsets, START, START)
    for s in range(count):
        at, target = s * padded, (start + s) * n_inputs
        for i in range(n_inputs):
            out[target + i] = numbers[at + i]


@inlined
def images_to_rows(layout, stage, values, out, start, offsets):
    """Copy the output of the last stage to the rows of the dense layers' inputs, from row `start` of the block on.

    stage: the last row of `Plan.stages`
    values: those of the group
    out: a block's outputs, `Units.out`
    offsets: (n,) int64, scratch
    """
    never_inline()
    n = lanes(values)
    for k in range(n):
        offsets[k] = k * n
    for p in all_panels(layout, FIRST_HIDDEN):
        panel = unit_panel(layout, FIRST_HIDDEN, p)
        for k in range(0, panel.width, n):
            source = values[stage[OUT_AT] + (panel.first + k) * n :]
            transpose_tile(out, panel.at + start * panel.row + k, panel.row, source, offsets, START, START)


@inlined
def rows_to_images(layout, stage, dout, start, dvalues, offsets):
    """Copy the gradients of the dense layers' inputs, from row `start` of the block on, to those of the last stage.

    dout: a block's gradients, `Units.dout`
    dvalues: overwritten at the output of the last stage
    offsets: (n,) int64, scratch
    """
    never_inline()
    n = lanes(dvalues)
    for p in all_panels(layout, FIRST_HIDDEN):
        panel = unit_panel(layout, FIRST_HIDDEN, p)
        for s in range(n):
            offsets[s] = panel.at + (start + s) * panel.row
        for k in range(0, panel.width, n):
            target = stage[OUT_AT] + (panel.first + k) * n
            transpose_tile(dvalues, target, n, dout, offsets, START, k)


@inlined
def clear_rows(layout, first, last, dout):
    """Set the gradients of the rows `first` to ``last - 1`` of the dense layers' inputs to 0: they have no sample."""
    n = lanes(dout)
    for p in all_panels(layout, FIRST_HIDDEN):
        panel = unit_panel(layout, FIRST_HIDDEN, p)
        for k in range(panel.at + first * panel.row, panel.at + last * panel.row, n):
            vstore(dout, k, vzero(dout, ONE))
