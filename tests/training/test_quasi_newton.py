"""The search of L-BFGS and its line search, beside SciPy's L-BFGS-B."""

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize
from scipy.optimize import rosen, rosen_der

from fastnn.optim.line_search import CURVATURE, DECREASE, LineSearch
from fastnn.optim.quasi_newton import PAIRS, InverseHessian, minimize


def _rosenbrock(at, gradient):
    gradient[:] = rosen_der(at)
    return float(rosen(at))


def _quadratic(size, condition):
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((size, size)))[0]
    matrix = rotation * np.logspace(0, np.log10(condition), size) @ rotation.T

    def function(at, gradient):
        gradient[:] = matrix @ at
        return 1 + 0.5 * float(at @ gradient)

    return function


FUNCTIONS = {"Rosenbrock": _rosenbrock, "quadratic": _quadratic(30, 100.0), "steep": _quadratic(30, 1e4)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_search_takes_the_steps_of_l_bfgs_b(name):
    function, start = FUNCTIONS[name], np.random.default_rng(6).standard_normal(30)
    peers, values = [], []

    def peer(at):
        gradient = np.empty_like(at)
        return function(at, gradient), gradient

    expected = scipy_minimize(
        peer, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-4, "maxiter": 1000},
        callback=lambda intermediate_result: peers.append(intermediate_result.fun),
    )  # fmt: skip
    found = minimize(function, start, 1e-4, 1000, 15000, lambda at, value: values.append(value))
    assert len(values) > 3 * PAIRS  # old pairs have been replaced
    np.testing.assert_allclose(values[: 2 * PAIRS], peers[: 2 * PAIRS], rtol=1e-8)
    assert found.reason == "converged"
    assert expected.status == 0
    assert abs(len(values) - len(peers)) <= 0.1 * len(peers)
    np.testing.assert_allclose(found.at, expected.x, atol=1e-3)


def test_the_direction_is_that_of_the_matrix_of_bfgs():
    """The inverse Hessian of the last pairs, built up as a whole matrix by the formula of BFGS."""
    rng, size = np.random.default_rng(7), 12
    inverse, pairs, hessian = InverseHessian(size), [], np.diag(np.arange(1.0, size + 1))
    inverse.gradient[:] = gradient = rng.standard_normal(size)
    for _ in range(PAIRS + 3):
        direction, step = rng.standard_normal(size), rng.random() + 0.1
        after = gradient + step * hessian @ direction
        inverse.move(step, direction, after, (direction @ gradient, direction @ after))
        pairs.append((step * direction, after - gradient))
        gradient = after
    step, change = pairs[-1]
    matrix = np.eye(size) * (step @ change) / (change @ change)
    for step, change in pairs[-PAIRS:]:
        left = np.eye(size) - np.outer(step, change) / (step @ change)
        matrix = left @ matrix @ left.T + np.outer(step, step) / (step @ change)
    np.testing.assert_allclose(inverse.direction(np.empty(size)), -matrix @ gradient, rtol=1e-9, atol=1e-9)


def test_a_pair_without_positive_curvature_is_left_out():
    inverse = InverseHessian(2)
    inverse.gradient[:] = 1.0, 1.0
    inverse.move(1.0, np.array([-1.0, -1.0]), np.array([2.0, 3.0]), (-2.0, -5.0))
    assert inverse.n_pairs == 0
    np.testing.assert_array_equal(inverse.direction(np.empty(2)), [-2.0, -3.0])


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize(
    "function",
    [
        lambda step: (-step / (step**2 + 2), (step**2 - 2) / (step**2 + 2) ** 2),  # function 5.1 of the paper
        lambda step: ((step - 2) ** 4, 4 * (step - 2) ** 3),
        lambda step: (-step - np.log(3 - step), 1 / (3 - step) - 1) if step < 3 else (np.inf, np.nan),
    ],
    ids=["paper", "flat", "bounded"],
)
def test_a_step_has_the_decrease_and_the_curvature_it_needs(function, first):
    loss, slope = function(0.0)
    search, n_tried = LineSearch(loss, slope, first), 1
    while not search.accepts(*function(search.step)):
        n_tried += 1
    value, change = function(search.step)
    assert value <= loss + DECREASE * search.step * slope
    assert abs(change) <= -CURVATURE * slope
    assert n_tried <= 20


def test_a_search_that_cannot_go_on_says_so():
    def broken(at, gradient):  # the gradient points the wrong way
        gradient[:] = -2 * at
        return float(at @ at)

    found = minimize(broken, np.ones(3), 1e-4, 100, 1000, lambda at, value: False)
    assert (found.reason, found.value) == ("stalled", 3.0)
    np.testing.assert_array_equal(found.at, np.ones(3))


def test_a_search_ends_when_it_is_told_to():
    for limits, stop, reason in (
        ((3, 1000), False, "iterations"),
        ((100, 4), False, "iterations"),
        ((100, 99), True, "stopped"),
    ):
        found = minimize(_rosenbrock, np.zeros(4), 1e-6, *limits, lambda at, value, stop=stop: stop)
        assert found.reason == reason
        assert found.value == rosen(found.at)
