"""Convolutions of groups of images, one sample per lane: forward, weight gradient and input gradient.

`images.py` describes the stages and the tables. Bias, a pool of 2 x 2 and ReLU are applied to a tile while it is in
registers, so the sums of all places are never written. Other activations take a second pass over the output.
"""

import numpy as np

from fastnn.kernels.images import (
    ACTIVATION,
    BIAS_AT,
    BIAS_SUMS_AT,
    BLOCKS_AT,
    CHANNELS_OUT,
    IN_BLOCKS_AT,
    IN_OUT_PLACES_AT,
    IN_PLACES_AT,
    IN_ROWS_AT,
    IN_TAPS_AT,
    INP_AT,
    INP_CHANNEL,
    IS_LAST,
    IS_POOLED,
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    N_BLOCKS,
    N_IN_BLOCKS,
    N_IN_ROWS,
    N_OUT_ROWS,
    N_PLACES,
    N_TAPS,
    N_TILES,
    OUT_AT,
    OUT_CHANNEL,
    OUT_PLACES_AT,
    OUT_ROWS_AT,
    PLACES,
    PLACES_AT,
    SUMS_AT,
    TAPS,
    TAPS_AT,
    WEIGHT_AT,
    WIDE_AT,
    WIDE_CHANNEL,
    WIDE_PLACES_AT,
    by_channels,
)
from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import View
from fastnn.kernels.ops.activations import IDENTITY, RELU, vactivate, vslope
from fastnn.kernels.ops.matmul import START
from fastnn.kernels.vector.simd import FIVE, FOUR, ONE, TWO, lanes, vadd, vload, vstore
from fastnn.kernels.vector.taps import add_lanes, place_tile, tap_tile, where_argmax

# The number of tiles that all blocks of channels compute one after the other: what they read stays in the first-level
# cache or near it.
TILES_AT_ONCE = 12
# Likewise the number of places of a weight gradient: the gradients of a block of channels there are 16 KB.
PLACES_AT_ONCE = 64


@inlined
def pack_for_sums(stage, table, parameters, packed):
    """Copy the weight of a convolution, block of output channels by block, in the order in which tiles read it.

    stage: the stage's row of `Plan.stages`
    parameters: flat, all parameters of the network
    packed: `Own.packed`
    """
    weight_at, n_channels = stage[WEIGHT_AT], stage[CHANNELS_OUT]
    for b in range(stage[N_BLOCKS]):
        at = stage[BLOCKS_AT] + 3 * b
        first, count, target = table[at], table[at + 1], table[at + 2]
        for t in range(stage[N_TAPS]):
            for r in range(count):
                packed[target + t * count + r] = parameters[weight_at + t * n_channels + first + r]


@inlined
def pack_for_gradient(stage, table, parameters, packed):
    """Copy the weight, block of input channels by block, in the order in which the tiles of `input_gradient` read it.

    The taps are (kernel row, output channel, kernel column): those of some rows of the kernel follow each other.
    """
    height, width, n_outputs = stage[KERNEL_HEIGHT], stage[KERNEL_WIDTH], stage[CHANNELS_OUT]
    for b in range(stage[N_IN_BLOCKS]):
        at = stage[IN_BLOCKS_AT] + 3 * b
        first, count, target = table[at], table[at + 1], table[at + 2]
        for k in range(height):
            for o in range(n_outputs):
                for j in range(width):
                    for r in range(count):
                        tap = ((first + r) * height + k) * width + j
                        packed[target] = parameters[stage[WEIGHT_AT] + tap * n_outputs + o]
                        target += 1


@inlined
def _plain_tiles(out, out_at, out_places, argmax, inp, places, place_at, taps, first, last, weight, bias, bias_at,
                 floor, n_tiles, n):  # fmt: skip
    """`tap_tile` for consecutive tiles; every place has its own result."""
    never_inline()
    for q in range(0, n_tiles * PLACES, PLACES):
        tap_tile(out, out_at + q, out_places, argmax, inp, places, place_at + q, taps, first, last, weight, bias,
                 bias_at, floor, n, FOUR, TWO)  # fmt: skip


@inlined
def _pooled_tiles(out, out_at, out_places, argmax, inp, places, place_at, taps, first, last, weight, bias, bias_at,
                  floor, n_tiles, n):  # fmt: skip
    """`tap_tile` for consecutive tiles, each of them a window of a pool."""
    never_inline()
    for q in range(n_tiles):
        tap_tile(out, out_at + q, out_places, argmax, inp, places, place_at + q * PLACES, taps, first, last, weight,
                 bias, bias_at, floor, n, FOUR, ONE)  # fmt: skip


