"""A dense layer, forward and backward, by register tiles; and the same for arrays as NumPy has them.

Dimensions: B rows, D inputs, H units, C classes.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.ops.activations import activate, activate_backward
from fastnn.kernels.vector.simd import EIGHT, FOUR, ONE, SIX, TWO, WHOLE_REGISTERS, lanes
from fastnn.kernels.vector.tiles import tile

# Rows of a right-hand side that a product goes through at a time: as wide as a panel, they are 16 KB.
DEPTH = 64
# Constants that Numba must not take for literals: it would compile a function once for each.
START, STRIDE_1, ONE_ROW, OVERWRITE = np.int64(0), np.int64(1), np.int64(1), np.bool_(False)


@inlined
def multiply(
    out, out_at, out_row, left, left_at, left_row, left_k, right, right_at, right_row, depth, rows, n, add, high
):
    """``out (+)= left @ right`` for `rows` rows and `n` vectors of columns, by tiles of `high` rows.

    A few rows of `right` at a time stay in the first-level cache for all tiles: the second-level one is half as fast as
    the multiplications are.
    """
    never_inline()
    for k in range(0, depth, DEPTH):
        part, more = min(DEPTH, depth - k), add or k > 0
        a, b, r = left_at + k * left_k, right_at + k * right_row, 0
        while r + len(high) <= rows:
            o = out_at + r * out_row
            tile(out, o, out_row, left, a + r * left_row, left_row, left_k, right, b, right_row, part, high, n, more)
            r += len(high)
        while r < rows:
            o = out_at + r * out_row
            tile(out, o, out_row, left, a + r * left_row, left_row, left_k, right, b, right_row, part, ONE, n, more)
            r += 1


@inlined
def _multiply_wide(
    out, out_at, out_row, left, left_at, left_row, left_k, right, right_at, right_row, depth, rows, n, add
):
    """`multiply_panel` for 32 registers of a whole vector each.

    Four rows of four vectors, or eight of two, are sixteen sums, which with the vectors of the right-hand side and one
    number fill most of them; the narrowest tiles have eight, the least with which a processor of two multipliers need
    not wait for a sum before it adds to it again.
    """
    a, b = (left, left_at, left_row, left_k), (right, right_at, right_row)
    if n == 4:
        multiply(out, out_at, out_row, *a, *b, depth, rows, FOUR, add, FOUR)
    elif n == 2:
        multiply(out, out_at, out_row, *a, *b, depth, rows, TWO, add, EIGHT)
    else:
        multiply(out, out_at, out_row, *a, *b, depth, rows, ONE, add, EIGHT)


@inlined
def _multiply_narrow(
    out, out_at, out_row, left, left_at, left_row, left_k, right, right_at, right_row, depth, rows, n, add
):
    """`multiply_panel` for registers of half a vector (16 of AVX2) or a quarter (32 of NEON): 12 or 24 are six sums."""
    for h in range(0, n * lanes(out), lanes(out)):
        multiply(
            out, out_at + h, out_row, left, left_at, left_row, left_k, right, right_at + h, right_row, depth, rows, ONE,
            add, SIX,
        )  # fmt: skip


# ``out (+)= left @ right`` for a number of vectors that is known only when it is called: 1, 2 or 4.
multiply_panel = _multiply_wide if WHOLE_REGISTERS else _multiply_narrow


@inlined
def multiply_plain(out, left, left_row, left_k, right, depth, rest, sums):
    """``out = left @ right`` for arrays in NumPy's order: out (M, N), right (depth, N), left flat with its own strides.

    Columns that fill no vector are copied aside, so that all work is done by tiles: to rest (depth * n,) and sums
    (M * n,), for vectors of n lanes.
    """
    rows, columns = out.shape
    flat_out, flat_right, n = out.reshape(-1), right.reshape(-1), lanes(out)
    h = 0
    while h + n <= columns:
        vectors = 4 if h + 4 * n <= columns else 1
        multiply_panel(
            flat_out, h, columns, left, START, left_row, left_k, flat_right, h, columns, depth, rows, vectors, OVERWRITE
        )
        h += vectors * n
    if h < columns:
        for k in range(depth):
            rest[k * n + columns - h : (k + 1) * n] = 0
            for c in range(columns - h):
                rest[k * n + c] = right[k, h + c]
        one = np.int64(1)
        multiply_panel(sums, START, n, left, START, left_row, left_k, rest, START, n, depth, rows, one, OVERWRITE)
        for r in range(rows):
            for c in range(columns - h):
                out[r, h + c] = sums[r * n + c]


@kernel
def matmul(inp, weight, out):
    """``out = inp @ weight``: (B, D), (D, H) -> (B, H), overwritten; `inp` of any dtype.

    Faster than the triple loop by keeping a tile of the result in registers while a column of `inp` and rows of
    `weight` stream past: each number loaded takes part in many multiplications.
    """
    n, (rows, depth) = lanes(out), inp.shape
    rest, sums = np.empty(depth * n, out.dtype), np.empty(rows * n, out.dtype)
    multiply_plain(out, inp.reshape(-1), depth, STRIDE_1, weight, depth, rest, sums)


@kernel
def dense_forward(inp, weight, bias, activation, out):
    """``out = activation(inp @ weight + bias)``: (B, D), (D, H), (H,) -> (B, H), overwritten."""
    n, (rows, depth) = lanes(out), inp.shape
    rest, sums = np.empty(depth * n, out.dtype), np.empty(rows * n, out.dtype)
    multiply_plain(out, inp.reshape(-1), depth, STRIDE_1, weight, depth, rest, sums)
    for s in range(len(out)):
        row = out[s]
        for h in range(len(row)):
            row[h] += bias[h]
        activate(activation, row)


@kernel
def dense_backward(dout, inp, weight, out, activation, dsum, dinp, dweight, dbias):
    """Gradients of a dense layer: dout (B, H), inp (B, D), weight (D, H), out (B, H).

    Overwrites dinp (B, D), dweight (D, H), dbias (H,) and dsum (B, H), the gradient before the activation. Both
    products are done by tiles; the transposed left-hand side of the second is a matter of strides.
    """
    dbias[:] = 0
    for s in range(len(dsum)):
        row = dsum[s]
        for h in range(len(row)):
            row[h] = dout[s, h]
        activate_backward(activation, row, out[s])
        for h in range(len(row)):
            dbias[h] += row[h]
    n, (rows, n_inputs), n_units = lanes(dsum), inp.shape, dsum.shape[1]
    rest = np.empty(max(rows, n_units) * n, dsum.dtype)
    sums = np.empty(max(rows, n_inputs) * n, dsum.dtype)
    multiply_plain(dinp, dsum.reshape(-1), n_units, STRIDE_1, weight.T.copy(), n_units, rest, sums)
    multiply_plain(dweight, inp.reshape(-1), STRIDE_1, n_inputs, dsum, rows, rest, sums)
