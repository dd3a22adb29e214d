"""The network: a chain of layers with its arrays, the tables of activations and losses, and the model of a file."""

from fastnn.network.activations import ACTIVATIONS
from fastnn.network.input_range import check_scale
from fastnn.network.layers import LAYERS, BatchNorm, Dense, Layer
from fastnn.network.losses import LOSSES
from fastnn.network.network import Network

__all__ = ["ACTIVATIONS", "LAYERS", "LOSSES", "BatchNorm", "Dense", "Layer", "Network", "check_scale"]
