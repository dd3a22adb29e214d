"""What `diagnose` knows of a run: its losses, its settings, the units of its network, and its training data."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fastnn.backends import layerwise, reference
from fastnn.backends.arguments import check_inputs
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.sparse import is_sparse
from fastnn.network import ACTIVATIONS, BatchNorm, Network
from fastnn.network.layers import n_units
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import SGD, Adam
from fastnn.training.history import History
from fastnn.training.train import TrainingResult

# A layer is dying if at least this fraction of its units is dead: it does no more than a layer of half the width.
DEAD = 0.5
# From this accuracy on, of training or validation, a run is good: perhaps little is left to learn.
GOOD_ACCURACY = 0.9
_CHUNK_ROWS = 1024


@dataclass(frozen=True)
class RunFacts:
    """A run as the rules see it. What is not known is None or empty."""

    history: History
    result: TrainingResult | None = None
    network: Network | None = None
    data: Dataset | None = None
    confusion: np.ndarray | None = None  # checked, (C, C)
    for_command: bool = False  # whether the reader has the options of the command instead of Python's arguments
    loss: np.ndarray = field(init=False)  # of each epoch, (E,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "loss", self.history.column("loss"))

    # --- The run ---------------------------------------------------------------------------------------------------
    @property
    def config(self) -> TrainingConfig | None:
        """The settings of the run."""
        return None if self.result is None else self.result.config

    @property
    def diverged(self) -> bool:
        """Whether a loss or weight was not finite."""
        stopped = self.result is not None and self.result.stopped == "diverged"
        return stopped or not bool(np.isfinite(self.loss).all())

    @property
    def ran_all_epochs(self) -> bool:
        """Whether nothing but the number of epochs ended the run, as far as is known."""
        return self.result is None or self.result.stopped == "epochs"

    @property
    def kept(self) -> History:
        """The history up to the epoch whose weights were kept."""
        return self.history if self.result is None else self.history[: self.result.best_epoch]

    @property
    def is_good(self) -> bool:
        """Whether the last epoch has a good accuracy."""
        if not len(self.history) or self.diverged:
            return False
        last = self.history[-1]
        return bool(np.nanmax([last.accuracy, last.validation_accuracy, 0.0]) >= GOOD_ACCURACY)

    # --- The learning rate -----------------------------------------------------------------------------------------
    @cached_property
    def rate(self) -> float | None:
        """The highest learning rate; None for L-BFGS and for a history without epochs and settings."""
        given = None if self.config is None else self.config.learning_rate
        rates = self.history.column("learning_rate") if len(self.history) else np.array([given or np.nan], float)
        return None if np.isnan(rates).any() else float(rates.max())

    @cached_property
    def usual_rate(self) -> float | None:
        """The default learning rate of this run's optimizer, network and batch size."""
        if self.config is None or self.network is None or not isinstance(self.config.update_rule, (SGD, Adam)):
            return None
        n_samples = len(self.data) if self.data is not None else 10_000
        return self.config.replace(learning_rate=None).with_default_rate(self.n_hidden, n_samples).learning_rate  # type: ignore[return-value]

    @property
    def ratio(self) -> float:
        """The learning rate as a multiple of the usual one; 1 if either is not known."""
        return 1.0 if self.rate is None or self.usual_rate is None else self.rate / self.usual_rate

    @property
    def optimizer(self) -> str:
        """The name of the optimizer."""
        rule = None if self.config is None else self.config.update_rule
        if isinstance(rule, SGD) and rule.momentum:
            return "gradient descent with momentum"
        return type(rule).__name__ if isinstance(rule, Adam) else "gradient descent"

    @property
    def is_searched(self) -> bool:
        """Whether a search found the learning rate."""
        return self.result is not None and self.result.rate_search is not None

    # --- The network and its data ------------------------------------------------------------------------------------
    @property
    def n_hidden(self) -> int:
        """The number of hidden layers with weights."""
        return 0 if self.network is None else sum(weight.ndim > 1 for weight in self.network.weights) - 1

    @cached_property
    def guessing_loss(self) -> float | None:
        """The lowest loss that is possible without the inputs: the entropy of the class frequencies."""
        if self.network is not None and not self.network.loss.uses_labels:
            return None
        counts = self.class_counts
        if counts is None and self.confusion is not None and self.confusion.any():
            counts = self.confusion.sum(axis=1)
        if counts is None and self.network is not None:
            counts = np.ones(self.network.n_classes)
        if counts is None:
            return None
        frequencies = counts[counts > 0] / counts.sum()
        return float(-(frequencies * np.log(frequencies)).sum())

    @cached_property
    def class_counts(self) -> np.ndarray | None:
        """The number of training samples of each class, (C,)."""
        if self.data is None or self.data.labels is None or self.data.labels.ndim != 1 or not len(self.data):
            return None
        if self.data.labels.dtype.kind not in "iu":
            return None
        return np.bincount(self.data.labels, minlength=0 if self.network is None else self.network.n_outputs)

    @cached_property
    def input_sizes(self) -> np.ndarray | None:
        """The root mean square of each input column as the first layer sees it, (D,).

        None if it is not known, or if the first layer normalises its inputs.
        """
        if self.network is None or self.data is None or not len(self.data):
            return None
        if isinstance(self.network.layers[0], BatchNorm):
            return None
        rows = check_inputs(self.network, self.data.images)[: self._chunk_rows]
        inp = layerwise.forward(reference, self.network, rows)[0].inp
        with np.errstate(over="ignore"):
            squares = inp.multiply(inp).mean(axis=0) if is_sparse(inp) else np.mean(np.square(inp, dtype=float), axis=0)
        return np.sqrt(np.asarray(squares, float).ravel())

    @property
    def _chunk_rows(self) -> int:
        """The number of samples in a forward pass."""
        return _CHUNK_ROWS if self.network is None else layerwise.rows_at_once(self.network, _CHUNK_ROWS)

    @cached_property
    def largest_input(self) -> float:
        """The largest magnitude of a raw input; 0 without data."""
        if self.data is None or not len(self.data):
            return 0.0
        images = self.data.images
        values: np.ndarray = images.data if is_sparse(images) else images  # type: ignore[assignment]
        return (
            float(np.abs(values.astype(float) if values.dtype.kind in "bu" else values).max()) if values.size else 0.0
        )

    @cached_property
    def dead(self) -> dict[int, tuple[int, int]]:
        """The numbers of dead units and of units, by the number of the layer, for layers whose units can die.

        A dead unit outputs 0 for every sample; of images, a unit is a channel, and a dead one outputs 0 everywhere.
        The samples are read until no layer is dying, so the numbers of layers that are not may be too large.
        """
        if self.network is None or self.data is None:
            return {}
        network, images = self.network, check_inputs(self.network, self.data.images)
        dead = {
            number: np.ones(n_units(shape), bool)
            for number, (layer, shape) in enumerate(zip(network.layers, network.shapes[1:], strict=True), start=1)
            if ACTIVATIONS[str(layer.activation)].can_die
        }
        for first in range(0, len(self.data), self._chunk_rows):
            if not any(units.mean() >= DEAD for units in dead.values()):
                break
            with np.errstate(over="ignore", invalid="ignore"):  # a diverging run may leave huge weights
                passes = layerwise.forward(reference, network, images[first : first + self._chunk_rows])
            for number, units in dead.items():
                units &= ~passes[number - 1].active_units
        return {number: (int(units.sum()), len(units)) for number, units in dead.items()}

    @property
    def is_dying(self) -> bool:
        """Whether half of a layer or more is dead."""
        return any(count >= DEAD * units for count, units in self.dead.values())
