"""The pieces of the prediction kernel that its results alone would not pin down."""

import numpy as np
import pytest

from fastnn.kernels import team
from fastnn.kernels.epoch import predict as inference
from fastnn.kernels.jit import kernel
from fastnn.kernels.ops import losses as element_loss
from fastnn.kernels.vector import simd
from fastnn.kernels.vector.simd import ONE


@kernel
def _load_part(inp, offset, count, out):
    simd.vstore(out, 0, simd.vload_part(inp, offset, count, ONE))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_part_of_a_vector_is_followed_by_zeros(dtype):
    lanes = 64 // np.dtype(dtype).itemsize
    inp = np.arange(1, 41, dtype=dtype)
    for count in range(lanes + 2):
        out = np.full(lanes, 99, dtype)
        _load_part(inp, 3, count, out)
        np.testing.assert_array_equal(out, np.where(np.arange(lanes) < count, inp[3 : 3 + lanes], 0))


def test_what_is_left_when_the_gate_says_stop_is_left():
    weight, bias = np.ones((3, 2), np.float32), np.zeros(2, np.float32)
    table = np.array([[3, 2, weight.ctypes.data, bias.ctypes.data, 0, 0]])
    images, out = np.ones((100, 3), np.float32), np.zeros((100, 2), np.float32)
    table.flags.writeable = images.flags.writeable = False  # as the backend has them: no kernel is compiled for this
    barrier = team.new_barrier()
    barrier[team.COUNT] = 1  # somebody else has taken the first rows
    inference.predict(table, 0, 1.0, images, element_loss.IDENTITY_OUTPUT, barrier, out)
    np.testing.assert_array_equal(out, np.repeat([[0, 0], [3, 3]], [inference.ROWS, 100 - inference.ROWS], axis=0))
    out[:], barrier = 0, team.new_barrier()
    barrier[team.STOP] = 1
    inference.predict(table, 0, 1.0, images, element_loss.IDENTITY_OUTPUT, barrier, out)
    assert not out.any()
