"""The network: a chain of layers with its arrays, its standardization, and the tables its names are looked up in."""

from fastnn.network.activations import ACTIVATIONS
from fastnn.network.initializers import INITIALIZERS
from fastnn.network.input_range import check_scale
from fastnn.network.layers import LAYERS, AvgPool2D, BatchNorm, Conv2D, Dense, Layer, MaxPool2D
from fastnn.network.losses import LOSSES
from fastnn.network.network import Network
from fastnn.network.standardization import Standardization
from fastnn.network.targets import TargetScale

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "LAYERS",
    "LOSSES",
    "AvgPool2D",
    "BatchNorm",
    "Conv2D",
    "Dense",
    "Layer",
    "MaxPool2D",
    "Network",
    "Standardization",
    "TargetScale",
    "check_scale",
]
