"""The reference backend: every operation in NumPy, with each formula written once, as in a textbook.

Read it from top to bottom: activations, softmax and the losses, dense layers, convolutions, pools, and distortions of
images. The formulas of
activations and losses are rows of two tables, `fastnn.network.activations` and `fastnn.network.losses`. The whole
network and the loop over mini-batches are in `layerwise.py`, which runs on the operations of this file.

Notation, for B samples, D inputs, H units and C classes:
    inp: (B, D)
    weight: (D, H)
    bias: (H,)
    sums, out: (B, H)
    logits: (B, C)
Images have C channels, height H and width W; a convolution has O output channels, a kernel of KH x KW, and OH x OW
places:
    inp: (B, C, H, W)
    weight: (C, KH, KW, O)
    bias: (O,)
    sums: (B, O, OH, OW)
A gradient has the name of its array with `d` in front: `dweight` is the gradient of the loss with respect to `weight`.
`fastnn.backends.base` describes the arguments in full.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.backends import layerwise
from fastnn.backends.arguments import (
    TrainingData,
    check_distortion,
    check_image_shapes,
    check_logits,
    check_logits_of_loss,
    check_pool_gradient,
    check_run,
    check_sample_weight,
    check_shapes,
    check_windows,
)
from fastnn.backends.base import LossAndGradients, Objective, Pair, TrainerState, named_losses
from fastnn.backends.layerwise_slices import LayerwiseSlices
from fastnn.backends.slices import SlicedTrainer
from fastnn.interruptible import stop_if_abandoned
from fastnn.network import ACTIVATIONS, LOSSES, Network
from fastnn.network import losses as losses_table
from fastnn.optim.augmentation import FIRST_FIELD, Distortion
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Optimizer
from fastnn.randomness import QUANTILE_BITS, normal_quantiles, unit_hashes


# --- Activations -----------------------------------------------------------------------------------------------------
def activate(inp: np.ndarray, activation: str) -> np.ndarray:
    """Apply the activation with that name to each element."""
    return ACTIVATIONS[activation].forward(inp)


def activate_backward(dout: np.ndarray, inp: np.ndarray, out: np.ndarray, activation: str) -> np.ndarray:
    """The chain rule: `dout` times the activation's derivative."""
    row = ACTIVATIONS[activation]
    return dout * row.derivative(inp if row.needs == "input" else out)


def relu(inp: np.ndarray) -> np.ndarray:
    """``max(inp, 0)``."""
    return activate(inp, "relu")


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """``dout`` where ``out > 0``, else 0: the derivative of ReLU is 1 for positive inputs and 0 for the others."""
    check_shapes(dout=(dout, out.shape))
    return activate_backward(dout, out, out, "relu")


# --- Softmax and the losses ------------------------------------------------------------------------------------------
def softmax(logits: np.ndarray) -> np.ndarray:
    """``exp(logits) / sum(exp(logits))`` in each row."""
    check_logits(logits)
    return losses_table.softmax(logits)


