"""The Numba backend: lays arrays out for the kernels and calls them."""

from itertools import pairwise

import numpy as np

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
from fastnn.kernels import activations, dense, epoch, sparse_input, team
from fastnn.kernels import matmul as products
from fastnn.kernels import softmax as softmaxes
from fastnn.kernels.updates import ADAM, KEEP_GRADIENT, MOMENTUM, NESTEROV, SGD, Rule
from fastnn.network import Network
from fastnn.optimizers import Adam, Optimizer
from fastnn.randomness import dropout_keys, dropout_threshold
from fastnn.threads import resolve_threads

# Where at most this share of the inputs is other than 0, the first layer visits only those.
SPARSE_BELOW = 0.5


# --- One operation ---------------------------------------------------------------------------------------------------
def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``inp @ weight``: (B, D), (D, H) -> (B, H), in the weight's dtype."""
    check_shapes(inp=(inp, (None, None)), weight=(weight, (inp.shape[-1], None)))
    out = np.empty((len(inp), weight.shape[1]), weight.dtype)
    products.matmul(_constant(working_inputs(inp)), _constant(weight), np.arange(len(weight)), out)
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
    return softmaxes.softmax_cross_entropy(_constant(logits), labels, shares, dlogits), dlogits


def dense_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str = "identity") -> np.ndarray:
    """``activation(inp @ weight + bias)``: (B, D), (D, H), (H,) -> (B, H), in the weight's dtype."""
    check_shapes(inp=(inp, (None, len(weight))), weight=(weight, (None, None)), bias=(bias, weight.shape[1:]))
    out = np.empty((len(inp), weight.shape[1]), weight.dtype)
    which, code = np.arange(len(weight)), activations.CODES[activation]
    dense.dense_forward(_constant(working_inputs(inp)), _constant(weight), _constant(bias), code, which, out)
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
        activations.CODES[activation], np.arange(len(out)), dsum, dinp, dweight, dbias,
    )  # fmt: skip
    return dinp, dweight, dbias


# --- A whole network -------------------------------------------------------------------------------------------------
def predict_logits(network: Network, inp: np.ndarray) -> np.ndarray:
    """What softmax is given: (B, D) -> (B, C). A row's bits do not depend on the rows beside it."""
    inp = check_inputs(network, inp)
    logits = np.empty((len(inp), network.n_classes), network.dtype)
    work_out = np.empty(epoch.BLOCK * sum(network.sizes[1:]), network.dtype)
    epoch.predict_logits(_lay_out(network), _constant(inp), work_out, logits)
    return logits


