"""The benchmark cases: the work, the contenders, and the goals for fastnn.

A goal's `must` and `aim` are lower bounds on the ratio other / fastnn. With `at_most`, they are upper bounds on the
measured value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from benchmarks.compare.contenders import BUSY, CONTENDERS, other_name

FASTEST = "the fastest peer"


@dataclass(frozen=True)
class Goal:
    """A target for fastnn in a case: against a contender, against FASTEST, or against a limit in the case's unit."""

    against: str
    must: float
    aim: float | None = None
    at_most: bool = False


@dataclass(frozen=True)
class Case:
    """One row of the report.

    Attributes
    ----------
    name : str
        Name on the command line.
    title : str
        Title in the report.
    work : {"epoch", "predict", "product", "start", "first-train", "memory"}
        The work of one round. The first three run in workers that live as long as the run; the others are whole
        processes.
    sizes : tuple of int
        Inputs, hidden units, classes; for a product (rows, inputs, columns).
    contenders : tuple of str
        Keys of `benchmarks.compare.contenders.CONTENDERS`. The first one is a fastnn contender.
    goals : tuple of Goal
    data : {"mnist", "dense", "digits"}
        "mnist" and "digits" are uint8 for fastnn and float32 from 0 to 1 for the others. "dense" is standardised
        float32 for every contender, with every entry nonzero.
    rows : int or None
        Samples per epoch or per prediction; None for all.
    batch_size : int or None
        None for a full batch, in the order of the data.
    optimizer : {"sgd", "momentum", "adam"}
    learning_rate : float
    inner : int
        Repetitions of the work per round, more than 1 if one repetition is too short to time.
    check_epochs : int
        Epochs before the losses are compared, more than 1 if an epoch is a single step.
    band : float
        Largest allowed difference from fastnn's result, as a fraction of its largest entry.
    unit : str
        Unit of the measured value: "s", or "x" (a ratio to a quantity measured in the same process).
    most_seconds : float
        After this time and at least `MIN_ROUNDS` rounds, no further round starts.
    """

    name: str
    title: str
    work: str
    contenders: tuple[str, ...]
    goals: tuple[Goal, ...]
    sizes: tuple[int, ...] = (784, 128, 10)
    data: str = "mnist"
    rows: int | None = None
    batch_size: int | None = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    inner: int = 1
    check_epochs: int = 1
    band: float = 0.02
    unit: str = "s"
    most_seconds: float = math.inf

    def quick(self) -> "Case":
        """Return the case with a few hundred rows, which only tests the benchmark. Its times do not count."""
        return replace(self, rows=min(self.rows or QUICK_ROWS, QUICK_ROWS), inner=min(self.inner, 5), band=0.1)

    def with_other_checkout(self) -> "Case":
        """Return the case with each fastnn contender a second time, from the checkout given by `--against`."""
        fastnn = [name for name in self.contenders if CONTENDERS[name].library == "fastnn"]
        others = tuple(other_name(name) for name in fastnn if other_name(name) in CONTENDERS)
        return self if self.work == "memory" else replace(self, contenders=(*self.contenders, *others))


QUICK_ROWS = 320
MIN_ROUNDS = 3

PEERS = ("numpy", "scikit-learn", "torch", "torch-compiled", "jax")
_CONTROL = ("fastnn", "fastnn-again")
_BUSY_PEERS = ("fastnn", "numpy", "scikit-learn", "torch", "jax")
_EXACT = 1e-4


def _four(jax: Sequence[float], numpy: Sequence[float], torch: Sequence[float], sklearn: Sequence[float]) -> tuple:
    pairs = {"jax": jax, "numpy": numpy, "torch": torch, "scikit-learn": sklearn}
    return tuple(Goal(name, must, aim) for name, (must, aim) in pairs.items())


def _epoch(name: str, title: str, goals: tuple[Goal, ...], *, more: tuple[str, ...] = (), **settings: object) -> Case:
    return Case(name, title, "epoch", (*_CONTROL, *PEERS, *more), goals, **settings)  # type: ignore[arg-type]


def _fastest(must: float, aim: float) -> tuple[Goal, ...]:
    return (Goal(FASTEST, must, aim),)


_LIMITS = ("openblas-products", "mkl-products")
_SLOTS = _four((3, 5), (4, 7), (7, 12), (10, 16))

