"""Learning-rate schedules: functions that return a factor for the learning rate of each epoch.

A schedule is any function with two arguments: the epoch, counted from 0, and the total number of epochs. If it has an
attribute `parts_of_epoch`, each of so many equal parts of an epoch has a factor of its own, and the epoch that the
schedule is called with has a fraction: ``epoch - 0.5`` stands for the beginning of an epoch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

from fastnn.checks import check_integer, check_number
from fastnn.errors import SettingsError
from fastnn.suggestions import did_you_mean

Schedule = Callable[[Any, int], float]


@dataclass(frozen=True)
class Constant:
    """The factor is 1 in every epoch."""

    def __call__(self, epoch: int, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True)
class StepDecay:
    """The factor is ``factor ** (epoch // every)``, with `factor` above 0: it drops once per `every` epochs."""

    factor: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        check_number("factor of the step schedule", self.factor, above=0)
        check_integer("every of the step schedule", self.every, 1)

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.factor ** (epoch // self.every)


@dataclass(frozen=True)
class InverseTime:
    """The factor is ``1 / (1 + decay * epoch)``, with `decay` 0 or more (Robbins and Monro 1951)."""

    decay: float = 0.1

    def __post_init__(self) -> None:
        check_number("decay of the inverse-time schedule", self.decay, 0)

    def __call__(self, epoch: int, epochs: int) -> float:
        return 1 / (1 + self.decay * epoch)


@dataclass(frozen=True)
class Exponential:
    """The factor is ``decay ** epoch``, with `decay` above 0."""

    decay: float = 0.95

    def __post_init__(self) -> None:
        check_number("decay of the exponential schedule", self.decay, above=0)

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.decay**epoch


@dataclass(frozen=True)
class Cosine:
    """The factor falls from 1 along half a cosine wave. It would reach `final`, 0 or more, one epoch after the last.

    The source is equation 5, without the restarts, of Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent
    with warm restarts", arXiv:1608.03983.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        check_number("final of the cosine schedule", self.final, 0)

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@dataclass(frozen=True)
class OneCycle:
    """The factor rises along half a cosine wave from `start` to 1, and falls along another one to 0.

    It is 1 after the fraction `rise` of the run, from 0 to 1. `start` is from 0 to 1. The factor also changes within an
    epoch, so that runs of one or two epochs go through the whole cycle, too. Each part has the factor at its middle.

    The source is Smith and Topin 2019, "Super-convergence: very fast training of neural networks using large learning
    rates", arXiv:1708.07120; the cosine waves in place of straight lines are common.
    """

    parts_of_epoch: ClassVar[int] = 16

    rise: float = 0.3
    start: float = 0.04

    def __post_init__(self) -> None:
        for name in ("rise", "start"):
            value = check_number(f"{name} of the one-cycle schedule", getattr(self, name), 0)
            if value > 1:
                raise SettingsError(f"{name} of the one-cycle schedule is {value:g}, expected at most 1")

    def __call__(self, epoch: float, epochs: int) -> float:
        place = (epoch + 0.5) / epochs
        if place < self.rise:
            return self.start + (1 - self.start) * (1 - math.cos(math.pi * place / self.rise)) / 2
        return (1 + math.cos(math.pi * (place - self.rise) / (1 - self.rise))) / 2


@dataclass(frozen=True)
class WarmUp:
    """The factor rises linearly over the first `warm_up` epochs (Goyal et al. 2017).

    It then follows `schedule`, whose epochs count from 0 again.
    """

    warm_up: int
    schedule: Schedule = Constant()

    def __post_init__(self) -> None:
        check_integer("warm_up", self.warm_up, 0)

    @property
    def parts_of_epoch(self) -> int:
        """The number of parts of an epoch with a factor of their own: that of the schedule."""
        return getattr(self.schedule, "parts_of_epoch", 1)

    def __call__(self, epoch: float, epochs: int) -> float:
        if epoch < self.warm_up:
            return (epoch + 1) / (self.warm_up + 1) * self.schedule(0, max(1, epochs - self.warm_up))
        return self.schedule(epoch - self.warm_up, epochs - self.warm_up)


SCHEDULES: dict[str, type] = {
    "constant": Constant,
    "step": StepDecay,
    "inverse-time": InverseTime,
    "exponential": Exponential,
    "cosine": Cosine,
    "one-cycle": OneCycle,
}


def get_schedule(schedule: "str | Schedule") -> Schedule:
    """Return the schedule that a string describes; a function is returned unchanged.

    The string is ``NAME`` or ``NAME:VALUE,...``: a name in `SCHEDULES`, and its settings in order. SettingsError if the
    name is unknown, there are too many values, or a value is out of range.

    Examples
    --------
    >>> from fastnn.optim.schedules import get_schedule
    >>> get_schedule("step:0.5,10")
    StepDecay(factor=0.5, every=10)
    """
    if isinstance(schedule, str):
        return _described(schedule)
    if not callable(schedule):
        raise SettingsError(f"schedule is {schedule!r}, expected a name or a function of (epoch, epochs)")
    return schedule


@lru_cache
def _described(schedule: str) -> Schedule:
    """Return `get_schedule` of a string, which is asked for in every epoch."""
    name, _, values = schedule.partition(":")
    if name not in SCHEDULES:
        meant = did_you_mean(name, SCHEDULES)
        raise SettingsError(f"schedule is {schedule!r}{meant}, expected one of {', '.join(SCHEDULES)}")
    given, settings = values.split(",") if values else [], fields(SCHEDULES[name])
    if len(given) > len(settings):
        names = ", ".join(field.name for field in settings) or "none"
        raise SettingsError(f"schedule {schedule!r} has {len(given)} values, expected at most {len(settings)}: {names}")
    try:
        numbers = [field.type(text) for field, text in zip(settings, given, strict=False)]  # type: ignore[operator]
    except ValueError:
        raise SettingsError(f"schedule {schedule!r}: {values!r} is not a list of numbers") from None
    built: Schedule = SCHEDULES[name](*numbers)
    return built
