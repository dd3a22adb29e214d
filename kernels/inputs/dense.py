"""The first layer for dense inputs: samples are copied side by side and multiplied by register tiles."""

import numpy as np

from fastnn.kernels.inputs.strided import copy_rows
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import INPUTS, Matrix, View, size_of, weight_panel
from fastnn.kernels.ops.matmul import ONE_ROW, OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.ops.optimizers import multiply_and_update
from fastnn.kernels.team import own_part
from fastnn.kernels.vector.memory import array_at
from fastnn.kernels.vector.simd import load


@inlined
def gather_inputs(member, data, rows, dense):
    """Copy this member's part of the samples into `dense`, one after the other, in the working dtype.

    data: a `block.Data`
    dense: (BLOCK * D,), overwritten
    """
    never_inline()
    images, source = data.images, data.source
    n_inputs, real = images.shape[1], dense.dtype.type
    if source.itemsize == 8:
        _gather_strided(member, array_at(source.address, 1, np.float64), source, rows, n_inputs, dense)
    elif source.itemsize == 4:
        _gather_strided(member, array_at(source.address, 1, np.float32), source, rows, n_inputs, dense)
    else:
        for s in own_part(member, len(rows)):
            image, row = images[rows[s]], dense[s * n_inputs : (s + 1) * n_inputs]
            for i in range(n_inputs):
                row[i] = real(image[i])


@inlined
def _gather_strided(member, numbers, source, rows, n_inputs, dense):
    """`gather_inputs` from an array in any memory order.

    Numbers that are far apart are gathered column by column: neighbouring numbers of a row would be in as many pages as
    there are columns, more than the CPU keeps the addresses of.
    """
    part, real = own_part(member, len(rows)), dense.dtype.type
    if source.column_stride == 1:
        for s in part:
            copy_rows(numbers, rows[s] * source.row_stride, START, ONE_ROW, n_inputs, dense[s * n_inputs :], n_inputs)
        return
    for i in range(n_inputs):
        at = i * source.column_stride
        for s in part:
            dense[s * n_inputs + i] = real(load(numbers, rows[s] * source.row_stride + at))


@inlined
def dense_sums(layout, n_rows, dense, out, panel):
    """Compute the weighted sums of the samples in `dense`."""
    n_inputs = size_of(layout, INPUTS)
    left = Matrix(dense, START, n_inputs, STRIDE_1)
    weight = View(layout.parameters, weight_panel(layout, INPUTS, panel), panel.width)
    multiply_panel(View(out, panel.at, panel.row), left, weight, n_inputs, n_rows, panel.vectors, OVERWRITE)


@inlined
def update_dense(layout, n_rows, step, dense, dout, gradient_tile, panel):
    """Update the weights. Returns the sum of their squares, 0 without L2.

    dense: (BLOCK * D,), the samples
    gradient_tile: (GRADIENT_ROWS * widest panel,), scratch
    """
    n_inputs = size_of(layout, INPUTS)
    weight = View(layout.parameters, weight_panel(layout, INPUTS, panel), panel.width)
    left, right = Matrix(dense, START, STRIDE_1, n_inputs), View(dout, panel.at, panel.row)
    return multiply_and_update(step, layout.scale, weight, left, right, n_inputs, n_rows, gradient_tile)
