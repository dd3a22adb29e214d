"""Inputs that are mostly zero: one bit for each entry, so that forward and backward passes visit the others only.

Dimensions: N samples, D inputs, W = ceil(D / 64) words of 64 bits. Four of five pixels of a handwritten digit are zero,
so the first layer, which is nearly all the work, becomes five times smaller.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.kernels.jit import inlined, kernel

_ONE = np.uint64(1)


@intrinsic
def trailing_zeros(_, word):
    """The position of the lowest set bit of a uint64 that is not 0."""

    def codegen(context, builder, signature, args):
        zero_is_undefined = ir.Constant(ir.IntType(1), 1)
        return builder.cttz(args[0], zero_is_undefined)

    return types.int64(types.uint64), codegen


@kernel
def nonzero_bits(images, bits):
    """Bit i of row s of `bits` (N, W) says whether ``images[s, i]`` (N, D) is other than 0; returns how many are."""
    count = 0
    for s in range(len(images)):
        row, words = images[s], bits[s]
        for w in range(len(words)):
            word, first = np.uint64(0), w * 64
            for j in range(min(64, len(row) - first)):
                bit = np.uint64(row[first + j] != 0)
                word |= bit << np.uint64(j)
                count += np.int64(bit)
            words[w] = word
    return count


@inlined
def set_positions(words, which):
    """Write the positions of the set bits of `words` (W,) to `which`, ascending; returns how many."""
    count = 0
    for w in range(len(words)):
        word = words[w]
        while word:
            which[count] = w * 64 + trailing_zeros(word)
            word &= word - _ONE
            count += 1
    return count


@inlined
def nonzero_positions(row, which):
    """Write the positions of the entries of `row` that are not 0 to `which`, ascending; returns how many."""
    count = 0
    for i in range(len(row)):
        which[count] = i  # written always and counted where it holds: no branch to mispredict
        count += np.int64(row[i] != 0)
    return count


@inlined
def transpose_64x64(words):
    """In place: bit c of words[r] becomes bit r of words[c] (Warren, Hacker's Delight, section 7-3)."""
    j, mask = 32, np.uint64(0xFFFFFFFF)
    while j:
        for k in range(0, 64, 2 * j):
            for r in range(k, k + j):
                swap = ((words[r] >> np.uint64(j)) ^ words[r + j]) & mask
                words[r] ^= swap << np.uint64(j)
                words[r + j] ^= swap
        j >>= 1
        mask ^= mask << np.uint64(j)


@inlined
def users_of_inputs(bits, rows, users, block):
    """Bit s % 64 of ``users[i, s // 64]`` says whether sample s of `rows` (B,) has an input i other than 0.

    users (64 * W, ceil(B / 64)) is overwritten; block (64,) is scratch. Transposing blocks of 64 x 64 bits costs a few
    operations a word, where sorting the entries by input would cost some for each entry.
    """
    for group in range((len(rows) + 63) // 64):
        for w in range(bits.shape[1]):
            for r in range(64):
                s = group * 64 + r
                block[r] = bits[rows[s], w] if s < len(rows) else np.uint64(0)
            transpose_64x64(block)
            for i in range(64):
                users[w * 64 + i, group] = block[i]
