"""The Numba backend: lays arrays out for the kernels and calls them."""

from operator import is_
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastnn.backends.base import (
    LossAndGradients,
    check_inputs,
    check_labels,
    check_sample_weight,
    check_shapes,
    working_inputs,
)
from fastnn.backends.compiled_training import Trainer
from fastnn.backends.layout import constant, lists, read_only
from fastnn.csr import is_sparse
from fastnn.errors import DataError
from fastnn.kernels import activations, dense, inference, team
from fastnn.kernels import softmax as softmaxes
from fastnn.network import Network
from fastnn.optimizers import Optimizer
from fastnn.threads import resolve_threads

# A prediction of at most this many multiplications takes 0.1 to 0.4 ms, by its zeros; starting threads takes 0.15 ms.
FEW_MULTIPLICATIONS = 2**24


# --- One operation ---------------------------------------------------------------------------------------------------
def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``inp @ weight``: (B, D), (D, H) -> (B, H), in the weight's dtype."""
    check_shapes(inp=(inp, (None, None)), weight=(weight, (inp.shape[-1], None)))
    out = np.empty((inp.shape[0], weight.shape[1]), weight.dtype)
    dense.matmul(_array(inp), constant(weight), out)
    return out


def relu(inp: np.ndarray) -> np.ndarray:
    """``max(inp, 0)``, NaN kept: any shape, float32 or float64."""
    out = np.empty(inp.shape, inp.dtype)
    activations.relu(constant(inp).reshape(-1), out.reshape(-1))
    return out


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`dout` where `out` is above 0, else 0: any shape, float32 or float64."""
    check_shapes(dout=(dout, out.shape))
    dinp = np.empty(out.shape, out.dtype)
    activations.relu_backward(constant(dout).reshape(-1), constant(out).reshape(-1), dinp.reshape(-1))
    return dinp


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, each row's sum 1: (B, C) -> (B, C)."""
    check_shapes(logits=(logits, (None, None)))
    out = np.empty(logits.shape, logits.dtype)
    softmaxes.softmax(constant(logits), out)
    return out


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Mean cross-entropy, weighted if asked, and its gradient: (B, C), (B,) -> loss, dlogits (B, C)."""
    check_shapes(logits=(logits, (None, None)))
    labels = check_labels(labels, *logits.shape)
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    weight = np.ones(len(logits)) if sample_weight is None else sample_weight.astype(np.float64)
    dlogits = np.empty(logits.shape, logits.dtype)
    shares = (weight / weight.sum()).astype(logits.dtype)
    return softmaxes.softmax_cross_entropy(constant(logits), constant(labels), shares, dlogits), dlogits


def dense_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str = "identity") -> np.ndarray:
    """``activation(inp @ weight + bias)``: (B, D), (D, H), (H,) -> (B, H), in the weight's dtype."""
    check_shapes(inp=(inp, (None, len(weight))), weight=(weight, (None, None)), bias=(bias, weight.shape[1:]))
    out = np.empty((inp.shape[0], weight.shape[1]), weight.dtype)
    code = activations.CODES[activation]
    dense.dense_forward(_array(inp), constant(weight), constant(bias), code, out)
    return out


