"""The reference backend: every operation in NumPy, with each formula written once, as in a textbook.

Read it from top to bottom: activations, softmax and the losses, the layers, forward and backward. The formulas of
activations and losses are rows of two tables, `fastnn.network.activations` and `fastnn.network.losses`. The whole
network and the loop over mini-batches are in `layerwise.py`, which runs on the operations of this file.

Notation, for B samples, D inputs, H units and C classes:
    inp: (B, D)
    weight: (D, H)
    bias: (H,)
    sums, out: (B, H)
    logits: (B, C)
A gradient has the name of its array with `d` in front: `dweight` is the gradient of the loss with respect to `weight`.
`fastnn.backends.base` describes the arguments in full.
"""

import sys
from typing import Any

import numpy as np

from fastnn.backends import layerwise
from fastnn.backends.arguments import (
    TrainingData,
    check_logits,
    check_logits_of_loss,
    check_run,
    check_sample_weight,
    check_shapes,
)
from fastnn.backends.base import LossAndGradients, Objective, TrainerState, named_losses
from fastnn.network import ACTIVATIONS, LOSSES, Network
from fastnn.network import losses as losses_table
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Optimizer


# --- Activations -----------------------------------------------------------------------------------------------------
def activate(inp: np.ndarray, activation: str) -> np.ndarray:
    """Apply the activation with that name to each element."""
    return ACTIVATIONS[activation].forward(inp)


def activate_backward(dout: np.ndarray, inp: np.ndarray, out: np.ndarray, activation: str) -> np.ndarray:
    """The chain rule: `dout` times the activation's derivative."""
    row = ACTIVATIONS[activation]
    return dout * row.derivative(inp if row.needs == "input" else out)


def relu(inp: np.ndarray) -> np.ndarray:
    """``max(inp, 0)``."""
    return activate(inp, "relu")


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """``dout`` where ``out > 0``, else 0: the derivative of ReLU is 1 for positive inputs and 0 for the others."""
    check_shapes(dout=(dout, out.shape))
    return activate_backward(dout, out, out, "relu")


# --- Softmax and the losses ------------------------------------------------------------------------------------------
def softmax(logits: np.ndarray) -> np.ndarray:
    """``exp(logits) / sum(exp(logits))`` in each row."""
    check_logits(logits)
    return losses_table.softmax(logits)


def mean_loss(
    output: str, logits: np.ndarray, targets: np.ndarray, sample_weight: Any = None, smoothing: float = 0.0
) -> tuple[float, np.ndarray]:
    """Return the mean of the rows' losses, weighted by `sample_weight`, and its gradient."""
    check_logits_of_loss(logits)
    sample_weight = check_sample_weight(sample_weight, len(logits), logits.dtype)
    losses, dlogits = LOSSES[output].row_losses(logits, targets, smoothing)
    if sample_weight is None:
        weights = logits.dtype.type(1 / len(logits))
    else:
        weights = (sample_weight / sample_weight.sum(dtype=np.float64)).astype(logits.dtype)
        losses = np.where(weights > 0, losses, 0)  # rows of weight 0 are left out: 0 times infinity would be NaN
    dlogits *= weights.reshape(-1, 1)
    return float(np.sum(weights * losses, dtype=np.float64)), dlogits


softmax_cross_entropy, logistic_cross_entropy, squared_error = named_losses(mean_loss)


# --- The layers ------------------------------------------------------------------------------------------------------
def matmul(inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``inp @ weight``."""
    check_shapes(inp=(inp, (None, None)), weight=(weight, (inp.shape[-1], None)))
    return inp.astype(weight.dtype, copy=False) @ weight


def dense_forward(inp: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """``inp @ weight + bias``."""
    check_shapes(bias=(bias, weight.shape[1:]))
    sums = matmul(inp, weight)
    sums += bias
    return sums


def dense_backward(
    dsums: np.ndarray, inp: np.ndarray, weight: np.ndarray, needs_dinp: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return ``dsums @ weight.T`` (None unless needed), ``inp.T @ dsums``, and the sum of the rows of `dsums`."""
    check_shapes(inp=(inp, (len(dsums), len(weight))), weight=(weight, (None, dsums.shape[1])))
    dweight = inp.astype(dsums.dtype, copy=False).T @ dsums
    return dsums @ weight.T if needs_dinp else None, dweight, dsums.sum(axis=0)


def batch_norm(
    inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> np.ndarray:
    """``weight * (inp - mean) / sqrt(variance + epsilon) + bias``."""
    return weight * ((inp - mean) / np.sqrt(variance + inp.dtype.type(epsilon))) + bias


def batch_norm_forward(
    inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`batch_norm` with the mean and variance of the batch, which are returned too."""
    mean, variance = inp.mean(axis=0), inp.var(axis=0)
    return batch_norm(inp, weight, bias, mean, variance, epsilon), mean, variance


def batch_norm_backward(
    dout: np.ndarray, inp: np.ndarray, weight: np.ndarray, mean: np.ndarray, variance: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of the input, the weight and the bias.

    With ``normal = (inp - mean) / sqrt(variance + epsilon)``, the gradient of an input loses its part along ``1``,
    because the mean depends on the input too, and its part along ``normal``, because the variance does.
    """
    deviation = np.sqrt(variance + inp.dtype.type(epsilon))
    normal = (inp - mean) / deviation
    dweight, dbias = (dout * normal).sum(axis=0), dout.sum(axis=0)
    dinp = weight / deviation * (dout - dbias / len(inp) - normal * (dweight / len(inp)))
    return dinp, dweight, dbias


# --- The network, layer by layer -------------------------------------------------------------------------------------
_operations = sys.modules[__name__]


def predict_logits(network: Network, inp: Any, threads: int | None = None) -> np.ndarray:
    """Return the last layer's weighted sums. `threads` is ignored: NumPy's BLAS keeps its own setting."""
    return layerwise.predict_logits(_operations, network, inp)


def predict_proba(network: Network, inp: Any, threads: int | None = None) -> np.ndarray:
    """Apply the network's output function (softmax, logistic, identity or exp) to the logits; `threads` is ignored."""
    return layerwise.predict_proba(_operations, network, inp)


def loss_and_gradients(
    network: Network, inp: Any, targets: Any, *, sample_weight: Any = None, epoch: int = 0, **settings: Any
) -> LossAndGradients:
    """Return the mean loss + l2 / 2 * (sum of squared weights), and its gradients by backpropagation."""
    return layerwise.loss_and_gradients(_operations, network, inp, targets, sample_weight, epoch, settings)


def objective(network: Network, data: TrainingData, config: TrainingConfig) -> Objective:
    """Return the loss and gradients of all the data as a function of all parameters."""
    return layerwise.Objective(_operations, network, data, config)


def trainer(
    network: Network,
    images: Any,
    targets: Any,
    optimizer: str | Optimizer = "sgd",
    *,
    sample_weight: Any = None,
    state: TrainerState | None = None,
    **settings: Any,
) -> layerwise.Trainer:
    """Check the data and the settings, and return a trainer."""
    data, config = check_run(network, images, targets, sample_weight, {"optimizer": optimizer, **settings})
    return new_trainer(network, data, config, state)


def new_trainer(
    network: Network, data: TrainingData, config: TrainingConfig, state: TrainerState | None = None
) -> layerwise.Trainer:
    """Return a layer-by-layer trainer. `fastnn.train` limits the threads of NumPy's BLAS for the whole run."""
    return layerwise.Trainer(_operations, network, data, config, state)
