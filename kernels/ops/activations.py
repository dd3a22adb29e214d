"""Activations of vectors, and their slopes. An integer code selects one, so each kernel is compiled once for all.

An activation is here if its derivative follows from its output: the backward pass has no other number.
"""

from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.vector.exp_log import vexp
from fastnn.kernels.vector.simd import ONE, vadd, vdiv, vlarger, vmul, vrelu, vscale_add, vsplat, vsub, vwhere_positive

IDENTITY, RELU, TANH, LOGISTIC, LEAKY_RELU, ELU = range(6)
ACTIVATION_CODES = {
    "identity": IDENTITY,
    "relu": RELU,
    "tanh": TANH,
    "logistic": LOGISTIC,
    "leaky_relu": LEAKY_RELU,
    "elu": ELU,
}
# The slope of leaky ReLU for negative inputs.
LEAKY_SLOPE = 0.01


@inlined
def vactivate(code, x, like):
    """The activation of one vector `x`. NaN stays NaN. `like` is an array of the dtype of `x`."""
    real = like.dtype.type
    if code == IDENTITY:
        return x
    if code == RELU:
        return vrelu(x)
    if code == LEAKY_RELU:
        return vlarger(x, vmul(vsplat(real(LEAKY_SLOPE), ONE), x))
    ones, minus = vsplat(real(1), ONE), vmul(vsplat(real(-1), ONE), x)
    if code == TANH:
        exponent = vadd(x, x)
    elif code == LOGISTIC:
        exponent = minus
    else:  # the negative part of x, which cannot overflow
        exponent = vmul(vsplat(real(-1), ONE), vrelu(minus))
    exp = vexp(exponent)
    if code == TANH:  # 1 - 2 / (exp(2 x) + 1)
        return vsub(ones, vdiv(vadd(ones, ones), vadd(exp, ones)))
    if code == LOGISTIC:  # 1 / (1 + exp(-x)), which is 0 where exp is infinite
        return vdiv(ones, vadd(ones, exp))
    return vadd(vrelu(x), vsub(exp, ones))


@inlined
def vslope(code, dout, out, like, scale):
    """`dout` times the derivative of the activation, for vectors.

    The derivative is computed from the output of the activation, which is ``scale * out``. `scale` has the dtype of the
    array `like` and of the vectors.
    """
    real = like.dtype.type
    if code == IDENTITY:
        return dout
    if code == RELU:
        return vwhere_positive(out, dout)
    ones, value = vsplat(real(1), ONE), vmul(vsplat(scale, ONE), out)
    if code == LEAKY_RELU:
        return vmul(dout, vlarger(vwhere_positive(out, ones), vsplat(real(LEAKY_SLOPE), ONE)))
    if code == TANH:
        return vmul(dout, vscale_add(real(-1), vmul(value, value), ones))
    if code == LOGISTIC:
        return vmul(dout, vmul(value, vsub(ones, value)))
    return vmul(dout, vsub(ones, vrelu(vmul(vsplat(real(-1), ONE), value))))  # ELU: 1, or 1 + a negative output


@kernel
def relu(inp, out):
    """``out = max(inp, 0)``. NaN stays NaN.

    This is the obvious loop: LLVM vectorises it without help.

    inp: (N,), float32 or float64
    out: (N,), the dtype of `inp`, overwritten
    """
    zero = out.dtype.type(0)
    for h in range(len(out)):
        out[h] = zero if inp[h] < zero else inp[h]


@kernel
def relu_backward(dout, out, dinp):
    """The gradient of `relu`: ``dinp = dout`` where `out` is positive, 0 elsewhere.

    This is the obvious loop: LLVM vectorises it without help.

    dout: (N,), float32 or float64
    out: (N,), the output of `relu`, same dtype
    dinp: (N,), same dtype, overwritten
    """
    zero = out.dtype.type(0)
    for h in range(len(dinp)):
        dinp[h] = dout[h] if out[h] > zero else zero
