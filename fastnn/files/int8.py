"""A network in 8-bit integers: its weights, the range of the inputs of each layer, and the same arithmetic in NumPy.

A number is ``(level - zero) * scale``. The levels of activations go from -128 to 127, with one scale and one zero for
all outputs of a layer; `zero` is the level of the number 0, so padding and the zeros of ReLU are exact. Weights go from
-127 to 127, with a scale for each output unit or channel, and zero 0 (Jacob et al. 2018, arXiv:1712.05877). Products
are added in int32, which `quantize` proves to be large enough. A sum then becomes a float, which is activated and
rounded to the levels of the next layer: with float, every activation has one formula, and the cost is one
multiplication for each unit, not for each weight.

The range of activations comes from rows. The largest values are rare, and leaving them out makes the levels finer. The
fraction that is left out, one for the whole network, is that of `CLIPPED` whose outputs come closest to those of the
float network on other rows.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.errors import DataError
from fastnn.files.steps import Step, outputs_of, scaled_inputs
from fastnn.network import ACTIVATIONS, AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D, Network

# The fractions of a layer's values that may be beyond the range, on each of its ends.
CLIPPED = (0.0, 1e-4, 1e-3, 5e-3)
LOW, HIGH = -128, 127  # the levels of activations
_MOST = 127  # of weights
_INT32 = 2**31 - 1
_BIAS = 2**30  # the largest bias, half of what fits
_ROWS = 1000  # to calibrate, and as many others to compare
_BLOCK = 200  # rows at a time


class Levels(NamedTuple):
    """The numbers that the 256 levels stand for."""

    scale: float
    zero: int

    def numbers(self, levels: np.ndarray) -> np.ndarray:
        """Return the numbers of levels, in float32."""
        return ((levels - self.zero) * self.scale).astype(np.float32)

    def round(self, values: np.ndarray, shift: float = 0.0) -> np.ndarray:
        """Return the nearest levels of numbers, as whole numbers in float64. `shift` moves where they are rounded."""
        levels = values * np.float32(1 / self.scale) + np.float32(self.zero)
        return np.floor(np.clip(levels, LOW, HIGH).astype(np.float64) + 0.5 + shift)


class Int8Step(NamedTuple):
    """A step in integers. Steps without weights have none, and sum with those of 1."""

    step: Step
    inp: Levels
    out: Levels | None  # None: the outputs are floats, the last of the network
    weight: np.ndarray | None  # int8
    bias: np.ndarray | None  # int32
    scale: np.ndarray | None  # (units,) float32: what 1 in a sum stands for
    largest_sum: int  # no sum of any inputs is further from 0

    @property
    def keeps_levels(self) -> bool:
        """Whether the outputs are some of the inputs: their levels are the same."""
        return self.out is not None and _keeps_levels(self.step)


class Int8Network(NamedTuple):
    """A network in integers."""

    network: Network
    float_steps: list[Step]  # before the first step in integers: batch normalisation of the inputs
    steps: list[Int8Step]
    takes_pixels: bool  # whether the levels of the inputs are whole numbers from 0 to 255, less 128
    clipped: float  # which of CLIPPED
    n_compared: int  # rows that were compared with the float network
    same: float  # the fraction of these with the same largest output, or 1 for numbers
    difference: float  # the mean difference of an output on them

    def logits(self, rows: np.ndarray, shift: float = 0.0) -> np.ndarray:
        """Return the last sums for rows, (N, number of outputs) float32. `shift` moves where values are rounded."""
        values = scaled_inputs(self.network, rows)
        for each in self.float_steps:
            values = each.forward(values)
        levels = self.steps[0].inp.round(values, shift)
        for step, inp, out, weight, bias, scale, _ in self.steps:
            activate = ACTIVATIONS[step.activation].forward
            if isinstance(step.layer, Dense | Conv2D | AvgPool2D):
                arrays = (None if array is None else array.astype(np.float64) for array in (weight, bias))
                sums = step.sums(levels - inp.zero, *arrays)
                if isinstance(step.layer, AvgPool2D):
                    sums = np.rint(sums * np.prod(step.layer.size))
                units = sums.shape[1] if scale is not None and len(scale) > 1 else 1
                shape = (1, units) + (1,) * (sums.ndim - 2)
                values = activate(sums.astype(np.float32) * np.asarray(scale, np.float32).reshape(shape))
            elif isinstance(step.layer, BatchNorm):
                values = step.forward(inp.numbers(levels))
            else:
                levels = step.sums(levels, None, None)
                if _keeps_levels(step) and out is not None:
                    continue
                values = activate(inp.numbers(levels))
            if out is not None:
                levels = out.round(values, shift)
        return values.reshape(len(rows), -1)

    def outputs(self, rows: np.ndarray, shift: float = 0.0) -> np.ndarray:
        """Return the outputs for rows, (N, number of outputs) float32."""
        blocks = [self.logits(rows[start : start + _BLOCK], shift) for start in range(0, len(rows), _BLOCK)]
        return self.network.loss.outputs(np.concatenate(blocks))


def quantize(network: Network, steps: Sequence[Step], rows: Any, *, has_pixels: bool) -> Int8Network:
    """Return a network in integers.

    Parameters
    ----------
    network : Network
    steps : list of Step
        Those of the network.
    rows : ndarray of shape (N, D)
        Every other one calibrates the ranges; the ones between are compared with the float network.
    has_pixels : bool
        Whether inputs are whole numbers from 0 to 255, which then are levels as they are.

    Returns
    -------
    Int8Network

    Raises
    ------
    DataError
        If a sum of some inputs might not fit in int32.
    """
    n_float = next((number for number, step in enumerate(steps) if not isinstance(step.layer, BatchNorm)), len(steps))
    if n_float == len(steps):
        raise DataError("all layers are batch_norm, expected a layer with more multiplications for int8")
    used = rows[:: max(1, len(rows) // (2 * _ROWS))][: 2 * _ROWS]
    calibration, compared = used[::2], used[1::2] if len(used) > 1 else used
    is_direct = has_pixels and not n_float and network.standardization is None
    pixels = Levels(network.input_scale, LOW) if is_direct else None
    expected = np.concatenate(
        [outputs_of(network, steps, compared[i : i + _BLOCK]) for i in range(0, len(compared), _BLOCK)]
    )
    tails = _tails(network, steps, n_float, calibration)
    best = None
    for number, clipped in enumerate(CLIPPED):
        levels = [_levels(*tail[number]) for tail in tails]
        int8_steps = _int8_steps(steps, n_float, pixels or levels[0], levels)
        float_steps = list(steps[:n_float])
        found = Int8Network(network, float_steps, int8_steps, is_direct, clipped, len(compared), 1.0, 0.0)
        outputs = found.outputs(compared)
        same = float((outputs.argmax(axis=1) == expected.argmax(axis=1)).mean())
        found = found._replace(same=same, difference=float(np.abs(outputs - expected).mean()))
        if best is None or found.difference < best.difference:
            best = found
    assert best is not None
    return best


def _tails(network: Network, steps: Sequence[Step], n_float: int, rows: np.ndarray) -> list[list[tuple[float, float]]]:
    """Return the ranges of the first integer step's inputs and of the outputs of each integer step but the last.

    For each of CLIPPED, a range is that without this fraction of the values, on each end, in the mean of blocks.
    """
    fractions = np.array([*CLIPPED, *(1 - each for each in CLIPPED)])
    quantiles = []
    for start in range(0, len(rows), _BLOCK):
        values, found = scaled_inputs(network, rows[start : start + _BLOCK]), []
        for number, step in enumerate([None, *steps[:-1]]):
            values = values if step is None else step.forward(values)
            if number >= n_float:
                found.append(np.quantile(values, fractions))
        quantiles.append(found)
    ranges = np.mean(quantiles, axis=0)
    ranges[:, 0], ranges[:, len(CLIPPED)] = np.min(quantiles, axis=0)[:, 0], np.max(quantiles, axis=0)[:, len(CLIPPED)]
    return [list(zip(each[: len(CLIPPED)], each[len(CLIPPED) :], strict=True)) for each in ranges.tolist()]


def _levels(low: float, high: float) -> Levels:
    """Return the levels of a range, which is widened to have 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-30:  # all values are 0
        return Levels(1.0, LOW)
    zero = int(np.clip(round(LOW - low * (HIGH - LOW) / (high - low)), LOW, HIGH))
    # As zero is rounded, the ends are levels only with this scale: saturated units, which are all at an end, then are
    # not halfway between two levels.
    scale = max(high / max(1, HIGH - zero), -low / max(1, zero - LOW))
    return Levels(float(np.float32(scale)), zero)


