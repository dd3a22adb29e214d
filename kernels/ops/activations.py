"""Activations, forward and backward; which one is a number, so that one kernel serves all.

Each stands twice: for vectors, inside the epoch, and for rows of plain arrays.
"""

import numpy as np

from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.vector.exp_log import vexp
from fastnn.kernels.vector.simd import ONE, vadd, vdiv, vmul, vrelu, vscale_add, vsplat, vsub, vwhere_positive

IDENTITY, RELU, TANH, LOGISTIC = range(4)
ACTIVATION_CODES = {"identity": IDENTITY, "relu": RELU, "tanh": TANH, "logistic": LOGISTIC}


@inlined
def vactivate(code, x, one):
    """The activation of one vector; `one` is 1 in its dtype. NaN stays NaN."""
    if code == RELU:
        return vrelu(x)
    if code == TANH:  # 1 - 2 / (exp(2 x) + 1)
        ones = vsplat(one, ONE)
        return vsub(ones, vdiv(vadd(ones, ones), vadd(vexp(vadd(x, x)), ones)))
    if code == LOGISTIC:  # 1 / (1 + exp(-x)); where exp is infinite it is 0
        ones = vsplat(one, ONE)
        return vdiv(ones, vadd(ones, vexp(vmul(vsplat(-one, ONE), x))))
    return x


@inlined
def vslope(code, dout, out, one, scale):
    """`dout` times the slope of the activation, which is a function of its output ``scale * out``: vectors."""
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
    """``out = activation(out)``, in place. NaN stays NaN."""
    real = out.dtype.type
    if code == RELU:
        for h in range(len(out)):
            out[h] = real(0) if out[h] < real(0) else out[h]
    elif code == TANH:
        for h in range(len(out)):
            out[h] = np.tanh(out[h])
    elif code == LOGISTIC:
        for h in range(len(out)):  # 1 / (1 + exp(-out)), written so that no exp can overflow
            out[h] = real(0.5) * (real(1) + np.tanh(real(0.5) * out[h]))


@inlined
def activate_backward(code, dout, out):
    """`dout` times the slope of the activation, in place; the slope is a function of the output `out`."""
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
    """``out = max(inp, 0)``: both flat, one length. NaN stays NaN; `out` is overwritten."""
    for h in range(len(out)):
        out[h] = inp[h]
    activate(RELU, out)


@kernel
def relu_backward(dout, out, dinp):
    """``dinp = dout`` where `out` is above 0, else 0: all flat, one length; `dinp` is overwritten."""
    for h in range(len(dinp)):
        dinp[h] = dout[h]
    activate_backward(RELU, dinp, out)
