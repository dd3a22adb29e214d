"""The Numba backend: lays arrays out for the kernels and calls them."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from operator import is_
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastnn.aligned import aligned_zeros as _aligned
from fastnn.backends.base import (
    EpochResult,
    LossAndGradients,
    check_inputs,
    check_labels,
    check_regularization,
    check_sample_weight,
    check_shapes,
    working_inputs,
)
from fastnn.kernels import activations, dense, epoch, inference, layers, team
from fastnn.kernels import softmax as softmaxes
from fastnn.kernels.updates import ADAM, KEEP_GRADIENT, MOMENTUM, NESTEROV, SGD, Rule
from fastnn.network import Network
from fastnn.optimizers import Adam, Optimizer
from fastnn.randomness import dropout_keys, dropout_threshold
from fastnn.threads import resolve_threads

# Where at most this share of the inputs is other than 0, the first layer visits only those.
SPARSE_BELOW = 0.5
# Threads share the rows of a batch where a row has at most this many vectors of parameters to itself.
VECTORS_A_ROW = 8
# A prediction of at most this many multiplications takes 0.1 to 0.4 ms, by its zeros; starting threads takes 0.15 ms.
FEW_MULTIPLICATIONS = 2**24


# --- One operation ---------------------------------------------------------------------------------------------------
def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``inp @ weight``: (B, D), (D, H) -> (B, H), in the weight's dtype."""
    check_shapes(inp=(inp, (None, None)), weight=(weight, (inp.shape[-1], None)))
    out = np.empty((len(inp), weight.shape[1]), weight.dtype)
    dense.matmul(_constant(working_inputs(inp)), _constant(weight), out)
    return out


def relu(inp: np.ndarray) -> np.ndarray:
    """``max(inp, 0)``, NaN kept: any shape, float32 or float64."""
    out = np.empty(inp.shape, inp.dtype)
    activations.relu(_constant(inp).reshape(-1), out.reshape(-1))
    return out


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`dout` where `out` is above 0, else 0: any shape, float32 or float64."""
    check_shapes(dout=(dout, out.shape))
    dinp = np.empty(out.shape, out.dtype)
    activations.relu_backward(_constant(dout).reshape(-1), _constant(out).reshape(-1), dinp.reshape(-1))
    return dinp


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, each row's sum 1: (B, C) -> (B, C)."""
    check_shapes(logits=(logits, (None, None)))
    out = np.empty(logits.shape, logits.dtype)
    softmaxes.softmax(_constant(logits), out)
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
    return softmaxes.softmax_cross_entropy(_constant(logits), _constant(labels), shares, dlogits), dlogits


def dense_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str = "identity") -> np.ndarray:
    """``activation(inp @ weight + bias)``: (B, D), (D, H), (H,) -> (B, H), in the weight's dtype."""
    check_shapes(inp=(inp, (None, len(weight))), weight=(weight, (None, None)), bias=(bias, weight.shape[1:]))
    out = np.empty((len(inp), weight.shape[1]), weight.dtype)
    code = activations.CODES[activation]
    dense.dense_forward(_constant(working_inputs(inp)), _constant(weight), _constant(bias), code, out)
    return out


