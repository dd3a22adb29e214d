"""Compile the kernels before the first run or in the background of a run, and report the compile time."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

from fastnn.backends import get_backend
from fastnn.backends.choice import CHOOSER, LOAD_SECONDS, fit_purpose
from fastnn.backends.threads import resolve_threads, usable_cores
from fastnn.network import Conv2D, Dense, Network
from fastnn.optim.augmentation import Augment
from fastnn.optim.optimizers import SGD


class Warmup(NamedTuple):
    """The result of `warmup`.

    Attributes
    ----------
    compiled : tuple of str
        The names of the kernels that it compiled.
    loaded : int
        The number of kernels that it loaded from disk.
    seconds : float
        Its total time.
    compile_seconds : float
        The part of `seconds` that was spent on compilation.
    """

    compiled: tuple[str, ...]
    loaded: int
    seconds: float
    compile_seconds: float


def warmup(dtypes: Sequence[str] = ("float32",)) -> Warmup:
    """Compile the kernels of the Numba backend, or load them if they are on disk already.

    The kernels cover training and prediction with networks of any shape, on inputs of any dtype, and the backend's
    single operations. Nothing is left to compile after it for networks of these dtypes.

    Parameters
    ----------
    dtypes : sequence of {"float32", "float64"}
        The dtypes of the networks.

    Returns
    -------
    Warmup
        The kernels compiled and loaded, without those that this process already had in memory.

    Raises
    ------
    SettingsError
        If a dtype is neither float32 nor float64.
    MissingDependencyError
        If Numba cannot be imported.

    Examples
    --------
    >>> import fastnn
    >>> first = fastnn.warmup()
    >>> fastnn.warmup().compiled  # nothing left to compile
    ()
    """
    start = time.perf_counter()
    networks = [Network.initialize((4, 10, 2), dtype=dtype) for dtype in dtypes]
    engine = get_backend("numba")
    from fastnn.kernels.compiler import cache

    n_compiled, n_loaded = len(cache.compilations), cache.loads()
    for network in networks:
        for dtype in (np.dtype(np.uint8), network.dtype):  # all other inputs are converted to the network's dtype
            _call_epochs(engine, network, dtype)
            _call_epochs_of_many_inputs(engine, network.dtype, dtype)
            _call_image_epochs(engine, network.dtype, dtype)
        _call_operations(engine, network)
        CHOOSER.note_loaded(network.dtype)
    compiled = cache.compilations[n_compiled:]
    return Warmup(
        tuple(compilation.kernel for compilation in compiled),
        cache.loads() - n_loaded,
        time.perf_counter() - start,
        sum((compilation.seconds for compilation in compiled), 0.0),
    )


# So many images are predicted by the kernels for many: those for few take 4 at most.
_MANY_IMAGES = 8


def _image_network(real: Any) -> Network:
    return Network.initialize((1, 4, 4), [Conv2D(2), Dense(2)], dtype=real)


# The number of samples that are enough for row blocks, and for threads to share the rows of the widest networks.
_N_SAMPLES = 4096


def _call_epochs(engine: Any, network: Network, dtype: np.dtype) -> None:
    """Prepare epochs and predict, on inputs of `dtype`."""
    images, labels = np.tile(np.array([0, 0, 1, 1], dtype), (_N_SAMPLES, 1)), np.zeros(_N_SAMPLES, np.int64)
    trainer = engine.trainer(network, images, labels, SGD(), threads=1)
    # In small batches threads share units. In the full batch they share rows, in row blocks.
    for batch_size in (1, _N_SAMPLES):
        trainer.prepare(_N_SAMPLES, batch_size)
    engine.trainer(network, images, labels, SGD(), threads=1, slices=1).prepare(1, 1)
    engine.predict_proba(network, images[:1])


def _call_image_epochs(engine: Any, real: np.dtype, dtype: np.dtype) -> None:
    """Prepare epochs of an image network, and predict, on inputs of `dtype`."""
    network = _image_network(real)
    images, labels = np.ones((2, 16), dtype), np.zeros(2, np.int64)
    engine.trainer(network, images, labels, SGD(), threads=1).prepare(2, 2)
    for n_images in (1, _MANY_IMAGES):
        engine.predict_proba(network, np.ones((n_images, 16), dtype))


def _call_epochs_of_many_inputs(engine: Any, real: np.dtype, dtype: np.dtype) -> None:
    """Prepare epochs whose lists of nonzero inputs have indices of four bytes: two bytes are too few for the inputs."""
    from scipy.sparse import csr_matrix

    from fastnn.backends.compiled.inputs import NonzeroInputs
    from fastnn.backends.compiled.layout import readonly_view
    from fastnn.kernels.inputs.row_blocks import MOST_UNITS, ROW_BLOCK

    n_inputs, n_samples = 2**16 + 1, 2 * _N_SAMPLES + 1
    NonzeroInputs(readonly_view(np.ones((ROW_BLOCK, n_inputs), dtype)), None, real).row_blocks(MOST_UNITS)
    matrix = csr_matrix((n_samples, n_inputs), dtype=dtype)
    network = Network.initialize((n_inputs, 1), dtype=real)
    trainer = engine.trainer(network, matrix, np.zeros(n_samples, np.int64), SGD(), threads=1)
    trainer.prepare(n_samples, n_samples)
    engine.predict_proba(network, matrix[:1])


def _call_operations(engine: Any, network: Network) -> None:
    """Call each operation that has a kernel."""
    inp, label, weight, bias = (
        np.ones((1, 4), network.dtype),
        np.zeros(1, np.int64),
        network.weights[0],
        network.biases[0],
    )
    engine.matmul(inp, weight)
    engine.relu_backward(inp, engine.relu(inp))
    engine.softmax_cross_entropy(engine.softmax(inp), label)
    engine.squared_error(inp, inp)
    out = engine.dense_forward(inp, weight, bias)
    engine.dense_backward(out, inp, weight)
    image, filters = inp.reshape(1, 1, 2, 2), np.ones((1, 2, 2, 1), network.dtype)
    engine.conv_backward(
        engine.conv_forward(image, filters, filters[0, 0, 0], (1, 1), (0, 0)), image, filters, (1, 1), (0, 0)
    )
    change = Augment(shift=1).draw((2, 2), np.uint64(0), label, (0, 1))
    for dtype in (np.uint8, network.dtype):
        engine.distort(inp.astype(dtype), label, change)
    out, mean, variance = engine.batch_norm_forward(out, bias, bias, 1e-5)
    engine.batch_norm_backward(out, out, bias, mean, variance, 1e-5)


def compile_seconds(backend: str) -> float:
    """Return the seconds this process has spent compiling kernels for this backend; 0 for "numpy"."""
    if backend != "numba":
        return 0.0
    from fastnn.kernels.compiler import cache

    return cache.compile_seconds()


@contextmanager
def compile_prediction_in_background(
    backend: str, network: Network, inputs: np.dtype, threads: int | None
) -> "Iterator[subprocess.Popen[bytes] | None]":
    """Compile the kernels of a network's predictions in another process while the run compiles its training kernel.

    The run needs them after its first epoch. The other process finishes long before that, because
    Numba compiles one kernel at a time in a process and the training kernel takes three times as long. No process is
    started if they are on disk, could not be stored there, or would be compiled on the same core. If the process fails,
    the run compiles them itself.

    `inputs` is the dtype of the inputs to predict from. Yields the process, which is terminated at the end of the
    block, or None.
    """
    process = None
    name = _kernel_of_predictions(backend, network)
    if name and _has_to_compile(name, threads):
        with suppress(OSError):
            process = _start("_compile_prediction", name, str(network.dtype), str(inputs))
    try:
        yield process
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def compile_training_elsewhere(network: Network, inputs: np.dtype) -> None:
    """Compile the training kernels for networks like this one in another process, unless they are on disk, and wait.

    Compiling holds Python's interpreter for seconds: in a process that answers a server, nothing else goes on. If the
    other process fails, the run compiles them itself. `inputs` is the dtype of the inputs to train on.
    """
    kind = fit_purpose(network), str(network.dtype), str(inputs if inputs == np.uint8 else network.dtype)
    if not _is_python() or kind in _COMPILED or CHOOSER.price(kind[0], network.dtype) <= LOAD_SECONDS:
        return
    from fastnn.kernels.compiler import cache

    if cache.cache_folder() is None:
        return
    with suppress(OSError):
        _start("_compile_training", *kind).wait()
    _COMPILED.add(kind)


# The purposes, and the dtypes of the networks and of the inputs, whose kernels this process has had compiled elsewhere.
_COMPILED: set[tuple[str, str, str]] = set()


def _compile_training(purpose: str, dtype: str, inputs: str) -> None:
    engine = get_backend("numba")
    if purpose == "fit":
        _call_epochs(engine, Network.initialize((4, 10, 2), dtype=dtype), np.dtype(inputs))
    else:
        _call_image_epochs(engine, np.dtype(dtype), np.dtype(inputs))


def _start(function: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Call a function of this module with texts in another process."""
    # Import the modules of this process, not those that happen to be in the current folder.
    program = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        f"from fastnn.backends.warmup import {function}; {function}(*sys.argv[2:])"
    )
    command = [sys.executable, "-P", "-c", program, json.dumps(sys.path), *arguments]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=null, stdout=null, stderr=null)