plain_tiles, pooled_tiles = by_channels(_plain_tiles), by_channels(_pooled_tiles)


@inlined
def conv_stage(stage, table, biases, weights, weight_row, values, argmax):
    """Compute the output of a convolution for a group of images: sums, bias, pool and activation.

    stage: the stage's row of `Plan.stages`
    biases: flat, those of the stage from BIAS_AT on
    weights: flat
    weight_row: the distance between the weights of consecutive taps; 0 if `pack_for_sums` has packed them
    values, argmax: those of the group
    """
    never_inline()
    real, code, n_taps = values.dtype.type, stage[ACTIVATION], stage[N_TAPS]
    floor, taps = real(0) if code == RELU else real(-np.inf), table[stage[TAPS_AT] :]
    for tile in range(0, stage[N_TILES], TILES_AT_ONCE):
        n_tiles, place_at = min(TILES_AT_ONCE, stage[N_TILES] - tile), stage[PLACES_AT] + tile * PLACES
        for b in range(stage[N_BLOCKS]):
            at = stage[BLOCKS_AT] + 3 * b
            first, count, weight_at = table[at], table[at + 1], table[at + 2]
            out = View(values, stage[OUT_AT] + first * stage[OUT_CHANNEL], stage[OUT_CHANNEL])
            weight, bias_at = View(weights, weight_at, weight_row if weight_row else count), stage[BIAS_AT] + first
            if stage[IS_POOLED]:
                pooled_tiles(count, out, stage[OUT_PLACES_AT] + tile, table, argmax, values, table, place_at,
                             taps, START, n_taps, weight, biases, bias_at, floor, n_tiles)  # fmt: skip
            else:
                plain_tiles(count, out, stage[OUT_PLACES_AT] + tile * PLACES, table, argmax, values, table, place_at,
                            taps, START, n_taps, weight, biases, bias_at, floor, n_tiles)  # fmt: skip
    if code != IDENTITY and code != RELU:
        activate_rows(stage, table, values)


@inlined
def activate_rows(stage, table, values):
    """Apply the activation of a stage to its output, but not to the padding around it."""
    n, code = lanes(values), stage[ACTIVATION]
    for c in range(stage[CHANNELS_OUT]):
        at = stage[OUT_AT] + c * stage[OUT_CHANNEL]
        for r in range(stage[N_OUT_ROWS]):
            row = stage[OUT_ROWS_AT] + 2 * r
            for k in range(at + table[row], at + table[row + 1], n):
                vstore(values, k, vactivate(code, vload(values, k, ONE), values))


@inlined
def slope_rows(stage, table, values, dvalues):
    """Multiply the gradients of a stage's output by the slope of its activation, in place.

    Not after the last stage: the dense layers have done that.
    """
    n, code, one = lanes(values), stage[ACTIVATION], values.dtype.type(1)
    if code == IDENTITY or stage[IS_LAST]:
        return
    for c in range(stage[CHANNELS_OUT]):
        at = stage[OUT_AT] + c * stage[OUT_CHANNEL]
        for r in range(stage[N_OUT_ROWS]):
            row = stage[OUT_ROWS_AT] + 2 * r
            for k in range(at + table[row], at + table[row + 1], n):
                vstore(dvalues, k, vslope(code, vload(dvalues, k, ONE), vload(values, k, ONE), values, one))


@inlined
def widen_gradients(stage, table, argmax, dvalues, wide, sums):
    """Copy the gradients of a stage's output to the places of its sums, and add them to those of the biases.

    A window of a pool passes its gradient on to the place that was the largest; the others get 0.

    wide: overwritten at all places
    sums: added to, a vector for each bias
    """
    never_inline()
    places, out_places = table[stage[WIDE_PLACES_AT] :], table[stage[OUT_PLACES_AT] :]
    for o in range(stage[CHANNELS_OUT]):
        at, target = stage[OUT_AT] + o * stage[OUT_CHANNEL], stage[WIDE_AT] + o * stage[WIDE_CHANNEL]
        sum_at = stage[BIAS_SUMS_AT] + o * lanes(sums)
        total = vload(sums, sum_at, ONE)
        if stage[IS_POOLED]:
            for q in range(stage[N_TILES]):
                gradient = vload(dvalues, at + out_places[q], ONE)
                total = vadd(total, gradient)
                for p in range(PLACES):
                    vstore(wide, target + places[q * PLACES + p], where_argmax(argmax, at + out_places[q], p, gradient))
        else:
            for p in range(stage[N_PLACES]):
                gradient = vload(dvalues, at + out_places[p], ONE)
                total = vadd(total, gradient)
                vstore(wide, target + places[p], gradient)
        vstore(sums, sum_at, total)


