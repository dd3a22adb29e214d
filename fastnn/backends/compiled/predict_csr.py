"""Predictions of the Numba backend from SciPy's CSR matrices: the first layer from the entries, the others as usual."""

from typing import Any

import numpy as np

from fastnn.backends.arguments import check_inputs
from fastnn.backends.compiled.layout import as_readonly, hold, readonly_view
from fastnn.backends.threads import resolve_threads
from fastnn.errors import DataError
from fastnn.interruptible import interruptible
from fastnn.kernels import team
from fastnn.kernels.epoch import predict as predict_kernels
from fastnn.kernels.epoch.predict_csr import predict_first_layer
from fastnn.kernels.epoch.predict_features import predict_features
from fastnn.kernels.inputs.csr import Csr
from fastnn.kernels.ops.activations import LOGISTIC
from fastnn.kernels.ops.losses import IDENTITY_OUTPUT, LOGISTIC_OUTPUT
from fastnn.kernels.vector.simd import VECTOR
from fastnn.network import Network

# A prediction of at most this many multiplications takes half a millisecond. Starting threads takes 0.15 ms.
ONE_THREAD_PRODUCTS = 2**22
# A block of rows has about this many multiplications at most. It takes milliseconds: Ctrl-C ends a prediction between
# two blocks, and the outputs of the first layer stay in a nearby cache.
_BLOCK_PRODUCTS, _BLOCK_ROWS = 2**24, 2**12
# The largest number of entries that are sorted here.
FEW_ENTRIES = 2**13
_VALUES = frozenset(map(np.dtype, (np.uint8, np.float32, np.float64)))
_INDICES = frozenset(map(np.dtype, (np.int32, np.uint32)))


def predict_csr(network: Network, table: Any, inp: Any, threads: int | None, output: int) -> np.ndarray:
    """Return the logits or the outputs for a sparse matrix. Bits and errors are those of `predict.predict_proba`.

    The kernel checks the structure of the matrix while it reads it, which takes no time. If that fails, `check_inputs`
    raises the error, or sorts the entries and adds up those of one place.

    table: the `predict._Table` of the network
    output: as in `kernels.epoch.predict.predict`
    """
    if network.standardization is None:
        lists = _lists(table, inp)
        while lists is not None:
            out = _predict(network, table, lists, threads, output)
            if out is not None:
                return out
            lists = _sorted(lists, table.n_inputs)
    inp = check_inputs(network, inp)
    if inp.shape[1] != table.n_inputs:
        raise DataError(f"inputs have {inp.shape[1]} columns, expected {table.n_inputs} as the first weight has rows")
    lists = _lists(table, inp)
    assert lists is not None
    out = _predict(network, table, lists, threads, output)
    assert out is not None  # the structure is a copy, which nothing else can change
    return out


def _lists(table: Any, inp: Any) -> Csr | None:
    """Return the arrays of a SciPy matrix as the kernel needs them; None if they cannot be used as they are."""
    shape = inp.shape
    if getattr(inp, "format", None) != "csr" or len(shape) != 2 or shape[1] != table.n_inputs:
        return None
    indptr, indices, data = inp.indptr, inp.indices, inp.data
    for array in (indptr, indices, data):
        if type(array) is not np.ndarray or array.ndim != 1:
            return None
    if indptr.dtype.kind not in "iu" or indices.dtype.kind not in "iu" or data.dtype not in _VALUES:
        return None
    if len(indptr) != shape[0] + 1 or indptr[0] != 0 or len(indices) != len(data):
        return None
    if indices.dtype not in _INDICES:
        indices = interruptible(_as_uint32, indices, shape[1], work=2 * indices.size)
    if data.dtype != table.dtype:
        data = interruptible(_as_real, data, table.dtype, work=2 * data.size)
    if indices is None:
        return None
    own = np.array(indptr, np.int64)
    return Csr(readonly_view(own), as_readonly(indices.view(np.uint32)), as_readonly(data))


