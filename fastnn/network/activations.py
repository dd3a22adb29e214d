"""The table of activations: one row each, with its formula, derivative, ONNX operators and C.

To add an activation, add a row. Files, ONNX, explanations and both backends look it up by its name; the compiled
backend runs the row's own NumPy functions until kernels for it exist.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

# The slope of leaky ReLU for negative inputs (Maas et al. 2013), and minus the limit of ELU at minus infinity (Clevert
# et al. 2016). PyTorch has the same defaults.
LEAKY_SLOPE, ELU_ALPHA = 0.01, 1.0


class Activation(NamedTuple):
    """One row of the table."""

    forward: Function  # the activation of each element; it must not change its argument
    derivative: Function  # the derivative at each element, from what `needs` names: an array, or the number 1
    needs: Literal["input", "output"]  # whether `derivative` takes the input or the output of the activation
    formula: str  # the activation in words, of ``sum``
    derivative_formula: str  # the derivative in words, of ``sum`` or ``output``
    # Adds the activation's ONNX nodes to a graph, after the tensor of a name, and returns the name of its result. The
    # graph has the methods ``add(operator, inputs, **attributes)`` and ``number(value)``.
    onnx: Callable[[Any, str], str]
    initializer: Literal["he", "glorot"] = "glorot"  # the distribution of the weights; see `Network.initialize`
    has_kink: bool = False  # whether the derivative jumps at 0: a central difference across the jump is meaningless
    is_piecewise_linear: bool = False  # whether it is a straight line on each side of 0
    can_die: bool = False  # whether it is 0 for all negative sums: a unit that has only these gets no gradient
    c: str | None = None  # the activation of a float x, as an expression in C99


def _operator(operator: str, **attributes: float) -> Callable[[Any, str], str]:
    return lambda graph, name: graph.add(operator, [name], **attributes)


def logistic(inp: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-inp))``, in an equal form that cannot overflow."""
    return 0.5 * (1 + np.tanh(0.5 * inp))


def _normal_cdf(inp: np.ndarray) -> np.ndarray:
    from scipy.special import erf  # imported here because only GELU needs it

    return 0.5 * (1 + erf(inp * np.sqrt(0.5).astype(inp.dtype)))


def _gelu_derivative(inp: np.ndarray) -> np.ndarray:
    return _normal_cdf(inp) + inp * np.exp(-0.5 * inp**2) / np.sqrt(2 * np.pi).astype(inp.dtype)


def _silu_derivative(inp: np.ndarray) -> np.ndarray:
    return logistic(inp) * (1 + inp * (1 - logistic(inp)))


def _onnx_elu(graph: Any, name: str) -> str:  # onnxruntime has Elu only for float32
    exp = graph.add("Exp", [graph.add("Min", [name, graph.number(0)])])
    return graph.add("Add", [graph.add("Relu", [name]), graph.add("Sub", [exp, graph.number(ELU_ALPHA)])])


def _onnx_gelu(graph: Any, name: str) -> str:
    # ONNX has Gelu only from opset 20 on, and onnxruntime has Erf only for float32.
    single = graph.add("Cast", [graph.add("Mul", [name, graph.number(0.5**0.5)])], to=1)  # 1: float32
    erf = graph.add("CastLike", [graph.add("Erf", [single]), name])
    cdf = graph.add("Mul", [graph.add("Add", [erf, graph.number(1)]), graph.number(0.5)])
    return graph.add("Mul", [name, cdf])


ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(
        forward=lambda inp: np.maximum(inp, 0),
        derivative=lambda out: out > 0,
        needs="output",
        formula="max(sum, 0)",
        derivative_formula="1 where the output is above 0, else 0",
        onnx=_operator("Relu"),
        initializer="he",
        has_kink=True,
        is_piecewise_linear=True,
        can_die=True,
        c="x > 0.0f ? x : 0.0f",
    ),
    "leaky_relu": Activation(
        forward=lambda inp: np.where(inp < 0, inp * inp.dtype.type(LEAKY_SLOPE), inp),
        derivative=lambda out: np.where(out > 0, 1, LEAKY_SLOPE).astype(out.dtype),
        needs="output",
        formula=f"sum where it is above 0, else {LEAKY_SLOPE} * sum",
        derivative_formula=f"1 where the output is above 0, else {LEAKY_SLOPE}",
        onnx=_operator("LeakyRelu", alpha=LEAKY_SLOPE),
        initializer="he",
        has_kink=True,
        is_piecewise_linear=True,
        c=f"x < 0.0f ? {LEAKY_SLOPE}f * x : x",
    ),
    "elu": Activation(
        forward=lambda inp: np.where(inp > 0, inp, np.expm1(np.minimum(inp, 0))),
        derivative=lambda out: np.where(out > 0, 1, out + ELU_ALPHA).astype(out.dtype),
        needs="output",
        formula="sum where it is above 0, else exp(sum) - 1",
        derivative_formula="1 where the output is above 0, else output + 1",
        onnx=_onnx_elu,
        initializer="he",
        c="x > 0.0f ? x : expm1f(x)",
    ),
    "gelu": Activation(
        forward=lambda inp: inp * _normal_cdf(inp),
        derivative=_gelu_derivative,
        needs="input",
        formula="sum * P(standard normal variable < sum)",
        derivative_formula="P(standard normal variable < sum) + sum * (standard normal density at sum)",
        onnx=_onnx_gelu,
        initializer="he",
        c="0.5f * x * (1.0f + erff(0.707106781f * x))",
    ),
    "silu": Activation(
        forward=lambda inp: inp * logistic(inp),
        derivative=_silu_derivative,
        needs="input",
        formula="sum * logistic(sum)",
        derivative_formula="logistic(sum) * (1 + sum * (1 - logistic(sum)))",
        onnx=lambda graph, name: graph.add("Mul", [name, graph.add("Sigmoid", [name])]),
        initializer="he",
        c="0.5f * x * (1.0f + tanhf(0.5f * x))",
    ),
    "tanh": Activation(
        forward=np.tanh,
        derivative=lambda out: 1 - out**2,
        needs="output",
        formula="tanh(sum)",
        derivative_formula="1 - output^2",
        onnx=_operator("Tanh"),
        c="tanhf(x)",
    ),
    "logistic": Activation(
        forward=logistic,
        derivative=lambda out: out * (1 - out),
        needs="output",
        formula="1 / (1 + exp(-sum))",
        derivative_formula="output * (1 - output)",
        onnx=_operator("Sigmoid"),
        c="0.5f * (1.0f + tanhf(0.5f * x))",
    ),
    "identity": Activation(
        forward=lambda inp: inp,
        derivative=np.ones_like,
        needs="output",
        formula="sum",
        derivative_formula="1",
        onnx=lambda graph, name: name,
        is_piecewise_linear=True,
        c="x",
    ),
}
"""Every activation by its name: dict of str to `Activation`.

GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) is the exact form with the normal distribution function, as PyTorch's
default. SiLU (Elfwing et al. 2018, arXiv:1702.03118) is also called swish.
"""
