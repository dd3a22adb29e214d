"""The contract of a backend: every operation, with its shapes. Each backend is a module with these functions.

Dimensions: B samples in a batch, N samples in the data set, D inputs, H units, C classes or outputs. Inputs may be
uint8, float32 or float64. Weights are float32 or float64, and results have the dtype of the weights. Both backends
check shapes with the `check_*` functions of this module.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastnn.datasets.arrays import as_array
from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.interruptible import interruptible
from fastnn.memory import check_training_memory
from fastnn.network import Network
from fastnn.optim.config import LossConfig, TrainingConfig
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
        The number of correctly classified samples; 0 for "identity" outputs.
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
        outputs are correct. NaN for "identity" outputs, and if a batch failed.
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


class TrainerState(NamedTuple):
    """The state that a new trainer needs, besides the network, to continue where another stopped.

    Attributes
    ----------
    slots : tuple of (list of ndarray, list of ndarray)
        The optimizer's arrays. Each slot has one array per weight and one per bias, of the same shape.
    steps : int
        The number of updates so far.
    epochs : int
        The number of whole epochs so far.
    sums : EpochSums
        The part of the next epoch that has run; no batches between two epochs.
    """

    slots: tuple[tuple[list[np.ndarray], list[np.ndarray]], ...]
    steps: int
    epochs: int
    sums: EpochSums = EpochSums()


class TrainingData(NamedTuple):
    """Data that `check_data` has checked."""

    inputs: Any  # an array or a SciPy CSR matrix, (N, D), as `check_inputs` returns them
    targets: np.ndarray  # labels, (N,) int64, or numbers, (N, C), in the network's dtype; a copy of the caller's
    sample_weight: np.ndarray | None  # (N,), in the network's dtype; a copy of the caller's

    @property
    def weight(self) -> float:
        """The sum of the sample weights; without weights, the number of samples."""
        if self.sample_weight is None:
            return float(self.inputs.shape[0])
        return float(self.sample_weight.sum(dtype=np.float64))

    def take(self, rows: np.ndarray) -> "TrainingData":
        """Return the data of these rows."""
        weight = None if self.sample_weight is None else self.sample_weight[rows]
        inputs = interruptible(self.inputs.__getitem__, rows, work=len(rows) * self.inputs.shape[1])
        return TrainingData(inputs, self.targets[rows], weight)


# A function of weights and biases that returns the loss and its gradients.
Objective = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], LossAndGradients]


class Trainer(Protocol):
    """A network laid out for training, with its data and the optimizer's state."""

    def prepare(self, n_rows: int, batch_size: int) -> None:
        """Do the one-time work before epochs of `n_rows` rows in batches of `batch_size`, such as compiling kernels.

        Calling it is optional: `run_epoch` does the same work when it is needed.
        """
        ...

    def run_epoch(
        self, order: np.ndarray, batch_size: int, learning_rate: float, batches: range | None = None
    ) -> EpochResult:
        """Train for one epoch on the rows `order`, (n,) int64, in this order.

        The last batch may be shorter than `batch_size`. `failed_batch` of the result is set if the run diverged.

        batches: the numbers of consecutive batches, from 0: only these, which must begin where the call before ended.
            The result is that of the epoch so far. An epoch in parts has the same bits as in one call. None: all, from
            the first batch that has not run yet.
        """
        ...

    def network(self) -> Network:
        """Return a copy of the current network, as plain arrays; SettingsError if a weight or bias is not finite."""
        ...

    def state(self) -> TrainerState:
        """Return a copy of the optimizer's current state."""
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

    # --- Networks -----------------------------------------------------------------------------------------------------
    def predict_logits(self, network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the weighted sums of the last layer, (B, C); `inp` may be a SciPy CSR matrix."""
        ...

    def predict_proba(self, network: Network, inp: np.ndarray, threads: int | None = None) -> np.ndarray:
        """Return the outputs, (B, C): probabilities, or numbers for an "identity" output. `inp` as above."""
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
        """Return `loss_and_gradients` on all the data as a function of weights and biases, for L-BFGS.

        network: gives the layers and the output; its weights are not used
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


MeanLoss = Callable[..., tuple[float, np.ndarray]]


def named_losses(mean_loss: MeanLoss) -> tuple[MeanLoss, MeanLoss, MeanLoss]:
    """Return the losses of the three outputs by their names in the field, from the `mean_loss` of a backend."""

    def softmax_cross_entropy(
        logits: np.ndarray, labels: np.ndarray, sample_weight: np.ndarray | None = None, smoothing: float = 0.0
    ) -> tuple[float, np.ndarray]:
        """Return the mean of ``-log(probability of the label)``, and its gradient."""
        check_shapes(logits=(logits, (None, None)))
        return mean_loss("softmax", logits, check_labels(labels, *logits.shape), sample_weight, smoothing)

    def logistic_cross_entropy(
        logits: np.ndarray, targets: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """Return the mean binary cross-entropy, summed over a row's outputs, and its gradient."""
        check_shapes(logits=(logits, (None, None)))
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


# The dtypes, in native byte order, that the backends use without conversion.
_WORKING_DTYPES = frozenset(map(np.dtype, (np.uint8, np.float32, np.float64)))
_LARGEST = {np.dtype(each): float(np.finfo(each).max) for each in (np.float32, np.float64)}
# The number of values to check at a time, which stay in the cache between two passes over them.
_FEW_VALUES = 16384


def check_data(
    network: Network, inp: Any, targets: Any, sample_weight: Any = None, config: LossConfig | None = None
) -> TrainingData:
    """Return the data of a training run in the forms that backends use.

    Raises DataError unless `check_inputs`, `check_targets` and `check_sample_weight` accept them, and SettingsError
    unless the settings fit the network.
    """
    inputs = check_inputs(network, inp)
    n_samples = inputs.shape[0]
    if config is not None:
        check_config(network, config, n_samples)
    targets = check_targets(network, targets, n_samples)
    return TrainingData(inputs, targets, check_sample_weight(sample_weight, n_samples, network.dtype))


def check_run(
    network: Network, inp: Any, targets: Any, sample_weight: Any, settings: dict[str, Any]
) -> tuple[TrainingData, TrainingConfig]:
    """Return the checked data and settings of `Backend.trainer`."""
    config = TrainingConfig.from_settings({"batch_size": None, **settings})
    if not isinstance(config.update_rule, Optimizer):
        raise SettingsError(f"optimizer is {config.update_rule}, expected one that updates by batches, such as SGD()")
    return check_data(network, inp, targets, sample_weight, config), config


def check_config(network: Network, config: LossConfig, n_samples: int) -> None:
    """Raise SettingsError unless the settings fit the network and the number of samples, and the run the memory."""
    if config.label_smoothing and not network.loss.uses_labels:
        raise SettingsError(
            f"label_smoothing is {config.label_smoothing}, expected 0 for {network}: only softmax outputs have labels"
        )
    if isinstance(config, TrainingConfig):
        for layer in network.layers:
            layer.check_batch(min(config.batch_size or n_samples, n_samples))
        rule, itemsize = config.update_rule, network.dtype.itemsize
        named = f"the arrays to train {network} with {rule}"
        check_training_memory(network.n_parameters, itemsize, rule.state_bytes(itemsize), named)


def check_inputs(network: Network, inp: Any) -> Any:
    """Return `inp` in a form that the backends accept; standardised, if the network standardises its inputs.

    Raises DataError unless `inp` has shape (B, D), with the network's D, and real numbers. Arrays stay arrays. Sparse
    matrices become canonical CSR matrices of SciPy and are never made dense.
    """
    sparse = False
    if type(inp) is not np.ndarray:  # plain arrays skip this: predicting one row takes only microseconds
        sparse = is_sparse(inp)
        inp = inp if sparse else as_array(inp, "inputs")
    if inp.dtype.kind not in "buif":
        raise DataError(f"inputs have dtype {inp.dtype}, expected numbers")
    if inp.ndim != 2 or inp.shape[1] != network.n_inputs:
        raise DataError(f"inputs have shape {inp.shape}, expected (samples, {network.n_inputs}) for {network}")
    if not sparse:
        if network.standardization is not None:
            return network.standardization.apply(inp, network.dtype)
        return working_inputs(inp)
    if not network.layers[0].accepts_sparse:
        raise DataError(f"inputs are a sparse matrix, expected an array for the first layer of {network}")
    inp = interruptible(canonical, inp, work=4 * inp.nnz)
    if network.standardization is not None:
        return network.standardization.apply(inp, network.dtype)
    data = working_inputs(inp.data)
    return inp if data is inp.data else type(inp)((data, inp.indices, inp.indptr), shape=inp.shape)


def check_finite_inputs(network: Network, inp: Any) -> Any:
    """Return what `check_inputs` returns; DataError, with the place, unless it is finite in the network's dtype.

    A finite float64 number can be infinite in float32. Training would diverge, and a prediction would be NaN.
    """
    inputs = check_inputs(network, inp)
    if not are_finite(inputs.data if is_sparse(inputs) else inputs, network.dtype):
        raise _not_finite(canonical(inp) if is_sparse(inp) else inp, inputs, network.dtype)
    return inputs


def are_finite(values: np.ndarray, dtype: np.dtype) -> bool:
    """Return whether all values are finite numbers of a floating-point dtype, to which a kernel will convert them."""
    if values.dtype.kind != "f" or not values.size:
        return True
    limit = _LARGEST[dtype] if values.dtype.itemsize > dtype.itemsize else None
    flat = values.reshape(-1) if values.flags.c_contiguous else np.ravel(values)
    for start in range(0, flat.size, _FEW_VALUES):
        part = flat[start : start + _FEW_VALUES]
        # Minimum and maximum are NaN if a value is.
        if not (np.isfinite(part).all() if limit is None else part.min() >= -limit and part.max() <= limit):
            return False
    return True


def _not_finite(raw: Any, inp: Any, dtype: np.dtype) -> DataError:
    """Return the error that names the first input that is not finite, or not after the conversion to `dtype`.

    raw: the inputs as they were given
    inp: the same after the conversion to a working dtype, and standardised
    """
    with np.errstate(over="ignore"):
        if is_sparse(inp):
            rows = inp.tocoo()
            at = int(np.isfinite(rows.data.astype(dtype)).argmin())
            row, column = int(rows.row[at]), int(rows.col[at])
        else:
            row, column = divmod(int(np.isfinite(inp.astype(dtype)).argmin()), inp.shape[1])
    value = raw[row, column]
    where = f"{value:g} in row {row}, column {column} (from 0)"
    if np.isfinite(value):
        return DataError(
            f"inputs contain {where}, too large for {dtype}, expected at most {_LARGEST[dtype]:.3g}; scale it"
        )
    return DataError(f"inputs contain NaN or infinity, such as {where}, expected finite numbers")


def working_inputs(inp: np.ndarray) -> np.ndarray:
    """Return `inp` itself if it is C-contiguous uint8, float32 or float64 in native byte order, else a copy that is.

    bool becomes uint8 and float16 becomes float32. Every other dtype becomes float64, which represents it best.
    """
    if inp.dtype in _WORKING_DTYPES and inp.flags.c_contiguous:
        return inp
    dtypes = {"bool": np.uint8, "float16": np.float32, "uint8": np.uint8, "float32": np.float32}
    dtype = dtypes.get(inp.dtype.newbyteorder("=").name, np.float64)
    return interruptible(np.ascontiguousarray, inp, dtype, work=2 * inp.size)


def check_targets(network: Network, targets: np.ndarray, n_samples: int) -> np.ndarray:
    """Return a copy of `targets` in the form that the network's loss uses.

    Softmax outputs use labels, which `check_labels` checks. Other outputs use numbers of shape (n_samples, C) in the
    network's dtype. Raises DataError unless they are finite, and from 0 to 1 for logistic outputs.
    """
    loss = network.loss
    if loss.uses_labels:
        return check_labels(targets, n_samples, network.n_classes)
    targets = as_array(targets, "targets")
    if targets.shape == (n_samples,) and network.n_outputs == 1:
        targets = targets[:, None]
    if targets.shape != (n_samples, network.n_outputs) or targets.dtype.kind not in "buif":
        raise DataError(
            f"targets have shape {targets.shape}, dtype {targets.dtype}, expected numbers ({n_samples}, "
            f"{network.n_outputs}) for {network}"
        )
    with np.errstate(over="ignore"):  # the check below finds overflow
        targets = np.array(targets, network.dtype, order="C")
    if not np.isfinite(targets).all():
        raise DataError(f"targets contain NaN, infinity or a value too large for {network.dtype}")
    low, high = loss.target_range
    if not ((targets >= low) & (targets <= high)).all():
        raise DataError(
            f"targets run from {targets.min():g} to {targets.max():g}, expected {low} to {high} for {network}"
        )
    return targets


def check_labels(labels: np.ndarray, n_samples: int, n_classes: int) -> np.ndarray:
    """Return a copy of `labels` as int64, shape (n_samples,).

    Raises DataError unless they are integers from 0 to n_classes - 1. The copy is what is checked: a kernel writes
    where a label says, and the caller's array may change at any time.
    """
    labels = as_array(labels, "labels")
    if labels.shape != (n_samples,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels have shape {labels.shape}, dtype {labels.dtype}, expected ({n_samples},) whole numbers"
        )
    own = np.array(labels, np.int64)  # a number beyond int64 becomes negative
    if len(own) and not (own.min() >= 0 and own.max() < n_classes):
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1} for {n_classes} classes"
        )
    return own


