"""The contract of a backend: every operation with its shapes. Both backends are modules of these functions.

Dimensions: B samples in a batch, D inputs, H units, C classes. Inputs may be uint8, float32 or float64; weights are
float32 or float64, and results have the weights' dtype. Shapes are checked by `check_*` below, in both backends alike.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn.checks import check_number
from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.errors import DataError
from fastnn.network import Network
from fastnn.optim.optimizers import Optimizer


class LossAndGradients(NamedTuple):
    """What `loss_and_gradients` returns."""

    loss: float
    dweights: list[np.ndarray]
    dbiases: list[np.ndarray]
    n_correct: int


class EpochResult(NamedTuple):
    """What `run_epoch` returns.

    `loss` is the mean over the epoch's samples of the loss of their batch, at the weights before that batch's step,
    batches left out whose samples all have weight 0; `accuracy` the share of samples of which every answer was right,
    at the same weights, NaN for numbers. `failed_batch` is the first batch whose loss was not finite, where the epoch
    ended; None if there was none.
    """

    loss: float
    accuracy: float
    failed_batch: int | None = None


class TrainerState(NamedTuple):
    """What a trainer needs to go on where another stopped, besides the network: the optimizer's arrays, each a list
    for the weights and one for the biases, the steps made, and the epochs.
    """

    slots: tuple[tuple[list[np.ndarray], list[np.ndarray]], ...]
    steps: int
    epochs: int


# Loss and gradients at other weights and biases than those of the network.
Objective = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], LossAndGradients]


class Trainer(Protocol):
    """A network laid out for training, with its data and the optimizer's state."""

    def prepare(self, n_rows: int, batch_size: int) -> None:
        """Do what epochs of `n_rows` rows in batches of `batch_size` need done once; `run_epoch` does it otherwise."""
        ...

    def run_epoch(self, order: np.ndarray, batch_size: int, learning_rate: float) -> EpochResult:
        """Train on the rows `order` (int64, shape (n,)), `batch_size` at a time; the last batch may be shorter."""
        ...

    def network(self) -> Network:
        """The network as it is now: plain arrays, copied."""
        ...

    def state(self) -> TrainerState:
        """The optimizer's state as it is now, copied."""
        ...


