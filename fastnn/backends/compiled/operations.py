"""The single operations of the Numba backend: each checks shapes, allocates its result and calls a kernel.

Dimensions: B samples in a batch, D inputs, H units, C classes.
"""

import numpy as np

from fastnn.backends.base import (
    check_labels,
    check_sample_weight,
    check_shapes,
    working_inputs,
)
from fastnn.backends.compiled.layout import as_readonly
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.kernels.ops import activations, losses
from fastnn.kernels.ops import matmul as dense_kernels
from fastnn.kernels.ops import softmax as softmax_kernels


def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return ``inp @ weight``.

    Parameters
    ----------
    inp : (B, D) array of real numbers
    weight : (D, H), float32 or float64

    Returns
    -------
    (B, H) array, in the weight's dtype

    Raises
    ------
    DataError
        A shape does not fit, or `inp` is sparse.
    """
    check_shapes(inp=(inp, (None, None)), weight=(weight, (inp.shape[-1], None)))
    out = np.empty((inp.shape[0], weight.shape[1]), weight.dtype)
    dense_kernels.matmul(_array(inp), as_readonly(weight), out)
    return out


def relu(inp: np.ndarray) -> np.ndarray:
    """Return ``max(inp, 0)``; NaN stays NaN.

    Parameters
    ----------
    inp : array of any shape, float32 or float64

    Returns
    -------
    array like `inp`
    """
    out = np.empty(inp.shape, inp.dtype)
    activations.relu(as_readonly(inp).reshape(-1), out.reshape(-1))
    return out


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return `dout` where `out` is above 0, and 0 elsewhere.

    Parameters
    ----------
    dout : array like `out`
        The gradient of `relu`'s result.
    out : array of any shape, float32 or float64
        The result of `relu`.

    Returns
    -------
    dinp : array like `out`
        The gradient of `relu`'s input.

    Raises
    ------
    DataError
        The shapes differ.
    """
    check_shapes(dout=(dout, out.shape))
    dinp = np.empty(out.shape, out.dtype)
    activations.relu_backward(as_readonly(dout).reshape(-1), as_readonly(out).reshape(-1), dinp.reshape(-1))
    return dinp


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of each row: probabilities that sum to 1.

    Parameters
    ----------
    logits : (B, C), float32 or float64

    Returns
    -------
    (B, C) array

    Raises
    ------
    DataError
        `logits` is not two-dimensional.
    """
    check_shapes(logits=(logits, (None, None)))
    out = np.empty(logits.shape, logits.dtype)
    softmax_kernels.softmax(as_readonly(logits), out)
    return out


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy of the softmax of `logits`, and its gradient.

    Parameters
    ----------
    logits : (B, C), float32 or float64
    labels : (B,) integers, 0 to C - 1
    sample_weight : (B,) array or None
        The samples' weights in the mean.

    Returns
    -------
    loss : float
    dlogits : (B, C) array

    Raises
    ------
    DataError
        A shape, a label or a sample weight is wrong.
    """
    check_shapes(logits=(logits, (None, None)))
    labels = check_labels(labels, *logits.shape)
    dlogits, row_weights = np.empty(logits.shape, logits.dtype), _row_weights(sample_weight, len(logits), logits.dtype)
    loss = softmax_kernels.softmax_cross_entropy(as_readonly(logits), as_readonly(labels), row_weights, dlogits)
    return loss, dlogits