def mean_loss(
    output: str, logits: np.ndarray, targets: np.ndarray, sample_weight: Any = None, smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    """Return the mean of the rows' losses, weighted by `sample_weight`, and its gradient."""
    check_logits_of_loss(logits)
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    losses, dlogits = LOSSES[output].row_losses(logits, targets, smoothing)
    if sample_weight is None:
        weights = logits.dtype.type(1 / len(logits))
    else:
        weights = (sample_weight / sample_weight.sum(dtype=np.float64)).astype(logits.dtype)
        losses = np.where(weights > 0, losses, 0)  # rows of weight 0 are left out: 0 times infinity would be NaN
    dlogits *= weights.reshape(-1, 1)
    return float(np.sum(weights * losses, dtype=np.float64)), dlogits


softmax_cross_entropy, logistic_cross_entropy, squared_error = named_losses(mean_loss)


# --- The layers ------------------------------------------------------------------------------------------------------
def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``inp @ weight``."""
    check_shapes(inp=(inp, (None, None)), weight=(weight, (inp.shape[-1], None)))
    return inp.astype(weight.dtype, copy=False) @ weight


def dense_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``inp @ weight + bias``."""
    check_shapes(bias=(bias, weight.shape[1:]))
    sums = matmul(inp, weight)
    sums += bias
    return sums


def dense_backward(
    dsums: np.ndarray, inp: np.ndarray, weight: np.ndarray, needs_dinp: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return ``dsums @ weight.T`` (None unless needed), ``inp.T @ dsums``, and the sum of the rows of `dsums`."""
    check_shapes(inp=(inp, (len(dsums), len(weight))), weight=(weight, (None, dsums.shape[1])))
    dweight = inp.astype(dsums.dtype, copy=False).T @ dsums
    return dsums @ weight.T if needs_dinp else None, dweight, dsums.sum(axis=0)


def batch_norm(
    inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> np.ndarray:
    """``weight * (inp - mean) / sqrt(variance + epsilon) + bias``."""
    return weight * ((inp - mean) / np.sqrt(variance + inp.dtype.type(epsilon))) + bias


def batch_norm_forward(
    inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`batch_norm` with the mean and variance of the batch, which are returned too."""
    mean, variance = inp.mean(axis=0), inp.var(axis=0)
    return batch_norm(inp, weight, bias, mean, variance, epsilon), mean, variance


def batch_norm_backward(
    dout: np.ndarray, inp: np.ndarray, weight: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of the input, the weight and the bias.

    With ``normal = (inp - mean) / sqrt(variance + epsilon)``, the gradient of an input loses its part along ``1``,
    because the mean depends on the input too, and its part along ``normal``, because the variance does.
    """
    deviation = np.sqrt(variance + inp.dtype.type(epsilon))
    normal = (inp - mean) / deviation
    dweight, dbias = (dout * normal).sum(axis=0), dout.sum(axis=0)
    dinp = weight / deviation * (dout - dbias / len(inp) - normal * (dweight / len(inp)))
    return dinp, dweight, dbias


# --- Convolutions ----------------------------------------------------------------------------------------------------
def conv_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair) -> np.ndarray:
    """``sums[b, o, i, j] = bias[o] + sum over c, k, l of weight[c, k, l, o] * padded[b, c, s * i + k, s * j + l]``.

    Every place sees a patch of C x KH x KW numbers. One product multiplies all patches by the weight.
    """
    check_image_shapes(inp, weight, stride, padding, bias=bias)
    patches = _patches(_pad(inp.astype(weight.dtype, copy=False), padding), weight.shape[1:3], stride)
    sums = np.tensordot(patches, weight, axes=((1, 4, 5), (0, 1, 2)))  # (B, OH, OW, O)
    sums += bias
    return np.ascontiguousarray(np.moveaxis(sums, 3, 1))


def conv_backward(
    dsums: np.ndarray, inp: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, needs_dinp: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the gradients of the input (None unless needed), the weight and the bias.

    A weight has met one input at every place, so its gradient is a sum over all places: one product of all patches and
    `dsums`. The gradient of an input is a sum over the taps of the kernel: through the tap (k, l), the place (i, j) has
    seen the input (s * i + k, s * j + l).
    """
    check_image_shapes(inp, weight, stride, padding, dsums=dsums)
    padded = _pad(inp.astype(weight.dtype, copy=False), padding)
    patches = _patches(padded, weight.shape[1:3], stride)
    dweight = np.tensordot(patches, dsums, axes=((0, 2, 3), (0, 2, 3)))  # (C, KH, KW, O)
    dbias = dsums.sum(axis=(0, 2, 3))
    if not needs_dinp:
        return None, dweight, dbias
    dpadded = np.zeros_like(padded)
    for tap in np.ndindex(weight.shape[1:3]):
        dseen = np.tensordot(dsums, weight[:, *tap], axes=(1, 1))  # (B, OH, OW, C)
        _seen(dpadded, tap, stride, dsums)[...] += np.moveaxis(dseen, 3, 1)
    return _crop(dpadded, padding), dweight, dbias


def _pad(images: np.ndarray, padding: Pair) -> np.ndarray:
    """Surround each image with rows and columns of zeros."""
    return np.pad(images, ((0, 0), (0, 0), *((each, each) for each in padding)))


def _crop(padded: np.ndarray, padding: Pair) -> np.ndarray:
    """Return the images within their padding."""
    rows, columns = (slice(each, size - each) for each, size in zip(padding, padded.shape[2:], strict=True))
    return np.ascontiguousarray(padded[:, :, rows, columns])


def _patches(padded: np.ndarray, window: Pair, stride: Pair) -> np.ndarray:
    """Return what each place sees, (B, C, OH, OW, KH, KW), as a view."""
    return np.lib.stride_tricks.sliding_window_view(padded, window, axis=(2, 3))[:, :, :: stride[0], :: stride[1]]


def _seen(padded: np.ndarray, tap: Sequence[int], stride: Pair, out: np.ndarray) -> np.ndarray:
    """Return what all places of `out`, (..., OH, OW), see through one tap of their windows, as a view."""
    rows, columns = (
        slice(start, start + step * count, step) for start, step, count in zip(tap, stride, out.shape[2:], strict=True)
    )
    return padded[:, :, rows, columns]


# --- Pools -----------------------------------------------------------------------------------------------------------
def max_pool(inp: np.ndarray, size: Pair, stride: Pair, padding: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest number of each window, (B, C, OH, OW), and the tap at which it was: ``KW * k + l``.

    Of equal numbers the first one counts, row by row. NaN is larger than all numbers. Padding is never the largest.
    """
    places = check_windows(inp, size, stride, padding)
    padded, is_inside = _pad(inp, padding), _pad(np.ones_like(inp[:1, :1], np.bool_), padding)
    largest, taps = np.zeros((*inp.shape[:2], *places), inp.dtype), np.full((*inp.shape[:2], *places), -1, np.int32)
    for number, tap in enumerate(np.ndindex(size)):
        value = _seen(padded, tap, stride, largest)
        is_larger = (value > largest) | (np.isnan(value) & ~np.isnan(largest)) | (taps < 0)
        wins = is_larger & _seen(is_inside, tap, stride, largest)
        largest, taps = np.where(wins, value, largest), np.where(wins, np.int32(number), taps)
    return largest, taps


def max_pool_backward(
    dout: np.ndarray, taps: np.ndarray, shape: Sequence[int], size: Pair, stride: Pair, padding: Pair
) -> np.ndarray:
    """Return the gradient of the input, of this shape: each place passes its gradient on to the largest number it saw.

    A number that was the largest in several windows gets the sum.
    """
    check_pool_gradient(shape, size, stride, padding, dout, taps)
    dpadded = _pad(np.zeros(shape, dout.dtype.newbyteorder("=")), padding)
    for number, tap in enumerate(np.ndindex(size)):
        _seen(dpadded, tap, stride, dout)[...] += np.where(taps == number, dout, 0)
    return _crop(dpadded, padding)


def avg_pool(inp: np.ndarray, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Return the mean of each window, (B, C, OH, OW). Padding counts as zeros."""
    check_windows(inp, size, stride, padding)
    return _patches(_pad(inp, padding), size, stride).mean(axis=(4, 5))


def avg_pool_backward(dout: np.ndarray, shape: Sequence[int], size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
    """Return the gradient of the input, of this shape: each place passes equal parts on to all numbers it saw."""
    check_pool_gradient(shape, size, stride, padding, dout)
    dpadded = _pad(np.zeros(shape, dout.dtype.newbyteorder("=")), padding)
    share = dout / dout.dtype.type(size[0] * size[1])
    for tap in np.ndindex(size):
        _seen(dpadded, tap, stride, dout)[...] += share
    return _crop(dpadded, padding)


# --- Distortions of images -------------------------------------------------------------------------------------------
# Images that are distorted together: their intermediate arrays stay small.
_IMAGES = 256


def distort(images: np.ndarray, rows: np.ndarray, distortion: Distortion, threads: int | None = None) -> np.ndarray:
    """Return images that are moved, noisy and erased, as `distortion` says. `threads` is ignored."""
    rows = check_distortion(images, rows, distortion)
    out = np.empty((len(rows), images.shape[1]), images.dtype)
    for start in range(0, len(rows), _IMAGES):
        stop_if_abandoned()  # after Ctrl-C
        some = slice(start, start + _IMAGES)
        out[some] = _distorted(images[rows[some]], distortion.part(some))
    return out


def _distorted(images: np.ndarray, distortion: Distortion) -> np.ndarray:
    """Return some images, (B, D), distorted: places, bilinear interpolation, noise, an erased rectangle."""
    real = np.dtype(np.float32) if images.dtype == np.uint8 else images.dtype
    y, x = _sources(distortion, real)
    out = _between_pixels(images.astype(real).reshape(-1, *distortion.shape), y, x).reshape(images.shape)
    low, high = map(real.type, distortion.levels)
    if distortion.noise:
        hashes = unit_hashes(distortion.numbers, FIRST_FIELD + images.shape[1], images.shape[1])
        noise = normal_quantiles(real)[hashes >> np.uint32(32 - QUANTILE_BITS)]
        out = np.clip(out + real.type(distortion.noise) * noise, low, high)
    for image, (top, left, height, width) in zip(out.reshape(-1, *distortion.shape), distortion.boxes, strict=True):
        image[top : top + height, left : left + width] = low
    return (out + real.type(0.5)).astype(np.uint8) if images.dtype == np.uint8 else out


def _sources(distortion: Distortion, real: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column that each pixel comes from, (B, H, W) each."""
    height, width = distortion.shape
    y, x = np.arange(height, dtype=real)[:, None], np.arange(width, dtype=real)
    a, b, c, d, e, f = distortion.affine.astype(real).T[:, :, None, None]
    source_y, source_x = a * y + c + b * x, d * y + f + e * x
    if distortion.taps.size:
        n_pixels = height * width
        hashes = unit_hashes(distortion.numbers, FIRST_FIELD, n_pixels).reshape(-1, height, width)
        vertical, horizontal = distortion.taps.astype(real)
        for source, halves in ((source_y, hashes), (source_x, hashes >> np.uint32(16))):
            drawn = halves.astype(np.uint16).view(np.int16).astype(real)
            source += _smoothed(_smoothed(drawn, vertical).transpose(0, 2, 1), horizontal).transpose(0, 2, 1)
    return source_y, source_x


def _smoothed(field: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Return ``taps[0] * field[:, i] + sum over k of taps[k] * (field[:, i - k] + field[:, i + k])``, zeros outside."""
    out = taps[0] * field
    for k in range(1, min(len(taps), field.shape[1])):
        pairs = np.zeros_like(field)
        pairs[:, k:] = field[:, :-k]
        pairs[:, :-k] += field[:, k:]
        out += taps[k] * pairs
    return out


def _between_pixels(images: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the numbers of images, (B, H, W), at places between their pixels, bilinearly; y, x: (B, H, W)."""
    height, width = images.shape[1:]
    y, x = np.clip(y, 0, images.dtype.type(height - 1)), np.clip(x, 0, images.dtype.type(width - 1))
    top, left = y.astype(np.intp), x.astype(np.intp)
    down, across = y - top.astype(y.dtype), x - left.astype(x.dtype)
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    image = np.arange(len(images))[:, None, None]
    upper = images[image, top, left]
    upper = upper + across * (images[image, top, right] - upper)
    lower = images[image, bottom, left]
    lower = lower + across * (images[image, bottom, right] - lower)
    result: np.ndarray = upper + down * (lower - upper)
    return result


# --- The network, layer by layer -------------------------------------------------------------------------------------
_operations = sys.modules[__name__]


def predict_logits(network: Network, inp: Any, threads: int | None = None, check_finite: bool = False) -> np.ndarray:
    """Return the last layer's weighted sums. `threads` is ignored: NumPy's BLAS keeps its own setting."""
    return layerwise.predict_logits(_operations, network, inp, check_finite)


def predict_proba(network: Network, inp: Any, threads: int | None = None, check_finite: bool = False) -> np.ndarray:
    """Apply the network's output function (softmax, logistic, identity or exp) to the logits; `threads` is ignored."""
    return layerwise.predict_proba(_operations, network, inp, check_finite)


def loss_and_gradients(
    network: Network, inp: Any, targets: Any, *, sample_weight: Any = None, epoch: int = 0, **settings: Any
) -> LossAndGradients:
    """Return the mean loss + l2 / 2 * (sum of squared weights), and its gradients by backpropagation."""
    return layerwise.loss_and_gradients(_operations, network, inp, targets, sample_weight, epoch, settings)


def objective(network: Network, data: TrainingData, config: TrainingConfig) -> Objective:
    """Return the loss and gradients of all the data as a function of all parameters."""
    return layerwise.Objective(_operations, network, data, config)


def trainer(
    network: Network,
    images: Any,
    targets: Any,
    optimizer: str | Optimizer = "sgd",
    *,
    sample_weight: Any = None,
    state: TrainerState | None = None,
    **settings: Any,
) -> layerwise.Trainer | SlicedTrainer:
    """Check the data and the settings, and return a trainer."""
    data, config = check_run(network, images, targets, sample_weight, {"optimizer": optimizer, **settings})
    return new_trainer(network, data, config, state)


def new_trainer(
    network: Network, data: TrainingData, config: TrainingConfig, state: TrainerState | None = None
) -> layerwise.Trainer | SlicedTrainer:
    """Return a layer-by-layer trainer. `fastnn.train` limits the threads of NumPy's BLAS for the whole run."""
    if config.slices is not None:
        return SlicedTrainer(slice_engine(network, data, config), network, data, config, state)
    return layerwise.Trainer(_operations, network, data, config, state)


def slice_engine(network: Network, data: TrainingData, config: TrainingConfig) -> LayerwiseSlices:
    """Return what computes the gradients of slices, layer by layer."""
    return LayerwiseSlices(_operations, network, data, config)
