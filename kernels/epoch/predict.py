"""Prediction: rows pass through the whole network in one call, with the weights as NumPy stores them.

Training lays weights out in panels; for one row, that would take longer than the prediction. So nothing is laid out
here. Each row of a weight is read up to eight vectors at a time. If the row ends within a vector, only that part of the
vector is loaded. Rows of inputs are processed in pairs. If there are many rows of bytes, the first layer processes 64
rows at a time, packed as in training, so that each weight is fetched once for all of them.

Dimensions: N rows, D inputs, H units, C classes.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.inputs.csr import Csr
from fastnn.kernels.inputs.packed import Packed, add_sparse_product, load_weights, pack
from fastnn.kernels.jit import always_inline, inlined, kernel, never_inline
from fastnn.kernels.layout import GROUP, View, by_vectors
from fastnn.kernels.ops.activations import IDENTITY, LOGISTIC, vactivate
from fastnn.kernels.ops.losses import is_logistic, is_softmax
from fastnn.kernels.team import COUNT, STOP, Member, atomic_add, atomic_load
from fastnn.kernels.vector.bits import nonzero_mask, trailing_zeros
from fastnn.kernels.vector.exp_log import vexp
from fastnn.kernels.vector.simd import (
    EIGHT,
    ONE,
    SIXTEEN,
    VECTOR,
    array_at,
    flattened,
    lanes,
    load,
    vload,
    vload_as,
    vscale_add,
    vsplat,
    vstore,
    vsub,
    vzero,
)

# The columns of a table with one row per layer: the number of inputs and units of the layer, the addresses of its
# weight and bias, and the code of its activation. If the inputs are lists, the first row also has the addresses of a
# `csr.Csr`'s indptr (int64) and indices (uint32); otherwise these columns are 0. Passing these arrays as arguments
# would cost every call more than a microsecond.
FAN_IN, FAN_OUT, WEIGHT, BIAS, ACTIVATION, INDPTR, INDICES, N_COLUMNS = range(8)
# A thread predicts ROWS rows at a time, so that weights which do not fit the second-level cache are fetched once for
# all of them. Bytes are packed if there are MANY rows or more. Floats never are: packed floats would come from the
# second-level cache, as weights do.
ROWS, MANY = GROUP, 256
_WORD, _ONE_BIT, _ALL = 64, np.uint64(1), ~np.uint64(0)
_BITS = np.uint32(_WORD)  # unsigned, as indices are: signed ones would be tested for negative values


class Buffers(NamedTuple):
    """The numbers of the rows that a thread predicts together, before and after a layer.

    numbers: flat
    inp: the offset of the rows of inputs in `numbers`
    out: the offset of the rows of outputs in `numbers`
    width: the distance between two rows
    nonzero_masks: (rows, n_words) uint64, flat; bit i of a row is set if input i is nonzero or must not be skipped
    n_words: the number of words in a row of `nonzero_masks`
    """

    numbers: np.ndarray
    inp: int
    out: int
    width: int
    nonzero_masks: np.ndarray
    n_words: int


class Layer(NamedTuple):
    """A layer: ``out = scale * (inp @ weight) + bias``.

    weight: (D * H,), row after row
    bias: (H,)
    scale: the factor of the sums, in the dtype of `weight`
    n_inputs: D
    n_units: H
    """

    weight: np.ndarray
    bias: np.ndarray
    scale: np.floating
    n_inputs: int
    n_units: int


@inlined
def gather_inputs(images, start, n_rows, buffers):
    """Copy the rows of `images` from `start` on into `buffers`, and mark their nonzero inputs."""
    n_inputs, flat, values = images.shape[1], flattened(images), buffers.numbers
    for s in range(n_rows):
        image, row, masks = images[start + s], buffers.inp + s * buffers.width, s * buffers.n_words
        whole = n_inputs // _WORD
        for word in range(whole):
            at = (start + s) * n_inputs + word * _WORD
            buffers.nonzero_masks[masks + word] = nonzero_mask(flat, at)
            for i in range(0, _WORD, len(SIXTEEN)):
                vstore(values, row + word * _WORD + i, vload_as(flat, at + i, values, SIXTEEN))
        bits = np.uint64(0)
        for i in range(whole * _WORD, n_inputs):
            values[row + i] = values.dtype.type(image[i])
            if image[i] != 0:
                bits |= _ONE_BIT << np.uint64(i % _WORD)
        if n_inputs % _WORD:
            buffers.nonzero_masks[masks + whole] = bits


@inlined
def gather_lists(csr, start, n_rows, buffers):
    """`gather_inputs` for samples that are already lists.

    In each row of inputs, only those that are nonzero in this row or in the other row of its pair are written. No
    others are read. So the cost grows with the number of entries, not of inputs, except for clearing the masks.

    csr: the whole data set
    """
    never_inline()
    real, width, n_words = buffers.numbers.dtype.type, buffers.width, buffers.n_words
    for s in range(n_rows):
        row = buffers.numbers[buffers.inp + s * width : buffers.inp + (s + 1) * width]
        used = buffers.nonzero_masks[s * n_words : (s + 1) * n_words]
        neighbour = start + min(s ^ 1, n_rows - 1)
        for k in range(csr.indptr[neighbour], csr.indptr[neighbour + 1]):
            row[csr.indices[k]] = 0
        used[:] = 0
        for k in range(csr.indptr[start + s], csr.indptr[start + s + 1]):
            i = csr.indices[k]
            row[i] = real(csr.data[k])
            used[i // _BITS] |= _ONE_BIT << np.uint64(i % _BITS)


@inlined
def use_all(n_inputs, n_rows, buffers):
    """Mark all inputs of a layer as used: an input of 0 must not hide a weight that is NaN."""
    for s in range(n_rows):
        for word in range((n_inputs + _WORD - 1) // _WORD):
            unused = max(0, (word + 1) * _WORD - n_inputs)
            buffers.nonzero_masks[s * buffers.n_words + word] = _ALL >> np.uint64(unused)


@inlined
def pair_sums(buffers, s, other, layer, h, n):
    """The outputs of a layer for the rows `s` and `other` and `n` vectors of units from h on.

    A single vector may have fewer units than lanes. The inputs that either row uses are visited in order. An input of 0
    leaves a sum unchanged, so the bits of a row do not depend on the other row.

    Faster than row by row, because each weight that is loaded is used twice: weights come from the second-level cache,
    which is half as fast as the multiplications. All sums stay in registers.
    """
    never_inline()
    numbers, masks, n_units = buffers.numbers, buffers.nonzero_masks, layer.n_units
    a, b, sum_a, sum_b = s * buffers.width, other * buffers.width, vzero(numbers, n), vzero(numbers, n)
    for word in range((layer.n_inputs + _WORD - 1) // _WORD):
        todo = load(masks, s * buffers.n_words + word) | load(masks, other * buffers.n_words + word)
        while todo:
            i = word * _WORD + trailing_zeros(todo)
            todo &= todo - _ONE_BIT
            w = load_weights(layer.weight, i * n_units + h, n_units - h, n)
            sum_a = vscale_add(load(numbers, buffers.inp + a + i), w, sum_a)
            sum_b = vscale_add(load(numbers, buffers.inp + b + i), w, sum_b)
    added = load_weights(layer.bias, h, n_units - h, n)
    vstore(numbers, buffers.out + a + h, vscale_add(layer.scale, sum_a, added))
    vstore(numbers, buffers.out + b + h, vscale_add(layer.scale, sum_b, added))


@inlined
def group_sums(buffers, n_rows, packed, layer, h, n):
    """`pair_sums` for a packed group of rows, with the same bits."""
    never_inline()
    numbers, width, n_units, begin = buffers.numbers, buffers.width, layer.n_units, buffers.out + h
    for at in range(begin, begin + n_rows * width, width):
        vstore(numbers, at, vzero(numbers, n))
    out, weight = View(numbers, begin, width), View(layer.weight, h, n_units)
    add_sparse_product(out, packed, np.int64(0), layer.n_inputs, weight, n_units - h, n)
    added = load_weights(layer.bias, h, n_units - h, n)
    for at in range(begin, begin + n_rows * width, width):
        vstore(numbers, at, vscale_add(layer.scale, vload(numbers, at, n), added))


_group_sums, _pair_sums = by_vectors(group_sums), by_vectors(pair_sums)


@inlined
def packed_layer(buffers, n_rows, layer, packed):
    """`layer_sums` for a packed group of rows."""
    h, n = 0, lanes(buffers.numbers)
    while h < layer.n_units:
        left = (layer.n_units - h) // n
        vectors = 4 if left >= 4 else 2 if left >= 2 else 1
        _group_sums(vectors, buffers, n_rows, packed, layer, h)
        h += n * vectors


@inlined
def layer_sums(buffers, n_rows, layer):
    """Compute the outputs of a layer, before the activation, for `n_rows` rows."""
    h, n = 0, lanes(buffers.numbers)
    while h < layer.n_units:
        left = (layer.n_units - h) // n
        vectors = 8 if left >= 8 else 4 if left >= 4 else 2 if left >= 2 else 1
        for s in range(0, n_rows, 2):
            other = min(s + 1, n_rows - 1)  # a last row without a partner is paired with itself
            if vectors == 8:
                pair_sums(buffers, s, other, layer, h, EIGHT)
            else:
                _pair_sums(vectors, buffers, s, other, layer, h)
        h += n * vectors


@inlined
def activate_rows(activation, buffers, n_rows, n_units):
    """Apply an activation to the rows of outputs, in place."""
    numbers = buffers.numbers
    for s in range(n_rows):
        row = buffers.out + s * buffers.width
        for at in range(row, row + n_units, lanes(numbers)):
            vstore(numbers, at, vactivate(activation, vload(numbers, at, ONE), numbers))


@inlined
def run_layer(k, code, layer, buffers, n_rows, packed, is_packed):
    """Compute the outputs of layer number `k`. Inputs and outputs change places from layer to layer.

    code: the activation code
    packed: the inputs if `is_packed` is true, otherwise not used
    """
    always_inline()
    if k % 2:
        buffers = Buffers(
            buffers.numbers, buffers.out, buffers.inp, buffers.width, buffers.nonzero_masks, buffers.n_words
        )
    if k > 0:
        use_all(layer.n_inputs, n_rows, buffers)
    if is_packed:
        packed_layer(buffers, n_rows, layer, packed)
    else:
        layer_sums(buffers, n_rows, layer)
    if code != IDENTITY:
        activate_rows(code, buffers, n_rows, layer.n_units)


@inlined
def softmax_in_place(values, at, n_classes):
    """Softmax of the `n_classes` numbers from `at` on, in place; the rest of their last vector is overwritten."""
    top = values[at]
    for c in range(1, n_classes):
        top = max(top, values[at + c])
    for c in range(0, n_classes, lanes(values)):
        vstore(values, at + c, vexp(vsub(vload(values, at + c, ONE), vsplat(top, ONE))))
    total = values.dtype.type(0)
    for c in range(n_classes):
        total += values[at + c]
    for c in range(n_classes):
        values[at + c] /= total


class Scratch(NamedTuple):
    """A thread's memory for a prediction, as `new_scratch` makes it.

    nonzero_masks: uint64, first for packed inputs, then for each layer's rows
    numbers: the numbers of the rows, before and after a layer
    packed: the packed inputs
    offsets: (2 * GROUP,) int64
    """

    nonzero_masks: np.ndarray
    numbers: np.ndarray
    packed: np.ndarray
    offsets: np.ndarray


def new_scratch(table: np.ndarray, images: np.ndarray, n_rows: int, real: np.dtype) -> Scratch:
    """Memory for the prediction of `n_rows` rows by the network of a table (see `predict`)."""
    n_inputs, rows = int(table[0, FAN_IN]), min(ROWS, n_rows)
    packs = images.itemsize == 1 and not table[0, INDPTR] and n_rows >= MANY
    most = max(int(table[:, FAN_OUT].max()), 0 if packs else n_inputs)
    n_words = (most + _WORD - 1) // _WORD
    lanes_ = VECTOR // real.itemsize
    size = 2 * rows * (n_words * _WORD + lanes_)
    both = np.empty(size + lanes_, real)
    first = -both.ctypes.data % VECTOR // real.itemsize  # a vector that crosses cache lines takes twice as long to load
    return Scratch(
        np.empty(max(rows * n_words, n_inputs if packs else 0), np.uint64),
        both[first : first + size],
        np.empty(n_inputs * GROUP if packs else 0, images.dtype),
        np.empty(2 * GROUP, np.int64),
    )


@kernel
def predict(table, scale, images, output, barrier, out, scratch):
    """Predict rows of `images`, ROWS at a time, until none is left. Every thread of a prediction calls this.

    table: (L, N_COLUMNS) int64, the addresses of a network's arrays, which are C-contiguous and have the dtype of `out`
    scale: the scale of the inputs
    images: (N, D), or (1, entries), the values of the lists, if the table has the addresses of lists
    output: SOFTMAX_OUTPUT or LOGISTIC_OUTPUT for probabilities, IDENTITY_OUTPUT for logits
    barrier: a new one for each prediction, shared by its threads. Its count is the number of requests for rows so far;
        its stop flag ends the prediction early
    out: (N, C), overwritten
    scratch: this thread's own `Scratch`

    A row's sums are always added in the same order, so its bits depend neither on the other rows, nor on the number of
    threads, nor on the form of the inputs. Weights that are not finite are the exception: they may affect a
    neighbouring row.

    Faster than one call per layer: no intermediate result leaves the caches.
    """
    n_layers, real, n_all = len(table), out.dtype.type, len(out)
    n_inputs, n_classes, most = table[0, FAN_IN], table[n_layers - 1, FAN_OUT], table[0, FAN_OUT]
    lists = table[0, INDPTR] != 0
    packs = images.itemsize == 1 and not lists and n_all >= MANY
    for layer in range(1, n_layers):
        most = max(most, table[layer, FAN_OUT])
    if not packs:
        most = max(most, n_inputs)
    n_words = (most + _WORD - 1) // _WORD
    # Rows that are a power of 2 apart would share the same cache sets.
    width, rows = n_words * _WORD + lanes(out), min(ROWS, n_all)
    nonzero_masks, numbers, packed_values, offsets = scratch
    buffers = Buffers(numbers, 0, rows * width, width, nonzero_masks, n_words)
    packed, chosen = Packed(packed_values, nonzero_masks), offsets[GROUP:]
    while not atomic_load(barrier, STOP):
        start = atomic_add(barrier, COUNT, 1) * ROWS
        n_rows = min(ROWS, n_all - start)
        if n_rows <= 0:
            return
        if packs:
            for s in range(n_rows):
                chosen[s] = start + s
            pack(Member(np.int64(0), np.int64(1), barrier), images, chosen[:n_rows], packed, offsets)
        elif lists:
            indptr = array_at(table[0, INDPTR], n_all + 1, table)
            indices = array_at(table[0, INDICES], images.size, np.uint32)
            gather_lists(Csr(indptr, indices, flattened(images)), start, n_rows, buffers)
        else:
            gather_inputs(images, start, n_rows, buffers)
        for k in range(n_layers):
            fan_in, n_units = table[k, FAN_IN], table[k, FAN_OUT]
            weight = array_at(table[k, WEIGHT], fan_in * n_units, out)
            bias = array_at(table[k, BIAS], n_units, out)
            layer = Layer(weight, bias, real(scale) if k == 0 else real(1), fan_in, n_units)
            code = LOGISTIC if k + 1 == n_layers and is_logistic(output) else table[k, ACTIVATION]
            run_layer(k, code, layer, buffers, n_rows, packed, k == 0 and packs)
        for s in range(n_rows):
            row = (s + rows * (n_layers % 2)) * width
            if is_softmax(output):
                softmax_in_place(numbers, row, n_classes)
            for c in range(n_classes):
                out[start + s, c] = numbers[row + c]
