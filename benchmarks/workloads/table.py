"""The workloads of users, as data: 49 pairs of a data set and an estimator with its settings."""

from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

from benchmarks.workloads.data import MAKERS, Data

QUICK_ROWS, QUICK_INPUTS, QUICK_EPOCHS = 200, 50, 3


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes
    ----------
    name, group : str
        The group is a row of the table in the docs.
    data : tuple of str and dict
        A function of `benchmarks.workloads.data`, and its arguments.
    settings : dict
        Arguments of the estimator, beside its random_state.
    is_regression : bool
    """

    name: str
    group: str
    data: tuple[str, dict[str, Any]]
    settings: dict[str, Any]
    is_regression: bool = False

    def load(self) -> Data:
        """Return the inputs and the labels or targets."""
        maker, options = self.data
        return MAKERS[maker](**options)

    @property
    def solver(self) -> str:
        """The solver's name."""
        return self.settings.get("solver", "adam")

    @property
    def has_partial_fit(self) -> bool:
        """Whether the estimator has `partial_fit` with these settings."""
        return self.solver != "lbfgs" and not self.settings.get("early_stopping")

    def quick(self) -> "Workload":
        """Return the workload with few rows, inputs and epochs, to test the benchmark itself."""
        maker, options = self.data
        smaller = {
            name: min(value, {"rows": QUICK_ROWS, "inputs": QUICK_INPUTS, "classes": 20, "words": 500}.get(name, value))
            for name, value in options.items()
            if not isinstance(value, str)
        }
        epochs = min(self.settings.get("max_iter", 200), QUICK_EPOCHS)
        return replace(self, data=(maker, {**options, **smaller}), settings={**self.settings, "max_iter": epochs})


def _digits(name: str, scale: float = 16.0, **settings: Any) -> Workload:
    return Workload(name, "8x8 digits", ("digits", {"scale": scale, "rows": 1797}), settings)


def _rows(group: str, *rows: tuple[str, str, dict[str, Any], dict[str, Any]], is_regression: bool = False) -> list:
    return [Workload(name, group, (maker, data), settings, is_regression) for name, maker, data, settings in rows]


LBFGS, SGD = {"solver": "lbfgs"}, {"solver": "sgd"}
HOUSES = {"rows": 20_640, "inputs": 8}
SMALL = {"rows": 1000, "inputs": 5}
TEXT, LESS_TEXT = {"rows": 10_000, "words": 30_000}, {"rows": 2000, "words": 5000}
WIDE = {"rows": 500, "inputs": 20_000, "classes": 5}
MILLION = {"rows": 1_000_000, "inputs": 20, "classes": 2}
DENSE = {"rows": 5000, "inputs": 200, "classes": 10}
IMAGES = {"rows": 10_000}

