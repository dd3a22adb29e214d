"""The reference backend: a multilayer perceptron in NumPy, with each formula written once, as in a textbook.

Read it from top to bottom: activations, softmax and the losses, one layer forward and backward, the whole network
forward and backward, and the loop over mini-batches that updates the weights.

Notation, for B samples, D inputs, H units and C classes:
    inp: (B, D)
    weight: (D, H)
    bias: (H,)
    out: (B, H)
    logits: (B, C)
A gradient has the name of its array with `d` in front: `dweight` is the gradient of the loss with respect to `weight`.
`fastnn.backends.base` describes the arguments in full.
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
    """``dout`` where ``out > 0``, else 0: the derivative of ReLU is 1 for positive inputs and 0 for the others."""
    return dout * (out > 0)


def activate(inp: np.ndarray, activation: str) -> np.ndarray:
    """Apply the activation with that name to each element."""
    if activation == "relu":
        return relu(inp)
    if activation == "tanh":
        return np.tanh(inp)
    if activation == "logistic":  # equals 1 / (1 + exp(-inp)), but cannot overflow
        return 0.5 * (1 + np.tanh(0.5 * inp))
    return inp


def activate_backward(dout: np.ndarray, out: np.ndarray, activation: str) -> np.ndarray:
    """The chain rule: `dout` times the activation's derivative, written in terms of the activation's output."""
    if activation == "relu":
        return relu_backward(dout, out)
    if activation == "tanh":
        return dout * (1 - out**2)
    if activation == "logistic":
        return dout * out * (1 - out)
    return dout


# --- Softmax and the losses ------------------------------------------------------------------------------------------
def softmax_terms(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``shifted = logits - max(logits)``, ``exp(shifted)`` and the sum of each row of ``exp(shifted)``, (B, 1).

    Subtracting a number from all logits of a row leaves its probabilities unchanged. Subtracting the largest logit
    prevents overflow.
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
    """Return the mean of ``-log(probability of the label)`` and its gradient ``(probability - one_hot(label)) / B``."""
    check_shapes(logits=(logits, (None, None)))
    labels = check_labels(labels, *logits.shape)
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    mean_weights = _mean_weights(sample_weight, len(logits), logits.dtype)
    row = np.arange(len(logits))
    shifted, exp, total = softmax_terms(logits)
    losses = np.log(total[:, 0]) - shifted[row, labels]
    dlogits = exp / total
    dlogits[row, labels] -= 1
    return _weighted_sum(mean_weights, losses), dlogits * mean_weights[:, None]


def logistic_cross_entropy(
    logits: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the mean loss and its gradient ``(p - y) / B``, where ``p = logistic(logits)`` and y are the targets.

    A row's loss is the sum of ``-y log p - (1 - y) log(1 - p)`` over its outputs. The code uses an equal form that
    cannot overflow: ``max(logit, 0) - logit * y + log(1 + exp(-abs(logit)))``.
    """
    check_shapes(logits=(logits, (None, None)), targets=(targets, logits.shape))
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    mean_weights = _mean_weights(sample_weight, len(logits), logits.dtype)
    losses = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    dlogits = (activate(logits, "logistic") - targets) * mean_weights[:, None]
    return _weighted_sum(mean_weights, losses.sum(axis=1)), dlogits


