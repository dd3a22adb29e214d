"""The first layer for dense inputs: samples are copied side by side and multiplied by register tiles.

The inputs of a block are cut into segments, and a segment holds the samples one after the other. So a tile reads a few
pages that follow each other, however many inputs there are: with whole samples one after the other, it would read a
cache line or two of each of them, from as many pages. All panels visit a strip of SEGMENTS segments before the next
one, which stays in the second-level cache meanwhile.
"""

import numpy as np

from fastnn.kernels.inputs.strided import copy_rows
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import (
    BLOCK,
    FIRST_HIDDEN,
    INPUTS,
    Matrix,
    View,
    own_panels,
    size_of,
    unit_panel,
    weight_panel,
)
from fastnn.kernels.ops.dropout import drop, number_of, threshold_of
from fastnn.kernels.ops.matmul import DEPTH, ONE_ROW, START, STRIDE_1, multiply_panel
from fastnn.kernels.ops.optimizers import multiply_and_update
from fastnn.kernels.team import own_part
from fastnn.kernels.vector.memory import array_at, flattened
from fastnn.kernels.vector.simd import lanes, load, prefetch

# The number of segments in a strip.
SEGMENTS = 4
# A sample is prefetched this many samples before it is copied: at most so many of its cache lines, because the CPU
# fetches the rest of a long row by itself.
AHEAD, MOST_LINES = 3, 32


@inlined
def segment_width(n_inputs):
    """The number of inputs in a segment; the last may have fewer.

    One pass of a product takes a segment. All segments are about equally wide, in steps of 16 numbers, because a short
    pass costs more than its share: 784 inputs are seven segments of 112.
    """
    n_segments = max(1, (n_inputs + DEPTH - 1) // DEPTH)
    return ((n_inputs + n_segments - 1) // n_segments + 15) // 16 * 16


@inlined
def gather_inputs(member, data, rows, dropout, dense):
    """Copy this member's part of the samples into the segments of `dense`, in the working dtype, with dropout.

    data: a `block.Data`
    dense: (BLOCK * D,), overwritten
    """
    never_inline()
    images, source = data.images, data.source
    n_inputs, real = images.shape[1], dense.dtype.type
    segment = segment_width(n_inputs)
    if source.itemsize == 8:
        _gather_strided(member, array_at(source.address, 1, np.float64), source, rows, n_inputs, segment, dense)
    elif source.itemsize == 4:
        _gather_strided(member, array_at(source.address, 1, np.float32), source, rows, n_inputs, segment, dense)
    else:
        flat, part = flattened(images), own_part(member, len(rows))
        for s in part:
            ahead = rows[min(s + AHEAD, part.stop - 1)] * n_inputs
            for i in range(0, min(n_inputs, MOST_LINES * lanes(flat)), lanes(flat)):
                prefetch(flat, ahead + i)
            for i in range(0, n_inputs, segment):
                width = min(segment, n_inputs - i)
                at = rows[s] * n_inputs + i
                copy_rows(flat, at, START, ONE_ROW, width, dense[i * BLOCK + s * width :], width)
    threshold = threshold_of(dropout, INPUTS)
    if threshold:
        for s in own_part(member, len(rows)):
            for i in range(0, n_inputs, segment):
                width = min(segment, n_inputs - i)
                row = dense[i * BLOCK + s * width : i * BLOCK + (s + 1) * width]
                drop(row, dropout.keys[INPUTS], number_of(dropout, rows[s]), i, threshold, real(1))


@inlined
def _gather_strided(member, numbers, source, rows, n_inputs, segment, dense):
    """`gather_inputs` from an array in any memory order.

    Numbers that are far apart are gathered column by column: neighbouring numbers of a row would be in as many pages as
    there are columns, more than the CPU keeps the addresses of.
    """
    part, real, columns = own_part(member, len(rows)), dense.dtype.type, source.column_stride
    for i in range(0, n_inputs, segment):
        width = min(segment, n_inputs - i)
        if columns == 1:
            for s in part:
                at = rows[s] * source.row_stride + i
                copy_rows(numbers, at, START, ONE_ROW, width, dense[i * BLOCK + s * width :], width)
        else:
            for k in range(width):
                for s in part:
                    value = load(numbers, rows[s] * source.row_stride + (i + k) * columns)
                    dense[i * BLOCK + s * width + k] = real(value)


@inlined
def dense_sums(member, layout, n_rows, dense, out):
    """Compute the weighted sums of the samples in `dense`, for this member's panels."""
    never_inline()
    n_inputs = size_of(layout, INPUTS)
    segment = segment_width(n_inputs)
    for strip in range(0, n_inputs, SEGMENTS * segment):
        end = min(strip + SEGMENTS * segment, n_inputs)
        for p in own_panels(member, layout, FIRST_HIDDEN):
            panel = unit_panel(layout, FIRST_HIDDEN, p)
            sums, weight_at = View(out, panel.at, panel.row), weight_panel(layout, INPUTS, panel)
            for i in range(strip, end, segment):
                width = min(segment, n_inputs - i)
                left = Matrix(dense, i * BLOCK, width, STRIDE_1)
                weight = View(layout.parameters, weight_at + i * panel.width, panel.width)
                multiply_panel(sums, left, weight, width, n_rows, panel.vectors, i > 0)


@inlined
def update_dense(member, layout, n_rows, step, dense, dout, penalty, gradient_tile):
    """Update the weights that lead to this member's panels; write the sums of their squares, 0 without L2.

    dense: (BLOCK * D,), the samples
    penalty: one element per panel, overwritten
    gradient_tile: (GRADIENT_ROWS * widest panel,), scratch
    """
    never_inline()
    n_inputs = size_of(layout, INPUTS)
    segment = segment_width(n_inputs)
    for p in own_panels(member, layout, FIRST_HIDDEN):
        penalty[p] = 0.0
    for strip in range(0, n_inputs, SEGMENTS * segment):
        end = min(strip + SEGMENTS * segment, n_inputs)
        for p in own_panels(member, layout, FIRST_HIDDEN):
            panel = unit_panel(layout, FIRST_HIDDEN, p)
            right, weight_at = View(dout, panel.at, panel.row), weight_panel(layout, INPUTS, panel)
            for i in range(strip, end, segment):
                width = min(segment, n_inputs - i)
                weight = View(layout.parameters, weight_at + i * panel.width, panel.width)
                left = Matrix(dense, i * BLOCK, STRIDE_1, width)
                penalty[p] += multiply_and_update(step, layout.scale, weight, left, right, width, n_rows, gradient_tile)
