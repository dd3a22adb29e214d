"""The backends: one contract (`base`), a reference in NumPy (`reference`) and compiled Numba kernels (`compiled`)."""

import gc
import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import cast

from fastnn.backends.base import Backend
from fastnn.checks import check_choice
from fastnn.errors import MissingDependencyError
from fastnn.optim.config import BACKENDS

_COMPILED = "fastnn.backends.compiled"
# fastnn imports modules when they are used, so a program that packages it by its import statements misses some.
_PACKAGED = "install fastnn again, or package all of its modules, as its hook for PyInstaller does"


def get_backend(name: str = "auto") -> Backend:
    """Return the backend with that name.

    Parameters
    ----------
    name : {"auto", "numba", "numpy"}
        "numba" for the compiled kernels, "numpy" for the reference. "auto" is "numba" if Numba can be imported and
        NUMBA_DISABLE_JIT is not set. Otherwise "auto" is "numpy", and a RuntimeWarning says so; Python shows it once
        by default. As a setting of `train`, estimators and predictions, "auto" is also "numpy" for work that NumPy is
        expected to finish before the kernels are loaded or compiled; see `fastnn.backends.choice`.

    Returns
    -------
    Backend
        A module with the functions of `fastnn.backends.base.Backend`.

    Raises
    ------
    SettingsError
        If the name is unknown.
    MissingDependencyError
        If `name` is "numba" and Numba cannot be imported, or NUMBA_DISABLE_JIT is set.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> backend = fastnn.get_backend("numpy")
    >>> backend.softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    check_choice("backend", name, BACKENDS)
    if name != "numpy":
        try:
            return cast(Backend, _import_compiled())
        except ImportError as error:
            own = (error.name or "").partition(".")[0] == "fastnn" and isinstance(error, ModuleNotFoundError)
            if name == "numba":
                cause = f"needs Numba, which cannot be used ({error}); try: {_remedy()}"
                if own:
                    cause = f"is incomplete ({error}); {_PACKAGED}"
                raise MissingDependencyError(f'backend "numba" {cause}') from error
            missing = f"the Numba backend is incomplete ({error}); {_PACKAGED}" if own else ""
            warnings.warn(
                f"fastnn: {missing or f'Numba cannot be used ({error})'}; using the slower NumPy backend",
                RuntimeWarning,
                stacklevel=2,
            )
    return cast(Backend, import_module("fastnn.backends.reference"))


def _import_compiled() -> ModuleType:
    """Import the Numba backend while the garbage collector pauses.

    It would look at every object of the process, and find nothing: what an import creates stays. With scikit-learn
    loaded, that takes longer than the import itself.
    """
    is_to_pause = _COMPILED not in sys.modules and gc.isenabled()
    if is_to_pause:
        gc.disable()
    try:
        return import_module(_COMPILED)
    finally:
        if is_to_pause:
            gc.enable()


def _remedy() -> str:
    numba = sys.modules.get("numba")
    disabled = numba is not None and numba.config.DISABLE_JIT
    return 'unset NUMBA_DISABLE_JIT, or take the backend "numpy"' if disabled else "pip install numba"


def backend_name(backend: Backend) -> str:
    """Return the name of a backend for `get_backend`: "numba" or "numpy"."""
    return "numba" if backend.__name__.endswith("compiled") else "numpy"
