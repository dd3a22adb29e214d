"""Finds the line of the user's program that a warning of an estimator should name."""

import contextlib
import inspect
import os

import joblib
import sklearn

# Files, and folders, of the code that can stand between the user's call and the line that warns.
_LIBRARY_FILES = (
    *(os.path.join(os.path.dirname(module), "") for module in (__file__, sklearn.__file__, joblib.__file__)),
    contextlib.__file__,
)


def users_stacklevel() -> int:
    """Return the `stacklevel` at which a warning of the caller names the line outside fastnn and scikit-learn.

    A fit may be called through scikit-learn's callbacks, pipelines and searches. In a worker process, no line is the
    user's, and the warning names the outermost one.
    """
    level, frame = 1, inspect.currentframe()
    frame = None if frame is None else frame.f_back
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(_LIBRARY_FILES):
        level, frame = level + 1, frame.f_back
    return level
