"""Supports scikit-learn's callbacks, which exist since scikit-learn 1.9 and are experimental there.

Each epoch is a task of the fit. `train` reports only the end of an epoch, so the task of the next epoch begins then.
"""

from inspect import signature
from typing import Any

from fastnn.training.train import EpochEnd

try:
    from sklearn.callback import CallbackContext, CallbackSupportMixin, with_callbacks

    # The calls of FitTasks. In a version that changes one of them, the estimators have no callbacks, but can be fitted.
    task = {"estimator": None, "X": None, "y": None, "metadata": None}
    signature(CallbackSupportMixin._init_callback_context).bind(None, max_subtasks=1)
    signature(CallbackContext.subcontext).bind(None, task_name="epoch")
    signature(CallbackContext.call_on_fit_task_begin).bind(None, **task)
    signature(CallbackContext.call_on_fit_task_end).bind(None, **task, reconstruction_attributes={})
except (ImportError, AttributeError, TypeError):

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """An empty class, because this version of scikit-learn has no callbacks that FitTasks can call."""

    def with_callbacks(method: Any) -> Any:
        """Return the method unchanged."""
        return method


__all__ = ["CallbackSupportMixin", "FitTasks", "with_callbacks"]


def has_callbacks(estimator: Any) -> bool:
    """Return whether an estimator has callbacks, of its own or of an estimator around it."""
    return bool(getattr(estimator, "_skl_callbacks", None)) or hasattr(estimator, "_parent_callback_ctx")


class FitTasks:
    """Notifies an estimator's callbacks when a fit and its epochs begin and end."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._task = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fit: Any = None
        self._epoch: Any = None
        if hasattr(estimator, "_init_callback_context") and has_callbacks(estimator):
            self._fit = estimator._init_callback_context(max_subtasks=estimator.max_iter)
            self._fit.call_on_fit_task_begin(**self._task)
            self._begin_epoch()

    def __call__(self, end: EpochEnd) -> bool:
        """End an epoch and begin the next; return whether a callback asks to stop."""
        if self._epoch is None:
            return False
        stop = self._epoch.call_on_fit_task_end(
            **self._task, reconstruction_attributes=lambda: self._attributes() | {"network_": end.network}
        )
        self._epoch = None
        if not stop and end.record.epoch < end.epochs:
            self._begin_epoch()
        return bool(stop)

    def end(self) -> None:
        """End the fit, after ending an epoch that began but did not run."""
        if self._epoch is not None:
            self._epoch.call_on_fit_task_end(estimator=self._task["estimator"])
        if self._fit is not None:
            self._fit.call_on_fit_task_end(**self._task, reconstruction_attributes=self._attributes)

    def _attributes(self) -> dict[str, Any]:
        """Return the estimator's attributes, which a copy of it does not have: during a fit, it has those before it."""
        return vars(self._task["estimator"]).copy()

    def _begin_epoch(self) -> None:
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._task)
