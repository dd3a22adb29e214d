"""Print digests of fixed runs. Equal lines from two checkouts mean equal bits.

    python -m benchmarks.digests [--runs NAME ...] [--parts]
    PYTHONPATH=OTHER-CHECKOUT python benchmarks/digests.py

Each line has the name of a run and one SHA-256 of its trained weights, its history without the times, and its
predictions for one row and for 300 rows. `--parts` prints a separate digest for each of the three. This file is
self-contained and uses public names only, so it also runs against another checkout. Digests depend on the CPU and on
the versions of NumPy and Numba: compare only digests from one machine and one environment. NAME may be a pattern, such
as "numpy-*".
"""

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

import fastnn

ROWS, NEW_ROWS = 640, 300
# Every field of a history record except its seconds.
FIELDS = ("epoch", "learning_rate", "loss", "accuracy", "validation_loss", "validation_accuracy")
Parts = dict[str, list[Any]]


# --- Data ------------------------------------------------------------------------------------------------------------
@cache
def _mnist() -> fastnn.Dataset:
    return fastnn.load_mnist()[0]


def _data(kind: str, first: int, end: int) -> fastnn.Dataset:
    """Return samples `first` to `end` (exclusive) of MNIST in the form `kind`, or of the 8x8 digits."""
    source = fastnn.load_digits() if kind == "digits" else _mnist()
    images, labels, pixel_max = source.images[first:end], source.labels[first:end], source.pixel_max
    if kind == "floats":
        images, pixel_max = images.astype(np.float32) / np.float32(255), 1.0
    elif kind == "dense":  # standardised: every input is nonzero
        images, pixel_max = (images.astype(np.float32) / np.float32(255) - np.float32(0.13)) / np.float32(0.31), 1.0
    elif kind == "csr":
        images, pixel_max = csr_matrix(images.astype(np.float32) / np.float32(255)), 1.0
    else:
        images = np.ascontiguousarray(images)
    return fastnn.Dataset(images, labels, pixel_max)


def _targets(labels: np.ndarray, output: str) -> np.ndarray:
    """Return the targets for a network with that output: classes, four yes-or-no answers, or three numbers."""
    if output == "logistic":
        return ((labels[:, None] >> np.arange(4)) & 1).astype(np.float64)
    if output == "identity":
        return np.stack([labels / 10, (labels % 3) - 1.0, (labels > 4) * 0.5], axis=1)
    return labels


# --- Runs ------------------------------------------------------------------------------------------------------------
def network_run(
    backend: str,
    data: str,
    hidden: tuple[int, ...],
    *,
    activation: str = "relu",
    output: str = "softmax",
    dtype: str = "float32",
    rows: int = ROWS,
    weighted: bool = False,
    **settings: Any,
) -> Parts:
    """Train a network with `fastnn.train` and predict unseen rows."""
    samples, new = _data(data, 0, rows), _data(data, rows, rows + NEW_ROWS)
    targets = _targets(samples.labels, output)
    samples = fastnn.Dataset(samples.images, targets, samples.pixel_max)
    outputs = 10 if targets.ndim == 1 else targets.shape[1]
    network = fastnn.Network.initialize(
        (samples.images.shape[1], *hidden, outputs),
        activation=activation,
        output=output,
        dtype=np.dtype(dtype),
        seed=5,
        input_scale=1 / samples.pixel_max,
    )
    if weighted:
        settings["sample_weight"] = np.random.default_rng(6).integers(0, 4, rows).astype(np.float64)
    settings = {"epochs": 3, "batch_size": 64, "learning_rate": 0.05, "seed": 7, "threads": 2, **settings}
    result = fastnn.train(network, samples, backend=backend, **settings)
    engine = fastnn.get_backend(backend)
    predictions = [
        predict(result.network, new.images[:count], settings["threads"])
        for predict in (engine.predict_logits, engine.predict_proba)
        for count in (1, NEW_ROWS)
    ]
    return {
        "weights": [*result.network.weights, *result.network.biases],
        "history": [result.best_epoch, result.stopped, *(result.history.column(name) for name in FIELDS)],
        "predictions": predictions,
    }


