"""The history of a run: one record of metrics per epoch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class EpochRecord:
    """The metrics of one epoch. Accuracies of networks whose outputs are numbers are NaN.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    learning_rate : float
        The learning rate of the epoch; NaN for L-BFGS.
    loss, accuracy : float
        Means over the training data. Each batch is evaluated with the weights before its step; L-BFGS evaluates all
        samples with the weights after the iteration. `loss` includes the L2 term.
    validation_loss, validation_accuracy : float
        The same for the validation data, with the weights after the epoch; NaN without validation data.
    seconds : float
        Training time, without validation and callbacks.
    """

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


class History(Sequence[EpochRecord]):
    """A sequence with one `EpochRecord` per epoch of a run. A slice of a History is a History.

    Parameters
    ----------
    records : sequence of EpochRecord

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> result = fastnn.train(fastnn.Network.for_data(data, (16,)), data, epochs=3, learning_rate=0.2)
    >>> result.history[-1].epoch
    3
    >>> result.history.column("learning_rate")
    array([0.2, 0.2, 0.2])
    """

    def __init__(self, records: Sequence[EpochRecord] = ()) -> None:
        self._records = list(records)

    def append(self, record: EpochRecord) -> None:
        """Add the record of the next epoch, as `fastnn.train` does."""
        self._records.append(record)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return History(self._records[index]) if isinstance(index, slice) else self._records[index]

    def __repr__(self) -> str:
        last = f", last {self._records[-1]}" if self._records else ""
        return f"History({len(self)} epochs{last})"

    def column(self, name: str) -> np.ndarray:
        """Return one metric of every epoch.

        Parameters
        ----------
        name : str
            A field of `EpochRecord`, such as "loss".

        Returns
        -------
        ndarray of shape (epochs,)
            float64; int64 for "epoch".

        Raises
        ------
        AttributeError
            If there is no field with that name.
        """
        return np.array([getattr(record, name) for record in self._records])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every `column` by its name, in the order of `EpochRecord`: dict of str to ndarray (epochs,)."""
        return {name: self.column(name) for name in EpochRecord.__annotations__}

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame, one row per epoch and one column per field of `EpochRecord`; it needs pandas."""
        import pandas

        return pandas.DataFrame([asdict(record) for record in self._records], columns=list(EpochRecord.__annotations__))
