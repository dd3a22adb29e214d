"""Predictions of the Numba backend: a table of the network's arrays, and threads that share the rows."""

from operator import is_
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastnn.backends import layerwise
from fastnn.backends.base import check_inputs
from fastnn.backends.compiled import operations
from fastnn.backends.compiled.fused import covers
from fastnn.backends.compiled.layout import readonly_view, to_csr
from fastnn.backends.threads import resolve_threads
from fastnn.interruptible import interruptible
from fastnn.kernels import team
from fastnn.kernels.epoch import predict as predict_kernels
from fastnn.kernels.ops.activations import ACTIVATION_CODES
from fastnn.kernels.ops.losses import IDENTITY_OUTPUT, OUTPUT_CODES
from fastnn.network import Network

# A prediction of at most this many multiplications takes 0.1 to 0.4 ms, depending on the number of zeros. Starting
# threads takes 0.15 ms.
ONE_THREAD_PREDICTION = 2**24
# The largest number of rows that even a tiny network predicts without starting threads.
ONE_THREAD_ROWS = 2**17


def predict_logits(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Return the logits: the weighted sums of the last layer.

    If the weights are finite, a row's bits depend neither on the other rows nor on the number of threads.
    """
    table = _table(network)
    if table is None:
        return layerwise.predict_logits(operations.with_threads(threads), network, inp)
    return _predict(network, table, inp, threads, IDENTITY_OUTPUT)


def predict_proba(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Return the network's outputs: probabilities, or the numbers of an identity output. Bits as above."""
    table = _table(network)
    if table is None:
        return layerwise.predict_proba(operations.with_threads(threads), network, inp)
    return _predict(network, table, inp, threads, OUTPUT_CODES[network.output])


def _predict(network: Network, table: "_Table", inp: np.ndarray, threads: int | None, output: int) -> np.ndarray:
    inp = check_inputs(network, inp)
    n_rows, layers = inp.shape[0], table.layers
    if isinstance(inp, np.ndarray):
        images = readonly_view(inp)
    else:
        csr = interruptible(to_csr, inp, network.dtype, np.uint32, work=2 * inp.nnz)  # `csr` keeps the arrays alive
        layers = layers.copy()
        layers[0, predict_kernels.INDPTR :] = csr.indptr.ctypes.data, csr.indices.ctypes.data
        images, layers = csr.data.reshape(1, -1), readonly_view(layers)
    out = np.empty((n_rows, network.n_outputs), network.dtype)
    scale = network.input_scale

    def work(member: team.Member) -> None:
        predict_kernels.predict(layers, scale, images, output, member.barrier, out)

    if (images.dtype, out.dtype) not in _READY:  # without rows: Ctrl-C need not wait for a kernel that compiles
        interruptible(predict_kernels.predict, layers, scale, images, output, team.new_barrier(), out[:0])
        _READY.add((images.dtype, out.dtype))
    few = n_rows <= table.few_rows  # counting the cores would take longer than predicting these
    members = 1 if few and threads is None else resolve_threads(threads)
    if few:
        work(team.Member(0, 1, team.new_barrier()))
    else:
        team.run_team(work, min(members, -(-n_rows // predict_kernels.ROWS)))
    return out


_READY: set[tuple[np.dtype, np.dtype]] = set()  # the dtypes of inputs and outputs whose kernel is loaded


class _Table(NamedTuple):
    """The table of a network's layers for the kernel.

    weights, biases: the network's tuples of arrays, whose addresses are in `layers`
    layers: (L, N_COLUMNS) int64, see `kernels/epoch/predict.py`
    few_rows: the largest number of rows that are predicted without starting threads
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    layers: np.ndarray
    few_rows: int


# The tables hold addresses, not copies: changing a weight in place changes the predictions.
_TABLES: WeakKeyDictionary[Network, _Table] = WeakKeyDictionary()


def _table(network: Network) -> _Table | None:
    """The table of a network, cached while the network exists and keeps its arrays; None if no kernel covers it."""
    table = _TABLES.get(network)
    if table is not None and table.weights is network.weights and table.biases is network.biases:
        return table
    if not covers(network):
        return None
    weights, biases = (
        tuple(np.ascontiguousarray(array, network.dtype) for array in arrays)
        for arrays in (network.weights, network.biases)
    )
    rows = [
        (*weight.shape, weight.ctypes.data, bias.ctypes.data, ACTIVATION_CODES[layer.activation], 0, 0)
        for weight, bias, layer in zip(weights, biases, network.layers, strict=True)
    ]
    layers_table = readonly_view(np.array(rows, np.int64))
    few_rows = min(ONE_THREAD_PREDICTION // sum(weight.size for weight in weights), ONE_THREAD_ROWS)
    if all(map(is_, (*weights, *biases), (*network.weights, *network.biases))):
        _TABLES[network] = table = _Table(tuple(network.weights), tuple(network.biases), layers_table, few_rows)
        return table
    return _Table(weights, biases, layers_table, few_rows)