def estimator_run(estimator: str, data: str, *, backend: str = "numba", **settings: Any) -> Parts:
    """Fit an estimator and predict unseen rows."""
    samples, new = _data(data, 0, ROWS), _data(data, ROWS, ROWS + NEW_ROWS)
    is_regressor = estimator == "MLPRegressor"
    targets = _targets(samples.labels, "identity") if is_regressor else samples.labels
    settings = {"max_iter": 4, "random_state": 8, "n_threads": 2, "input_scale": 1 / samples.pixel_max, **settings}
    model = getattr(fastnn, estimator)(backend=backend, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four epochs are too few to converge
        model.fit(samples.images, targets)
    predict = model.predict if is_regressor else model.predict_proba
    return {
        "weights": [*model.coefs_, *model.intercepts_],
        "history": [model.n_iter_, np.asarray(model.loss_curve_, np.float64)],
        "predictions": [predict(new.images[:count]) for count in (1, NEW_ROWS)],
    }


def _network(*arguments: Any, **settings: Any) -> Callable[[], Parts]:
    return lambda: network_run(*arguments, **settings)


def _estimator(*arguments: Any, **settings: Any) -> Callable[[], Parts]:
    return lambda: estimator_run(*arguments, **settings)


_ADAM = {"optimizer": "adam", "learning_rate": 1e-3}
_VALIDATED = {"validation": 0.25, "early_stopping": 1, "epochs": 12, "learning_rate": 0.5}
RUNS: dict[str, Callable[[], Parts]] = {
    "numba-sgd-bytes-1-thread": _network("numba", "bytes", (128,), threads=1),
    "numba-sgd-bytes-2-threads": _network("numba", "bytes", (128,)),
    "numba-no-hidden-layer": _network("numba", "bytes", (), l2=1e-3),
    "numba-momentum-l2": _network("numba", "bytes", (128,), optimizer="momentum", l2=1e-3),
    "numba-nesterov-floats-step": _network("numba", "floats", (20,), optimizer="nesterov", schedule="step:0.5,1"),
    "numba-adam-dropout": _network("numba", "bytes", (128,), dropout=0.2, **_ADAM),
    "numba-sample-weights": _network("numba", "bytes", (128,), weighted=True),
    "numba-full-batch-1-thread": _network("numba", "bytes", (20,), batch_size=None, learning_rate=0.3, threads=1),
    "numba-full-batch-2-threads": _network("numba", "bytes", (20,), batch_size=None, learning_rate=0.3),
    "numba-batch-1": _network("numba", "bytes", (20,), batch_size=1, rows=150, learning_rate=0.01),
    "numba-deep-tanh-dense": _network("numba", "dense", (130, 70, 20), activation="tanh"),
    "numba-deep-float64": _network("numba", "digits", (130, 70, 20), dtype="float64", optimizer="momentum"),
    "numba-dense-inverse-time": _network("numba", "dense", (128,), schedule="inverse-time", learning_rate=0.03),
    "numba-csr": _network("numba", "csr", (128,), **_ADAM),
    "numba-csr-numbers": _network("numba", "csr", (20,), activation="identity", output="identity", learning_rate=0.005),
    "numba-yes-or-no": _network("numba", "bytes", (20,), activation="logistic", output="logistic", **_ADAM),
    "numba-digits-rows": _network("numba", "digits", (32, 32), batch_size=32, dropout=0.1),
    "numba-lbfgs": _network("numba", "bytes", (20,), optimizer="lbfgs", batch_size=None, l2=1e-4, epochs=6),
    "numba-early-stopping-cosine": _network("numba", "bytes", (20,), schedule="cosine", **_VALIDATED),
    "numpy-sgd-bytes": _network("numpy", "bytes", (128,)),
    "numpy-adam-dropout-l2": _network("numpy", "floats", (20,), dropout=0.2, l2=1e-3, **_ADAM),
    "numpy-csr-momentum": _network("numpy", "csr", (128,), optimizer="momentum"),
    "numpy-deep-logistic-float64": _network(
        "numpy", "digits", (130, 70, 20), activation="logistic", dtype="float64", optimizer="nesterov"
    ),
    "numpy-numbers-tanh-full-batch": _network(
        "numpy", "dense", (20,), activation="tanh", output="identity", batch_size=None
    ),
    "numpy-lbfgs-float64": _network(
        "numpy", "digits", (20,), dtype="float64", optimizer="lbfgs", batch_size=None, epochs=6
    ),
    "numpy-sample-weights-yes-or-no": _network("numpy", "digits", (), output="logistic", weighted=True),
    "numpy-early-stopping": _network("numpy", "bytes", (20,), **_VALIDATED),
    "classifier-adam": _estimator("MLPClassifier", "digits", hidden_layer_sizes=(32,), batch_size=32),
    "classifier-csr-early-stopping": _estimator(
        "MLPClassifier", "csr", hidden_layer_sizes=(20,), solver="sgd", early_stopping=True, max_iter=8
    ),
    "classifier-numpy-lbfgs": _estimator(
        "MLPClassifier", "digits", backend="numpy", hidden_layer_sizes=(20,), solver="lbfgs"
    ),
    "regressor-tanh": _estimator("MLPRegressor", "digits", hidden_layer_sizes=(20,), activation="tanh"),
}


# --- Digests ---------------------------------------------------------------------------------------------------------
def digest(values: Iterable[Any]) -> str:
    """Return the SHA-256 of the values in order: arrays by dtype, shape and bytes, other values by their `repr`."""
    found = sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype.str}{value.shape}".encode())
            found.update(np.ascontiguousarray(value).tobytes())
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def select(patterns: Iterable[str]) -> list[str]:
    """Return the names of the runs that match a pattern, in the order of `RUNS`.

    Raises
    ------
    ValueError
        If a pattern matches no run.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in RUNS):
            raise ValueError(f"no run matches {pattern!r}, expected one of {', '.join(RUNS)}")
    return [name for name in RUNS if any(fnmatchcase(name, pattern) for pattern in patterns)]


def main() -> int:
    """Print the digests on stdout and the location of fastnn on stderr."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digests", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs", nargs="+", default=["*"], metavar="NAME", help=f"runs or patterns (default: all): {', '.join(RUNS)}"
    )
    parser.add_argument(
        "--parts", action="store_true", help="print separate digests of weights, history and predictions"
    )
    options = parser.parse_args()
    try:
        names = select(options.runs)
    except ValueError as error:
        parser.error(str(error))
    print(f"fastnn from {fastnn.__file__}", file=sys.stderr)
    for name in names:
        parts = RUNS[name]()
        if options.parts:
            for part, values in parts.items():
                print(f"{name} {part} {digest(values)}", flush=True)
        else:
            print(name, digest(value for values in parts.values() for value in values), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
