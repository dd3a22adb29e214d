"""Inputs in any memory order, float32 or float64, gathered part by part into rows of the working dtype.

A data frame gives its columns one after the other, and mostly in float64. A copy of the whole in another order or dtype
would take as much memory as the data. So the kernels get the address and the strides of the caller's own array, and
gather the rows that they need next. One function serves all dtypes and orders: a kernel for each would take as long to
compile again.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.vector.memory import array_at
from fastnn.kernels.vector.simd import SIXTEEN, lanes, load, vload_as, vstore
from fastnn.kernels.vector.tiles import transpose_tile

# The side of the square of numbers that is transposed at once.
SIDE = 16


class Strided(NamedTuple):
    """Inputs in any memory order. All are 0 if the kernel gets the inputs as an array.

    address: that of the first number of the first row
    row_stride, column_stride: the distances between rows and between columns, in numbers; they may be negative
    itemsize: the bytes of a number: 4 for float32, 8 for float64
    """

    address: int
    row_stride: int
    column_stride: int
    itemsize: int


class Square(NamedTuple):
    """Scratch for `gather_strided`.

    numbers: (SIDE * SIDE,), the dtype of the gathered rows
    offsets: (SIDE,) int64
    """

    numbers: np.ndarray
    offsets: np.ndarray


@inlined
def copy_rows(inp, at, row_stride, n_rows, depth, out, out_row):
    """Copy rows whose numbers are contiguous, converted to the dtype of `out`."""
    real, whole = out.dtype.type, depth - depth % len(SIXTEEN)
    for s in range(n_rows):
        first, row = at + s * row_stride, s * out_row
        for i in range(0, whole, len(SIXTEEN)):
            vstore(out, row + i, vload_as(inp, first + i, out, SIXTEEN))
        for i in range(whole, depth):
            out[row + i] = real(load(inp, first + i))


@inlined
def _transpose_columns(inp, at, column_stride, n_rows, depth, out, out_row, square):
    """Copy whole squares of SIDE rows and SIDE columns, where the numbers of a column are contiguous.

    Faster than a loop over elements: the squares are loaded as vectors and transposed in registers.
    """
    n = lanes(out)
    for i in range(SIDE):
        square.offsets[i] = i * SIDE
    for first in range(0, depth - depth % SIDE, SIDE):
        for s in range(0, n_rows - n_rows % SIDE, SIDE):
            for i in range(SIDE):
                column = at + (first + i) * column_stride + s
                vstore(square.numbers, i * SIDE, vload_as(inp, column, out, SIXTEEN))
            for r in range(0, SIDE, n):
                for c in range(0, SIDE, n):
                    to = (s + c) * out_row + first + r
                    transpose_tile(out, to, out_row, square.numbers, square.offsets, r, c)


@inlined
def copy_inputs(inp, at, row_stride, column_stride, n_rows, depth, out, out_row, square):
    """Copy `depth` numbers of `n_rows` rows, converted to the dtype of `out`.

    inp: flat; number (s, i) is element ``at + s * row_stride + i * column_stride``
    out: flat; number (s, i) becomes element ``s * out_row + i``
    square: scratch
    """
    never_inline()
    real = out.dtype.type
    if column_stride == 1:
        copy_rows(inp, at, row_stride, n_rows, depth, out, out_row)
        return
    done = 0
    if row_stride == 1:
        _transpose_columns(inp, at, column_stride, n_rows, depth, out, out_row, square)
        done = n_rows - n_rows % SIDE
    for s in range(n_rows):
        for i in range(depth - depth % SIDE if s < done else 0, depth):
            out[s * out_row + i] = real(load(inp, at + s * row_stride + i * column_stride))


@inlined
def gather_strided(source, start, n_rows, first, depth, out, out_row, square):
    """Copy the inputs `first` to ``first + depth`` of the rows from `start` on, converted to the dtype of `out`.

    source: a `Strided`
    out: flat; input i of row s becomes element ``(s - start) * out_row + i - first``
    square: scratch
    """
    rows, columns = source.row_stride, source.column_stride
    at = start * rows + first * columns
    if source.itemsize == 8:
        numbers = array_at(source.address, 1, np.float64)
        copy_inputs(numbers, at, rows, columns, n_rows, depth, out, out_row, square)
    else:
        single = array_at(source.address, 1, np.float32)
        copy_inputs(single, at, rows, columns, n_rows, depth, out, out_row, square)
