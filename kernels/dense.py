"""A dense layer, forward and backward: linear map, bias and activation in one pass.

Dimensions: B rows, D inputs, H units. Work is done a panel of columns at a time (`matmul.PANEL`), and each function
here does one panel, columns lo to hi: a thread that owns panels calls it for its own.
"""

from fastnn.kernels.activations import activate, activate_backward
from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.matmul import PANEL, add_scaled_rows, dot


@inlined
def forward_row(inp, which, count, scale, weight, bias, activation, out, lo, hi):
    """``out = activation(scale * (inp @ weight) + bias)`` for one row, columns lo to hi.

    inp (D,), any dtype, of which the first `count` entries of `which` are visited; weight (D, H), bias (H,); out (hi -
    lo,) is overwritten. The sum, the bias and the activation are done while the panel is in the first-level cache.
    """
    out[:] = 0
    add_scaled_rows(out, inp, which, count, weight, lo, hi)
    part = bias[lo:hi]
    for h in range(hi - lo):
        out[h] = scale * out[h] + part[h]
    activate(activation, out)


@inlined
def input_gradient_row(dout, weight, dinp, lo, hi):
    """``dinp[lo:hi] = dout @ weight[lo:hi].T`` for one row: dout (H,), weight (D, H), dinp (D,)."""
    for i in range(lo, hi):
        dinp[i] = dot(dout, weight[i])


@inlined
def add_weight_gradient(inp, rows, i, which, count, dout, lo, hi, dweight_row):
    """Add column i's part of the weight gradient over the samples `which`: ``dweight_row += inp[:, i] @ dout[:,
    lo:hi]``.

    inp (N, D), whose row for sample s is rows[s]; dout (B, H); the first `count` entries of `which` are visited;
    dweight_row (hi - lo,). Four samples at a time, as in `add_scaled_rows`.
    """
    real, width = dout.dtype.type, hi - lo
    k = 0
    while k + 4 <= count:
        s0, s1, s2, s3 = which[k], which[k + 1], which[k + 2], which[k + 3]
        x0, x1 = real(inp[rows[s0], i]), real(inp[rows[s1], i])
        x2, x3 = real(inp[rows[s2], i]), real(inp[rows[s3], i])
        row0, row1, row2, row3 = dout[s0, lo:hi], dout[s1, lo:hi], dout[s2, lo:hi], dout[s3, lo:hi]
        for h in range(width):
            dweight_row[h] += (x0 * row0[h] + x1 * row1[h]) + (x2 * row2[h] + x3 * row3[h])
        k += 4
    while k < count:
        s = which[k]
        x, row = real(inp[rows[s], i]), dout[s, lo:hi]
        for h in range(width):
            dweight_row[h] += x * row[h]
        k += 1


@kernel
def dense_forward(inp, weight, bias, activation, which, out):
    """``out = activation(inp @ weight + bias)``: (B, D), (D, H), (H,) -> (B, H), overwritten; `which`: 0 ... D - 1."""
    for lo in range(0, out.shape[1], PANEL):
        hi = min(lo + PANEL, out.shape[1])
        for s in range(out.shape[0]):
            forward_row(inp[s], which, len(which), out.dtype.type(1), weight, bias, activation, out[s, lo:hi], lo, hi)


@kernel
def dense_backward(dout, inp, weight, out, activation, rows, dsum, dinp, dweight, dbias):
    """Gradients of a dense layer: dout (B, H), inp (B, D), weight (D, H), out (B, H); `rows` is 0 ... B - 1.

    Overwrites dinp (B, D), dweight (D, H), dbias (H,) and dsum (B, H), the gradient before the activation. All of a
    panel's outputs are computed while its columns of dsum are at hand.
    """
    dsum[:], dbias[:], dweight[:] = dout, 0, 0
    for s in range(dsum.shape[0]):
        activate_backward(activation, dsum[s], out[s], out.dtype.type(1))
        input_gradient_row(dsum[s], weight, dinp[s], 0, dinp.shape[1])
        for h in range(dsum.shape[1]):
            dbias[h] += dsum[s, h]
    for lo in range(0, dsum.shape[1], PANEL):
        hi = min(lo + PANEL, dsum.shape[1])
        for i in range(inp.shape[1]):
            add_weight_gradient(inp, rows, i, rows, len(rows), dsum, lo, hi, dweight[i, lo:hi])
