"""Details of the prediction kernel that its results alone do not show."""

import numpy as np
import pytest

from fastnn.kernels import team
from fastnn.kernels.epoch.predict import N_COLUMNS, ROWS, predict
from fastnn.kernels.jit import kernel
from fastnn.kernels.ops.activations import IDENTITY
from fastnn.kernels.ops.losses import IDENTITY_OUTPUT
from fastnn.kernels.vector.simd import ONE, vload_part, vstore


@kernel
def _load_part(inp, offset, count, out):
    vstore(out, 0, vload_part(inp, offset, count, ONE))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_partial_load_fills_the_other_lanes_with_zeros(dtype):
    lanes = 64 // np.dtype(dtype).itemsize
    inp = np.arange(1, 41, dtype=dtype)
    for count in range(lanes + 2):
        out = np.full(lanes, 99, dtype)
        _load_part(inp, 3, count, out)
        np.testing.assert_array_equal(out, np.where(np.arange(lanes) < count, inp[3 : 3 + lanes], 0))


def test_predict_skips_rows_already_claimed_and_stops_on_request():
    weight, bias = np.ones((3, 2), np.float32), np.zeros(2, np.float32)
    table = np.array([[3, 2, weight.ctypes.data, bias.ctypes.data, IDENTITY, *[0] * (N_COLUMNS - 5)]])
    images, out = np.ones((100, 3), np.float32), np.zeros((100, 2), np.float32)
    table.flags.writeable = images.flags.writeable = False  # as in the backend, so no other kernel is compiled
    barrier = team.new_barrier()
    barrier[team.COUNT] = 1  # another thread has claimed the first rows
    predict(table, 1.0, images, IDENTITY_OUTPUT, barrier, out)
    np.testing.assert_array_equal(out, np.repeat([[0, 0], [3, 3]], [ROWS, 100 - ROWS], axis=0))
    out[:], barrier = 0, team.new_barrier()
    barrier[team.STOP] = 1
    predict(table, 1.0, images, IDENTITY_OUTPUT, barrier, out)
    assert not out.any()
