"""The contenders. Each is one library in a separate process with a fixed number of threads.

A contender's module has `versions()` and one function for each kind of work that it implements. The function prepares
the data and returns a callable that does the work once:

- `epoch(problem, threads)` -> `run(order, rate)` -> mean training loss; `run.weights()` -> weights, biases;
- `predict(problem, threads)` -> `run()` -> probabilities (N, C);
- `product(problem, threads)` -> `run()` -> the product;
- `products(problem, threads)` -> `run(order, rate)` -> NaN, after only the first layer's matrix products of an epoch;
- `multiply_adds(problem, threads)` -> `run(order, rate)` -> NaN, after as many multiply-adds as an epoch needs;
- `train(problem, threads)` -> `run()` -> weights, biases, after all epochs of the case.
"""

from dataclasses import dataclass, replace

PEER, CONTROL, LIMIT = "peer", "control", "limit"
BUSY = "-one-core-busy"
OTHER = "fastnn-other"
MACHINE, PEAK = "machine", "multiply-adds"


@dataclass(frozen=True)
class Contender:
    """A process of the comparison.

    Attributes
    ----------
    library : str
        Name of the library on the command line; MACHINE for what needs none of them.
    module : str
        Module in this package.
    role : {"peer", "control", "limit"}
        "peer" is another library. "control" is fastnn itself, possibly under other conditions. "limit" measures how
        fast the machine is; it has no loss to compare.
    work : str or None
        Function of the module to run; None for the work of the case.
    threads : int or None
        Number of threads; None for the run's number of threads.
    disturbed : bool
        Whether another process keeps one core busy during the work.
    other_checkout : bool
        Whether fastnn runs from the folder given by `--against`.
    """

    library: str
    module: str
    role: str = PEER
    work: str | None = None
    threads: int | None = None
    disturbed: bool = False
    other_checkout: bool = False


CONTENDERS = {
    "fastnn": Contender("fastnn", "fastnn_numba", CONTROL),
    "fastnn-again": Contender("fastnn", "fastnn_numba", CONTROL),
    "fastnn-one-thread": Contender("fastnn", "fastnn_numba", CONTROL, threads=1),
    "fastnn-bundled": Contender("fastnn", "fastnn_numba", CONTROL),
    "numpy": Contender("numpy", "numpy_blas"),
    "numpy-one-thread": Contender("numpy", "numpy_blas", threads=1),
    "openblas-products": Contender("numpy", "numpy_blas", LIMIT, work="products"),
    "scikit-learn": Contender("scikit-learn", "scikit_learn"),
    "torch": Contender("torch", "pytorch"),
    "torch-one-thread": Contender("torch", "pytorch", threads=1),
    "torch-compiled": Contender("torch-compiled", "pytorch_compiled"),
    "mkl-products": Contender("torch", "pytorch", LIMIT, work="products"),
    "torch-channels-last": Contender("torch", "pytorch_channels_last"),
    "torch-compiled-channels-last": Contender("torch-compiled", "pytorch_compiled_channels_last"),
    "torch-on-features": Contender("torch", "pytorch_on_features"),
    "jax": Contender("jax", "jax_scan"),
    "jax-patches": Contender("jax", "jax_patches"),
    "jax-batch-last": Contender("jax", "jax_batch_last"),
    "tensorflow": Contender("tensorflow", "tensorflow_function"),
    "fastnn-numpy": Contender("numpy", "fastnn_numpy"),
    PEAK: Contender(MACHINE, "multiply_adds", LIMIT, work="multiply_adds"),
    "onnxruntime": Contender("onnxruntime", "onnx_runtime"),
}
CONTENDERS |= {
    f"{name}{BUSY}": replace(CONTENDERS[name], disturbed=True)
    for name in ("fastnn", "numpy", "scikit-learn", "torch", "jax")
}


def other_name(name: str) -> str:
    """Return the name of the contender `name` in the other checkout."""
    return name.replace("fastnn", OTHER, 1)


CONTENDERS |= {
    other_name(name): replace(contender, other_checkout=True)
    for name, contender in CONTENDERS.items()
    if contender.library == "fastnn" and name != "fastnn-again"
}
LIBRARIES = tuple(dict.fromkeys(contender.library for contender in CONTENDERS.values() if contender.library != MACHINE))
