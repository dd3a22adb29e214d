"""Optimizer steps on a piece of a parameter, done while its gradient is still at hand.

`fastnn.optimizers` states the rules; here they are fused behind the gradient, so that it is never stored.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined

# KEEP_GRADIENT leaves the parameter alone and writes the gradient to `slot_1`: gradients that are checked are those
# that train.
KEEP_GRADIENT, SGD, MOMENTUM, NESTEROV, ADAM = range(5)


class Rule(NamedTuple):
    """An optimizer's numbers.

    rate: the epoch's learning rate, beta_1, beta_2: Adam's, all float64, for the bias corrections of each step. The
    others are of the working dtype: first, second: the momentum, or both betas; rest_1, rest_2: 1 - beta, rounded once;
    l2: what the squared weights count.
    """

    kind: int
    rate: float
    beta_1: float
    beta_2: float
    first: np.floating
    rest_1: np.floating
    second: np.floating
    rest_2: np.floating
    epsilon: np.floating
    l2: np.floating


@inlined
def rate_of_step(rule, step):
    """The learning rate of step 1, 2, ...: Adam's has the bias of both moments taken out."""
    if rule.kind == ADAM:
        return rule.rate * np.sqrt(1 - rule.beta_2**step) / (1 - rule.beta_1**step)
    return rule.rate


@inlined
def update(rule, rate, decay, parameter, gradient, slot_1, slot_2):
    """Move `parameter` one step against ``gradient + decay * parameter``, in place; all vectors of one length.

    rate: the step's learning rate (Adam's with both biases taken out); slot_1, slot_2: the optimizer's state, of
    length 0 where the rule has none; `gradient` is overwritten.
    """
    n = len(parameter)
    real = parameter.dtype.type
    if decay != real(0):
        for h in range(n):
            gradient[h] += decay * parameter[h]
    if rule.kind == SGD:
        for h in range(n):
            parameter[h] -= rate * gradient[h]
    elif rule.kind == MOMENTUM:
        for h in range(n):
            slot_1[h] = rule.first * slot_1[h] - rate * gradient[h]
            parameter[h] += slot_1[h]
    elif rule.kind == NESTEROV:
        for h in range(n):
            slot_1[h] = rule.first * slot_1[h] - rate * gradient[h]
            parameter[h] += rule.first * slot_1[h] - rate * gradient[h]
    elif rule.kind == ADAM:
        for h in range(n):
            slot_1[h] = rule.first * slot_1[h] + rule.rest_1 * gradient[h]
            slot_2[h] = rule.second * slot_2[h] + rule.rest_2 * gradient[h] * gradient[h]
            parameter[h] -= rate * slot_1[h] / (np.sqrt(slot_2[h]) + rule.epsilon)
    else:
        for h in range(n):
            slot_1[h] = gradient[h]
