"""Small neural networks for handwritten digits, from scratch, on a CPU.

Examples
--------
>>> import fastnn
>>> data = fastnn.load_digits()
>>> network = fastnn.Network.for_data(data, hidden=(32,))
>>> result = fastnn.train(network, data, epochs=20, batch_size=32, validation=0.2)
>>> bool(result.history[-1].validation_accuracy > 0.9)
True
"""

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.backends import get_backend as get_backend
    from fastnn.backends.warmup import warmup as warmup
    from fastnn.datasets import Dataset as Dataset
    from fastnn.datasets import load_digits as load_digits
    from fastnn.datasets import load_mnist as load_mnist
    from fastnn.datasets import prepare_image as prepare_image
    from fastnn.datasets import prepare_images as prepare_images
    from fastnn.datasets import read_csv as read_csv
    from fastnn.datasets import read_files as read_files
    from fastnn.datasets import read_idx as read_idx
    from fastnn.datasets import read_npz as read_npz
    from fastnn.datasets.class_weights import class_weights as class_weights
    from fastnn.datasets.splits import hold_out as hold_out
    from fastnn.errors import DataError as DataError
    from fastnn.errors import DivergenceError as DivergenceError
    from fastnn.errors import FastnnError as FastnnError
    from fastnn.errors import FileError as FileError
    from fastnn.errors import InconsistentVersionWarning as InconsistentVersionWarning
    from fastnn.errors import SettingsError as SettingsError
    from fastnn.errors import WorkerError as WorkerError
    from fastnn.estimators import CNNClassifier as CNNClassifier
    from fastnn.estimators import MLPClassifier as MLPClassifier
    from fastnn.estimators import MLPRegressor as MLPRegressor
    from fastnn.evaluation.evaluate import evaluate as evaluate
    from fastnn.explanation import Explanation as Explanation
    from fastnn.explanation import explain as explain
    from fastnn.explanation.diagnosis import Finding as Finding
    from fastnn.explanation.diagnosis import diagnose as diagnose
    from fastnn.explanation.gradient_check import check_gradients as check_gradients
    from fastnn.files.c_source import CExport as CExport
    from fastnn.files.c_source import export_c as export_c
    from fastnn.files.checkpoint_file import RunState as RunState
    from fastnn.files.checkpoint_file import load_checkpoint as load_checkpoint
    from fastnn.files.model_file import load as load
    from fastnn.files.model_file import save as save
    from fastnn.files.onnx import export_onnx as export_onnx
    from fastnn.live.view import LiveView as LiveView
    from fastnn.models import Copies as Copies
    from fastnn.models import Ensemble as Ensemble
    from fastnn.models import Model as Model
    from fastnn.network import AvgPool2D as AvgPool2D
    from fastnn.network import BatchNorm as BatchNorm
    from fastnn.network import Conv2D as Conv2D
    from fastnn.network import Dense as Dense
    from fastnn.network import MaxPool2D as MaxPool2D
    from fastnn.network import Network as Network
    from fastnn.network import Standardization as Standardization
    from fastnn.network import TargetScale as TargetScale
    from fastnn.optim.augmentation import Augment as Augment
    from fastnn.optim.config import TrainingConfig as TrainingConfig
    from fastnn.optim.optimizers import LBFGS as LBFGS
    from fastnn.optim.optimizers import SGD as SGD
    from fastnn.optim.optimizers import Adam as Adam
    from fastnn.optim.optimizers import AdamW as AdamW
    from fastnn.optim.stopping import EarlyStopping as EarlyStopping
    from fastnn.pages.page import write_page as write_page
    from fastnn.plots.live import LiveCurve as LiveCurve
    from fastnn.runs.recipes import RECIPES as RECIPES
    from fastnn.runs.recipes import get_recipe as get_recipe
    from fastnn.streams import BlockedData as BlockedData
    from fastnn.streams import infinite_digits as infinite_digits
    from fastnn.streams import open_data as open_data
    from fastnn.sweeps.optuna import PruningCallback as PruningCallback
    from fastnn.sweeps.record import SweepRecord as SweepRecord
    from fastnn.sweeps.result import SweepResult as SweepResult
    from fastnn.sweeps.sweep import sweep as sweep
    from fastnn.training.checkpoint import Checkpoint as Checkpoint
    from fastnn.training.history import History as History
    from fastnn.training.progress import Progress as Progress
    from fastnn.training.rate_search import RateSearch as RateSearch
    from fastnn.training.rate_search import find_learning_rate as find_learning_rate
    from fastnn.training.result import TrainingInterrupted as TrainingInterrupted
    from fastnn.training.result import TrainingResult as TrainingResult
    from fastnn.training.train import train as train

