"""Dropout's masks from a hash of (key, row, unit): no state, the same for any number of threads.

`fastnn.randomness.dropout_keep` defines the hash; here it is computed unit by unit inside the kernels.
"""

import numpy as np

from fastnn.kernels.jit import inlined

_U64, _U32 = np.uint64, np.uint32


@inlined
def row_hash(key, row):
    """The number of a sample: SplitMix64's finaliser, its lower half."""
    x = key + _U64(row) * _U64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return _U32(x ^ (x >> _U64(31)))


@inlined
def unit_hash(row_number, unit):
    """The number of a unit for that sample: MurmurHash3's finaliser."""
    x = _U32(row_number + _U32(unit) * _U32(0x9E3779B1))
    x = _U32((x ^ (x >> _U32(16))) * _U32(0x85EBCA6B))
    x = _U32((x ^ (x >> _U32(13))) * _U32(0xC2B2AE35))
    return _U32(x ^ (x >> _U32(16)))


@inlined
def drop(values, key, row, lo, threshold, scale):
    """Set to 0 the dropped ones of units lo ... lo + len(values) of sample `row`, scale the others, in place."""
    number = row_hash(key, row)
    for h in range(len(values)):
        values[h] = values[h] * scale if unit_hash(number, lo + h) >= threshold else values.dtype.type(0)
