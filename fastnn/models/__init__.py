"""Models: a network with the names of its inputs and classes, which predicts from arrays, tables and pictures."""

from fastnn.datasets.convert import as_dataset
from fastnn.models.convert import as_model, as_network
from fastnn.models.copies import Copies
from fastnn.models.ensemble import Ensemble
from fastnn.models.model import Model

__all__ = ["Copies", "Ensemble", "Model", "as_dataset", "as_model", "as_network"]
