"""The line search of Moré and Thuente, which finds a step along a direction of descent."""

import math
from typing import NamedTuple

# The sufficient decrease and the curvature of an accepted step: the values of L-BFGS-B.
DECREASE, CURVATURE = 1e-3, 0.9
# The search ends when its interval is shorter than this fraction of its upper end.
_NARROWEST = 0.1
_LONGEST_STEP = 1e10
# How far a step without an upper bound may go beyond the one before, as multiples of the distance to the best one.
_NEAREST, _FARTHEST = 1.1, 4.0


class Point(NamedTuple):
    """A step, the loss there, and the slope of the loss along the direction."""

    step: float
    loss: float
    slope: float


class LineSearch:
    """The search for a step that satisfies the strong Wolfe conditions [1]_.

    The caller evaluates the loss at `step` and tells it to `accepts`, until that returns True. The conditions are those
    of L-BFGS-B: the loss falls by at least a thousandth of what the initial slope promises, and the slope falls to at
    most nine tenths.

    Parameters
    ----------
    loss, slope : float
        The loss at step 0 and its slope, which is negative.
    step : float
        The first step to try.

    References
    ----------
    .. [1] Moré and Thuente 1994, "Line search algorithms with guaranteed sufficient decrease".

    Examples
    --------
    >>> from fastnn.optim.line_search import LineSearch
    >>> search = LineSearch(loss=9.0, slope=-6.0, step=1.0)
    >>> while not search.accepts((search.step - 3) ** 2, 2 * (search.step - 3)):
    ...     pass
    >>> search.step
    1.0
    """

    def __init__(self, loss: float, slope: float, step: float) -> None:
        self.step = step
        self._start = self._best = self._other = Point(0.0, loss, slope)
        self._is_bracketed = False  # whether a minimum lies between `_best` and `_other`
        self._has_descended = False  # whether a step has had a sufficient decrease and a slope of 0 or more
        self._width, self._width_before = _LONGEST_STEP, 2 * _LONGEST_STEP
        self._low, self._high, self._longest = 0.0, step + _FARTHEST * step, _LONGEST_STEP

    def accepts(self, loss: float, slope: float) -> bool:
        """Return whether `step`, where the loss and the slope are these, ends the search; else set the next `step`.

        A loss or a slope that is not finite means that the step is too long: the next one is half as far from the best.
        """
        if not (math.isfinite(loss) and math.isfinite(slope)):
            self.step = self._longest = self._best.step + 0.5 * (self.step - self._best.step)
            return False
        new, start = Point(self.step, loss, slope), self._start
        promised = DECREASE * start.slope
        enough = start.loss + new.step * promised
        if (loss <= enough and abs(slope) <= -CURVATURE * start.slope) or self._must_end(new, enough, promised):
            return True
        self._has_descended |= loss <= enough and slope >= 0
        if not self._has_descended and enough < loss <= self._best.loss:
            # The losses without the promised decrease, whose minimum has a sufficient decrease.
            points = [
                Point(each.step, each.loss - each.step * promised, each.slope - promised)
                for each in (self._best, self._other, new)
            ]
        else:
            points = [self._best, self._other, new]
        best, other, last = points
        step, bracketed = _next_step(best, other, last, self._is_bracketed, self._low, self._high)
        if points[2].loss > points[0].loss:
            self._other = new
        else:
            if points[2].slope * points[0].slope < 0:
                self._other = self._best
            self._best = new
        self._is_bracketed = bracketed
        self._narrow(step)
        return False

    def _must_end(self, new: Point, enough: float, promised: float) -> bool:
        """Whether no better step can be found: rounding errors, a narrow interval, or a step of the maximum length."""
        if self._is_bracketed:
            outside = new.step <= self._low or new.step >= self._high
            if outside or self._high - self._low <= _NARROWEST * self._high:
                return True
        return new.step == self._longest and new.loss <= enough and new.slope <= promised

    def _narrow(self, step: float) -> None:
        """Set the interval of the next step, and that step, which would be `step` without the limits."""
        best, other = self._best.step, self._other.step
        if self._is_bracketed:
            if abs(other - best) >= 0.66 * self._width_before:
                step = best + 0.5 * (other - best)
            self._width_before, self._width = self._width, abs(other - best)
            self._low, self._high = min(best, other), max(best, other)
        else:
            self._low, self._high = step + _NEAREST * (step - best), step + _FARTHEST * (step - best)
        step = min(max(step, 0.0), self._longest)
        if self._is_bracketed and (
            step <= self._low or step >= self._high or self._high - self._low <= _NARROWEST * self._high
        ):
            step = best
        self.step = step


def _next_step(
    best: Point, other: Point, new: Point, is_bracketed: bool, low: float, high: float
) -> tuple[float, bool]:
    """Return the next step, between cubic and quadratic interpolations, and whether a minimum is bracketed now."""
    if new.loss > best.loss:
        cubic = _cubic(best, new, 1.0 if new.step >= best.step else -1.0)
        secant = (best.loss - new.loss) / (new.step - best.step)
        quadratic = best.step + best.slope / (secant + best.slope) / 2 * (new.step - best.step)
        is_nearer = abs(cubic - best.step) <= abs(quadratic - best.step)
        return cubic if is_nearer else cubic + (quadratic - cubic) / 2, True
    if new.slope * best.slope < 0:
        cubic = _cubic(new, best, 1.0 if new.step <= best.step else -1.0)
        quadratic = new.step + new.slope / (new.slope - best.slope) * (best.step - new.step)
        return cubic if abs(cubic - new.step) > abs(quadratic - new.step) else quadratic, True
    if abs(new.slope) < abs(best.slope):
        cubic = _cubic(new, best, 1.0 if new.step <= best.step else -1.0)
        if not (cubic - new.step) * (new.step - best.step) > 0:  # the cubic has no minimum beyond the new step
            cubic = high if new.step > best.step else low
        quadratic = new.step + new.slope / (new.slope - best.slope) * (best.step - new.step)
        is_nearer = abs(cubic - new.step) < abs(quadratic - new.step)
        if is_bracketed:
            step, limit = cubic if is_nearer else quadratic, new.step + 0.66 * (other.step - new.step)
            return min(limit, step) if new.step > best.step else max(limit, step), True
        return min(max(quadratic if is_nearer else cubic, low), high), False
    if is_bracketed:
        return _cubic(new, other, 1.0 if new.step <= other.step else -1.0), True
    return high if new.step > best.step else low, False


def _cubic(at: Point, other: Point, sign: float) -> float:
    """Return the minimum of the cubic through two points with their slopes, computed from the first of them."""
    theta = 3 * (at.loss - other.loss) / (other.step - at.step) + at.slope + other.slope
    scale = max(abs(theta), abs(at.slope), abs(other.slope))
    if not scale:
        return other.step
    root = sign * scale * math.sqrt(max(0.0, (theta / scale) ** 2 - at.slope / scale * (other.slope / scale)))
    below = root - at.slope + root + other.slope
    return at.step + (root - at.slope + theta) / below * (other.step - at.step) if below else other.step