class Backend(Protocol):
    """The functions a backend module has."""

    @property
    def __name__(self) -> str: ...

    def matmul(self, inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """``inp @ weight``: (B, D), (D, H) -> (B, H)."""
        ...

    def relu(self, inp: np.ndarray) -> np.ndarray:
        """``max(inp, 0)``, NaN kept: (B, H) -> (B, H)."""
        ...

    def relu_backward(self, dout: np.ndarray, out: np.ndarray) -> np.ndarray:
        """`dout` where `out` is above 0, else 0: (B, H), (B, H) -> (B, H)."""
        ...

    def softmax(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities, each row's sum 1: (B, C) -> (B, C)."""
        ...

    def softmax_cross_entropy(
        self, logits: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Mean cross-entropy and its gradient: (B, C), (B,) -> loss, dlogits (B, C); the mean is weighted if asked."""
        ...

    def logistic_cross_entropy(
        self, logits: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Mean of each row's binary cross-entropies, and its gradient: (B, C), (B, C) in [0, 1] -> loss, (B, C)."""
        ...

    def squared_error(
        self, outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Mean of half of each row's squared errors, and its gradient: (B, C), (B, C) -> loss, (B, C)."""
        ...

    def dense_forward(
        self, inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, activation: str = "identity"
    ) -> np.ndarray:
        """``activation(inp @ weight + bias)``: (B, D), (D, H), (H,) -> (B, H)."""
        ...

    def dense_backward(
        self, dout: np.ndarray, inp: np.ndarray, weight: np.ndarray, out: np.ndarray, activation: str = "identity"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The layer's gradients: (B, H), (B, D), (D, H), (B, H) -> dinp (B, D), dweight (D, H), dbias (H,)."""
        ...

    def predict_logits(self, network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
        """What the output is given: (B, D) -> (B, C), on so many threads; None: the cores this process may use."""
        ...

    def predict_proba(self, network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
        """What the network answers: (B, D) -> (B, C), probabilities, or the numbers of an identity output."""
        ...

    def loss_and_gradients(
        self,
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
        """Loss of a batch and its gradients: the output's mean loss + l2 / 2 * (sum of squared weights, not biases).

        Targets are labels (B,) for a softmax, else (B, C). With `dropout`, the masks are those of the samples 0 to
        B - 1 in that epoch of a run with that seed.
        """
        ...

    def objective(
        self,
        network: Network,
        images: np.ndarray,
        targets: np.ndarray,
        *,
        l2: float = 0.0,
        sample_weight: np.ndarray | None = None,
        threads: int | None = None,
    ) -> Objective:
        """`loss_and_gradients` of all the data as a function of weights and biases, for optimizers that search."""
        ...

    def trainer(
        self,
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
        """Lay `network` (copied) and the data (not copied) out for training.

        With `divide_l2`, l2 is divided by what the samples of each batch count in all. With `state`, the optimizer goes
        on from there.
        """
        ...


# What the backends take as it is, in native byte order.
_WORKING_DTYPES = frozenset(map(np.dtype, (np.uint8, np.float32, np.float64)))


def check_inputs(network: Network, inp: Any) -> Any:
    """`inp` as the backends take it; DataError unless it is (B, D) of real numbers with the network's D.

    That is an array, or a SciPy sparse matrix in compressed sparse rows, which is not made dense.
    """
    sparse = False
    if type(inp) is not np.ndarray:  # the usual case takes no time: a prediction of one row is a matter of microseconds
        sparse = is_sparse(inp)
        inp = inp if sparse else np.asarray(inp)
    if inp.dtype.kind not in "buif":
        raise DataError(f"inputs have dtype {inp.dtype}, expected numbers")
    if inp.ndim != 2 or inp.shape[1] != network.n_inputs:
        raise DataError(f"inputs have shape {inp.shape}, expected (samples, {network.n_inputs}) for {network}")
    if not sparse:
        return working_inputs(inp)
    inp = canonical(inp)
    data = working_inputs(inp.data)
    return inp if data is inp.data else type(inp)((data, inp.indices, inp.indptr), shape=inp.shape)


def working_inputs(inp: np.ndarray) -> np.ndarray:
    """`inp` itself if it is C-contiguous uint8, float32 or float64 in native byte order, else a copy that is.

    bool becomes uint8, float16 float32; any other dtype float64, which holds it best.
    """
    if inp.dtype in _WORKING_DTYPES and inp.flags.c_contiguous:
        return inp
    kind = {"bool": np.uint8, "float16": np.float32, "uint8": np.uint8, "float32": np.float32}
    return np.ascontiguousarray(inp, kind.get(inp.dtype.newbyteorder("=").name, np.float64))


def check_targets(network: Network, targets: np.ndarray, n_samples: int) -> np.ndarray:
    """What the network's loss is given: for a softmax labels as `check_labels` has them, else (n_samples, C) numbers.

    They have the network's dtype then; DataError unless they are finite, and for logistic outputs in [0, 1].
    """
    if network.output == "softmax":
        return check_labels(targets, n_samples, network.n_classes)
    targets = np.asarray(targets)
    if targets.shape != (n_samples, network.n_outputs) or targets.dtype.kind not in "buif":
        raise DataError(
            f"targets have shape {targets.shape}, dtype {targets.dtype}, expected numbers ({n_samples}, "
            f"{network.n_outputs}) for {network}"
        )
    with np.errstate(over="ignore"):  # seen below
        targets = np.ascontiguousarray(targets, network.dtype)
    if not np.isfinite(targets).all():
        raise DataError(f"targets contain NaN, infinity or a value too large for {network.dtype}")
    if network.output == "logistic" and not ((targets >= 0) & (targets <= 1)).all():
        raise DataError(f"targets run from {targets.min():g} to {targets.max():g}, expected 0 to 1 for {network}")
    return targets


def check_labels(labels: np.ndarray, n_samples: int, n_classes: int) -> np.ndarray:
    """`labels` as int64, shape (n_samples,); DataError unless they are whole numbers from 0 to n_classes - 1."""
    labels = np.asarray(labels)
    if labels.shape != (n_samples,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels have shape {labels.shape}, dtype {labels.dtype}, expected ({n_samples},) whole numbers"
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < n_classes):
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1} for {n_classes} classes"
        )
    return np.ascontiguousarray(labels, np.int64)


def check_sample_weight(sample_weight: Any, n_samples: int, dtype: np.dtype) -> np.ndarray | None:
    """`sample_weight` in the working dtype, or None; DataError unless finite, 0 or more, not all 0, one a sample."""
    if sample_weight is None:
        return None
    with np.errstate(over="ignore"):  # seen below
        weight = np.ascontiguousarray(sample_weight, dtype)
    if weight.shape != (n_samples,):
        raise DataError(f"sample_weight has shape {weight.shape}, expected ({n_samples},)")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise DataError(f"sample_weight has an entry that is negative or not finite as {dtype}, expected 0 or more")
    if not weight.any():
        raise DataError("sample_weight is 0 for every sample, expected at least one above 0")
    return weight


def check_regularization(l2: float, dropout: float) -> None:
    """SettingsError unless `l2` is 0 or more and `dropout` in [0, 1)."""
    check_number("l2", l2, 0)
    check_number("dropout", dropout, 0, 1)


def check_shapes(**arrays: tuple[np.ndarray, Sequence[int | None]]) -> None:
    """DataError unless each array has its shape; None stands for any size."""
    for name, (array, shape) in arrays.items():
        fitting = tuple(have if want is None else want for have, want in zip(array.shape, shape, strict=False))
        if array.ndim != len(shape) or array.shape != fitting:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataError(f"{name} has shape {array.shape}, expected ({wanted})")
