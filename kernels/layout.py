"""How a network lies in memory for the kernels: flat arrays, columns in panels of whole vectors.

Columns of a layer are padded to whole vectors and cut into panels of four vectors, then two, then one. A panel's rows
stand one after the other, so its loads run through memory in order and no power of 2 between rows makes them fall on
the same places of the cache. A panel is also what a thread owns. Padding is 0 and stays 0: its gradients are.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined

# Samples are packed and visited in groups of this many: one word has a bit for each.
GROUP = 64
# A batch is worked through in blocks of at most this many rows: their activations stay in the second-level cache, and a
# full batch needs no more memory than a small one.
BLOCK = 4 * GROUP
# Rows of a weight's gradient that are summed before they move their weights: 4 KB, in the first-level cache.
GRADIENT_ROWS = 16
# Layers by number: the inputs, and the first hidden layer, or the classes where there is none. No literals, for the
# reason in `dense.py`.
INPUTS, FIRST_HIDDEN = np.int64(0), np.int64(1)
# Vectors of the widest panel, and of those in layers of at most NARROW vectors, where several threads want some.
WIDE, NARROW = 4, 4


# Columns of a layer's row in the table of `Layers`.
SIZE, PANEL_AT, N_PANELS, WEIGHT_AT, BIAS_AT, N_COLUMNS = range(6)


class Layout(NamedTuple):
    """A network's shape, and where its arrays lie.

    parameters: all weights and biases, flat, padded, on a 64-byte boundary. n_weights: how many layers of weights there
    are, L. table (L + 1 + all panels, 5): for each layer of units, the inputs' being layer 0, its SIZE; the PANEL_AT,
    the row of the table where its panels begin, and their number N_PANELS; where the WEIGHT_AT and the BIAS_AT that
    lead out of it begin among the parameters. Then, layer after layer, the numbers of each `Panel`; the inputs have
    none. activation: code of the hidden layers'; output: of what follows the last. scale: of the inputs, in the working
    dtype.

    One table, since every array that functions hand on is seven arguments to each of them.
    """

    parameters: np.ndarray
    n_weights: int
    table: np.ndarray
    activation: int
    output: int
    scale: np.floating


class Panel(NamedTuple):
    """A panel of a layer's units: its first column, its vectors and columns; in `out`, where its rows start, and how
    far they are from each other: `width`, but for the classes, whose panels share rows, since softmax takes them whole.
    """

    first: int
    vectors: int
    width: int
    at: int
    row: int


def panel_widths(vectors: int) -> list[int]:
    """How many vectors each panel of a layer of so many vectors has."""
    wide = WIDE if vectors > NARROW else WIDE // 2
    rest = vectors % wide
    return [wide] * (vectors // wide) + [2] * (rest // 2) + [1] * (rest % 2)


@inlined
def size_of(layout, layer):
    """How many units a layer has, the inputs being layer 0."""
    return layout.table[layer, SIZE]


@inlined
def n_panels(layout, layer):
    """How many panels the units of a layer have."""
    return layout.table[layer, N_PANELS]


@inlined
def unit_panel(layout, layer, p):
    """Panel p of the units of a layer other than the inputs."""
    row = layout.table[layout.table[layer, PANEL_AT] + p]
    return Panel(row[0], row[1], row[2], row[3], row[4])


@inlined
def weight_panel(layout, layer, panel):
    """Where the panel of a layer's weight that leads into the units of `panel` starts."""
    return layout.table[layer, WEIGHT_AT] + panel.first * layout.table[layer, SIZE]


@inlined
def bias_panel(layout, layer, panel):
    """Where the biases of the units of `panel`, to which a layer's weights lead, start."""
    return layout.table[layer, BIAS_AT] + panel.first


@inlined
def all_panels(layout, layer):
    """The panels of a layer's units, as a range."""
    return range(n_panels(layout, layer))


@inlined
def own_panels(layout, layer, t, threads):
    """The panels of a layer's units that thread t owns, as a range."""
    count = n_panels(layout, layer)
    return range(count * t // threads, count * (t + 1) // threads)


@inlined
def padded_width(layout, layer):
    """The columns of a layer's units, padding counted."""
    panel = unit_panel(layout, layer, n_panels(layout, layer) - 1)
    return panel.first + panel.width