def logistic_cross_entropy(
    logits: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the binary cross-entropy, summed over a row's outputs and averaged over rows, and its gradient.

    Parameters
    ----------
    logits : (B, C), float32 or float64
    targets : (B, C), numbers in [0, 1]
    sample_weight : (B,) array or None
        The samples' weights in the mean.

    Returns
    -------
    loss : float
    dlogits : (B, C) array

    Raises
    ------
    DataError
        A shape or a sample weight is wrong.
    """
    check_shapes(logits=(logits, (None, None)), targets=(targets, logits.shape))
    return _element_loss(losses.LOGISTIC_OUTPUT, logits, targets, sample_weight)


def squared_error(
    outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return half the squared error, summed over a row's outputs and averaged over rows, and its gradient.

    Parameters
    ----------
    outs : (B, C), float32 or float64
    targets : (B, C) numbers
    sample_weight : (B,) array or None
        The samples' weights in the mean.

    Returns
    -------
    loss : float
    douts : (B, C) array

    Raises
    ------
    DataError
        A shape or a sample weight is wrong.
    """
    check_shapes(outs=(outs, (None, None)), targets=(targets, outs.shape))
    return _element_loss(losses.IDENTITY_OUTPUT, outs, targets, sample_weight)


def _element_loss(
    output: int, outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None
) -> tuple[float, np.ndarray]:
    dout, row_weights = np.empty(outs.shape, outs.dtype), _row_weights(sample_weight, len(outs), outs.dtype)
    targets = as_readonly(targets.astype(outs.dtype, copy=False))
    return losses.element_loss(output, as_readonly(outs), targets, row_weights, dout), dout


def _row_weights(sample_weight: np.ndarray | None, n: int, dtype: np.dtype) -> np.ndarray:
    """Each sample's weight in the mean over the batch: (n,), with sum 1."""
    sample_weight = check_sample_weight(sample_weight, n, dtype)
    weight = np.ones(n) if sample_weight is None else sample_weight.astype(np.float64)
    return (weight / weight.sum()).astype(dtype)


def dense_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str = "identity") -> np.ndarray:
    """Return ``activation(inp @ weight + bias)``.

    Parameters
    ----------
    inp : (B, D) array of real numbers
    weight : (D, H), float32 or float64
    bias : (H,)
    activation : "identity", "relu", "tanh" or "logistic"

    Returns
    -------
    (B, H) array, in the weight's dtype

    Raises
    ------
    DataError
        A shape does not fit, or `inp` is sparse.
    """
    check_shapes(inp=(inp, (None, len(weight))), weight=(weight, (None, None)), bias=(bias, weight.shape[1:]))
    out = np.empty((inp.shape[0], weight.shape[1]), weight.dtype)
    code = activations.ACTIVATION_CODES[activation]
    dense_kernels.dense_forward(_array(inp), as_readonly(weight), as_readonly(bias), code, out)
    return out


def dense_backward(
    dout: np.ndarray, inp: np.ndarray, weight: np.ndarray, out: np.ndarray, activation: str = "identity"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of a dense layer.

    Parameters
    ----------
    dout : (B, H)
        The gradient of the layer's outputs.
    inp : (B, D) array of real numbers
    weight : (D, H), float32 or float64
    out : (B, H)
        The layer's outputs.
    activation : "identity", "relu", "tanh" or "logistic"

    Returns
    -------
    dinp : (B, D) array
    dweight : (D, H) array
    dbias : (H,) array

    Raises
    ------
    DataError
        A shape does not fit, or `inp` is sparse.
    """
    check_shapes(dout=(dout, out.shape), inp=(inp, (len(out), len(weight))), weight=(weight, (None, out.shape[1])))
    dinp, dweight, dbias = (np.empty(shape, weight.dtype) for shape in (inp.shape, weight.shape, weight.shape[1]))
    dense_kernels.dense_backward(
        as_readonly(dout), _array(inp), as_readonly(weight), as_readonly(out),
        activations.ACTIVATION_CODES[activation], dinp, dweight, dbias,
    )  # fmt: skip
    return dinp, dweight, dbias


def _array(inp: np.ndarray) -> np.ndarray:
    """`inp` in the form that the kernels of single operations accept."""
    if is_sparse(inp):
        raise DataError("inp is a sparse matrix, expected an array: only whole networks accept sparse inputs")
    return as_readonly(working_inputs(inp))
