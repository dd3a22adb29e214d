"""Turns what is near to a model or a network into one. Every public function that takes one uses these."""

from typing import Any

from fastnn.datasets.convert import describe
from fastnn.errors import SettingsError
from fastnn.models.model import Model
from fastnn.models.pipelines import is_pipeline, pipeline_model
from fastnn.network import Network

_MODEL_EXPECTED = "expected a Model, a Network, the result of train, a fitted estimator or pipeline"


def as_model(value: Any) -> Model:
    """Return a model: `value` itself, or that of a network, of a result of `train` or of a fitted estimator.

    Of a fitted pipeline, the scalers become a part of the network. Raises SettingsError for anything else, and
    DataError for a pipeline with other steps.
    """
    if isinstance(value, Model):
        return value
    if isinstance(value, Network):
        return Model.for_network(value)
    if callable(getattr(value, "to_model", None)) and not isinstance(value, type):
        model: Model = value.to_model()
        return model
    if is_pipeline(value):
        return pipeline_model(value)
    network = getattr(value, "network", None)
    if isinstance(network, Network):
        return Model.for_network(network)
    raise SettingsError(f"found {describe(value)}, {_MODEL_EXPECTED}")


def as_network(value: Any) -> Network:
    """Return the network of `as_model`."""
    return value if isinstance(value, Network) else as_model(value).network
