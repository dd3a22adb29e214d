"""Averages of the weights over a run: the network that is evaluated and returned is the average of many networks.

The optimizer goes on with its own weights, which the average never changes.
"""

from dataclasses import dataclass

from fastnn.checks import check_number
from fastnn.errors import SettingsError
from fastnn.suggestions import did_you_mean


@dataclass(frozen=True)
class EMA:
    """The exponential moving average of the weights over the steps.

    After step t, the average moves towards the weights by ``share(t)`` of its distance from them. Without the division,
    this is ``average = decay * average + (1 - decay) * weights``, whose first averages would be mostly the initial
    weights. The division corrects that bias, so the average of a short run is that of its own steps (Kingma and Ba
    2015, "Adam: a method for stochastic optimization", section 7.2).

    Parameters
    ----------
    decay : float
        In [0, 1). The average is that of about the last ``1 / (1 - decay)`` steps.

    Raises
    ------
    SettingsError
        If `decay` is out of range.

    Examples
    --------
    >>> from fastnn.optim.averaging import EMA
    >>> EMA(0.5).share(1), EMA(0.5).share(2), round(EMA(0.5).share(20), 6)
    (1.0, 0.6666666666666666, 0.5)
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        check_number("decay of the average", self.decay, 0, 1)

    def share(self, step: int) -> float:
        """Return the share of the weights after a step, counted from 1, in their average."""
        return (1 - self.decay) / (1 - self.decay**step)


@dataclass(frozen=True)
class SWA:
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs (Izmailov et al. 2018).

    Before these epochs, the network is that of the optimizer. The statistics of `BatchNorm` are computed anew for the
    average.

    Parameters
    ----------
    part : float
        The part of the epochs of the run that is averaged, above 0 and below 1; one epoch at least.

    Raises
    ------
    SettingsError
        If `part` is out of range.

    Notes
    -----
    Algorithm 1 of "Averaging weights leads to wider optima and better generalization", arXiv:1803.05407, with one model
    per epoch. It suits learning rates that stay high.

    Examples
    --------
    >>> from fastnn.optim.averaging import SWA
    >>> [SWA(0.5).share(epoch, 0, 4) for epoch in range(4)]
    [0.0, 0.0, 1.0, 0.5]
    """

    part: float = 0.25

    def __post_init__(self) -> None:
        check_number("part of the average", self.part, 0, 1, above=0)

    def share(self, epoch: int, first: int, last: int) -> float:
        """Return the share of the weights after an epoch of the epochs `first` to ``last - 1``; 0 before the average.

        The shares are 1, 1/2, 1/3 and so on, so that the average is the mean.
        """
        start = last - max(1, round(self.part * (last - first)))
        return 1 / (epoch - start + 1) if epoch >= start else 0.0


Averaging = EMA | SWA
AVERAGES: dict[str, type[Averaging]] = {"ema": EMA, "swa": SWA}


def get_average(average: "str | Averaging | None") -> Averaging | None:
    """Return the average that a text such as "ema:0.999" or "swa" describes; an object or None stays as it is.

    Raises SettingsError for an unknown name or a value that is no number in its range.

    Examples
    --------
    >>> from fastnn.optim.averaging import get_average
    >>> get_average("swa:0.5")
    SWA(part=0.5)
    """
    if average is None or isinstance(average, Averaging):
        return average
    expected = "expected ema:DECAY, such as ema:0.999, or swa:PART, such as swa:0.25"
    if not isinstance(average, str):
        raise SettingsError(f"average is {average!r}, {expected}, or None")
    name, colon, value = average.partition(":")
    if name not in AVERAGES:
        raise SettingsError(f"average is {average!r}{did_you_mean(name, AVERAGES)}, {expected}")
    if not colon:
        return AVERAGES[name]()
    try:
        number = float(value)
    except ValueError:
        raise SettingsError(f"average is {average!r}: {value!r} is no number, {expected}") from None
    return AVERAGES[name](number)
