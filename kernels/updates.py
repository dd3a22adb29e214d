"""Optimizer steps on rows of a parameter, done while their gradient is still in the first-level cache.

`fastnn.optimizers` states the rules; here they run behind the gradient, so that it is never stored as a whole.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layers import lanes
from fastnn.kernels.simd import (
    FOUR,
    ONE,
    TWO,
    vadd,
    vdiv,
    vfma,
    vload,
    vmul,
    vscale_add,
    vsplat,
    vsqrt,
    vstore,
    vsum,
    vzero,
)  # fmt: skip

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
def settle_rows(rule, rate, decay, scale, is_first, is_last, parameters, state, at, piece, rows, n):
    """`settle` for rows of `n` vectors: few wide ones, so that the choice of a rule costs little beside its work."""
    never_inline()
    real, width = piece.dtype.type, len(n) * lanes(piece)
    slot_1, slot_2, gradient = state
    squares, factor, back = vzero(piece, n), vsplat(scale, n), vsplat(-rate, n)
    for w_at in range(at, at + rows * width, width):
        g = vmul(vload(piece, w_at - at, n), factor)
        if not is_first:
            g = vadd(g, vload(gradient, w_at, n))
        if not is_last:
            vstore(gradient, w_at, g)
            continue
        w = vload(parameters, w_at, n)
        if decay != real(0):
            squares = vfma(w, w, squares)
            g = vscale_add(decay, w, g)
        if rule.kind == SGD:
            vstore(parameters, w_at, vfma(back, g, w))
        elif rule.kind == MOMENTUM or rule.kind == NESTEROV:
            step = vmul(back, g)
            velocity = vscale_add(rule.first, vload(slot_1, w_at, n), step)
            vstore(slot_1, w_at, velocity)
            if rule.kind == NESTEROV:
                velocity = vscale_add(rule.first, velocity, step)
            vstore(parameters, w_at, vadd(w, velocity))
        elif rule.kind == ADAM:
            mean = vscale_add(rule.first, vload(slot_1, w_at, n), vmul(vsplat(rule.rest_1, n), g))
            square = vmul(vsplat(rule.rest_2, n), vmul(g, g))
            square = vscale_add(rule.second, vload(slot_2, w_at, n), square)
            vstore(slot_1, w_at, mean)
            vstore(slot_2, w_at, square)
            root = vadd(vsqrt(square), vsplat(rule.epsilon, n))
            vstore(parameters, w_at, vfma(back, vdiv(mean, root), w))
        else:
            vstore(slot_1, w_at, g)
    return np.float64(vsum(squares)) if decay != real(0) else 0.0


@inlined
def settle(rule, rate, decay, scale, is_first, is_last, parameters, state, at, piece, rows, vectors):
    """Take in the gradient, from one block of a batch, of `rows` rows of a panel of `vectors` vectors.

    It is ``scale * piece``, of the parameters from `at` on. After the batch's last block these move against
    ``gradient + decay * parameter`` by the step's `rate`; until then the sum is kept. state: the optimizer's two slots,
    of length 0 where the rule has none, and the kept gradient. Returns the sum of the parameters' squares before the
    step if `decay` is not 0.
    """
    if vectors == 4:
        return settle_rows(rule, rate, decay, scale, is_first, is_last, parameters, state, at, piece, rows, FOUR)
    if vectors == 2:
        return settle_rows(rule, rate, decay, scale, is_first, is_last, parameters, state, at, piece, rows, TWO)
    return settle_rows(rule, rate, decay, scale, is_first, is_last, parameters, state, at, piece, rows, ONE)
