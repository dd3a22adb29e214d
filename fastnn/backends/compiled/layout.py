"""Convert a network to the kernels' layout and back: flat arrays, columns in panels (see `kernels/layout.py`)."""

import math
import weakref
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from fastnn.datasets.sparse import canonical
from fastnn.errors import SettingsError
from fastnn.kernels.compiler.arguments import address_of
from fastnn.kernels.inputs.csr import Csr
from fastnn.kernels.layout import (
    ACTIVATION,
    BIAS_AT,
    BLOCK,
    N_COLUMNS,
    N_PANELS,
    PANEL_AT,
    SIZE,
    WEIGHT_AT,
    Layout,
    Panel,
    panel_widths,
)
from fastnn.kernels.ops.activations import ACTIVATION_CODES
from fastnn.kernels.ops.losses import OUTPUT_CODES
from fastnn.kernels.vector.simd import VECTOR
from fastnn.network import Network
from fastnn.network.aligned import aligned_empty, aligned_zeros
from fastnn.network.layers import Shape, array_shapes

# The dtypes of networks, in native byte order. Kernels are compiled for these.
REAL_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class ScratchSizes(NamedTuple):
    """The sizes of the scratch arrays for a `Layout`.

    n_units: the number of units of all layers except the inputs, each layer padded to whole vectors
    n_partial_logits: the number of partial logits of a block, for all panels of the last hidden layer
    padded_classes: the number of outputs, padded to whole vectors
    max_panels: the largest number of panels of a layer
    """

    n_units: int
    n_partial_logits: int
    padded_classes: int
    max_panels: int


def as_readonly(array: np.ndarray) -> np.ndarray:
    """A contiguous, aligned, read-only view of an array, or a copy if a view is impossible.

    All inputs of kernels have this form, because Numba would compile another kernel for any other.
    """
    flags = array.flags
    if type(array) is not np.ndarray or not (flags.c_contiguous and flags.aligned):  # `require` is slow
        array = np.require(np.asarray(array), requirements=["C", "A"])
    return readonly_view(array)


def hold(array: np.ndarray) -> "weakref.ref[np.ndarray]":
    """Return an object during whose life the memory of `array` stays where it is.

    NumPy refuses to resize an array that has a weak reference, even with ``refcheck=False``. A view of `array` keeps
    the memory alive, but would not prevent that.
    """
    owner = array.base
    if type(owner) is not np.ndarray or owner.base is not None:
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
    return weakref.ref(owner)


def readonly_view(array: np.ndarray) -> np.ndarray:
    """A read-only view of a contiguous array."""
    view = array.view()
    view.setflags(write=False)  # predicting one row takes microseconds: this is faster than `view.flags`
    return view


def in_kernel_dtype(inp: np.ndarray, real: np.dtype) -> np.ndarray:
    """Inputs unchanged if they are uint8, otherwise in the working dtype: kernels are compiled for these two only."""
    if inp.dtype == np.uint8 or inp.dtype == real:
        return inp
    with np.errstate(over="ignore"):  # whoever needs finite inputs checks for infinity
        return inp.astype(real)


