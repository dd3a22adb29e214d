"""Matrix products by register tiles, for panels and for plain arrays; and a dense layer, forward and backward.

Dimensions: B rows, D inputs, H units. A panel is a group of columns of whole vectors (`layout.py`).
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import Matrix, View
from fastnn.kernels.team import own_part
from fastnn.kernels.vector.simd import EIGHT, FOUR, ONE, SIX, TWO, WHOLE_REGISTERS, lanes
from fastnn.kernels.vector.tiles import tile

# The number of rows of the right-hand side per pass of a product: 16 KB at the width of the widest panel.
DEPTH = 64
# Typed constants, because Numba would compile a function again for each literal it is called with.
START, STRIDE_1, ONE_ROW, OVERWRITE = np.int64(0), np.int64(1), np.int64(1), np.bool_(False)


@inlined
def multiply(out, left, right, depth, rows, n, add, high):
    """``out (+)= left @ right`` for `rows` rows and ``len(n)`` vectors of columns, by tiles of ``len(high)`` rows.

    Faster than one pass over the whole depth: DEPTH rows of `right` at a time stay in the first-level cache for all
    tiles. The second-level cache delivers data only half as fast as the multiplications need it.

    If `add` is true, the product is added to `out`, otherwise it overwrites `out`.

    out: a `View`, (rows, len(n) vectors)
    left: a `Matrix`, (rows, depth)
    right: a `View`, (depth, len(n) vectors)
    """
    never_inline()
    for k in range(0, depth, DEPTH):
        part, more, whole = min(DEPTH, depth - k), add or k > 0, rows - rows % len(high)
        b = View(right.array, right.at + k * right.row, right.row)
        for r in range(0, whole, len(high)):
            o = View(out.array, out.at + r * out.row, out.row)
            a = Matrix(left.array, left.at + r * left.row + k * left.column, left.row, left.column)
            tile(o, a, b, part, high, n, more)
        for r in range(whole, rows):
            o = View(out.array, out.at + r * out.row, out.row)
            a = Matrix(left.array, left.at + r * left.row + k * left.column, left.row, left.column)
            tile(o, a, b, part, ONE, n, more)


@inlined
def _multiply_wide(out, left, right, depth, rows, vectors, add):
    """`multiply_panel` for CPUs with 32 registers of one whole vector each.

    Tiles of four rows by four vectors, or of eight by two, have sixteen sums. Together with the vectors of the
    right-hand side and one number they fill most of the registers. Tiles one vector wide have eight sums: with fewer, a
    CPU with two multiply units would wait for a sum before it can add to it again.
    """
    if vectors == 4:
        multiply(out, left, right, depth, rows, FOUR, add, FOUR)
    elif vectors == 2:
        multiply(out, left, right, depth, rows, TWO, add, EIGHT)
    else:
        multiply(out, left, right, depth, rows, ONE, add, EIGHT)


@inlined
def _multiply_narrow(out, left, right, depth, rows, vectors, add):
    """`multiply_panel` for CPUs whose registers are half a vector (AVX2) or a quarter of one (NEON).

    Tiles of six rows by one vector have six sums. They take 12 of the 16 registers of AVX2, or 24 of the 32 of NEON.
    """
    for h in range(0, vectors * lanes(out.array), lanes(out.array)):
        o, b = View(out.array, out.at + h, out.row), View(right.array, right.at + h, right.row)
        multiply(o, left, b, depth, rows, ONE, add, SIX)


# ``out (+)= left @ right`` like `multiply`, for a number of vectors that is known only at run time: 1, 2 or 4.
multiply_panel = _multiply_wide if WHOLE_REGISTERS else _multiply_narrow


@inlined
def multiply_plain(out, left, right, depth, rest, sums):
    """``out = left @ right`` for C-contiguous arrays. n is the number of lanes of a vector.

    The last columns, which do not fill a vector, are copied to scratch, so that tiles do all the work.

    out: (M, N), overwritten
    left: a `Matrix`, (M, depth)
    right: (depth, N)
    rest: (depth * n,) or longer, scratch for columns of `right`
    sums: (M * n,) or longer, scratch for columns of `out`
    """
    rows, columns = out.shape
    flat_out, flat_right, n = out.reshape(-1), right.reshape(-1), lanes(out)
    h = 0
    while h + n <= columns:
        vectors = 4 if h + 4 * n <= columns else 1
        o, b = View(flat_out, h, columns), View(flat_right, h, columns)
        multiply_panel(o, left, b, depth, rows, vectors, OVERWRITE)
        h += vectors * n
    if h < columns:
        for k in range(depth):
            rest[k * n + columns - h : (k + 1) * n] = 0
            for c in range(columns - h):
                rest[k * n + c] = right[k, h + c]
        multiply_panel(View(sums, START, n), left, View(rest, START, n), depth, rows, np.int64(1), OVERWRITE)
        for r in range(rows):
            for c in range(columns - h):
                out[r, h + c] = sums[r * n + c]


@kernel
def matmul(inp, weight, out):
    """The matrix product ``out = inp @ weight``.

    Faster than the triple loop because a tile of the result stays in registers while columns of `inp` and rows of
    `weight` stream past: each loaded number takes part in many multiplications.

    inp: (B, D), uint8, float32 or float64
    weight: (D, H), float32 or float64
    out: (B, H), the dtype of `weight`, overwritten
    """
    n, (rows, depth) = lanes(out), inp.shape
    rest, sums = np.empty(depth * n, out.dtype), np.empty(rows * n, out.dtype)
    multiply_plain(out, Matrix(inp.reshape(-1), START, depth, STRIDE_1), weight, depth, rest, sums)


@kernel
def dense_forward(member, inp, weight, bias, out):
    """A dense layer: ``out = inp @ weight + bias``, in this member's part of the rows.

    Faster than the obvious loops because the product is computed by tiles, as in `matmul`. One thread computes each
    number, so its bits do not depend on the number of threads.

    inp: (B, D), uint8, float32 or float64
    weight: (D, H), float32 or float64
    bias: (H,), the dtype of `weight`
    out: (B, H), the dtype of `weight`, overwritten
    """
    n, depth, part = lanes(out), inp.shape[1], own_part(member, len(out))
    own = out[part.start : part.stop]
    rest, sums = np.empty(depth * n, out.dtype), np.empty(len(own) * n, out.dtype)
    multiply_plain(own, Matrix(inp.reshape(-1), part.start * depth, depth, STRIDE_1), weight, depth, rest, sums)
    for s in range(len(own)):
        for h in range(len(bias)):
            own[s, h] += bias[h]


@kernel
def dense_backward(member, dsums, inp, weight, dinp, dweight, dbias):
    """The gradients of a dense layer, in this member's part of the rows of `dinp` and `dweight`.

    Faster than the obvious loops because both products are computed by tiles, as in `matmul`. The second one reads
    `inp` transposed by its strides alone, without a copy.

    dsums: (B, H), float32 or float64, the gradient of the weighted sums
    inp: (B, D), uint8, float32 or float64
    weight: (D, H), the dtype of `dsums`
    dinp: (B, D), overwritten, or (0, D) if nobody needs it
    dweight: (D, H), overwritten
    dbias: (H,), overwritten
    """
    n, (rows, n_inputs), n_units = lanes(dsums), inp.shape, len(dbias)
    rest, sums = np.empty(max(rows, n_units) * n, dsums.dtype), np.empty(max(rows, n_inputs) * n, dsums.dtype)
    part = own_part(member, len(dinp))
    if len(part):
        left = Matrix(dsums.reshape(-1), part.start * n_units, n_units, STRIDE_1)
        multiply_plain(dinp[part.start : part.stop], left, weight.T.copy(), n_units, rest, sums)
    part = own_part(member, n_inputs)
    left = Matrix(inp.reshape(-1), part.start, STRIDE_1, n_inputs)
    multiply_plain(dweight[part.start : part.stop], left, dsums, rows, rest, sums)
    if member.t == 0:
        dbias[:] = 0
        for s in range(rows):
            for h in range(n_units):
                dbias[h] += dsums[s, h]
