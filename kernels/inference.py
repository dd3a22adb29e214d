"""Prediction: rows go through the whole network in one call, two at a time, past the weights as NumPy has them.

Training lays weights out in panels; a prediction of one row would take longer to do that than to predict. So nothing is
laid out here: a row of a weight is read in pieces of up to eight vectors, and of its last piece, where it fills no
vector, only what there is. Dimensions: N rows, D inputs, H units, C classes.
"""

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from fastnn.kernels.activations import LOGISTIC as LOGISTIC_UNIT
from fastnn.kernels.activations import vactivate
from fastnn.kernels.element_loss import LOGISTIC, SOFTMAX
from fastnn.kernels.jit import inlined, kernel, never_inline
from fastnn.kernels.layers import lanes
from fastnn.kernels.simd import (
    EIGHT,
    FOUR,
    ONE,
    TWO,
    load,
    nonzero_mask,
    trailing_zeros,
    vexp,
    vload,
    vload_part,
    vscale_add,
    vsplat,
    vstore,
    vsub,
)
from fastnn.kernels.team import ARRIVALS, STOP, atomic_add, atomic_load

# Columns of a table of layers, one row a layer: its inputs, its units, the addresses of its weight and of its bias; in
# the first row also, where the inputs are lists, those of a `csr_input.Csr`'s indptr, int64, and indices, uint32, else
# 0. As arguments, these arrays would cost every call more than a microsecond.
FAN_IN, FAN_OUT, WEIGHT, BIAS, INDPTR, INDICES, N_COLUMNS = range(7)
# Rows a thread takes at a time: a piece of a weight that the second-level cache cannot keep is fetched once for them.
ROWS = 32
_WORD, _ONE_BIT, _ALL = 64, np.uint64(1), ~np.uint64(0)
_BITS = np.uint32(_WORD)  # unsigned as indices are: an index that could be negative would be tested for that