# The public names of each module. A module is imported when one of its names is first used, not by `import fastnn`.
_PUBLIC_NAMES = {
    "backends": ["get_backend"],
    "backends.warmup": ["warmup"],
    "datasets": [
        "Dataset", "load_digits", "load_mnist", "prepare_image", "prepare_images", "read_csv", "read_files",
        "read_idx", "read_npz",
    ],
    "datasets.class_weights": ["class_weights"],
    "datasets.splits": ["hold_out"],
    "errors": [
        "DataError", "DivergenceError", "FastnnError", "FileError", "InconsistentVersionWarning", "SettingsError",
        "WorkerError",
    ],
    "estimators": ["CNNClassifier", "MLPClassifier", "MLPRegressor"],
    "evaluation.evaluate": ["evaluate"],
    "explanation": ["Explanation", "explain"],
    "explanation.diagnosis": ["Finding", "diagnose"],
    "explanation.gradient_check": ["check_gradients"],
    "files.c_source": ["CExport", "export_c"],
    "files.checkpoint_file": ["RunState", "load_checkpoint"],
    "files.model_file": ["load", "save"],
    "files.onnx": ["export_onnx"],
    "live.view": ["LiveView"],
    "models": ["Copies", "Ensemble", "Model"],
    "network": [
        "AvgPool2D", "BatchNorm", "Conv2D", "Dense", "MaxPool2D", "Network", "Standardization", "TargetScale",
    ],
    "optim.augmentation": ["Augment"],
    "optim.config": ["TrainingConfig"],
    "optim.optimizers": ["LBFGS", "SGD", "Adam", "AdamW"],
    "optim.stopping": ["EarlyStopping"],
    "pages.page": ["write_page"],
    "plots.live": ["LiveCurve"],
    "runs.recipes": ["RECIPES", "get_recipe"],
    "streams": ["BlockedData", "infinite_digits", "open_data"],
    "sweeps.optuna": ["PruningCallback"],
    "sweeps.record": ["SweepRecord"],
    "sweeps.result": ["SweepResult"],
    "sweeps.sweep": ["sweep"],
    "training.checkpoint": ["Checkpoint"],
    "training.history": ["History"],
    "training.progress": ["Progress"],
    "training.rate_search": ["RateSearch", "find_learning_rate"],
    "training.result": ["TrainingInterrupted", "TrainingResult"],
    "training.train": ["train"],
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _PUBLIC_NAMES.items() for name in names}
__all__ = [*_MODULE_OF, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fastnn-digits")
    if name in _MODULE_OF:
        value = getattr(import_module(f"fastnn.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _KernelsFinder:
    """Finds `fastnn.kernels` in the folder `kernels/` of a checkout, and nothing else.

    A wheel contains the kernels inside this package. In a checkout, they are beside it, and Python started in the
    checkout imports this package even if a wheel is installed.
    """

    folder = os.path.join(os.path.dirname(__path__[0]), "kernels")

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "fastnn.kernels":
            return None
        origin = os.path.join(cls.folder, "__init__.py")
        spec = ModuleSpec(name, SourceFileLoader(name, origin), origin=origin, is_package=True)
        spec.submodule_search_locations, spec.has_location = [cls.folder], True
        return spec


if not os.path.isdir(os.path.join(__path__[0], "kernels")) and os.path.isfile(
    os.path.join(_KernelsFinder.folder, "jit.py")
):
    sys.meta_path.insert(0, _KernelsFinder)