@inlined
def _tap_groups(sums, sums_at, inp, taps, places, wide, wide_at, wide_channel, wide_places, first, last, n_taps, n):
    """`place_tile` for all taps, TAPS at a time, for some places and a block of channels."""
    never_inline()
    size = len(n) * lanes(sums)
    for t in range(0, n_taps, TAPS):
        place_tile(sums, sums_at + t * size, inp, taps, t, places, wide, wide_at, wide_channel, wide_places, first,
                   last, FIVE, n)  # fmt: skip


tap_groups = by_channels(_tap_groups)


@inlined
def weight_gradient(stage, table, values, wide, sums):
    """Add the products of a group's inputs and the gradients of its sums to the vectors of the weight gradient.

    wide: as `widen_gradients` leaves it
    sums: added to, for each block of output channels a vector for each tap, rounded up to TAPS, and channel
    """
    never_inline()
    n_taps = (stage[N_TAPS] + TAPS - 1) // TAPS * TAPS
    taps, places, wide_places = table[stage[TAPS_AT] :], table[stage[PLACES_AT] :], table[stage[WIDE_PLACES_AT] :]
    for b in range(stage[N_BLOCKS]):
        at = stage[BLOCKS_AT] + 3 * b
        first, count = table[at], table[at + 1]
        sums_at, wide_at = stage[SUMS_AT] + first * n_taps * lanes(sums), stage[WIDE_AT] + first * stage[WIDE_CHANNEL]
        for place in range(0, stage[N_PLACES], PLACES_AT_ONCE):
            last = min(place + PLACES_AT_ONCE, stage[N_PLACES])
            tap_groups(count, sums, sums_at, values, taps, places, wide, wide_at, stage[WIDE_CHANNEL], wide_places,
                       place, last, n_taps)  # fmt: skip


@inlined
def finish_gradient(stage, table, sums, numbers, gradient):
    """Add the lanes of the vectors of a convolution's gradient, and write them to `gradient`, laid out as parameters.

    numbers: scratch, as many elements as a block of channels has weights, and a vector more
    """
    never_inline()
    n, n_taps, n_channels = lanes(sums), stage[N_TAPS], stage[CHANNELS_OUT]
    rounded = (n_taps + TAPS - 1) // TAPS * TAPS
    for b in range(stage[N_BLOCKS]):
        at = stage[BLOCKS_AT] + 3 * b
        first, count = table[at], table[at + 1]
        sums_at = stage[SUMS_AT] + first * rounded * n
        for k in range(0, n_taps * count, n):
            add_lanes(numbers, k, sums, sums_at + k * n)
        for t in range(n_taps):
            for r in range(count):
                gradient[stage[WEIGHT_AT] + t * n_channels + first + r] = numbers[t * count + r]
    for k in range(0, n_channels, n):
        add_lanes(numbers, START, sums, stage[BIAS_SUMS_AT] + k * n)
        for r in range(min(n, n_channels - k)):
            gradient[stage[BIAS_AT] + k + r] = numbers[r]


@inlined
def input_gradient(stage, table, wide, packed, zeros, argmax, dvalues):
    """Compute the gradients of a convolution's input from those of its sums.

    An input has been seen by as many places as the kernel has taps. So its gradient is a convolution of the gradients
    of the sums, too, with the kernel's rows and columns in reverse. Rows of the kernel that reach beyond the image are
    left out; columns meet zeros there.

    wide: as `widen_gradients` leaves it, with zeros around
    packed: the weights, as `pack_for_gradient` leaves them
    dvalues: overwritten where the input is
    """
    never_inline()
    for r in range(stage[N_IN_ROWS]):
        row = stage[IN_ROWS_AT] + 4 * r
        tile, n_tiles, first_tap, end_tap = table[row], table[row + 1], table[row + 2], table[row + 3]
        place_at, out_at = stage[IN_PLACES_AT] + tile * PLACES, stage[IN_OUT_PLACES_AT] + tile * PLACES
        for b in range(stage[N_IN_BLOCKS]):
            at = stage[IN_BLOCKS_AT] + 3 * b
            first, count, weight_at = table[at], table[at + 1], table[at + 2]
            out = View(dvalues, stage[INP_AT] + first * stage[INP_CHANNEL], stage[INP_CHANNEL])
            weight, lowest = View(packed, weight_at, count), zeros.dtype.type(-np.inf)
            plain_tiles(count, out, out_at, table, argmax, wide, table, place_at, table[stage[IN_TAPS_AT]:], first_tap,
                        end_tap, weight, zeros, START, lowest, n_tiles)  # fmt: skip
