"""The image layers for one image at a time, with neighbouring columns in the lanes of a vector.

A group of images has one image in each lane; for a single image, all other lanes would be idle. Here a vector has the
sums of as many columns of a row as it has lanes. The tiles are those of a group: only the tables of offsets differ.
Each sum adds the same products in the same order, so a row has the same bits either way.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.predict import predict_rows
from fastnn.kernels.images import (
    ACTIVATION,
    CHANNELS_OUT,
    CONV,
    INP_AT,
    INP_CHANNEL,
    IS_POOLED,
    KIND,
    OUT_AT,
    OUT_CHANNEL,
    Plan,
)
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.ops.activations import IDENTITY
from fastnn.kernels.ops.convolution import activate_rows, conv_stage
from fastnn.kernels.vector.memory import array_at, flattened

# The columns of a row of `OnePlan.pools`.
(
    INP_HEIGHT,
    INP_WIDTH,
    INP_ROW,  # the distance between two rows
    HEIGHT,
    WIDTH,
    OUT_ROW,
    POOL_HEIGHT,
    POOL_WIDTH,
    STRIDE_DOWN,
    STRIDE_ACROSS,
    PADDING_TOP,
    PADDING_LEFT,
    N_POOL_COLUMNS,
) = range(13)


# The largest number of images for which this is faster than a group of images.
FEW_IMAGES = 4


class OnePlan(NamedTuple):
    """The image layers of a network, for one image.

    plan: the stages; a pool of 2 x 2 after a convolution is a stage of its own here, with IS_POOLED
    pools: (S, N_POOL_COLUMNS) int64, the shapes of each stage that is a pool
    """

    plan: Plan
    pools: np.ndarray


class OneOwn(NamedTuple):
    """A thread's arrays for a few images.

    values: the inputs and outputs of all stages, and a vector more
    argmax: (0,) uint8
    features: (FEW_IMAGES, F), the outputs of the last image layer
    barrier: a `team.new_barrier`
    """

    values: np.ndarray
    argmax: np.ndarray
    features: np.ndarray
    barrier: np.ndarray


@inlined
def _pool(stage, pool, values):
    """Compute the largest number of each window."""
    never_inline()
    real = values.dtype.type
    for c in range(stage[CHANNELS_OUT]):
        inp_at, out_at = stage[INP_AT] + c * stage[INP_CHANNEL], stage[OUT_AT] + c * stage[OUT_CHANNEL]
        for i in range(pool[HEIGHT]):
            top = i * pool[STRIDE_DOWN] - pool[PADDING_TOP]
            for j in range(pool[WIDTH]):
                left, is_first, best = j * pool[STRIDE_ACROSS] - pool[PADDING_LEFT], True, real(0)
                for k in range(max(0, top), min(top + pool[POOL_HEIGHT], pool[INP_HEIGHT])):
                    for m in range(max(0, left), min(left + pool[POOL_WIDTH], pool[INP_WIDTH])):
                        number = values[inp_at + k * pool[INP_ROW] + m]
                        if is_first or number > best or number != number:
                            best = number
                        is_first = False
                values[out_at + i * pool[OUT_ROW] + j] = best


@inlined
def _pool_of_four(stage, pool, values):
    """`_pool` for the largest of windows of 2 x 2 without padding, in a loop that LLVM vectorises."""
    never_inline()
    for c in range(stage[CHANNELS_OUT]):
        inp_at, out_at = stage[INP_AT] + c * stage[INP_CHANNEL], stage[OUT_AT] + c * stage[OUT_CHANNEL]
        for i in range(pool[HEIGHT]):
            first, out = inp_at + 2 * i * pool[INP_ROW], out_at + i * pool[OUT_ROW]
            second = first + pool[INP_ROW]
            for j in range(pool[WIDTH]):
                best = values[first + 2 * j]
                right, below, across = values[first + 2 * j + 1], values[second + 2 * j], values[second + 2 * j + 1]
                best = right if right > best or right != right else best
                best = below if below > best or below != below else best
                best = across if across > best or across != across else best
                values[out + j] = best


@kernel
def predict_one_by_one(one, sources, scale, table, output, own, images, out):
    """Predict a few images, one after the other.

    Faster than a group for up to four images: the lanes of a vector are neighbouring columns of one image.

    one: the image layers, a `OnePlan`
    sources: (2 * K, 3) int64, the weights and then the biases of the convolutions, see `gather_parameters`
    scale: the factor of the inputs
    table: the dense layers, as `predict` needs them, or (0, N_COLUMNS) if there are none
    output: that of `predict`
    own: a `OneOwn`
    images: (N, D), at most FEW_IMAGES
    out: (N, C), overwritten; (N, F) if there are no dense layers

    Returns False if there is not enough memory.
    """
    values, plan, real, features = own.values, one.plan, own.values.dtype.type, own.features[: len(images)]
    flat = flattened(own.features)
    n_convolutions = len(sources) // 2
    pixels = array_at(images.ctypes.data, len(images) * plan.n_inputs, images)
    for s in range(len(images)):
        for r in range(len(plan.rows)):
            source, target = s * plan.n_inputs + plan.rows[r, 0], plan.rows[r, 1]
            for k in range(plan.rows[r, 2]):
                values[target + k] = scale * real(pixels[source + k])
        k = 0
        for t in range(len(plan.stages)):
            stage, pool = plan.stages[t], one.pools[t]
            if stage[KIND] == CONV:
                weight = array_at(sources[k, 0], sources[k, 1], values)
                bias = array_at(sources[n_convolutions + k, 0], sources[n_convolutions + k, 1], values)
                conv_stage(stage, plan.table, bias, weight, stage[CHANNELS_OUT], values, own.argmax)
                k += 1
                continue
            if stage[IS_POOLED]:
                _pool_of_four(stage, pool, values)
            else:
                _pool(stage, pool, values)
            if stage[ACTIVATION] != IDENTITY:
                activate_rows(stage, plan.table, values)
        for r in range(len(plan.out_rows)):
            for k in range(plan.out_rows[r, 2]):
                flat[s * plan.n_outputs + plan.out_rows[r, 0] + k] = values[plan.out_rows[r, 1] + k]
    if len(table) == 0:
        for s in range(len(images)):
            for k in range(plan.n_outputs):
                out[s, k] = features[s, k]
        return True
    for k in range(len(own.barrier)):
        own.barrier[k] = 0
    return predict_rows(table, real(1), features, output, own.barrier, out)
