"""Matrix products by register tiles, for panels and for plain arrays; and a dense layer, forward and backward.

Dimensions: B rows, D inputs, H units. A panel is a group of columns of whole vectors (`layout.py`).
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import Matrix, View
from fastnn.kernels.team import own_part
from fastnn.kernels.vector.memory import flattened
from fastnn.kernels.vector.simd import EIGHT, FOUR, ONE, SIX, TWO, VECTOR, WHOLE_REGISTERS, lanes
from fastnn.kernels.vector.tiles import tile

# The number of rows of the right-hand side per pass of a product: 32 KB at the width of the widest panel. A first-level
# cache of 48 KB holds them; one of 32 KB was not measured.
DEPTH = 128
# Typed constants, because Numba would compile a function again for each literal it is called with.
START, STRIDE_1, ONE_ROW, OVERWRITE = np.int64(0), np.int64(1), np.int64(1), np.bool_(False)


class Scratch(NamedTuple):
    """Memory for the last columns of a product, which do not fill a vector. n is the number of lanes of a vector.

    rest: (depth * n,) or longer, for columns of the right-hand side
    sums: (rows * n,) or longer, for columns of the product
    """

    rest: np.ndarray
    sums: np.ndarray


def new_scratch(depth: int, rows: int, dtype: np.dtype) -> Scratch:
    """Scratch for products of at most `rows` rows, over at most `depth` numbers each."""
    n = VECTOR // dtype.itemsize
    return Scratch(np.empty(depth * n, dtype), np.empty(rows * n, dtype))


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
def multiply_plain(out, left, right, depth, scratch):
    """``out = left @ right`` for C-contiguous arrays.

    The last columns, which do not fill a vector, are copied to scratch, so that tiles do all the work.

    out: (M, N), overwritten
    left: a `Matrix`, (M, depth)
    right: (depth, N)
    scratch: a `Scratch` for this depth and M rows
    """
    (rows, columns), (rest, sums) = out.shape, scratch
    flat_out, flat_right, n = flattened(out), flattened(right), lanes(out)
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
def matmul(inp, weight, out, scratch):
    """The matrix product ``out = inp @ weight``.

    Faster than the triple loop because a tile of the result stays in registers while columns of `inp` and rows of
    `weight` stream past: each loaded number takes part in many multiplications.

    inp: (B, D), uint8, float32 or float64
    weight: (D, H), float32 or float64
    out: (B, H), the dtype of `weight`, overwritten
    scratch: a `Scratch` for depth D and B rows
    """
    depth = inp.shape[1]
    multiply_plain(out, Matrix(flattened(inp), START, depth, STRIDE_1), weight, depth, scratch)


@kernel
def dense_forward(member, inp, weight, bias, out, scratch):
    """A dense layer: ``out = inp @ weight + bias``, in this member's part of the rows.

    Faster than the obvious loops because the product is computed by tiles, as in `matmul`. One thread computes each
    number, so its bits do not depend on the number of threads.

    inp: (B, D), uint8, float32 or float64
    weight: (D, H), float32 or float64
    bias: (H,), the dtype of `weight`
    out: (B, H), the dtype of `weight`, overwritten
    scratch: this thread's own `Scratch` for depth D and B rows
    """
    depth, part = inp.shape[1], own_part(member, len(out))
    own = out[part.start : part.stop]
    multiply_plain(own, Matrix(flattened(inp), part.start * depth, depth, STRIDE_1), weight, depth, scratch)
    for s in range(len(own)):
        for h in range(len(bias)):
            own[s, h] += bias[h]


@kernel
def dense_backward(member, dsums, inp, transposed, dinp, dweight, dbias, scratch):
    """The gradients of a dense layer, in this member's part of the rows of `dinp` and `dweight`.

    Faster than the obvious loops because both products are computed by tiles, as in `matmul`. The second one reads
    `inp` transposed by its strides alone, without a copy.

    dsums: (B, H), float32 or float64, the gradient of the weighted sums
    inp: (B, D), uint8, float32 or float64
    transposed: (H, D), the dtype of `dsums`, the transposed weight; not read if `dinp` is empty
    dinp: (B, D), overwritten, or (0, D) if nobody needs it
    dweight: (D, H), overwritten
    dbias: (H,), overwritten
    scratch: this thread's own `Scratch` for depth B or H, and B or D rows, whichever is larger
    """
    (rows, n_inputs), n_units = inp.shape, len(dbias)
    part = own_part(member, len(dinp))
    if len(part):
        left = Matrix(flattened(dsums), part.start * n_units, n_units, STRIDE_1)
        multiply_plain(dinp[part.start : part.stop], left, transposed, n_units, scratch)
    part = own_part(member, n_inputs)
    left = Matrix(flattened(inp), part.start, STRIDE_1, n_inputs)
    multiply_plain(dweight[part.start : part.stop], left, dsums, rows, scratch)
    if member.t == 0:
        dbias[:] = 0
        for s in range(rows):
            for h in range(n_units):
                dbias[h] += dsums[s, h]
