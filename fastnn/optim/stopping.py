"""Early stopping: when a run ends before its last epoch, and which epoch's weights it keeps."""

from dataclasses import dataclass
from typing import Any

from fastnn.checks import check_choice, check_integer, check_number

MONITORS = ("validation_loss", "validation_accuracy")


@dataclass(frozen=True)
class EarlyStopping:
    """Stop a run when a validation metric no longer improves, and keep the weights of the best epoch.

    Parameters
    ----------
    patience : int
        The run stops after this many epochs without an improvement; 1 or more.
    monitor : {"validation_loss", "validation_accuracy"}
        The metric to compare.
    min_delta : float
        Only a gain of more than this over the best epoch is an improvement; 0 or more.

    Raises
    ------
    SettingsError
        If a setting is out of range.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.EarlyStopping(patience=3, monitor="validation_accuracy")
    EarlyStopping(patience=3, monitor='validation_accuracy', min_delta=0.0)
    """

    patience: int = 10
    monitor: str = "validation_loss"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        check_integer("patience", self.patience, 1)
        check_choice("monitor", self.monitor, MONITORS)
        check_number("min_delta", self.min_delta, 0)

    def improves(self, record: Any, best: Any) -> bool:
        """Return whether the `EpochRecord` `record` is better than `best`, that of the best epoch so far or None."""
        if best is None:
            return True
        gain = getattr(record, self.monitor) - getattr(best, self.monitor)
        return bool((-gain if self.monitor == "validation_loss" else gain) > self.min_delta)