def predict_proba(network: Network, inp: np.ndarray) -> np.ndarray:
    """Class probabilities: (B, D) -> (B, C)."""
    return softmax(predict_logits(network, inp))


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
    gradients = _arrays(network.sizes, single.work.slot_1)
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
        images = _constant(check_inputs(network, images))
        labels = check_labels(labels, len(images), network.n_classes)
        sample_weight = check_sample_weight(sample_weight, len(images), network.dtype)
        self.epoch = self.step = 0
        self._optimizer, self._l2, self._dropout, self._seed = optimizer, l2, dropout, seed
        self._network, self._layers = network, _lay_out(network)
        # More threads than the widest layer has panels would only wait.
        widest = max(-(-width // products.PANEL) for width in network.sizes[1:])
        self._threads = min(resolve_threads(threads), widest)
        self._data = epoch.Data(
            images=images,
            bits=_nonzero_bits(images),
            labels=labels,
            weights=np.empty(0, network.dtype) if sample_weight is None else sample_weight,
        )
        n_slots, size = (1 if optimizer is None else optimizer.n_slots), self._layers.parameters.size
        n_units, real = epoch.BLOCK * sum(network.sizes[1:]), network.dtype
        self.work = epoch.Work(
            out=np.zeros(n_units, real),
            dout=np.zeros(n_units, real),
            slot_1=np.zeros(size if n_slots > 0 else 0, real),
            slot_2=np.zeros(size if n_slots > 1 else 0, real),
            gradient=np.empty(0, real),
            row_loss=np.zeros(epoch.BLOCK),
            row_right=np.zeros(epoch.BLOCK, np.int64),
            penalty=np.zeros(sum(-(-width // products.PANEL) for width in network.sizes[1:])),
            results=np.zeros(epoch.N_RESULTS),
        )
        # An epoch of no rows: the kernel is compiled, or loaded, here, and the time of the first epoch is its own.
        self._run_kernel(np.empty(0, np.int64), 1, 0.0)

    def run_epoch(self, order: np.ndarray, batch_size: int, learning_rate: float) -> EpochResult:
        """Train on the rows `order`, `batch_size` at a time, on this trainer's threads."""
        order = np.ascontiguousarray(order, np.int64)
        if not len(order) or batch_size < 1:
            raise ValueError(f"order of {len(order)} rows, batch_size {batch_size}: expected 1 or more of each")
        if not (order.min() >= 0 and order.max() < len(self._data.labels)):
            raise IndexError(f"order has rows outside 0 to {len(self._data.labels) - 1}")
        if min(batch_size, len(order)) > epoch.BLOCK and not self.work.gradient.size:
            self.work = self.work._replace(gradient=np.empty_like(self._layers.parameters))
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

    def _run_kernel(self, order: np.ndarray, batch_size: int, learning_rate: float) -> None:
        real, gate = self._network.dtype.type, team.new_gate()
        dropout = epoch.Dropout(
            keys=dropout_keys(self._seed, self.epoch, len(self._network.weights) - 1),
            threshold=dropout_threshold(self._dropout),
            share=real(1 - self._dropout),
            scale=real(1 / (1 - self._dropout)),
        )
        rule = _rule(self._optimizer, learning_rate, self._l2, real)

        def work(t: int) -> None:
            epoch.run_epoch(
                t, self._threads, self._layers, self._data, order, batch_size, rule, self.step, dropout, self.work, gate
            )

        team.run_team(work, self._threads, gate)

    def network(self) -> Network:
        """The network as it is now, copied."""
        weights, biases = _arrays(self._network.sizes, self._layers.parameters)
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
def _constant(array: np.ndarray) -> np.ndarray:
    """A contiguous view that cannot be written: Numba compiles such arrays apart, so all inputs are made such."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _places(sizes: tuple[int, ...]) -> tuple[list[int], list[int], int]:
    """Where each weight and each bias starts in a flat array of parameters, and how long that is."""
    weight_at, bias_at, end = [], [], 0
    for fan_in, fan_out in pairwise(sizes):
        weight_at.append(end)
        bias_at.append(end + fan_in * fan_out)
        end += fan_in * fan_out + fan_out
    return weight_at, bias_at, end


def _lay_out(network: Network) -> epoch.Layers:
    """A copy of the network as the kernels want it."""
    weight_at, bias_at, size = _places(network.sizes)
    parameters = np.empty(size, network.dtype)
    for arrays, copies in zip(
        (network.weights, network.biases), _arrays(network.sizes, parameters, copy=False), strict=True
    ):
        for array, copy in zip(arrays, copies, strict=True):
            copy[:] = array
    panels = [-(-width // products.PANEL) for width in network.sizes[1:]]
    return epoch.Layers(
        parameters=parameters,
        sizes=np.array(network.sizes, np.int64),
        weight_at=np.array(weight_at, np.int64),
        bias_at=np.array(bias_at, np.int64),
        unit_at=np.cumsum([0, 0, *network.sizes[1:-1]]),
        panel_at=np.cumsum([0, *panels[:-1]]),
        activation=activations.CODES[network.activation],
        scale=network.dtype.type(network.input_scale),
    )


def _arrays(sizes: tuple[int, ...], flat: np.ndarray, copy: bool = True) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases out of a flat array of parameters or of gradients."""
    weight_at, bias_at, _ = _places(sizes)
    shapes = list(pairwise(sizes))
    weights = [flat[at : at + a * b].reshape(a, b) for at, (a, b) in zip(weight_at, shapes, strict=True)]
    biases = [flat[at : at + b] for at, (_, b) in zip(bias_at, shapes, strict=True)]
    return ([array.copy() for array in weights], [array.copy() for array in biases]) if copy else (weights, biases)


def _nonzero_bits(images: np.ndarray) -> np.ndarray:
    """One bit for each input that is not 0, or an array of length 0 where the inputs are dense."""
    bits = np.empty((len(images), -(-images.shape[1] // 64)), np.uint64)
    n_nonzero = sparse_input.nonzero_bits(images, bits)
    return bits if n_nonzero <= SPARSE_BELOW * images.size else np.empty((0, 0), np.uint64)


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
