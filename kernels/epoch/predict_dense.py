"""Prediction of many rows by register tiles: for inputs that are mostly nonzero, a layer is a plain matrix product.

`predict.py` visits only the inputs that are nonzero, two rows at a time. Without zeros to skip, each weight that it
loads is used only twice. Here twelve rows share every load. Weights are copied in pieces that fit the first-level
cache, in the order in which tiles read them; a piece serves a whole block of rows. Each sum still adds its products
one by one, in the order of the inputs, as in `predict.py`. So the bits are the same.

Dimensions: B rows of a block, D inputs, H units.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.inputs.strided import Square, copy_inputs, gather_strided
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import Matrix, View
from fastnn.kernels.ops.activations import IDENTITY, RELU, vactivate
from fastnn.kernels.vector.finite import are_finite
from fastnn.kernels.vector.memory import array_at
from fastnn.kernels.vector.simd import (
    FOUR,
    ONE,
    SIX,
    TWO,
    WHOLE_REGISTERS,
    lanes,
    prefetch,
    vload,
    vload_part,
    vrelu,
    vscale_add,
    vstore,
)
from fastnn.kernels.vector.tiles import tile

# The number of inputs whose weights are copied at a time: with two vectors of units they are 32 KB.
DEPTH = 256
# The tallest tile. Twelve rows of two vectors, with the weights and one input, fill the 32 registers of AVX-512. A
# vector takes two registers of AVX2, which has 16, and four of NEON, which has 32.
HIGH = (0,) * 12 if WHOLE_REGISTERS else SIX
# The widest tile, in vectors.
MOST_VECTORS = 2 if WHOLE_REGISTERS else 1
# Typed constants, not literals; `ops/matmul.py` gives the reason.
STRIDE_1, PIECE_ROW = np.int64(1), np.int64(DEPTH)


class Pieces(NamedTuple):
    """A thread's scratch.

    weight: (DEPTH * MOST_VECTORS * lanes,), a piece of a weight, row after row
    inputs: (B * DEPTH,), a piece of the inputs, or (0,) if the rows are read where they are
    square: for gathering
    """

    weight: np.ndarray
    inputs: np.ndarray
    square: Square


@inlined
def _copy_weights(layer, first, depth, h, piece, n):
    """Copy `n` vectors of the weights that lead from the inputs `first` to ``first + depth`` to the units from h on.

    Units beyond the last get the weight 0.
    """
    never_inline()
    weight, n_units, one = layer.weight, layer.n_units, lanes(piece)
    width, left = len(n) * one, n_units - h
    for k in range(depth):
        at = (first + k) * n_units + h
        if left >= width:
            vstore(piece, k * width, vload(weight, at, n))
        else:
            for v in range(0, width, one):
                vstore(piece, k * width + v, vload_part(weight, at + v, left - v, ONE))


@inlined
def _multiply(out, left, piece, depth, n_rows, add, following, n):
    """``out (+)= left @ piece`` for `n` vectors of units; if `add` is false, the product overwrites `out`.

    out: a `View`, (n_rows, `n` vectors)
    left: a `Matrix`, (n_rows, depth)
    following: a `View` of the next piece's weights where the network has them. They are prefetched between the tiles:
        each of their rows is in another page if the layer is wide, and the CPU would not fetch them by itself
    """
    never_inline()
    right, r, asked = View(piece, np.int64(0), len(n) * lanes(piece)), 0, 0
    while r + len(HIGH) <= n_rows:
        o, a = View(out.array, out.at + r * out.row, out.row), left.at + r * left.row
        tile(o, Matrix(left.array, a, left.row, left.column), right, depth, HIGH, n, add)
        r += len(HIGH)
        until = depth * r // n_rows
        for k in range(asked, until):
            for v in range(0, len(n) * lanes(piece), lanes(piece)):
                prefetch(following.array, following.at + k * following.row + v)
        asked = until
    while r + len(FOUR) <= n_rows:
        o, a = View(out.array, out.at + r * out.row, out.row), left.at + r * left.row
        tile(o, Matrix(left.array, a, left.row, left.column), right, depth, FOUR, n, add)
        r += len(FOUR)
    while r < n_rows:
        o, a = View(out.array, out.at + r * out.row, out.row), left.at + r * left.row
        tile(o, Matrix(left.array, a, left.row, left.column), right, depth, ONE, n, add)
        r += 1


@inlined
def _finish(out, layer, code, n_rows, h):
    """``out = activation(scale * out + bias)`` for one vector of units from h on."""
    never_inline()
    numbers, bias = out.array, vload_part(layer.bias, h, layer.n_units - h, ONE)
    stop = out.at + h + n_rows * out.row
    if code == IDENTITY:
        for at in range(out.at + h, stop, out.row):
            vstore(numbers, at, vscale_add(layer.scale, vload(numbers, at, ONE), bias))
    elif code == RELU:
        for at in range(out.at + h, stop, out.row):
            vstore(numbers, at, vrelu(vscale_add(layer.scale, vload(numbers, at, ONE), bias)))
    else:
        for at in range(out.at + h, stop, out.row):
            total = vscale_add(layer.scale, vload(numbers, at, ONE), bias)
            vstore(numbers, at, vactivate(code, total, numbers))


@inlined
def _add_piece(out, layer, code, left, first, depth, n_rows, piece):
    """Add the products of the inputs `first` to ``first + depth`` to the sums; after the last, finish the layer."""
    one, h = lanes(out.array), 0
    while h < layer.n_units:
        o, is_last = View(out.array, out.at + h, out.row), h + MOST_VECTORS * one >= layer.n_units
        at = (first + depth) * layer.n_units if is_last else first * layer.n_units + h + MOST_VECTORS * one
        following = View(layer.weight, at, layer.n_units)
        if MOST_VECTORS == 2 and layer.n_units - h > one:
            _copy_weights(layer, first, depth, h, piece, TWO)
            _multiply(o, left, piece, depth, n_rows, first > 0, following, TWO)
        else:
            _copy_weights(layer, first, depth, h, piece, ONE)
            _multiply(o, left, piece, depth, n_rows, first > 0, following, ONE)
        if first + depth == layer.n_inputs:
            for v in range(h, min(h + MOST_VECTORS * one, layer.n_units), one):
                _finish(out, layer, code, n_rows, v)
        h += MOST_VECTORS * one


@inlined
def dense_layer(out, layer, code, left, n_rows, piece):
    """``out = activation(scale * (left @ weight) + bias)`` for a block of rows.

    out: a `View`, (n_rows, whole vectors), overwritten
    layer: a `predict.Layer`
    code: that of the activation
    left: a `View`, (n_rows, D)
    piece: `Pieces.weight`

    Faster than a product of the whole depth: a piece of the inputs and a piece of the weights stay in nearby caches
    until all their products are added.
    """
    never_inline()
    for first in range(0, layer.n_inputs, DEPTH):
        inputs = Matrix(left.array, left.at + first, left.row, STRIDE_1)
        _add_piece(out, layer, code, inputs, first, min(DEPTH, layer.n_inputs - first), n_rows, piece)


@inlined
def gathered_layer(out, layer, code, images, source, start, n_rows, pieces):
    """`dense_layer` for the rows of the data set from `start` on, which are converted piece by piece.

    images: (N, D), bytes, used if `source` is empty
    source: a `Strided`

    Returns whether all inputs are finite.
    """
    never_inline()
    finite = True
    flat = array_at(images.ctypes.data, 1, images)
    inputs = Matrix(pieces.inputs, np.int64(0), PIECE_ROW, STRIDE_1)
    for first in range(0, layer.n_inputs, DEPTH):
        depth = min(DEPTH, layer.n_inputs - first)
        if source.itemsize:
            gather_strided(source, start, n_rows, first, depth, pieces.inputs, PIECE_ROW, pieces.square)
            finite &= are_finite(pieces.inputs, np.int64(0), PIECE_ROW, n_rows, depth)
        else:
            at = start * layer.n_inputs + first
            copy_inputs(flat, at, layer.n_inputs, STRIDE_1, n_rows, depth, pieces.inputs, PIECE_ROW, pieces.square)
        _add_piece(out, layer, code, inputs, first, depth, n_rows, pieces.weight)
    return finite