def check_sample_weight(sample_weight: Any, n_samples: int, dtype: np.dtype) -> np.ndarray | None:
    """Return a copy of `sample_weight` as `dtype`, shape (n_samples,), or None.

    Raises DataError unless every weight is finite and 0 or more, and at least one is above 0.
    """
    if sample_weight is None:
        return None
    given = as_array(sample_weight, "sample_weight")
    if given.shape != (n_samples,) or given.dtype.kind not in "buif":
        raise DataError(f"sample_weight has shape {given.shape}, dtype {given.dtype}, expected ({n_samples},) numbers")
    with np.errstate(over="ignore"):  # the check below finds overflow
        weight = np.array(given, dtype, order="C")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise DataError(f"sample_weight has an entry that is negative or not finite as {dtype}, expected 0 or more")
    if not weight.any():
        raise DataError("sample_weight is 0 for every sample, expected at least one above 0")
    return weight


def check_shapes(**arrays: tuple[np.ndarray, Sequence[int | None]]) -> None:
    """Raise DataError unless each is an array of numbers with its expected shape; None matches any size."""
    check_numbers(**{name: array for name, (array, _) in arrays.items()})
    for name, (array, shape) in arrays.items():
        fitting = tuple(have if want is None else want for have, want in zip(array.shape, shape, strict=False))
        if array.ndim != len(shape) or array.shape != fitting:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise DataError(f"{name} has shape {array.shape}, expected ({wanted})")


def check_numbers(**arrays: Any) -> None:
    """Raise DataError unless each is an array, or a sparse matrix, of real numbers.

    A `numpy.matrix` multiplies where arrays work element by element, and the mask of a masked array would be lost: both
    are refused.
    """
    for name, array in arrays.items():
        if not hasattr(array, "dtype") or isinstance(array, (np.matrix, np.ma.MaskedArray, np.generic)):
            raise DataError(f"{name} is a {type(array).__name__}, expected an array")
        if array.dtype.kind not in "buif":
            raise DataError(f"{name} has dtype {array.dtype}, expected numbers")
