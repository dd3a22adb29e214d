"""The layers of a network: small frozen descriptions without arrays. One class per kind of layer.

A layer states the shapes of its output, parameters and statistics for a given input shape, and says which operations
of a backend compute it. Rows of data stay flat, so a shape such as (channels, height, width) costs nothing.
"""

from fastnn.network.layers.base import Arrays, Forward, Gradients, Layer, Shape, n_units
from fastnn.network.layers.batch_norm import BatchNorm
from fastnn.network.layers.convolution import Conv2D
from fastnn.network.layers.dense import Dense
from fastnn.network.layers.notation import format_layers, parse_layers
from fastnn.network.layers.pooling import AvgPool2D, MaxPool2D
from fastnn.network.layers.table import LAYERS, array_shapes, from_json, to_json

__all__ = [
    "LAYERS",
    "Arrays",
    "AvgPool2D",
    "BatchNorm",
    "Conv2D",
    "Dense",
    "Forward",
    "Gradients",
    "Layer",
    "MaxPool2D",
    "Shape",
    "array_shapes",
    "format_layers",
    "from_json",
    "n_units",
    "parse_layers",
    "to_json",
]
