"""The plan of a network's image layers for the kernels: stages, buffers and tables (see `kernels/images.py`)."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.compiled.layout import Arrangement, readonly_view
from fastnn.kernels import images as columns
from fastnn.kernels.images import PLACES, TAPS, Own, Plan, block_sizes
from fastnn.kernels.ops.activations import ACTIVATION_CODES
from fastnn.kernels.vector.simd import VECTOR
from fastnn.network import Network
from fastnn.network.aligned import aligned_parts
from fastnn.network.layers import AvgPool2D, Conv2D, Dense, Layer, MaxPool2D, Shape
from fastnn.network.layers.windows import Pair

# The largest window of a maximum: the number of the largest is one byte.
MOST_POOLED = 256


class Stage(NamedTuple):
    """A stage of the image layers.

    layer: the convolution or the pool
    is_pooled: whether the next layer, a pool of 2 x 2, is a part of a convolution's stage
    activation: the name of the activation after the stage
    input_shape, output_shape: (C, H, W)
    """

    layer: Any
    is_pooled: bool
    activation: str
    input_shape: Shape
    output_shape: Shape


def split_images(network: Network) -> tuple[list[Stage], int] | None:
    """Return the stages of a network and the number of layers in them.

    None unless there is a convolution, and all layers after the stages, if there are any, are dense.
    """
    stages, number = _first_stages(network)
    has_convolution = any(type(stage.layer) is Conv2D for stage in stages)
    return (
        (stages, number) if has_convolution and all(type(each) is Dense for each in network.layers[number:]) else None
    )


def _first_stages(network: Network) -> tuple[list[Stage], int]:
    """Return the stages with which a network begins, and the number of layers in them.

    A pool of 2 x 2 becomes part of the convolution before it if the order of pool and activation does not matter: one
    of the two activations is "identity". No activation that has a kernel ever decreases, so it commutes with the
    maximum. Where it has one value for different sums, its slope is 0, so it does not matter which is the largest.
    """
    stages: list[Stage] = []
    number, layers = 0, network.layers
    while number < len(layers) and _is_stage(layers[number]):
        layer, following = layers[number], layers[number + 1 : number + 2]
        names = [layer.activation]
        if type(layer) is Conv2D and following and _is_pool_of_four(following[0]):
            names.append(following[0].activation)
        is_pooled = len(names) == 2 and "identity" in names
        activation = max(names, key=lambda name: name != "identity") if is_pooled else names[0]
        end = number + 1 + is_pooled
        stages.append(Stage(layer, is_pooled, activation, network.shapes[number], network.shapes[end]))
        number = end
    return stages, number


def _is_stage(layer: Layer) -> bool:
    if type(layer) is MaxPool2D:
        return math.prod(layer.size) <= MOST_POOLED
    return type(layer) in (Conv2D, AvgPool2D)


def _is_pool_of_four(layer: Layer) -> bool:
    return type(layer) is MaxPool2D and (layer.size, layer.stride, layer.padding) == ((2, 2), (2, 2), (0, 0))


class Geometry(NamedTuple):
    """Where the pixels of an image are in a buffer: those of channel c, row i and column j.

    at: the first element of the buffer
    channel, row, column: the distances between two channels, rows and columns, in elements
    padding: the rows and columns of zeros on each side
    """

    at: int
    channel: int
    row: int
    column: int
    padding: Pair

    def place(self, i: Any, j: Any) -> Any:
        """The offset of row i and column j from the first element of a channel's pixels, or of arrays of them."""
        return (i + self.padding[0]) * self.row + (j + self.padding[1]) * self.column

    def taps(self, n_channels: int, kernel: Pair) -> np.ndarray:
        """The offsets of the numbers that a kernel sees, from the first of them, in the order of a weight's rows."""
        c, k, m = np.unravel_index(np.arange(n_channels * math.prod(kernel)), (n_channels, *kernel))
        return c * self.channel + k * self.row + m * self.column

    def rows(self, shape: Shape) -> np.ndarray:
        """The rows of images of a shape, (C, H, W), as `Plan.rows`."""
        n_channels, height, width = shape
        channels, rows = np.divmod(np.arange(n_channels * height), height)
        targets = self.at + channels * self.channel + self.place(rows, 0)
        return np.stack([np.arange(len(targets)) * width, targets, np.full(len(targets), width)], axis=1)


