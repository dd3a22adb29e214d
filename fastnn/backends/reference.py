"""The reference backend: a multilayer perceptron in NumPy, each formula once, as the textbook writes it.

Read from top to bottom it is the chapter on how a network learns: activations, softmax and its loss, one layer forward
and backward, the whole network forward and backward, and the loop over mini-batches that updates the weights.
Notation: `inp` (B, D), `weight` (D, H), `bias` (H,), `out` (B, H); a gradient has the same name with `d` in front.
"""

from collections.abc import Sequence

import numpy as np

from fastnn.backends.base import (
    EpochResult,
    LossAndGradients,
    Objective,
    TrainerState,
    check_inputs,
    check_labels,
    check_regularization,
    check_sample_weight,
    check_shapes,
    check_targets,
)
from fastnn.network import Network
from fastnn.optim.optimizers import Optimizer
from fastnn.randomness import dropout_keep, dropout_keys


# --- Activations -----------------------------------------------------------------------------------------------------
def relu(inp: np.ndarray) -> np.ndarray:
    """``max(inp, 0)``."""
    return np.maximum(inp, 0)


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The slope of ReLU is 1 where it let its input through, else 0."""
    return dout * (out > 0)


def activate(inp: np.ndarray, activation: str) -> np.ndarray:
    """The activation of that name, element by element."""
    if activation == "relu":
        return relu(inp)
    if activation == "tanh":
        return np.tanh(inp)
    if activation == "logistic":  # 1 / (1 + exp(-inp)), written so that no exp can overflow
        return 0.5 * (1 + np.tanh(0.5 * inp))
    return inp


def activate_backward(dout: np.ndarray, out: np.ndarray, activation: str) -> np.ndarray:
    """Chain rule through the activation; each slope is written in terms of the output."""
    if activation == "relu":
        return relu_backward(dout, out)
    if activation == "tanh":
        return dout * (1 - out**2)
    if activation == "logistic":
        return dout * out * (1 - out)
    return dout


# --- Softmax and the losses ------------------------------------------------------------------------------------------
def softmax_terms(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In each row ``shifted = logits - max(logits)``, ``exp(shifted)`` and the sum of these, of shape (B, 1).

    A shift of all logits changes no probability; after this one no exp can overflow.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    exp = np.exp(shifted)
    return shifted, exp, exp.sum(axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    """``exp(logits) / sum(exp(logits))`` in each row."""
    check_shapes(logits=(logits, (None, None)))
    _, exp, total = softmax_terms(logits)
    return exp / total


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Mean of ``-log(probability of the label)``; its gradient is ``(probability - one_hot(label)) / B``."""
    check_shapes(logits=(logits, (None, None)))
    labels = check_labels(labels, *logits.shape)
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    share = _mean_weights(sample_weight, len(logits), logits.dtype)
    row = np.arange(len(logits))
    shifted, exp, total = softmax_terms(logits)
    losses = np.log(total[:, 0]) - shifted[row, labels]
    dlogits = exp / total
    dlogits[row, labels] -= 1
    return _weighted_sum(share, losses), dlogits * share[:, None]


