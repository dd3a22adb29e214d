"""The choice of ``backend="auto"``: NumPy for work that it finishes sooner than a process has kernels, else Numba.

The NumPy backend runs at once. The kernels of the Numba backend are several times faster, but a process first has to
load them from disk or, where there are none, to compile them. Nobody knows what else a process will do, so the rule is
that of renting or buying skis: NumPy as long as its total work in this process, with the work at hand, would take less
time than getting the kernels; then the kernels, for all that follows. After a first fit, loading them counts half: a
process that fits twice mostly fits more often. So a process waits at most about twice as long
as it would with the better backend from the start.

The rule depends on estimates, never on a clock: the same program takes the same backends each time, as long as the same
kernels are on disk. A fit never changes its backend. What continues an earlier fit stays on the backend of that fit, so
that its bits are those of a single run: a checkpoint, the state of a result, `partial_fit` and `warm_start`.
"""

import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import Backend, backend_name, get_backend
from fastnn.network import Conv2D, Layer, Network
from fastnn.network.parts import split_frozen
from fastnn.optim.augmentation import get_augment
from fastnn.optim.config import AUTO, TrainingConfig
from fastnn.optim.optimizers import LBFGS, Optimizer

# The seconds until a process has kernels that are on disk, and those of a fit and of a prediction that are not.
LOAD_SECONDS = 0.15
# Likewise after other work of the process, which makes still more of it likely: then the kernels pay sooner.
LOAD_AGAIN_SECONDS = 0.08
COMPILE_SECONDS = {"fit": 8.0, "predict": 3.0, "fit images": 12.0, "predict images": 6.0}
# The seconds where an installed wheel contains the kernel as LLVM's code (float32).
SHIPPED_SECONDS = {"fit": 1.5, "predict": 0.7, "fit images": 2.5, "predict images": 1.2}

# The seconds that NumPy needs, measured on one core of 2024: for a training step of any size and for each of its
# layers, for a prediction and each of its layers, for a multiplication with a dense and with a sparse input and in a
# convolution, for a unit of a row, for a parameter in an update, once and for each state array of the optimizer, and
# for a pixel of an augmented image, once and for each weight that smooths its displacement.
_STEP, _STEP_LAYER = 1e-4, 2e-5
_PREDICT, _PREDICT_LAYER = 3e-5, 1e-5
_DENSE, _SPARSE, _CONVOLVED, _UNIT = 3e-11, 9e-10, 3e-10, 3.5e-9
_UPDATE, _SLOT = 5e-10, 1e-9
_PIXEL, _TAP = 8e-8, 5e-9

# A run that can stop early is expected to last so many epochs at most: one that stops for its training loss, and one
# that stops for its validation data. `partial_fit` is expected to be called so many times.
EXPECTED_EPOCHS, EXPECTED_VALIDATED_EPOCHS = 200, 50
EXPECTED_CALLS = 2000
# About the number of steps of a search for the learning rate.
_SEARCH_STEPS = 2000

_LOGGER = logging.getLogger("fastnn")

# The outputs that no fused kernel trains.
_WITHOUT_KERNELS = ("exp",)


class Work(NamedTuple):
    """Work for a backend.

    Attributes
    ----------
    purpose : {"fit", "predict", "fit images", "predict images"}
        Determines the kernels that the work needs: those for images if the network has convolutions.
    dtype : dtype
        That of the network.
    seconds : float
        The estimated time with the NumPy backend.
    is_layerwise : bool
        Whether no fused kernel has the network's output. NumPy then takes half the time.
    """

    purpose: str
    dtype: np.dtype
    seconds: float
    is_layerwise: bool = False  # whether it needs a layer-by-layer loop with either backend


def prediction_work(network: Network, inputs: Any, n_rows: int | None = None) -> Work:
    """Return the work of predicting inputs, (N, D), an array or a sparse matrix.

    n_rows: the number of rows, if `inputs` are some of them
    """
    n_rows = inputs.shape[0] if n_rows is None else n_rows
    layers = _PREDICT_LAYER * len(network.layers)
    seconds = _PREDICT + layers + _pass_seconds(network, inputs, n_rows, (1, 1))
    return Work(_purpose("predict", network), network.dtype, seconds)


