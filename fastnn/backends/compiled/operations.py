"""The single operations of the Numba backend: each checks shapes, allocates its result and calls a kernel.

`fastnn.backends.base.Backend` describes their arguments.
"""

from typing import Any

import numpy as np

from fastnn.backends import reference
from fastnn.backends.base import check_labels, check_sample_weight, check_shapes, working_inputs
from fastnn.backends.compiled.layout import as_readonly
from fastnn.backends.reference import activate, activate_backward, batch_norm, batch_norm_backward, batch_norm_forward
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.kernels.ops import activations, losses
from fastnn.kernels.ops import matmul as dense_kernels
from fastnn.kernels.ops import softmax as softmax_kernels

__all__ = ["activate", "activate_backward", "batch_norm", "batch_norm_backward", "batch_norm_forward"]


def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return ``inp @ weight``."""
    check_shapes(inp=(inp, (None, None)), weight=(weight, (inp.shape[-1], None)))
    out = np.empty((inp.shape[0], weight.shape[1]), weight.dtype)
    dense_kernels.matmul(_array(inp), as_readonly(weight), out)
    return out


def relu(inp: np.ndarray) -> np.ndarray:
    """Return ``max(inp, 0)``; NaN stays NaN."""
    out = np.empty(inp.shape, inp.dtype)
    activations.relu(as_readonly(inp).reshape(-1), out.reshape(-1))
    return out


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return `dout` where `out` is above 0, and 0 elsewhere."""
    check_shapes(dout=(dout, out.shape))
    dinp = np.empty(out.shape, out.dtype)
    activations.relu_backward(as_readonly(dout).reshape(-1), as_readonly(out).reshape(-1), dinp.reshape(-1))
    return dinp


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of each row."""
    check_shapes(logits=(logits, (None, None)))
    out = np.empty(logits.shape, logits.dtype)
    softmax_kernels.softmax(as_readonly(logits), out)
    return out


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None, smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy of the softmax of `logits`, and its gradient."""
    check_shapes(logits=(logits, (None, None)))
    return mean_loss("softmax", logits, check_labels(labels, *logits.shape), sample_weight, smoothing)


def logistic_cross_entropy(
    logits: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the binary cross-entropy, summed over a row's outputs and averaged over rows, and its gradient."""
    check_shapes(logits=(logits, (None, None)), targets=(targets, logits.shape))
    return mean_loss("logistic", logits, targets, sample_weight)


def squared_error(
    outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return half the squared error, summed over a row's outputs and averaged over rows, and its gradient."""
    check_shapes(outs=(outs, (None, None)), targets=(targets, outs.shape))
    return mean_loss("identity", outs, targets, sample_weight)


def mean_loss(
    output: str,
    logits: np.ndarray,
    targets: np.ndarray,
    sample_weight: np.ndarray | None = None,
    smoothing: float = 0.0,
) -> tuple[float, np.ndarray]:
    """Return the mean loss that belongs to an output, and its gradient."""
    code = losses.OUTPUT_CODES.get(output)
    if code is None or smoothing:
        return reference.mean_loss(output, logits, targets, sample_weight, smoothing)
    dlogits, logits = np.empty(logits.shape, logits.dtype), as_readonly(logits)
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    weight = np.ones(len(logits)) if sample_weight is None else sample_weight.astype(np.float64)
    row_weights = (weight / weight.sum()).astype(logits.dtype)
    if code == losses.SOFTMAX_OUTPUT:
        return softmax_kernels.softmax_cross_entropy(logits, as_readonly(targets), row_weights, dlogits), dlogits
    targets = as_readonly(targets.astype(logits.dtype, copy=False))
    return losses.element_loss(code, logits, targets, row_weights, dlogits), dlogits


def dense_forward(inp: Any, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return ``inp @ weight + bias``."""
    if is_sparse(inp):  # SciPy's product of a sparse matrix and an array
        return reference.dense_forward(inp, weight, bias)
    check_shapes(inp=(inp, (None, len(weight))), weight=(weight, (None, None)), bias=(bias, weight.shape[1:]))
    out = np.empty((inp.shape[0], weight.shape[1]), weight.dtype)
    dense_kernels.dense_forward(_array(inp), as_readonly(weight), as_readonly(bias), activations.IDENTITY, out)
    return out


def dense_backward(
    dsums: np.ndarray, inp: Any, weight: np.ndarray, needs_dinp: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the gradients of a dense layer's input, weight and bias."""
    if is_sparse(inp):
        return reference.dense_backward(dsums, inp, weight, needs_dinp)
    check_shapes(inp=(inp, (len(dsums), len(weight))), weight=(weight, (None, dsums.shape[1])))
    dinp, dweight, dbias = (np.empty(shape, weight.dtype) for shape in (inp.shape, weight.shape, weight.shape[1]))
    dsums = as_readonly(dsums)
    dense_kernels.dense_backward(
        dsums, _array(inp), as_readonly(weight), dsums, activations.IDENTITY, dinp, dweight, dbias
    )
    return dinp if needs_dinp else None, dweight, dbias


def _array(inp: np.ndarray) -> np.ndarray:
    """`inp` in the form that the kernels of single operations accept."""
    if is_sparse(inp):
        raise DataError("inp is a sparse matrix, expected an array: only whole networks accept sparse inputs")
    return as_readonly(working_inputs(inp))
