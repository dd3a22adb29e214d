"""What a run leaves behind, epoch by epoch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class EpochRecord:
    """One row of a history. `loss` and `accuracy` are means over the epoch, each batch at the weights before its step
    (for L-BFGS at the weights after the iteration); the validation's are at the weights after the epoch, NaN without
    validation data. `loss` and `validation_loss` include the L2 term. Accuracies of numbers are NaN, and so is the
    learning rate of L-BFGS. `seconds` is the training alone.
    """

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


class History(Sequence[EpochRecord]):
    """The records of a run, one an epoch, epochs counted from 1."""

    def __init__(self, records: Sequence[EpochRecord] = ()) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return History(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __repr__(self) -> str:
        last = f", last {self._records[-1]}" if self._records else ""
        return f"History({len(self)} epochs{last})"

    def column(self, name: str) -> np.ndarray:
        """One figure of all epochs: float64 (int64 for `epoch`), shape (epochs,)."""
        return np.array([getattr(record, name) for record in self._records])

    def arrays(self) -> dict[str, np.ndarray]:
        """Every figure by name, in the order of `EpochRecord`, each as `column` gives it."""
        return {name: self.column(name) for name in EpochRecord.__annotations__}

    def to_frame(self) -> "pandas.DataFrame":
        """A data frame with a row an epoch."""
        import pandas

        return pandas.DataFrame([asdict(record) for record in self._records], columns=list(EpochRecord.__annotations__))
