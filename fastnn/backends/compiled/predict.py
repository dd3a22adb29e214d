"""Predictions of the Numba backend: a table of the network's arrays, and threads that share the rows."""

from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastnn.backends import layerwise
from fastnn.backends.arguments import check_finite_inputs, check_inputs
from fastnn.backends.compiled import operations
from fastnn.backends.compiled.layout import checked_arrays, hold, in_kernel_dtype, is_view, readonly_view
from fastnn.backends.compiled.predict_csr import predict_csr
from fastnn.backends.compiled.predict_images import ImageFront, image_front
from fastnn.backends.compiled.strided import AT_ONCE, can_be_strided, needs_no_strides, rows_at_once, strided
from fastnn.backends.compiled.trainers import have_kernels
from fastnn.backends.threads import resolve_threads
from fastnn.datasets.sparse import is_sparse
from fastnn.errors import DataError
from fastnn.interruptible import interruptible
from fastnn.kernels import team
from fastnn.kernels.compiler.arguments import Record, address_of
from fastnn.kernels.epoch import predict as predict_kernels
from fastnn.kernels.epoch.predict_features import predict_features
from fastnn.kernels.ops.activations import ACTIVATION_CODES
from fastnn.kernels.ops.losses import IDENTITY_OUTPUT, OUTPUT_CODES
from fastnn.network import Network

# A prediction of at most this many multiplications takes 0.1 to 0.4 ms, depending on the number of zeros. Starting
# threads takes 0.15 ms.
ONE_THREAD_PREDICTION = 2**24
# The largest number of rows that even a tiny network predicts without starting threads.
ONE_THREAD_ROWS = 2**17
# The number of times that each of several threads takes rows, unless that would be too few rows.
_SHARES = 4
_UINT8 = np.dtype(np.uint8)


def predict_logits(
    network: Network, inp: np.ndarray, threads: int | None = None, check_finite: bool = False
) -> np.ndarray:
    """Return the logits: the weighted sums of the last layer.

    If the weights are finite, a row's bits depend neither on the other rows nor on the number of threads. SettingsError
    if the network was given arrays that do not have the shapes of its layers. DataError, with `check_finite`, as
    `check_finite_inputs` raises it.
    """
    table = _table(network)
    if check_finite and not _is_checked_by_kernel(network, table, inp):
        return predict_logits(network.core, check_finite_inputs(network, inp), threads)
    if table is None:
        front = image_front(network)
        if front is None:
            return layerwise.predict_logits(operations.with_threads(threads), network, inp)
        return _predict_images(network, front, inp, threads, IDENTITY_OUTPUT)
    return _predict(network, table, inp, threads, IDENTITY_OUTPUT, check_finite)


def predict_proba(
    network: Network, inp: np.ndarray, threads: int | None = None, check_finite: bool = False
) -> np.ndarray:
    """Return the network's outputs: probabilities, or numbers. Bits and errors as above."""
    table = _table(network)
    if check_finite and not _is_checked_by_kernel(network, table, inp):
        return predict_proba(network.core, check_finite_inputs(network, inp), threads)
    if table is None:
        front = image_front(network)
        if front is None:
            return layerwise.predict_proba(operations.with_threads(threads), network, inp)
        if front.tail is not None and network.output in OUTPUT_CODES:
            return _predict_images(network, front, inp, threads, OUTPUT_CODES[network.output])
        logits = _predict_images(network, front, inp, threads, IDENTITY_OUTPUT)
    elif network.output in OUTPUT_CODES:
        return _predict(network, table, inp, threads, OUTPUT_CODES[network.output], check_finite)
    else:
        logits = _predict(network, table, inp, threads, IDENTITY_OUTPUT, check_finite)
    return interruptible(network.loss.outputs, logits, work=4 * logits.size)


# The table of no dense layers.
_NO_LAYERS = Record(readonly_view(np.empty((0, predict_kernels.N_COLUMNS), np.int64)))


