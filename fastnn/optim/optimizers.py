"""Optimizers: their settings, and the rule by which each moves a parameter against its gradient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastnn.checks import check_integer, check_number
from fastnn.errors import SettingsError


@dataclass(frozen=True)
class SGD:
    """Gradient descent, with momentum if it is above 0.

    Plain: ``parameter -= learning_rate * gradient``. Momentum (Polyak 1964, as in scikit-learn):
    ``velocity = momentum * velocity - learning_rate * gradient; parameter += velocity``. Nesterov (Sutskever et al.
    2013, in the form of Bengio et al. 2012, arXiv:1212.0901): the parameter moves by
    ``momentum * velocity - learning_rate * gradient`` with the new velocity.

    Parameters
    ----------
    momentum : float
        From 0 to below 1.
    nesterov : bool
        Needs a momentum above 0.
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        check_number("momentum", self.momentum, 0, 1)
        if self.nesterov and self.momentum == 0:
            raise SettingsError("nesterov is True with momentum 0, expected a momentum above 0")

    @property
    def n_slots(self) -> int:
        """How many arrays of state a parameter needs."""
        return 1 if self.momentum else 0

    def update(
        self, parameter: np.ndarray, gradient: np.ndarray, slots: Sequence[np.ndarray], learning_rate: float, step: int
    ) -> None:
        """Move `parameter` one step, in place, `slots` too."""
        if not self.momentum:
            parameter -= learning_rate * gradient
            return
        (velocity,) = slots
        velocity *= self.momentum
        velocity -= learning_rate * gradient
        parameter += self.momentum * velocity - learning_rate * gradient if self.nesterov else velocity


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980), in the order of computation of its section 2, as scikit-learn's.

    Parameters
    ----------
    beta_1, beta_2 : float
        Decay of the first and second moment, from 0 to below 1.
    epsilon : float
        Above 0; added to the root of the second moment before its bias is corrected.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        check_number("beta_1", self.beta_1, 0, 1)
        check_number("beta_2", self.beta_2, 0, 1)
        check_number("epsilon", self.epsilon, above=0)

    @property
    def n_slots(self) -> int:
        """How many arrays of state a parameter needs."""
        return 2

    def bias_corrected(self, learning_rate: float, step: int) -> float:
        """The learning rate of step 1, 2, ... with both moments' bias towards 0 taken out."""
        return float(learning_rate * np.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step))

    def update(
        self, parameter: np.ndarray, gradient: np.ndarray, slots: Sequence[np.ndarray], learning_rate: float, step: int
    ) -> None:
        """Move `parameter` one step, in place, `slots` too; `step` counts from 1."""
        mean, square = slots
        mean *= self.beta_1
        mean += (1 - self.beta_1) * gradient
        square *= self.beta_2
        square += (1 - self.beta_2) * gradient**2
        parameter -= self.bias_corrected(learning_rate, step) * mean / (np.sqrt(square) + self.epsilon)


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS (Liu and Nocedal 1989): each step follows a line search with the gradients of the whole data set.

    Parameters
    ----------
    tolerance : float
        The search has converged when no entry of the gradient is larger.
    max_evaluations : int
        The most times that loss and gradients are computed.
    """

    tolerance: float = 1e-4
    max_evaluations: int = 15000

    def __post_init__(self) -> None:
        check_number("tolerance", self.tolerance, 0)
        check_integer("max_evaluations", self.max_evaluations, 1)


Optimizer = SGD | Adam
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "lbfgs")


def get_optimizer(optimizer: "str | Optimizer | LBFGS") -> Optimizer | LBFGS:
    """The optimizer of that name, with the field's usual settings (momentum 0.9); an optimizer comes back as it is."""
    if isinstance(optimizer, (SGD, Adam, LBFGS)):
        return optimizer
    named: dict[str, Optimizer | LBFGS] = {
        "sgd": SGD(),
        "momentum": SGD(0.9),
        "nesterov": SGD(0.9, nesterov=True),
        "adam": Adam(),
        "lbfgs": LBFGS(),
    }
    if optimizer not in named:
        raise SettingsError(
            f"optimizer is {optimizer!r}, expected SGD(...), Adam(...), LBFGS(...) or one of {', '.join(OPTIMIZERS)}"
        )
    return named[optimizer]
