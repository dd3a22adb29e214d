"""`ScikitOrder`: the order of the rows in each epoch, drawn as in scikit-learn, with a state that can be stored."""

from typing import Any

import numpy as np

from fastnn.errors import SettingsError


class ScikitOrder:
    """Draws the order of the rows of each epoch, for the setting `shuffle` of `fastnn.train`.

    Each order shuffles the one before it, as in scikit-learn, so it depends on all orders drawn so far.

    Parameters
    ----------
    n_samples : int
        The number of rows.
    random_state : RandomState
        The source of the draws. Other code may draw from it in between.
    """

    def __init__(self, n_samples: int, random_state: np.random.RandomState) -> None:
        self._rows, self._random_state = np.arange(n_samples), random_state

    def __call__(self, _: np.ndarray) -> np.ndarray:
        """Return the row numbers in the order of the next epoch, (n_samples,) int64."""
        permutation = np.arange(len(self._rows))
        # The same draw as sklearn.utils.shuffle, whose argument checks take ten times as long.
        self._random_state.shuffle(permutation)
        self._rows = self._rows[permutation]
        return self._rows.copy()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values and arrays: the last order, and the state of the random generator."""
        return {"rows": self._rows.copy(), "random_state": self._random_state.get_state(legacy=False)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`; SettingsError if it belongs to another order."""
        rows, generator = np.asarray(state["rows"]), state["random_state"]
        if rows.shape != self._rows.shape or not np.array_equal(np.sort(rows), np.arange(len(rows))):
            raise SettingsError(f"the state has an order of shape {rows.shape}, expected {len(self._rows)} row numbers")
        try:
            self._random_state.set_state(generator)
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"the state has no usable state of the random generator: {error}") from error
        self._rows = rows.astype(np.int64)
