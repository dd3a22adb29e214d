"""Tests that settings of any type and size are used or refused by name, in one line, before any work."""

from fractions import Fraction

import numpy as np
import pytest

import fastnn
from fastnn import Dataset, EarlyStopping, MLPClassifier, MLPRegressor, Network, SettingsError, TrainingConfig
from fastnn.checks import MAX_INTEGER, check_integer, check_number, is_count, is_finite, short
from fastnn.optim import schedules
from fastnn.optim.optimizers import LBFGS, SGD, Adam

X = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
Y = np.arange(30) % 3
DATA = Dataset(X, Y)
HUGE = (2**63, 2**64, 10**30, 10**400, 10**5000, np.uint64(2**64 - 1))
NO_INTEGERS = (True, False, np.True_, 10.0, np.float64(3), "3", b"3", None, [3], np.array(3), np.array([3]), 3j, 1 / 3)
NO_NUMBERS = (True, np.False_, "0.1", None, [0.1], 1j, float("nan"), float("inf"), np.float32("nan"), -10.0)


def _refuses(name, make, value, optional=False):
    if optional and value is None:
        return
    with pytest.raises(SettingsError) as caught:
        make(value)
    message = str(caught.value)
    assert message.startswith(f"{name} "), message
    assert "\n" not in message
    assert len(message) < 300


INTEGERS = {
    "epochs": lambda value: TrainingConfig(epochs=value),
    "batch_size": lambda value: TrainingConfig(batch_size=value),
    "warm_up": lambda value: TrainingConfig(warm_up=value),
    "threads": lambda value: TrainingConfig(threads=value),
    "seed": lambda value: TrainingConfig(seed=value),
    "early_stopping": lambda value: TrainingConfig(early_stopping=value),
    "patience": lambda value: EarlyStopping(value),
    "max_evaluations": lambda value: LBFGS(max_evaluations=value),
    "every of the step schedule": lambda value: TrainingConfig(schedule=schedules.StepDecay(0.5, value)),
    "units of a dense layer": lambda value: fastnn.Dense(value),
    "sizes": lambda value: Network.initialize((4, value, 2)),
    "input_shape": lambda value: Network.initialize((value,), [fastnn.Dense(2)]),
    "hidden": lambda value: Network.for_data(DATA, [value]),
}


@pytest.mark.parametrize("value", [*NO_INTEGERS, *HUGE, -1, -(2**70)], ids=lambda value: f"{type(value).__name__}")
@pytest.mark.parametrize("name", INTEGERS)
def test_a_setting_that_is_no_integer_of_64_bits_is_refused_by_name(name, value):
    expected = "patience" if name == "early_stopping" and is_integer_like(value) else name
    _refuses(expected, INTEGERS[name], value, optional=name in ("batch_size", "threads", "early_stopping"))


