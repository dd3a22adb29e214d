"""Activations, forward and backward. An integer code selects one, so that each kernel is compiled once for all of them.

Each activation is defined twice: on vectors, for the epoch kernels, and on rows of plain arrays.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.vector.exp_log import vexp
from fastnn.kernels.vector.simd import ONE, vadd, vdiv, vmul, vrelu, vscale_add, vsplat, vsub, vwhere_positive

IDENTITY, RELU, TANH, LOGISTIC = range(4)
ACTIVATION_CODES = {"identity": IDENTITY, "relu": RELU, "tanh": TANH, "logistic": LOGISTIC}


@inlined
def vactivate(code, x, one):
    """The activation of one vector `x`. NaN stays NaN. `one` is 1 in the dtype of `x`."""
    if code == RELU:
        return vrelu(x)
    if code == TANH:  # 1 - 2 / (exp(2 x) + 1)
        ones = vsplat(one, ONE)
        return vsub(ones, vdiv(vadd(ones, ones), vadd(vexp(vadd(x, x)), ones)))
    if code == LOGISTIC:  # 1 / (1 + exp(-x)), which is 0 where exp is infinite
        ones = vsplat(one, ONE)
        return vdiv(ones, vadd(ones, vexp(vmul(vsplat(-one, ONE), x))))
    return x


@inlined
def vslope(code, dout, out, one, scale):
    """`dout` times the derivative of the activation, for vectors.

    The derivative is computed from the output of the activation, which is ``scale * out``. `one` and `scale` are in the
    dtype of the vectors.
    """
    if code == RELU:
        return vwhere_positive(out, dout)
    if code == TANH:
        value = vmul(vsplat(scale, ONE), out)
        return vmul(dout, vscale_add(-one, vmul(value, value), vsplat(one, ONE)))
    if code == LOGISTIC:
        value = vmul(vsplat(scale, ONE), out)
        return vmul(dout, vmul(value, vsub(vsplat(one, ONE), value)))
    return dout


@inlined
def activate(code, out):
    """Apply the activation to `out` in place. NaN stays NaN.

    out: (H,), overwritten
    """
    real = out.dtype.type
    if code == RELU:
        for h in range(len(out)):
            out[h] = real(0) if out[h] < real(0) else out[h]
    elif code == TANH:
        for h in range(len(out)):
            out[h] = np.tanh(out[h])
    elif code == LOGISTIC:
        for h in range(len(out)):  # 1 / (1 + exp(-out)) in a form that cannot overflow
            out[h] = real(0.5) * (real(1) + np.tanh(real(0.5) * out[h]))


@inlined
def activate_backward(code, dout, out):
    """Multiply `dout` in place by the derivative of the activation, which is computed from its output `out`.

    dout: (H,), overwritten
    out: (H,)
    """
    real = out.dtype.type
    if code == RELU:
        for h in range(len(out)):
            dout[h] = dout[h] if out[h] > real(0) else real(0)
    elif code == TANH:
        for h in range(len(out)):
            dout[h] *= real(1) - out[h] * out[h]
    elif code == LOGISTIC:
        for h in range(len(out)):
            dout[h] *= out[h] * (real(1) - out[h])


@kernel
def relu(inp, out):
    """``out = max(inp, 0)``. NaN stays NaN.

    This is the obvious loop: LLVM vectorises it without help.

    inp: (N,), float32 or float64
    out: (N,), the dtype of `inp`, overwritten
    """
    for h in range(len(out)):
        out[h] = inp[h]
    activate(RELU, out)


@kernel
def relu_backward(dout, out, dinp):
    """The gradient of `relu`: ``dinp = dout`` where `out` is positive, 0 elsewhere.

    This is the obvious loop: LLVM vectorises it without help.

    dout: (N,), float32 or float64
    out: (N,), the output of `relu`, same dtype
    dinp: (N,), same dtype, overwritten
    """
    for h in range(len(dinp)):
        dinp[h] = dout[h]
    activate_backward(RELU, dinp, out)
