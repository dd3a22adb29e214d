"""The network layer by layer: forward, loss, backward, update. A loop to read, for every network and both backends.

`ops` is a module with the operations of `fastnn.backends.base.Backend`, such as `dense_forward`. With those of
`reference.py` this is the reference backend. With the compiled ones it trains every network that no fused epoch covers.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from itertools import accumulate, repeat
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends.arguments import (
    TrainingData,
    check_data,
    check_finite_inputs,
    check_inputs,
    check_order,
    write_parameters,
)
from fastnn.backends.base import EpochResult, EpochSums, LossAndGradients, TrainerState
from fastnn.datasets.sparse import is_sparse
from fastnn.interruptible import PER_MULTIPLICATION, interruptible, stop_if_abandoned
from fastnn.memory import check_memory
from fastnn.network import Network
from fastnn.network.aligned import CACHE_LINE, aligned_zeros
from fastnn.network.layers import Arrays, Forward, Layer
from fastnn.network.snapshot import Snapshot
from fastnn.optim.averaging import EMA, get_average
from fastnn.optim.config import LossConfig, TrainingConfig
from fastnn.optim.max_norm import limit_norms
from fastnn.optim.optimizers import Optimizer
from fastnn.randomness import dropout_keep, dropout_keys

# About how many times a pass reads or writes the output of a unit, dropout the factor of a unit, and an update a
# parameter.
_N_UNIT, _N_MASK, _N_UPDATE = 4, 8, 8
# The number of parameters to update at a time: what an optimizer computes of them stays in the second-level cache.
_BLOCK = 2**14
# About how many numbers the layers may hold at a time in a forward pass of a network with convolutions: 64 MB of
# float32.
_PREDICTED_AT_ONCE = 2**24


class LayerPass(NamedTuple):
    """A layer's forward pass, as the backward pass needs it."""

    layer: Layer
    arrays: Arrays  # the layer's weight, bias and statistics
    inp: Any  # the layer's input, (B, *input shape), with dropout
    mask: Any  # the factors of dropout, already applied to `inp`, or None
    forward: Forward  # the weighted sums, and what the layer saved
    out: np.ndarray  # the layer's output, (B, *output shape)

    @property
    def active_units(self) -> np.ndarray:
        """Whether each unit, or each channel of images, has a nonzero output for a sample: (H,) or (C,), bool."""
        active: np.ndarray = self.out.any(axis=(0, *range(2, self.out.ndim)))  # type: ignore[assignment]
        return active


# --- Forward and backward --------------------------------------------------------------------------------------------
def forward(
    ops: Any, network: Network, inp: Any, masks: Sequence[np.ndarray | None] = (), training: bool = False
) -> list[LayerPass]:
    """Return the passes of all layers, first to last; the last output is the logits.

    With dropout, `masks` holds one mask, or None, for each of `Network.dropped_sizes`, which multiplies the inputs.
    """
    out: Any = _scaled(network, inp)
    if len(network.shapes[0]) > 1:  # rows of data are flat
        out = out.reshape(len(out), *network.shapes[0])
    passes, remaining = [], iter(masks)
    for number, (layer, arrays) in enumerate(network.chain()):
        stop_if_abandoned()  # after Ctrl-C
        mask = next(remaining) if masks and (number == 0 or layer.drops_inputs) else None
        mask = None if mask is None else mask.reshape(out.shape)
        layer_inp = out if mask is None else _dropped(out, mask)
        result = layer.forward(ops, layer_inp, arrays, training)
        out = ops.activate(result.sums, layer.activation)
        passes.append(LayerPass(layer, arrays, layer_inp, mask, result, out))
    return passes


def _dropped(out: Any, mask: np.ndarray) -> Any:
    """Return the product with a mask; of a sparse matrix, with the same entries."""
    if not is_sparse(out):
        return out * mask
    rows = np.repeat(np.arange(out.shape[0]), np.diff(out.indptr))
    return type(out)((out.data * mask[rows, out.indices], out.indices, out.indptr), shape=out.shape)


def _scaled(network: Network, inp: Any) -> Any:
    """Return inputs in the network's dtype, multiplied by its scale; unchanged if they need neither."""
    out = inp.astype(network.dtype, copy=False)
    return out if network.input_scale == 1 else out * network.dtype.type(network.input_scale)


