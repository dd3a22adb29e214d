"""The contract of a backend: every operation, with its shapes. Each backend is a module with these functions.

Dimensions: B samples in a batch, N samples in the data set, D inputs, H units, C classes or outputs. Inputs may be
uint8, float32 or float64. Weights are float32 or float64, and results have the dtype of the weights. Both backends
check what they are given with the functions of `arguments.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn.backends.arguments import TrainingData, check_labels, check_logits, check_shapes
from fastnn.network import Network
from fastnn.network.layers.windows import Pair
from fastnn.network.snapshot import Snapshot
from fastnn.optim.augmentation import Distortion
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import Optimizer


class LossAndGradients(NamedTuple):
    """The loss of a batch and its gradients.

    Attributes
    ----------
    loss : float
        The mean loss plus the L2 term.
    dweights, dbiases : list of ndarray
        The gradient of each weight and each bias, in their shapes.
    n_correct : int
        The number of correctly classified samples; 0 for outputs that are numbers.
    statistics : tuple of ndarray
        The statistics of the batch, in the order of `Network.statistics`.
    """

    loss: float
    dweights: list[np.ndarray]
    dbiases: list[np.ndarray]
    n_correct: int
    statistics: tuple[np.ndarray, ...] = ()


class EpochResult(NamedTuple):
    """The loss and accuracy of one training epoch.

    Attributes
    ----------
    loss : float
        The mean of the batch losses over the epoch's samples. Each loss is that of the weights before the batch's step.
        Batches whose samples all have weight 0 are left out. The loss is not finite if a batch failed.
    accuracy : float
        The fraction of correctly classified samples, with the same weights. A multilabel sample is correct if all its
        outputs are correct. NaN for outputs that are numbers, and if a batch failed.
    failed_batch : int or None
        The number of the first batch whose loss was not finite, counted from 0; the epoch ended there. None if every
        loss was finite.
    """

    loss: float
    accuracy: float
    failed_batch: int | None = None


class EpochSums(NamedTuple):
    """What an epoch has summed so far.

    Attributes
    ----------
    batches : int
        The number of batches so far.
    loss : float
        The sum of their losses, each times its number of samples.
    counted : int
        The number of samples in `loss`; batches whose sample weights are all 0 are left out.
    correct : int
        The number of correctly classified samples.
    """

    batches: int = 0
    loss: float = 0.0
    counted: int = 0
    correct: int = 0

    def with_batch(self, loss: float, n_rows: int, weight: float, n_correct: int) -> "EpochSums":
        """Return the sums with those of one more batch. `weight` is the sum of its sample weights."""
        batches, losses, counted, correct = self
        if weight > 0:
            losses, counted = losses + loss * n_rows, counted + n_rows
        return EpochSums(batches + 1, losses, counted, correct + n_correct)

    def result(self, network: Network, n_rows: int, batch_size: int) -> EpochResult:
        """Return the result of the epoch so far, which has `n_rows` rows in all."""
        accuracy = network.loss.accuracy(self.correct, min(n_rows, self.batches * batch_size))
        return EpochResult(self.loss / max(1, self.counted), accuracy)


class TrainerState(NamedTuple):
    """The state that a new trainer needs, besides the network, to continue where another stopped.

    Attributes
    ----------
    slots : tuple of (list of ndarray, list of ndarray)
        The optimizer's arrays. Each slot has one array per weight and one per bias, of the same shape. If the network
        is an average of weights, one more slot has the weights with which the optimizer goes on.
    steps : int
        The number of updates so far.
    epochs : int
        The number of whole epochs so far.
    sums : EpochSums
        The part of the next epoch that has run; no batches between two epochs.
    backend : str
        The backend that has trained so far, "numba" or "numpy"; "" if it does not matter.
    statistics : tuple of ndarray
        If the network is an average of weights, the statistics of the optimizer's own weights, in the order of
        `Network.statistics`.
    """

    slots: tuple[tuple[list[np.ndarray], list[np.ndarray]], ...]
    steps: int
    epochs: int
    sums: EpochSums = EpochSums()
    backend: str = ""
    statistics: tuple[np.ndarray, ...] = ()


class Objective(Protocol):
    """The loss of all the data as a function of one vector of all weights and biases, in the objective's own order.

    Attributes
    ----------
    start : ndarray of shape (P,), float64
        The vector of the network that the objective was made for. P may exceed the number of parameters; the elements
        that are no parameters are 0, and so are their gradients.
    n_correct : int
        The number of samples that the last evaluation classified correctly; 0 for "identity" outputs.
    """

    start: np.ndarray
    n_correct: int

    def evaluate(self, at: np.ndarray, gradient: np.ndarray) -> float:
        """Return the loss at a vector, (P,) float64, and write its gradient into `gradient`, likewise.

        Weights are rounded to the network's dtype. The loss or the gradient is not finite if it is too large. The loss
        is NaN, and the gradient undefined, if a weight is too large for this dtype.
        """
        ...

    def snapshot(self, at: np.ndarray) -> Snapshot:
        """Return the network at a vector, with the statistics of the last evaluation.

        The network is made when it is first needed; until then, the vector must not change.
        """
        ...


class Trainer(Protocol):
    """A network laid out for training, with its data and the optimizer's state."""

    def prepare(self, n_rows: int, batch_size: int) -> None:
        """Do the one-time work before epochs of `n_rows` rows in batches of `batch_size`, such as compiling kernels.

        Calling it is optional: `run_epoch` does the same work when it is needed.
        """
        ...

    def run_epoch(
        self,
        order: np.ndarray,
        batch_size: int,
        learning_rate: float,
        batches: range | None = None,
        n_rows: int | None = None,
    ) -> EpochResult:
        """Train for one epoch on the rows `order`, (n,) int64, in this order.

        The last batch may be shorter than `batch_size`. `failed_batch` of the result is set if the run diverged. The
        errors are those of `check_order`.

        batches: the numbers of consecutive batches, from 0: only these, which must begin where the call before ended.
            The result is that of the epoch so far. An epoch in parts has the same bits as in one call. None: all, from
            the first batch that has not run yet.
        n_rows: the number of rows of the whole epoch, if `order` has those of `batches` only. None: it has all.
        """
        ...

    def network(self) -> Network:
        """Return a copy of the current network, as plain arrays; SettingsError if a weight or bias is not finite.

        With the setting `average`, it is the average of the weights, as soon as there is one.
        """
        ...

    def snapshot(self) -> Snapshot:
        """Return the current network for later: `network`, but made only when it is needed; the same errors."""
        ...

    def state(self) -> TrainerState:
        """Return a copy of the optimizer's current state."""
        ...

    def state_for_later(self) -> Callable[[], TrainerState]:
        """Return a function that returns `state` as it is now."""
        ...

    def average_epoch(self, share: float) -> None:
        """Move the average of the weights towards them by this share of the distance, from 0 to 1.

        1: the average is the weights. 0: there is no average, and the network is that of the optimizer.
        """
        ...

    def move_to(self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> None:
        """Replace the network's weights and biases, whose shapes stay."""
        ...

    def replace_data(self, data: TrainingData, alike: bool = False) -> None:
        """Train on other data from the next call of `run_epoch` on; the optimizer's state goes on.

        alike: whether the data are another part of what the trainer has trained on. They are then in the same form for
            the kernels, which is not chosen again. The data must have the dtypes of those before.
        """
        ...

    def release_data(self) -> None:
        """Let go of the data; `replace_data` comes before the next epoch."""
        ...


class Backend(Protocol):
    """The functions of a backend module.

    Every function raises DataError if the shapes do not match or a label, target or sample weight is out of range, and
    SettingsError if a setting is. A `sample_weight` (B,) is the weight of each sample in a mean; None: all equal.
    `targets` are labels (B,) for a softmax output, else numbers (B, C). `threads` is the maximum number of threads;
    None: the number of cores this process may use. The NumPy backend ignores it.
    """

    @property
    def __name__(self) -> str: ...

    # --- Activations and losses ---------------------------------------------------------------------------------------
    def activate(self, inp: np.ndarray, activation: str) -> np.ndarray:
        """Apply an activation of `fastnn.network.activations.ACTIVATIONS` to each element; may return `inp` itself."""
        ...

    def activate_backward(self, dout: np.ndarray, inp: np.ndarray, out: np.ndarray, activation: str) -> np.ndarray:
        """Return the gradient of the input of `activate`, given its input, its output and the gradient of that."""
        ...

    def relu(self, inp: np.ndarray) -> np.ndarray:
        """Return ``max(inp, 0)``; NaN stays NaN."""
        ...

    def relu_backward(self, dout: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return `dout` where `out`, the output of `relu`, is above 0, else 0."""
        ...

    def softmax(self, logits: np.ndarray) -> np.ndarray:
        """Return class probabilities, (B, C); each row sums to 1."""
        ...

    # Made by `named_losses`: functions of (logits, labels or targets, sample_weight), of softmax also of `smoothing`.
    softmax_cross_entropy: "MeanLoss"
    logistic_cross_entropy: "MeanLoss"
    squared_error: "MeanLoss"

    def mean_loss(
        self, output: str, logits: np.ndarray, targets: np.ndarray, sample_weight: Any = None, smoothing: float = 0.0
    ) -> tuple[float, np.ndarray]:
        """Return the mean loss that belongs to an output in `fastnn.network.losses.LOSSES`, and its gradient.

        targets: as `check_targets` returns them
        smoothing: the fraction of each label that is spread over all classes, from 0 to below 1
        """
        ...

    # --- Layers -------------------------------------------------------------------------------------------------------
    def matmul(self, inp: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return ``inp @ weight``, (B, H), in the dtype of `weight`."""
        ...

    def dense_forward(self, inp: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """Return the weighted sums ``inp @ weight + bias``, (B, H); `inp` may be a SciPy CSR matrix."""
        ...

    def dense_backward(
        self, dsums: np.ndarray, inp: np.ndarray, weight: np.ndarray, needs_dinp: bool = True
    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """Return the gradients of a dense layer's input (None unless `needs_dinp`), weight and bias.

        dsums: (B, H), the gradient of the weighted sums
        """
        ...

    def batch_norm(
        self,
        inp: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
        mean: np.ndarray,
        variance: np.ndarray,
        epsilon: float,
    ) -> np.ndarray:
        """Return ``weight * (inp - mean) / sqrt(variance + epsilon) + bias``, (B, H). The arrays but `inp` are (H,)."""
        ...

    def batch_norm_forward(
        self, inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `batch_norm` with the batch's own mean and variance (divided by B), and these two, (H,)."""
        ...

    def batch_norm_backward(
        self,
        dout: np.ndarray,
        inp: np.ndarray,
        weight: np.ndarray,
        mean: np.ndarray,
        variance: np.ndarray,
        epsilon: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the gradients of the input, (B, H), the weight and the bias of `batch_norm_forward`."""
        ...

    # --- Images -------------------------------------------------------------------------------------------------------
    # B samples of C channels, height H and width W; O output channels, a kernel of KH x KW, and OH x OW places, as
    # `fastnn.network.layers.windows.window_grid` counts them. `stride`, `padding` and `size` are (height, width).
    def conv_forward(
        self, inp: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair
    ) -> np.ndarray:
        """Return the convolution, (B, O, OH, OW), of `inp` (B, C, H, W) with `weight` (C, KH, KW, O), plus `bias`."""
        ...

    def conv_backward(
        self,
        dsums: np.ndarray,
        inp: np.ndarray,
        weight: np.ndarray,
        stride: Pair,
        padding: Pair,
        needs_dinp: bool = True,
    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
        """Return the gradients of a convolution's input (None unless `needs_dinp`), weight and bias.

        dsums: (B, O, OH, OW), the gradient of the result
        """
        ...

    def max_pool(self, inp: np.ndarray, size: Pair, stride: Pair, padding: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Return the largest number of each window, (B, C, OH, OW), and its tap, (B, C, OH, OW) int32.

        The tap (k, l) of a window is ``KW * k + l``. Of equal numbers, the first tap counts; NaN is the largest.
        """
        ...

    def max_pool_backward(
        self, dout: np.ndarray, taps: np.ndarray, shape: Sequence[int], size: Pair, stride: Pair, padding: Pair
    ) -> np.ndarray:
        """Return the gradient of the input of `max_pool`, (B, C, H, W), which is `shape`.

        dout: (B, C, OH, OW), the gradient of the maxima
        taps: as `max_pool` returned them
        """
        ...

    def avg_pool(self, inp: np.ndarray, size: Pair, stride: Pair, padding: Pair) -> np.ndarray:
        """Return the mean of each window, (B, C, OH, OW), padding included as zeros."""
        ...

    def avg_pool_backward(
        self, dout: np.ndarray, shape: Sequence[int], size: Pair, stride: Pair, padding: Pair
    ) -> np.ndarray:
        """Return the gradient of the input of `avg_pool`, (B, C, H, W), which is `shape`; `dout`: (B, C, OH, OW)."""
        ...

    def distort(
        self, images: np.ndarray, rows: np.ndarray, distortion: Distortion, threads: int | None = None
    ) -> np.ndarray:
        """Return distorted images, (B, H * W), in the dtype of `images`. Both backends return the same bits.

        images: (N, H * W), uint8, float32 or float64; an image of uint8 is computed in float32
        rows: (B,), integers, the images to distort
        distortion: what happens to each of these, (B,)
        """
        ...

    # --- Networks -----------------------------------------------------------------------------------------------------
    def predict_logits(
        self, network: Network, inp: np.ndarray, threads: int | None = None, check_finite: bool = False
    ) -> np.ndarray:
        """Return the weighted sums of the last layer, (B, C); `inp` may be a SciPy CSR matrix.

        check_finite: whether to raise DataError, as `check_finite_inputs` does, if an input is not finite
        """
        ...

    def predict_proba(
        self, network: Network, inp: np.ndarray, threads: int | None = None, check_finite: bool = False
    ) -> np.ndarray:
        """Return the outputs, (B, C): probabilities, or numbers. `inp` as above."""
        ...

    def loss_and_gradients(
        self, network: Network, inp: Any, targets: Any, *, sample_weight: Any = None, epoch: int = 0, **settings: Any
    ) -> LossAndGradients:
        """Return the loss of a batch in training, and its gradients.

        The loss is the mean loss of the output + l2 / 2 * (sum of squared weights). Biases are not penalised.

        epoch: determines the dropout masks, with the seed: the batch gets those of samples 0 to B - 1 in this epoch
        settings: those of `LossConfig`: `l2`, `divide_l2`, `dropout`, `label_smoothing` and `seed`
        """
        ...

    def objective(self, network: Network, data: TrainingData, config: TrainingConfig) -> Objective:
        """Return `loss_and_gradients` on all the data as a function of the network's parameters, for L-BFGS.

        data: the result of `check_data`
        """
        ...

    def trainer(
        self,
        network: Network,
        images: np.ndarray,
        targets: np.ndarray,
        optimizer: str | Optimizer = "sgd",
        *,
        sample_weight: np.ndarray | None = None,
        state: TrainerState | None = None,
        **settings: Any,
    ) -> Trainer:
        """Return a trainer with the network and the data laid out for training.

        network: copied
        images: (N, D), an array or a SciPy CSR matrix; the values are not copied
        targets, sample_weight: copied
        state: the state to continue from; None: a new run
        settings: those of `TrainingConfig` that the loop over epochs does not use: `l2`, `divide_l2`, `dropout`,
            `label_smoothing`, `seed` and `threads`
        """
        ...

    def new_trainer(
        self, network: Network, data: TrainingData, config: TrainingConfig, state: TrainerState | None = None
    ) -> Trainer:
        """Return `trainer` for data that `check_data` has checked, with all settings in one object."""
        ...

    def slice_engine(self, network: Network, data: TrainingData, config: TrainingConfig) -> Any:
        """Return the `SliceEngine` with which `fastnn.backends.slices.SlicedTrainer` trains, for the same data."""
        ...


MeanLoss = Callable[..., tuple[float, np.ndarray]]


def named_losses(mean_loss: MeanLoss) -> tuple[MeanLoss, MeanLoss, MeanLoss]:
    """Return the losses of the three outputs by their names in the field, from the `mean_loss` of a backend."""

    def softmax_cross_entropy(
        logits: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None, smoothing: float = 0.0
    ) -> tuple[float, np.ndarray]:
        """Return the mean of ``-log(probability of the label)``, and its gradient."""
        check_logits(logits)
        return mean_loss("softmax", logits, check_labels(labels, *logits.shape), sample_weight, smoothing)

    def logistic_cross_entropy(
        logits: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Return the mean binary cross-entropy, summed over a row's outputs, and its gradient."""
        check_logits(logits)
        check_shapes(targets=(targets, logits.shape))
        return mean_loss("logistic", logits, targets, sample_weight)

    def squared_error(
        outs: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Return the mean of half the squared errors, summed over a row's outputs, and its gradient."""
        check_shapes(outs=(outs, (None, None)))
        check_shapes(targets=(targets, outs.shape))
        return mean_loss("identity", outs, targets, sample_weight)

    return softmax_cross_entropy, logistic_cross_entropy, squared_error
