"""`SweepRecord`: what a sweep keeps of a finished run."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from fastnn.errors import DataError

DIVERGED, FAILED = "diverged", "failed"
# The metrics of a run that is evaluated on the test set.
TEST_METRICS = ("test_accuracy", "test_loss", "test_r2", "test_rmse")


@dataclass(frozen=True)
class SweepRecord:
    """A finished run of a sweep.

    The metrics are those of the network that the run returns: of its last epoch or, with early stopping, of its best.
    A metric that a run does not have is None, such as those of a run that failed.

    Attributes
    ----------
    settings : dict
        The settings that vary, as plain values.
    seed : int
        The seed of the initial weights, the order of the samples and dropout.
    stopped : str
        As in `TrainingResult`. A run that "diverged" or "failed" has an `error`.
    epochs, best_epoch : int
        The number of epochs that ran, and the epoch of the metrics.
    loss, accuracy, validation_loss, validation_accuracy : float or None
        As in `EpochRecord`.
    test_accuracy, test_loss, test_r2, test_rmse : float or None
        Of the test set, if the sweep evaluates it.
    seconds : float
        The training time of all epochs.
    digest : str
        `TrainingResult.digest()`; "" if there is no result.
    backend : str
        "numba" or "numpy".
    error : str or None
        What went wrong.
    key : str
        Identifies the run: a digest of all of its settings.

    Examples
    --------
    >>> import fastnn
    >>> (record,) = fastnn.sweep("digits", seeds=[7], hidden=(8,), epochs=2).records
    >>> record.seed, record.epochs, record.error
    (7, 2, None)
    """

    settings: dict[str, Any]
    seed: int
    stopped: str
    epochs: int = 0
    best_epoch: int = 0
    loss: float | None = None
    accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_r2: float | None = None
    test_rmse: float | None = None
    seconds: float = 0.0
    digest: str = ""
    backend: str = ""
    error: str | None = None
    key: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether the run has no result to compare: it diverged, or another error ended it."""
        return self.error is not None

    @property
    def is_final(self) -> bool:
        """Whether another attempt would end alike. A run that failed may have met a full memory or a lost machine."""
        return self.stopped != FAILED

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can store."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "SweepRecord":
        """Return the record of a result of `to_dict`; DataError for anything else."""
        names = [field.name for field in fields(cls)]
        if not (isinstance(values, dict) and sorted(values) == sorted(names)):
            raise DataError(f"expected a record with the fields {', '.join(names)}")
        record = cls(**values)
        texts = (record.key, record.stopped, record.digest, record.backend)
        if not (isinstance(record.settings, dict) and isinstance(record.seed, int)):
            raise DataError("expected settings and a seed")
        if not all(isinstance(text, str) for text in texts):
            raise DataError("expected texts as key, stopped, digest and backend")
        return record