def backward(
    ops: Any, passes: Sequence[LayerPass], dlogits: np.ndarray, needs_dinp: bool = False
) -> tuple[Any, list[np.ndarray], list[np.ndarray]]:
    """Return the gradients of the inputs (None unless `needs_dinp`), and of all weights and biases.

    From the last layer to the first: a layer's input gradient is the output gradient of the layer before.
    """
    dout: Any = dlogits
    dweights: list[np.ndarray] = []
    dbiases: list[np.ndarray] = []
    for number, (layer, arrays, inp, mask, result, out) in reversed(list(enumerate(passes))):
        stop_if_abandoned()  # after Ctrl-C
        dsums = ops.activate_backward(dout, result.sums, out, layer.activation)
        dout, dweight, dbias = layer.backward(ops, dsums, inp, result.saved, arrays, needs_dinp or number > 0)
        if mask is not None and dout is not None:
            dout = dout * mask
        if dweight is not None:
            dweights.append(dweight)
            dbiases.append(dbias)
    return dout, dweights[::-1], dbiases[::-1]


def as_rows(out: np.ndarray) -> np.ndarray:
    """Return the outputs of a last layer as rows of logits, (B, C)."""
    return out if out.ndim == 2 else out.reshape(len(out), -1)


def _n_scratch(network: Network) -> int:
    """Return how many numbers a row needs at once besides the inputs and outputs of layers."""
    return max(layer.n_scratch(shape) for layer, shape in zip(network.layers, network.shapes, strict=False))