WORKLOADS: list[Workload] = [
    _digits("digits", scale=1.0),
    _digits("digits-scaled"),
    _digits("digits-lbfgs", **LBFGS, max_iter=100),
    _digits("digits-sgd", **SGD, max_iter=100),
    _digits("digits-deep", hidden_layer_sizes=(200, 200, 200), max_iter=20),
    _digits("digits-early-stopping", early_stopping=True),
    _digits("digits-tanh", activation="tanh", max_iter=50),
    _digits("digits-logistic", activation="logistic", max_iter=50),
    _digits("digits-batch-1", batch_size=1, max_iter=3),
    _digits("digits-batch-16", batch_size=16, max_iter=20),
    _digits("digits-full-batch", batch_size=1797, max_iter=100),
    _digits("digits-no-hidden-layer", hidden_layer_sizes=(), max_iter=100),
    _digits("digits-5-units", hidden_layer_sizes=(5,), max_iter=100),
    *_rows(
        "tiny tables",
        ("iris", "iris", {"rows": 150}, {}),
        ("iris-lbfgs", "iris", {"rows": 150}, {**LBFGS, "max_iter": 200}),
        ("xor-lbfgs", "xor", {}, {**LBFGS, "hidden_layer_sizes": (5,)}),
        ("xor", "xor", {}, {"hidden_layer_sizes": (5,)}),
        ("moons", "moons", {"rows": 100}, {"max_iter": 1000, "alpha": 1.0}),
    ),
    *_rows("small tables", ("small-classes", "clusters", {**SMALL, "classes": 3}, {})),
    *_rows(
        "small tables",
        ("small-targets", "smooth", SMALL, {}),
        ("small-targets-lbfgs", "smooth", SMALL, {**LBFGS, "hidden_layer_sizes": (50,), "max_iter": 200}),
        is_regression=True,
    ),
    *_rows(
        "20,640 x 8 regression",
        ("houses", "smooth", HOUSES, {"max_iter": 20}),
        (
            "houses-early-stopping", "smooth", HOUSES,
            {"hidden_layer_sizes": (30, 15), "learning_rate_init": 0.01, "early_stopping": True, "max_iter": 40},
        ),
        ("houses-sgd", "smooth", HOUSES, {**SGD, "max_iter": 20}),
        ("houses-lbfgs", "smooth", HOUSES, {**LBFGS, "max_iter": 50}),
        is_regression=True,
    ),
    *_rows(
        "sparse text",
        ("text", "text", TEXT, {"max_iter": 3}),
        ("text-sgd", "text", TEXT, {**SGD, "max_iter": 3}),
        ("text-small", "text", LESS_TEXT, {"max_iter": 10}),
        ("text-lbfgs", "text", LESS_TEXT, {**LBFGS, "max_iter": 10}),
    ),
    *_rows(
        "500 x 20,000 dense",
        ("wide", "clusters", WIDE, {"max_iter": 5}),
        ("wide-lbfgs", "clusters", WIDE, {**LBFGS, "max_iter": 10}),
        ("wide-sgd", "clusters", WIDE, {**SGD, "max_iter": 5}),
    ),
    *_rows(
        "a million rows",
        ("million", "clusters", MILLION, {"max_iter": 2}),
        ("million-batch-2000", "clusters", MILLION, {"max_iter": 2, "batch_size": 2000}),
        ("million-20-units", "clusters", MILLION, {"max_iter": 2, "hidden_layer_sizes": (20,)}),
    ),
    *_rows(
        "many outputs",
        ("targets-20", "smooth", {"rows": 5000, "inputs": 50, "targets": 20}, {"max_iter": 20}),
        ("targets-500", "smooth", {"rows": 2000, "inputs": 20, "targets": 500}, {"max_iter": 10}),
        is_regression=True,
    ),
    *_rows(
        "many outputs",
        ("multilabel-50", "indicators", {"rows": 5000, "inputs": 100, "labels": 50}, {"max_iter": 20}),
        ("classes-1000", "clusters", {"rows": 5000, "inputs": 64, "classes": 1000}, {"max_iter": 10}),
    ),
    *_rows(
        "large dense networks",
        (
            "dense-512-256", "clusters", {"rows": 10_000, "inputs": 100, "classes": 10},
            {"hidden_layer_sizes": (512, 256), "max_iter": 5},
        ),
        ("dense-1000", "clusters", DENSE, {"hidden_layer_sizes": (1000,), "max_iter": 5}),
        (
            "dense-3x1000", "clusters", {**DENSE, "rows": 3000},
            {"hidden_layer_sizes": (1000, 1000, 1000), "max_iter": 2},
        ),
        (
            "dense-1000-full-batch", "clusters", DENSE,
            {"hidden_layer_sizes": (1000,), "max_iter": 10, "batch_size": 5000},
        ),
        (
            "dense-784-256", "clusters", {"rows": 20_000, "inputs": 784, "classes": 10},
            {"hidden_layer_sizes": (256,), "max_iter": 3},
        ),
    ),
    *_rows(
        "MNIST",
        ("mnist", "mnist", IMAGES, {"max_iter": 5}),
        (
            "mnist-sgd", "mnist", IMAGES,
            {**SGD, "hidden_layer_sizes": (50,), "max_iter": 5, "learning_rate_init": 0.2},
        ),
        ("mnist-lbfgs", "mnist", IMAGES, {**LBFGS, "hidden_layer_sizes": (50,), "max_iter": 10}),
    ),
    *_rows(
        "autoencoders",
        ("autoencoder", "copied", {"of": "mnist", "rows": 5000}, {"hidden_layer_sizes": (64,), "max_iter": 5}),
        (
            "autoencoder-deep", "copied", {"of": "digits", "scale": 16.0, "rows": 1797},
            {"hidden_layer_sizes": (32, 8, 32), "max_iter": 50},
        ),
        is_regression=True,
    ),
]  # fmt: skip


def select(patterns: list[str]) -> list[Workload]:
    """Return the workloads whose names match one of the patterns, such as "digits-*".

    Raises
    ------
    ValueError
        If a pattern matches no workload.
    """
    for pattern in patterns:
        if not any(fnmatch(each.name, pattern) for each in WORKLOADS):
            raise ValueError(f"workload {pattern!r}: expected a pattern of {', '.join(e.name for e in WORKLOADS)}")
    return [each for each in WORKLOADS if any(fnmatch(each.name, pattern) for pattern in patterns)]
