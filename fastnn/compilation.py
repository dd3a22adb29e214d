"""When kernels are compiled: before the first run, by `warmup`, or in it; and the seconds that took."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np

from fastnn.backends import get_backend
from fastnn.network import Network
from fastnn.optimizers import SGD
from fastnn.threads import usable_cores


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
    networks = [Network.initialize((4, 4, 2), dtype=dtype) for dtype in dtypes]
    engine = get_backend("numba")
    from fastnn.kernels import jit

    n_compiled, n_loaded = len(jit.compilations), jit.loads()
    n_samples = 4096
    labels = np.zeros(n_samples, np.int64)
    for network in networks:
        for inputs in (np.zeros((n_samples, 4), np.uint8), np.zeros((n_samples, 4), network.dtype)):
            trainer = engine.trainer(network, inputs, labels, SGD(), threads=1)
            # Small and large beside the network: threads share panels, or rows. The latter is a full batch, of strips.
            for batch_size in (1, n_samples):
                trainer.prepare(n_samples, batch_size)
            engine.predict_proba(network, inputs[:1])
        inp, weight, bias = np.ones((1, 4), network.dtype), network.weights[0], network.biases[0]
        engine.matmul(inp, weight)
        engine.relu_backward(inp, engine.relu(inp))
        engine.softmax_cross_entropy(engine.softmax(inp), labels[:1])
        engine.dense_backward(inp, inp, weight, engine.dense_forward(inp, weight, bias))
    compiled = jit.compilations[n_compiled:]
    return Warmup(
        tuple(compilation.kernel for compilation in compiled),
        jit.loads() - n_loaded,
        time.perf_counter() - start,
        sum((compilation.seconds for compilation in compiled), 0.0),
    )


def compile_seconds(backend: str) -> float:
    """Seconds this process has spent compiling kernels for the backend "numba"; "numpy" has none to compile."""
    if backend != "numba":
        return 0.0
    from fastnn.kernels import jit

    return jit.compile_seconds()


@contextmanager
def prediction_compiled_aside(backend: str, dtype: str, inputs: np.dtype) -> "Iterator[subprocess.Popen[bytes] | None]":
    """Where a run has to compile its kernels, have a process of its own compile the one that predicts meanwhile.

    A run needs that after its first epoch, when the other process has long been done: Numba compiles one kernel at a
    time in a process, and the one for training takes three times as long. Nothing is started where the kernel is on
    disk, could not be kept there, or would be compiled on the same core; whatever fails is left to the run itself.

    Parameters
    ----------
    backend, dtype
        The run's: as `get_backend` takes it, and "float32" or "float64".
    inputs
        The dtype of what will be predicted.

    Yields
    ------
    subprocess.Popen or None
        The process, which is ended with the block if it is still there.
    """
    process = None
    if _has_to_compile_prediction(backend):
        program = "import sys, fastnn.compilation; fastnn.compilation._compile_prediction(*sys.argv[1:])"
        nowhere = subprocess.DEVNULL
        with suppress(OSError):
            process = subprocess.Popen(
                [sys.executable, "-c", program, dtype, str(inputs)], stdin=nowhere, stdout=nowhere, stderr=nowhere
            )
    try:
        yield process
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def _has_to_compile_prediction(backend: str) -> bool:
    if backend == "numpy" or usable_cores() < 2:
        return False
    try:
        from fastnn.kernels import inference, jit
    except ImportError:  # of Numba: whoever asks for the backend will say so
        return False
    return jit.cache_folder() is not None and not jit.is_on_disk(inference.predict)


def _compile_prediction(dtype: str, inputs: str) -> None:
    get_backend("numba").predict_proba(Network.initialize((4, 4, 2), dtype=dtype), np.zeros((1, 4), inputs))
