"""Neural networks for handwritten digits, from scratch, on a CPU."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.backends import get_backend as get_backend
    from fastnn.compilation import warmup as warmup
    from fastnn.datasets import Dataset as Dataset
    from fastnn.datasets import load_digits as load_digits
    from fastnn.datasets import load_mnist as load_mnist
    from fastnn.datasets import prepare_image as prepare_image
    from fastnn.datasets import read_csv as read_csv
    from fastnn.datasets import read_files as read_files
    from fastnn.datasets import read_idx as read_idx
    from fastnn.datasets import read_npz as read_npz
    from fastnn.diagnosis import Finding as Finding
    from fastnn.diagnosis import diagnose as diagnose
    from fastnn.errors import DataError as DataError
    from fastnn.errors import DivergenceError as DivergenceError
    from fastnn.errors import FastnnError as FastnnError
    from fastnn.errors import FileError as FileError
    from fastnn.errors import InconsistentVersionWarning as InconsistentVersionWarning
    from fastnn.errors import SettingsError as SettingsError
    from fastnn.estimators import MLPClassifier as MLPClassifier
    from fastnn.estimators import MLPRegressor as MLPRegressor
    from fastnn.explanation import Explanation as Explanation
    from fastnn.explanation import explain as explain
    from fastnn.gradient_check import check_gradients as check_gradients
    from fastnn.history import History as History
    from fastnn.judging import evaluate as evaluate
    from fastnn.model import Model as Model
    from fastnn.model_file import load as load
    from fastnn.model_file import save as save
    from fastnn.network import Network as Network
    from fastnn.onnx_export import export_onnx as export_onnx
    from fastnn.optimizers import LBFGS as LBFGS
    from fastnn.optimizers import SGD as SGD
    from fastnn.optimizers import Adam as Adam
    from fastnn.recipes import RECIPES as RECIPES
    from fastnn.recipes import get_recipe as get_recipe
    from fastnn.training import EarlyStopping as EarlyStopping
    from fastnn.training import TrainingInterrupted as TrainingInterrupted
    from fastnn.training import TrainingResult as TrainingResult
    from fastnn.training import hold_out as hold_out
    from fastnn.training import train as train

# `kernels/` stands beside this folder in a checkout and inside it once installed. Python started in a checkout imports
# this folder, whatever is installed, and is told here where the kernels are.
if not os.path.isdir(os.path.join(__path__[0], "kernels")) and os.path.isfile(
    os.path.join(os.path.dirname(__path__[0]), "kernels", "jit.py")
):
    __path__.append(os.path.dirname(__path__[0]))

# Each public name, and the module it comes from when it is first used: `import fastnn` loads nothing else.
_HOMES = {
    "backends": ["get_backend"],
    "compilation": ["warmup"],
    "datasets": [
        "Dataset", "load_digits", "load_mnist", "prepare_image", "read_csv", "read_files", "read_idx", "read_npz",
    ],
    "diagnosis": ["Finding", "diagnose"],
    "errors": [
        "DataError", "DivergenceError", "FastnnError", "FileError", "InconsistentVersionWarning", "SettingsError",
    ],
    "estimators": ["MLPClassifier", "MLPRegressor"],
    "explanation": ["Explanation", "explain"],
    "gradient_check": ["check_gradients"],
    "history": ["History"],
    "judging": ["evaluate"],
    "model": ["Model"],
    "model_file": ["load", "save"],
    "network": ["Network"],
    "onnx_export": ["export_onnx"],
    "optimizers": ["LBFGS", "SGD", "Adam"],
    "recipes": ["RECIPES", "get_recipe"],
    "training": [
        "EarlyStopping", "TrainingInterrupted", "TrainingResult", "hold_out", "train",
    ],
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [*_HOME_OF, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fastnn-digits")
    if name in _HOME_OF:
        value = getattr(import_module(f"fastnn.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
