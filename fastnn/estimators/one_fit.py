"""One fit of an estimator at a time. Who reads it meanwhile sees the model before that fit, never a mix of both.

Nothing of this is stored in the estimator, so it can be pickled and cloned during a fit. There is no lock that a fork
could leave locked: each step is one operation on a dict, which Python executes as a whole.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from fastnn.errors import ConcurrentFitError

P = ParamSpec("P")
Estimator = TypeVar("Estimator")
Result = TypeVar("Result")


class _Fit:
    """A fit that is running."""

    def __init__(self, estimator: Any) -> None:
        self.estimator, self.thread = estimator, threading.get_ident()
        self.before: dict[str, Any] | None = None  # the attributes of the estimator before the fit


# The fits that are running, by the identity of their estimator, and an object that stands for the one that began last:
# the fit itself would keep its estimator in memory.
_RUNNING: dict[int, _Fit] = {}
_LATEST: list[object] = [None]


@contextmanager
def one_fit(estimator: Any) -> Iterator[dict[str, Any]]:
    """Mark the estimator as being fitted, and yield a copy of its attributes; ConcurrentFitError if it is marked."""
    fit = _Fit(estimator)
    try:
        if _RUNNING.setdefault(id(estimator), fit) is not fit:
            raise ConcurrentFitError(
                f"this {type(estimator).__name__} is being fitted by another call, expected one fit at a time: "
                "fit a copy in each thread, such as sklearn.base.clone(model)"
            )
        _LATEST[0] = object()
        fit.before = estimator.__dict__.copy()
        yield fit.before.copy()
    finally:
        if _RUNNING.get(id(estimator)) is fit:
            del _RUNNING[id(estimator)]


def attributes_of_one_fit(estimator: Any) -> dict[str, Any]:
    """Return a copy of the estimator's attributes, all of the same fit: during a fit, those from before it."""
    while True:
        latest = _LATEST[0]
        fit = _RUNNING.get(id(estimator))
        if fit is not None:
            if fit.before is not None:
                return fit.before.copy()
            time.sleep(0)  # the fit begins at this moment
            continue
        attributes: dict[str, Any] = estimator.__dict__.copy()
        if _RUNNING.get(id(estimator)) is None and _LATEST[0] is latest:
            return attributes


def reads_one_fit(
    method: Callable[Concatenate[Estimator, P], Result],
) -> Callable[Concatenate[Estimator, P], Result]:
    """Return the method of an estimator as one that sees the attributes of a single fit from its begin to its end."""

    @wraps(method)
    def read(self: Estimator, *arguments: P.args, **named: P.kwargs) -> Result:
        view = object.__new__(type(self))
        view.__dict__ = attributes_of_one_fit(self)
        return method(view, *arguments, **named)

    return read


def _leave_fits_of_other_threads() -> None:
    """In a forked process, in which only one thread lives on, end the fits of the others as if they had failed."""
    for key, fit in list(_RUNNING.items()):
        if fit.thread != threading.get_ident():
            if fit.before is not None:
                fit.estimator.__dict__ = fit.before
            del _RUNNING[key]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_fits_of_other_threads)
