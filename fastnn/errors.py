"""The errors fastnn raises on purpose. Each message is one line: the place, what was found, what was expected."""

from typing import Any


class FastnnError(Exception):
    """Base of every error that fastnn raises on purpose."""


class DataError(FastnnError, ValueError):
    """Data that cannot be used: a damaged file, wrong shapes, labels out of range."""


class SettingsError(FastnnError, ValueError):
    """A setting outside its range, or settings that contradict each other."""


class FileError(FastnnError, OSError):
    """A file or folder that cannot be read or written."""


class MissingDependencyError(FastnnError, ImportError):
    """Something was asked for that needs a package which cannot be imported."""


class InconsistentVersionWarning(UserWarning):
    """A pickled estimator is read by another version of fastnn than the one that wrote it."""


class DivergenceError(FastnnError, ArithmeticError):
    """Training met a loss that is not finite.

    Attributes
    ----------
    result : TrainingResult or None
        The network as it was after the last good epoch, and the history up to it.
    """

    result: Any = None
