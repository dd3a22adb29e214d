"""The network, and the model that a file contains: a network with the names of its classes and inputs."""

from fastnn.network.network import ACTIVATIONS, OUTPUTS, Network

__all__ = ["ACTIVATIONS", "OUTPUTS", "Network"]
