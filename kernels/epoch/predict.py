"""Prediction: rows pass through the whole network in one call, with the weights as NumPy stores them.

Training lays weights out in panels; for one row, that would take longer than the prediction. So nothing is laid out
here. Each row of a weight is read up to eight vectors at a time. If the row ends within a vector, only that part of the
vector is loaded. Rows of inputs are processed in pairs. If there are many rows of bytes, the first layer processes 64
rows at a time, packed as in training, so that each weight is fetched once for all of them.

Dimensions: N rows, D inputs, H units, C classes.
"""

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from fastnn.kernels.inputs.packed import Packed, add_sparse_product, load_weights, pack
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layout import GROUP
from fastnn.kernels.ops.activations import LOGISTIC, vactivate
from fastnn.kernels.ops.losses import LOGISTIC_OUTPUT, SOFTMAX_OUTPUT
from fastnn.kernels.team import COUNT, STOP, atomic_add, atomic_load
from fastnn.kernels.vector.bits import nonzero_mask, trailing_zeros
from fastnn.kernels.vector.exp_log import vexp
from fastnn.kernels.vector.simd import (
    EIGHT,
    FOUR,
    ONE,
    SIXTEEN,
    TWO,
    VECTOR,
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

# The columns of a table with one row per layer: the number of inputs and units of the layer, and the addresses of its
# weight and bias. If the inputs are lists, the first row also has the addresses of a `csr.Csr`'s indptr (int64) and
# indices (uint32); otherwise these columns are 0. Passing these arrays as arguments would cost every call more than a
# microsecond.
FAN_IN, FAN_OUT, WEIGHT, BIAS, INDPTR, INDICES, N_COLUMNS = range(7)
# A thread predicts ROWS rows at a time, so that weights which do not fit the second-level cache are fetched once for
# all of them. Bytes are packed if there are MANY rows or more. Floats never are: packed floats would come from the
# second-level cache, as weights do.
ROWS, MANY = GROUP, 256
_WORD, _ONE_BIT, _ALL = 64, np.uint64(1), ~np.uint64(0)
_BITS = np.uint32(_WORD)  # unsigned, as indices are: signed ones would be tested for negative values


@intrinsic
def _pointer(_, address, like):
    """The address as a pointer; its elements have the dtype `like`, or the dtype of the array `like`."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), codegen


@inlined
def gather_inputs(images, start, n_rows, values, width, nonzero_masks, n_words):
    """Copy rows of `images` into `values`, and mark their nonzero inputs.

    images: (N, D); its rows `start` to ``start + n_rows`` are copied
    values: (n_rows, width), flat, overwritten
    nonzero_masks: (n_rows, n_words) uint64, flat, overwritten; bit i of a row is set where input i is nonzero
    """
    n_inputs, flat, real = images.shape[1], images.reshape(-1), values.dtype.type
    for s in range(n_rows):
        image, row, whole = images[start + s], s * width, n_inputs // _WORD
        for word in range(whole):
            at = (start + s) * n_inputs + word * _WORD
            nonzero_masks[s * n_words + word] = nonzero_mask(flat, at)
            for i in range(0, _WORD, len(SIXTEEN)):
                vstore(values, row + word * _WORD + i, vload_as(flat, at + i, values, SIXTEEN))
        bits = np.uint64(0)
        for i in range(whole * _WORD, n_inputs):
            values[row + i] = real(image[i])
            if image[i] != 0:
                bits |= _ONE_BIT << np.uint64(i % _WORD)
        if n_inputs % _WORD:
            nonzero_masks[s * n_words + whole] = bits


@inlined
def gather_lists(indptr, indices, data, start, n_rows, values, width, nonzero_masks, n_words):
    """`gather_inputs` for samples that are already lists.

    In each row of `values`, only inputs that are nonzero in this row or in the other row of its pair are written. No
    others are read. So the cost grows with the number of entries, not of inputs, except for clearing the masks.

    indptr: (N + 1,) int64
    indices: (entries,) uint32
    data: (entries,)
    """
    never_inline()
    real = values.dtype.type
    for s in range(n_rows):
        row, used = values[s * width : (s + 1) * width], nonzero_masks[s * n_words : (s + 1) * n_words]
        neighbour = start + min(s ^ 1, n_rows - 1)
        for k in range(indptr[neighbour], indptr[neighbour + 1]):
            row[indices[k]] = 0
        used[:] = 0
        for k in range(indptr[start + s], indptr[start + s + 1]):
            i = indices[k]
            row[i] = real(data[k])
            used[i // _BITS] |= _ONE_BIT << np.uint64(i % _BITS)


@inlined
def use_all(n_inputs, n_rows, nonzero_masks, n_words):
    """Mark all inputs of a layer as used: an input of 0 must not hide a weight that is NaN."""
    for s in range(n_rows):
        for word in range((n_inputs + _WORD - 1) // _WORD):
            unused = max(0, (word + 1) * _WORD - n_inputs)
            nonzero_masks[s * n_words + word] = _ALL >> np.uint64(unused)


@inlined
def pair_sums(out, inp, s, other, width, nonzero_masks, n_words, weight, bias, scale, row, h, n_inputs, n):
    """``out[s] = scale * (inp[s] @ weight) + bias`` for the rows `s` and `other` and `n` vectors of units from h on.

    out, inp: rows of `width` elements, flat
    nonzero_masks: rows of `n_words` uint64, flat, the inputs that each row uses
    weight: (D, H), flat, with D = `n_inputs` and H = `row`
    bias: (H,)

    A single vector may have fewer units than lanes. The inputs that either row uses are visited in order. An input of 0
    leaves a sum unchanged, so the bits of a row do not depend on the other row.

    Faster than row by row, because each weight that is loaded is used twice: weights come from the second-level cache,
    which is half as fast as the multiplications. All sums stay in registers.
    """
    never_inline()
    a, b, sum_a, sum_b = s * width, other * width, vzero(out, n), vzero(out, n)
    for word in range((n_inputs + _WORD - 1) // _WORD):
        todo = load(nonzero_masks, s * n_words + word) | load(nonzero_masks, other * n_words + word)
        while todo:
            i = word * _WORD + trailing_zeros(todo)
            todo &= todo - _ONE_BIT
            w = load_weights(weight, i * row + h, row - h, n)
            sum_a = vscale_add(load(inp, a + i), w, sum_a)
            sum_b = vscale_add(load(inp, b + i), w, sum_b)
    added = load_weights(bias, h, row - h, n)
    vstore(out, a + h, vscale_add(scale, sum_a, added))
    vstore(out, b + h, vscale_add(scale, sum_b, added))


@inlined
def group_sums(out, width, n_rows, packed, n_inputs, weight, bias, scale, row, h, n):
    """`pair_sums` for a packed group of rows, with the same bits.

    out: rows of `width` elements, flat
    weight: (D, H), flat, with D = `n_inputs` and H = `row`
    """
    never_inline()
    for at in range(h, h + n_rows * width, width):
        vstore(out, at, vzero(out, n))
    add_sparse_product(out, h, width, packed, np.int64(0), n_inputs, weight, h, row, row - h, n)
    added = load_weights(bias, h, row - h, n)
    for at in range(h, h + n_rows * width, width):
        vstore(out, at, vscale_add(scale, vload(out, at, n), added))


@inlined
def packed_layer(out, width, n_rows, packed, n_inputs, weight, bias, scale, n_units):
    """`layer_sums` for a packed group of rows."""
    h, n = 0, lanes(out)
    while h < n_units:
        vectors, a = (n_units - h) // n, (out, width, n_rows, packed, n_inputs, weight, bias, scale, n_units, h)
        if vectors >= 4:
            group_sums(*a, FOUR)
        elif vectors >= 2:
            group_sums(*a, TWO)
        else:
            group_sums(*a, ONE)
        h += n * (4 if vectors >= 4 else 2 if vectors >= 2 else 1)


@inlined
def layer_sums(out, inp, n_rows, width, nonzero_masks, n_words, weight, bias, scale, n_inputs, n_units):
    """``out = scale * (inp @ weight) + bias`` for `n_rows` rows.

    out, inp: rows of `width` elements, flat
    nonzero_masks: rows of `n_words` uint64, flat, the inputs that each row uses
    weight: (D, H), flat
    bias: (H,)
    """
    h, n = 0, lanes(out)
    while h < n_units:
        vectors = (n_units - h) // n
        for s in range(0, n_rows, 2):
            other = min(s + 1, n_rows - 1)  # a last row without a partner is paired with itself
            a, b = (out, inp, s, other, width, nonzero_masks, n_words), (weight, bias, scale, n_units, h, n_inputs)
            if vectors >= 8:
                pair_sums(*a, *b, EIGHT)
            elif vectors >= 4:
                pair_sums(*a, *b, FOUR)
            elif vectors >= 2:
                pair_sums(*a, *b, TWO)
            else:
                pair_sums(*a, *b, ONE)
        h += n * (8 if vectors >= 8 else 4 if vectors >= 4 else 2 if vectors >= 2 else 1)


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


@kernel
def predict(table, activation, scale, images, output, barrier, out):
    """Predict rows of `images`, ROWS at a time, until none is left. Every thread of a prediction calls this.

    table: (L, N_COLUMNS) int64, the addresses of a network's arrays, which are C-contiguous and have the dtype of `out`
    activation: the code of the hidden layers' activation
    scale: the scale of the inputs
    images: (N, D), or (1, entries), the values of the lists, if the table has the addresses of lists
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
    lists = table[0, INDPTR] != 0
    packs = images.itemsize == 1 and not lists and n_all >= MANY
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
    values, sums = both[first : first + rows * width], both[first + rows * width : first + 2 * rows * width]
    packed = Packed(np.empty(n_inputs * GROUP if packs else 0, images.dtype), nonzero_masks)
    offsets = np.empty(2 * GROUP, np.int64)
    numbers = offsets[GROUP:]
    while not atomic_load(barrier, STOP):
        start = atomic_add(barrier, COUNT, 1) * ROWS
        n_rows = min(ROWS, n_all - start)
        if n_rows <= 0:
            return
        if packs:
            for s in range(n_rows):
                numbers[s] = start + s
            pack(images, numbers[:n_rows], packed, offsets, np.int64(0), np.int64(1))
        elif lists:
            indptr = carray(_pointer(table[0, INDPTR], table), n_all + 1)
            indices, data = carray(_pointer(table[0, INDICES], np.uint32), images.size), images.reshape(-1)
            gather_lists(indptr, indices, data, start, n_rows, values, width, nonzero_masks, n_words)
        else:
            gather_inputs(images, start, n_rows, values, width, nonzero_masks, n_words)
        for layer in range(n_layers):
            fan_in, n_units = table[layer, FAN_IN], table[layer, FAN_OUT]
            weight = carray(_pointer(table[layer, WEIGHT], out), fan_in * n_units)
            bias = carray(_pointer(table[layer, BIAS], out), n_units)
            if layer > 0:
                use_all(fan_in, n_rows, nonzero_masks, n_words)
            if layer == 0 and packs:
                packed_layer(sums, width, n_rows, packed, fan_in, weight, bias, real(scale), n_units)
            else:
                factor = real(scale) if layer == 0 else real(1)
                layer_sums(sums, values, n_rows, width, nonzero_masks, n_words, weight, bias, factor, fan_in, n_units)
            values, sums = sums, values
            if layer < n_layers - 1:
                for s in range(n_rows):
                    for at in range(s * width, s * width + n_units, lanes(out)):
                        vstore(values, at, vactivate(activation, vload(values, at, ONE), real(1)))
        for s in range(n_rows):
            if output == SOFTMAX_OUTPUT:
                softmax_in_place(values, s * width, n_classes)
            elif output == LOGISTIC_OUTPUT:
                for at in range(s * width, s * width + n_classes, lanes(out)):
                    vstore(values, at, vactivate(LOGISTIC, vload(values, at, ONE), real(1)))
            for c in range(n_classes):
                out[start + s, c] = values[s * width + c]