def fit_work(
    network: Network, inputs: Any, n_rows: int, config: TrainingConfig, epochs: int | None = None, n_held_out: int = 0
) -> Work:
    """Return the work of a training run.

    Parameters
    ----------
    network : Network
    inputs : ndarray or sparse matrix of shape (N, D)
    n_rows : int
        The number of samples to train on.
    config : TrainingConfig
    epochs : int or None
        The expected number of epochs; None: that of `expected_epochs`.
    n_held_out : int
        The number of samples to evaluate after each epoch.
    """
    epochs = expected_epochs(config) if epochs is None else epochs
    if config.frozen:
        front, tail = split_frozen(network, config.frozen)
        n_passes = 1 if config.augment is None else epochs
        seconds = _pass_seconds(front.network, inputs, n_passes * n_rows + n_held_out, (1, 1))
        seconds += epochs * n_rows * _augment_seconds(network, config)
        of_tail = config.replace(frozen=0, augment=None)
        work = fit_work(tail, None, n_rows, of_tail, epochs, n_held_out)  # features are dense
        return work._replace(seconds=work.seconds + seconds)
    batch_size, rule = min(config.batch_size or n_rows, n_rows), config.update_rule
    n_steps = epochs * math.ceil(n_rows / batch_size)
    n_searched = _SEARCH_STEPS if config.learning_rate == AUTO and isinstance(rule, Optimizer) else 0
    update = _UPDATE + _SLOT * rule.n_slots if isinstance(rule, Optimizer) else 0.0  # SciPy updates for both backends
    fixed = _STEP + _STEP_LAYER * len(network.layers) + update * network.n_parameters
    # The first layer has a forward product and a weight gradient, the others have the gradient of their inputs as well.
    rows = epochs * n_rows + n_searched * batch_size
    seconds = (n_steps + n_searched) * fixed + rows * _pass_seconds(network, inputs, 1, (2, 3))
    seconds += epochs * n_rows * _augment_seconds(network, config)
    if n_held_out:
        seconds += epochs * (_PREDICT + _pass_seconds(network, inputs, n_held_out, (1, 1)))
    return Work(_purpose("fit", network), network.dtype, seconds, network.output in _WITHOUT_KERNELS)


def _pass_seconds(network: Network, inputs: Any, n_rows: int, products: tuple[int, int]) -> float:
    """The seconds for some rows, with so many products of the first layer and of each other layer."""
    pairs = zip(network.layers, network.shapes, strict=False)
    first, *others = (_of_layer(layer) * layer.n_multiplications(shape) for layer, shape in pairs)
    if not isinstance(inputs, np.ndarray) and hasattr(inputs, "nnz"):
        first *= _SPARSE / _DENSE * inputs.nnz / max(1, math.prod(inputs.shape))
    units = _UNIT * sum(network.sizes[1:])
    return n_rows * (products[0] * first + products[1] * sum(others) + units)


def _augment_seconds(network: Network, config: TrainingConfig) -> float:
    """The seconds to distort an image."""
    augment = get_augment(config.augment)
    if augment is None:
        return 0.0
    n_taps = min(3 * augment.sigma, math.sqrt(network.n_inputs)) if augment.alpha else 0
    return network.n_inputs * (_PIXEL + _TAP * n_taps)


def _of_layer(layer: Layer) -> float:
    """The seconds of a multiplication in a layer."""
    return _CONVOLVED if isinstance(layer, Conv2D) else _DENSE


def _purpose(work: str, network: Network) -> str:
    """The purpose of work, which is "fit" or "predict", with a network."""
    return f"{work} images" if any(isinstance(layer, Conv2D) for layer in network.layers) else work


def fit_purpose(network: Network) -> str:
    """Return the purpose of training a network, as in `Work`."""
    return _purpose("fit", network)