@intrinsic
def _pointer(_, address, like):
    """The address as a pointer to elements of `like`, a dtype, or of that of the array `like`."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), codegen


@inlined
def take_inputs(images, start, n_rows, scale, values, width, users, n_words):
    """Rows of `images` (N, D) times `scale`, each in `width` places of `values`; their bits in `users` say which are
    other than 0, before scaling.
    """
    n_inputs, flat, real = images.shape[1], images.reshape(-1), values.dtype.type
    for s in range(n_rows):
        image, row = images[start + s], values[s * width : s * width + n_inputs]
        for i in range(n_inputs):
            row[i] = real(image[i]) * scale
        whole = n_inputs // _WORD
        for word in range(whole):
            users[s * n_words + word] = nonzero_mask(flat, (start + s) * n_inputs + word * _WORD)
        bits = np.uint64(0)
        for i in range(whole * _WORD, n_inputs):
            if image[i] != 0:
                bits |= _ONE_BIT << np.uint64(i % _WORD)
        if n_inputs % _WORD:
            users[s * n_words + whole] = bits


@inlined
def take_lists(indptr, indices, data, start, n_rows, scale, values, width, users, n_words):
    """`take_inputs` for samples that are lists already. Of `values`, only what one of a pair of rows uses is written,
    since only that is read: the work is that of the entries, however many inputs there are.
    """
    never_inline()
    real = values.dtype.type
    for s in range(n_rows):
        row, used = values[s * width : (s + 1) * width], users[s * n_words : (s + 1) * n_words]
        neighbour = start + min(s ^ 1, n_rows - 1)
        for k in range(indptr[neighbour], indptr[neighbour + 1]):
            row[indices[k]] = 0
        used[:] = 0
        for k in range(indptr[start + s], indptr[start + s + 1]):
            i = indices[k]
            row[i] = real(data[k]) * scale
            used[i // _BITS] |= _ONE_BIT << np.uint64(i % _BITS)


@inlined
def use_all(n_inputs, n_rows, users, n_words):
    """Have every input of a layer used: one of 0 must not hide a weight that is NaN."""
    for s in range(n_rows):
        for word in range((n_inputs + _WORD - 1) // _WORD):
            unused = max(0, (word + 1) * _WORD - n_inputs)
            users[s * n_words + word] = _ALL >> np.uint64(unused)


@inlined
def pair_sums(out, inp, s, other, width, users, n_words, weight, bias, row, h, n_inputs, n):
    """``out[s] = inp[s] @ weight + bias`` for the rows `s` and `other`, for `n` vectors of units from h on.

    All flat, rows of `width` places; weight (D, H) with H = `row`, bias (H,). The last vector of a row may have fewer
    units than lanes. Inputs are visited in order, those that either row uses; a factor of 0 leaves a sum as it is, so a
    row's bits do not depend on the other. Faster than row by row, since a piece of the weight serves two: it comes from
    the second-level cache, which is half as fast as the multiplications are. All sums stay in registers.
    """
    never_inline()
    a, b, whole = s * width, other * width, len(n) > 1
    sum_a = vload(bias, h, n) if whole else vload_part(bias, h, row - h, n)
    sum_b = sum_a
    for word in range((n_inputs + _WORD - 1) // _WORD):
        todo = load(users, s * n_words + word) | load(users, other * n_words + word)
        while todo:
            i = word * _WORD + trailing_zeros(todo)
            todo &= todo - _ONE_BIT
            w = vload(weight, i * row + h, n) if whole else vload_part(weight, i * row + h, row - h, n)
            sum_a = vscale_add(load(inp, a + i), w, sum_a)
            sum_b = vscale_add(load(inp, b + i), w, sum_b)
    vstore(out, a + h, sum_a)
    vstore(out, b + h, sum_b)


@inlined
def layer_sums(out, inp, n_rows, width, users, n_words, weight, bias, n_inputs, n_units):
    """``out = inp @ weight + bias`` for some rows: (D, H) and (H,) flat; rows of `width` places."""
    h, n = 0, lanes(out)
    while h < n_units:
        vectors = (n_units - h) // n
        for s in range(0, n_rows, 2):
            other = min(s + 1, n_rows - 1)  # a last row without a neighbour is its own
            a, b = (out, inp, s, other, width, users, n_words), (weight, bias, n_units, h, n_inputs)
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
    """Softmax of the `n_classes` numbers from `at` on; what follows up to a whole vector is scratch."""
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
def predict(table, activation, scale, images, output, gate, out):
    """Forward pass of the rows that no other thread has taken: images (N, D) -> out (N, C), overwritten.

    table (L, N_COLUMNS): where a network's arrays lie, C-contiguous, in the dtype of `out`. activation: the code of the
    hidden layers'; scale: of the inputs; images: if the table has lists, their data (1, entries); output: SOFTMAX or
    LOGISTIC for probabilities, IDENTITY for logits. gate: a new one for each call, of any number of threads; if its
    stop flag is set, what is left is left.

    A row's sums are made in one order, whatever rows and threads there are, and however the inputs are given, so its
    bits are the same; a weight that is not finite may be seen in the row beside. Nothing between the inputs and the
    result leaves the caches.
    """
    n_layers, real, n_all = len(table), out.dtype.type, len(out)
    n_classes, most = table[n_layers - 1, FAN_OUT], table[0, FAN_IN]
    for layer in range(n_layers):
        most = max(most, table[layer, FAN_OUT])
    n_words = (most + _WORD - 1) // _WORD
    width = n_words * _WORD
    rows = min(ROWS, n_all)
    users = np.empty(rows * n_words, np.uint64)
    values, sums = np.empty(rows * width, out.dtype), np.empty(rows * width, out.dtype)
    while not atomic_load(gate, STOP):
        start = atomic_add(gate, ARRIVALS, 1) * ROWS
        n_rows = min(ROWS, n_all - start)
        if n_rows <= 0:
            return
        if table[0, INDPTR]:
            indptr = carray(_pointer(table[0, INDPTR], table), n_all + 1)
            indices, data = carray(_pointer(table[0, INDICES], np.uint32), images.size), images.reshape(-1)
            take_lists(indptr, indices, data, start, n_rows, real(scale), values, width, users, n_words)
        else:
            take_inputs(images, start, n_rows, real(scale), values, width, users, n_words)
        for layer in range(n_layers):
            n_inputs, n_units = table[layer, FAN_IN], table[layer, FAN_OUT]
            weight = carray(_pointer(table[layer, WEIGHT], out), n_inputs * n_units)
            bias = carray(_pointer(table[layer, BIAS], out), n_units)
            if layer > 0:
                use_all(n_inputs, n_rows, users, n_words)
            layer_sums(sums, values, n_rows, width, users, n_words, weight, bias, n_inputs, n_units)
            values, sums = sums, values
            if layer < n_layers - 1:
                for s in range(n_rows):
                    for at in range(s * width, s * width + n_units, lanes(out)):
                        vstore(values, at, vactivate(activation, vload(values, at, ONE), real(1)))
        for s in range(n_rows):
            if output == SOFTMAX:
                softmax_in_place(values, s * width, n_classes)
            elif output == LOGISTIC:
                for at in range(s * width, s * width + n_classes, lanes(out)):
                    vstore(values, at, vactivate(LOGISTIC_UNIT, vload(values, at, ONE), real(1)))
            for c in range(n_classes):
                out[start + s, c] = values[s * width + c]