CASES = {
    case.name: case
    for case in (
        _epoch(
            "epoch-sgd",
            "epoch 784-128-10, batch 64, SGD",
            (*_four((4, 6), (5, 8), (8, 14), (12, 20)), *(Goal(contender, 1) for contender in _LIMITS)),
            more=_LIMITS,
        ),
        _epoch(
            "epoch-momentum",
            "epoch 784-128-10, batch 64, momentum",
            _SLOTS,
            optimizer="momentum",
            learning_rate=0.02,
        ),
        _epoch("epoch-adam", "epoch 784-128-10, batch 64, Adam", _SLOTS, optimizer="adam", learning_rate=1e-3),
        _epoch("epoch-batch-32", "epoch 784-128-10, batch 32, SGD", (Goal("jax", 4, 6),), batch_size=32),
        _epoch(
            "epoch-batch-256",
            "epoch 784-128-10, batch 256, SGD",
            (Goal("jax", 3, 5),),
            batch_size=256,
            learning_rate=0.2,
        ),
        _epoch(
            "epoch-full-batch",
            "epoch 784-10-10, full batch",
            _fastest(6, 10),
            sizes=(784, 10, 10),
            batch_size=None,
            learning_rate=0.3,
            check_epochs=10,
        ),
        _epoch("epoch-wide", "epoch 784-800-10, batch 64, SGD", _fastest(2.5, 4), sizes=(784, 800, 10)),
        _epoch("epoch-deep", "epoch 784-256-128-10, batch 64, SGD", _fastest(3, 5), sizes=(784, 256, 128, 10)),
        _epoch(
            "epoch-dense-input",
            "epoch 784-128-10, batch 64, SGD, every pixel nonzero",
            _fastest(1.5, 2.5),
            data="dense",
            learning_rate=0.03,
        ),
        _epoch(
            "epoch-digits",
            "epoch 64-32-32-10, batch 32, 8x8 digits",
            _fastest(5, 10),
            data="digits",
            sizes=(64, 32, 32, 10),
            batch_size=32,
            inner=5,
            check_epochs=2,
        ),
        Case(
            "product",
            "matrix product 64x784x128, one thread",
            "product",
            ("fastnn-one-thread", "numpy-one-thread", "torch-one-thread"),
            (Goal("torch-one-thread", 1.0, 1.1), Goal("numpy-one-thread", 1.0, 1.1)),
            sizes=(64, 784, 128),
            inner=2000,
            band=_EXACT,
        ),
        Case(
            "predict-10000",
            "predict 10,000 rows, 784-128-10",
            "predict",
            (*_CONTROL, "onnxruntime", *PEERS),
            (Goal("onnxruntime", 2, 3),),
            rows=10_000,
            inner=10,
            band=_EXACT,
        ),
        Case(
            "predict-one",
            "predict one row, 784-128-10, from Python",
            "predict",
            (*_CONTROL, "onnxruntime", *PEERS),
            (Goal("onnxruntime", 1.0, 1.5),),
            rows=1,
            inner=2000,
            band=_EXACT,
        ),
        *(
            Case(
                f"threads-{units}",
                f"epoch 784-{units}-10, batch 64: speedup of two threads over one",
                "epoch",
                ("fastnn", "fastnn-one-thread"),
                (Goal("fastnn-one-thread", 1.7, 1.9),),
                sizes=(784, units, 10),
            )
            for units in (256, 1024)
        ),
        Case(
            "one-core-busy",
            "epoch 784-128-10, batch 64, while another process keeps one core busy",
            "epoch",
            tuple(f"{name}{condition}" for name in _BUSY_PEERS for condition in ("", BUSY)),
            (Goal("fastnn-one-core-busy", 2.5, at_most=True),),
            most_seconds=600,
        ),
        Case(
            "start",
            "process start to 98 % test accuracy, 784-256-10, warm cache",
            "start",
            ("fastnn", "fastnn-bundled", "numpy", "scikit-learn", "torch", "jax"),
            _fastest(3, 6),
            sizes=(784, 256, 10),
            learning_rate=0.5,
        ),
        Case(
            "first-train",
            "first `fastnn train` ever: extra time over a later run",
            "first-train",
            ("fastnn",),
            (Goal("seconds", 15, 6, at_most=True),),
        ),
        Case(
            "memory",
            "peak memory of the default run / size of the uint8 data set",
            "memory",
            ("fastnn",),
            (Goal("times the data set", 2, 1.3, at_most=True),),
            unit="x",
        ),
    )
}


def select(patterns: Sequence[str]) -> list[Case]:
    """Return the cases whose name matches a pattern such as "epoch-*", in the order of `CASES`.

    Raises
    ------
    ValueError
        If a pattern matches no case.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in CASES):
            raise ValueError(f"no case matches {pattern!r}, expected one of {', '.join(CASES)}")
    return [case for name, case in CASES.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]
