"""The settings of a training run in one object. `train`, recipes, estimators and the command all use it.

The command's options are generated from `OPTIONS` and the fields below. To add a setting, add a field and, if users
should have it on the command line, an option; then use it where it takes effect.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np

from fastnn.checks import MAX_THREADS, check_choice, check_integer, check_number, is_integer, is_ordered, short
from fastnn.errors import SettingsError
from fastnn.memory import parse_bytes
from fastnn.optim.augmentation import Augment, get_augment
from fastnn.optim.averaging import EMA, SWA, Averaging, get_average
from fastnn.optim.clipping import clip_by_norm, clip_by_value
from fastnn.optim.optimizers import LBFGS, OPTIMIZERS, SGD, Adam, AdamW, Optimizer, get_optimizer
from fastnn.optim.schedules import SCHEDULES, Constant, Schedule, WarmUp, get_schedule
from fastnn.optim.stopping import EarlyStopping
from fastnn.randomness import MAX_SEED
from fastnn.suggestions import did_you_mean

BACKENDS = ("auto", "numba", "numpy")
# What L-BFGS needs, because it minimises one fixed function of all the data, and a usual number of iterations.
_LBFGS_NEEDS: dict[str, Any] = {
    "batch_size": None, "schedule": "constant", "warm_up": 0, "dropout": 0.0, "clip_norm": None, "clip_value": None,
    "max_norm": None, "average": None, "augment": None, "slices": None,
}  # fmt: skip
_LBFGS_ITERATIONS = 200
MAX_SLICES = 1024
BLOCKS = "blocks"  # the shuffle of data in blocks
AUTO = "auto"  # the learning rate that stands for the result of a range test
Shuffle = Callable[[np.ndarray], np.ndarray]


class Option(NamedTuple):
    """The command-line option of a setting."""

    help: str  # the help text, without the default
    parse: Callable[[str], Any] = str  # returns the value; ValueError for a text that is not one
    metavar: str = "N"  # the placeholder of the value in the help
    choices: tuple[str, ...] = ()  # the possible values, or empty
    flag: str = ""  # the name of the option if it is not that of the setting
    default_text: str = ""  # the default in words, where the value itself would not explain it


def _batch_size(text: str) -> int | None:
    try:
        return None if text == "full" else int(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a whole number nor 'full'") from None


def _dropout(text: str) -> float | tuple[float, ...]:
    try:
        return tuple(map(float, text.removesuffix(",").split(","))) if "," in text else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a number nor numbers such as 0.2,0.5") from None


def _learning_rate(text: str) -> float | str:
    try:
        return AUTO if text == AUTO else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a number nor {AUTO!r}") from None


OPTIONS = {
    "epochs": Option("number of epochs, or of iterations with lbfgs", int),
    "batch_size": Option("samples per step, or 'full' for the whole training set", _batch_size),
    "learning_rate": Option(
        "learning rate, above 0, or 'auto' for the result of a range test",
        _learning_rate,
        "RATE",
        default_text="by optimizer, batch size and depth",
    ),
    "schedule": Option(
        "learning-rate schedule: constant, step, inverse-time, exponential, cosine or one-cycle, such as step:0.5,10",
        metavar="NAME[:VALUE,...]",
    ),
    "warm_up": Option("raise the learning rate linearly over the first N epochs", int),
    "optimizer": Option("optimizer", choices=tuple(OPTIMIZERS)),
    "l2": Option("add L2 / 2 * sum of squared weights to the loss", float, "L2"),
    "dropout": Option(
        "fraction of hidden units to drop, from 0 to less than 1; or that of the inputs and of each hidden layer, the "
        "last one for all that follow, such as 0.2,0.5",
        _dropout,
        "RATE[,RATE...]",
    ),
    "label_smoothing": Option(
        "fraction of each label to spread over all classes, from 0 to less than 1", float, "FRACTION"
    ),
    "augment": Option(
        "change the images of every epoch at random: the largest shift (pixels), rotation (degrees), scale (fraction), "
        "shear (degrees), the elastic distortion's alpha and sigma (pixels), noise (fraction) and erased rectangle "
        "(fraction), such as shift=2,rotate=10,scale=0.1 or alpha=34,sigma=4",
        metavar="NAME=VALUE,...",
        default_text="none",
    ),
    "clip_norm": Option(
        "scale the gradients of a batch down to this norm over all layers",
        float,
        "NORM",
        default_text="no limit",
    ),
    "clip_value": Option(
        "limit each entry of the gradients of a batch to this size", float, "VALUE", default_text="no limit"
    ),
    "max_norm": Option(
        "scale the incoming weights of every unit down to this norm after each step",
        float,
        "NORM",
        default_text="no limit",
    ),
    "average": Option(
        "evaluate and save an average of the weights: ema:DECAY, a moving average over the steps, or swa:PART, the "
        "mean over this part of the epochs at the end, such as ema:0.999 or swa:0.25",
        metavar="NAME[:VALUE]",
        default_text="none",
    ),
    "frozen": Option(
        "keep the first N layers with weights of the model of --from as they are, and train the others", int
    ),
    "early_stopping": Option(
        "stop after N epochs without a lower validation loss", int, flag="patience", default_text="run all epochs"
    ),
    "memory": Option(
        "read --data in blocks, so that the buffers of training take about this number of bytes, such as 512MB or 2GiB",
        metavar="SIZE",
    ),
    "buffer_blocks": Option("shuffle the rows of N blocks together, or of fewer if --memory demands it", int),
    "seed": Option("random seed, 0 or more", int, "SEED"),
    "slices": Option(
        "cut each batch into N slices, a power of 2, whose gradients are added in one fixed order: ranks of MPI, "
        "--mpi, then compute the bits of one process",
        int,
        default_text="8 with --mpi, else none",
    ),
    "backend": Option(
        "compute backend; auto is numpy for work that it finishes before numba's kernels are loaded or compiled",
        choices=BACKENDS,
    ),
    "threads": Option("number of threads", int, default_text="the cores this process may use"),
}
"""The settings that have a command-line option, by name: dict of str to `Option`."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The settings that the loss of a batch and its gradients depend on.

    Parameters
    ----------
    l2 : float
        0 or more. The loss is the mean loss of the network's output + l2 / 2 * (sum of squared weights). Biases and the
        scales of `BatchNorm` are not penalised.
    divide_l2 : bool
        Divide `l2` by the total sample weight of each batch (without weights, its number of samples). scikit-learn
        defines its `alpha` this way.
    dropout : float or sequence of float
        The fraction of each hidden layer's units to drop, in [0, 1). Dropout applies to the inputs of every dense layer
        but the first layer of the network. A sequence has the fraction of the network's inputs first, and then one for
        each of these dense layers; the last one holds for all that follow: ``(0.2, 0.5)`` drops a fifth of the inputs
        and half of all hidden units (Srivastava et al. 2014, section 6.1.1).
    label_smoothing : float
        The fraction of each label's probability that is spread evenly over all classes, in [0, 1) (Szegedy et al. 2016,
        arXiv:1512.00567, section 7). Only for softmax outputs. Evaluation uses the labels as they are.
    seed : int
        From 0 to 2**63 - 1. Determines the dropout masks; in `fastnn.train` also shuffling and held-out samples.
    """

    l2: float = 0.0
    divide_l2: bool = False
    dropout: float | tuple[float, ...] = 0.0
    label_smoothing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._set("l2", check_number("l2", self.l2, 0))
        given: Any = self.dropout
        if is_ordered(given):
            rates = tuple(check_number("a rate of dropout", rate, 0, 1) for rate in given)
            if not rates:
                raise SettingsError("dropout is an empty sequence, expected a rate for the inputs first")
            self._set("dropout", rates)
        else:
            self._set("dropout", check_number("dropout", given, 0, 1))
        self._set("label_smoothing", check_number("label_smoothing", self.label_smoothing, 0, 1))
        self._set("seed", check_integer("seed", self.seed, 0, MAX_SEED))
        if not isinstance(self.divide_l2, (bool, np.bool_)):
            raise SettingsError(f"divide_l2 is {self.divide_l2!r}, expected True or False")

    def _set(self, name: str, value: Any) -> None:
        """Replace a setting by its plain value, such as a float instead of NumPy's, which would compute otherwise."""
        object.__setattr__(self, name, value)

    def dropout_rates(self, n_layers: int) -> list[float]:
        """Return the rate of the inputs, and of the inputs of each further layer that dropout applies to.

        n_layers: the number of these layers, with that of the inputs; SettingsError if there are more rates

        Examples
        --------
        >>> import fastnn
        >>> [fastnn.TrainingConfig(dropout=dropout).dropout_rates(3) for dropout in (0.5, (0.2, 0.4))]
        [[0.0, 0.5, 0.5], [0.2, 0.4, 0.4]]
        """
        if not isinstance(self.dropout, tuple):
            return [0.0, *[self.dropout] * (n_layers - 1)]
        if len(self.dropout) > n_layers:
            raise SettingsError(
                f"dropout has {len(self.dropout)} rates, expected at most {n_layers} for the network: of its inputs, "
                f"and of {n_layers - 1} hidden layers before a dense one"
            )
        return [*self.dropout, *[self.dropout[-1]] * (n_layers - len(self.dropout))]

    def l2_of_batch(self, weight: float) -> float:
        """Return the L2 factor of a batch with this total sample weight; 0 if that is 0 and divides."""
        if not self.divide_l2:
            return self.l2
        return self.l2 / weight if weight > 0 else 0.0

    def replace(self, **settings: Any) -> Self:
        """Return a copy with other values for some settings; SettingsError for a name that is no setting."""
        return replace(self, **_known(type(self), settings))

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Return the configuration with these settings; SettingsError for a name that is no setting."""
        return cls(**_known(cls, settings))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(LossConfig):
    """The settings of a training run. The object is frozen and checks itself.

    Parameters
    ----------
    l2, divide_l2, dropout, label_smoothing, seed
        As in `LossConfig`.
    epochs : int
        The number of epochs, 1 or more; for L-BFGS, the maximum number of iterations.
    batch_size : int or None
        The number of samples in each step, 1 or more; the last batch of an epoch may be shorter. None: all samples
        (full batch), without shuffling. L-BFGS needs None.
    learning_rate : float, "auto" or None
        Above 0; `schedule` multiplies it. None: the `default_rate` of the optimizer for the batch size and the number
        of hidden layers; for one to four of them and batches of 64 samples, this is 0.1 for "sgd", 0.032 for "momentum"
        and "nesterov", and 0.001 for "adam" and "adamw". "auto": the suggestion of `fastnn.find_learning_rate`. L-BFGS
        ignores it, because a line search finds the length of each step.
    schedule : str or function of (epoch, epochs)
        Gives the factor for the learning rate of each epoch; see `fastnn.optim.schedules`. L-BFGS needs "constant".
    warm_up : int
        The number of first epochs over which the learning rate rises linearly, before `schedule` begins; 0 or more.
    optimizer : str, Optimizer or LBFGS
        The update rule: an object, or one of "sgd", "momentum", "nesterov", "adam", "adamw" and "lbfgs".
    augment : str, Augment or None
        How the images of every epoch are changed at random, such as "shift=2,rotate=10"; see `Augment`. The data
        need an `image_shape`; validation data stay as they are. Not for L-BFGS.
    clip_norm : float or None
        Above 0. If the Euclidean norm of a batch's gradients, taken over all layers, exceeds it, all are scaled down to
        this norm (Pascanu et al. 2013, arXiv:1211.5063). The gradients include that of the L2 term; the weight decay of
        "adamw" is not clipped. The Numba backend then updates the network in NumPy, which is slower. Not for L-BFGS.
    clip_value : float or None
        Above 0. Every entry of a batch's gradients is limited to [-clip_value, clip_value]; otherwise like `clip_norm`,
        and only one of the two can be set.
    max_norm : float or None
        Above 0. After each step, the incoming weights of every unit of a dense layer, and those of every filter of a
        convolution, are scaled down to this Euclidean norm if theirs is larger (Srivastava et al. 2014, section 5.1).
        The units of the output layer count too; biases and `BatchNorm` do not. Usual values are 1 to 4, together with
        dropout. Not for L-BFGS.
    average : str, EMA, SWA or None
        Which average of the weights the network is that validation evaluates, early stopping compares, callbacks see
        and the result has. "ema:0.999" is the exponential moving average over the steps, corrected for its bias towards
        the initial weights; "swa:0.25" is the mean of the weights at the ends of the last quarter of the epochs; see
        `fastnn.optim.averaging`. The optimizer goes on with its own weights, whose loss and accuracy in training the
        history has. With `BatchNorm`, each epoch takes one more forward pass over the training data, without dropout,
        for the statistics of the average. Not for L-BFGS.
    frozen : int
        The number of first layers that stay as they are, of those with weights (`BatchNorm` is one of them): those of
        ``network.weights[:frozen]``, and the layers without weights up to the next one. Their outputs, as in a
        prediction, are computed once, and in each epoch with augmentation. The others train on these as a network of
        their own: `l2`, `clip_norm` and the default learning rate see the trained layers only, and so does the loss.
        Dropout drops the inputs of each trained dense layer, the frozen layers' outputs included, but no inputs of the
        network.
    early_stopping : EarlyStopping, int or None
        When to stop early; an int is the patience. This needs validation data.
    shuffle : bool or function
        Whether each epoch has a new random order, determined by the seed. A function is called before each epoch with
        the row numbers to train on (int64, shape (n,)) and returns them in the order of the epoch. For `BlockedData`,
        True or "blocks" draws an order of the blocks, and an order of the rows of those that are in memory together.
    buffer_blocks : int
        The number of blocks of `BlockedData` that are in memory together, 1 or more; fewer if `memory` demands it.
    memory : int or str
        About the number of bytes that training on `BlockedData` may use, such as "512MB" or "2GiB". It holds two
        buffers of blocks: the one that is trained on, and the one that is read meanwhile.
    slices : int or None
        A power of 2 up to 1,024: each batch is cut into this number of slices, whose gradients one fixed tree of sums
        adds. `fastnn.mpi.train` computes them on several processes, with the bits of one process. `BatchNorm` takes the
        statistics of each slice. None: a batch is not cut. Not for L-BFGS.
    backend : {"auto", "numba", "numpy"}
        "numba" for the compiled kernels, "numpy" for the reference. "auto" is "numpy" as long as the estimated time of
        all work of the process with NumPy, this run included, is shorter than the time to load the kernels from disk
        or to compile them, then "numba"; also "numpy" where Numba cannot be used, and to train with the output "exp".
        A run that is resumed stays on its backend. Both backends agree within rounding; the same bits in every process
        need one of them by name.
    threads : int or None
        The maximum number of threads, up to 1024; None: the number of cores this process may use, which is at most the
        CPU quota of its container and the environment variable NUMBA_NUM_THREADS or OMP_NUM_THREADS. Runs beside each
        other in threads of joblib, tasks of Dask or `fastnn.sweep` share the cores. When another process keeps a core
        busy, the Numba backend uses fewer threads for a few epochs; the result has the same bits.

    Raises
    ------
    SettingsError
        If a setting is out of range, or contradicts another.

    Examples
    --------
    >>> import fastnn
    >>> config = fastnn.TrainingConfig(epochs=5, optimizer="adam", learning_rate=0.001)
    >>> config.replace(epochs=10).epochs
    10
    """

    epochs: int = 10
    batch_size: int | None = 64
    learning_rate: float | str | None = None
    schedule: str | Schedule = "constant"
    warm_up: int = 0
    optimizer: str | Optimizer | LBFGS = "sgd"
    augment: str | Augment | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    max_norm: float | None = None
    average: str | Averaging | None = None
    frozen: int = 0
    early_stopping: Any = None  # becomes an EarlyStopping or None
    shuffle: bool | str | Shuffle = True
    buffer_blocks: int = 16
    memory: int | str = "1GB"
    slices: int | None = None
    backend: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("epochs", check_integer("epochs", self.epochs, 1))
        if self.batch_size is not None:
            self._set("batch_size", check_integer("batch_size", self.batch_size, 1))
        if not (self.learning_rate is None or (isinstance(self.learning_rate, str) and self.learning_rate == AUTO)):
            self._set("learning_rate", check_number("learning_rate", self.learning_rate, above=0))
        self._set("warm_up", check_integer("warm_up", self.warm_up, 0))
        for name in ("clip_norm", "clip_value", "max_norm"):
            if getattr(self, name) is not None:
                self._set(name, check_number(name, getattr(self, name), above=0))
        if self.clip_norm is not None and self.clip_value is not None:
            raise SettingsError(
                f"clip_norm is {self.clip_norm:g} and clip_value is {self.clip_value:g}, expected one of them"
            )
        self._set("frozen", check_integer("frozen", self.frozen, 0))
        if self.slices is not None:
            self._set("slices", check_integer("slices", self.slices, 1, MAX_SLICES))
            if self.slices & (self.slices - 1):
                raise SettingsError(f"slices is {self.slices}, expected a power of 2: they are added in pairs")
            for name in ("max_norm", "average"):
                if getattr(self, name) is not None:
                    raise SettingsError(f"{name} is {getattr(self, name)!r} with slices, expected one of the two")
        check_choice("backend", self.backend, BACKENDS)
        if self.threads is not None:
            self._set("threads", check_integer("threads", self.threads, 1, MAX_THREADS))
        by_blocks = isinstance(self.shuffle, str) and self.shuffle == BLOCKS
        if not (by_blocks or isinstance(self.shuffle, (bool, np.bool_)) or callable(self.shuffle)):
            expected = f"expected True, False, {BLOCKS!r} or a function of the row numbers"
            raise SettingsError(f"shuffle is {self.shuffle!r}, {expected}")
        self._set("buffer_blocks", check_integer("buffer_blocks", self.buffer_blocks, 1))
        parse_bytes("memory", self.memory)
        if is_integer(self.early_stopping):
            self._set("early_stopping", EarlyStopping(int(self.early_stopping)))
        elif not (self.early_stopping is None or isinstance(self.early_stopping, EarlyStopping)):
            raise SettingsError(f"early_stopping is {self.early_stopping!r}, expected a number of epochs or None")
        get_schedule(self.schedule)
        get_augment(self.augment)
        get_average(self.average)
        rule = self.update_rule
        if isinstance(rule, LBFGS):
            self._check_lbfgs()
        elif isinstance(self.learning_rate, float) and self.learning_rate * rule.weight_decay > 1:
            raise SettingsError(
                f"learning_rate * weight_decay is {self.learning_rate * rule.weight_decay:g}, expected "
                "at most 1: a step would turn the sign of the weights"
            )

    def _check_lbfgs(self) -> None:
        """Raise SettingsError unless the loss is a fixed function of all the data, which L-BFGS needs."""
        for name, needed in _LBFGS_NEEDS.items():
            value = getattr(self, name)
            if name == "schedule" and isinstance(get_schedule(value), Constant):
                continue
            if value != needed:
                raise SettingsError(f"{name} is {value!r} with L-BFGS, expected {needed}: it minimises one fixed loss")

    def adapted(self, **given: Any) -> Self:
        """Return a copy with these settings instead, and if they choose L-BFGS, with what it needs.

        A given setting stays as it is, so that a contradiction is refused by its name.

        Examples
        --------
        >>> import fastnn
        >>> config = fastnn.TrainingConfig(batch_size=64, schedule="cosine", dropout=0.2)
        >>> config.adapted(optimizer="lbfgs", l2=0.1).changed()
        {'l2': 0.1, 'epochs': 200, 'batch_size': None, 'optimizer': 'lbfgs'}
        """
        if isinstance(get_optimizer(given.get("optimizer", self.optimizer)), LBFGS):
            given = {**_LBFGS_NEEDS, "epochs": _LBFGS_ITERATIONS, "learning_rate": None, **given}
        return self.replace(**given)

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from the defaults."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as values that JSON can store; `from_dict` makes them settings again.

        An object of fastnn is a dict of its fields, with its class as "kind". A function or an object of another class
        is only named.
        """
        names = [each.name for each in fields(self)]
        return {name: as_plain(getattr(self, name)) for name in sorted(names, key=[*OPTIONS, *names].index)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], **given: Any) -> Self:
        """Return the settings of a result of `to_dict`, with those that are `given` instead.

        SettingsError for a value that is no setting, or if a function that is only named is not given. Nothing is
        imported by name.

        Examples
        --------
        >>> import fastnn
        >>> config = fastnn.TrainingConfig(optimizer=fastnn.SGD(0.5), early_stopping=3)
        >>> fastnn.TrainingConfig.from_dict(config.to_dict()) == config
        True
        """
        values = {name: _from_plain(name, value) for name, value in plain.items() if name not in given}
        return cls.from_settings({**values, **given})

    @property
    def update_rule(self) -> Optimizer | LBFGS:
        """The optimizer as an object."""
        return get_optimizer(self.optimizer)

    @property
    def clips(self) -> bool:
        """Whether the gradients of each batch are clipped."""
        return self.clip_norm is not None or self.clip_value is not None

    def clip(self, gradients: Sequence[np.ndarray]) -> None:
        """Clip the gradients of a batch in place, as `clip_norm` or `clip_value` says."""
        if self.clip_norm is not None:
            clip_by_norm(gradients, self.clip_norm)
        elif self.clip_value is not None:
            clip_by_value(gradients, self.clip_value)

    def with_default_rate(self, n_hidden: int, n_samples: int) -> Self:
        """Return the settings with a number as the learning rate, for `n_hidden` hidden layers and `n_samples` samples.

        A rate that is given stays, and L-BFGS has none.

        Examples
        --------
        >>> import fastnn
        >>> fastnn.TrainingConfig(optimizer="adam", batch_size=16).with_default_rate(2, n_samples=1000).learning_rate
        0.0005
        """
        rule = self.update_rule
        if self.learning_rate is not None or isinstance(rule, LBFGS):
            return self
        return self.replace(learning_rate=rule.default_rate(n_hidden, min(self.batch_size or n_samples, n_samples)))

    def rates(self, epoch: int, epochs: int) -> list[float]:
        """Return the learning rates of the equal parts of an epoch: one, unless the schedule changes within epochs.

        A schedule that does has an attribute `parts_of_epoch`, and accepts fractions of epochs.
        """
        return [self._number_of_rate() * factor for factor in self.factors(epoch, epochs)]

    def rate(self, epoch: float, epochs: int) -> float:
        """Return the learning rate of an epoch, counted from 0, of `epochs` epochs: that of its middle."""
        return self._number_of_rate() * self._factor(epoch, epochs)

    def factors(self, epoch: int, epochs: int) -> list[float]:
        """Return what `rates` multiplies the learning rate by: the factors of the schedule, with the warm-up."""
        n_parts = getattr(get_schedule(self.schedule), "parts_of_epoch", 1)
        if n_parts == 1:
            return [self._factor(epoch, epochs)]
        return [self._factor(epoch + (part + 0.5) / n_parts - 0.5, epochs) for part in range(n_parts)]

    def _factor(self, epoch: float, epochs: int) -> float:
        schedule = get_schedule(self.schedule)
        factor = (WarmUp(self.warm_up, schedule) if self.warm_up else schedule)(epoch, epochs)
        return check_number("the schedule's factor", factor, 0)

    def _number_of_rate(self) -> float:
        if not isinstance(self.learning_rate, float):
            raise SettingsError(f"learning_rate is {self.learning_rate!r}, expected a number; see with_default_rate")
        return self.learning_rate


