"""Optimizer updates of rows of parameters, applied while their gradient is still in the first-level cache.

`fastnn.optim.optimizers` defines the rules. Here the rule is applied as soon as the gradient of a few rows is known. If
threads share units, a batch of one block therefore never stores a whole gradient, except that of a first layer whose
inputs are lists.

If an input is rarely nonzero, the optimizer state of its weights decays into subnormal numbers. It never reaches 0,
because 0.9 times the smallest subnormal rounds to itself. On many CPUs arithmetic with subnormals takes dozens of times
as long, so `vflush` replaces them by 0. A CPU control register could do that too, but its format differs between CPUs,
and each thread has its own.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import inlined, never_inline
from fastnn.kernels.layout import GRADIENT_ROWS, Matrix, View, by_vectors
from fastnn.kernels.ops.matmul import OVERWRITE, START, multiply_panel
from fastnn.kernels.vector.simd import (
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

# KEEP_GRADIENT leaves the parameters unchanged and writes the gradient to `slot_1`. So gradient checks test the very
# gradients that training uses.
KEEP_GRADIENT, SGD, MOMENTUM, NESTEROV, ADAM = range(5)
# The `is_weight` of updates. Typed constants, not literals; `matmul.py` gives the reason.
WEIGHTS, BIASES = np.bool_(True), np.bool_(False)


class Rule(NamedTuple):
    """The settings of an optimizer for one epoch.

    kind: KEEP_GRADIENT, SGD, MOMENTUM, NESTEROV or ADAM; AdamW is ADAM with a `keep` below 1
    rate: float64, the learning rate of the epoch
    beta_1: float64, Adam's beta_1, for the bias correction of each step
    beta_2: float64, Adam's beta_2, likewise
    first: the momentum or beta_1, in the working dtype
    rest_1: 1 - first, rounded once to the working dtype
    second: beta_2, in the working dtype
    rest_2: 1 - second, rounded once to the working dtype
    epsilon: Adam's epsilon, in the working dtype
    keep: the factor of weights in each step of Adam, 1 without weight decay, in the working dtype
    l2: float64, the factor of the L2 penalty, which is ``l2 / 2 * sum of squared weights``
    divide_l2: whether `l2` is divided by the total sample weight of each batch
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
    keep: np.floating
    l2: float
    divide_l2: bool


class State(NamedTuple):
    """The arrays of the optimizer. Each has the layout of the parameters, or size 0 if it is not needed.

    slot_1: the velocity of momentum, or Adam's mean of gradients; for KEEP_GRADIENT the gradient
    slot_2: Adam's mean of squared gradients
    gradient: the sum over the blocks of a batch so far, before the scale of the inputs is applied; if threads share
        rows, one such array for each chunk of a batch
    """

    slot_1: np.ndarray
    slot_2: np.ndarray
    gradient: np.ndarray


class Step(NamedTuple):
    """One optimizer step, as seen by one block of its batch.

    The gradient is stored until the last block of the batch. Then the parameters are updated. If threads share rows,
    `is_first` refers to the chunk of the block, and `is_last` is false until all chunks are done.

    rule: the `Rule` of the epoch
    rate: the learning rate of this step, in the working dtype
    l2: the factor of the L2 penalty in this step, in the working dtype
    is_first: whether the block is the first of its batch
    is_last: whether the block is the last of its batch
    state: the `State`, updated
    """

    rule: Rule
    rate: np.floating
    l2: np.floating
    is_first: bool
    is_last: bool
    state: State


@inlined
def rate_of_step(rule, step):
    """The learning rate of a step, counted from 1. For Adam it includes the bias correction of both moments."""
    if rule.kind == ADAM:
        count = np.float64(step)
        return rule.rate * np.sqrt(1 - rule.beta_2**count) / (1 - rule.beta_1**count)
    return rule.rate


@inlined
def l2_of_step(rule, weight):
    """The factor of the L2 penalty for a batch of total sample weight `weight`."""
    if rule.divide_l2:
        return rule.l2 / weight if weight > 0 else 0.0
    return rule.l2


