"""The single operations of the Numba backend: each checks shapes, allocates its result and calls a kernel.

`fastnn.backends.base.Backend` describes their arguments. Each operation runs on one thread; in `with_threads`, dense
layers and convolutions run on several.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn.backends import reference
from fastnn.backends.arguments import (
    check_image_shapes,
    check_labels,
    check_logits,
    check_logits_of_loss,
    check_numbers,
    check_sample_weight,
    check_shapes,
)
from fastnn.backends.base import named_losses
from fastnn.backends.compiled.image_operations import ConvOperation
from fastnn.backends.compiled.layout import REAL_DTYPES, as_readonly
from fastnn.backends.reference import (
    activate,
    activate_backward,
    avg_pool,
    avg_pool_backward,
    max_pool,
    max_pool_backward,
)
from fastnn.backends.threads import resolve_threads
from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.errors import DataError
from fastnn.kernels import team
from fastnn.kernels.ops import activations, losses
from fastnn.kernels.ops import batch_norm as batch_norm_kernels
from fastnn.kernels.ops import matmul as dense_kernels
from fastnn.kernels.ops import softmax as softmax_kernels
from fastnn.network.layers.windows import Pair

__all__ = [
    "activate",
    "activate_backward",
    "avg_pool",
    "avg_pool_backward",
    "max_pool",
    "max_pool_backward",
]

# Names a dtype to kernels.
_FLOAT64 = np.empty(0)

# A product of at most this many multiplications, about half a millisecond, gains nothing from a second thread: starting
# the thread takes 0.15 ms.
ONE_THREAD_PRODUCT = 2**24
# During a product of more multiplications, about 20 ms of work, the caller's thread only waits, so that Ctrl-C reaches
# it.
SHORT_PRODUCT = 2**30


def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return ``inp @ weight``."""
    check_shapes(inp=(inp, (None, None)))
    check_shapes(weight=(weight, (inp.shape[1], None)))
    if is_sparse(inp):
        raise DataError("inp is a sparse matrix, expected an array: only whole networks accept sparse inputs")
    if not _have_kernels(weight) or not inp.size:
        return _by_reference(reference.matmul, inp, weight)
    out = np.empty((inp.shape[0], weight.shape[1]), weight.dtype)
    scratch = dense_kernels.new_scratch(len(weight), len(out), weight.dtype)
    dense_kernels.matmul(_in_dtype(inp, weight), as_readonly(weight), out, scratch)
    return out


def relu(inp: np.ndarray) -> np.ndarray:
    """Return ``max(inp, 0)``; NaN stays NaN."""
    check_numbers(inp=inp)
    if not _have_kernels(inp):
        return _by_reference(reference.relu, inp)
    out = np.empty(inp.shape, inp.dtype)
    activations.relu(as_readonly(inp).reshape(-1), out.reshape(-1))
    return out


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return `dout` where `out` is above 0, and 0 elsewhere."""
    check_numbers(dout=dout, out=out)
    check_shapes(dout=(dout, out.shape))
    if not _have_kernels(dout, out):
        return _by_reference(reference.relu_backward, dout, out)
    dinp = np.empty(out.shape, out.dtype)
    activations.relu_backward(as_readonly(dout).reshape(-1), as_readonly(out).reshape(-1), dinp.reshape(-1))
    return dinp


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of each row."""
    check_logits(logits)
    if not _have_kernels(logits):
        return _by_reference(reference.softmax, logits)
    out = np.empty(logits.shape, logits.dtype)
    softmax_kernels.softmax(as_readonly(logits), out, softmax_kernels.new_scratch(logits))
    return out


def mean_loss(
    output: str,
    logits: np.ndarray,
    targets: np.ndarray,
    sample_weight: np.ndarray | None = None,
    smoothing: float = 0.0,
) -> tuple[float, np.ndarray]:
    """Return the mean loss that belongs to an output, and its gradient."""
    code = losses.OUTPUT_CODES.get(output)
    if code is None:
        return reference.mean_loss(output, logits, targets, sample_weight, smoothing)
    check_logits_of_loss(logits)
    dlogits, logits = np.empty(logits.shape, logits.dtype), as_readonly(logits)
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    weight = np.ones(len(logits)) if sample_weight is None else sample_weight.astype(np.float64)
    row_weights = (weight / weight.sum()).astype(logits.dtype)
    if code == losses.SOFTMAX_OUTPUT:  # the kernel writes where a label says, so a copy is checked
        labels = as_readonly(check_labels(targets, *logits.shape))
        scratch = softmax_kernels.new_scratch(logits)
        loss = softmax_kernels.softmax_cross_entropy(logits, labels, row_weights, float(smoothing), dlogits, scratch)
        return loss, dlogits
    check_shapes(targets=(targets, logits.shape))
    targets = as_readonly(targets.astype(logits.dtype, copy=False))
    return losses.element_loss(code, logits, targets, row_weights, dlogits, _FLOAT64), dlogits


