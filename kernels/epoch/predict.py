"""Prediction: rows pass through the whole network in one call, with the weights as NumPy stores them.

Training lays weights out in panels; for one row, that would take longer than the prediction. So nothing is laid out
here. Each row of a weight is read up to eight vectors at a time. If the row ends within a vector, only that part of the
vector is loaded. Rows of inputs are processed in pairs. If there are many rows of bytes, the first layer processes 64
rows at a time, packed as in training, so that each weight is fetched once for all of them.

Dimensions: N rows, D inputs, H units, C classes.
"""

from typing import NamedTuple

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

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
    lanes,
    load,
    vadd,
    vdiv,
    vload,
    vload_as,
    vload_part,
    vscale_add,
    vsplat,
    vstore,
    vsub,
    vsum,
    vzero,
)

# The columns of a table with one row per layer: the number of inputs and units of the layer, the addresses of its
# weight and bias, the code of its activation, and whether its inputs are the outputs of another layer although it is
# the first. Passing arrays as arguments would cost every call more than a microsecond.
FAN_IN, FAN_OUT, WEIGHT, BIAS, ACTIVATION, KEEPS_ZEROS, N_COLUMNS = range(7)
# A thread predicts ROWS rows at a time, so that weights which do not fit the second-level cache are fetched once for
# all of them. Bytes are packed if there are MANY rows or more. Floats never are: packed floats would come from the
# second-level cache, as weights do.
ROWS, MANY = GROUP, 256
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


@intrinsic
def _pointer(_, address, like):
    """The address as a pointer; its elements have the dtype `like`, or the dtype of the array `like`."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), codegen


@inlined
def gather_inputs(images, start, n_rows, buffers):
    """Copy the rows of `images` from `start` on into `buffers`, and mark their nonzero inputs."""
    n_inputs, flat, values = images.shape[1], images.reshape(-1), buffers.numbers
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
def softmax_in_place(values, at, n_classes):
    """Softmax of the `n_classes` numbers from `at` on, in place; the rest of their last vector is overwritten."""
    top, n = values[at], lanes(values)
    for c in range(1, n_classes):
        top = max(top, values[at + c])
    total = vzero(values, ONE)  # a vector: in a loop over numbers, LLVM would choose the order of the sum
    for c in range(0, n_classes, n):
        vstore(values, at + c, vexp(vsub(vload(values, at + c, ONE), vsplat(top, ONE))))
        total = vadd(total, vload_part(values, at + c, n_classes - c, ONE))
    all_lanes = vsplat(vsum(total), ONE)
    for c in range(0, n_classes, n):
        vstore(values, at + c, vdiv(vload(values, at + c, ONE), all_lanes))


@kernel
def predict(table, scale, images, output, barrier, out):
    """Predict rows of `images`, ROWS at a time, until none is left. Every thread of a prediction calls this.

    table: (L, N_COLUMNS) int64, the addresses of a network's arrays, which are C-contiguous and have the dtype of `out`
    scale: the scale of the inputs
    images: (N, D)
    output: SOFTMAX_OUTPUT or LOGISTIC_OUTPUT for probabilities, IDENTITY_OUTPUT for logits
    barrier: a new one for each prediction, shared by its threads. Its count is the number of requests for rows so far;
        its stop flag ends the prediction early
    out: (N, C), overwritten

    A row's sums are always added in the same order, so its bits depend neither on the other rows, nor on the number of
    threads, nor on the form of the inputs. Weights that are not finite are the exception: they may affect a
    neighbouring row.

    Faster than one call per layer: no intermediate result leaves the caches.
    """
    n_layers, real, n_all = len(table), out.dtype.type, len(out)
    n_inputs, n_classes, most = table[0, FAN_IN], table[n_layers - 1, FAN_OUT], table[0, FAN_OUT]
    packs = images.itemsize == 1 and n_all >= MANY
    for layer in range(1, n_layers):
        most = max(most, table[layer, FAN_OUT])
    if not packs:
        most = max(most, n_inputs)
    n_words = (most + _WORD - 1) // _WORD
    # Rows that are a power of 2 apart would share the same cache sets.
    width, rows = n_words * _WORD + lanes(out), min(ROWS, n_all)
    # First the masks of packed inputs, then those of each layer's rows.
    nonzero_masks = np.empty(max(rows * n_words, n_inputs if packs else 0), np.uint64)
    both = np.empty(2 * rows * width + lanes(out), out.dtype)
    first = -both.ctypes.data % VECTOR // both.itemsize  # a vector that crosses cache lines takes twice as long to load
    numbers = both[first : first + 2 * rows * width]
    buffers = Buffers(numbers, 0, rows * width, width, nonzero_masks, n_words)
    packed = Packed(np.empty(n_inputs * GROUP if packs else 0, images.dtype), nonzero_masks)
    offsets = np.empty(2 * GROUP, np.int64)
    chosen = offsets[GROUP:]
    while not atomic_load(barrier, STOP):
        start = atomic_add(barrier, COUNT, 1) * ROWS
        n_rows = min(ROWS, n_all - start)
        if n_rows <= 0:
            return
        if packs:
            for s in range(n_rows):
                chosen[s] = start + s
            pack(Member(np.int64(0), np.int64(1), barrier), images, chosen[:n_rows], packed, offsets)
        else:
            gather_inputs(images, start, n_rows, buffers)
        for k in range(n_layers):
            fan_in, n_units = table[k, FAN_IN], table[k, FAN_OUT]
            weight = carray(_pointer(table[k, WEIGHT], out), fan_in * n_units)
            bias = carray(_pointer(table[k, BIAS], out), n_units)
            layer = Layer(weight, bias, real(scale) if k == 0 else real(1), fan_in, n_units)
            code = LOGISTIC if k + 1 == n_layers and is_logistic(output) else table[k, ACTIVATION]
            run_layer(k, code, layer, buffers, n_rows, packed, k == 0 and packs, k > 0 or table[k, KEEPS_ZEROS])
        for s in range(n_rows):
            row = (s + rows * (n_layers % 2)) * width
            if is_softmax(output):
                softmax_in_place(numbers, row, n_classes)
            for c in range(n_classes):
                out[start + s, c] = numbers[row + c]
