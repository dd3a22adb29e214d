"""Arrays that start on a cache line."""

import numpy as np
import pytest

from fastnn.network import Network
from fastnn.network.aligned import CACHE_LINE, aligned_copy, aligned_zeros


@pytest.mark.parametrize("shape", [7, (3, 5), (0, 4), ()])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_aligned_arrays_are_contiguous_and_start_on_a_cache_line(shape, dtype):
    zeros = aligned_zeros(shape, dtype)
    copy = aligned_copy(np.ones(shape, order="F"), dtype)
    for array, value in ((zeros, 0), (copy, 1)):
        assert array.ctypes.data % CACHE_LINE == 0 or not array.size
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, np.full(shape, value, dtype), strict=True)


def test_the_arrays_of_a_network_start_on_cache_lines():
    network = Network.initialize((5, 4, 3))
    assert all(array.ctypes.data % CACHE_LINE == 0 for array in (*network.weights, *network.biases))
