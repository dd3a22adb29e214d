"""Early stopping: when a run ends before its last epoch, and whose weights it keeps."""

from dataclasses import dataclass

from fastnn.checks import check_choice, check_integer, check_number
from fastnn.training.history import EpochRecord

MONITORS = ("validation_loss", "validation_accuracy")


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs; keep the best weights."""

    patience: int = 10
    monitor: str = "validation_loss"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        check_integer("patience", self.patience, 1)
        check_choice("monitor", self.monitor, MONITORS)
        check_number("min_delta", self.min_delta, 0)

    def improves(self, record: EpochRecord, best: EpochRecord | None) -> bool:
        """Whether `record` is better than `best`."""
        if best is None:
            return True
        gain = getattr(record, self.monitor) - getattr(best, self.monitor)
        return bool((-gain if self.monitor == "validation_loss" else gain) > self.min_delta)
