"""The kernels' own pieces, each against an independent way of computing the same."""

import numpy as np
import pytest

from fastnn.kernels import dropout, matmul, sparse_input
from fastnn.kernels.jit import FASTMATH, kernel
from fastnn.randomness import dropout_keep, dropout_keys


@kernel
def _positions(words, which):
    return sparse_input.set_positions(words, which)


@kernel
def _positions_of_row(row, which):
    return sparse_input.nonzero_positions(row, which)


@kernel
def _transpose(words):
    sparse_input.transpose_64x64(words)


@kernel
def _users(bits, rows, users, block):
    sparse_input.users_of_inputs(bits, rows, users, block)


@kernel
def _drop(values, key, row, lo, threshold, scale):
    dropout.drop(values, key, row, lo, threshold, scale)


@kernel
def _counts(values):
    nans, infinite = 0, 0
    for value in values:
        nans += np.isnan(value)
        infinite += not np.isfinite(value)
    return nans, infinite


def test_fast_math_still_sees_nan():
    assert not {"nnan", "ninf", "fast"} & FASTMATH
    for dtype in (np.float32, np.float64):
        assert _counts(np.array([1, np.nan, np.inf, -np.inf], dtype)) == (1, 3)


@pytest.mark.parametrize("width", [1, 63, 64, 65, 784])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_nonzero_bits_and_their_positions(width, dtype):
    rng = np.random.default_rng(width)
    images = (rng.integers(0, 5, (7, width)) - (dtype != "uint8")).astype(dtype)
    bits = np.empty((7, -(-width // 64)), np.uint64)
    count = sparse_input.nonzero_bits(images, bits)
    assert count == np.count_nonzero(images)
    which = np.empty(bits.shape[1] * 64 + 1, np.int64)
    for row, words in zip(images, bits, strict=True):
        expected = np.flatnonzero(row)
        np.testing.assert_array_equal(which[: _positions(words, which)], expected)
        np.testing.assert_array_equal(which[: _positions_of_row(row, which)], expected)


def test_transposing_bits():
    rng = np.random.default_rng(0)
    words = rng.integers(2**64, size=64, dtype=np.uint64)

    def as_matrix(words):
        return (words[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)

    expected = as_matrix(words).T
    _transpose(words)
    np.testing.assert_array_equal(as_matrix(words), expected)


@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 256])
def test_users_of_inputs(n_rows):
    rng = np.random.default_rng(n_rows)
    images = (rng.random((300, 100)) < 0.2).astype(np.uint8)
    bits = np.empty((300, 2), np.uint64)
    sparse_input.nonzero_bits(images, bits)
    rows = rng.integers(300, size=n_rows)
    groups = -(-n_rows // 64)
    users, which = np.empty((128, 4), np.uint64), np.empty(256, np.int64)
    _users(bits, rows, users, np.empty(64, np.uint64))
    for i in range(100):
        count = _positions(users[i, :groups].copy(), which)
        np.testing.assert_array_equal(which[:count], np.flatnonzero(images[rows, i]))


def test_panels():
    assert [matmul.n_panels(width) for width in (1, 64, 65, 128, 129)] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_kernels_drop_what_the_definition_drops(rate):
    rows = np.array([0, 1, 59_999, 2**40])
    for key in dropout_keys(3, 2, 3):
        expected = dropout_keep(key, rows, 100, rate)
        for row, keep in zip(rows, expected, strict=True):
            for lo, hi in ((0, 64), (64, 100)):
                values = np.ones(hi - lo, np.float32)
                _drop(values, key, row, lo, np.uint32(rate * 2**32), np.float32(2))
                np.testing.assert_array_equal(values, 2.0 * keep[lo:hi])


def test_dropout_is_random_enough():
    """Shares of units, of rows and of pairs that stay lie within five standard deviations of their expectation."""
    n_rows, n_units, rate = 4000, 200, 0.3
    keep = dropout_keep(dropout_keys(0, 0, 1)[0], np.arange(n_rows), n_units, rate)
    for axis, n in ((0, n_rows), (1, n_units)):
        assert np.abs(keep.mean(axis=axis) - 0.7).max() < 5 * np.sqrt(0.21 / n)
    neighbours = (keep[:, 1:] & keep[:, :-1]).mean(), (keep[1:] & keep[:-1]).mean()
    np.testing.assert_allclose(neighbours, 0.49, atol=5 * np.sqrt(0.25 / (n_rows * n_units)))
    other = dropout_keep(dropout_keys(0, 1, 1)[0], np.arange(n_rows), n_units, rate)
    assert (keep & other).mean() == pytest.approx(0.49, abs=0.005)
