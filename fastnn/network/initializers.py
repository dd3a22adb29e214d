"""The table of initializers: the distributions from which the weights of a new network are drawn.

To add an initializer, add a row. `Network.initialize`, the estimators and the command look it up by its name.
"""

from typing import Literal, NamedTuple

import numpy as np


class Initializer(NamedTuple):
    """One row of the table: a distribution with mean 0 and variance ``gain / fan``.

    `fan` is the number of inputs of a unit ("in"), or the sum of the numbers of inputs and outputs ("sum").
    """

    distribution: Literal["normal", "uniform"]
    gain: int
    fan: Literal["in", "sum"]
    formula: str  # the distribution in words
    paper: str  # where it comes from

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> np.ndarray:
        """Return random weights of a shape, float64.

        Examples
        --------
        >>> import numpy as np
        >>> from fastnn.network.initializers import INITIALIZERS
        >>> weight = INITIALIZERS["lecun"].draw(np.random.default_rng(0), (400, 100), fan_in=400, fan_out=100)
        >>> round(float(weight.std()), 3)
        0.05
        """
        fan = fan_in if self.fan == "in" else fan_in + fan_out
        if self.distribution == "normal":
            return rng.standard_normal(shape) * np.sqrt(self.gain / fan)
        bound = np.sqrt(3 * self.gain / fan)  # a uniform distribution within +-bound has the variance bound ** 2 / 3
        return rng.uniform(-bound, bound, shape)


_HE = "He et al. 2015, arXiv:1502.01852"
_GLOROT = "Glorot and Bengio 2010"
_LECUN = 'LeCun et al. 1998, "Efficient backprop"'

INITIALIZERS: dict[str, Initializer] = {
    "he": Initializer("normal", 2, "in", "normal with variance 2 / fan_in", _HE),
    "he_uniform": Initializer("uniform", 2, "in", "uniform within +-sqrt(6 / fan_in)", _HE),
    "glorot": Initializer("uniform", 2, "sum", "uniform within +-sqrt(6 / (fan_in + fan_out))", _GLOROT),
    "glorot_normal": Initializer("normal", 2, "sum", "normal with variance 2 / (fan_in + fan_out)", _GLOROT),
    "lecun": Initializer("normal", 1, "in", "normal with variance 1 / fan_in", _LECUN),
}
"""The initializers by name: dict of str to `Initializer`."""

AUTO_INITIALIZER = "auto"  # stands for the initializer that suits each layer's activation
INITIALIZER_NAMES = (AUTO_INITIALIZER, *INITIALIZERS)
