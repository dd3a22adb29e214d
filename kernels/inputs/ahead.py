"""Prefetching the samples of the next step, part by part, while the weights of this step are updated.

Samples are in random order, so each of their cache lines comes from memory. A CPU waits for a few dozen lines at a
time: if all are requested at once, that takes as long as reading them. Spread over an update, it costs next to nothing.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import GROUP
from fastnn.kernels.team import own_part
from fastnn.kernels.vector.memory import flattened
from fastnn.kernels.vector.simd import lanes, load, prefetch_far

# The number of the only part, and the number of parts. Typed constants, not literals; `ops/matmul.py` gives the reason.
WHOLE, N_WHOLE = np.int64(0), np.int64(1)


class Ahead(NamedTuple):
    """The part of the next step's samples that a member of the team will gather, in rows of tiles.

    images: flat, the data set
    n_inputs: the number of inputs of a sample
    rows: (at most BLOCK,) int64, the samples of the next step
    first, stop: the numbers of the tiles' rows. Row r belongs to tile ``r // GROUP`` of the block
    """

    images: np.ndarray
    n_inputs: int
    rows: np.ndarray
    first: int
    stop: int


@inlined
def tiles_of(member, images, n_rows):
    """The range of the tiles of `n_rows` samples that `member` gathers, and the number of tiles side by side."""
    n = lanes(images)
    side_by_side = (images.shape[1] + n - 1) // n
    return own_part(member, (n_rows + GROUP - 1) // GROUP * side_by_side), side_by_side


@inlined
def samples_ahead(member, images, rows):
    """What `member` will gather of the samples `rows`; nothing if the data set was given as lists."""
    part, _ = tiles_of(member, images, len(rows) if len(images) else 0)
    return Ahead(flattened(images), images.shape[1], rows, part.start * GROUP, part.stop * GROUP)


@inlined
def part_of(ahead, part, n_parts):
    """Part number `part` of `n_parts` equal parts, up to rounding."""
    count = ahead.stop - ahead.first
    first, stop = ahead.first + count * part // n_parts, ahead.first + count * (part + 1) // n_parts
    return Ahead(ahead.images, ahead.n_inputs, ahead.rows, first, stop)


@inlined
def prefetch_part(ahead, part, n_parts):
    """Prefetch part number `part` of `n_parts` equal parts into the second-level cache."""
    never_inline()
    some, n, n_inputs = part_of(ahead, part, n_parts), lanes(ahead.images), ahead.n_inputs
    side_by_side, r, first_tile = (n_inputs + n - 1) // n, some.first, ahead.first // GROUP
    while r < some.stop:
        tile, s = r // GROUP, r % GROUP
        count = min(GROUP - s, some.stop - r)
        column, top = tile % side_by_side * n, tile // side_by_side * GROUP + s
        for k in range(top, min(top + count, len(some.rows))):
            at = load(some.rows, k) * n_inputs
            if tile == first_tile or column == 0:  # otherwise the tile before ends in this line
                prefetch_far(some.images, at + column)
            prefetch_far(some.images, at + min(column + n, n_inputs) - 1)  # most rows of a tile are in two lines
        r += count
