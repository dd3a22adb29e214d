"""When kernels are compiled: before the first run, by `warmup`, or in it; and the seconds that took."""

import time
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


def warmup() -> Warmup:
    """Compile the kernels of the Numba backend, or load them where they are on disk already.

    They serve networks of any shape in float32: training and prediction on uint8 pixels, and each single operation on
    float32. Others (float32 inputs, float64 networks) are compiled when they are first met.

    Returns
    -------
    Warmup
        Kernels that this process has in memory already count neither as compiled nor as loaded.

    Raises
    ------
    MissingDependencyError
        If Numba cannot be imported.
    """
    start = time.perf_counter()
    engine = get_backend("numba")
    from fastnn.kernels import jit

    n_compiled, n_loaded = len(jit.compilations), jit.loads()
    inputs = np.zeros((1, 4), np.uint8)
    labels, network = np.zeros(1, np.int64), Network.initialize((4, 4, 2))
    trainer = engine.trainer(network, inputs, labels, SGD(), threads=1)
    for batch_size in (1, 1000):  # small and large beside the network: threads share panels, or rows
        trainer.prepare(1000, batch_size)
    engine.predict_proba(network, inputs)
    inp, weight, bias = np.ones((1, 4), np.float32), network.weights[0], network.biases[0]
    engine.matmul(inp, weight)
    engine.relu_backward(inp, engine.relu(inp))
    engine.softmax_cross_entropy(engine.softmax(inp), labels)
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
