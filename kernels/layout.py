"""The memory layout of a network in the kernels: flat arrays, with the columns grouped into panels of whole vectors.

The columns of a layer are padded to whole vectors and cut into panels. Panels are four vectors wide; the remaining
vectors form at most one panel of two and one of one. In layers of at most NARROW vectors, panels are two vectors wide,
and a remaining vector forms a panel of one. The rows of a panel are contiguous. Loads from a panel therefore run
through memory in order and use all cache sets; rows a large power of 2 apart would share a few. A panel is also the
unit of work that one thread owns. Padding is 0 and stays 0, because its gradients are 0.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import always_inline, inlined
from fastnn.kernels.team import own_part
from fastnn.kernels.vector.simd import FOUR, ONE, TWO

# The number of samples in a group of packed inputs: one uint64 has a bit for each.
GROUP = 64
# The maximum number of rows in a block. A batch is processed block by block: the activations of a block stay in the
# second-level cache, and a full batch needs no more memory than a small one.
BLOCK = 4 * GROUP
# The number of rows of a weight gradient that are computed before their weights are updated. They are 4 KB and stay in
# the first-level cache.
GRADIENT_ROWS = 16
# Layer numbers: the inputs, and the first layer after them (the classes if there is no hidden layer). Typed constants,
# not literals; `ops/matmul.py` gives the reason.
INPUTS, FIRST_HIDDEN = np.int64(0), np.int64(1)
# The number of vectors in the widest panel. In layers of at most NARROW vectors the widest panel has half as many, so
# that there are panels for several threads.
WIDE, NARROW = 4, 4


# The columns of a layer's row in `Layout.table`.
SIZE, PANEL_AT, N_PANELS, WEIGHT_AT, BIAS_AT, ACTIVATION, N_COLUMNS = range(7)


class Layout(NamedTuple):
    """The shape of a network and the offsets of its arrays.

    parameters: (P,), all weights and biases, flat, padded and aligned to 64 bytes
    n_weights: the number of weight layers, L
    table: (L + 1 + the number of all panels, N_COLUMNS) int64, see below
    output: the code of the output function (`ops/losses.py`)
    scale: the factor of the inputs, in the working dtype

    The first L + 1 rows of `table` describe the layers of units; layer 0 is the inputs. Their columns:

    SIZE: the number of units
    PANEL_AT: the row of `table` where the layer's panels begin
    N_PANELS: the number of panels
    WEIGHT_AT: the offset in `parameters` of the weights that lead out of the layer
    BIAS_AT: the offset in `parameters` of the biases that belong to these weights
    ACTIVATION: the code of the units' activation (`ops/activations.py`)

    The remaining rows begin with the fields of each `Panel`, layer by layer. The inputs have no panels.

    All numbers are in one table because every array that a function passes on adds seven machine arguments.
    """

    parameters: np.ndarray
    n_weights: int
    table: np.ndarray
    output: int
    scale: np.floating


class Panel(NamedTuple):
    """A panel of a layer's units.

    first: its first column in the layer
    vectors: the number of vectors in a row
    width: the number of columns, padding included
    at: the offset of its first row in `Units.out` and `Units.dout`
    row: the distance between its rows there

    `row` equals `width` except for the classes: their panels share rows, because softmax needs whole rows.
    """

    first: int
    vectors: int
    width: int
    at: int
    row: int


class View(NamedTuple):
    """Rows of a flat array: row r begins at element ``at + r * row``."""

    array: np.ndarray
    at: int
    row: int


class Matrix(NamedTuple):
    """A matrix in a flat array: entry (r, k) is element ``at + r * row + k * column``."""

    array: np.ndarray
    at: int
    row: int
    column: int


def panel_widths(vectors: int) -> list[int]:
    """The number of vectors in each panel of a layer that has `vectors` vectors."""
    wide = WIDE if vectors > NARROW else WIDE // 2
    rest = vectors % wide
    return [wide] * (vectors // wide) + [2] * (rest // 2) + [1] * (rest % 2)


@inlined
def size_of(layout, layer):
    """The number of units of a layer. Layer 0 is the inputs."""
    return layout.table[layer, SIZE]


@inlined
def n_panels(layout, layer):
    """The number of panels of a layer."""
    return layout.table[layer, N_PANELS]


@inlined
def unit_panel(layout, layer, p):
    """Panel `p` of a layer, which must not be the inputs."""
    row = layout.table[layout.table[layer, PANEL_AT] + p]
    return Panel(row[0], row[1], row[2], row[3], row[4])


@inlined
def weight_panel(layout, layer, panel):
    """The offset in the parameters of the weights from `layer` to `panel`, a panel of layer ``layer + 1``."""
    return layout.table[layer, WEIGHT_AT] + panel.first * layout.table[layer, SIZE]


@inlined
def weight_block(layout, layer, inputs, outputs):
    """The weights from panel `inputs` of `layer` to panel `outputs` of the next layer.

    Returns the offset of the first row in the parameters, and the number of rows: the inputs without padding.
    """
    at = weight_panel(layout, layer, outputs) + inputs.first * outputs.width
    return at, min(inputs.width, size_of(layout, layer) - inputs.first)


@inlined
def bias_panel(layout, layer, panel):
    """The offset in the parameters of the biases of `panel`, a panel of layer ``layer + 1``."""
    return layout.table[layer, BIAS_AT] + panel.first


@inlined
def all_panels(layout, layer):
    """The range of a layer's panel numbers."""
    return range(n_panels(layout, layer))


@inlined
def own_panels(member, layout, layer):
    """The range of a layer's panel numbers that this member of the team owns."""
    return own_part(member, n_panels(layout, layer))


@inlined
def padded_width(layout, layer):
    """The number of a layer's columns, padding included."""
    panel = unit_panel(layout, layer, n_panels(layout, layer) - 1)
    return panel.first + panel.width


def by_vectors(function):
    """A function that calls ``function(*arguments, n)`` for a number of vectors that is known only at run time.

    Its first argument is that number: 4, 2 or 1. `n` is FOUR, TWO or ONE.
    """

    @inlined
    def with_vectors(vectors, *arguments):
        always_inline()
        if vectors == 4:
            return function(*arguments, FOUR)
        if vectors == 2:
            return function(*arguments, TWO)
        return function(*arguments, ONE)

    return with_vectors
