"""The inputs of a block of samples, as the kernels of the first layer want them: in one of three forms."""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layers import lanes
from fastnn.kernels.simd import prefetch
from fastnn.kernels.sparse_input import Packed, list_row, pack

# Samples ahead of the one being listed that are asked for, so that they are there in time.
AHEAD = 3


class Inputs(NamedTuple):
    """A block's inputs. The arrays of the other two forms have length 0.

    Packed, for wide layers, where most inputs are 0: packed, see `Packed`. Listed, where threads share the rows of a
    narrow network: numbers and value (BLOCK * D + a vector,), those other than 0 sample after sample; ends
    (BLOCK + 1,), where each sample's begin, and the last's end. Dense, where few are 0: dense (BLOCK * D,), sample by
    sample in the working dtype.
    """

    packed: Packed
    numbers: np.ndarray
    value: np.ndarray
    ends: np.ndarray
    dense: np.ndarray


@inlined
def gather(images, rows, inputs, t, threads):
    """Thread t's share of taking the samples `rows` (at most a block) of `images` (N, D); listing is not shared.

    Samples are drawn from anywhere in memory. Together their misses of the cache overlap; one by one they would not.
    """
    never_inline()
    n_inputs = images.shape[1]
    if len(inputs.packed.users):
        pack(images, rows, inputs.packed, t, threads)
    elif len(inputs.ends):
        flat, end = images.reshape(-1), 0
        for s in range(len(rows)):
            if s + AHEAD < len(rows):
                for i in range(0, n_inputs, lanes(images)):
                    prefetch(flat, rows[s + AHEAD] * n_inputs + i)
            inputs.ends[s] = end
            end = list_row(inputs.numbers, inputs.value, end, flat, rows[s] * n_inputs, n_inputs)
        inputs.ends[len(rows)] = end
    else:
        real = inputs.dense.dtype.type
        for s in range(len(rows) * t // threads, len(rows) * (t + 1) // threads):
            image, row = images[rows[s]], inputs.dense[s * n_inputs : (s + 1) * n_inputs]
            for i in range(n_inputs):
                row[i] = real(image[i])