@inlined
def move_row(step, is_weight, parameters, at, g, back, n):
    """Update the `n` vectors of parameters from `at` on. Returns them as they were before.

    is_weight: whether L2 and weight decay apply
    g: n vectors, the gradient without the L2 penalty
    back: n vectors, minus the learning rate in every lane
    """
    rule, slot_1, slot_2 = step.rule, step.state.slot_1, step.state.slot_2
    w, real = vload(parameters, at, n), parameters.dtype.type
    if is_weight and step.l2 != real(0):
        g = vscale_add(step.l2, w, g)
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
        kept = vmul(vsplat(rule.keep if is_weight else real(1), n), w)
        vstore(parameters, at, vfma(back, vdiv(mean, root), kept))
    else:
        vstore(slot_1, at, g)
    return w


@inlined
def apply_update_rows(step, is_weight, scale, parameters, at, gradient_tile, rows, n):
    """Update `rows` rows of ``len(n)`` vectors, which start at offset `at` of the parameters.

    The gradient is ``scale * (gradient_tile + step.state.gradient)``, or ``scale * gradient_tile`` in the first block
    of a batch. Returns the sum of the squared parameters before the update if they have an L2 penalty, otherwise 0.

    is_weight: whether L2 and weight decay apply
    parameters: flat, `rows` rows updated from `at` on; the same rows of the optimizer's slots are updated
    gradient_tile: (rows * vectors * lanes,) or longer

    Each row selects the rule again. Rows are few and wide, so this costs little compared with the update.
    """
    never_inline()
    width, counts = len(n) * lanes(gradient_tile), is_weight and step.l2 != gradient_tile.dtype.type(0)
    squares, factor, back = vzero(gradient_tile, n), vsplat(scale, n), vsplat(-step.rate, n)
    for w_at in range(at, at + rows * width, width):
        g = vload(gradient_tile, w_at - at, n)
        if not step.is_first:
            g = vadd(vload(step.state.gradient, w_at, n), g)
        w = move_row(step, is_weight, parameters, w_at, vmul(g, factor), back, n)
        if counts:
            squares = vfma(w, w, squares)
    return np.float64(vsum(squares)) if counts else 0.0


# `apply_update_rows` for a number of vectors that is known only at run time, as the first argument.
apply_update = by_vectors(apply_update_rows)


@inlined
def multiply_and_update(step, scale, weight, left, dout, height, n_rows, gradient_tile):
    """Compute the gradient of `height` rows of weights and update them. Returns the sum of their squares, 0 without L2.

    The gradient is ``scale * left @ dout``. Before the last block of a batch, it is only stored or added to the stored
    one, and 0 is returned. In the last block, GRADIENT_ROWS rows of the gradient are computed at a time. They stay in
    the first-level cache until their weights are updated.

    weight: a `View` of the parameters, (height, width of the panel that the weights lead to), without gaps
    left: a `Matrix`, (height, n_rows), the transposed inputs
    dout: a `View`, n_rows rows of the panel's gradients
    gradient_tile: (GRADIENT_ROWS * width,) or longer, scratch
    """
    never_inline()
    width, vectors, penalty = weight.row, weight.row // lanes(gradient_tile), 0.0
    if not step.is_last:
        stored = View(step.state.gradient, weight.at, width)
        multiply_panel(stored, left, dout, n_rows, height, vectors, not step.is_first)
        return penalty
    for i in range(0, height, GRADIENT_ROWS):
        at, count = weight.at + i * width, min(GRADIENT_ROWS, height - i)
        some = Matrix(left.array, left.at + i * left.row, left.row, left.column)
        multiply_panel(View(gradient_tile, START, width), some, dout, n_rows, count, vectors, OVERWRITE)
        penalty += apply_update(vectors, step, WEIGHTS, scale, weight.array, at, gradient_tile, count)
    return penalty