softmax_cross_entropy, logistic_cross_entropy, squared_error = named_losses(mean_loss)


def dense_forward(inp: Any, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return ``inp @ weight + bias``."""
    return _dense_forward(1, inp, weight, bias)


def dense_backward(
    dsums: np.ndarray, inp: Any, weight: np.ndarray, needs_dinp: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the gradients of a dense layer's input (None unless needed), weight and bias."""
    return _dense_backward(1, dsums, inp, weight, needs_dinp)


def with_threads(threads: int | None) -> SimpleNamespace:
    """Return all operations, with dense layers and convolutions on up to `threads` threads and with the same bits."""
    count = resolve_threads(threads)
    several = {
        "dense_forward": partial(_dense_forward, count),
        "dense_backward": partial(_dense_backward, count),
        "conv_forward": partial(_conv_forward, count),
        "conv_backward": partial(_conv_backward, count),
    }
    return SimpleNamespace(**globals() | several)


def _dense_forward(threads: int, inp: Any, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    check_shapes(weight=(weight, (None, None)), inp=(inp, (None, None)))
    check_shapes(inp=(inp, (None, len(weight))), bias=(bias, weight.shape[1:]))
    if is_sparse(inp):  # SciPy's product of a sparse matrix and an array
        return _by_reference(reference.dense_forward, canonical(inp), weight, bias)
    if not _have_kernels(weight, bias) or not inp.size:
        return _by_reference(reference.dense_forward, inp, weight, bias)
    out = np.empty((inp.shape[0], weight.shape[1]), weight.dtype)
    arrays = _in_dtype(inp, weight), as_readonly(weight), as_readonly(bias), out
    scratch = partial(dense_kernels.new_scratch, len(weight), len(inp), weight.dtype)
    _run(dense_kernels.dense_forward, threads, weight.size * len(inp), arrays, scratch)
    return out


def _dense_backward(
    threads: int, dsums: np.ndarray, inp: Any, weight: np.ndarray, needs_dinp: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    check_shapes(dsums=(dsums, (None, None)), weight=(weight, (None, None)))
    check_shapes(inp=(inp, (len(dsums), len(weight))), weight=(weight, (None, dsums.shape[1])))
    if is_sparse(inp):
        return _by_reference(reference.dense_backward, dsums, canonical(inp), weight, needs_dinp)
    if not _have_kernels(dsums, weight) or not inp.size:
        return _by_reference(reference.dense_backward, dsums, inp, weight, needs_dinp)
    dinp = np.empty((len(inp) if needs_dinp else 0, len(weight)), weight.dtype)
    dweight, dbias = np.empty(weight.shape, weight.dtype), np.empty(weight.shape[1], weight.dtype)
    transposed = np.ascontiguousarray(weight.T if needs_dinp else weight[:0])
    arrays = as_readonly(dsums), _in_dtype(inp, weight), as_readonly(transposed), dinp, dweight, dbias
    depth, rows = max(len(inp), len(dbias)), max(inp.shape)
    scratch = partial(dense_kernels.new_scratch, depth, rows, weight.dtype)
    _run(dense_kernels.dense_backward, threads, weight.size * (len(inp) + len(dinp)), arrays, scratch)
    return dinp if needs_dinp else None, dweight, dbias


def conv_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    """Return the convolution of images, plus `bias`."""
    return _conv_forward(1, inp, weight, bias, stride, padding)


def conv_backward(
    dsums: np.ndarray, inp: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, needs_dinp: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the gradients of a convolution's input (None unless needed), weight and bias."""
    return _conv_backward(1, dsums, inp, weight, stride, padding, needs_dinp)


def _conv_forward(
    threads: int, inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair
) -> np.ndarray:
    check_image_shapes(inp, weight, stride, padding, bias=bias)
    if not _has_image_kernel(padding, weight, inp, bias):
        return _by_reference(reference.conv_forward, inp, weight, bias, stride, padding)
    operation = ConvOperation.of(inp.shape, weight.shape, weight.dtype, stride, padding)
    return operation.forward(_in_dtype(inp, weight), as_readonly(weight), as_readonly(bias), threads)


def _conv_backward(
    threads: int,
    dsums: np.ndarray,
    inp: np.ndarray,
    weight: np.ndarray,
    stride: Pair,
    padding: Pair,
    needs_dinp: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    check_image_shapes(inp, weight, stride, padding, dsums=dsums)
    if not _has_image_kernel(padding, weight, inp, dsums):
        return _by_reference(reference.conv_backward, dsums, inp, weight, stride, padding, needs_dinp)
    operation = ConvOperation.of(inp.shape, weight.shape, weight.dtype, stride, padding, needs_dinp)
    return operation.backward(as_readonly(dsums), _in_dtype(inp, weight), as_readonly(weight), threads)


def _has_image_kernel(padding: Pair, weight: np.ndarray, inp: np.ndarray, other: np.ndarray) -> bool:
    """Whether a kernel computes a convolution. With more padding, some places would see nothing of the image."""
    is_usual = all(pad < size for pad, size in zip(padding, weight.shape[1:3], strict=True))
    return is_usual and inp.size > 0 and _have_kernels(weight, other)


def _run(
    kernel: Callable[..., None],
    threads: int,
    n_multiplications: int,
    arrays: tuple[np.ndarray, ...],
    scratch: Callable[[], tuple[np.ndarray, ...]],
) -> None:
    """Call a kernel as each member of a team, which has one thread if the product is small."""
    size = 1 if n_multiplications <= ONE_THREAD_PRODUCT else threads
    is_short = n_multiplications <= SHORT_PRODUCT
    team.run_team(lambda member: kernel(member, *arrays, scratch()), size, caller_works=is_short)


def batch_norm(
    inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> np.ndarray:
    """Return ``weight * (inp - mean) / sqrt(variance + epsilon) + bias``."""
    _check_units(inp, weight=weight, bias=bias, mean=mean, variance=variance)
    if not _have_kernels(inp, weight, bias, mean, variance):
        return _by_reference(reference.batch_norm, inp, weight, bias, mean, variance, epsilon)
    out, factor = np.empty(inp.shape, inp.dtype), weight * _slope(variance, epsilon)
    batch_norm_kernels.batch_norm(*map(as_readonly, (inp, mean, factor, bias)), out)
    return out


def batch_norm_forward(
    inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `batch_norm` with the mean and variance of the batch, and both."""
    _check_units(inp, weight=weight, bias=bias)
    if not _have_kernels(inp, weight, bias):
        return _by_reference(reference.batch_norm_forward, inp, weight, bias, epsilon)
    mean, variance = np.empty((2, inp.shape[1]), inp.dtype)
    batch_norm_kernels.batch_statistics(as_readonly(inp), mean, variance, np.empty(inp.shape[1]))
    return batch_norm(inp, weight, bias, mean, variance, epsilon), mean, variance


def batch_norm_backward(
    dout: np.ndarray, inp: np.ndarray, weight: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of the input, weight and bias of batch normalisation with the statistics of the batch."""
    _check_units(inp, weight=weight, mean=mean, variance=variance)
    check_shapes(dout=(dout, inp.shape))
    if not _have_kernels(dout, inp, weight, mean, variance):
        return _by_reference(reference.batch_norm_backward, dout, inp, weight, mean, variance, epsilon)
    dinp, (dweight, dbias) = np.empty(inp.shape, inp.dtype), np.empty((2, len(weight)), weight.dtype)
    arrays = map(as_readonly, (dout, inp, weight))
    statistics = batch_norm_kernels.Statistics(*map(as_readonly, (mean, _slope(variance, epsilon))))
    scratch = batch_norm_kernels.new_scratch(len(weight), weight.dtype)
    batch_norm_kernels.batch_norm_backward(*arrays, statistics, dinp, dweight, dbias, scratch)
    return dinp, dweight, dbias


def _slope(variance: np.ndarray, epsilon: float) -> np.ndarray:
    return 1 / np.sqrt(variance + variance.dtype.type(epsilon))


def _have_kernels(*arrays: np.ndarray) -> bool:
    """Whether kernels accept these arrays: one dtype, float32 or float64 in native byte order, and no empty array.

    The reference computes the rest. So a call compiles no kernel but those of `warmup`.
    """
    dtype = arrays[0].dtype
    return dtype in REAL_DTYPES and all(array.size and array.dtype == dtype for array in arrays)


def _by_reference(operation: Callable[..., Any], *arguments: Any) -> Any:
    """The result of an operation of the reference; DataError if NumPy has none for these arrays."""
    plain = [np.asarray(each) if isinstance(each, np.ndarray) else each for each in arguments]
    try:
        return operation(*plain)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{operation.__name__} cannot be computed of these arrays ({reason})") from None


def _check_units(inp: np.ndarray, **arrays: np.ndarray) -> None:
    """Raise DataError unless `inp` has two dimensions, and each of `arrays` one number for each of its columns."""
    check_shapes(inp=(inp, (None, None)))
    check_shapes(**{name: (array, inp.shape[1:]) for name, array in arrays.items()})


def _in_dtype(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`inp` in the dtype of `weight`, as an input of kernels."""
    return as_readonly(inp.astype(weight.dtype, copy=False))
