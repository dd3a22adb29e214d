"""How a network lies in memory for the kernels: flat arrays, columns in panels of whole vectors.

Columns of a layer are padded to whole vectors and cut into panels of four vectors, then two, then one. A panel's rows
stand one after the other, so its loads run through memory in order and no power of 2 between rows makes them fall on
the same places of the cache. A panel is also what a thread owns. Padding is 0 and stays 0: its gradients are.
"""

from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from fastnn.kernels.simd import VECTOR

# Samples are packed and visited in groups of this many: one word has a bit for each.
GROUP = 64
# A batch is worked through in blocks of at most this many rows: their activations stay in the second-level cache, and a
# full batch needs no more memory than a small one.
BLOCK = 4 * GROUP
# Vectors of the widest panel, and of those in layers of at most NARROW vectors, where several threads want some.
WIDE, NARROW = 4, 4


class Layers(NamedTuple):
    """A network's shape, and where its arrays lie.

    parameters: all weights and biases, flat, padded, on a 64-byte boundary. sizes (L + 1,): units of each layer, inputs
    first. weight_at, bias_at (L,): where the weight and bias of each start. unit_at (L + 1,): where a layer's units
    start among those of all layers but the inputs, padding counted. activation: code of the hidden layers'. scale: of
    the inputs, in the working dtype.
    """

    parameters: np.ndarray
    sizes: np.ndarray
    weight_at: np.ndarray
    bias_at: np.ndarray
    unit_at: np.ndarray
    activation: int
    scale: np.floating


@register_jitable
def lanes(array):
    """How many elements of the array's dtype a vector holds."""
    return VECTOR // array.itemsize


@register_jitable
def n_vectors(size, lanes):
    """How many vectors `size` columns take."""
    return (size + lanes - 1) // lanes


@register_jitable
def widest(vectors):
    """Vectors of the widest panels of a layer."""
    return WIDE if vectors > NARROW else WIDE // 2


@register_jitable
def n_panels(vectors):
    """How many panels so many vectors make."""
    wide = widest(vectors)
    rest = vectors % wide
    return vectors // wide + rest // 2 + rest % 2


@register_jitable
def panel_start(vectors, p):
    """The first vector of panel p; for p = n_panels, the end."""
    wide = widest(vectors)
    full, rest = vectors // wide, vectors % wide
    if p <= full:
        return wide * p
    return min(wide * full + (2 if rest >= 2 else 1) * (p - full), vectors) if p == full + 1 else vectors


@register_jitable
def first_panel(t, threads, vectors):
    """Where the panels of thread t start; they end where those of thread t + 1 do."""
    return n_panels(vectors) * t // threads
