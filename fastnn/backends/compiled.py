"""The Numba backend: lays arrays out for the kernels and calls them."""

from collections.abc import Sequence
from operator import is_
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastnn.backends.base import (
    LossAndGradients,
    Objective,
    TrainerState,
    check_inputs,
    check_labels,
    check_sample_weight,
    check_shapes,
    working_inputs,
)
from fastnn.backends.compiled_training import Trainer
from fastnn.backends.layout import constant, read_only, to_csr
from fastnn.csr import is_sparse
from fastnn.errors import DataError
from fastnn.kernels import activations, dense, element_loss, inference, team
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
    dlogits, shares = np.empty(logits.shape, logits.dtype), _shares(sample_weight, len(logits), logits.dtype)
    return softmaxes.softmax_cross_entropy(constant(logits), constant(labels), shares, dlogits), dlogits


def logistic_cross_entropy(
    logits: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Mean of each row's binary cross-entropies, and its gradient: (B, C), (B, C) in [0, 1] -> loss, (B, C)."""
    check_shapes(logits=(logits, (None, None)), targets=(targets, logits.shape))
    return _element_loss(element_loss.LOGISTIC, logits, targets, sample_weight)


def squared_error(
    outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Mean of half of each row's squared errors, and its gradient: (B, C), (B, C) -> loss, (B, C)."""
    check_shapes(outs=(outs, (None, None)), targets=(targets, outs.shape))
    return _element_loss(element_loss.IDENTITY, outs, targets, sample_weight)


def _element_loss(
    output: int, outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None
) -> tuple[float, np.ndarray]:
    dout, shares = np.empty(outs.shape, outs.dtype), _shares(sample_weight, len(outs), outs.dtype)
    targets = constant(targets.astype(outs.dtype, copy=False))
    return element_loss.element_loss(output, constant(outs), targets, shares, dout), dout


def _shares(sample_weight: np.ndarray | None, n: int, dtype: np.dtype) -> np.ndarray:
    """What each sample counts in the mean over its batch."""
    sample_weight = check_sample_weight(sample_weight, n, dtype)
    weight = np.ones(n) if sample_weight is None else sample_weight.astype(np.float64)
    return (weight / weight.sum()).astype(dtype)


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
    """What the output is given: (B, D) -> (B, C).

    A row's bits do not depend on the rows beside it, nor on the number of threads, as long as the weights are finite.
    """
    return _predict(network, inp, threads, element_loss.IDENTITY)


def predict_proba(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """What the network answers: (B, D) -> (B, C), probabilities or numbers; bits as above."""
    return _predict(network, inp, threads, element_loss.OUTPUTS[network.output])


def _predict(network: Network, inp: np.ndarray, threads: int | None, output: int) -> np.ndarray:
    inp, table, gate = check_inputs(network, inp), _table(network), team.new_gate()
    n_rows, layers = inp.shape[0], table.layers
    if isinstance(inp, np.ndarray):
        images = read_only(inp)
    else:
        csr, layers = to_csr(inp, network.dtype, np.uint32), layers.copy()  # `csr` must live as long as the addresses
        layers[0, inference.INDPTR :] = csr.indptr.ctypes.data, csr.indices.ctypes.data
        images, layers = csr.data.reshape(1, -1), read_only(layers)
    out = np.empty((n_rows, network.n_outputs), network.dtype)
    code, scale = activations.CODES[network.activation], network.input_scale

    def work(t: int) -> None:
        inference.predict(layers, code, scale, images, output, gate, out)

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
    targets: np.ndarray,
    *,
    l2: float = 0.0,
    sample_weight: np.ndarray | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    epoch: int = 0,
) -> LossAndGradients:
    """Loss of a batch and its gradients: one step of training whose update keeps the gradient instead."""
    single = Trainer(network, inp, targets, None, l2, False, dropout, sample_weight, seed, 1, None, one_pass=True)
    single.epoch = epoch
    return single.loss_and_gradients()


def objective(
    network: Network,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    l2: float = 0.0,
    sample_weight: np.ndarray | None = None,
    threads: int | None = None,
) -> Objective:
    """`loss_and_gradients` of all the data as a function of weights and biases; the data are laid out once."""
    whole = Trainer(network, images, targets, None, l2, False, 0.0, sample_weight, 0, threads, None)

    def evaluate(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> LossAndGradients:
        whole.move_to(weights, biases)
        return whole.loss_and_gradients()

    return evaluate


# --- Training --------------------------------------------------------------------------------------------------------
def trainer(
    network: Network,
    images: np.ndarray,
    targets: np.ndarray,
    optimizer: Optimizer,
    *,
    l2: float = 0.0,
    divide_l2: bool = False,
    dropout: float = 0.0,
    sample_weight: np.ndarray | None = None,
    seed: int = 0,
    threads: int | None = None,
    state: TrainerState | None = None,
) -> Trainer:
    """A Trainer; equal arguments give equal bits whatever `threads` is."""
    return Trainer(network, images, targets, optimizer, l2, divide_l2, dropout, sample_weight, seed, threads, state)
