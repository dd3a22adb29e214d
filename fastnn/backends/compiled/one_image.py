"""The plan of the image layers for one image at a time: neighbouring columns are in the lanes of a vector."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.backends.compiled.image_plan import Geometry, Stage, Tables, blocks_of, whole_tiles
from fastnn.backends.compiled.layout import Arrangement, in_kernel_dtype, readonly_view
from fastnn.kernels import images as columns
from fastnn.kernels import team
from fastnn.kernels.compiler.arguments import Record
from fastnn.kernels.epoch import one_image
from fastnn.kernels.epoch.one_image import FEW_IMAGES, OneOwn, OnePlan, predict_one_by_one
from fastnn.kernels.images import PLACES, Plan
from fastnn.kernels.ops.activations import ACTIVATION_CODES, IDENTITY, RELU
from fastnn.memory import check_memory
from fastnn.network.aligned import aligned_parts
from fastnn.network.layers import Conv2D, MaxPool2D, Shape
from fastnn.network.layers.windows import Pair


class OneImage:
    """The image layers of a network for one image at a time, and calls of their kernel."""

    def __init__(self, stages: Sequence[Stage], arrangement: Arrangement) -> None:
        self._n, self._dtype = arrangement.lanes, arrangement.dtype
        self._tables, self._end = Tables(), 0
        self._rows: list[list[int]] = []
        self._pools: list[tuple[int, ...]] = []
        at, shape = self._place(stages[0].input_shape, _padding(stages[0])), stages[0].input_shape
        inputs, n_inputs = at, math.prod(shape)
        for number, stage in enumerate(stages):
            following = stages[number + 1] if number + 1 < len(stages) else None
            if type(stage.layer) is Conv2D:
                at = self._add_convolution(stage, at)
                shape = (stage.output_shape[0], *stage.layer.output_shape(stage.input_shape)[1:])
            if type(stage.layer) is not Conv2D or stage.is_pooled:
                at = self._add_pool(stage, at, shape)
                shape = stage.output_shape
            if following is not None and _padding(following) != (0, 0):
                at = self._add_copy(at, shape, _padding(following))
        self._n_outputs = math.prod(shape)
        plan = Plan(
            stages=readonly_view(np.array(self._rows, np.int64)),
            table=readonly_view(self._tables.array()),
            rows=readonly_view(inputs.rows(stages[0].input_shape)),
            out_rows=readonly_view(at.rows(shape)),
            size=self._end,
            n_inputs=n_inputs,
            n_outputs=self._n_outputs,
        )
        self._plan = Record(OnePlan(plan, readonly_view(np.array(self._pools, np.int64))))
        self._free: deque[_Slot] = deque()  # those that no call uses at the moment

    def predict(self, inp: np.ndarray, arguments: tuple[Record, Record, Record], n_outputs: int, output: int) -> Any:
        """Return what the whole network predicts of a few checked inputs, (N, C).

        arguments: the kernel's `sources`, `scale` and `table`
        n_outputs: C, the number of outputs of the network
        output: the code of the output function
        """
        try:
            slot = self._free.pop()
        except IndexError:
            slot = _Slot(self._new_own(), self._plan.value.plan.n_inputs, n_outputs)
        n_images, given = len(inp), in_kernel_dtype(inp, self._dtype)
        slot.inputs[:n_images] = given
        made_for, call = slot.calls.get((n_images, output), (None, None))
        if call is None or made_for != arguments:
            arrays = slot.own, slot.inputs[:n_images], slot.out[:n_images]
            call = predict_one_by_one.bind(self._plan, *arguments, output, *arrays)
            slot.calls[n_images, output] = arguments, call
        if not call():
            raise MemoryError("there is not enough memory to predict")
        out = slot.out[:n_images].copy()
        self._free.append(slot)
        return out

    def _new_own(self) -> OneOwn:
        check_memory(self._end * self._dtype.itemsize, "the arrays to predict one image")
        real, n_features = self._dtype, FEW_IMAGES * self._n_outputs
        values, argmax, features = aligned_parts((self._end + self._n, real), (0, np.uint8), (n_features, real))
        return OneOwn(values, argmax, features.reshape(FEW_IMAGES, -1), team.new_barrier())

    def _place(self, shape: Shape, padding: Pair = (0, 0), row: int | None = None) -> Geometry:
        """Return the geometry of a new buffer. A channel has whole vectors, which the activation changes together."""
        n_channels, height, width = shape
        row = width + 2 * padding[1] if row is None else row
        channel = -(-(height + 2 * padding[0]) * row // self._n) * self._n
        geometry = Geometry(self._end, channel, row, 1, padding)
        self._end += n_channels * channel + self._n  # a vector at the end of a row reaches beyond it
        return geometry

    def _add(
        self, inp: Geometry, out: Geometry, n_channels: int, others: dict[int, Any], pool: Sequence[int]
    ) -> Geometry:
        row = dict.fromkeys(range(columns.N_COLUMNS), 0) | {
            columns.CHANNELS_OUT: n_channels,
            columns.INP_AT: inp.at + inp.place(0, 0),
            columns.INP_CHANNEL: inp.channel,
            columns.OUT_AT: out.at + out.place(0, 0),
            columns.OUT_CHANNEL: out.channel,
            columns.OUT_ROWS_AT: self._tables.add([0, out.channel]),
            columns.N_OUT_ROWS: 1,
            **others,
        }
        self._rows.append([int(row[column]) for column in range(columns.N_COLUMNS)])
        self._pools.append(tuple(pool) or (0,) * one_image.N_POOL_COLUMNS)
        return out

    def _add_convolution(self, stage: Stage, inp: Geometry) -> Geometry:
        layer, n = stage.layer, self._n
        n_outputs, height, width = layer.output_shape(stage.input_shape)
        out = self._place((n_outputs, height, width), row=max(width, n))
        starts = np.minimum(np.arange(0, width, n), max(0, width - n))
        i, j = np.repeat(np.arange(height), len(starts)), np.tile(starts, height)
        i, j = whole_tiles(i), whole_tiles(j)
        taps = inp.taps(stage.input_shape[0], layer.kernel)
        blocks = blocks_of(n_outputs, 1, 0)  # a row of the weight has all channels
        code = ACTIVATION_CODES[stage.activation]
        commutes = code in (IDENTITY, RELU) or not stage.is_pooled
        others = {
            columns.KIND: columns.CONV,
            columns.ACTIVATION: code if commutes else IDENTITY,
            columns.N_TAPS: len(taps),
            columns.TAPS_AT: self._tables.add(taps),
            # Places are counted in the padded image, in which the first one is at row 0 and column 0.
            columns.PLACES_AT: self._tables.add(inp.at + i * layer.stride[0] * inp.row + j),
            columns.OUT_PLACES_AT: self._tables.add(out.place(i, j)),
            columns.N_TILES: len(i) // PLACES,
            columns.BLOCKS_AT: self._tables.add(blocks),
            columns.N_BLOCKS: len(blocks),
        }
        return self._add(inp, out, n_outputs, others, ())

    def _add_pool(self, stage: Stage, inp: Geometry, shape: Shape) -> Geometry:
        """Add the pool of a stage: its own, or that of 2 x 2 after a convolution."""
        out, code = self._place(stage.output_shape), ACTIVATION_CODES[stage.activation]
        is_convolution = type(stage.layer) is Conv2D
        size, stride, padding = ((2, 2), (2, 2), (0, 0)) if is_convolution else stage.layer.windows
        done = is_convolution and code == RELU  # by the convolution
        others = {
            columns.KIND: columns.MAX_POOL,
            columns.IS_POOLED: is_convolution,
            columns.ACTIVATION: IDENTITY if done else code,
        }
        pool = (*shape[1:], inp.row, *stage.output_shape[1:], out.row, *size, *stride, *padding)
        return self._add(inp, out, shape[0], others, pool)

    def _add_copy(self, inp: Geometry, shape: Shape, padding: Pair) -> Geometry:
        """Add a copy to a buffer with padding: a pool whose windows have one number."""
        out = self._place(shape, padding)
        pool = (*shape[1:], inp.row, *shape[1:], out.row, 1, 1, 1, 1, 0, 0)
        return self._add(inp, out, shape[0], {columns.KIND: columns.MAX_POOL}, pool)


class _Slot:
    """The arrays of one call at a time, and calls of the kernel with all arguments prepared.

    inputs: (FEW_IMAGES, D)
    out: (FEW_IMAGES, C)
    calls: by the number of images and the code of the output: the other arguments, and the call with these
    """

    def __init__(self, own: OneOwn, n_inputs: int, n_outputs: int) -> None:
        self.own, real = Record(own), own.values.dtype
        self.inputs, self.out = np.empty((FEW_IMAGES, n_inputs), real), np.empty((FEW_IMAGES, n_outputs), real)
        self.calls: dict[tuple[int, int], tuple[Any, Callable[[], bool]]] = {}


def can_be_one(stages: Sequence[Stage]) -> bool:
    """Whether the columns of a vector are neighbours in the inputs of all convolutions, and all pools are maxima.

    The order of the sum of a mean would be LLVM's choice, and the bits would be others than those of a group.
    """
    return all(
        stage.layer.stride[1] == 1 if type(stage.layer) is Conv2D else type(stage.layer) is MaxPool2D
        for stage in stages
    )


def _padding(stage: Stage) -> Pair:
    return stage.layer.padding if type(stage.layer) is Conv2D else (0, 0)
