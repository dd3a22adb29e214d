"""Activations, forward and backward, on vectors in place; which one is a number, so that one kernel serves all."""

import numpy as np

from fastnn.kernels.jit import inlined, kernel

IDENTITY, RELU, TANH, LOGISTIC = range(4)
CODES = {"identity": IDENTITY, "relu": RELU, "tanh": TANH, "logistic": LOGISTIC}


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
def activate_backward(code, dout, out, scale):
    """`dout` times the slope of the activation, in place; the slope is a function of the output ``scale * out``."""
    real = out.dtype.type
    if code == RELU:
        for h in range(len(out)):
            dout[h] = dout[h] if out[h] > real(0) else real(0)
    elif code == TANH:
        for h in range(len(out)):
            value = scale * out[h]
            dout[h] *= real(1) - value * value
    elif code == LOGISTIC:
        for h in range(len(out)):
            value = scale * out[h]
            dout[h] *= value * (real(1) - value)


@kernel
def relu(inp, out):
    """``out = max(inp, 0)``: both flat, one length. NaN stays NaN; `out` is overwritten."""
    out[:] = inp
    activate(RELU, out)


@kernel
def relu_backward(dout, out, dinp):
    """``dinp = dout`` where `out` is above 0, else 0: all flat, one length; `dinp` is overwritten."""
    dinp[:] = dout
    activate_backward(RELU, dinp, out, out.dtype.type(1))
