"""When kernels are compiled: before the first run, by `warmup`, or in it; and the seconds that took."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np

from fastnn.backends import get_backend
from fastnn.backends.threads import resolve_threads, usable_cores
from fastnn.network import Network
from fastnn.optim.optimizers import SGD


class Warmup(NamedTuple):
    """What `warmup` did: the kernels it compiled, how many it found on disk, its seconds, and those of compiling."""

    compiled: tuple[str, ...]
    loaded: int
    seconds: float
    compile_seconds: float


def warmup(dtypes: Sequence[str] = ("float32",)) -> Warmup:
    """Compile the kernels of the Numba backend, or load them where they are on disk already.

    Parameters
    ----------
    dtypes
        Of the networks that they are to serve, "float32" or "float64" or both: networks of any shape, trained on and
        predicting from uint8 pixels and numbers of the same dtype, and each single operation.

    Returns
    -------
    Warmup
        Kernels that this process has in memory already count neither as compiled nor as loaded.

    Raises
    ------
    SettingsError
        If one of `dtypes` is another.
    MissingDependencyError
        If Numba cannot be imported.
    """
    start = time.perf_counter()
    networks = [Network.initialize((4, 10, 2), dtype=dtype) for dtype in dtypes]
    engine = get_backend("numba")
    from fastnn.kernels.compiler import cache

    n_compiled, n_loaded = len(cache.compilations), cache.loads()
    n_samples = 4096
    images, labels = np.tile(np.array([0, 0, 1, 1], np.uint8), (n_samples, 1)), np.zeros(n_samples, np.int64)
    for network in networks:
        for inputs in (images, images.astype(network.dtype)):
            trainer = engine.trainer(network, inputs, labels, SGD(), threads=1)
            # Small and large beside the network: threads share panels, or rows. The latter is a full batch, of strips.
            for batch_size in (1, n_samples):
                trainer.prepare(n_samples, batch_size)
            engine.predict_proba(network, inputs[:1])
        inp, weight, bias = np.ones((1, 4), network.dtype), network.weights[0], network.biases[0]
        engine.matmul(inp, weight)
        engine.relu_backward(inp, engine.relu(inp))
        engine.softmax_cross_entropy(engine.softmax(inp), labels[:1])
        out = engine.dense_forward(inp, weight, bias)
        engine.dense_backward(out, inp, weight, out)
    compiled = cache.compilations[n_compiled:]
    return Warmup(
        tuple(compilation.kernel for compilation in compiled),
        cache.loads() - n_loaded,
        time.perf_counter() - start,
        sum((compilation.seconds for compilation in compiled), 0.0),
    )


def compile_seconds(backend: str) -> float:
    """Seconds this process has spent compiling kernels for the backend "numba"; "numpy" has none to compile."""
    if backend != "numba":
        return 0.0
    from fastnn.kernels.compiler import cache

    return cache.compile_seconds()


@contextmanager
def compile_prediction_in_background(
    backend: str, dtype: str, inputs: np.dtype, threads: int | None
) -> "Iterator[subprocess.Popen[bytes] | None]":
    """Where a run has to compile its kernels, have a process of its own compile the one that predicts meanwhile.

    A run needs that after its first epoch, when the other process has long been done: Numba compiles one kernel at a
    time in a process, and the one for training takes three times as long. Nothing is started where the kernel is on
    disk, could not be kept there, or would be compiled on the same core; whatever fails is left to the run itself.

    Parameters
    ----------
    backend, dtype, threads
        The run's: as `get_backend` takes it, "float32" or "float64", and as `fastnn.train` takes it.
    inputs
        The dtype of what will be predicted.

    Yields
    ------
    subprocess.Popen or None
        The process, which is ended with the block if it is still there.
    """
    process = None
    if _has_to_compile_prediction(backend, threads):
        # With the modules of this process, and none that happen to lie in the current folder.
        program = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            "from fastnn.backends.warmup import _compile_prediction; _compile_prediction(*sys.argv[2:])"
        )
        command = [sys.executable, "-P", "-c", program, json.dumps(sys.path), dtype, str(inputs)]
        nowhere = subprocess.DEVNULL
        with suppress(OSError):
            process = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere)
    try:
        yield process
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def _has_to_compile_prediction(backend: str, threads: int | None) -> bool:
    is_python = bool(sys.executable) and not getattr(sys, "frozen", False)
    if backend == "numpy" or not is_python or min(usable_cores(), resolve_threads(threads)) < 2:
        return False
    try:
        from fastnn.kernels.compiler import cache
        from fastnn.kernels.epoch import predict as inference
    except ImportError:  # of Numba: whoever asks for the backend will say so
        return False
    return cache.cache_folder() is not None and not cache.is_on_disk(inference.predict)


def _compile_prediction(dtype: str, inputs: str) -> None:
    get_backend("numba").predict_proba(Network.initialize((4, 4, 2), dtype=dtype), np.zeros((1, 4), inputs))
