"""Optimizers: their settings and their update rules."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastnn.checks import check_integer, check_number
from fastnn.errors import SettingsError
from fastnn.suggestions import did_you_mean

# The batch size for which the usual rates below hold, and the largest factor for a larger batch.
USUAL_BATCH, MAX_BATCH_FACTOR = 64, 5.0
# The number of hidden layers from which on gradient descent gets a lower rate.
DEEP = 4


class Optimizer:
    """The base class of update rules, for subclasses that are frozen dataclasses of their settings.

    To add an optimizer, write a subclass with `n_slots` and `update`. The trainers call `decay` before `update`, for
    the weights that L2 applies to as well: see `Layer.is_decayed`.
    """

    # The number of state arrays per parameter, and the fraction of a weight that a step subtracts, times the rate.
    n_slots: int = 0
    weight_decay: float = 0.0

    @property
    def is_elementwise(self) -> bool:
        """Whether `update` treats each number by itself, so that it may be given any part of the parameters."""
        return type(self).update in (SGD.update, Adam.update)

    def usual_rate(self, n_hidden: int) -> float:
        """Return a learning rate that suits most networks with `n_hidden` hidden layers and batches of 64 samples."""
        return 0.1 * min(1.0, DEEP / max(1, n_hidden))

    def default_rate(self, n_hidden: int, batch_size: int) -> float:
        """Return the learning rate that `train` uses if the user gives none, in two digits.

        It is `usual_rate` times ``sqrt(batch_size / 64)``, by which the noise of a step stays the same (Krizhevsky
        2014, arXiv:1404.5997, section 5); at most 5 times, because a step that is exact can still be too long.
        docs/learning-rate.md has the measurements.
        """
        factor = min(math.sqrt(batch_size / USUAL_BATCH), MAX_BATCH_FACTOR)
        return float(f"{self.usual_rate(n_hidden) * factor:.2g}")

    def state_bytes(self, itemsize: int) -> int:
        """Return the bytes of state for each parameter of `itemsize` bytes."""
        return self.n_slots * itemsize

    def update(
        self, parameter: np.ndarray, gradient: np.ndarray, slots: Sequence[np.ndarray], learning_rate: float, step: int
    ) -> None:
        """Update `parameter` and `slots`, which are like it and begin as 0, in place; `step` counts from 1."""
        raise NotImplementedError

    def decay(self, weight: np.ndarray, learning_rate: float) -> None:
        """Apply the weight decay of one step in place: ``weight -= learning_rate * weight_decay * weight``."""
        if self.weight_decay:
            weight *= 1 - learning_rate * self.weight_decay


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if `momentum` is above 0.

    Parameters
    ----------
    momentum : float
        From 0 to below 1.
    nesterov : bool
        Whether to use Nesterov's momentum. It needs a `momentum` above 0.

    Raises
    ------
    SettingsError
        If a setting is out of range.

    Notes
    -----
    Plain: ``parameter -= learning_rate * gradient``.

    Momentum [1]_ [2]_: ``velocity = momentum * velocity - learning_rate * gradient; parameter += velocity``.

    Nesterov [2]_ [3]_: with the new velocity, ``parameter += momentum * velocity - learning_rate * gradient``.

    scikit-learn uses the same rules.

    References
    ----------
    .. [1] Polyak 1964, "Some methods of speeding up the convergence of iteration methods".
    .. [2] Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
    .. [3] Bengio et al. 2012, "Advances in optimizing recurrent networks", arXiv:1212.0901, for this form of Nesterov.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> parameter, gradient = np.array([1.0]), np.array([0.5])
    >>> fastnn.SGD().update(parameter, gradient, slots=[], learning_rate=0.5, step=1)
    >>> parameter
    array([0.75])
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_number("momentum", self.momentum, 0, 1)
        if self.nesterov and self.momentum == 0:
            raise SettingsError("nesterov is True with momentum 0, expected a momentum above 0")

    @property
    def n_slots(self) -> int:  # type: ignore[override]
        """The number of state arrays per parameter."""
        return 1 if self.momentum else 0

    def usual_rate(self, n_hidden: int) -> float:
        """Return the usual rate times ``sqrt(1 - momentum)``: many steps in one direction add up with momentum."""
        return super().usual_rate(n_hidden) * math.sqrt(1 - self.momentum)

    def update(
        self, parameter: np.ndarray, gradient: np.ndarray, slots: Sequence[np.ndarray], learning_rate: float, step: int
    ) -> None:
        """Update `parameter` and `slots` in place; `step` is not used."""
        if not self.momentum:
            parameter -= learning_rate * gradient
            return
        (velocity,) = slots
        step_down = learning_rate * gradient
        velocity *= self.momentum
        velocity -= step_down
        parameter += self.momentum * velocity - step_down if self.nesterov else velocity


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam: gradient descent with a step size per parameter, from running moments of its gradient.

    Parameters
    ----------
    beta_1, beta_2 : float
        The decay rates of the first and second moment, from 0 to below 1.
    epsilon : float
        Above 0. Added to the square root of the uncorrected second moment (epsilon hat in the paper).

    Raises
    ------
    SettingsError
        If a setting is out of range.

    Notes
    -----
    Algorithm 1 of [1]_, in the more efficient order of computation at the end of its section 2. scikit-learn uses the
    same order.

    References
    ----------
    .. [1] Kingma and Ba 2015, "Adam: a method for stochastic optimization", arXiv:1412.6980.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> parameter, slots = np.array([1.0]), [np.zeros(1), np.zeros(1)]
    >>> fastnn.Adam().update(parameter, np.array([0.5]), slots, learning_rate=0.25, step=1)
    >>> parameter.round(4)
    array([0.75])
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_slots: ClassVar[int] = 2  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_number("beta_1", self.beta_1, 0, 1)
        check_number("beta_2", self.beta_2, 0, 1)
        check_number("epsilon", self.epsilon, above=0)

    def usual_rate(self, n_hidden: int) -> float:
        """Return 0.001, as in the paper. A step is as long for small gradients, so depth does not change it."""
        return 0.001

    def bias_corrected(self, learning_rate: float, step: int) -> float:
        """Return the learning rate of a step (1, 2, ...), corrected for the bias of both moments towards 0."""
        return learning_rate * math.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)

    def update(
        self, parameter: np.ndarray, gradient: np.ndarray, slots: Sequence[np.ndarray], learning_rate: float, step: int
    ) -> None:
        """Update `parameter` and `slots` in place; `step` counts from 1."""
        mean, square = slots
        mean *= self.beta_1
        mean += (1 - self.beta_1) * gradient
        square *= self.beta_2
        square += (1 - self.beta_2) * gradient**2
        deviation = np.sqrt(square)
        deviation += self.epsilon
        parameter -= self.bias_corrected(learning_rate, step) * mean / deviation


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: each step also shrinks the weights, whatever their gradient.

    Parameters
    ----------
    beta_1, beta_2, epsilon
        As in `Adam`.
    weight_decay : float
        0 or more. A step multiplies weights by ``1 - learning_rate * weight_decay`` before Adam's update. Biases and
        the scales of `BatchNorm` do not decay.

    Raises
    ------
    SettingsError
        If a setting is out of range.

    Notes
    -----
    Algorithm 2 of [1]_, with the learning rate as its schedule multiplier; PyTorch has the same rule and default.

    References
    ----------
    .. [1] Loshchilov and Hutter 2019, "Decoupled weight decay regularization", arXiv:1711.05101.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> result = fastnn.train(network, data, optimizer=fastnn.AdamW(weight_decay=0.1), learning_rate=0.01)
    >>> bool(result.history[-1].accuracy > 0.9)
    True
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("weight_decay", self.weight_decay, 0)


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS: a quasi-Newton method. Each iteration is a line search with gradients of the whole data set.

    Parameters
    ----------
    tolerance : float
        The search has converged when no entry of the gradient exceeds this in magnitude; 0 or more.
    max_evaluations : int
        The maximum number of evaluations of loss and gradients; 1 or more.

    Raises
    ------
    SettingsError
        If a setting is out of range.

    Notes
    -----
    The algorithm is that of [1]_, with the line search and the stopping rules of SciPy's L-BFGS-B. `train` needs
    ``batch_size=None`` with it, and
    neither dropout nor a schedule.

    References
    ----------
    .. [1] Liu and Nocedal 1989, "On the limited memory BFGS method for large scale optimization".

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.load_digits()
    >>> network = fastnn.Network.for_data(data, (16,))
    >>> result = fastnn.train(network, data, optimizer=fastnn.LBFGS(), epochs=50, batch_size=None)
    >>> bool(result.loss < 0.1)
    True
    """

    tolerance: float = 1e-4
    max_evaluations: int = 15000

    def __post_init__(self) -> None:
        check_number("tolerance", self.tolerance, 0)
        check_integer("max_evaluations", self.max_evaluations, 1)

    def state_bytes(self, itemsize: int) -> int:
        """Return the bytes of state for each parameter: 10 pairs of vectors, and 6 vectors in float64."""
        return 20 * itemsize + 6 * 8


OPTIMIZERS: dict[str, Optimizer | LBFGS] = {
    "sgd": SGD(),
    "momentum": SGD(0.9),
    "nesterov": SGD(0.9, nesterov=True),
    "adam": Adam(),
    "adamw": AdamW(),
    "lbfgs": LBFGS(),
}
"""The optimizers that have a name, with their usual settings: dict of str to Optimizer or LBFGS."""


def get_optimizer(optimizer: str | Optimizer | LBFGS) -> Optimizer | LBFGS:
    """Return the optimizer with that name in `OPTIMIZERS`, or SettingsError; an object is returned unchanged."""
    if isinstance(optimizer, (Optimizer, LBFGS)):
        return optimizer
    if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
        meant = did_you_mean(optimizer, OPTIMIZERS) if isinstance(optimizer, str) else ""
        raise SettingsError(
            f"optimizer is {optimizer!r}{meant}, expected an object such as SGD(...), or one of {', '.join(OPTIMIZERS)}"
        )
    return OPTIMIZERS[optimizer]
