"""Prediction: rows pass through the whole network in one call, with the weights as NumPy stores them.

Training lays weights out in panels; for one row, that would take longer than the prediction. So nothing is laid out
here. Each row of a weight is read up to eight vectors at a time. If the row ends within a vector, only that part of the
vector is loaded. Rows of inputs are processed in pairs. If there are many rows of bytes with many zeros, the first
layer processes 64 rows at a time, packed as in training, so that each weight is fetched once for all of them. If there
are several rows of mostly nonzero inputs, register tiles multiply them all (`predict_dense.py`).

Dimensions: N rows, D inputs, H units, C classes.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.epoch.predict_dense import (
    DEPTH,
    MOST_VECTORS,
    Pieces,
    dense_layer,
    gathered_layer,
)
from fastnn.kernels.inputs.packed import Packed, add_sparse_product, load_weights, pack
from fastnn.kernels.inputs.strided import SIDE, Square, Strided, gather_strided
from fastnn.kernels.jit import always_inline, inlined, kernel, never_inline
from fastnn.kernels.layout import GROUP, View, by_vectors
from fastnn.kernels.ops.activations import IDENTITY, LOGISTIC, vactivate
from fastnn.kernels.ops.losses import is_logistic, is_softmax
from fastnn.kernels.ops.matmul import ONE_ROW, START
from fastnn.kernels.ops.softmax import MANY_ROWS, softmax_rows
from fastnn.kernels.team import COUNT, STOP, Member, atomic_add, atomic_load
from fastnn.kernels.vector.bits import nonzero_mask, trailing_zeros
from fastnn.kernels.vector.finite import are_finite
from fastnn.kernels.vector.memory import allocate, array_at, flattened, release
from fastnn.kernels.vector.simd import (
    EIGHT,
    ONE,
    SIXTEEN,
    VECTOR,
    lanes,
    load,
    vload,
    vload_as,
    vscale_add,
    vstore,
    vzero,
)

# The columns of a table with one row per layer: the number of inputs and units of the layer, the addresses of its
# weight and bias, and the code of its activation. The other columns are used in the first row. AT_ONCE is the number of
# groups of ROWS rows that a thread takes at a time if the inputs are dense. From SOURCE on are the four fields of a
# `Strided`, or zeros. Passing these as arguments would cost every call more than a microsecond.
FAN_IN, FAN_OUT, WEIGHT, BIAS, ACTIVATION, AT_ONCE, SOURCE = range(7)
N_COLUMNS = SOURCE + len(Strided._fields)
# A thread predicts ROWS rows at a time, or several times as many if they are dense, so that weights which do not fit
# the second-level cache are fetched once for all of them. Bytes with zeros are packed if there are MANY rows or more.
ROWS, MANY = GROUP, 256
# Tiles multiply all inputs if there are TILED rows or more, and if more than DENSE of the inputs of SAMPLED rows are
# nonzero. For fewer rows, copying the weights takes too long. Packed bytes are skipped faster than other zeros.
TILED, SAMPLED, DENSE, DENSE_BYTES = 8, 16, 0.15, 0.3
# The largest number of groups, and of outputs of a layer, in a block of dense rows: half the second-level cache.
MOST_AT_ONCE, BLOCK_SIZE = 4, 2**18
# The entry of the barrier that is above 0 after a prediction if one of its inputs is NaN or infinite.
NOT_FINITE = STOP + 1
_WORD, _ONE_BIT, _ALL = 64, np.uint64(1), ~np.uint64(0)


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


class Request(NamedTuple):
    """What to predict, as `predict` was given it.

    scale: in the dtype of `out`
    source: a `Strided`
    """

    table: np.ndarray
    scale: np.floating
    images: np.ndarray
    source: Strided
    output: int
    out: np.ndarray


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
def mark_inputs(n_inputs, n_rows, buffers):
    """Mark the nonzero inputs of rows that have been copied into `buffers`."""
    n_words = (n_inputs + _WORD - 1) // _WORD
    for s in range(n_rows):
        row = buffers.inp + s * buffers.width
        buffers.numbers[row + n_inputs : row + n_words * _WORD] = 0
        for word in range(n_words):
            bits = nonzero_mask(buffers.numbers, row + word * _WORD)
            buffers.nonzero_masks[s * buffers.n_words + word] = bits


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
def run_layer(k, code, layer, buffers, n_rows, packed, is_packed, keeps_zeros):
    """Compute the outputs of layer number `k`. Inputs and outputs change places from layer to layer.

    code: the activation code
    packed: the inputs if `is_packed` is true, otherwise not used
    keeps_zeros: whether inputs of 0 count too, because they are outputs of another layer
    """
    always_inline()
    if k % 2:
        buffers = Buffers(
            buffers.numbers, buffers.out, buffers.inp, buffers.width, buffers.nonzero_masks, buffers.n_words
        )
    if keeps_zeros:
        use_all(layer.n_inputs, n_rows, buffers)
    if is_packed:
        packed_layer(buffers, n_rows, layer, packed)
    else:
        layer_sums(buffers, n_rows, layer)
    if code != IDENTITY:
        activate_rows(code, buffers, n_rows, layer.n_units)


@inlined
def _count_nonzero(images, source, row, n_inputs):
    """The number of nonzero inputs of a row."""
    count = 0
    if source.itemsize == 0:
        image = images[row]
        for i in range(n_inputs):
            count += image[i] != 0
        return count
    at = row * source.row_stride
    if source.itemsize == 8:
        double = array_at(source.address, 1, np.float64)
        for i in range(n_inputs):
            count += load(double, at + i * source.column_stride) != 0
        return count
    single = array_at(source.address, 1, np.float32)
    for i in range(n_inputs):
        count += load(single, at + i * source.column_stride) != 0
    return count


@inlined
def is_dense(images, source, n_all, n_inputs):
    """Whether so many inputs are nonzero that multiplying all of them is faster than skipping zeros.

    Counted in SAMPLED rows, spread over the data. The bits of a prediction do not depend on the answer.
    """
    never_inline()
    count, n_sampled = 0, min(SAMPLED, n_all)
    for sample in range(n_sampled):
        count += _count_nonzero(images, source, n_all * sample // n_sampled, n_inputs)
    limit = DENSE_BYTES if images.itemsize == 1 and n_all >= MANY else DENSE
    return count > limit * n_sampled * n_inputs


@inlined
def layer_of(request, k):
    """Layer number `k`, and the code of what follows its sums."""
    table, like = request.table, request.out
    fan_in, n_units = table[k, FAN_IN], table[k, FAN_OUT]
    weight = array_at(table[k, WEIGHT], fan_in * n_units, like)
    bias = array_at(table[k, BIAS], n_units, like)
    scale = request.scale if k == 0 else like.dtype.type(1)
    is_last = k + 1 == len(table)
    code = LOGISTIC if is_last and is_logistic(request.output) else table[k, ACTIVATION]
    return Layer(weight, bias, scale, fan_in, n_units), code


@inlined
def sparse_rows(request, start, n_rows, buffers, packed, offsets, square):
    """Compute the last layer's outputs, before softmax, for the rows from `start` on, without inputs that are 0.

    packed: scratch for packed rows, or empty arrays
    offsets: (2 * GROUP,) int64, scratch
    square: scratch for strided inputs

    Returns whether all inputs are finite.
    """
    never_inline()
    finite = True
    table, images, source, n_inputs = request.table, request.images, request.source, request.table[0, FAN_IN]
    packs = len(packed.values) > 0
    if packs:
        chosen = offsets[GROUP:]
        for s in range(n_rows):
            chosen[s] = start + s
        pack(Member(np.int64(0), np.int64(1), offsets), images, chosen[:n_rows], None, packed, offsets)
    elif source.itemsize:
        gather_strided(source, start, n_rows, START, n_inputs, buffers.numbers, buffers.width, square)
        finite = are_finite(buffers.numbers, START, buffers.width, n_rows, n_inputs)
        mark_inputs(n_inputs, n_rows, buffers)
    else:
        if images.itemsize > 1:
            rows = array_at(images.ctypes.data, images.size, buffers.numbers)
            finite = are_finite(rows, start * n_inputs, START, ONE_ROW, n_rows * n_inputs)
        gather_inputs(images, start, n_rows, buffers)
    for k in range(len(table)):
        layer, code = layer_of(request, k)
        run_layer(k, code, layer, buffers, n_rows, packed, k == 0 and packs, k > 0)
    return finite


@inlined
def dense_rows(request, start, n_rows, buffers, pieces):
    """`sparse_rows`, but all inputs are multiplied, by register tiles. The bits and the result are the same.

    pieces: scratch
    """
    never_inline()
    finite = True
    images, numbers, width, n_inputs = request.images, buffers.numbers, buffers.width, request.table[0, FAN_IN]
    for k in range(len(request.table)):
        layer, code = layer_of(request, k)
        inp, out = (buffers.out, buffers.inp) if k % 2 else (buffers.inp, buffers.out)
        view = View(numbers, out, width)
        if k > 0:
            dense_layer(view, layer, code, View(numbers, inp, width), n_rows, pieces.weight)
        elif len(pieces.inputs):
            finite = gathered_layer(view, layer, code, images, request.source, start, n_rows, pieces)
        else:  # the rows are read where they are
            rows = array_at(images.ctypes.data, images.size, numbers)
            finite = are_finite(rows, start * n_inputs, START, ONE_ROW, n_rows * n_inputs)
            dense_layer(view, layer, code, View(rows, start * n_inputs, n_inputs), n_rows, pieces.weight)
    return finite


@inlined
def write_rows(values, at, row, out, out_at, n_rows, n_classes):
    """Copy rows that are `row` apart to contiguous rows of `out`. Both are flat.

    Whole vectors are stored. What they write beyond the end of a row, the next row overwrites. The last rows are stored
    number by number, because the rows after them may belong to other threads.
    """
    never_inline()
    n, end = lanes(out), out_at + n_rows * n_classes
    for s in range(n_rows):
        to, first = out_at + s * n_classes, at + s * row
        for c in range(0, n_classes, n):
            if to + c + n <= end:
                vstore(out, to + c, vload(values, first + c, ONE))
            else:
                for k in range(c, min(c + n, n_classes)):
                    out[to + k] = values[first + k]


@inlined
def predict_rows(table, scale, images, output, barrier, out):
    """What `predict` describes, for it and for other kernels."""
    n_layers, n_all, n_inputs, n_classes = len(table), len(out), table[0, FAN_IN], table[len(table) - 1, FAN_OUT]
    source = Strided(table[0, SOURCE], table[0, SOURCE + 1], table[0, SOURCE + 2], table[0, SOURCE + 3])
    request = Request(table, out.dtype.type(scale), images, source, output, out)
    tiles = n_all >= TILED and is_dense(images, source, n_all, n_inputs)
    packs = images.itemsize == 1 and n_all >= MANY and not tiles
    most = table[0, FAN_OUT]
    for layer in range(1, n_layers):
        most = max(most, table[layer, FAN_OUT])
    if not packs and not tiles:
        most = max(most, n_inputs)
    n_words, n = (most + _WORD - 1) // _WORD, lanes(out)
    width = n_words * _WORD + n  # rows that are a power of 2 apart would share the same cache sets
    at_once = max(1, min(table[0, AT_ONCE], BLOCK_SIZE // (width * ROWS))) if tiles else 1
    rows = min(at_once * ROWS, n_all)
    # First the masks of packed inputs, then those of each layer's rows.
    n_masks = 0 if tiles else max(rows * n_words, n_inputs if packs else 0)
    gathers = tiles and (source.itemsize > 0 or images.itemsize != out.itemsize)
    piece, part = DEPTH * MOST_VECTORS * n if tiles else 0, rows * DEPTH if gathers else 0
    stats = n + (n * (n_classes + n) if rows >= MANY_ROWS and is_softmax(output) else 0)
    free, n_packed = 2 * rows * width, n_inputs * GROUP if packs else 0
    size = free + piece + part + stats + SIDE * SIDE
    size += size % 2  # so that the arrays after `numbers` are aligned
    memory = allocate(VECTOR + size * out.itemsize + 8 * (n_masks + 2 * GROUP) + n_packed * images.itemsize)
    if memory == 0:
        return False
    begin = memory + -memory % VECTOR  # a vector that crosses cache lines takes twice as long to load
    masks_at = begin + size * out.itemsize
    numbers, nonzero_masks = array_at(begin, size, out), array_at(masks_at, n_masks, np.uint64)
    offsets = array_at(masks_at + 8 * n_masks, 2 * GROUP, np.int64)
    packed = Packed(array_at(masks_at + 8 * (n_masks + 2 * GROUP), n_packed, images), nonzero_masks)
    buffers = Buffers(numbers, 0, rows * width, width, nonzero_masks, n_words)
    square = Square(numbers[size - SIDE * SIDE :], offsets)
    pieces = Pieces(numbers[free : free + piece], numbers[free + piece : free + piece + part], square)
    softmax_scratch, flat = numbers[free + piece + part :], flattened(out)
    while not atomic_load(barrier, STOP):
        start = atomic_add(barrier, COUNT, at_once) * ROWS
        n_rows, result = min(rows, n_all - start), rows * (n_layers % 2) * width
        if n_rows <= 0:
            break
        if tiles:
            finite = dense_rows(request, start, n_rows, buffers, pieces)
        else:
            finite = sparse_rows(request, start, n_rows, buffers, packed, offsets, square)
        if not finite:
            atomic_add(barrier, NOT_FINITE, 1)
        if is_softmax(output):
            softmax_rows(numbers, result, width, n_rows, n_classes, softmax_scratch, offsets)
        write_rows(numbers, result, width, flat, start * n_classes, n_rows, n_classes)
    release(memory)
    return True


@kernel
def predict(table, scale, images, output, barrier, out):
    """Predict rows of `images`, ROWS at a time, until none is left. Every thread of a prediction calls this.

    table: (L, N_COLUMNS) int64, the addresses of a network's arrays, which are C-contiguous and have the dtype of `out`
    scale: the scale of the inputs
    images: (N, D), or (0, D) if the table has a strided source
    output: SOFTMAX_OUTPUT or LOGISTIC_OUTPUT for probabilities, IDENTITY_OUTPUT for logits
    barrier: a new one for each prediction, shared by its threads. Its count is the number of groups of rows that were
        requested so far; its stop flag ends the prediction early
    out: (N, C), overwritten

    A row's sums are always added in the same order, so its bits depend neither on the other rows, nor on the number of
    threads, nor on the form of the inputs. Weights that are not finite are the exception: they may affect a
    neighbouring row.

    Returns False, before any row is predicted by this thread, if there is not enough memory.

    Faster than one call per layer: no intermediate result leaves the caches.
    """
    return predict_rows(table, scale, images, output, barrier, out)
