"""The plan of the image layers of a network: the stages, and tables of offsets. Images have one sample per lane.

A stage is a convolution, with its activation and perhaps its pool, or a pool of its own. A group of images has one
buffer for the input and one for the output of each stage, all in one flat array. A buffer holds one vector for each
pixel, with one sample in each lane, channel after channel and row after row. Around the pixels there is the padding
that the next convolution needs, which is 0 and stays 0. All offsets are in tables, so one kernel serves all shapes.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import always_inline, inlined
from fastnn.kernels.vector.simd import FOUR, ONE, TWO, WHOLE_REGISTERS

# Three vectors, or three channels; see `simd.py`.
THREE = (0, 0, 0)
# The number of places of a tile, and of taps of a tile of a weight gradient.
PLACES, TAPS = 4, 5
# The largest number of images whose activations are in memory at once.
IMAGE_BLOCK = 32

# The kinds of stages.
CONV, MAX_POOL, AVG_POOL = range(3)

# The columns of a stage's row in `Plan.stages`. Offsets `..._AT` are elements: of values (inputs and outputs), of the
# parameters, of `Plan.table`, or of the arrays of `Own`.
(
    KIND,
    IS_POOLED,  # whether a convolution's tile is a window of 2 x 2, of which only the largest sum is stored
    ACTIVATION,  # the code of the activation after the stage
    IS_LAST,  # whether the rows of the dense layers come next, which then apply the slope of the activation
    CHANNELS_OUT,
    INP_AT,
    INP_CHANNEL,  # the distance between two channels of the input
    OUT_AT,
    OUT_CHANNEL,  # likewise of the output
    OUT_ROWS_AT,  # the table of the rows of an output channel: pairs of their first element and their end
    N_OUT_ROWS,
    # --- a convolution
    WEIGHT_AT,
    BIAS_AT,
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    N_TAPS,
    TAPS_AT,  # the table of the offsets of the taps from a place in the input, N_TAPS rounded up to TAPS
    PLACES_AT,  # the table of the places in the input: PLACES for each tile
    OUT_PLACES_AT,  # the table of the places in an output channel: PLACES for each tile, or 1 with a pool
    N_TILES,
    N_PLACES,  # the number of different places; those after it only fill the last tile
    BLOCKS_AT,  # the table of blocks of output channels: triples of the first channel, their number, offset in PACKED
    N_BLOCKS,
    WIDE_AT,  # the gradient of the sums in `Own.wide`, one vector for each place and perhaps zeros around them
    WIDE_CHANNEL,
    WIDE_PLACES_AT,  # the table of the places in a channel of it, in the order of PLACES_AT
    SUMS_AT,  # the weight gradient in `Own.sums`, one vector for each weight and then for each bias
    BIAS_SUMS_AT,
    # --- the gradient of the input of a convolution
    HAS_INPUT_GRADIENT,
    IN_BLOCKS_AT,  # the table of blocks of input channels, as BLOCKS_AT
    N_IN_BLOCKS,
    IN_TAPS_AT,  # the table of the offsets of (kernel row, output channel, kernel column) in `Own.wide`
    IN_ROWS_AT,  # the table of rows: the first tile, the number of tiles, the first tap and the end of the taps
    N_IN_ROWS,
    IN_PLACES_AT,  # the table of the places in `Own.wide`, PLACES for each tile
    IN_OUT_PLACES_AT,  # the table of the places in a channel of the input, likewise
    # --- a pool
    WINDOWS_AT,  # the table of windows: the place in an output channel, the first entry and the end of the entries
    N_WINDOWS,
    ENTRIES_AT,  # the table of entries: pairs of an offset in an input channel and the tap
    POOL_SIZE,  # the number of taps
    N_COLUMNS,
) = range(41)


class Plan(NamedTuple):
    """The image layers of a network.

    stages: (S, N_COLUMNS) int64, a row for each stage
    table: flat int64, all tables
    rows: (R, 3) int64, the rows of the input images: offset in the image, in the input buffer, and number of pixels
    out_rows: (1, 3) int64, likewise of the output of the last stage
    size: the number of elements of all buffers of a group
    n_inputs: the number of pixels of an image
    n_outputs: the number of outputs of the last stage
    """

    stages: np.ndarray
    table: np.ndarray
    rows: np.ndarray
    out_rows: np.ndarray
    size: int
    n_inputs: int
    n_outputs: int


class Own(NamedTuple):
    """A thread's arrays for the image layers.

    values: (groups * size,), the inputs and outputs of the stages, of each group of a block
    argmax: like `values`, uint8, the tap of the largest number where a pool has written a value
    dvalues: (size,), the gradients of one group's values
    wide: the gradients of one group's sums, see WIDE_AT
    sums: a vector for each weight and bias of the convolutions, see SUMS_AT
    packed: the weights in the order of tiles: for the sums, and for the gradients of the inputs
    numbers: scratch: images as rows in the working dtype, and weight gradients before they are scattered
    zeros: (n,), zeros, of which as many are read as a block has channels
    """

    values: np.ndarray
    argmax: np.ndarray
    dvalues: np.ndarray
    wide: np.ndarray
    sums: np.ndarray
    packed: np.ndarray
    numbers: np.ndarray
    zeros: np.ndarray


# The largest number of channels of a tile. The sums of four channels at four places fill half of the registers of
# AVX-512. Where a vector is two registers (AVX2) or four (NEON), those of one channel fill as many.
MOST_CHANNELS = 4 if WHOLE_REGISTERS else 1


def block_sizes(n_channels: int, most: int = MOST_CHANNELS) -> list[int]:
    """The numbers of channels of the blocks of a stage: `most` (4 or 1), or 3 where that leaves fewer incomplete tiles.

    With 4, blocks of one channel are avoided: their tiles have too few sums for the multiply units.

    Examples
    --------
    >>> from fastnn.kernels.images import block_sizes
    >>> block_sizes(16, 4), block_sizes(6, 4), block_sizes(5, 4)
    ([4, 4, 4, 4], [3, 3], [3, 2])
    """
    if most == 1:
        return [1] * n_channels
    if n_channels % 4 and n_channels % 3 == 0:
        return [3] * (n_channels // 3)
    whole, rest = divmod(n_channels, 4)
    if rest == 1 and whole:
        return [4] * (whole - 1) + [3, 2]
    return [4] * whole + [rest] * (rest > 0)


def by_channels(function):
    """A function that calls ``function(*arguments, n)`` for a number of channels that is known only at run time.

    Its first argument is that number, from 1 to 4. `n` is ONE to FOUR.
    """

    @inlined
    def with_channels(channels, *arguments):
        always_inline()
        if channels == 4:
            return function(*arguments, FOUR)
        if channels == 3:
            return function(*arguments, THREE)
        if channels == 2:
            return function(*arguments, TWO)
        return function(*arguments, ONE)

    return with_channels