def squared_error(
    outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
    """Return the mean of a row's ``sum((out - target)**2) / 2`` and its gradient ``(out - target) / B``."""
    check_shapes(outs=(outs, (None, None)), targets=(targets, outs.shape))
    sample_weight = check_sample_weight(sample_weight, len(outs), outs.dtype)
    mean_weights = _mean_weights(sample_weight, len(outs), outs.dtype)
    errors = outs - targets
    return _weighted_sum(mean_weights, 0.5 * (errors**2).sum(axis=1)), errors * mean_weights[:, None]


LOSSES = {"softmax": softmax_cross_entropy, "logistic": logistic_cross_entropy, "identity": squared_error}


def is_correct(output: str, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return which rows are classified correctly, bool (B,).

    With softmax outputs, a row is correct if its label has the largest logit. With logistic outputs, it is correct if
    each logit is above 0 exactly where its target is above 0.5.
    """
    if output == "softmax":
        return logits.argmax(axis=1) == targets
    if output == "logistic":
        return ((logits > 0) == (targets > 0.5)).all(axis=1)
    return np.zeros(len(logits), bool)  # regression outputs have no accuracy


def _mean_weights(sample_weight: np.ndarray | None, n: int, dtype: np.dtype) -> np.ndarray:
    """Return each sample's weight in the batch mean: 1 / n, or ``sample_weight / sum(sample_weight)``."""
    if sample_weight is None:
        return np.full(n, 1 / n, dtype)
    total = sample_weight.sum(dtype=np.float64)
    return (sample_weight / total).astype(dtype) if total > 0 else np.zeros(n, dtype)


def _weighted_sum(mean_weights: np.ndarray, losses: np.ndarray) -> float:
    """Return ``sum(mean_weights * losses)`` without the rows of weight 0, since 0 times infinity would be NaN."""
    return float(np.sum(mean_weights * np.where(mean_weights > 0, losses, 0), dtype=np.float64))


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
    """Return the gradients of a layer's input, weight and bias, given the gradient of its output."""
    check_shapes(dout=(dout, out.shape), inp=(inp, (len(out), len(weight))), weight=(weight, (None, out.shape[1])))
    dsum = activate_backward(dout, out, activation)
    return dsum @ weight.T, *parameter_gradients(dsum, inp)


def parameter_gradients(dsum: np.ndarray, inp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients of a layer's weight and bias, given the gradient of its weighted sums."""
    return inp.astype(dsum.dtype, copy=False).T @ dsum, dsum.sum(axis=0)


# --- The network -----------------------------------------------------------------------------------------------------
def forward(
    network: Network, inp: np.ndarray, masks: Sequence[np.ndarray] = ()
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the input and the output of every layer, first to last; the last output is the logits.

    With dropout, `masks` holds one mask per hidden layer. The layer's output times its mask is the next layer's input.
    """
    inps, outs = [inp.astype(network.dtype) * network.dtype.type(network.input_scale)], []
    last = len(network.weights) - 1
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        outs.append(dense_forward(inps[layer], weight, bias, network.activation if layer < last else "identity"))
        if layer < last:
            inps.append(outs[layer] * masks[layer] if masks else outs[layer])
    return inps, outs


def predict_logits(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Return the last layer's weighted sums. `threads` is ignored: NumPy's BLAS keeps its own setting."""
    return forward(network, check_inputs(network, inp))[1][-1]


def predict_proba(network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Apply the network's output function (softmax, logistic or identity) to the logits; `threads` is ignored."""
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
    """Return the mean loss + l2 / 2 * (sum of squared weights), and its gradients by backpropagation."""
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
    """Return `loss_and_gradients` on all the data as a function of weights and biases; `threads` is ignored."""
    check_regularization(l2, 0)
    images = check_inputs(network, images)
    targets = check_targets(network, targets, images.shape[0])
    sample_weight = check_sample_weight(sample_weight, images.shape[0], network.dtype)
    keys, rows = dropout_keys(0, 0, len(network.weights) - 1), np.arange(images.shape[0])

    def evaluate(weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> LossAndGradients:
        current = network.like(weights, biases)
        with np.errstate(over="ignore", invalid="ignore"):  # after too long a step the loss is not finite
            return _backpropagate(current, images, targets, l2, sample_weight, 0.0, keys, rows)

    return evaluate


def dropout_masks(network: Network, dropout: float, keys: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """The factor of each hidden unit, one (B, H) array per hidden layer; an empty list without dropout.

    Inverted dropout (Srivastava et al. 2014, section 10): kept units are scaled up, so prediction needs no change.
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

    if sample_weight is not None and not sample_weight.any():  # every sample of the batch has weight 0
        loss, dout = 0.0, np.zeros_like(logits)
    else:
        loss, dout = LOSSES[network.output](logits, targets, sample_weight)
    loss += 0.5 * l2 * sum(float(np.sum(weight**2, dtype=np.float64)) for weight in network.weights)

    # Backward, from the last layer to the first: a layer's input gradient is the output gradient of the layer before.
    dweights, dbiases = list(network.weights), list(network.biases)
    for layer in range(last, -1, -1):
        weight, activation = network.weights[layer], network.activation if layer < last else "identity"
        if layer:
            dinp, dweight, dbiases[layer] = dense_backward(dout, inps[layer], weight, outs[layer], activation)
            dout = dinp * masks[layer - 1] if masks else dinp
        else:  # nothing uses the gradient of the inputs, and for sparse inputs it would be dense
            dweight, dbiases[0] = parameter_gradients(activate_backward(dout, outs[0], activation), inps[0])
        dweights[layer] = dweight + network.dtype.type(l2) * weight
    return LossAndGradients(loss, dweights, dbiases, int(is_correct(network.output, logits, targets).sum()))


# --- Training --------------------------------------------------------------------------------------------------------
class Trainer:
    """Mini-batch gradient descent: forward, loss, backward and update for each batch."""

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
        """Do nothing: NumPy needs no preparation."""

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
            with np.errstate(over="ignore", invalid="ignore"):  # the loss shows whether the run diverges
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
        """Return a copy of the current network."""
        return self._network.like(self._network.weights, self._network.biases)

    def state(self) -> TrainerState:
        """Return a copy of the optimizer's current state."""
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
    """Return a Trainer. `threads` is ignored: `fastnn.train` limits NumPy's BLAS for the whole run."""
    check_regularization(l2, dropout)
    images = check_inputs(network, images)
    targets = check_targets(network, targets, images.shape[0])
    sample_weight = check_sample_weight(sample_weight, images.shape[0], network.dtype)
    return Trainer(network, images, targets, optimizer, l2, divide_l2, dropout, sample_weight, seed, state)
