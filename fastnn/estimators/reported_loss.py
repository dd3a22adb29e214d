"""`ReportedLoss`: the loss of an epoch as scikit-learn reports it, computed from fastnn's own.

fastnn has one definition of the loss of several numbers: the sum of their losses, whose gradient the steps follow.
scikit-learn follows the same gradient but reports the mean over the targets. Its `loss_` and `tol` mean that number.
"""

from collections.abc import Callable
from typing import NamedTuple

from fastnn.network import Network


class ReportedLoss(NamedTuple):
    """Converts the loss of an epoch: everything but the L2 term is divided by the number of targets.

    A history holds only the sum of both. The L2 term is known before and after an epoch. Within one, it is taken to
    change by the same amount in each batch. With the default `alpha`, this changes about the seventh digit of the
    result, with a large one earlier digits.
    """

    n_targets: int = 1  # 1 leaves the loss as it is
    n_batches: int = 1
    total_weight: float = 1.0  # the sum of the sample weights
    alpha: float = 0.0
    is_last: bool = False  # whether an epoch is evaluated after its step, as an iteration of L-BFGS

    def squares(self, make: Callable[[], Network]) -> float:
        """Return the sum of the squared weights, which `reported` needs; 0, without making the network, if not."""
        return make().l2_penalty(2.0) if self.n_targets > 1 else 0.0

    def reported(self, loss: float, before: float, after: float) -> float:
        """Return the reported loss of an epoch with these squares before and after it."""
        if self.n_targets == 1:
            return loss
        # Batch k of n is evaluated after k of the n steps.
        steps = 1.0 if self.is_last else (self.n_batches - 1) / (2 * self.n_batches)
        squares = before + steps * (after - before)
        penalty = 0.5 * self.alpha * squares * self.n_batches / self.total_weight
        return (loss - penalty) / self.n_targets + penalty
