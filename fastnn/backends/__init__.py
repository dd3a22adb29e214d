"""The backends: one contract (`base`), a reference in NumPy, and the compiled kernels."""

import warnings
from importlib import import_module
from typing import cast

from fastnn.backends.base import Backend
from fastnn.checks import check_choice
from fastnn.errors import MissingDependencyError

BACKENDS = ("auto", "numba", "numpy")


def get_backend(name: str = "auto") -> Backend:
    """The backend of that name: "numba" (compiled kernels), "numpy" (the reference), or "auto".

    "auto" is "numba" where Numba can be imported; where it cannot, it says so in a warning, once, and is "numpy".

    Raises
    ------
    SettingsError
        If the name is unknown.
    MissingDependencyError
        If "numba" is asked for and Numba cannot be imported.
    """
    check_choice("backend", name, BACKENDS)
    if name != "numpy":
        try:
            return cast(Backend, import_module("fastnn.backends.compiled"))
        except ImportError as error:
            if name == "numba":
                raise MissingDependencyError(
                    f'backend "numba" needs Numba, which cannot be imported ({error}); try: pip install numba'
                ) from error
            warnings.warn(
                f"fastnn: Numba cannot be imported ({error}); using the slower NumPy backend",
                RuntimeWarning,
                stacklevel=2,
            )
    return cast(Backend, import_module("fastnn.backends.reference"))


def backend_name(backend: Backend) -> str:
    """The name by which `get_backend` knows it: "numba" or "numpy"."""
    return "numba" if backend.__name__.endswith("compiled") else "numpy"
