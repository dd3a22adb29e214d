"""Prediction of the dense layers that follow image layers, whose outputs are rows of mostly nonzero numbers.

The kernel of `predict.py` reads rows in all their forms: bytes, strides, packed rows, rows with zeros to skip. Features
have one form, so this kernel has the register tiles alone, and compiles in a fifth of the time.

Dimensions: N rows, F features, C classes.
"""

import numpy as np

from fastnn.kernels.epoch.predict import (
    AT_ONCE,
    BLOCK_SIZE,
    FAN_IN,
    FAN_OUT,
    ROWS,
    Request,
    layer_of,
    write_rows,
)
from fastnn.kernels.epoch.predict_dense import DEPTH, MOST_VECTORS, dense_layer
from fastnn.kernels.inputs.strided import Strided
from fastnn.kernels.jit import kernel
from fastnn.kernels.layout import View
from fastnn.kernels.ops.losses import is_softmax
from fastnn.kernels.ops.softmax import softmax_rows
from fastnn.kernels.team import COUNT, STOP, atomic_add, atomic_load
from fastnn.kernels.vector.memory import allocate, array_at, flattened, release
from fastnn.kernels.vector.simd import VECTOR, lanes


@kernel
def predict_features(table, features, output, barrier, out):
    """`predict` for features, (N, F) in the dtype of `out`. All other arguments and the bits are the same.

    Faster than a product per layer: a block of rows passes through all layers while it is in the second-level cache.
    """
    n_layers, n_all, n_features, n_classes = len(table), len(out), table[0, FAN_IN], table[len(table) - 1, FAN_OUT]
    no_source = Strided(np.int64(0), np.int64(0), np.int64(0), np.int64(0))
    request = Request(table, out.dtype.type(1), features, no_source, output, out)
    most = table[0, FAN_OUT]
    for layer in range(1, n_layers):
        most = max(most, table[layer, FAN_OUT])
    n = lanes(out)
    width = (most + n - 1) // n * n + n  # rows that are a power of 2 apart would share the same cache sets
    at_once = max(1, min(table[0, AT_ONCE], BLOCK_SIZE // (width * ROWS)))
    rows = min(at_once * ROWS, n_all)
    piece, stats = DEPTH * MOST_VECTORS * n, n + n * (n_classes + n)
    block = rows * width
    size = 2 * block + piece + stats
    size += size % 2  # so that the offsets after it are aligned
    memory = allocate(VECTOR + size * out.itemsize + 8 * n)
    if memory == 0:
        return False
    begin = memory + -memory % VECTOR
    numbers, offsets = array_at(begin, size, out), array_at(begin + size * out.itemsize, n, np.int64)
    pieces, scratch = numbers[2 * block : 2 * block + piece], numbers[2 * block + piece :]
    inputs, flat = array_at(features.ctypes.data, features.size, numbers), flattened(out)
    while not atomic_load(barrier, STOP):
        start = atomic_add(barrier, COUNT, at_once) * ROWS
        n_rows = min(rows, n_all - start)
        if n_rows <= 0:
            break
        left = View(inputs, start * n_features, n_features)
        for k in range(n_layers):
            layer, code = layer_of(request, k)
            to = View(numbers, (k % 2) * block, width)
            dense_layer(to, layer, code, left, n_rows, pieces)
            left = View(numbers, (k % 2) * block, width)
        result = ((n_layers - 1) % 2) * block
        if is_softmax(output):
            softmax_rows(numbers, result, width, n_rows, n_classes, scratch, offsets)
        write_rows(numbers, result, width, flat, start * n_classes, n_rows, n_classes)
    release(memory)
    return True
