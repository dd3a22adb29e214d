"""`SnapshotRecorder`: keeps the weights of a run's first layer after some epochs, spread evenly over the run."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.checks import check_integer
from fastnn.errors import FileError, SettingsError
from fastnn.files.snapshot_file import METRICS, MOST_EPOCHS, Snapshots, pictures, to_bytes
from fastnn.network import Network
from fastnn.network.snapshot import Snapshot
from fastnn.training.callbacks import EpochEnd
from fastnn.training.result import TrainingResult

FEWEST = 2  # the beginning and the end
_LOGGER = logging.getLogger("fastnn")


class SnapshotRecorder:
    """A callback of `fastnn.train`, which writes what it has kept when the run ends.

    Epochs whose number is a multiple of a step are kept, and the newest. When they are too many, the step doubles: so
    they are spread evenly, however many epochs there will be. What is kept depends on the numbers of epochs alone, so a
    resumed run keeps what one that never stopped keeps.

    Parameters
    ----------
    network : Network
        The initial network, which is epoch 0.
    image_shape : (int, int), or None
        That of the inputs.
    most : int
        The largest number of snapshots, from 2 to 1,000.
    epochs : int or None
        The number of epochs if it is known, which sets the first step; None: the first step is 1.
    write : function of bytes
        Writes the content of the file, see `fastnn.files.snapshot_file`. If it raises FileError, a warning says so.
    """

    def __init__(
        self,
        network: Network,
        image_shape: tuple[int, int] | None,
        most: int,
        epochs: int | None,
        write: Callable[[bytes], object],
    ) -> None:
        self._most = check_integer("--snapshots", most, FEWEST, MOST_EPOCHS)
        self._image_shape, self._write = image_shape, write
        self._step = 1 if epochs is None else max(1, -(-epochs // (self._most - 1)))
        self._kind, first = pictures(network, image_shape)
        self._epochs, self._metrics = [0], [[np.nan] * len(METRICS)]
        # Pictures, or that of which they are made when they are needed: the newest may be dropped before that.
        self._pictures: list[np.ndarray | Snapshot] = [first]

    def __call__(self, end: EpochEnd) -> None:
        """Keep the network after this epoch, and let go of those that are too many."""
        self._keep(lambda epoch: epoch % self._step == 0)
        if isinstance(self._pictures[-1], Snapshot):  # it stays
            self._pictures[-1] = self._pictures_of(self._pictures[-1])
        epoch = end.record.epoch
        self._epochs.append(epoch)
        self._pictures.append(end.snapshot)
        self._metrics.append([float(getattr(end.record, name)) for name in METRICS])
        while len(self._epochs) > self._most:
            self._step *= 2
            self._keep(lambda each: each % self._step == 0 or each == epoch)

    def ended(self, result: TrainingResult) -> None:
        """Write the file, if there is a whole epoch."""
        if not len(result.history):
            return
        try:
            self._write(to_bytes(self.snapshots()))
        except (FileError, MemoryError) as error:
            _LOGGER.warning("the snapshots are not saved: %s", error or "out of memory")

    def snapshots(self) -> Snapshots:
        """Return what is kept."""
        weights = [self._pictures_of(each) for each in self._pictures]
        self._pictures = list(weights)
        return Snapshots(
            self._kind, np.array(self._epochs, np.int64), np.stack(weights), np.array(self._metrics, np.float64)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, for a checkpoint."""
        _, epochs, weights, metrics = self.snapshots()
        return {"step": self._step, "most": self._most, "epochs": epochs, "weights": weights, "metrics": metrics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of a checkpoint; SettingsError if it is that of other snapshots."""
        expected = {"step", "most", "epochs", "weights", "metrics"}
        if state.keys() != expected or state["most"] != self._most:
            found = state.get("most")
            raise SettingsError(f"--snapshots is {self._most}, expected {found} as in the run that goes on")
        weights = np.asarray(state["weights"], np.float32)
        if weights.shape[1:] != self._pictures_of(self._pictures[0]).shape or not len(weights):
            raise SettingsError("the snapshots of the checkpoint are those of another network")
        self._step = int(state["step"])
        self._epochs = [int(epoch) for epoch in state["epochs"]]
        self._metrics = [list(map(float, row)) for row in state["metrics"]]
        self._pictures = list(weights)

    def _pictures_of(self, kept: np.ndarray | Snapshot) -> np.ndarray:
        return pictures(kept.network, self._image_shape)[1] if isinstance(kept, Snapshot) else kept

    def _keep(self, stays: Callable[[int], bool]) -> None:
        rows = [number for number, epoch in enumerate(self._epochs) if stays(epoch)]
        self._epochs = [self._epochs[row] for row in rows]
        self._pictures = [self._pictures[row] for row in rows]
        self._metrics = [self._metrics[row] for row in rows]