def expected_epochs(config: TrainingConfig, callbacks: Sequence[Any] = ()) -> int:
    """Return the number of epochs to expect: all, or fewer if the run can stop early.

    A callback that knows better has an attribute `expected_epochs`.
    """
    for callback in callbacks:
        if getattr(callback, "expected_epochs", None) is not None:
            return int(callback.expected_epochs)
    if config.early_stopping is not None:
        return min(config.epochs, EXPECTED_VALIDATED_EPOCHS)
    return min(config.epochs, EXPECTED_EPOCHS) if isinstance(config.update_rule, LBFGS) else config.epochs


def expected_epochs_of_fit(max_iter: int, by_validation: bool, incremental: bool) -> int:
    """Return the number of epochs to expect of an estimator's `fit` or, if `incremental`, of all its `partial_fit`."""
    if incremental:
        return EXPECTED_CALLS
    return min(max_iter, EXPECTED_VALIDATED_EPOCHS if by_validation else EXPECTED_EPOCHS)


class Choice(NamedTuple):
    """A backend, "numba" or "numpy", and the reason for it."""

    backend: str
    reason: str


def decide(seconds: float, spent: float, price: float) -> Choice:
    """Return the choice for work that takes NumPy `seconds`.

    Parameters
    ----------
    seconds : float
        The estimated time of the work with NumPy.
    spent : float
        The estimated time of all earlier work of the process with NumPy.
    price : float
        The time until the process has the kernels: 0, `LOAD_SECONDS`, `LOAD_AGAIN_SECONDS`, or those of
        `seconds_to_make`.

    Examples
    --------
    >>> from fastnn.backends.choice import decide
    >>> decide(0.04, spent=0.0, price=0.1)
    Choice(backend='numpy', reason='NumPy takes about 0.04 s, loading the kernels 0.1 s')
    >>> decide(0.04, spent=0.08, price=0.1).backend
    'numba'
    """
    if not price:
        return Choice("numba", "the kernels are loaded")
    total = f"about {seconds:.2g} s" + (f", {spent + seconds:.2g} s with all before" if spent else "")
    getting = f"{'loading' if price <= LOAD_SECONDS else 'compiling'} the kernels {price:g} s"
    return Choice("numba" if spent + seconds > price else "numpy", f"NumPy takes {total}, {getting}")


class Chooser:
    """The choices of one process.

    Parameters
    ----------
    find_on_disk : function of a purpose and a dtype
        Whether the kernels are on disk.

    Attributes
    ----------
    spent : float
        The estimated seconds of the work that NumPy has been chosen for.
    """

    def __init__(self, find_on_disk: Callable[[str, np.dtype], bool]) -> None:
        self.spent = 0.0
        self._find_on_disk = find_on_disk
        self._on_disk: dict[tuple[str, np.dtype], bool] = {}  # looked up once: other processes change nothing here
        self._loaded: set[tuple[str, np.dtype]] = set()
        self._is_usable = True

    def price(self, purpose: str, dtype: np.dtype) -> float:
        """Return the seconds until this process has the kernels for a purpose and a dtype."""
        if (purpose, dtype) in self._loaded:
            return 0.0
        if (purpose, dtype) not in self._on_disk:
            self._on_disk[purpose, dtype] = self._find_on_disk(purpose, dtype)
        if self._on_disk[purpose, dtype]:
            return 0.0 if self._loaded else self._loading
        return seconds_to_make(purpose, dtype)

    @property
    def _loading(self) -> float:
        return LOAD_AGAIN_SECONDS if self.spent else LOAD_SECONDS

    def note_loaded(self, dtype: np.dtype) -> None:
        """Note that the process has all kernels for networks of a dtype."""
        self._loaded.update((purpose, np.dtype(dtype)) for purpose in COMPILE_SECONDS)

    def peek(self, name: str, work: Work, began: str = "") -> Choice:
        """Return the choice for some work, without making it."""
        if name != "auto":
            return Choice(name, f'backend is "{name}"')
        if began:
            return Choice(began, f"the run began with {began}")
        if not self._is_usable:
            return Choice("numpy", "Numba cannot be used")
        if work.is_layerwise:
            return Choice("numpy", "no kernel trains a network with this output")
        # The disk is not looked at for work that is too small for any kernels to be loaded.
        small = not self._loaded and self.spent + work.seconds <= self._loading
        price = self._loading if small else self.price(work.purpose, work.dtype)
        return decide(work.seconds, self.spent, price)

    def choose(self, name: str, work: Work, began: str = "") -> Backend:
        """Return the backend for some work, and remember what it costs.

        Parameters
        ----------
        name : {"auto", "numba", "numpy"}
            The backend that the user has set.
        work : Work
        began : {"numba", "numpy", ""}
            The backend of the run that this work continues, which counts before the rule.

        Raises
        ------
        SettingsError, MissingDependencyError
            As in `get_backend`.
        """
        choice = self.peek(name, work, began)
        if choice.backend == "numpy":
            engine = get_backend("numpy")
            self.spent += work.seconds if name == "auto" else 0.0
        else:
            engine = get_backend(name)  # of "auto", the reference if Numba is missing after all
            if backend_name(engine) == "numba":
                self._loaded.add((work.purpose, work.dtype))
            else:
                self._is_usable = False
        _LOGGER.debug("%s on %s: %s", work.purpose, backend_name(engine), choice.reason)
        return engine

    def predictor(self, name: str, network: Network, inputs: Any) -> Backend:
        """Return the backend to predict inputs with, as `choose` does."""
        # Predicting one row takes only microseconds.
        if name == "auto" and network.is_dense and ("predict", network.dtype) in self._loaded:
            return get_backend("numba")
        return self.choose(name, prediction_work(network, inputs))


