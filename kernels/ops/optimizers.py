"""Optimizer steps on rows of a parameter, done while their gradient is still in the first-level cache.

`fastnn.optim.optimizers` states the rules; here they run behind the gradient, so that it is never stored as a whole.

The state of a weight whose input is rarely used decays from step to step, and would stay below the smallest normal
number for good, since 0.9 times the very smallest is rounded back to it. Many processors take dozens of times as long
for such numbers, so they are made 0. A control register would do that as well, but each CPU has another, and every
thread its own.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import GRADIENT_ROWS
from fastnn.kernels.ops.matmul import OVERWRITE, START, STRIDE_1, multiply_panel
from fastnn.kernels.vector.simd import (
    FOUR,
    ONE,
    TWO,
    lanes,
    vadd,
    vdiv,
    vflush,
    vfma,
    vload,
    vmul,
    vscale_add,
    vsplat,
    vsqrt,
    vstore,
    vsum,
    vzero,
)

# KEEP_GRADIENT leaves the parameter alone and writes the gradient to `slot_1`: gradients that are checked are those
# that train.
KEEP_GRADIENT, SGD, MOMENTUM, NESTEROV, ADAM = range(5)


class Rule(NamedTuple):
    """An optimizer's numbers.

    rate: the epoch's learning rate, beta_1, beta_2: Adam's, all float64, for the bias corrections of each step. The
    others are of the working dtype: first, second: the momentum, or both betas; rest_1, rest_2: 1 - beta, rounded once.
    l2, float64: what the squared weights count; divide_l2: whether that is divided by what a batch's samples count.
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
    l2: float
    divide_l2: bool


class Step(NamedTuple):
    """One step of the optimizer, as far as a block of its batch goes.

    rate, l2: the learning rate of this step and what its squared weights count, in the working dtype; is_first,
    is_last: whether the block is the first and last of the batch. Until the last the gradient is kept, after it the
    parameters move.
    """

    rule: Rule
    rate: np.floating
    l2: np.floating
    is_first: bool
    is_last: bool


class State(NamedTuple):
    """Arrays laid out like the parameters, or empty: the optimizer's two slots, and the gradient as far as it is kept,
    before the scale of the inputs.
    """

    slot_1: np.ndarray
    slot_2: np.ndarray
    gradient: np.ndarray


@inlined
def rate_of_step(rule, step):
    """The learning rate of step 1, 2, ...: Adam's has the bias of both moments taken out."""
    if rule.kind == ADAM:
        count = np.float64(step)
        return rule.rate * np.sqrt(1 - rule.beta_2**count) / (1 - rule.beta_1**count)
    return rule.rate


@inlined
def l2_of_step(rule, weight):
    """What the squared weights count in the loss of a batch whose samples count `weight` in all."""
    if rule.divide_l2:
        return rule.l2 / weight if weight > 0 else 0.0
    return rule.l2


@inlined
def move_row(step, decay, parameters, state, at, g, back, n):
    """Move the `n` vectors of parameters from `at` on against ``g + decay * parameter``; returns what they were.

    g: their gradient. back: minus the learning rate, in every lane.
    """
    rule, slot_1, slot_2 = step.rule, state.slot_1, state.slot_2
    w = vload(parameters, at, n)
    if decay != parameters.dtype.type(0):
        g = vscale_add(decay, w, g)
    if rule.kind == SGD:
        vstore(parameters, at, vfma(back, g, w))
    elif rule.kind == MOMENTUM or rule.kind == NESTEROV:
        move = vmul(back, g)
        velocity = vflush(vscale_add(rule.first, vload(slot_1, at, n), move))
        vstore(slot_1, at, velocity)
        if rule.kind == NESTEROV:
            velocity = vscale_add(rule.first, velocity, move)
        vstore(parameters, at, vadd(w, velocity))
    elif rule.kind == ADAM:
        mean = vscale_add(rule.first, vload(slot_1, at, n), vmul(vsplat(rule.rest_1, n), g))
        square = vmul(vsplat(rule.rest_2, n), vmul(g, g))
        square = vscale_add(rule.second, vload(slot_2, at, n), square)
        mean, square = vflush(mean), vflush(square)
        vstore(slot_1, at, mean)
        vstore(slot_2, at, square)
        root = vadd(vsqrt(square), vsplat(rule.epsilon, n))
        vstore(parameters, at, vfma(back, vdiv(mean, root), w))
    else:
        vstore(slot_1, at, g)
    return w


@inlined
def apply_update_rows(step, decay, scale, parameters, state, at, gradient_tile, rows, n):
    """`settle` for rows of `n` vectors: few wide ones, so that the choice of a rule costs little beside its work."""
    never_inline()
    real, width = gradient_tile.dtype.type, len(n) * lanes(gradient_tile)
    squares, factor, back = vzero(gradient_tile, n), vsplat(scale, n), vsplat(-step.rate, n)
    for w_at in range(at, at + rows * width, width):
        g = vload(gradient_tile, w_at - at, n)
        if not step.is_first:
            g = vadd(vload(state.gradient, w_at, n), g)
        w = move_row(step, decay, parameters, state, w_at, vmul(g, factor), back, n)
        if decay != real(0):
            squares = vfma(w, w, squares)
    return np.float64(vsum(squares)) if decay != real(0) else 0.0


@inlined
def apply_update(step, decay, scale, parameters, state, at, gradient_tile, rows, vectors):
    """Move `rows` rows of a panel of `vectors` vectors, the parameters from `at` on.

    Their gradient is `scale` times the sum of `piece` and, unless the step's block is the first, of what was kept; they
    move against ``gradient + decay * parameter``. Returns the sum of the parameters' squares before that if `decay` is
    not 0.
    """
    if vectors == 4:
        return apply_update_rows(step, decay, scale, parameters, state, at, gradient_tile, rows, FOUR)
    if vectors == 2:
        return apply_update_rows(step, decay, scale, parameters, state, at, gradient_tile, rows, TWO)
    return apply_update_rows(step, decay, scale, parameters, state, at, gradient_tile, rows, ONE)


@inlined
def multiply_and_update(
    layout, at, left, left_at, left_row, height, n_rows, step, scale, dout, state, gradient_tile, outputs
):
    """Gradient and step of `height` rows of weights, from `at` on, that lead to the panel `outputs`; returns the sum of
    their squares.

    The gradient is ``scale * left.T @ dout``, a few rows at a time. left: flat, (n_rows, height) from `left_at` on, its
    rows `left_row` apart.
    """
    never_inline()
    width, penalty = outputs.width, 0.0
    if not step.is_last:
        multiply_panel(
            state.gradient, at, width, left, left_at, STRIDE_1, left_row, dout, outputs.at, outputs.row, n_rows, height,
            outputs.vectors, not step.is_first,
        )  # fmt: skip
        return penalty
    for i in range(0, height, GRADIENT_ROWS):
        count = min(GRADIENT_ROWS, height - i)
        multiply_panel(
            gradient_tile, START, width, left, left_at + i, STRIDE_1, left_row, dout, outputs.at, outputs.row, n_rows,
            count, outputs.vectors, OVERWRITE,
        )  # fmt: skip
        penalty += apply_update(
            step, step.l2, scale, layout.parameters, state, at + i * width, gradient_tile, count, outputs.vectors
        )
    return penalty
