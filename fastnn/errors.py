"""The errors that fastnn raises on purpose. Each message is one line: the place, what was found, what was expected."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class FastnnError(Exception):
    """Base class of every error that fastnn raises on purpose.

    Examples
    --------
    >>> import fastnn
    >>> try:
    ...     fastnn.get_backend("cuda")
    ... except fastnn.FastnnError as error:
    ...     print(error)
    backend is 'cuda', expected one of auto, numba, numpy
    """


class DataError(FastnnError, ValueError):
    """Data cannot be used: a file is damaged, a shape is wrong or a label is out of range.

    Examples
    --------
    >>> import fastnn
    >>> network, data = fastnn.Network.initialize((4, 3)), fastnn.load_digits()
    >>> try:
    ...     fastnn.train(network, data)
    ... except fastnn.DataError:
    ...     print("the data do not fit the network")
    the data do not fit the network
    """


class SettingsError(FastnnError, ValueError):
    """A setting is out of range, or settings contradict each other.

    Examples
    --------
    >>> import fastnn
    >>> fastnn.SGD(momentum=2)
    Traceback (most recent call last):
        ...
    fastnn.errors.SettingsError: momentum is 2, expected a finite number at least 0 and less than 1
    """


class OutOfMemoryError(SettingsError, MemoryError):
    """A network, its training or a prediction would need more memory than the process may use.

    It is raised before anything is allocated. It is a MemoryError.

    Examples
    --------
    >>> import fastnn
    >>> try:
    ...     fastnn.Network.initialize((784, 10**12, 10))
    ... except MemoryError:
    ...     print("too large")
    too large
    """


class FileError(FastnnError, OSError):
    """A file or folder cannot be read or written.

    Examples
    --------
    >>> import fastnn
    >>> try:
    ...     fastnn.load("no-such-model.safetensors")
    ... except fastnn.FileError:
    ...     print("cannot be read")
    cannot be read
    """


class ConcurrentFitError(FastnnError, RuntimeError):
    """An estimator is fitted while another call, usually in another thread, fits it.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.MLPClassifier((4,), max_iter=1)
    >>> model.schedule = lambda epoch, epochs: model.fit([[0.0], [1.0]], [0, 1])
    >>> model.fit([[0.0], [1.0]], [0, 1])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    fastnn.errors.ConcurrentFitError: this MLPClassifier is being fitted by another call, expected one fit at a time...
    """


class MissingDependencyError(FastnnError, ImportError):
    """An operation needs a package that cannot be imported."""


def install_extra(extra: str) -> str:
    """Return what to do for an operation that needs the packages of an extra, for the end of a message."""
    return f"install the extra fastnn-digits[{extra}]: in a checkout, run pip install '.[{extra}]'"


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Raise MissingDependencyError if a package of an extra cannot be imported while the block runs.

    what: what needs which packages, for the beginning of the message
    """
    try:
        yield
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] == "fastnn":
            raise
        found = f"{what}, but {error.name} cannot be imported ({error})"
        raise MissingDependencyError(f"{found}; {install_extra(extra)}") from error


class WorkerError(FastnnError, RuntimeError):
    """The processes or machines that do the work ended or cannot be reached, so that it cannot go on.

    Examples
    --------
    >>> import fastnn
    >>> try:
    ...     raise fastnn.WorkerError("tcp://10.0.0.1:8786 has had no worker for 15 s: start one with dask worker")
    ... except fastnn.FastnnError as error:
    ...     print(error)
    tcp://10.0.0.1:8786 has had no worker for 15 s: start one with dask worker
    """


class InconsistentVersionWarning(UserWarning):
    """A pickled estimator was written by a different version of fastnn.

    Examples
    --------
    >>> import warnings
    >>> import fastnn
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", fastnn.InconsistentVersionWarning)  # refuse such estimators
    """


class DivergenceError(FastnnError, ArithmeticError, ValueError):
    """Training diverged: a loss or a weight is not finite. It is a ValueError, as in scikit-learn.

    Attributes
    ----------
    result : TrainingResult or None
        The network after the last epoch with a finite loss and weights (with early stopping, after the best one), and
        the history up to then.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> try:
    ...     fastnn.train(network, data, learning_rate=1e30)
    ... except fastnn.DivergenceError as error:
    ...     error.result.stopped
    'diverged'
    """

    result: Any = None
