"""`Standardization`: the mean and the scale of each input, learned on training data, so that raw rows go in."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastnn.datasets.sparse import canonical, is_sparse
from fastnn.errors import DataError, SettingsError
from fastnn.interruptible import interruptible


class Standardization:
    """Maps each input to ``(inp - mean) * scale``. A network applies it to its inputs before the first layer.

    Parameters
    ----------
    mean : array-like of shape (D,)
        Finite numbers.
    scale : array-like of shape (D,)
        Finite numbers above 0: ``1 / standard deviation``.

    Attributes
    ----------
    mean, scale : ndarray of shape (D,) float64
        Read-only copies.

    Raises
    ------
    SettingsError
        If the shapes differ, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> standardization = fastnn.Standardization.fit(np.array([[1.0, 10.0], [3.0, 10.0]]))
    >>> standardization.mean, standardization.scale
    (array([ 2., 10.]), array([1., 1.]))
    >>> standardization.apply(np.array([[5.0, 11.0]]), np.float32)
    array([[3., 1.]], dtype=float32)
    """

    def __init__(self, mean: Sequence[float] | np.ndarray, scale: Sequence[float] | np.ndarray) -> None:
        self.mean, self.scale = (_readonly(values) for values in (mean, scale))
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape:
            raise SettingsError(f"mean of shape {self.mean.shape} and scale of shape {self.scale.shape}, expected (D,)")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise SettingsError("a mean or scale is out of range, expected finite numbers, and scales above 0")

    @classmethod
    def fit(cls, inputs: Any) -> "Standardization":
        """Return the standardization that gives each column of `inputs` mean 0 and standard deviation 1.

        A constant column is only shifted. The columns of a sparse matrix are only scaled, so that zeros stay zeros.

        Parameters
        ----------
        inputs : ndarray or SciPy CSR matrix of shape (N, D)
            One row or more of finite numbers.

        Returns
        -------
        Standardization

        Raises
        ------
        DataError
            If there are no rows, or a value is not finite.
        """
        n_rows = inputs.shape[0]
        if not n_rows:
            raise DataError("inputs have no rows, expected at least one to standardise by")
        with np.errstate(over="ignore", invalid="ignore"):  # the check below finds overflow
            if is_sparse(inputs):
                rows = canonical(inputs)
                mean, square = (
                    np.bincount(rows.indices, values, rows.shape[1]) / n_rows
                    for values in (rows.data.astype(np.float64), rows.data.astype(np.float64) ** 2)
                )
                variance, mean_square = square - mean**2, square
            else:
                mean = inputs.mean(axis=0, dtype=np.float64)
                variance = np.zeros_like(mean)
                for start in range(0, n_rows, _ROWS):  # in blocks, to keep no second copy of the data
                    variance += ((inputs[start : start + _ROWS] - mean) ** 2).sum(axis=0) / n_rows
                mean_square = mean**2
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            column = int((~(np.isfinite(mean) & np.isfinite(variance))).argmax())
            raise DataError(f"column {column} (from 0) has a value that is not finite or too large, expected numbers")
        return cls._of_moments(n_rows, np.zeros_like(mean) if is_sparse(inputs) else mean, variance, mean_square)

    @classmethod
    def from_moments(cls, n_rows: int, mean: np.ndarray, variance: np.ndarray) -> "Standardization":
        """Return the standardization of `n_rows` rows with this mean and variance of each column, (D,) float64."""
        return cls._of_moments(n_rows, mean, variance, mean**2)

    @classmethod
    def _of_moments(
        cls, n_rows: int, mean: np.ndarray, variance: np.ndarray, mean_square: np.ndarray
    ) -> "Standardization":
        # A variance within the rounding of the mean is that of a constant column.
        constant = variance <= (n_rows * np.finfo(np.float64).eps) ** 2 * mean_square
        return cls(mean, 1 / np.sqrt(np.where(constant, 1.0, variance)))

    def apply(self, inputs: Any, dtype: Any) -> Any:
        """Return the standardised inputs: an array (N, D) of `dtype`, or a CSR matrix if `inputs` is one.

        The computation is in float64, so that a large mean does not cancel digits. Raises DataError if the mean of a
        sparse matrix is not 0.
        """
        size = inputs.nnz if is_sparse(inputs) else np.size(inputs)
        return interruptible(self._apply, inputs, dtype, work=4 * size)

    def _apply(self, inputs: Any, dtype: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore"):  # whoever needs finite inputs checks for infinity
            if not is_sparse(inputs):
                inputs = np.asarray(inputs)
                out = np.empty(np.broadcast_shapes(inputs.shape, self.mean.shape), dtype)
                for start in range(0, len(out), _ROWS):  # float64 numbers of all rows would need as much memory again
                    rows = inputs[start : start + _ROWS] if inputs.ndim > 1 else inputs
                    out[start : start + _ROWS] = (rows - self.mean) * self.scale
                return out
            if self.mean.any():
                raise DataError("inputs are a sparse matrix, expected an array: the network subtracts a mean from each")
            data = (inputs.data * self.scale[inputs.indices]).astype(dtype)
        return type(inputs)((data, inputs.indices, inputs.indptr), shape=inputs.shape)

    @property
    def is_uniform(self) -> bool:
        """Whether all inputs have one mean and one scale, as pixels whose background becomes 0."""
        return bool((self.mean == self.mean[0]).all() and (self.scale == self.scale[0]).all() and self.mean.size > 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Standardization) and all(
            np.array_equal(mine, its) for mine, its in ((self.mean, other.mean), (self.scale, other.scale))
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Standardization(of {len(self.mean)} inputs)"


def moments(rows: Any) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of rows, and of each column the mean and the sum of the squared deviations from it.

    Raises DataError for a sparse matrix, whose columns would be shifted.
    """
    if is_sparse(rows):
        raise DataError("X is sparse, expected an array with standardize=True")
    mean = rows.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(rows), _ROWS):
        squares += ((rows[start : start + _ROWS] - mean) ** 2).sum(axis=0)
    return len(rows), mean, squares


def merged_moments(parts: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of rows of all parts, and the mean and the variance of each column, merged in order.

    The formula is that of Chan, Golub and LeVeque (1979), which loses no digits to large means.

    parts: one or more results of `moments`, each of one row or more
    """
    n_total, mean, squares = 0, np.zeros(1), np.zeros(1)
    for n, of_part, squares_of_part in parts:
        change = of_part - mean
        n_before, n_total = n_total, n_total + n
        mean = mean + change * (n / n_total)
        squares = squares + squares_of_part + change**2 * (n_before * n / n_total)
    return n_total, mean, squares / n_total


# The number of rows that are converted to float64 at a time.
_ROWS = 4096


def _readonly(values: Any) -> np.ndarray:
    array = np.array(values, np.float64)
    array.flags.writeable = False
    return array