def _predict_images(network: Network, front: ImageFront, inp: Any, threads: int | None, output: int) -> np.ndarray:
    """Predict with image layers and, if there are some, the dense layers after them."""
    inp = check_inputs(network, inp)
    table = None if front.tail is None else _table(front.tail)
    if front.can_predict(inp):
        if threads is not None:
            resolve_threads(threads)
        return front.predict(network, inp, _NO_LAYERS if table is None else table.record, output)
    n_rows, out = front.rows_at_once(inp.shape[1]), np.empty((len(inp), network.n_outputs), network.dtype)
    for start in range(0, len(inp), n_rows):  # so that there are never features of all rows
        features = front.features(network, inp[start : start + n_rows], threads)
        if front.tail is not None and table is not None:
            features = _predict_features(table, features, threads, output)
        out[start : start + n_rows] = features
    return out


def _is_checked_by_kernel(network: Network, table: "_Table | None", inp: Any) -> bool:
    """Whether `_predict` finds inputs that are not finite: while it reads them, instead of in a pass of its own."""
    return table is not None and type(inp) is np.ndarray and network.standardization is None


def _predict(
    network: Network, table: "_Table", inp: Any, threads: int | None, output: int, check_finite: bool = False
) -> np.ndarray:
    if type(inp) is not np.ndarray and is_sparse(inp):
        return predict_csr(network, table, inp, threads, output)
    finite = True
    if type(inp) is np.ndarray and inp.size > AT_ONCE and _is_copied(network, inp):
        out = np.empty((len(inp), table.n_outputs), table.dtype)
        n_rows = rows_at_once(inp.shape[1])
        for start in range(0, len(inp), n_rows):  # so that there is never a copy of all rows
            rows = inp[start : start + n_rows]
            out[start : start + n_rows], are_finite = _predict_at_once(network, table, rows, threads, output)
            finite = finite and are_finite
    else:
        out, finite = _predict_at_once(network, table, inp, threads, output)
    if check_finite and not finite:
        check_finite_inputs(network, inp)
    return out


def _is_copied(network: Network, inp: np.ndarray) -> bool:
    """Whether correct inputs must be copied before a kernel can read them."""
    if inp.ndim != 2 or inp.shape[1] != network.n_inputs or inp.dtype.kind not in "buif":
        return False
    is_read = can_be_strided(inp) or needs_no_strides(inp, network.dtype)
    return network.standardization is not None or not is_read


def _predict_at_once(
    network: Network, table: "_Table", inp: Any, threads: int | None, output: int
) -> tuple[np.ndarray, bool]:
    """Return the outputs, and whether the inputs are finite numbers of the working dtype."""
    inp, layers = check_inputs(network, inp, any_order=True), table.layers
    images = values = inp
    n_rows, n_inputs = inp.shape
    if not inp.flags.c_contiguous or (inp.dtype is not table.dtype and inp.dtype is not _UINT8):
        if inp.size > AT_ONCE and can_be_strided(inp):
            source, images = strided(inp, table.dtype)
            layers = layers.copy()
            layers[0, predict_kernels.SOURCE :] = source  # `held` keeps the memory
            layers = readonly_view(layers)
        else:
            images = values = np.ascontiguousarray(in_kernel_dtype(inp, table.dtype))
    images = readonly_view(images)
    if n_inputs != table.n_inputs:
        raise DataError(f"inputs have {n_inputs} columns, expected {table.n_inputs} as the first weight has rows")
    held = hold(values)
    out = np.empty((n_rows, table.n_outputs), table.dtype)
    scale, found = float(network.input_scale), []

    def run(layers: np.ndarray, barrier: np.ndarray) -> bool:
        done = predict_kernels.predict(layers, scale, images, output, barrier, out)
        if barrier[predict_kernels.NOT_FINITE]:
            found.append(True)
        return done

    _share_rows(table, layers, n_rows, threads, run)
    del held, values  # until here, the memory of the inputs could not move
    return out, not found


def _predict_features(table: "_Table", features: np.ndarray, threads: int | None, output: int) -> np.ndarray:
    """`_predict` for what other layers have put out: C-contiguous rows in the dtype of the table, mostly nonzero."""
    features, out = readonly_view(features), np.empty((len(features), table.n_outputs), table.dtype)

    def run(layers: np.ndarray, barrier: np.ndarray) -> bool:
        return predict_features(layers, features, output, barrier, out)

    _share_rows(table, table.layers, len(features), threads, run)
    return out