def rows_at_once(network: Network, n_rows: int) -> int:
    """Return how many of `n_rows` rows a forward pass should take: fewer than all only with convolutions."""
    n_scratch = _n_scratch(network)
    if not n_scratch:
        return n_rows
    return max(1, min(n_rows, _PREDICTED_AT_ONCE // (n_scratch + 2 * sum(network.sizes))))


def dropout_masks(network: Network, config: LossConfig, keys: np.ndarray, rows: np.ndarray) -> list[np.ndarray | None]:
    """Return the factors of the inputs, and of those of each further layer that dropout applies to, for samples `rows`.

    Each is of shape (B, inputs), or None where nothing is dropped; the list is empty without dropout.

    Inverted dropout (Srivastava et al. 2014, section 10): kept inputs are scaled up, so prediction needs no change.
    """
    if not config.dropout:
        return []
    sizes = network.dropped_sizes
    return [
        dropout_keep(key, rows, size, rate) / network.dtype.type(1 - rate) if rate else None
        for key, size, rate in zip(keys, sizes, config.dropout_rates(len(sizes)), strict=True)
    ]


def loss_of_batch(
    ops: Any, network: Network, batch: TrainingData, config: LossConfig, masks: Sequence[np.ndarray | None] = ()
) -> LossAndGradients:
    """Return the loss of a batch in training and its gradients, by backpropagation."""
    passes = forward(ops, network, batch.inputs, masks, training=True)
    logits, weight = as_rows(passes[-1].out), batch.weight
    if weight > 0:
        loss, dlogits = ops.mean_loss(
            network.output, logits, batch.targets, batch.sample_weight, config.label_smoothing
        )
    else:  # every sample of the batch has weight 0
        loss, dlogits = 0.0, np.zeros_like(logits)
    _, dweights, dbiases = backward(ops, passes, dlogits.reshape(passes[-1].out.shape))

    l2 = config.l2_of_batch(weight)
    if l2:
        loss += network.l2_penalty(l2)
        for array, gradient, is_decayed in zip(network.weights, dweights, network.decayed, strict=True):
            if is_decayed:
                gradient += network.dtype.type(l2) * array
    statistics = tuple(array for each in passes for array in each.forward.statistics)
    return LossAndGradients(loss, dweights, dbiases, network.loss.n_correct(logits, batch.targets), statistics)


def _work_of_pass(network: Network, n_rows: int) -> float:
    """About how many numbers a forward pass reads and writes, as `interruptible` counts them."""
    return n_rows * (PER_MULTIPLICATION * network.n_multiplications + _N_UNIT * sum(network.sizes))


def _work_of_prediction(network: Network, inp: Any) -> float:
    """Likewise for `inp`: inputs without an entry in a sparse matrix cost nothing."""
    work, (n_rows, n_inputs) = _work_of_pass(network, inp.shape[0]), inp.shape
    if is_sparse(inp):
        work -= (n_rows * n_inputs - inp.nnz) * (PER_MULTIPLICATION * network.weights[0].size / n_inputs + _N_UNIT)
    return work


def work_of_batch(network: Network, n_rows: int) -> float:
    """Likewise for a training step: three passes' worth of products, dropout, and the update of the parameters."""
    return (3 + _N_MASK / _N_UNIT) * _work_of_pass(network, n_rows) + _N_UPDATE * network.n_parameters


def _check_memory(network: Network, n_rows: int, purpose: str, without: int = 0) -> None:
    """Raise OutOfMemoryError if the passes of all layers need more memory than the process may use.

    without: the number of a row's inputs that need none, because they have no entry in a sparse matrix
    """
    n_units = network.sizes[0] - without + 2 * sum(network.sizes[1:])  # the weighted sums and the outputs
    n_units += _n_scratch(network)
    n_bytes = n_rows * n_units * network.dtype.itemsize
    check_memory(n_bytes, lambda: f"the outputs of all layers for {n_rows:,} rows {purpose} by {network}")


# --- The functions of a backend --------------------------------------------------------------------------------------
def predict_logits(ops: Any, network: Network, inp: Any, check_finite: bool = False) -> np.ndarray:
    """Return the last layer's weighted sums."""
    network.check_arrays()
    if check_finite:
        network, inp = network.core, check_finite_inputs(network, inp)
    inp = check_inputs(network, inp)
    n_scratch = _n_scratch(network)
    if not n_scratch:
        _check_memory(network, inp.shape[0], "to predict", without=network.n_inputs if is_sparse(inp) else 0)
        passes = interruptible(forward, ops, network, inp, work=_work_of_prediction(network, inp))
        return as_rows(passes[-1].out)
    # The patches of a convolution are many times larger than its images, so rows are predicted block by block.
    n_rows = rows_at_once(network, len(inp))
    _check_memory(network, n_rows, "to predict")
    logits = np.empty((len(inp), network.n_outputs), network.dtype)
    for start in range(0, len(inp), n_rows):
        block = inp[start : start + n_rows]
        passes = interruptible(forward, ops, network, block, work=_work_of_prediction(network, block))
        logits[start : start + n_rows] = as_rows(passes[-1].out)
    return logits


def predict_proba(ops: Any, network: Network, inp: Any, check_finite: bool = False) -> np.ndarray:
    """Apply the network's output function to the logits."""
    logits = predict_logits(ops, network, inp, check_finite)
    return interruptible(network.loss.outputs, logits, work=_N_UNIT * logits.size)


def loss_and_gradients(
    ops: Any, network: Network, inp: Any, targets: Any, sample_weight: Any, epoch: int, settings: dict[str, Any]
) -> LossAndGradients:
    """Check the arguments of `Backend.loss_and_gradients` and return its result."""
    config = LossConfig.from_settings(settings)
    data = check_data(network, inp, targets, sample_weight, config)
    keys = dropout_keys(config.seed, epoch, len(network.dropped_sizes))
    masks = dropout_masks(network, config, keys, np.arange(len(data.targets)))
    work = work_of_batch(network, len(data.targets))
    return interruptible(loss_of_batch, ops, network, data, config, masks, work=work)


class Objective:
    """`loss_of_batch` on all the data, as `fastnn.backends.base.Objective` says. A vector has array after array."""

    def __init__(self, ops: Any, network: Network, data: TrainingData, config: LossConfig) -> None:
        self._ops, self._config, self._work = ops, config, work_of_batch(network, len(data.targets))
        scaled = interruptible(_scaled, network, data.inputs, work=2 * math.prod(data.inputs.shape))
        self._data, self._template = data._replace(inputs=scaled), network
        arrays = (*network.weights, *network.biases)
        self.start = np.concatenate([array.ravel() for array in arrays], dtype=np.float64)
        self._ends, self._parameters = (
            list(accumulate(array.size for array in arrays)),
            self.start.astype(network.dtype),
        )
        self._network = copy(network.core)
        self._network.input_scale = 1.0
        self._network.weights, self._network.biases = self._split(self._parameters)
        self.n_correct, self._statistics = 0, network.statistics

    def _split(self, flat: np.ndarray) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Return views of the weights and the biases in a vector."""
        template = self._template
        arrays = (*template.weights, *template.biases)
        views = tuple(
            flat[end - array.size : end].reshape(array.shape) for array, end in zip(arrays, self._ends, strict=True)
        )
        return views[: len(template.weights)], views[len(template.weights) :]

    def evaluate(self, at: np.ndarray, gradient: np.ndarray) -> float:
        """Return the loss at a vector, and write its gradient."""
        if not write_parameters(self._parameters, at):
            self.n_correct = 0
            return float("nan")
        with np.errstate(over="ignore", invalid="ignore"):  # after too long a step the loss is not finite
            result = interruptible(loss_of_batch, self._ops, self._network, self._data, self._config, work=self._work)
            arrays = (*result.dweights, *result.dbiases)
            np.concatenate([array.ravel() for array in arrays], out=gradient)
        self.n_correct, self._statistics = result.n_correct, result.statistics
        return result.loss

    def snapshot(self, at: np.ndarray) -> Snapshot:
        """Return the network at a vector, with the statistics of the last evaluation."""
        template, statistics = self._template, self._statistics
        return Snapshot(lambda: template.like(*self._split(at.astype(template.dtype)), statistics))


# --- Training --------------------------------------------------------------------------------------------------------
class Trainer:
    """Mini-batch gradient descent: forward, loss, backward and update for each batch.

    The parameters lie in one vector, of which the network's weights and biases are parts, and so do their gradients. An
    optimizer of the library works element by element, so one call updates all parameters.
    """

    def __init__(
        self, ops: Any, network: Network, data: TrainingData, config: TrainingConfig, state: TrainerState | None = None
    ) -> None:
        assert isinstance(config.update_rule, Optimizer)
        self._ops, self._data, self._config, self._optimizer = ops, data, config, config.update_rule
        self._network = network.like(network.weights, network.biases)
        initial = [*network.weights, *network.biases]
        self._vector, self._parameters = in_one_vector(initial)
        self._gradient, self._gradients = in_one_vector(initial)
        self._slots = [in_one_vector(initial) for _ in range(self._optimizer.n_slots)]
        n_weights = len(network.weights)
        self._network.weights = tuple(self._parameters[:n_weights])
        self._network.biases = tuple(self._parameters[n_weights:])
        _copy_all(initial, self._parameters)
        self._decayed = [*network.decayed, *(False for _ in network.biases)]
        self._n_dropped = len(network.dropped_sizes)
        self._epoch = self._step = 0
        self._sums = EpochSums()
        average = get_average(config.average)
        self._moving = average if isinstance(average, EMA) else None
        # The average of the parameters, a vector like theirs; None if the network is the optimizer's own.
        self._average = self._vector.copy() if self._moving is not None else None
        self._rows, self._batch_size = np.empty(0, np.int64), 1  # of the last epoch, for the statistics of an average
        if state is not None:
            self._take_state(state)

    def _take_state(self, state: TrainerState) -> None:
        """Go on from a state."""
        for (weights, biases), (_, parts) in zip(state.slots, self._slots, strict=False):
            _copy_all([*weights, *biases], parts)
        if len(state.slots) > len(self._slots):  # the network is an average
            self._average = self._vector.copy()
            weights, biases = state.slots[-1]
            _copy_all([*weights, *biases], self._parameters)
            _copy_all(state.statistics, self._network.statistics)
        self._epoch, self._step, self._sums = state.epochs, state.steps, state.sums

    def prepare(self, n_rows: int, batch_size: int) -> None:
        """Check that a batch fits in memory; there is nothing to lay out."""
        _check_memory(self._network, min(batch_size, n_rows), "of a batch")

    def run_epoch(
        self,
        order: np.ndarray,
        batch_size: int,
        learning_rate: float,
        batches: range | None = None,
        n_rows: int | None = None,
    ) -> EpochResult:
        """Train on the rows `order`, `batch_size` at a time, as `fastnn.backends.base.Trainer.run_epoch` describes."""
        first, n_samples = self._sums.batches, len(self._data.targets)
        batches, all_rows = check_order(order, batch_size, batches, first, n_samples, n_rows)
        n_rows = len(order) if n_rows is None else n_rows
        n_batches = -(-n_rows // batch_size)
        if self._network.statistics:
            self._rows, self._batch_size = np.array(order, np.int64), batch_size
        keys = dropout_keys(self._config.seed, self._epoch, self._n_dropped) if self._config.dropout else np.empty(0)
        work = work_of_batch(self._network, min(batch_size, len(all_rows)))
        with np.errstate(over="ignore", invalid="ignore"):  # the loss shows whether the run diverges
            for at, number in enumerate(batches):
                rows = all_rows[at * batch_size : (at + 1) * batch_size]
                weight, result = interruptible(self._train_batch, rows, keys, learning_rate, work=work)
                if not math.isfinite(result.loss):
                    return EpochResult(result.loss, np.nan, failed_batch=number)
                self._sums = self._sums.with_batch(result.loss, len(rows), weight, result.n_correct)
        sums = self._sums
        if sums.batches == n_batches:
            self._epoch, self._sums = self._epoch + 1, EpochSums()
        return sums.result(self._network, n_rows, batch_size)

    def _train_batch(self, rows: np.ndarray, keys: np.ndarray, learning_rate: float) -> tuple[float, LossAndGradients]:
        """Update the network with the gradients of a batch, unless its loss is not finite.

        Returns the sum of the sample weights, and the loss with its gradients.
        """
        batch = self._data.take(rows)
        masks = dropout_masks(self._network, self._config, keys, rows if batch.numbers is None else batch.numbers)
        result = loss_of_batch(self._ops, self._network, batch, self._config, masks)
        if math.isfinite(result.loss):
            self._update(result, learning_rate)
        return batch.weight, result

    def _update(self, result: LossAndGradients, learning_rate: float) -> None:
        """Update all parameters with the gradients of a batch, and the running statistics with its statistics."""
        self._step += 1
        gradients = [*result.dweights, *result.dbiases]
        self._config.clip(gradients)
        if self._optimizer.weight_decay:
            for parameter, is_decayed in zip(self._parameters, self._decayed, strict=True):
                if is_decayed:
                    self._optimizer.decay(parameter, learning_rate)
        if self._optimizer.is_elementwise:
            _copy_all(gradients, self._gradients)
            for start in range(0, len(self._vector), _BLOCK):
                part = slice(start, start + _BLOCK)
                slots = [vector[part] for vector, _ in self._slots]
                self._optimizer.update(self._vector[part], self._gradient[part], slots, learning_rate, self._step)
        else:
            slots_of_each = zip(*(parts for _, parts in self._slots), strict=True) if self._slots else repeat(())
            for parameter, gradient, own in zip(self._parameters, gradients, slots_of_each, strict=False):
                self._optimizer.update(parameter, gradient, own, learning_rate, self._step)
        if self._config.max_norm is not None:
            for parameter, is_decayed in zip(self._parameters, self._decayed, strict=True):
                if is_decayed:
                    limit_norms(parameter, self._config.max_norm)
        if self._moving is not None:
            self._add_to_average(self._moving.share(self._step))
        if result.statistics:
            update_statistics(self._network, result.statistics)

    def average_epoch(self, share: float) -> None:
        """Move the average of the weights towards them by this share of the distance; 0 ends the average."""
        if share in (0, 1):
            self._average = self._vector.copy() if share else None
        else:
            self._add_to_average(share)

    def _add_to_average(self, share: float) -> None:
        assert self._average is not None
        for start in range(0, len(self._vector), _BLOCK):
            part = slice(start, start + _BLOCK)
            self._average[part] += self._vector.dtype.type(share) * (self._vector[part] - self._average[part])

    def network(self) -> Network:
        """Return a copy of the current network."""
        return self.snapshot().network

    def snapshot(self) -> Snapshot:
        """Return the current network for later: a copy of its numbers."""
        vector = (self._vector if self._average is None else self._average).copy()
        statistics = [array.copy() for array in self._network.statistics]
        if not all(np.isfinite(array).all() for array in (vector, *statistics)):
            return Snapshot.of(self._network.like(*self._split(vector), statistics))  # raises the error
        if self._average is not None and statistics and len(self._rows):
            statistics = self._statistics_of(self._network.like(*self._split(vector), statistics))
        return Snapshot(lambda: self._network.like(*self._split(vector), statistics))

    def _statistics_of(self, network: Network) -> list[np.ndarray]:
        """Return the statistics of a network over the rows of the last epoch: the means of those of its batches.

        The batches are those of training, without dropout. One of a single sample has no statistics.
        """
        totals, n_rows = [np.zeros(array.shape) for array in network.statistics], 0
        for start in range(0, len(self._rows), self._batch_size):
            rows = self._rows[start : start + self._batch_size]
            inputs, work = self._data.take(rows).inputs, _work_of_pass(network, len(rows))
            passes = interruptible(forward, self._ops, network, inputs, training=True, work=work)
            of_batch = [array for each in passes for array in each.forward.statistics]
            n_rows += len(rows) if of_batch else 0
            for total, array in zip(totals, of_batch, strict=False):
                total += len(rows) * array.astype(np.float64)
        return [(total / n_rows).astype(network.dtype) for total in totals] if n_rows else [*network.statistics]

    def state(self) -> TrainerState:
        """Return a copy of the optimizer's current state."""
        return self.state_for_later()()

    def state_for_later(self) -> Callable[[], TrainerState]:
        """Return a function that returns the current state of the optimizer."""
        slots, counts = [vector.copy() for vector, _ in self._slots], (self._step, self._epoch, self._sums)
        statistics: tuple[np.ndarray, ...] = ()
        if self._average is not None:
            slots.append(self._vector.copy())
            statistics = tuple(array.copy() for array in self._network.statistics)
        return lambda: TrainerState(
            tuple(self._split(vector) for vector in slots), *counts, statistics=statistics
        )  # fmt: skip

    def _split(self, vector: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the weights and the biases in a vector like that of the parameters."""
        parts, n_weights = parts_of_vector(vector, self._parameters), len(self._network.weights)
        return parts[:n_weights], parts[n_weights:]

    def move_to(self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> None:
        """Replace the network's weights and biases."""
        for parameter, array in zip(self._parameters, (*weights, *biases), strict=True):
            parameter[...] = array

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Train on other data from the next call of `run_epoch` on."""
        self._data, self._rows = data, np.empty(0, np.int64)

    def release_data(self) -> None:
        """Let go of the data."""
        self._data, self._rows = self._data.take(np.empty(0, np.int64)), np.empty(0, np.int64)


def update_statistics(network: Network, of_batch: Sequence[np.ndarray]) -> None:
    """Update the running statistics of a network with those of a batch."""
    remaining = iter(of_batch)
    for layer, arrays in network.chain():
        for running, new in zip(arrays.statistics, remaining, strict=False):
            running *= layer.momentum
            running += (1 - layer.momentum) * new


def in_one_vector(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a vector of zeros, and parts of it that have the shapes of `arrays` and start on cache lines."""
    vector = aligned_zeros(sum(_lengths(arrays)), arrays[0].dtype)
    return vector, parts_of_vector(vector, arrays)


def parts_of_vector(vector: np.ndarray, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the parts of a vector of `in_one_vector` that have the shapes of `arrays`."""
    starts = accumulate(_lengths(arrays), initial=0)
    return [
        vector[start : start + array.size].reshape(array.shape) for start, array in zip(starts, arrays, strict=False)
    ]


def _lengths(arrays: Sequence[np.ndarray]) -> list[int]:
    """Return the size of each array, rounded up to whole cache lines."""
    step = CACHE_LINE // arrays[0].dtype.itemsize
    return [-(-array.size // step) * step for array in arrays]


def _copy_all(arrays: Sequence[np.ndarray], into: Sequence[np.ndarray]) -> None:
    for array, target in zip(arrays, into, strict=True):
        target[...] = array
