"""A single convolution of the Numba backend: the kernels of image networks, for a plan of one stage."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastnn.backends.compiled.image_plan import ImagePlan, Stage
from fastnn.backends.compiled.layout import Arrangement
from fastnn.kernels import team
from fastnn.kernels.epoch.image_passes import backward_images, forward_images
from fastnn.memory import check_memory
from fastnn.network.aligned import aligned_zeros
from fastnn.network.layers import Conv2D, Shape
from fastnn.network.layers.windows import Pair

# A convolution of at most this many multiplications, about half a millisecond, gains nothing from a second thread.
# During one of more than the other number, the caller's thread only waits, so that Ctrl-C reaches it.
ONE_THREAD, SHORT = 2**25, 2**31
# The gradients of so many parts of a batch are computed apart and then added in order, for any number of threads.
CHUNKS = 4


class ConvOperation:
    """A convolution of images of one shape: its plan, and calls of its kernels.

    The bits of the results do not depend on the number of threads.
    """

    def __init__(self, layer: Conv2D, input_shape: Shape, dtype: np.dtype, needs_dinp: bool) -> None:
        self._input_shape, self._output_shape = input_shape, layer.output_shape(input_shape)
        self._shapes, self._dtype, self._needs_dinp = layer.parameter_shapes(input_shape), dtype, needs_dinp
        self._arrangement = Arrangement((), dtype, [self._shapes])
        stage = Stage(layer, False, "identity", input_shape, self._output_shape)
        self._plan = ImagePlan([stage], self._arrangement, trains_inputs=needs_dinp)
        self._multiplications = layer.n_multiplications(input_shape)

    @staticmethod
    def of(
        inputs: Sequence[int],
        weight: Sequence[int],
        dtype: np.dtype,
        stride: Pair,
        padding: Pair,
        needs_dinp: bool = False,
    ) -> "ConvOperation":
        """Return the operation for inputs and a weight of these shapes, (B, C, H, W) and (C, KH, KW, O)."""
        return _operation(tuple(inputs[1:]), tuple(weight[1:]), dtype, tuple(stride), tuple(padding), needs_dinp)

    def forward(self, inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, threads: int) -> np.ndarray:
        """Return the sums, (B, O, OH, OW), for arrays that the kernels can read."""
        rows, sources = self._rows(inp), self._arrangement.sources((weight, bias))
        out = np.empty((len(inp), *self._output_shape), self._dtype)
        flat, one = out.reshape(len(inp), -1), self._dtype.type(1)

        def work(member: team.Member, *scratch: Any) -> None:
            parameters, own, offsets = scratch
            numbers, plan = np.arange(len(rows)), self._plan.plan
            forward_images(member, plan, sources, parameters, one, rows, numbers, own, offsets, flat)

        self._run(work, len(inp), -(-len(inp) // self._arrangement.lanes), threads, trains=False)
        return out

    def backward(
        self, dsums: np.ndarray, inp: np.ndarray, weight: np.ndarray, threads: int
    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """Return the gradients of the inputs (None unless they are needed), the weight and the bias."""
        rows, bias = self._rows(inp), np.zeros(weight.shape[3:], self._dtype)
        sources, size = self._arrangement.sources((weight, bias)), self._arrangement.n_parameters
        dinp = np.empty((len(inp) if self._needs_dinp else 0, *self._input_shape), self._dtype)
        flat, dout = dinp.reshape(len(dinp), rows.shape[1]), self._rows(dsums)
        gradients = aligned_zeros((CHUNKS, size), self._dtype)

        def work(member: team.Member, *scratch: Any) -> None:
            parameters, own, offsets = scratch
            arrays, numbers = (sources, parameters, rows, dout), np.arange(len(rows))
            whole = gradients.reshape(-1)
            backward_images(member, self._plan.plan, *arrays, numbers, own, offsets, CHUNKS, whole, flat)

        self._run(work, 2 * len(inp), CHUNKS, threads, trains=True)
        (dweight,), (dbias,) = self._arrangement.unpack(gradients.sum(axis=0))
        return dinp if self._needs_dinp else None, dweight, dbias

    @staticmethod
    def _rows(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)

    def _run(self, work: Any, n_passes: int, most_threads: int, threads: int, trains: bool) -> None:
        multiplications, lanes = n_passes * self._multiplications, self._arrangement.lanes
        threads = 1 if multiplications <= ONE_THREAD else min(threads, most_threads)
        check_memory(threads * self._plan.n_bytes(lanes, trains), "the arrays of a convolution")

        def run(member: team.Member) -> None:
            parameters = aligned_zeros(self._arrangement.n_parameters, self._dtype)
            work(member, parameters, self._plan.new_own(lanes, trains), np.empty(lanes, np.int64))

        team.run_team(run, threads, caller_works=multiplications <= SHORT)


@lru_cache(maxsize=64)
def _operation(
    input_shape: Shape, weight_shape: Shape, dtype: np.dtype, stride: Pair, padding: Pair, needs_dinp: bool
) -> ConvOperation:
    *kernel, n_channels = weight_shape
    return ConvOperation(Conv2D(n_channels, kernel, stride, padding, "identity"), input_shape, dtype, needs_dinp)
