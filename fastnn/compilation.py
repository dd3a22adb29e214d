"""When kernels are compiled: before the first run, by `warmup`, or in it; and the seconds that took."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastnn.backends import get_backend
from fastnn.network import Network
from fastnn.optimizers import SGD


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
