"""Matrix product: the sum of scaled rows that forward and backward passes are made of.

Dimensions: B rows, D inputs, H columns.
"""

from fastnn.kernels.jit import inlined, kernel

# Columns are worked on in panels of this width: a panel of an output row stays in the first-level cache while the rows
# of the weight stream past, and a panel is what a thread owns.
PANEL = 64


@inlined
def n_panels(width):
    """How many panels `width` columns make; the last may be narrower."""
    return (width + PANEL - 1) // PANEL


@inlined
def add_scaled_rows(out, factors, which, count, weight, lo, hi):
    """``out += factors[which] @ weight[which, lo:hi]`` over the first `count` entries of `which`.

    out (hi - lo,); factors (D,), any dtype; which (>= count,) indices; weight (D, H). Four rows at a time, so that
    `out` is loaded and stored once for four multiply-adds.
    """
    real, width = out.dtype.type, hi - lo
    k = 0
    while k + 4 <= count:
        i0, i1, i2, i3 = which[k], which[k + 1], which[k + 2], which[k + 3]
        x0, x1, x2, x3 = real(factors[i0]), real(factors[i1]), real(factors[i2]), real(factors[i3])
        row0, row1, row2, row3 = weight[i0, lo:hi], weight[i1, lo:hi], weight[i2, lo:hi], weight[i3, lo:hi]
        for h in range(width):
            out[h] += (x0 * row0[h] + x1 * row1[h]) + (x2 * row2[h] + x3 * row3[h])
        k += 4
    while k < count:
        i = which[k]
        x, row = real(factors[i]), weight[i, lo:hi]
        for h in range(width):
            out[h] += x * row[h]
        k += 1


@inlined
def dot(left, right):
    """Inner product of two vectors of one length."""
    total = left.dtype.type(0)
    for h in range(len(left)):
        total += left[h] * right[h]
    return total


@kernel
def matmul(inp, weight, which, out):
    """``out = inp @ weight``: (B, D), (D, H) -> (B, H). `which` is 0 ... D - 1; `out` is overwritten.

    Faster than the triple loop because the inner one runs along rows, which LLVM turns into vectors, within a panel.
    """
    for lo in range(0, out.shape[1], PANEL):
        hi = min(lo + PANEL, out.shape[1])
        for s in range(out.shape[0]):
            row = out[s, lo:hi]
            row[:] = 0
            add_scaled_rows(row, inp[s], which, len(which), weight, lo, hi)