def continued_backend(name: str, began: str | None) -> str:
    """Return the backend of work that continues a fit which used `began`: that one if `name` is "auto".

    Without Numba, it is "numpy" in any case.
    """
    if name != "auto" or not began:
        return name
    return began if began == "numpy" else backend_name(get_backend("auto"))


def lasting_backend(name: str, network: Network) -> str:
    """Return the backend, "numba" or "numpy", of many runs with one kind of network: "auto" looks at no single run.

    So it depends neither on what the process did before nor on the kernels on disk, and the bits do not, either.
    """
    if name != "auto":
        return name
    return "numpy" if network.output in _WITHOUT_KERNELS else backend_name(get_backend("auto"))


# The beginnings of the names of the kernel files of each purpose. The key at the beginning of a file names the types of
# the kernel's arguments: those of the network's layout, or of the array that predictions are written to.
_FILES = {
    "fit": ("by_units.", "by_rows."),
    "predict": ("predict.predict-",),
    "fit images": ("by_images.",),
    "predict images": ("image_passes.forward_images-",),
}
_HEADER = 8192
_TYPES = {
    ("fit", "float32"): rb"Layout\( ?(array\(float32|<f4)",
    ("fit", "float64"): rb"Layout\( ?(array\(float64|<f8)",
    ("predict", "float32"): rb"Array\(float32, 2, 'C', False|<f4C2\s",
    ("predict", "float64"): rb"Array\(float64, 2, 'C', False|<f8C2\s",
    ("fit images", "float32"): rb"Layout\( ?<f4",
    ("fit images", "float64"): rb"Layout\( ?<f8",
    ("predict images", "float32"): rb"Own\( ?<f4",
    ("predict images", "float64"): rb"Own\( ?<f8",
}


def seconds_to_make(purpose: str, dtype: np.dtype) -> float:
    """Return the seconds that it takes to make the kernels for a purpose and the dtype of a network."""
    from fastnn.kernels.compiler import shipped

    return SHIPPED_SECONDS[purpose] if dtype == np.float32 and shipped.is_there() else COMPILE_SECONDS[purpose]


def kernels_on_disk(purpose: str, dtype: np.dtype) -> bool:
    """Return whether the cache folder has kernels for a purpose and the dtype of a network."""
    try:
        from fastnn.kernels.compiler.cache import cache_folder

        folder = cache_folder()
    except ImportError:
        return True  # so that `get_backend` is asked, and says why there are none
    if folder is None:
        return False
    try:
        files = [each for each in folder.iterdir() if each.name.startswith(_FILES[purpose])]
        return any(re.search(_TYPES[purpose, dtype.name], _header(each)) for each in files)
    except OSError:
        return False


def _header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER)


CHOOSER = Chooser(kernels_on_disk)
"""The choices of this process."""
