"""Convert a network to the kernels' layout and back: flat arrays, columns in panels (see `kernels/layout.py`)."""

import weakref
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from fastnn.datasets.sparse import canonical
from fastnn.errors import SettingsError
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
    """Views of the weights and biases of a dense network, C-contiguous and in its dtype; copies where that is needed.

    Raises SettingsError unless they have the shapes of the layers. `Network` has checked that, but its attributes can
    be given other arrays, and an array can get another shape or dtype in place. The views cannot.
    """
    network.check_arrays()
    weights, biases = ([np.asarray(each).view() for each in arrays] for arrays in (network.weights, network.biases))
    dtype = weights[0].dtype
    if dtype not in REAL_DTYPES:
        raise SettingsError(f"layer 1: weight of dtype {dtype}, expected float32 or float64")
    for number, (weight, bias, shape) in enumerate(zip(weights, biases, pairwise(network.sizes), strict=True), start=1):
        for name, array, expected in (("weight", weight, shape), ("bias", bias, shape[1:])):
            if array.shape != expected or array.dtype.kind not in "buif":
                found = f"shape {array.shape}, dtype {array.dtype}"
                raise SettingsError(f"layer {number}: {name} of {found}, expected {expected} numbers")
    return [_plain(each, dtype) for each in weights], [_plain(each, dtype) for each in biases]


def _plain(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    plain = np.ascontiguousarray(array, dtype)
    return plain if plain.flags.aligned else plain.copy()


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


@lru_cache(maxsize=256)
def _panels(size: int, lanes: int) -> tuple[tuple[int, int], ...]:
    """The first column and the width, including padding, of each panel of a layer of `size` units."""
    widths = [vectors * lanes for vectors in panel_widths(-(-size // lanes))]
    return tuple(zip(accumulate(widths, initial=0), widths, strict=False))


def lay_out(network: Network) -> Layout:
    """Copy a network into the kernels' layout; the errors are those of `checked_arrays`."""
    weights, biases = checked_arrays(network)
    dtype, sizes = weights[0].dtype, network.sizes
    table, n_parameters = _table(sizes, tuple(layer.activation for layer in network.layers), VECTOR // dtype.itemsize)
    parameters = aligned_zeros(n_parameters, dtype)
    pack(sizes, parameters, (weights, biases))
    return Layout(
        parameters=parameters,
        n_weights=len(sizes) - 1,
        table=table.copy(),
        output=OUTPUT_CODES[network.output],
        scale=network.dtype.type(network.input_scale),
    )


@lru_cache(maxsize=64)
def _table(sizes: tuple[int, ...], activations: tuple[str, ...], lanes: int) -> tuple[np.ndarray, int]:
    """The table of a layout for vectors of `lanes` numbers, and the number of parameters with their padding."""
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
        end += (fan_in + 1) * width
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


def _views(
    sizes: tuple[int, ...], flat: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of views: a panel or bias in `flat`, and the matching columns of a weight or the bias in `arrays`."""
    lanes, end = VECTOR // flat.dtype.itemsize, 0
    for layer, (fan_in, size) in enumerate(pairwise(sizes)):
        for first, width in _panels(size, lanes):
            columns, panel = min(width, size - first), flat[end : end + fan_in * width].reshape(fan_in, width)
            yield panel[:, :columns], arrays[0][layer][:, first : first + columns]
            end += fan_in * width
        yield flat[end : end + size], arrays[1][layer]
        end += -(-size // lanes) * lanes


def pack(sizes: tuple[int, ...], flat: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> None:
    """Copy weights and biases into a flat array laid out like the parameters; the padding is unchanged."""
    for view, array in _views(sizes, flat, arrays):
        view[...] = array


def unpack(sizes: tuple[int, ...], flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Copy weights and biases out of a flat array laid out like the parameters."""
    weights = [aligned_empty(shape, flat.dtype) for shape in pairwise(sizes)]
    biases = [aligned_empty(size, flat.dtype) for size in sizes[1:]]
    for view, array in _views(sizes, flat, (weights, biases)):
        array[...] = view
    return weights, biases
