"""`SnapshotRecorder`: keeps the weights of a run's first layer after some epochs, spread evenly over the run."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

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
        self._kept = [_Kept(0, first, (np.nan,) * len(METRICS))]

    def __call__(self, end: EpochEnd) -> None:
        """Keep the network after this epoch, and let go of those that are too many."""
        newest, epoch = self._kept[-1], end.record.epoch
        if newest.epoch % self._step:
            self._kept.pop()
        else:
            self._kept[-1] = self._with_pictures(newest)
        metrics = tuple(float(getattr(end.record, name)) for name in METRICS)
        self._kept.append(_Kept(epoch, end.snapshot, metrics))
        while len(self._kept) > self._most:
            self._step *= 2
            self._kept = [each for each in self._kept if each.epoch % self._step == 0 or each.epoch == epoch]

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
        self._kept = [self._with_pictures(each) for each in self._kept]
        epochs, weights, metrics = zip(*self._kept, strict=True)
        return Snapshots(self._kind, np.array(epochs, np.int64), np.stack(weights), np.array(metrics, np.float64))

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
        if weights.shape[1:] != self.snapshots().weights.shape[1:] or not len(weights):
            raise SettingsError("the snapshots of the checkpoint are those of another network")
        self._step = int(state["step"])
        rows = zip(state["epochs"], weights, state["metrics"], strict=True)
        self._kept = [_Kept(int(epoch), images, tuple(map(float, metrics))) for epoch, images, metrics in rows]

    def _with_pictures(self, kept: "_Kept") -> "_Kept":
        if isinstance(kept.weights, Snapshot):
            return kept._replace(weights=pictures(kept.weights.network, self._image_shape)[1])
        return kept


class _Kept(NamedTuple):
    """An epoch that is kept.

    weights: the pictures, or that of which they are made when they are needed: the newest epoch may not stay
    metrics: those of `METRICS`
    """

    epoch: int
    weights: np.ndarray | Snapshot
    metrics: tuple[float, ...]