# The classes whose objects are settings. Nothing else is made from a file.
_KINDS = {
    each.__name__: each
    for each in (SGD, Adam, AdamW, LBFGS, EarlyStopping, Augment, EMA, SWA, *SCHEDULES.values(), WarmUp)
}


def as_plain(value: Any) -> Any:
    """Return a setting as a value that JSON can store, see `TrainingConfig.to_dict`."""
    if isinstance(value, EarlyStopping) and value == EarlyStopping(value.patience):
        return value.patience
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return list(value)
    if type(value) in _KINDS.values():
        return {"kind": type(value).__name__} | {
            each.name: as_plain(getattr(value, each.name)) for each in fields(value)
        }
    function = value if hasattr(value, "__qualname__") else type(value)
    return {"name": f"{function.__module__}.{function.__qualname__}"}


def _from_plain(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "name" in value:
        raise SettingsError(f"{name} was {short(value['name'])}, which is in no file: give it again")
    kind = value.get("kind")
    arguments = {key: _from_plain(key, each) for key, each in value.items() if key != "kind"}
    found = _KINDS.get(kind) if isinstance(kind, str) else None
    if found is None or [each.name for each in fields(found)] != list(arguments):
        raise SettingsError(f"{name} is {short(value)}, expected a kind from {', '.join(_KINDS)} and its fields")
    return found(**arguments)


def _known(config: type[LossConfig], settings: dict[str, Any]) -> dict[str, Any]:
    names = [each.name for each in fields(config)]
    for name in settings:
        if name not in names:
            meant = did_you_mean(name, names)
            raise SettingsError(f"{name!r} is no setting{meant}, expected one of {', '.join(names)}")
    return settings