def dense_backward(
    dout: np.ndarray, inp: np.ndarray, weight: np.ndarray, out: np.ndarray, activation: str = "identity"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The layer's gradients: (B, H), (B, D), (D, H), (B, H) -> dinp (B, D), dweight (D, H), dbias (H,)."""
    check_shapes(dout=(dout, out.shape), inp=(inp, (len(out), len(weight))), weight=(weight, (None, out.shape[1])))
    dsum, dinp = np.empty(out.shape, weight.dtype), np.empty(inp.shape, weight.dtype)
    dweight, dbias = np.empty(weight.shape, weight.dtype), np.empty(weight.shape[1], weight.dtype)
    dense.dense_backward(
        _constant(dout), _constant(working_inputs(inp)), _constant(weight), _constant(out),
        activations.CODES[activation], dsum, dinp, dweight, dbias,
    )  # fmt: skip
    return dinp, dweight, dbias


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
    images, table = _read_only(check_inputs(network, inp)), _table(network)
    n_rows, gate = len(images), team.new_gate()
    out = np.empty((n_rows, network.n_classes), network.dtype)
    code, scale = activations.CODES[network.activation], network.input_scale

    def work(t: int) -> None:
        inference.predict(table.layers, code, scale, images, to_softmax, gate, out)

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
    rows = [(*weight.shape, weight.ctypes.data, bias.ctypes.data) for weight, bias in zip(weights, biases, strict=True)]
    layers_table = _read_only(np.array(rows, np.int64))
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
    result = single.run_epoch(np.arange(len(inp)), len(inp), 0.0)
    gradients = single.arrays(single.work.slot_1)
    return LossAndGradients(result.loss, *gradients, round(result.accuracy * len(inp)))


# --- Training --------------------------------------------------------------------------------------------------------
class Trainer:
    """A network, its data and the optimizer's state laid out for the kernels. `optimizer` None keeps the gradients."""

    def __init__(
        self,
        network: Network,
        images: np.ndarray,
        labels: np.ndarray,
        optimizer: Optimizer | None,
        l2: float,
        dropout: float,
        sample_weight: np.ndarray | None,
        seed: int,
        threads: int | None,
    ) -> None:
        check_regularization(l2, dropout)
        images = _constant(_in_kernel_dtype(check_inputs(network, images), network.dtype))
        labels = check_labels(labels, len(images), network.n_classes)
        sample_weight = check_sample_weight(sample_weight, len(images), network.dtype)
        self.epoch = self.step = 0
        self._optimizer, self._l2, self._dropout, self._seed = optimizer, l2, dropout, seed
        self._network, self._layout = network, _lay_out(network)
        self._data = epoch.Data(
            images=images,
            labels=_constant(labels),
            weights=_constant(np.empty(0, network.dtype) if sample_weight is None else sample_weight),
        )
        self._sparse = bool(np.count_nonzero(images) <= SPARSE_BELOW * images.size)
        self._most_threads = resolve_threads(threads)
        n_slots, size = (1 if optimizer is None else optimizer.n_slots), self._layout.layers.parameters.size
        self._slots = [_aligned(size if n_slots > k else 0, network.dtype) for k in range(2)]
        self._by_rows = False
        self.work = self._make_work()
        # An epoch of no rows: the kernel is compiled, or loaded, here, and the time of the first epoch is its own.
        self._run_kernel(np.empty(0, np.int64), 1, 0.0)

    def run_epoch(self, order: np.ndarray, batch_size: int, learning_rate: float) -> EpochResult:
        """Train on the rows `order`, `batch_size` at a time, on this trainer's threads."""
        order = np.ascontiguousarray(order, np.int64)
        if not len(order) or batch_size < 1:
            raise ValueError(f"order of {len(order)} rows, batch_size {batch_size}: expected 1 or more of each")
        if not (order.min() >= 0 and order.max() < len(self._data.labels)):
            raise IndexError(f"order has rows outside 0 to {len(self._data.labels) - 1}")
        self._prepare(min(batch_size, len(order)))
        results = self.work.results
        results[:] = 0
        results[epoch.FAILED] = -1
        self._run_kernel(order, batch_size, learning_rate)
        self.epoch += 1
        self.step += -(-len(order) // batch_size)
        if results[epoch.FAILED] >= 0:
            return EpochResult(float("nan"), 0.0, int(results[epoch.FAILED]))
        loss = results[epoch.LOSS] / results[epoch.WEIGHT] if results[epoch.WEIGHT] else 0.0
        return EpochResult(float(loss), float(results[epoch.CORRECT] / len(order)))

    def _prepare(self, batch_size: int) -> None:
        """Choose how threads share batches of that size, by what is to be computed alone, and make room for it."""
        parameters, real = self._layout.layers.parameters.size, self._network.dtype
        # By rows, each part of a batch has a gradient of its own: that pays where it is small beside the part's work.
        vectors = parameters * real.itemsize // layers.VECTOR
        by_rows = self._layout.most_panels == 1 and vectors <= VECTORS_A_ROW * batch_size
        if by_rows != self._by_rows:
            self._by_rows = by_rows
            self.work = self._make_work()
        kept = epoch.n_parts(batch_size) if by_rows else int(batch_size > layers.BLOCK)
        if self.work.gradient.size < kept * parameters:
            self.work = self.work._replace(gradient=_aligned(kept * parameters, real))

    def _threads(self, batch_size: int) -> int:
        """How many threads to start: more than a layer has panels, or a batch parts, would only wait."""
        return min(self._most_threads, epoch.n_parts(batch_size) if self._by_rows else self._layout.most_panels)

    def _make_work(self) -> epoch.Work:
        """Scratch for either way of sharing a batch."""
        images, layout, by_rows = self._data.images, self._layout, self._by_rows
        real, n_inputs = self._network.dtype, layers.BLOCK * self._network.n_inputs
        lanes = layers.VECTOR // real.itemsize
        members = self._threads(layers.BLOCK * epoch.PARTS)
        panel, n_parts = layers.WIDE * lanes, epoch.PARTS if by_rows else 0
        copies, buffers = (members, members) if by_rows else (1, 2)
        packs, lists = self._sparse and not by_rows, self._sparse and by_rows
        n_penalties = len(self._network.weights) * (epoch.PARTS if by_rows else layout.most_panels)
        return epoch.Work(
            out=_aligned(copies * layers.BLOCK * layout.n_units, real),
            dout=_aligned(copies * layers.BLOCK * layout.n_units, real),
            slot_1=self._slots[0],
            slot_2=self._slots[1],
            gradient=_aligned(0, real),
            parts=_aligned(copies * layout.n_parts, real),
            row_label=np.zeros((buffers, layers.BLOCK), np.int64),
            row_weight=np.zeros((buffers, layers.BLOCK), real),
            row_loss=np.zeros(copies * layers.BLOCK),
            row_right=np.zeros(copies * layers.BLOCK, np.int64),
            part_loss=np.zeros(n_parts),
            part_right=np.zeros(n_parts, np.int64),
            penalty=np.zeros(n_penalties),
            results=np.zeros(epoch.N_RESULTS),
            values=_aligned(buffers * n_inputs if packs else 0, images.dtype).reshape(buffers, -1),
            users=np.zeros((buffers, n_inputs // layers.GROUP if packs else 0), np.uint64),
            numbers=np.zeros((buffers, n_inputs + lanes if lists else 0), np.int32),
            value=np.zeros((buffers, n_inputs + lanes if lists else 0), real),
            ends=np.zeros((buffers, layers.BLOCK + 1 if lists else 0), np.int64),
            dense=_aligned(0 if self._sparse else buffers * n_inputs, real).reshape(buffers, -1),
            piece=_aligned(members * layers.PIECE * panel, real).reshape(members, -1),
            turned=_aligned(members * panel**2, real).reshape(members, -1),
            columns=_aligned(members * layout.padded_classes * lanes, real).reshape(members, -1),
            squares=np.zeros((members, n_penalties)),
        )

    def _run_kernel(self, order: np.ndarray, batch_size: int, learning_rate: float) -> None:
        real, gate = self._network.dtype.type, team.new_gate()
        dropout = epoch.Dropout(
            keys=dropout_keys(self._seed, self.epoch, len(self._network.weights) - 1),
            threshold=dropout_threshold(self._dropout),
            share=real(1 - self._dropout),
            scale=real(1 / (1 - self._dropout)),
        )
        order = _constant(order)
        rule = _rule(self._optimizer, learning_rate, self._l2, real)
        threads = self._threads(min(batch_size, max(1, len(order))))

        def work(t: int) -> None:
            epoch.run_epoch(
                t,
                threads,
                self._layout.layers,
                self._data,
                order,
                batch_size,
                rule,
                self.step,
                dropout,
                self.work,
                gate,
            )

        team.run_team(work, threads, gate)

    def arrays(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Weights and biases as NumPy has them, out of an array laid out like the parameters."""
        return _unpack(self._network.sizes, flat)

    def network(self) -> Network:
        """The network as it is now, copied."""
        weights, biases = self.arrays(self._layout.layers.parameters)
        return Network(weights, biases, self._network.activation, self._network.input_scale)


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


# --- Layout ----------------------------------------------------------------------------------------------------------
class _Layout(NamedTuple):
    """A network as the kernels want it, and the sizes of the scratch it needs."""

    layers: layers.Layers
    n_units: int
    n_parts: int
    padded_classes: int
    most_panels: int


def _constant(array: np.ndarray) -> np.ndarray:
    """A contiguous, aligned view that cannot be written: Numba compiles other arrays apart, so all inputs are such."""
    return _read_only(np.require(array, requirements=["C", "A"]))


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view of a contiguous array that cannot be written."""
    view = array.view()
    view.flags.writeable = False
    return view


def _in_kernel_dtype(inp: np.ndarray, real: np.dtype) -> np.ndarray:
    """Bytes as they are, numbers in the working dtype: kernels are compiled for these two kinds of input only."""
    return inp if inp.dtype == np.uint8 else inp.astype(real, copy=False)


def _panels(size: int, lanes: int) -> list[tuple[int, int]]:
    """First column and width, padding counted, of each panel of a layer of `size` units."""
    widths = [vectors * lanes for vectors in layers.panel_widths(-(-size // lanes))]
    return list(zip(accumulate(widths, initial=0), widths, strict=False))


def _lay_out(network: Network) -> _Layout:
    """A copy of the network in panels."""
    lanes, sizes = layers.VECTOR // network.dtype.itemsize, network.sizes
    padded = [-(-size // lanes) * lanes for size in sizes]
    weight_at, bias_at, end = [], [], 0
    for fan_in, width in zip(sizes, padded[1:], strict=False):
        weight_at.append(end)
        bias_at.append(end + fan_in * width)
        end += (fan_in + 1) * width
    parameters = _aligned(end, network.dtype)
    for view, array in _views(sizes, parameters, (network.weights, network.biases)):
        view[...] = array
    panels = [_panels(size, lanes) for size in sizes[1:]]
    unit_at = list(accumulate(padded[1:], initial=0))
    rows = [
        (first, width // lanes, width, (start + first) * layers.BLOCK, width)
        for start, panels_of_layer in zip(unit_at, panels[:-1], strict=False)
        for first, width in panels_of_layer
    ]
    rows += [
        (first, width // lanes, width, unit_at[-2] * layers.BLOCK + first, padded[-1]) for first, width in panels[-1]
    ]
    laid_out = layers.Layers(
        parameters=parameters,
        sizes=np.array(sizes, np.int64),
        weight_at=np.array(weight_at, np.int64),
        bias_at=np.array(bias_at, np.int64),
        panels=np.array(rows, np.int64),
        panel_at=np.cumsum([0, 0, *map(len, panels)]),
        activation=activations.CODES[network.activation],
        scale=network.dtype.type(network.input_scale),
    )
    n_parts = layers.BLOCK * padded[-1] * len(panels[-2]) if len(panels) > 1 else 0
    return _Layout(laid_out, unit_at[-1], n_parts, padded[-1], max(map(len, panels)))


def _views(
    sizes: tuple[int, ...], flat: np.ndarray, arrays: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of a piece of the flat array, as a view, and the piece of a weight or bias that belongs there."""
    lanes, end = layers.VECTOR // flat.dtype.itemsize, 0
    for layer, (fan_in, size) in enumerate(pairwise(sizes)):
        for first, width in _panels(size, lanes):
            used, rows = min(width, size - first), flat[end : end + fan_in * width].reshape(fan_in, width)
            yield rows[:, :used], arrays[0][layer][:, first : first + used]
            end += fan_in * width
        yield flat[end : end + size], arrays[1][layer]
        end += -(-size // lanes) * lanes


def _unpack(sizes: tuple[int, ...], flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases as NumPy has them, out of an array laid out like the parameters."""
    weights = [np.empty(shape, flat.dtype) for shape in pairwise(sizes)]
    biases = [np.empty(size, flat.dtype) for size in sizes[1:]]
    for view, array in _views(sizes, flat, (weights, biases)):
        array[...] = view
    return weights, biases


def _rule(optimizer: Optimizer | None, learning_rate: float, l2: float, real: type[np.floating]) -> Rule:
    """The optimizer's numbers in the working dtype."""
    kind, first, second, epsilon = KEEP_GRADIENT, 0.0, 0.0, 0.0
    if isinstance(optimizer, Adam):
        kind, first, second, epsilon = ADAM, optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
    elif optimizer is not None:
        kind = SGD if not optimizer.momentum else NESTEROV if optimizer.nesterov else MOMENTUM
        first = optimizer.momentum
    return Rule(
        kind=kind,
        rate=float(learning_rate),
        beta_1=first,
        beta_2=second,
        first=real(first),
        rest_1=real(1 - first),
        second=real(second),
        rest_2=real(1 - second),
        epsilon=real(epsilon),
        l2=real(l2),
    )