def _share_rows(
    table: "_Table", layers: np.ndarray, n_rows: int, threads: int | None, run: Callable[[np.ndarray, np.ndarray], bool]
) -> None:
    """Call a kernel, `run`, with the table of the layers and a new barrier: once, or in each of several threads."""

    def work(barrier: np.ndarray) -> None:
        if not run(layers, barrier):
            raise MemoryError("there is not enough memory to predict")

    if n_rows <= table.few_rows:  # counting the cores would take longer than predicting these
        if threads is not None:
            resolve_threads(threads)
        work(team.new_barrier())
        return
    n_threads = min(resolve_threads(threads), -(-n_rows // predict_kernels.ROWS))
    if n_threads > 1:
        layers = _shared(layers, n_rows, n_threads)
    team.run_team(lambda member: work(member.barrier), n_threads)


def _shared(layers: np.ndarray, n_rows: int, threads: int) -> np.ndarray:
    """The table for several threads: each takes so few rows at a time that all end at about the same time."""
    layers = layers.copy()
    at_once = n_rows // (predict_kernels.ROWS * _SHARES * threads)
    layers[0, predict_kernels.AT_ONCE] = min(max(1, at_once), predict_kernels.MOST_AT_ONCE)
    return readonly_view(layers)


class _Table(NamedTuple):
    """The table of a network's layers for the kernel.

    weights, biases: the network's tuples of arrays
    forms: each of these arrays, its shape and its dtype, which a program may change in place
    layers: (L, N_COLUMNS) int64, see `kernels/epoch/predict.py`
    record: the same as an argument of kernels
    kept: views of the arrays, whose addresses are in `layers`, and what `hold` returned for them. So the addresses stay
        valid whatever becomes of the arrays
    dtype: that of the arrays and of the results
    n_inputs, n_outputs: those of the first and of the last weight
    few_rows: the largest number of rows that are predicted without starting threads
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    forms: tuple[tuple[np.ndarray, tuple[int, ...], np.dtype], ...]
    layers: np.ndarray
    record: Record
    kept: tuple[Any, ...]
    dtype: np.dtype
    n_inputs: int
    n_outputs: int
    few_rows: int


# The tables hold addresses, not copies: changing a weight in place changes the predictions.
_TABLES: WeakKeyDictionary[Network, _Table] = WeakKeyDictionary()


def _table(network: Network) -> _Table | None:
    """The table of a network, cached while the network exists and keeps its arrays; None if no kernel covers it.

    Raises SettingsError as `checked_arrays` does.
    """
    table = _TABLES.get(network)
    if table is not None and table.weights is network.weights and table.biases is network.biases:
        for array, shape, dtype in table.forms:  # predicting one row takes microseconds: this takes half a one
            if array.shape != shape or array.dtype is not dtype:
                break
        else:
            return table
    return _new_table(network) if network.is_dense and have_kernels(network) else None


def _new_table(network: Network) -> _Table:
    weights, biases = checked_arrays(network)
    unused = [0] * (predict_kernels.N_COLUMNS - predict_kernels.ACTIVATION - 1)
    rows = [
        [*weight.shape, address_of(weight), address_of(bias), ACTIVATION_CODES[layer.activation], *unused]
        for weight, bias, layer in zip(weights, biases, network.layers, strict=True)
    ]
    views, arrays = (*weights, *biases), (*network.weights, *network.biases)
    rows[0][predict_kernels.AT_ONCE] = predict_kernels.MOST_AT_ONCE
    layers = readonly_view(np.array(rows, np.int64))
    table = _Table(
        weights=network.weights,
        biases=network.biases,
        forms=tuple((array, view.shape, view.dtype) for array, view in zip(arrays, views, strict=True)),
        layers=layers,
        record=Record(layers),
        kept=tuple((view, hold(view)) for view in views),
        dtype=weights[0].dtype,
        n_inputs=weights[0].shape[0],
        n_outputs=weights[-1].shape[1],
        few_rows=min(ONE_THREAD_PREDICTION // sum(weight.size for weight in weights), ONE_THREAD_ROWS),
    )
    # Copies of the arrays would not follow changes in place, and the entries of lists can be replaced.
    are_tuples = type(network.weights) is type(network.biases) is tuple
    if are_tuples and all(map(is_view, views, arrays)):
        _TABLES[network] = table
    return table