def logistic_cross_entropy(
    logits: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Mean of ``-y log p - (1 - y) log(1 - p)``, summed over a row's outputs; its gradient is ``(p - y) / B``.

    With ``p = logistic(logits)`` this is ``max(logit, 0) - logit * y + log(1 + exp(-abs(logit)))``, which cannot
    overflow.
    """
    check_shapes(logits=(logits, (None, None)), targets=(targets, logits.shape))
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    share = _mean_weights(sample_weight, len(logits), logits.dtype)
    losses = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return _weighted_sum(share, losses.sum(axis=1)), (activate(logits, "logistic") - targets) * share[:, None]


def squared_error(
    outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Mean of ``(out - target)**2 / 2``, summed over a row's outputs; its gradient is ``(out - target) / B``."""
    check_shapes(outs=(outs, (None, None)), targets=(targets, outs.shape))
    sample_weight = check_sample_weight(sample_weight, len(outs), outs.dtype)
    share = _mean_weights(sample_weight, len(outs), outs.dtype)
    errors = outs - targets
    return _weighted_sum(share, 0.5 * (errors**2).sum(axis=1)), errors * share[:, None]


LOSSES = {"softmax": softmax_cross_entropy, "logistic": logistic_cross_entropy, "identity": squared_error}


def is_correct(output: str, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which rows are classified rightly: the largest logit is the label's, or each logit says what is true."""
    if output == "softmax":
        return logits.argmax(axis=1) == targets
    if output == "logistic":
        return ((logits > 0) == (targets > 0.5)).all(axis=1)
    return np.zeros(len(logits), bool)  # numbers are neither right nor wrong


def _mean_weights(sample_weight: np.ndarray | None, n: int, dtype: np.dtype) -> np.ndarray:
    """What each sample counts in the mean over its batch: 1 / n, or its weight over the sum of weights."""
    if sample_weight is None:
        return np.full(n, 1 / n, dtype)
    total = sample_weight.sum(dtype=np.float64)
    return (sample_weight / total).astype(dtype) if total > 0 else np.zeros(n, dtype)


def _weighted_sum(share: np.ndarray, losses: np.ndarray) -> float:
    """What the rows lose, of those that count: 0 times infinity would be NaN."""
    return float(np.sum(share * np.where(share > 0, losses, 0), dtype=np.float64))


# --- One layer -------------------------------------------------------------------------------------------------------
def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``inp @ weight``."""
    check_shapes(inp=(inp, (None, None)), weight=(weight, (inp.shape[-1], None)))
    return inp.astype(weight.dtype, copy=False) @ weight


def dense_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str = "identity") -> np.ndarray:
    """``activation(inp @ weight + bias)``."""
    check_shapes(bias=(bias, weight.shape[1:]))
    return activate(matmul(inp, weight) + bias, activation)


def dense_backward(
    dout: np.ndarray, inp: np.ndarray, weight: np.ndarray, out: np.ndarray, activation: str = "identity"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From the gradient of a layer's output to those of its input, weight and bias."""
    check_shapes(dout=(dout, out.shape), inp=(inp, (len(out), len(weight))), weight=(weight, (None, out.shape[1])))
    dsum = activate_backward(dout, out, activation)
    return dsum @ weight.T, *parameter_gradients(dsum, inp)


def parameter_gradients(dsum: np.ndarray, inp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the gradient of a layer's weighted sums to those of its weight and bias."""
    return inp.astype(dsum.dtype, copy=False).T @ dsum, dsum.sum(axis=0)


# --- The network -----------------------------------------------------------------------------------------------------
def forward(
    network: Network, inp: np.ndarray, masks: Sequence[np.ndarray] = ()
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The input and the output of each layer, first to last; the last output is the logits.

    A hidden layer's output is multiplied by its mask, if there are masks, before it is the next layer's input.
    """
    inps, outs = [inp.astype(network.dtype) * network.dtype.type(network.input_scale)], []
    last = len(network.weights) - 1
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        outs.append(dense_forward(inps[layer], weight, bias, network.activation if layer < last else "identity"))
        if layer < last:
            inps.append(outs[layer] * masks[layer] if masks else outs[layer])
    return inps, outs


def predict_logits(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """The last layer's weighted sums. `threads` is the business of NumPy's BLAS, which is left as it is."""
    return forward(network, check_inputs(network, inp))[1][-1]


def predict_proba(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """``softmax(logits)``, or what else the network's output makes of them; `threads` as above."""
    logits = predict_logits(network, inp)
    return softmax(logits) if network.output == "softmax" else activate(logits, network.output)


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
    """The output's mean loss + l2 / 2 * (sum of squared weights), and its gradients by backpropagation."""
    check_regularization(l2, dropout)
    inp = check_inputs(network, inp)
    targets = check_targets(network, targets, inp.shape[0])
    sample_weight = check_sample_weight(sample_weight, inp.shape[0], network.dtype)
    keys = dropout_keys(seed, epoch, len(network.weights) - 1)
    return _backpropagate(network, inp, targets, l2, sample_weight, dropout, keys, np.arange(inp.shape[0]))


def objective(
    network: Network,
    images: np.ndarray,
    targets: np.ndarray,
    *,
    l2: float = 0.0,
    sample_weight: np.ndarray | None = None,
    threads: int | None = None,
) -> Objective:
    """`loss_and_gradients` of all the data as a function of weights and biases."""
    check_regularization(l2, 0)
    images = check_inputs(network, images)
    targets = check_targets(network, targets, images.shape[0])
    sample_weight = check_sample_weight(sample_weight, images.shape[0], network.dtype)
    keys, rows = dropout_keys(0, 0, len(network.weights) - 1), np.arange(images.shape[0])

    def evaluate(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> LossAndGradients:
        moved = network.like(weights, biases)
        with np.errstate(over="ignore", invalid="ignore"):  # a step too long is seen by its loss
            return _backpropagate(moved, images, targets, l2, sample_weight, 0.0, keys, rows)

    return evaluate


def dropout_masks(network: Network, dropout: float, keys: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """The factor of each hidden unit, one (B, H) array per hidden layer; an empty list without dropout.

    Inverted dropout (Srivastava et al. 2014, section 10): units that stay are scaled up, so prediction needs no change.
    """
    return [
        dropout_keep(key, rows, size, dropout) / network.dtype.type(1 - dropout)
        for key, size in zip(keys, network.sizes[1:-1], strict=True)
        if dropout
    ]


def _backpropagate(
    network: Network,
    inp: np.ndarray,
    targets: np.ndarray,
    l2: float,
    sample_weight: np.ndarray | None,
    dropout: float,
    keys: np.ndarray,
    rows: np.ndarray,
) -> LossAndGradients:
    masks = dropout_masks(network, dropout, keys, rows)
    inps, outs = forward(network, inp, masks)
    logits, last = outs[-1], len(outs) - 1

    if sample_weight is not None and not sample_weight.any():  # a batch of samples that do not count
        loss, dout = 0.0, np.zeros_like(logits)
    else:
        loss, dout = LOSSES[network.output](logits, targets, sample_weight)
    loss += 0.5 * l2 * sum(float(np.sum(weight**2, dtype=np.float64)) for weight in network.weights)

    # Backward, from the last layer to the first: the gradient of a layer's input is that of the output before it.
    dweights, dbiases = list(network.weights), list(network.biases)
    for layer in range(last, -1, -1):
        weight, activation = network.weights[layer], network.activation if layer < last else "identity"
        if layer:
            dinp, dweight, dbiases[layer] = dense_backward(dout, inps[layer], weight, outs[layer], activation)
            dout = dinp * masks[layer - 1] if masks else dinp
        else:  # the gradient of the inputs leads nowhere, and is dense where they are sparse
            dweight, dbiases[0] = parameter_gradients(activate_backward(dout, outs[0], activation), inps[0])
        dweights[layer] = dweight + network.dtype.type(l2) * weight
    return LossAndGradients(loss, dweights, dbiases, int(is_correct(network.output, logits, targets).sum()))


# --- Training --------------------------------------------------------------------------------------------------------
class Trainer:
    """Mini-batch gradient descent: for each batch forward, loss, backward, update."""

    def __init__(
        self,
        network: Network,
        images: np.ndarray,
        targets: np.ndarray,
        optimizer: Optimizer,
        l2: float,
        divide_l2: bool,
        dropout: float,
        sample_weight: np.ndarray | None,
        seed: int,
        state: TrainerState | None,
    ) -> None:
        self._network = network.like(network.weights, network.biases)
        self._parameters = [*self._network.weights, *self._network.biases]
        self._slots = [[np.zeros_like(array) for array in self._parameters] for _ in range(optimizer.n_slots)]
        self._images, self._targets, self._sample_weight = images, targets, sample_weight
        self._optimizer, self._l2, self._divide_l2 = optimizer, l2, divide_l2
        self._dropout, self._seed = dropout, seed
        self._epoch = self._step = 0
        if state is not None:
            self._slots = [[array.copy() for array in (*weights, *biases)] for weights, biases in state.slots]
            self._epoch, self._step = state.epochs, state.steps

    def prepare(self, n_rows: int, batch_size: int) -> None:
        """Nothing: NumPy needs no preparation."""

    def run_epoch(self, order: np.ndarray, batch_size: int, learning_rate: float) -> EpochResult:
        """Train on the rows `order`, `batch_size` at a time."""
        keys = dropout_keys(self._seed, self._epoch, len(self._network.weights) - 1)
        self._epoch += 1
        total_loss, n_counted, n_correct = 0.0, 0, 0
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            sample_weight = None if self._sample_weight is None else self._sample_weight[rows]
            weight = len(rows) if sample_weight is None else float(sample_weight.sum(dtype=np.float64))
            l2 = self._l2 / (weight or np.inf) if self._divide_l2 else self._l2
            with np.errstate(over="ignore", invalid="ignore"):  # a run that diverges is seen by its loss
                loss, dweights, dbiases, correct = _backpropagate(
                    self._network, self._images[rows], self._targets[rows], l2, sample_weight,
                    self._dropout, keys, rows,
                )  # fmt: skip
                if not np.isfinite(loss):
                    return EpochResult(loss, n_correct / max(1, first), failed_batch=first // batch_size)
                self._step += 1
                for parameter, gradient, *slots in zip(self._parameters, dweights + dbiases, *self._slots, strict=True):
                    self._optimizer.update(parameter, gradient, slots, learning_rate, self._step)
            if weight > 0:
                total_loss += loss * len(rows)
                n_counted += len(rows)
            n_correct += correct
        accuracy = n_correct / len(order) if self._network.output != "identity" else np.nan
        return EpochResult(total_loss / max(1, n_counted), accuracy)

    def network(self) -> Network:
        """The network as it is now, copied."""
        return self._network.like(self._network.weights, self._network.biases)

    def state(self) -> TrainerState:
        """The optimizer's state as it is now, copied."""
        n, copies = len(self._network.weights), [[array.copy() for array in slot] for slot in self._slots]
        return TrainerState(tuple((slot[:n], slot[n:]) for slot in copies), self._step, self._epoch)


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
    """A Trainer. `threads` is the business of NumPy's BLAS: `fastnn.train` sets it for the whole run."""
    check_regularization(l2, dropout)
    images = check_inputs(network, images)
    targets = check_targets(network, targets, images.shape[0])
    sample_weight = check_sample_weight(sample_weight, images.shape[0], network.dtype)
    return Trainer(network, images, targets, optimizer, l2, divide_l2, dropout, sample_weight, seed, state)
