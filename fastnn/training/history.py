"""The history of a run: one record of metrics per epoch."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


NAN = float("nan")
_FIELDS = tuple(EpochRecord.__annotations__)
_N_FIELDS = len(_FIELDS)


def _values_of(record: EpochRecord) -> tuple[float, ...]:
    return tuple(vars(record).values())


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
        # The values of all records, one after the other: a tenth of the memory of the records.
        self._values = array("d", [value for record in records for value in _values_of(record)])
        self._length = len(records)
        self._claims: dict[str, object] = {}  # whether a longer history shares `_values`

    def append(self, record: EpochRecord) -> None:
        """Add the record of the next epoch, as `fastnn.train` does."""
        self._extend(_values_of(record))

    def continued(self, records: Iterable[EpochRecord]) -> "History":
        """Return the history with further records, numbered from its last epoch on; this one does not change.

        The new history shares the memory of this one, so it costs only the new records. Of two histories that continue
        the same one, the second copies it.
        """
        longer = History.__new__(type(self))
        longer._values, longer._length, longer._claims = self._values, self._length, self._claims
        values = records._copied() if isinstance(records, History) else History([*records])._values
        for at in range(0, len(values), _N_FIELDS):
            values[at] = self._length + at // _N_FIELDS + 1
        longer._extend(values)
        return longer

    def _copied(self) -> array:
        return self._values[: self._length * _N_FIELDS]

    def _extend(self, values: Sequence[float]) -> None:
        # The first to set the claim may write behind these records. Setting it is a single operation of Python.
        claim = object()
        if self._claims.setdefault("taken", claim) is not claim:
            self._values = self._copied()
        self._values.extend(values)
        self._length, self._claims = self._length + len(values) // _N_FIELDS, {}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return History([self[k] for k in range(self._length)[index]])
        start = range(self._length)[index] * _N_FIELDS
        epoch, *metrics = self._values[start : start + _N_FIELDS]
        return EpochRecord(int(epoch), *(value if value == value else NAN for value in metrics))

    def __repr__(self) -> str:
        last = f", last {self[-1]}" if self._length else ""
        return f"History({len(self)} epochs{last})"

    def __getstate__(self) -> dict[str, Any]:
        return {"_values": self._copied(), "_length": self._length, "_claims": {}}

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
        if name not in _FIELDS:
            raise AttributeError(f"{name!r} is no metric of an epoch, expected one of {', '.join(_FIELDS)}")
        column = np.array(self._values[_FIELDS.index(name) : self._length * _N_FIELDS : _N_FIELDS])
        return column.astype(np.int64) if name == "epoch" else column

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every `column` by its name, in the order of `EpochRecord`: dict of str to ndarray (epochs,)."""
        return {name: self.column(name) for name in _FIELDS}

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame, one row per epoch and one column per field of `EpochRecord`; it needs pandas."""
        import pandas

        return pandas.DataFrame(self.arrays())