def dense_backward(
    dout: np.ndarray, inp: np.ndarray, weight: np.ndarray, out: np.ndarray, activation: str = "identity"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The layer's gradients: (B, H), (B, D), (D, H), (B, H) -> dinp (B, D), dweight (D, H), dbias (H,)."""
    check_shapes(dout=(dout, out.shape), inp=(inp, (len(out), len(weight))), weight=(weight, (None, out.shape[1])))
    dsum, dinp = np.empty(out.shape, weight.dtype), np.empty(inp.shape, weight.dtype)
    dweight, dbias = np.empty(weight.shape, weight.dtype), np.empty(weight.shape[1], weight.dtype)
    dense.dense_backward(
        constant(dout), _array(inp), constant(weight), constant(out),
        activations.CODES[activation], dsum, dinp, dweight, dbias,
    )  # fmt: skip
    return dinp, dweight, dbias


def _array(inp: np.ndarray) -> np.ndarray:
    """`inp` as a single operation's kernel takes it."""
    if is_sparse(inp):
        raise DataError("inp is a sparse matrix, expected an array: only whole networks take sparse inputs")
    return constant(working_inputs(inp))


# --- A whole network -------------------------------------------------------------------------------------------------
def predict_logits(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """What softmax is given: (B, D) -> (B, C).

    A row's bits do not depend on the rows beside it, nor on the number of threads, as long as the weights are finite.
    """
    return _predict(network, inp, threads, to_softmax=False)


def predict_proba(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Class probabilities: (B, D) -> (B, C); bits as above."""
    return _predict(network, inp, threads, to_softmax=True)


def _predict(network: Network, inp: np.ndarray, threads: int | None, to_softmax: bool) -> np.ndarray:
    images, table, gate = check_inputs(network, inp), _table(network), team.new_gate()
    n_rows, layers = images.shape[0], table.layers
    if isinstance(images, np.ndarray):
        images = read_only(images)
    else:
        csr, layers = lists(images, np.uint32), layers.copy()  # the table has addresses: `csr` must outlive the work
        layers[0, inference.INDPTR :] = csr.indptr.ctypes.data, csr.indices.ctypes.data
        images, layers = csr.data.reshape(1, -1), read_only(layers)
    out = np.empty((n_rows, network.n_classes), network.dtype)
    code, scale = activations.CODES[network.activation], network.input_scale

    def work(t: int) -> None:
        inference.predict(layers, code, scale, images, to_softmax, gate, out)

    few = n_rows <= table.few_rows  # counting the cores would take longer than these
    members = 1 if few and threads is None else resolve_threads(threads)
    if few:
        work(0)
    else:
        team.run_team(work, min(members, -(-n_rows // inference.ROWS)), gate)
    return out


class _Table(NamedTuple):
    """Where a network's arrays lie, for `inference.predict`, and up to how many rows it should run without threads."""

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    layers: np.ndarray
    few_rows: int


# Addresses, not copies: whoever changes a weight in place changes the predictions.
_TABLES: WeakKeyDictionary[Network, _Table] = WeakKeyDictionary()


def _table(network: Network) -> _Table:
    """The table of a network; it is kept as long as the network is and has the same arrays."""
    table = _TABLES.get(network)
    if table is not None and table.weights is network.weights and table.biases is network.biases:
        return table
    weights, biases = (
        tuple(np.ascontiguousarray(array, network.dtype) for array in arrays)
        for arrays in (network.weights, network.biases)
    )
    rows = [
        (*weight.shape, weight.ctypes.data, bias.ctypes.data, 0, 0)
        for weight, bias in zip(weights, biases, strict=True)
    ]
    layers_table = read_only(np.array(rows, np.int64))
    few_rows = FEW_MULTIPLICATIONS // sum(weight.size for weight in weights)
    if all(map(is_, (*weights, *biases), (*network.weights, *network.biases))):
        _TABLES[network] = table = _Table(tuple(network.weights), tuple(network.biases), layers_table, few_rows)
        return table
    return _Table(weights, biases, layers_table, few_rows)


def loss_and_gradients(
    network: Network,
    inp: np.ndarray,
    labels: np.ndarray,
    *,
    l2: float = 0.0,
    sample_weight: np.ndarray | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    epoch: int = 0,
) -> LossAndGradients:
    """Loss of a batch and its gradients: one step of training whose update keeps the gradient instead."""
    single = Trainer(network, inp, labels, None, l2, dropout, sample_weight, seed, threads=1)
    single.epoch = epoch
    result = single.run_epoch(np.arange(len(labels)), len(labels), 0.0)
    return LossAndGradients(result.loss, *single.slots()[0], round(result.accuracy * len(labels)))


# --- Training --------------------------------------------------------------------------------------------------------
def trainer(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    optimizer: Optimizer,
    *,
    l2: float = 0.0,
    dropout: float = 0.0,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Trainer:
    """A Trainer; equal arguments give equal bits whatever `threads` is."""
    return Trainer(network, images, labels, optimizer, l2, dropout, sample_weight, seed, threads)