def is_integer_like(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


NUMBERS = {
    "learning_rate": lambda value: TrainingConfig(learning_rate=value),
    "l2": lambda value: TrainingConfig(l2=value),
    "dropout": lambda value: TrainingConfig(dropout=value),
    "label_smoothing": lambda value: TrainingConfig(label_smoothing=value),
    "clip_norm": lambda value: TrainingConfig(clip_norm=value),
    "clip_value": lambda value: TrainingConfig(clip_value=value),
    "max_norm": lambda value: TrainingConfig(max_norm=value),
    "momentum": lambda value: SGD(value),
    "beta_1": lambda value: Adam(beta_1=value),
    "epsilon": lambda value: Adam(epsilon=value),
    "tolerance": lambda value: LBFGS(tolerance=value),
    "min_delta": lambda value: EarlyStopping(min_delta=value),
    "input_scale": lambda value: Network.initialize((4, 2), input_scale=value),
}


@pytest.mark.parametrize(
    "value", [*NO_NUMBERS, *HUGE[3:5], Fraction(10**400)], ids=lambda value: f"{type(value).__name__}"
)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_setting_that_is_no_finite_float_is_refused_by_name(name, value):
    if name == "dropout" and isinstance(value, list):  # a rate of its own for the inputs
        return
    _refuses(name, NUMBERS[name], value, optional=name in ("learning_rate", "clip_norm", "clip_value", "max_norm"))


ESTIMATOR_INTEGERS = ("hidden_layer_sizes", "batch_size", "max_iter", "max_fun", "n_threads", "random_state")
ESTIMATOR_NUMBERS = ("alpha", "learning_rate_init", "power_t", "tol", "momentum", "beta_1", "epsilon", "dropout")


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_an_estimators_parameters_are_refused_by_name(estimator):
    for name in ESTIMATOR_INTEGERS:
        wrong = [value for value in (*NO_INTEGERS, *HUGE, -1) if not isinstance(value, (list, np.ndarray))]
        for value in (*wrong, *([(True,), [2, np.True_], (2.0,)] if name == "hidden_layer_sizes" else [])):
            if value is None and name in ("n_threads", "random_state"):
                continue
            _refuses(name, lambda value, name=name: estimator(**{name: value}).fit(X, Y), value)
    for name in ESTIMATOR_NUMBERS:
        for value in (*NO_NUMBERS, 10**400, 10**5000, Fraction(10**400)):
            if name == "dropout" and isinstance(value, list):
                continue
            _refuses(name, lambda value, name=name: estimator(**{name: value}).fit(X, Y), value)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("hidden", [(5,), (130,)])  # kernels by rows and by units
def test_the_largest_integers_are_used(backend, hidden):
    network, stop = Network.for_data(DATA, hidden), [lambda _: True]
    usual = fastnn.train(network, DATA, batch_size=30, epochs=1, backend=backend)
    largest = fastnn.train(
        network, DATA, batch_size=MAX_INTEGER, epochs=MAX_INTEGER, threads=1024, backend=backend, callbacks=stop,
        early_stopping=MAX_INTEGER, validation=DATA, learning_rate=usual.config.learning_rate,
    )  # fmt: skip
    np.testing.assert_array_equal(largest.network.weights[0], usual.network.weights[0])


@pytest.mark.parametrize("value", ["5", b"5", bytearray(b"5"), {5: 4}, {5, 4}, {5: 1}.keys(), 5.0], ids=repr)
def test_hidden_layers_are_refused_without_an_order(value):
    for make, name in (
        (lambda value: Network.for_data(DATA, value), "hidden"),
        (lambda value: Network.initialize(value), "sizes"),
        (lambda value: MLPClassifier(value).fit(X, Y), "hidden_layer_sizes"),
    ):
        _refuses(name, make, value)


def test_numpys_integers_are_pythons():
    config = TrainingConfig(epochs=np.uint8(3), batch_size=np.int64(5), seed=np.uint64(7), early_stopping=np.int16(4))
    assert (config.epochs, config.batch_size, config.seed, config.early_stopping.patience) == (3, 5, 7, 4)
    assert {type(config.epochs), type(config.batch_size), type(config.seed)} == {int}
    assert Network.initialize((np.int64(4), np.uint8(3), 2)).sizes == (4, 3, 2)
    assert check_number("l2", np.float32(0.5)) == 0.5
    assert check_number("l2", Fraction(1, 4)) == 0.25


def test_the_check_of_integers_states_the_range():
    for value, low, high, words in (
        (2**63, 1, MAX_INTEGER, f"x is {2**63}, expected a whole number, 1 or more and less than 2**63"),
        (0, 1, MAX_INTEGER, "x is 0, expected a whole number, 1 or more"),
        (1025, 1, 1024, "x is 1025, expected a whole number, from 1 to 1024"),
        (10**5000, 1, 5, "x is a number of more than 4300 digits, expected a whole number, from 1 to 5"),
    ):
        with pytest.raises(SettingsError) as caught:
            check_integer("x", value, low, high)
        assert str(caught.value) == words
    assert is_count(MAX_INTEGER)
    assert not is_count(MAX_INTEGER + 1)
    assert is_finite(10**300)
    assert not is_finite(10**400)
    assert short([10**5000]) == "a list that holds a number of more than 4300 digits"


def test_a_power_beyond_float64_gives_a_rate_of_zero():
    model = MLPClassifier(
        2, solver="sgd", learning_rate="invscaling", power_t=1e300, max_iter=3, tol=0, n_iter_no_change=5
    )
    with pytest.warns(UserWarning, match="did not converge"):
        model.fit(X, Y)
    assert model.history_["learning_rate"].tolist() == [0.001, 0.0, 0.0]
