"""Learning-rate schedules: the factor on the learning rate as a function of the epoch.

A schedule is called with the epoch (from 0) and the number of epochs of the run; any function of that form is one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from fastnn.checks import check_integer, check_number
from fastnn.errors import SettingsError

Schedule = Callable[[int, int], float]


@dataclass(frozen=True)
class Constant:
    """1 throughout."""

    def __call__(self, epoch: int, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True)
class StepDecay:
    """``factor ** (epoch // every)``: a drop every few epochs."""

    factor: float = 0.5
    every: int = 10

    def __post_init__(self) -> None:
        check_number("factor of the step schedule", self.factor, above=0)
        check_integer("every of the step schedule", self.every, 1)

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.factor ** (epoch // self.every)


@dataclass(frozen=True)
class InverseTime:
    """``1 / (1 + decay * epoch)`` (Robbins and Monro 1951)."""

    decay: float = 0.1

    def __post_init__(self) -> None:
        check_number("decay of the inverse-time schedule", self.decay, 0)

    def __call__(self, epoch: int, epochs: int) -> float:
        return 1 / (1 + self.decay * epoch)


@dataclass(frozen=True)
class Exponential:
    """``decay ** epoch``."""

    decay: float = 0.95

    def __post_init__(self) -> None:
        check_number("decay of the exponential schedule", self.decay, above=0)

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.decay**epoch


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down towards `final`, reached at the end of the run (Loshchilov and Hutter 2017, eq. 5)."""

    final: float = 0.0

    def __post_init__(self) -> None:
        check_number("final of the cosine schedule", self.final, 0)

    def __call__(self, epoch: int, epochs: int) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@dataclass(frozen=True)
class WarmUp:
    """A straight rise over the first `warm_up` epochs, then `schedule` for the others (Goyal et al. 2017)."""

    warm_up: int
    schedule: Schedule = Constant()

    def __post_init__(self) -> None:
        check_integer("warm_up", self.warm_up, 0)

    def __call__(self, epoch: int, epochs: int) -> float:
        if epoch < self.warm_up:
            return (epoch + 1) / (self.warm_up + 1) * self.schedule(0, max(1, epochs - self.warm_up))
        return self.schedule(epoch - self.warm_up, epochs - self.warm_up)


SCHEDULES: dict[str, type] = {
    "constant": Constant,
    "step": StepDecay,
    "inverse-time": InverseTime,
    "exponential": Exponential,
    "cosine": Cosine,
}


def get_schedule(schedule: "str | Schedule") -> Schedule:
    """The schedule written as ``NAME`` or ``NAME:VALUE,...``, its settings in order: ``"step:0.5,10"``.

    Raises
    ------
    SettingsError
        If the name is unknown, or there are too many values, or one is out of its range.
    """
    if not isinstance(schedule, str):
        if not callable(schedule):
            raise SettingsError(f"schedule is {schedule!r}, expected a name or a function of (epoch, epochs)")
        return schedule
    name, _, values = schedule.partition(":")
    if name not in SCHEDULES:
        raise SettingsError(f"schedule is {schedule!r}, expected one of {', '.join(SCHEDULES)}")
    given, wanted = values.split(",") if values else [], fields(SCHEDULES[name])
    if len(given) > len(wanted):
        names = ", ".join(field.name for field in wanted) or "none"
        raise SettingsError(f"schedule {schedule!r} has {len(given)} values, expected at most {len(wanted)}: {names}")
    try:
        numbers = [field.type(text) for field, text in zip(wanted, given, strict=False)]  # type: ignore[operator]
    except ValueError:
        raise SettingsError(f"schedule {schedule!r}: {values!r} is not a list of numbers") from None
    built: Schedule = SCHEDULES[name](*numbers)
    return built
