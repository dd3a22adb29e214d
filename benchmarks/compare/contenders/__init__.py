"""Who takes part: each contender is one library in a process of its own, at a stated number of threads.

A contender's module has `versions()` and a function for each kind of work it can do, which lays the data out and
returns a callable that does the work once:

- `epoch(problem, threads)` -> `run(order, rate)` -> mean training loss; `run.weights()` -> weights, biases;
- `predict(problem, threads)` -> `run()` -> probabilities, (N, C);
- `product(problem, threads)` -> `run()` -> the product;
- `products(problem, threads)` -> `run(order, rate)`: only the first layer's two matrix products of an epoch.
"""

from dataclasses import dataclass, replace

PEER, CONTROL, LIMIT = "peer", "control", "limit"
BUSY = "-one-core-busy"
OTHER = "fastnn-other"


@dataclass(frozen=True)
class Contender:
    """A process that takes part.

    Attributes
    ----------
    library : str
        What the command line calls it.
    module : str
        In this package.
    role : {"peer", "control", "limit"}
        "control": fastnn itself, under a condition; "limit": what the machine can do, which gives no loss to compare.
    work : str or None
        The function of the module; None: the case's own work.
    threads : int or None
        None: as many as the run has.
    disturbed : bool
        Another process keeps one core busy meanwhile.
    other_checkout : bool
        It runs fastnn from the folder that `--against` names.
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
    "jax": Contender("jax", "jax_scan"),
    "onnxruntime": Contender("onnxruntime", "onnx_runtime"),
}
CONTENDERS |= {
    f"{name}{BUSY}": replace(CONTENDERS[name], disturbed=True)
    for name in ("fastnn", "numpy", "scikit-learn", "torch", "jax")
}


def other_name(name: str) -> str:
    """What the contender `name` is called when it runs the other checkout."""
    return name.replace("fastnn", OTHER, 1)


CONTENDERS |= {
    other_name(name): replace(contender, other_checkout=True)
    for name, contender in CONTENDERS.items()
    if contender.library == "fastnn" and name != "fastnn-again"
}
LIBRARIES = tuple(dict.fromkeys(contender.library for contender in CONTENDERS.values()))
