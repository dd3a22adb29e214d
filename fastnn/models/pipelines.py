"""Folds the scalers of a scikit-learn pipeline into the standardization of its network, so that raw rows go in.

scikit-learn is not imported here: a scaler is known by the name of its class and by its fitted attributes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.errors import DataError
from fastnn.network import Network, Standardization

if TYPE_CHECKING:
    from fastnn.models.model import Model


def _of_standard_scaler(scaler: Any, n: int) -> Standardization:
    mean = scaler.mean_ if scaler.with_mean else np.zeros(n)
    return Standardization(mean, np.ones(n) if scaler.scale_ is None else 1 / scaler.scale_)


def _of_robust_scaler(scaler: Any, n: int) -> Standardization:
    center = np.zeros(n) if scaler.center_ is None else scaler.center_
    return Standardization(center, np.ones(n) if scaler.scale_ is None else 1 / scaler.scale_)


SCALERS: dict[str, Callable[[Any, int], Standardization]] = {
    "StandardScaler": _of_standard_scaler,
    "MinMaxScaler": lambda scaler, n: Standardization(-scaler.min_ / scaler.scale_, scaler.scale_),
    "MaxAbsScaler": lambda scaler, n: Standardization(np.zeros(n), 1 / scaler.scale_),
    "RobustScaler": _of_robust_scaler,
}
"""The scalers that a network can apply itself: functions of the fitted scaler and the number of its inputs."""


def is_pipeline(value: Any) -> bool:
    """Return whether `value` is a pipeline: an object with `steps`, a list of (name, step)."""
    return isinstance(getattr(value, "steps", None), list) and hasattr(value, "named_steps")


def pipeline_model(pipeline: Any) -> "Model":
    """Return the model of a fitted pipeline of scalers and one of fastnn's estimators. It takes the pipeline's inputs.

    Raises DataError if a step is neither, or is not fitted.
    """
    *before, (last_name, last) = pipeline.steps
    if not callable(getattr(last, "to_model", None)):
        expected = "an MLPClassifier, MLPRegressor or CNNClassifier"
        raise DataError(f"the last step {last_name} is {type(last).__name__}, expected {expected}")
    scalings = [_scaling(name, step) for name, step in before if step is not None and not isinstance(step, str)]
    if not scalings:
        model: Model = last.to_model()
        return model
    scaled = last.to_model(scaling=_composed(scalings))
    return _with_names(scaled, before)


def after_scaling(network: Network, scaling: Standardization) -> Network:
    """Return the network for inputs to which `scaling` was not applied: it applies it, before its own scale."""
    own = network.input_transform
    if not isinstance(own, Standardization):
        own = Standardization(np.zeros(network.n_inputs), np.full(network.n_inputs, own))
    whole = _composed([scaling, own])
    return Network(
        network.weights, network.biases, input_scale=whole, output=network.output, layers=network.layers,
        input_shape=network.shapes[0], statistics=network.statistics,
    )  # fmt: skip


def _scaling(name: str, step: Any) -> Standardization:
    kind = type(step).__name__
    if kind not in SCALERS or not type(step).__module__.startswith("sklearn."):
        expected = f"one of {', '.join(SCALERS)}: no other step can become a part of the network"
        raise DataError(f"the step {name} is {kind}, expected {expected}")
    n_inputs = getattr(step, "n_features_in_", None)
    if n_inputs is None:
        raise DataError(f"the step {name} is not fitted, expected a fitted {kind}")
    if getattr(step, "clip", False):
        raise DataError(
            f"the step {name} is a {kind} with clip=True, expected clip=False: a network cannot clip inputs"
        )
    return SCALERS[kind](step, n_inputs)


def _composed(scalings: Sequence[Standardization]) -> Standardization:
    """Return the one standardization that does the work of several, one after the other."""
    first, *others = scalings
    mean, scale = first.mean, first.scale
    for each in others:
        mean, scale = mean + each.mean / scale, scale * each.scale
    return Standardization(mean, scale)


def _with_names(model: "Model", before: Sequence[tuple[str, Any]]) -> "Model":
    """Return the model with the feature names of the pipeline's first step that has some."""
    for _, step in before:
        names = getattr(step, "feature_names_in_", None)
        if names is not None:
            return replace(model, feature_names=tuple(map(str, names)))
    return model