class Tables:
    """Collects tables in one flat array, and remembers where each begins."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._end = 0

    def add(self, numbers: Any) -> int:
        """Append a table, and return where it begins."""
        part = np.asarray(numbers, np.int64).ravel()
        self._parts.append(part)
        self._end += part.size
        return self._end - part.size

    def array(self) -> np.ndarray:
        """All tables."""
        return np.concatenate(self._parts)


class ImagePlan:
    """The plan of the image layers of a network, and the sizes of the arrays that threads need for it.

    plan: for the kernels
    """

    def __init__(self, stages: Sequence[Stage], arrangement: Arrangement, trains_inputs: bool = False) -> None:
        """`trains_inputs` is whether the gradient of the images themselves is needed."""
        self._trains_inputs = trains_inputs
        self._stages, self._n, self._real = stages, arrangement.lanes, arrangement.dtype
        self._tables, self._rows = Tables(), []
        self._wide_size = self._sums_size = self._packed_size = self._numbers_size = 0
        self._geometries = self._place_buffers()
        plain_at = iter(arrangement.plain_at)
        for number, stage in enumerate(stages):
            row = dict.fromkeys(range(columns.N_COLUMNS), 0)
            self._describe_buffers(row, number, stage)
            if type(stage.layer) is Conv2D:
                row[columns.WEIGHT_AT], row[columns.BIAS_AT] = next(plain_at)
                self._describe_convolution(row, number, stage, self._trains_before(number))
            else:
                self._describe_pool(row, number, stage)
            row[columns.HAS_INPUT_GRADIENT] = self._trains_before(number)
            self._rows.append([int(row[column]) for column in range(columns.N_COLUMNS)])
        n_inputs, n_outputs = math.prod(stages[0].input_shape), math.prod(stages[-1].output_shape)
        self.plan = Plan(
            stages=readonly_view(np.array(self._rows, np.int64)),
            table=readonly_view(self._tables.array()),
            rows=readonly_view(self._geometries[0].rows(stages[0].input_shape)),
            out_rows=readonly_view(np.array([[0, self._geometries[-1].at, n_outputs]], np.int64)),
            size=self._size,
            n_inputs=n_inputs,
            n_outputs=n_outputs,
        )
        padded = -(-max(n_inputs, n_outputs) // self._n) * self._n
        self._numbers_size = max(self._numbers_size + self._n, 2 * self._n * padded)

    def _trains_before(self, number: int) -> bool:
        return self._trains_inputs or any(type(stage.layer) is Conv2D for stage in self._stages[:number])

    def _place_buffers(self) -> list[Geometry]:
        """Return the geometry of each stage's input, and of the last output."""
        shapes = [self._stages[0].input_shape, *(stage.output_shape for stage in self._stages)]
        geometries, end = [], 0
        for number, (n_channels, height, width) in enumerate(shapes):
            layer = self._stages[number].layer if number < len(self._stages) else None
            padding = layer.padding if type(layer) is Conv2D else (0, 0)
            row = (width + 2 * padding[1]) * self._n
            channel = (height + 2 * padding[0]) * row
            geometries.append(Geometry(end, channel, row, self._n, padding))
            n_vectors = n_channels * channel // self._n
            end += -(-n_vectors // self._n) * self._n * self._n  # the dense layers read whole squares of the last one
        self._size = end
        return geometries

    def _describe_buffers(self, row: dict[int, Any], number: int, stage: Stage) -> None:
        inp, out = self._geometries[number : number + 2]
        n_channels, height, width = stage.output_shape
        starts = out.place(np.arange(height), 0)
        pool_kind = columns.AVG_POOL if type(stage.layer) is AvgPool2D else columns.MAX_POOL
        row |= {
            columns.KIND: columns.CONV if type(stage.layer) is Conv2D else pool_kind,
            columns.IS_POOLED: stage.is_pooled,
            columns.ACTIVATION: ACTIVATION_CODES[stage.activation],
            columns.IS_LAST: number == len(self._stages) - 1,
            columns.CHANNELS_OUT: n_channels,
            columns.INP_AT: inp.at,
            columns.INP_CHANNEL: inp.channel,
            columns.OUT_AT: out.at,
            columns.OUT_CHANNEL: out.channel,
            columns.OUT_ROWS_AT: self._tables.add(np.stack([starts, starts + width * self._n], axis=1)),
            columns.N_OUT_ROWS: height,
        }

    def _describe_convolution(self, row: dict[int, Any], number: int, stage: Stage, has_gradient: bool) -> None:
        layer, n = stage.layer, self._n
        (n_inputs, *_), (n_outputs, height, width) = stage.input_shape, stage.output_shape
        inp, out = self._geometries[number : number + 2]
        kernel, stride = layer.kernel, layer.stride
        sums_shape = layer.output_shape(stage.input_shape)[1:]
        if stage.is_pooled:
            i, j = (2 * each for each in np.divmod(np.arange(height * width), width))
            i, j = i[:, None] + np.array([0, 0, 1, 1]), j[:, None] + np.array([0, 1, 0, 1])
            out_places = out.place(*np.divmod(np.arange(height * width), width))
        else:
            filled = whole_tiles(np.arange(height * width))
            i, j = np.divmod(filled, width)
            out_places = out.place(i, j)
        i, j = i.ravel(), j.ravel()
        # Places are counted in the padded image, in which the first one is at row 0 and column 0.
        places = inp.at + i * stride[0] * inp.row + j * stride[1] * inp.column
        taps = inp.taps(n_inputs, kernel)
        n_taps, n_places = len(taps), (height * width * (PLACES if stage.is_pooled else 1))
        rounded = -(-n_taps // TAPS) * TAPS
        blocks = blocks_of(n_outputs, n_taps, self._packed_size)
        self._packed_size += n_taps * n_outputs
        wide = self._place_wide(stage, sums_shape, has_gradient)
        wide_places = wide.place(*((i, j) if not has_gradient else (i * stride[0], j * stride[1])))
        row |= {
            columns.KERNEL_HEIGHT: kernel[0],
            columns.KERNEL_WIDTH: kernel[1],
            columns.N_TAPS: n_taps,
            columns.TAPS_AT: self._tables.add(np.pad(taps, (0, rounded - n_taps))),
            columns.PLACES_AT: self._tables.add(places),
            columns.OUT_PLACES_AT: self._tables.add(out_places),
            columns.N_TILES: len(places) // PLACES,
            columns.N_PLACES: n_places,
            columns.BLOCKS_AT: self._tables.add(blocks),
            columns.N_BLOCKS: len(blocks),
            columns.WIDE_AT: wide.at,
            columns.WIDE_CHANNEL: wide.channel,
            columns.WIDE_PLACES_AT: self._tables.add(wide_places),
            columns.SUMS_AT: self._sums_size,
            columns.BIAS_SUMS_AT: self._sums_size + rounded * n_outputs * n,
        }
        self._sums_size += (rounded * n_outputs + -(-n_outputs // n) * n) * n
        self._numbers_size = max(self._numbers_size, rounded * max(block_sizes(n_outputs)))
        if has_gradient:
            self._describe_input_gradient(row, number, stage, sums_shape, wide)

    def _place_wide(self, stage: Stage, sums_shape: Sequence[int], has_gradient: bool) -> Geometry:
        """Return the geometry of the gradients of a convolution's sums.

        For the gradient of the input, they are as far apart as the places are in the input. Before and after each row
        there are as many zeros as the input gradient reads beyond them.
        """
        n, at, layer = self._n, self._wide_size, stage.layer
        (height, width), padding = sums_shape, (0, 0)
        if has_gradient:
            height, width = ((size - 1) * step + 1 for size, step in zip(sums_shape, layer.stride, strict=True))
            before = layer.kernel[1] - 1
            width = max(width + 2 * before, stage.input_shape[2] + layer.padding[1] + before)
            padding = (0, before)
        self._wide_size += stage.output_shape[0] * height * width * n
        return Geometry(at, height * width * n, width * n, n, padding)

    def _describe_input_gradient(
        self, row: dict[int, Any], number: int, stage: Stage, sums_shape: Sequence[int], wide: Geometry
    ) -> None:
        layer, inp = stage.layer, self._geometries[number]
        (n_inputs, height, width), n_outputs = stage.input_shape, stage.output_shape[0]
        (kernel_height, kernel_width), before = layer.kernel, layer.padding
        blocks = blocks_of(n_inputs, n_outputs * math.prod(layer.kernel), self._packed_size)
        self._packed_size += n_outputs * math.prod(layer.kernel) * n_inputs
        k, o, m = np.unravel_index(
            np.arange(kernel_height * n_outputs * kernel_width), (kernel_height, n_outputs, kernel_width)
        )
        last_row = (sums_shape[0] - 1) * layer.stride[0]
        columns_of_row = whole_tiles(np.arange(width))
        rows: list[tuple[int, ...]] = []
        places: list[np.ndarray] = []
        out_places: list[np.ndarray] = []
        for i in range(height):
            # Kernel row k connects row i of the input with row ``i + padding - k`` of the sums.
            first, last = max(0, i + before[0] - last_row), min(kernel_height - 1, i + before[0])
            if first > last:
                continue  # no place sees this row: its gradient stays 0
            taps_of_row = n_outputs * kernel_width
            tile = len(places) * len(columns_of_row) // PLACES
            rows.append((tile, len(columns_of_row) // PLACES, first * taps_of_row, (last + 1) * taps_of_row))
            places.append(wide.at + wide.place(i + before[0], columns_of_row + before[1]))
            out_places.append(inp.place(i, columns_of_row))
        row |= {
            columns.IN_BLOCKS_AT: self._tables.add(blocks),
            columns.N_IN_BLOCKS: len(blocks),
            columns.IN_TAPS_AT: self._tables.add(o * wide.channel - k * wide.row - m * wide.column),
            columns.IN_ROWS_AT: self._tables.add(rows),
            columns.N_IN_ROWS: len(rows),
            columns.IN_PLACES_AT: self._tables.add(np.concatenate(places)),
            columns.IN_OUT_PLACES_AT: self._tables.add(np.concatenate(out_places)),
        }

    def _describe_pool(self, row: dict[int, Any], number: int, stage: Stage) -> None:
        layer, inp, out = stage.layer, *self._geometries[number : number + 2]
        (_, height, width), (_, n_rows, n_columns) = stage.input_shape, stage.output_shape
        windows: list[tuple[int, ...]] = []
        entries: list[tuple[int, int]] = []
        for i, j in np.ndindex(n_rows, n_columns):
            top, left = i * layer.stride[0] - layer.padding[0], j * layer.stride[1] - layer.padding[1]
            first = len(entries)
            for tap, (k, m) in enumerate(np.ndindex(layer.size)):
                if 0 <= top + k < height and 0 <= left + m < width:
                    entries.append((inp.place(top + k, left + m), tap))
            windows.append((out.place(i, j), first, len(entries)))
        row |= {
            columns.WINDOWS_AT: self._tables.add(windows),
            columns.N_WINDOWS: len(windows),
            columns.ENTRIES_AT: self._tables.add(entries),
            columns.POOL_SIZE: math.prod(layer.size),
        }

    def n_bytes(self, n_rows: int, trains: bool) -> int:
        """Return the number of bytes of `new_own`."""
        n_groups = -(-n_rows // self._n)
        numbers = self._size * n_groups + self._packed_size + self._numbers_size
        numbers += (self._size + self._wide_size + self._sums_size) * trains
        return numbers * self._real.itemsize + self._size * n_groups

    def new_own(self, n_rows: int, trains: bool = True) -> Own:
        """Return a thread's arrays for blocks of `n_rows` images; those of the backward pass only if it `trains`."""
        n_values = self._size * -(-n_rows // self._n)
        slack = self._n * self._n  # sums of lanes are read for a whole vector of weights
        sizes = (
            (n_values, self._real),
            (n_values, np.uint8),
            (self._size * trains, self._real),
            (self._wide_size * trains, self._real),
            ((self._sums_size + slack) * trains, self._real),
            (self._packed_size, self._real),
            (self._numbers_size, self._real),
            (VECTOR // self._real.itemsize, self._real),
        )
        return Own(*aligned_parts(*sizes))


def whole_tiles(places: np.ndarray) -> np.ndarray:
    """Return places with the last one repeated until they fill whole tiles."""
    return np.concatenate([places, np.repeat(places[-1:], -len(places) % PLACES)])


def blocks_of(n_channels: int, n_taps: int, packed_at: int) -> list[tuple[int, int, int]]:
    """Return the blocks of channels: the first channel, their number, and where their packed weights begin."""
    sizes = block_sizes(n_channels)
    starts = accumulate(sizes, initial=0)
    return [(first, size, packed_at + first * n_taps) for first, size in zip(starts, sizes, strict=False)]