def _int8_steps(steps: Sequence[Step], n_float: int, inp: Levels, levels: Sequence[Levels]) -> list[Int8Step]:
    found = []
    for number, step in enumerate(steps[n_float:]):
        is_last = number + n_float + 1 == len(steps)
        out = None if is_last else inp if _keeps_levels(step) else levels[number + 1]
        found.append(_int8_step(number + n_float + 1, step, inp, out))
        inp = out or inp
    return found


def _keeps_levels(step: Step) -> bool:
    return isinstance(step.layer, MaxPool2D) and step.activation == "identity"


def _int8_step(number: int, step: Step, inp: Levels, out: Levels | None) -> Int8Step:
    furthest = max(HIGH - inp.zero, inp.zero - LOW)
    if isinstance(step.layer, AvgPool2D):
        n_taps = step.layer.size[0] * step.layer.size[1]
        scale = np.array([inp.scale / n_taps], np.float32)
        return Int8Step(step, inp, out, None, None, scale, _checked_sum(number, furthest * n_taps))
    if step.weight is None or step.bias is None or isinstance(step.layer, BatchNorm):
        return Int8Step(step, inp, out, None, None, None, 0)
    axes = tuple(range(step.weight.ndim - 1))
    unit = np.maximum(np.abs(step.weight).max(axis=axes) / _MOST, np.abs(step.bias) / inp.scale / _BIAS)
    unit = np.where(unit > 0, unit, 1.0)
    weight = np.rint(step.weight / unit).astype(np.int8)
    bias = np.rint(step.bias / (unit * inp.scale)).astype(np.int32)
    largest = furthest * np.abs(weight.astype(np.int64)).sum(axis=axes) + np.abs(bias.astype(np.int64))
    scale = (unit * inp.scale).astype(np.float32)
    return Int8Step(step, inp, out, weight, bias, scale, _checked_sum(number, int(largest.max())))


def _checked_sum(number: int, largest: int) -> int:
    if largest > _INT32:
        raise DataError(f"layer {number}: a sum may reach {largest}, expected at most {_INT32} for int8: use float32")
    return largest
