"""Who takes part: each seat is one library in a process of its own, at a stated number of threads.

A contender's module has `versions()` and a function for each kind of work it can do, which lays the data out and
returns a callable that does the work once:

- `epoch(problem, threads)` -> `run(order, rate)` -> mean training loss; `run.weights()` -> weights, biases;
- `predict(problem, threads)` -> `run()` -> probabilities, (N, C);
- `product(problem, threads)` -> `run()` -> the product;
- `products(problem, threads)` -> `run(order, rate)`: only the first layer's two matrix products of an epoch.
"""

from dataclasses import dataclass

PEER, CONTROL, LIMIT = "peer", "control", "limit"


@dataclass(frozen=True)
class Seat:
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
    """

    library: str
    module: str
    role: str = PEER
    work: str | None = None
    threads: int | None = None
    disturbed: bool = False


SEATS = {
    "fastnn": Seat("fastnn", "fastnn_numba", CONTROL),
    "fastnn-again": Seat("fastnn", "fastnn_numba", CONTROL),
    "fastnn-one-thread": Seat("fastnn", "fastnn_numba", CONTROL, threads=1),
    "fastnn-one-core-busy": Seat("fastnn", "fastnn_numba", CONTROL, disturbed=True),
    "fastnn-bundled": Seat("fastnn", "fastnn_numba", CONTROL),
    "numpy": Seat("numpy", "numpy_blas"),
    "numpy-one-thread": Seat("numpy", "numpy_blas", threads=1),
    "openblas-products": Seat("numpy", "numpy_blas", LIMIT, work="products"),
    "scikit-learn": Seat("scikit-learn", "scikit_learn"),
    "torch": Seat("torch", "pytorch"),
    "torch-one-thread": Seat("torch", "pytorch", threads=1),
    "torch-compiled": Seat("torch-compiled", "pytorch_compiled"),
    "mkl-products": Seat("torch", "pytorch", LIMIT, work="products"),
    "jax": Seat("jax", "jax_scan"),
    "onnxruntime": Seat("onnxruntime", "onnx_runtime"),
}
LIBRARIES = tuple(dict.fromkeys(seat.library for seat in SEATS.values()))
