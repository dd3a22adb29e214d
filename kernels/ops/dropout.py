"""Dropout masks from a hash of (key, row, unit). They need no state and are the same for any number of threads.

`fastnn.randomness.dropout_keep` defines the hash. The kernels compute it here, unit by unit.
"""

import numpy as np

from fastnn.kernels.jit import inlined

_U64, _U32 = np.uint64, np.uint32
# The columns of a layer's row in the table of rates: its units are dropped if their hash is below THRESHOLD, a whole
# number, 0 without dropout; KEEP_PROB is the probability that a unit is kept, and SCALE is 1 / KEEP_PROB.
THRESHOLD, KEEP_PROB, SCALE, N_COLUMNS = range(4)


@inlined
def threshold_of(dropout, layer):
    """The threshold of the units of a layer, uint32; layer 0 is the inputs."""
    return _U32(dropout.rates[layer, THRESHOLD])


@inlined
def number_of(dropout, row):
    """The number of a row of the data in the hash."""
    return dropout.numbers[row] if len(dropout.numbers) else row


@inlined
def row_hash(key, row):
    """The uint32 hash of a sample: the lower 32 bits of SplitMix64's finaliser. `key`: uint64."""
    x = key + _U64(row) * _U64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return _U32(x ^ (x >> _U64(31)))


@inlined
def unit_hash(row_number, unit):
    """The uint32 hash of a unit for the sample whose `row_hash` is `row_number`: MurmurHash3's finaliser."""
    x = _U32(row_number + _U32(unit) * _U32(0x9E3779B1))
    x = _U32((x ^ (x >> _U32(16))) * _U32(0x85EBCA6B))
    x = _U32((x ^ (x >> _U32(13))) * _U32(0xC2B2AE35))
    return _U32(x ^ (x >> _U32(16)))


@inlined
def drop(values, key, row, lo, threshold, scale):
    """Apply dropout in place to the units `lo` to ``lo + H - 1`` of sample `row`.

    Dropped units become 0, the others are multiplied by `scale`.

    values: (H,), the units, overwritten
    key: uint64, the key of the layer and epoch
    threshold: uint32, a unit is dropped if its hash is below this
    scale: the factor of the units that are kept, in the dtype of `values`
    """
    number = row_hash(key, row)
    for h in range(len(values)):
        values[h] = values[h] * scale if unit_hash(number, lo + h) >= threshold else values.dtype.type(0)
