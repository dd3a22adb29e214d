"""The first layer of a prediction from lists of nonzero inputs: a row costs as much as its entries, for any width D.

The row of the weight that an entry names is multiplied by the entry and added to the sums, which stay in registers.
Nothing is written or read for inputs without an entry. The other layers are those of `predict.py`.

Dimensions: N rows, D inputs, H units.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import always_inline, inlined, kernel, never_inline
from fastnn.kernels.ops.activations import vactivate
from fastnn.kernels.ops.losses import is_softmax
from fastnn.kernels.ops.softmax import softmax_row
from fastnn.kernels.team import STOP, atomic_load
from fastnn.kernels.vector.memory import flattened
from fastnn.kernels.vector.simd import (
    FOUR,
    ONE,
    TWO,
    lanes,
    load,
    prefetch,
    vload,
    vload_part,
    vscale_add,
    vstore,
    vzero,
)

# The weights of an entry are prefetched this many entries before they are added. They may come from main memory.
AHEAD = 16
# The number of rows between two looks at the stop flag.
_ROWS = 64


class Entries(NamedTuple):
    """The entries of a row.

    indices, data: those of all rows
    begin, end: the positions of the row's first entry, and of the one after its last
    """

    indices: np.ndarray
    data: np.ndarray
    begin: int
    end: int


class Weight(NamedTuple):
    """The weight of the layer.

    array: (D * H,), row after row
    n_inputs, n_units: D and H
    """

    array: np.ndarray
    n_inputs: int
    n_units: int


@inlined
def _ask_ahead(indices, k, weight, first, second, n):
    """Prefetch two times `n` vectors of weights of the entry AHEAD entries after entry `k`.

    A wrong index does no harm here: a prefetch can have any address.
    """
    always_inline()
    at, one = np.int64(load(indices, min(k + AHEAD, len(indices) - 1))) * weight.n_units, lanes(weight.array)
    prefetch(weight.array, at + first)
    for v in range(1, len(n)):  # a range with a step would divide each time
        prefetch(weight.array, at + first + v * one)
        prefetch(weight.array, at + second + v * one)
    prefetch(weight.array, at + second + len(n) * one - 1)


@inlined
def _add_pair(entries, weight, first, second, sums, n):
    """Compute the sums of twice `n` vectors of units, from `first` and from `second` on.

    The two may overlap. Their common sums are then computed twice, with equal bits, and no vector is loaded in part.

    Returns whether the indices ascend and are less than D. Each is checked as it is used: the arrays may change.
    """
    never_inline()
    indices, data, array, n_units, last = entries.indices, entries.data, weight.array, weight.n_units, np.int64(-1)
    sum_a, sum_b = vzero(sums, n), vzero(sums, n)
    for k in range(entries.begin, entries.end):
        i, value = np.int64(load(indices, k)), load(data, k)
        if (i <= last) | (i >= weight.n_inputs):
            return False
        _ask_ahead(indices, k, weight, first, second, n)
        last = i
        if value != 0:  # a stored zero must not turn a weight that is not finite into NaN
            at = i * n_units
            sum_a = vscale_add(value, vload(array, at + first, n), sum_a)
            sum_b = vscale_add(value, vload(array, at + second, n), sum_b)
    vstore(sums, first, sum_a)
    vstore(sums, second, sum_b)
    return True


@inlined
def _add_few(entries, weight, sums):
    """`_add_pair` for a layer of fewer units than a vector has lanes, or as many."""
    never_inline()
    indices, data, array, n_units, last = entries.indices, entries.data, weight.array, weight.n_units, np.int64(-1)
    total = vzero(sums, ONE)
    for k in range(entries.begin, entries.end):
        i, value = np.int64(load(indices, k)), load(data, k)
        if (i <= last) | (i >= weight.n_inputs):
            return False
        prefetch(array, np.int64(load(indices, min(k + AHEAD, len(indices) - 1))) * n_units)
        last = i
        if value != 0:
            total = vscale_add(value, vload_part(array, i * n_units, n_units, ONE), total)
    vstore(sums, 0, total)
    return True


@inlined
def _add(entries, weight, sums):
    """Compute the sums of all units of a row; return whether the indices are right.

    Each sum adds its products one by one, in the order of the inputs, as in `predict.py`. So the bits are the same.
    """
    n, n_units, h, is_right = lanes(sums), weight.n_units, 0, True
    if n_units <= n:
        return _add_few(entries, weight, sums)
    if n_units <= 2 * n:
        return _add_pair(entries, weight, 0, n_units - n, sums, ONE)
    if n_units <= 4 * n:
        return _add_pair(entries, weight, 0, n_units - 2 * n, sums, TWO)
    while h < n_units and is_right:
        first, second = min(h, n_units - 4 * n), min(h + 4 * n, n_units - 4 * n)
        is_right = _add_pair(entries, weight, first, second, sums, FOUR)
        h += 8 * n
    return is_right


@inlined
def _finish(sums, bias, scale, codes, out, row):
    """Write ``activation(scale * sums + bias)`` to a row of `out`, or the softmax of the sums.

    The memory behind the sums, for one vector, is overwritten.
    """
    never_inline()
    (code, output), n, n_units, at = codes, lanes(sums), len(bias), row * len(bias)
    for h in range(0, n_units, n):
        total = vscale_add(scale, vload(sums, h, ONE), vload_part(bias, h, n_units - h, ONE))
        vstore(sums, h, vactivate(code, total, sums))
    if is_softmax(output):
        softmax_row(sums, 0, n_units, sums[len(sums) - n :])
    whole = n_units - n_units % n
    for h in range(0, whole, n):
        vstore(out, at + h, vload(sums, h, ONE))
    for h in range(whole, n_units):
        out[at + h] = sums[h]


@kernel
def predict_first_layer(csr, start, layer, codes, barrier, out, sums):
    """Compute the outputs of the first layer for the rows of `csr` from `start` on.

    Returns whether `csr` is in order. If not, `out` is incomplete: the positions in `indptr` or the indices of a row do
    not ascend, or do not fit the arrays.

    csr: a `Csr` with uint32 indices and values of the dtype of `out`. It is checked here, and may change at any time
    layer: the weight, (D, H), the bias, (H,), and the scale of the inputs; all of the dtype of `out`
    codes: that of the activation, and SOFTMAX_OUTPUT if the outputs are those of a softmax
    barrier: its stop flag ends the prediction early
    out: (B, H), one row for each row of the result, overwritten
    sums: this thread's own scratch: room for H numbers, padded to whole vectors, and for one vector more
    """
    matrix, bias, scale = layer
    n_entries = min(len(csr.indices), len(csr.data))
    weight, flat_out = Weight(flattened(matrix), matrix.shape[0], matrix.shape[1]), flattened(out)
    for row in range(len(out)):
        if row % _ROWS == 0 and atomic_load(barrier, STOP):
            return True
        begin, end = csr.indptr[start + row], csr.indptr[start + row + 1]
        if begin < 0 or begin > end or end > n_entries:
            return False
        if not _add(Entries(csr.indices, csr.data, begin, end), weight, sums):
            return False
        _finish(sums, bias, scale, codes, flat_out, row)
    return True
