"""Training on inputs that are drawn anew for each epoch, a part of the rows at a time.

Only the drawn inputs of a part are in memory: no copy of the data set is made. A part is drawn by all threads, and then
trained on by all threads, because a thread that drew the next part meanwhile would only take a core from the others.
"""

import numpy as np

from fastnn.backends.arguments import TrainingData
from fastnn.backends.base import EpochResult
from fastnn.training.augmented import AugmentedImages
from fastnn.training.epochs import Job, order_of_epoch
from fastnn.training.frozen import DrawnFeatures

# About the number of rows of a part: a few megabytes of digits, a small share of the time of an epoch to begin.
PART_ROWS = 4096


class DrawnFeed:
    """Trains on drawn inputs in the order of each epoch, as `fastnn.training.epochs.Feed` says."""

    drawn: np.ndarray | None

    def __init__(self, job: Job) -> None:
        self._job, self._source = job, _source(job)
        self.n_rows, self.drawn = len(job.rows), None
        self._size = job.config.batch_size or self.n_rows
        self._epoch, self._order = 0, job.rows
        self._part = range(0)  # the batches whose inputs are drawn
        # The form of the inputs for the kernels is that of the first rows in the first epoch, wherever a run begins.
        first = self._data(0, self._order[: max(1, PART_ROWS // self._size) * self._size])
        self.trainer = job.engine.new_trainer(job.network, first, job.trained_config, job.state)
        self.trainer.prepare(self.n_rows, self._size)

    def begin_epoch(self, epoch: int, first_batch: int, order: np.ndarray | None) -> float:
        """Draw the order."""
        self._epoch, self._part = epoch, range(0)
        self._order = order_of_epoch(self._job, epoch) if order is None else order
        self.n_rows, self.drawn = len(self._order), self._order if callable(self._job.config.shuffle) else None
        return 0.0

    def train(self, batches: range, rate: float) -> EpochResult:
        """Train on consecutive batches, part by part."""
        while True:
            if batches.start not in self._part:
                self._draw(batches)
            piece = range(batches.start, min(batches.stop, self._part.stop))
            first = (piece.start - self._part.start) * self._size
            rows = np.arange(first, first + len(self._rows_of(piece)))
            result = self.trainer.run_epoch(rows, self._size, rate, piece, self.n_rows)
            if result.failed_batch is not None or piece.stop == batches.stop:
                return result
            batches = range(piece.stop, batches.stop)

    def close(self) -> None:
        """There is nothing to end."""

    def _draw(self, batches: range) -> None:
        """Draw the inputs of the next batches."""
        n_batches = max(1, PART_ROWS // self._size)
        self._part = range(batches.start, min(batches.start + n_batches, -(-self.n_rows // self._size)))
        self.trainer.replace_data(self._data(self._epoch, self._rows_of(self._part)), alike=True)

    def _rows_of(self, batches: range) -> np.ndarray:
        return self._order[batches.start * self._size : batches.stop * self._size]

    def _data(self, epoch: int, rows: np.ndarray) -> TrainingData:
        """Return the data of some rows in an epoch, with their inputs drawn."""
        _, targets, weight, _ = self._job.data
        drawn = self._source.of_rows(epoch, rows)
        return TrainingData(drawn, targets[rows], None if weight is None else weight[rows], rows)


def _source(job: Job) -> AugmentedImages | DrawnFeatures:
    """Return what draws the inputs of the trained layers."""
    assert job.image_shape is not None
    images = AugmentedImages(job.raw or job.data, job.config, job.image_shape, job.engine)
    return images if job.frozen is None else DrawnFeatures(job.frozen, images, job.config.batch_size or len(job.rows))
