"""L-BFGS: the minimum of a smooth function of many variables, from its values and gradients.

For a network this is a few hundred calls of the function, with vectors as long as all its parameters between them. For
small networks the time is that of Python, for large ones that of memory: so the search keeps few vectors, and reads the
pairs of the inverse Hessian twice an iteration.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from fastnn.optim.line_search import LineSearch

# As in L-BFGS-B: the number of pairs, of the evaluations of a line search, and the relative decrease of a loss that
# ends the search.
PAIRS, MAX_STEPS, SMALLEST_DECREASE = 10, 20, 2.220446049250313e-09
_EPSILON = float(np.finfo(np.float64).eps)
# The number of elements of a vector that are processed at a time: with those of all pairs, about a megabyte.
_PART = 8192
# With fewer variables than this, the time for products is small, and all of them are computed in float64.
_MANY = 2**17

# A function of a vector that writes the gradient into the second argument and returns the value.
Function = Callable[[np.ndarray, np.ndarray], float]


class Minimum(NamedTuple):
    """What `minimize` found.

    Attributes
    ----------
    at : ndarray of shape (P,), float64
        The vector with the smallest value so far.
    value : float
    reason : {"converged", "iterations", "stalled", "stopped"}
        "converged" if the gradient or the last decrease is small enough, "iterations" after the maximum number of
        iterations or evaluations, "stalled" if no step along the negative gradient decreases the value, and "stopped"
        if `end_iteration` returned True.
    """

    at: np.ndarray
    value: float
    reason: Literal["converged", "iterations", "stalled", "stopped"]


class InverseHessian:
    """The approximation of the inverse Hessian of L-BFGS, and the gradient at the current vector.

    The products of a gradient with all pairs are one matrix product, and so is the direction. This is the compact
    representation of [1]_, theorem 2.2. The products of a pair with the others are differences of such products, so
    they need no other pass over the pairs.

    Vectors are processed in parts that stay in the cache. If there are many variables, the products within a part are
    computed in the precision of the gradients, which have no more digits; those of all parts are added in float64.

    Parameters
    ----------
    size : int
        P, the number of variables.
    dtype : dtype
        The precision of the gradients: float32 or float64.

    Attributes
    ----------
    gradient : ndarray of shape (P,), float64

    References
    ----------
    .. [1] Byrd, Nocedal and Schnabel 1994, "Representations of quasi-Newton matrices and their use in limited memory
           methods".
    """

    def __init__(self, size: int, dtype: np.typing.DTypeLike = np.float64) -> None:
        self.gradient = np.empty(size)
        # Rows 2 k and 2 k + 1 are a step, and the change of the gradient along it.
        self._rows = np.empty((2 * PAIRS, size), np.float64 if size < _MANY else dtype)
        self._parts = [slice(start, min(start + _PART, size)) for start in range(0, size, _PART)]
        self.forget()

    def forget(self) -> None:
        """Forget all pairs: the inverse Hessian is the identity."""
        self.n_pairs, self._next, self._scale = 0, 0, 1.0
        self._steps = np.empty(0, np.intp)  # the rows of the steps, oldest first; the changes are one row below
        self._curvatures = np.empty(0)  # the product of each step with its change
        self._inverse = np.empty((0, 0))  # the inverse of the upper triangle of the products of steps and changes
        self._changes = np.empty((0, 0))  # the products of the changes with each other
        self._products = np.empty(0)  # the product of each row with the gradient

    def direction(self, out: np.ndarray) -> np.ndarray:
        """Write minus the product of the inverse Hessian and the gradient into `out`, (P,), and return it."""
        scale, steps = self._scale, self._steps
        if not self.n_pairs:
            return np.multiply(self.gradient, -scale, out=out)
        along = self._inverse @ self._products[steps]
        back = self._curvatures * along + scale * (self._changes @ along - self._products[steps + 1])
        factors = np.empty(2 * self.n_pairs)
        factors[steps], factors[steps + 1] = -(back @ self._inverse), scale * along
        factors, rows = factors.astype(self._rows.dtype, copy=False), self._rows[: 2 * self.n_pairs]
        for part in self._parts:
            np.subtract(factors @ rows[:, part], scale * self.gradient[part], out=out[part])
        return out

    def move(self, step: float, direction: np.ndarray, gradient: np.ndarray, slopes: tuple[float, float]) -> None:
        """Move by ``step * direction`` to a vector with this gradient, and keep the pair if its curvature is positive.

        slopes: the products of `direction` with the gradient before and with `gradient`
        """
        curvature, before = (slopes[1] - slopes[0]) * step, self._products
        is_kept = curvature > -_EPSILON * slopes[0] * step
        row, squared = 2 * self._next, 0.0
        first = int(is_kept and self.n_pairs == PAIRS)  # the oldest pair is overwritten
        if is_kept:
            self.n_pairs, self._next = self.n_pairs + 1 - first, (self._next + 1) % PAIRS
        self._products, rows = np.zeros(2 * self.n_pairs), self._rows[: 2 * self.n_pairs]
        for part in self._parts:
            after = gradient[part]
            if is_kept:
                change = after - self.gradient[part]
                squared += float(change @ change)
                self._rows[row + 1, part] = change
                np.multiply(direction[part], step, out=self._rows[row, part])
            self.gradient[part] = after
            self._products += rows[:, part] @ after.astype(rows.dtype, copy=False)
        if is_kept:
            steps, changed = self._steps[first:], self._products[: len(before)] - before
            self._inverse = _bordered(self._inverse[first:, first:], changed[steps], curvature)
            self._changes = _bordered_squares(self._changes[first:, first:], changed[steps + 1], squared)
            self._curvatures = np.append(self._curvatures[first:], curvature)
            self._steps, self._scale = np.append(steps, row), curvature / squared


def _bordered(inverse: np.ndarray, column: np.ndarray, corner: float) -> np.ndarray:
    """Return the inverse of an upper triangle with another column, whose last element is `corner`."""
    n = len(inverse)
    larger = np.zeros((n + 1, n + 1))
    larger[:n, :n], larger[:n, n], larger[n, n] = inverse, inverse @ column / -corner, 1 / corner
    return larger


def _bordered_squares(squares: np.ndarray, column: np.ndarray, corner: float) -> np.ndarray:
    """Return a symmetric matrix with another row and column."""
    n = len(squares)
    larger = np.empty((n + 1, n + 1))
    larger[:n, :n], larger[:n, n], larger[n, :n], larger[n, n] = squares, column, column, corner
    return larger


def minimize(
    function: Function,
    start: np.ndarray,
    tolerance: float,
    max_iterations: int,
    max_evaluations: int,
    end_iteration: Callable[[np.ndarray, float], bool],
    dtype: np.typing.DTypeLike = np.float64,
) -> Minimum:
    """Minimize a function, with the stopping rules of SciPy's L-BFGS-B.

    Parameters
    ----------
    function : function of two ndarrays of shape (P,), float64
        Writes the gradient at the first into the second and returns the value. A value that is not finite means that
        the step was too long; the initial one must be finite.
    start : ndarray of shape (P,), float64
        The initial vector; not changed.
    tolerance : float
        The search has converged when no entry of the gradient exceeds this in magnitude.
    max_iterations, max_evaluations : int
    end_iteration : function of an ndarray of shape (P,) and a float
        Called after each iteration with the vector, which does not change later, and its value; True ends the search.
    dtype : dtype
        The precision of the gradients: float32 or float64.

    Returns
    -------
    Minimum

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn.optim.quasi_newton import minimize
    >>> def function(at, gradient):
    ...     gradient[:] = 2 * (at - 3)
    ...     return float(np.sum((at - 3) ** 2))
    >>> found = minimize(function, np.zeros(2), 1e-8, 100, 1000, lambda at, value: False)
    >>> found.reason, np.round(found.at, 6).tolist()
    ('converged', [3.0, 3.0])
    """
    at, inverse = start.copy(), InverseHessian(start.size, dtype)
    trial, direction, gradient = (np.empty_like(at) for _ in range(3))
    value, n_evaluations, n_iterations = function(at, inverse.gradient), 1, 0
    if _largest(inverse.gradient) <= tolerance:
        return Minimum(at, value, "converged")
    while True:
        slope = float(inverse.direction(direction) @ inverse.gradient)
        # Without pairs, the first step has length 1; later ones have the length of the gradient, as in L-BFGS-B.
        first_step = 1.0 if n_iterations else 1 / math.sqrt(-slope)
        search, accepted = LineSearch(value, slope, first_step), False
        for _ in range(MAX_STEPS if slope < 0 else 0):
            step = search.step
            np.add(at, direction if step == 1 else np.multiply(direction, step, out=trial), out=trial)
            new_value, n_evaluations = function(trial, gradient), n_evaluations + 1
            new_slope = float(direction @ gradient) if math.isfinite(new_value) else math.nan
            accepted = search.accepts(new_value, new_slope)
            if accepted:
                break
        if not accepted:
            if not inverse.n_pairs:
                return Minimum(at, value, "stalled")
            inverse.forget()
            continue
        at, trial, n_iterations = trial, np.empty_like(at), n_iterations + 1
        decrease, value = value - new_value, new_value
        if end_iteration(at, value):
            return Minimum(at, value, "stopped")
        if n_iterations >= max_iterations or n_evaluations > max_evaluations:
            return Minimum(at, value, "iterations")
        scale = max(abs(value), abs(value + decrease), 1.0)
        if _largest(gradient) <= tolerance or decrease <= SMALLEST_DECREASE * scale:
            return Minimum(at, value, "converged")
        inverse.move(step, direction, gradient, (slope, new_slope))


def _largest(vector: np.ndarray) -> float:
    """Return the largest magnitude of an entry."""
    return max(float(vector.max()), -float(vector.min()))
