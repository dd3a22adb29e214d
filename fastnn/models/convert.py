"""Turns what is near to a model, a network or a data set into one. Every public function that takes one uses these."""

from typing import Any

from fastnn.datasets.dataset import Dataset
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
    raise SettingsError(f"found {_describe(value)}, {_MODEL_EXPECTED}")


def as_network(value: Any) -> Network:
    """Return the network of `as_model`."""
    return value if isinstance(value, Network) else as_model(value).network


def as_dataset(value: Any, name: str = "data") -> Dataset:
    """Return a data set: `value` itself, or that of a pair of images and labels; SettingsError for anything else."""
    if isinstance(value, Dataset):
        return value
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(hasattr(part, "__len__") for part in value):
        first, second = value
        if isinstance(first, Dataset):
            raise SettingsError(f"{name} is a pair of data sets, expected one Dataset or a pair (images, labels)")
        return Dataset(first, second, name=name)
    raise SettingsError(f"{name} is {_describe(value)}, expected a Dataset or a pair (images, labels)")


def _describe(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        return f"the path {str(value)!r} (load it first)"
    if isinstance(value, (tuple, list)):
        return f"a {kind} of {len(value)}"
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"
