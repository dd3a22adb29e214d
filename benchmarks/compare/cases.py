"""The benchmark cases: the work, the contenders, and the goals for fastnn.

A goal's `must` and `aim` are lower bounds on the ratio other / fastnn. With `at_most`, they are upper bounds on the
measured value.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from benchmarks.compare.contenders import BUSY, CONTENDERS, PEAK, other_name

FASTEST = "the fastest peer"
WORKER_WORK = ("epoch", "predict", "product", "train")


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
    work : {"epoch", "predict", "product", "train", "start", "first-train", "memory"}
        The work of one round. Those in `WORKER_WORK` run in workers that live as long as the run; the others are whole
        processes.
    sizes : tuple of int
        Inputs, hidden units, classes; for a product (rows, inputs, columns).
    architecture : str
        An image network in the notation of `benchmarks.compare.architecture`; empty for the dense one of `sizes`.
    frozen : int
        The number of layers with weights, from the first one, that are not trained.
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
    betas : (float, float)
        The decay rates of Adam's moments.
    smoothing : float
        The fraction of each label that is spread over all classes. PyTorch, TensorFlow and fastnn have it.
    factors : tuple of tuple of float
        Work "train": for each epoch, the factors on the learning rate of its equal parts.
    accuracy : float
        Work "train": the least mean accuracy on the test images.
    inner : int
        Repetitions of the work per round, more than 1 if one repetition is too short to time.
    check_epochs : int
        Epochs before the losses are compared, more than 1 if an epoch is a single step.
    check_steps : int
        Steps from the initial weights before the changes of all weights are compared; 0 to compare losses only.
    changes_band : float
        Largest allowed difference between the changes of an array and fastnn's, in the 2-norm, as a fraction of the
        norm of fastnn's.
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
    architecture: str = ""
    frozen: int = 0
    data: str = "mnist"
    rows: int | None = None
    batch_size: int | None = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    smoothing: float = 0.0
    factors: tuple[tuple[float, ...], ...] = ()
    accuracy: float = 0.0
    inner: int = 1
    check_epochs: int = 1
    check_steps: int = 0
    changes_band: float = 1e-4
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


_ADAM = {"optimizer": "adam", "learning_rate": 1e-3, "changes_band": 1e-3}
# LeNet-5 as libraries have it today (LeCun et al. 1998, without padding, with ReLU and maxima), a network with more
# channels, and one with as many as suit the other libraries' kernels for convolutions.
LENET, FAST, WIDE = "6C5-P-16C5-P-120-84-10", "24C5-P-32C3-P-256-10", "32C3-64C3-P-128-10"
# In "lenet-sgd", peers run in every form. The other cases leave out the forms that are far from the fastest of their
# library there: compiled PyTorch, and JAX's own convolution.
_ALL_FORMS = (
    "fastnn-numpy", "torch", "torch-channels-last", "torch-compiled", "torch-compiled-channels-last",
    "jax", "jax-patches", "jax-batch-last", "tensorflow",
)  # fmt: skip
_FAST_FORMS = ("torch", "torch-channels-last", "jax-patches", "jax-batch-last", "tensorflow")


def _images(
    name: str,
    architecture: str,
    title: str,
    goals: tuple[Goal, ...],
    peers: tuple[str, ...] = _FAST_FORMS,
    **settings: object,
) -> Case:
    """Return an epoch of a network of images. Its weights are compared after a few steps."""
    contenders = (*_CONTROL, *peers, PEAK)
    settings = {"learning_rate": 0.05, "check_steps": 5, "most_seconds": 1800, **settings}
    return Case(name, f"epoch {title}", "epoch", contenders, goals, architecture=architecture, **settings)  # type: ignore[arg-type]


def _one_cycle(epochs: int, parts: int = 16, rise: float = 0.2, start: float = 0.1) -> tuple[tuple[float, ...], ...]:
    """Return the factors of fastnn's schedule "one-cycle:0.2,0.1", at the middle of each part of each epoch."""
    places = [(part + 0.5) / parts / epochs for part in range(parts * epochs)]
    up = [start + (1 - start) * (1 - math.cos(math.pi * place / rise)) / 2 for place in places if place < rise]
    down = [(1 + math.cos(math.pi * (place - rise) / (1 - rise))) / 2 for place in places if place >= rise]
    factors = [*up, *down]
    return tuple(tuple(factors[epoch * parts : (epoch + 1) * parts]) for epoch in range(epochs))


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
        _images(
            "lenet-sgd",
            LENET,
            "LeNet-5, batch 64, SGD",
            (*_fastest(5, 10), Goal(PEAK, 0.3, 0.5)),
            _ALL_FORMS,
        ),
        _images("lenet-adam", LENET, "LeNet-5, batch 64, Adam", _fastest(5, 10), **_ADAM),
        _images("lenet-batch-256", LENET, "LeNet-5, batch 256, SGD", _fastest(4, 8), batch_size=256, learning_rate=0.1),
        _images("cnn-fast", FAST, f"{FAST}, batch 64, SGD", _fastest(3, 5)),
        _images("cnn-wide", WIDE, f"{WIDE}, batch 64, SGD, 10,000 images", _fastest(1, 1.5), rows=10_000),
        *(
            Case(
                f"predict-lenet-{name}",
                f"predict {title}",
                "predict",
                (*_CONTROL, "onnxruntime", *_ALL_FORMS),
                (Goal("onnxruntime", 1.0, 1.5),),
                architecture=LENET,
                rows=rows,
                inner=inner,
                band=_EXACT,
            )
            for name, title, rows, inner in (
                ("10000", "10,000 images, LeNet-5", 10_000, 1),
                ("one", "one image, LeNet-5, from Python", 1, 1000),
            )
        ),
        Case(
            "start-to-99",
            # The recipe "fast", written out for the peers, with the fewest epochs that reach 99 %.
            f"start of training to 99 % on the test images, {FAST}",
            "train",
            (*_CONTROL, "torch", "torch-channels-last", "tensorflow"),
            (*_fastest(3, 5), Goal("seconds", 3, at_most=True)),
            architecture=FAST,
            rows=55_000,  # the recipe holds out the others
            batch_size=64,
            optimizer="adam",
            learning_rate=0.006,
            betas=(0.7, 0.9),
            smoothing=0.1,
            factors=_one_cycle(1),
            accuracy=0.99,
            check_steps=5,
            changes_band=1e-3,
        ),
        Case(
            "frozen-head",
            "epoch of LeNet-5's dense layers, batch 64, SGD, with frozen convolutions",
            "epoch",
            (*_CONTROL, *_FAST_FORMS, "torch-on-features"),
            (Goal("torch", 10, 30),),
            architecture=LENET,
            frozen=2,
            learning_rate=0.05,
            check_steps=5,
        ),
        Case(
            "threads-lenet",
            "epoch LeNet-5, batch 64: speedup of two threads over one",
            "epoch",
            ("fastnn", "fastnn-one-thread"),
            (Goal("fastnn-one-thread", 1.7, 1.9),),
            architecture=LENET,
            learning_rate=0.05,
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