def checked_arrays(network: Network) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Views of the weights and biases of a network, C-contiguous and in its dtype; copies where that is needed.

    Raises SettingsError unless they have the shapes of the layers. `Network` has checked that, but its attributes can
    be given other arrays, and an array can get another shape or dtype in place. The views cannot.
    """
    network.check_arrays()
    weights, biases = ([np.asarray(each).view() for each in arrays] for arrays in (network.weights, network.biases))
    dtype = weights[0].dtype
    if dtype not in REAL_DTYPES:
        raise SettingsError(f"layer 1: weight of dtype {dtype}, expected float32 or float64")
    shapes = [pair for pair, _ in array_shapes(network.layers, network.shapes[:-1])]
    remaining = iter(zip(weights, biases, strict=True))
    for number, pair in enumerate(shapes, start=1):
        if not pair:
            continue
        for name, array, expected in zip(("weight", "bias"), next(remaining), pair, strict=True):
            if array.shape != expected or array.dtype.kind not in "buif":
                found = f"shape {array.shape}, dtype {array.dtype}"
                raise SettingsError(f"layer {number}: {name} of {found}, expected {expected} numbers")
    return [_plain(each, dtype) for each in weights], [_plain(each, dtype) for each in biases]


def _plain(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    plain = np.ascontiguousarray(array, dtype)
    return plain if plain.flags.aligned else plain.copy()


def is_view(view: np.ndarray, array: Any) -> bool:
    """Whether a view, as `checked_arrays` returns them, has the memory of an array."""
    return isinstance(array, np.ndarray) and address_of(view) == address_of(array)


def to_csr(matrix: Any, real: np.dtype, index_dtype: type[np.unsignedinteger]) -> Csr:
    """Convert a SciPy CSR matrix that `check_inputs` returned. Arrays that have the kernels' dtypes are shared.

    real: the working dtype
    index_dtype: the dtype of the result's `indices`
    """
    data = in_kernel_dtype(matrix.data, real)
    if data is not matrix.data:  # numbers too small for the new dtype have become 0
        matrix = canonical(type(matrix)((data, matrix.indices, matrix.indptr), shape=matrix.shape))
    indices = matrix.indices  # none is negative
    same_size = indices.itemsize == np.dtype(index_dtype).itemsize
    indices = indices.view(index_dtype) if same_size else indices.astype(index_dtype)
    return Csr(*map(as_readonly, (matrix.indptr.astype(np.int64, copy=False), indices, matrix.data)))


def empty_csr(index_dtype: type[np.unsignedinteger], dtype: np.dtype) -> Csr:
    """Empty lists with data of `dtype`, for kernels that get the inputs as an array of this dtype."""
    return Csr(*(readonly_view(np.empty(0, each)) for each in (np.int64, index_dtype, dtype)))


class Arrangement:
    """Where the weights and biases of a network are in a flat array of the kernels.

    The dense layers come first, panel by panel. The arrays of the layers before them, convolutions, follow one after
    the other; each is padded to whole vectors.

    dense_sizes: the numbers of units of the dense layers, after that of their inputs
    plain_shapes: the shapes of the weight and the bias of each layer before them
    lanes: the number of lanes of a vector
    n_dense: the number of elements of the dense layers, padding included
    n_parameters: likewise of all layers
    plain_at: the offsets of the weight and the bias of each layer before the dense ones
    """

    def __init__(
        self, dense_sizes: Sequence[int], dtype: np.dtype, plain_shapes: Sequence[tuple[Shape, ...]] = ()
    ) -> None:
        self.dense_sizes, self.plain_shapes = tuple(dense_sizes), tuple(plain_shapes)
        self.dtype, self.lanes = np.dtype(dtype), VECTOR // np.dtype(dtype).itemsize
        self.n_dense = end = sum((n + 1) * self._padded(size) for n, size in pairwise(self.dense_sizes))
        self.plain_at: list[tuple[int, int]] = []
        for weight, bias in self.plain_shapes:
            bias_at = end + self._padded(math.prod(weight))
            self.plain_at.append((end, bias_at))
            end = bias_at + self._padded(math.prod(bias))
        self.n_parameters = end

    def _padded(self, size: int) -> int:
        return -(-size // self.lanes) * self.lanes

    def _views(
        self, flat: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of views: a part of `flat`, and the matching part of a weight or a bias in `arrays`."""
        weights, biases = arrays
        for number, (shapes, starts) in enumerate(zip(self.plain_shapes, self.plain_at, strict=True)):
            for array, shape, start in zip((weights[number], biases[number]), shapes, starts, strict=True):
                yield flat[start : start + math.prod(shape)].reshape(shape), array
        end, before = 0, len(self.plain_shapes)
        for layer, (fan_in, size) in enumerate(pairwise(self.dense_sizes), start=before):
            for first, width in _panels(size, self.lanes):
                columns, panel = min(width, size - first), flat[end : end + fan_in * width].reshape(fan_in, width)
                yield panel[:, :columns], weights[layer][:, first : first + columns]
                end += fan_in * width
            yield flat[end : end + size], biases[layer]
            end += self._padded(size)

    def pack(self, flat: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> None:
        """Copy weights and biases into a flat array laid out like the parameters; the padding is unchanged."""
        for view, array in self._views(flat, arrays):
            view[...] = array

    def sources(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Where kernels find the arrays of the layers before the dense ones, and where these go, (2 * K, 3) int64.

        arrays: all weights and then all biases of these layers, C-contiguous. The caller keeps them alive.
        """
        targets = [pair[k] for k in range(2) for pair in self.plain_at]
        rows = [(address_of(array), array.size, at) for array, at in zip(arrays, targets, strict=True)]
        return readonly_view(np.array(rows, np.int64))

    def unpack(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Copy weights and biases out of a flat array laid out like the parameters."""
        shapes = [*self.plain_shapes, *((shape, shape[1:]) for shape in pairwise(self.dense_sizes))]
        weights, biases = ([aligned_empty(pair[k], flat.dtype) for pair in shapes] for k in range(2))
        for view, array in self._views(flat, (weights, biases)):
            array[...] = view
        return weights, biases


@lru_cache(maxsize=256)
def _panels(size: int, lanes: int) -> tuple[tuple[int, int], ...]:
    """The first column and the width, including padding, of each panel of a layer of `size` units."""
    widths = [vectors * lanes for vectors in panel_widths(-(-size // lanes))]
    return tuple(zip(accumulate(widths, initial=0), widths, strict=False))


def lay_out(network: Network, arrangement: Arrangement, activations: Sequence[str]) -> Layout:
    """Copy a network into the kernels' layout; the errors are those of `checked_arrays`.

    activations: those of the dense layers; before them, with convolutions, that of the dense layers' inputs
    """
    weights, biases = checked_arrays(network)
    dtype, sizes = weights[0].dtype, arrangement.dense_sizes
    parameters = aligned_zeros(arrangement.n_parameters, dtype)
    arrangement.pack(parameters, (weights, biases))
    sizes = (0, *sizes) if arrangement.plain_shapes else sizes  # nothing leads into the inputs of the dense layers
    table, _ = _table(sizes, tuple(activations), VECTOR // dtype.itemsize)
    return Layout(
        parameters=parameters,
        n_weights=len(sizes) - 1,
        table=table.copy(),
        output=OUTPUT_CODES[network.output],
        scale=network.dtype.type(network.input_scale),
    )


@lru_cache(maxsize=64)
def _table(sizes: tuple[int, ...], activations: tuple[str, ...], lanes: int) -> tuple[np.ndarray, int]:
    """The table of a layout for vectors of `lanes` numbers, and the number of parameters with their padding.

    A first size of 0 stands for units that no weights lead to, and that have no biases.
    """
    padded = [-(-size // lanes) * lanes for size in sizes]
    panels = [_panels(size, lanes) for size in sizes[1:]]
    unit_at = list(accumulate(padded[1:], initial=0))
    panel_rows = [
        (first, width // lanes, width, (start + first) * BLOCK, width)
        for start, panels_of_layer in zip(unit_at, panels[:-1], strict=False)
        for first, width in panels_of_layer
    ]
    panel_rows += [
        (first, width // lanes, width, unit_at[-2] * BLOCK + first, padded[-1]) for first, width in panels[-1]
    ]
    table = np.zeros((len(sizes) + len(panel_rows), N_COLUMNS), np.int64)
    table[: len(sizes), SIZE], table[len(sizes) :, : len(Panel._fields)] = sizes, panel_rows
    table[1 : len(sizes), ACTIVATION] = [ACTIVATION_CODES[name] for name in activations]
    counts = np.array([0, *map(len, panels)])
    table[: len(sizes), N_PANELS] = counts
    table[: len(sizes), PANEL_AT] = len(sizes) + np.cumsum(counts) - counts
    end = 0
    for layer, (fan_in, width) in enumerate(zip(sizes, padded[1:], strict=False)):
        table[layer, [WEIGHT_AT, BIAS_AT]] = end, end + fan_in * width
        end += (fan_in + 1) * width if fan_in else 0
    return table, end


def scratch_sizes(layout: Layout) -> ScratchSizes:
    """The sizes of the scratch arrays for a layout."""
    lanes, table = VECTOR // layout.parameters.itemsize, layout.table[1 : layout.n_weights + 1]
    padded = -(-table[:, SIZE] // lanes) * lanes
    n_hidden_panels = int(table[-2, N_PANELS]) if layout.n_weights > 1 else 0
    return ScratchSizes(
        n_units=int(padded.sum()),
        n_partial_logits=BLOCK * int(padded[-1]) * n_hidden_panels,
        padded_classes=int(padded[-1]),
        max_panels=int(table[:, N_PANELS].max()),
    )
