"""The values that the estimators' parameters may have.

scikit-learn wants a constructor to store its arguments unchanged, so `fit` and `partial_fit` check them.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from fastnn.backends import BACKENDS
from fastnn.checks import is_count, is_finite, is_number, is_ordered, short
from fastnn.errors import SettingsError
from fastnn.estimators.fit_watch import LEARNING_RATES
from fastnn.memory import parse_bytes
from fastnn.network import ACTIVATIONS
from fastnn.network.initializers import INITIALIZER_NAMES
from fastnn.optim.augmentation import Augment
from fastnn.optim.averaging import EMA, SWA

SOLVERS = ("lbfgs", "sgd", "adam")
DTYPES = ("float32", "float64", float, np.float32, np.float64)


@dataclass(frozen=True)
class Rule:
    """The values that a parameter may have; ``a | b`` allows the values of both rules."""

    expected: str  # in words, for the error message
    accepts: Callable[[Any], bool]

    def __or__(self, other: "Rule") -> "Rule":
        return Rule(f"{self.expected}, or {other.expected}", lambda value: self.accepts(value) or other.accepts(value))


def one_of(*choices: str) -> Rule:
    """Return the rule that a parameter is one of the strings `choices`."""
    expected = ("one of " if len(choices) > 1 else "") + ", ".join(map(repr, choices))
    return Rule(expected, lambda value: isinstance(value, str) and value in choices)


def instance(expected: str, *types: type) -> Rule:
    """Return the rule that a parameter is an instance of one of `types`."""
    return Rule(expected, lambda value: isinstance(value, types))


def items(value: Any) -> list[Any]:
    """Return the items of a parameter with one item for each hidden layer, which may be a single item."""
    return list(value) if isinstance(value, Collection) and is_ordered(value) else [value]


COUNT = Rule("a whole number, 1 or more", is_count)
NOT_NEGATIVE = Rule("a finite number, 0 or more", lambda value: is_finite(value) and value >= 0)
POSITIVE = Rule("a finite number above 0", lambda value: is_finite(value) and value > 0)
FRACTION = Rule("a number, at least 0 and less than 1", lambda value: is_number(value) and 0 <= value < 1)
BOOLEAN = instance("True or False", bool, np.bool_)
NONE = Rule("None", lambda value: value is None)


def _is_size(value: Any) -> bool:
    try:
        return parse_bytes("memory", value) > 0
    except SettingsError:
        return False


RULES = {
    "hidden_layer_sizes": Rule(
        f"{COUNT.expected}, or a sequence of such numbers", lambda value: all(map(COUNT.accepts, items(value)))
    ),
    "activation": Rule(
        f"one of {', '.join(map(repr, ACTIVATIONS))}, or a sequence of them, one for each hidden layer",
        lambda value: (
            bool(items(value)) and all(isinstance(name, str) and name in ACTIVATIONS for name in items(value))
        ),
    ),
    "solver": one_of(*SOLVERS),
    "alpha": NOT_NEGATIVE,
    "batch_size": COUNT | one_of("auto"),
    "learning_rate": one_of(*LEARNING_RATES),
    "learning_rate_init": POSITIVE,
    "power_t": NOT_NEGATIVE,
    "max_iter": COUNT,
    "shuffle": BOOLEAN,
    "random_state": Rule("a whole number from 0 to 2**32 - 1", lambda value: is_count(value, 0, 2**32 - 1))
    | instance("a RandomState", np.random.RandomState)
    | NONE,
    "tol": NOT_NEGATIVE,
    "verbose": BOOLEAN | Rule("a whole number, 0 or more", lambda value: is_count(value, 0)),
    "warm_start": BOOLEAN,
    "momentum": FRACTION,
    "nesterovs_momentum": BOOLEAN,
    "early_stopping": BOOLEAN,
    "validation_fraction": FRACTION,
    "beta_1": FRACTION,
    "beta_2": FRACTION,
    "epsilon": POSITIVE,
    "n_iter_no_change": COUNT | Rule("infinity", lambda value: is_number(value) and value == math.inf),
    "max_fun": COUNT,
    "backend": one_of(*BACKENDS),
    "n_threads": COUNT | NONE,
    "dropout": FRACTION
    | Rule(
        "a sequence of such numbers, that of the inputs first",
        lambda value: is_ordered(value) and bool(items(value)) and all(map(FRACTION.accepts, items(value))),
    ),
    "initializer": one_of(*INITIALIZER_NAMES) | NONE,
    "transform_layer": Rule("a whole number", lambda value: is_count(value, -(2**63))),
    "augment": instance("a text such as 'shift=2,rotate=10', an Augment", str, Augment) | NONE,
    "clip_norm": POSITIVE | NONE,
    "clip_value": POSITIVE | NONE,
    "max_norm": POSITIVE | NONE,
    "average": instance("a text such as 'ema:0.999' or 'swa:0.25', an EMA or SWA", str, EMA, SWA) | NONE,
    "input_scale": POSITIVE,
    "dtype": Rule("float32 or float64", lambda value: isinstance(value, (str, type, np.dtype)) and value in DTYPES),
    "schedule": Rule("a string, a function of (epoch, epochs)", lambda value: isinstance(value, str) or callable(value))
    | NONE,
    "standardize": BOOLEAN,
    "image_shape": Rule(
        "two sizes, (height, width)", lambda value: len(items(value)) == 2 and all(map(COUNT.accepts, items(value)))
    )
    | NONE,
    "buffer_blocks": COUNT,
    "memory": Rule("a number of bytes, or a text such as '512MB'", _is_size),
    # Only of the classifiers:
    "class_weight": instance("a dict", dict) | one_of("balanced") | NONE,
    "threshold": Rule("a number above 0, at most 1", lambda value: is_number(value) and 0 < value <= 1) | NONE,
    "unknown_label": instance("a string, a number", str, Real) | NONE,
    # Only of MLPRegressor:
    "loss": one_of("squared_error", "poisson"),
}


@lru_cache(maxsize=64)
def parameter_defaults(kind: Any) -> dict[str, Any]:
    """Return the parameters of a class of estimators, with their defaults: reading a signature takes long."""
    parameters = signature(kind.__init__).parameters
    return {name: parameters[name].default for name in kind._get_param_names()}


def check_parameters(estimator: BaseEstimator) -> None:
    """Raise SettingsError if a parameter of `estimator` breaks its rule. The error names the parameter."""
    kind: Any = type(estimator)
    rules: dict[str, Rule] = kind._rules
    for name, default in parameter_defaults(kind).items():
        value = getattr(estimator, name)
        if value is not default and name in rules and not rules[name].accepts(value):
            raise SettingsError(f"{name} is {short(value)}, expected {rules[name].expected}")