def _sorted(lists: Csr, n_inputs: int) -> Csr | None:
    """Return lists with the entries of each row in order; None if they are in order, too many, or not all different.

    Only of few entries: for these, `canonical` takes several times as long as the prediction.
    """
    n_entries, counts = len(lists.indices), np.diff(lists.indptr)
    if n_entries > FEW_ENTRIES or (counts < 0).any() or lists.indptr[-1] != n_entries:
        return None
    places = np.repeat(np.arange(len(counts)) * n_inputs, counts) + lists.indices
    order = places.argsort()
    places = places[order]
    if (order[1:] > order[:-1]).all() or (places[1:] == places[:-1]).any() or (lists.indices >= n_inputs).any():
        return None
    return Csr(lists.indptr, readonly_view(lists.indices[order]), readonly_view(lists.data[order]))


def _as_uint32(indices: np.ndarray, n_inputs: int) -> np.ndarray | None:
    """Return a copy of the indices as uint32; None if one of them is not from 0 to ``n_inputs - 1``."""
    if len(indices) and not (indices.min() >= 0 and indices.max() < n_inputs):
        return None
    return indices.astype(np.uint32)


def _as_real(data: np.ndarray, real: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # whoever needs finite inputs checks for infinity
        return data.astype(real)


def _predict(network: Network, table: Any, lists: Csr, threads: int | None, output: int) -> np.ndarray | None:
    """Return the logits or the outputs; None if the kernel finds that the lists are not in order."""
    n_rows, n_layers, layers = len(lists.indptr) - 1, len(table.layers), table.layers
    weight, bias, last = table.kept[0][0], table.kept[n_layers][0], n_layers == 1
    layer = readonly_view(weight), readonly_view(bias), table.dtype.type(network.input_scale)
    code = LOGISTIC if last and output == LOGISTIC_OUTPUT else int(layers[0, predict_kernels.ACTIVATION])
    codes = code, output if last else IDENTITY_OUTPUT
    others = layers[1:].copy()
    others[:1, predict_kernels.AT_ONCE] = predict_kernels.MOST_AT_ONCE
    others, out = readonly_view(others), np.empty((n_rows, table.n_outputs), table.dtype)
    is_right, lanes = [True], VECTOR // table.dtype.itemsize

    def predict_rows(start: int, stop: int, barrier: np.ndarray) -> None:
        part = out[start:stop]
        hidden = part if last else np.empty((stop - start, weight.shape[1]), table.dtype)
        sums = np.empty(-(-weight.shape[1] // lanes) * lanes + lanes, table.dtype)
        if not predict_first_layer(lists, start, layer, codes, barrier, hidden, sums):
            is_right[0], barrier[team.STOP] = False, 1
        elif not last:
            inp, new = readonly_view(hidden), team.new_barrier()
            if not predict_features(others, inp, output, new, part):
                raise MemoryError("there is not enough memory to predict")

    held = hold(lists.indices), hold(lists.data)
    row_products = sum(view.size for view, _ in table.kept[1:n_layers])
    products = len(lists.data) * weight.shape[1] + n_rows * row_products
    if n_rows <= _BLOCK_ROWS and products <= ONE_THREAD_PRODUCTS:  # counting the cores would take longer
        if threads is not None:
            resolve_threads(threads)
        predict_rows(0, n_rows, team.new_barrier())
    else:
        size = min(resolve_threads(threads), -(-n_rows // predict_kernels.ROWS))
        rows = max(1, min(_BLOCK_ROWS, -(-n_rows // max(1, size)), _BLOCK_PRODUCTS * n_rows // max(1, products)))

        def work(member: team.Member) -> None:
            for start in range(member.t * rows, n_rows, member.threads * rows):
                if not member.barrier[team.STOP]:
                    predict_rows(start, min(start + rows, n_rows), member.barrier)

        # Python answers Ctrl-C between two blocks of the calling thread.
        team.run_team(work, size, caller_works=size == 1)
    del held  # until here, the memory of the matrix could not move
    return out if is_right[0] else None