def _is_python() -> bool:
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def _kernel_of_predictions(backend: str, network: Network) -> str:
    """The name of the first kernel that predicts with a network; "" if none does, or no kernel can be imported."""
    if backend == "numpy":
        return ""
    try:
        from fastnn.backends.compiled.trainers import fused_trainer
    except ImportError:  # without Numba; get_backend reports it
        return ""
    return "" if fused_trainer(network) is None else "predict" if network.is_dense else "forward_images"


def _has_to_compile(name: str, threads: int | None) -> bool:
    if not _is_python() or min(usable_cores(), resolve_threads(threads)) < 2:
        return False
    from fastnn.kernels.compiler import cache
    from fastnn.kernels.epoch.image_passes import forward_images
    from fastnn.kernels.epoch.predict import predict

    kernel = {"predict": predict, "forward_images": forward_images}[name]
    return cache.cache_folder() is not None and not cache.is_on_disk(kernel)


def _compile_prediction(name: str, dtype: str, inputs: str) -> None:
    network, n_rows = Network.initialize((4, 4, 2), dtype=dtype), 1
    if name == "forward_images":
        network, n_rows = _image_network(dtype), _MANY_IMAGES
    get_backend("numba").predict_proba(network, np.zeros((n_rows, network.n_inputs), inputs))
