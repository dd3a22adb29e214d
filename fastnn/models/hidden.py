"""The outputs of a hidden layer: the features that a network has learned."""

from itertools import islice
from typing import Any

import numpy as np

from fastnn.backends import Backend, layerwise, reference
from fastnn.backends.arguments import check_inputs
from fastnn.backends.choice import CHOOSER
from fastnn.checks import check_integer
from fastnn.datasets.sparse import is_sparse
from fastnn.network import Network
from fastnn.network.parts import Front, first_layers

LAST = -1  # the last hidden layer; without hidden layers, the scaled inputs


def hidden_outputs(
    network: Network, inputs: Any, layer: int = LAST, *, backend: str = "auto", threads: int | None = None
) -> np.ndarray:
    """Return the outputs of hidden layer `layer` for checked inputs, (N, H), in the network's dtype.

    Raises SettingsError if there is no such layer, see `hidden_size`.
    """
    n_layers = _n_layers(network, layer)
    if n_layers == 0:
        rows = check_inputs(network, inputs)
        dense = rows.toarray() if is_sparse(rows) else rows
        return dense.astype(network.dtype) * network.dtype.type(network.input_scale)
    if all(arrays.weight is None for _, arrays in islice(network.chain(), n_layers)):  # pools are no network alone
        rows = check_inputs(network, inputs)
        return layerwise.forward(reference, network, rows)[n_layers - 1].out.reshape(len(rows), -1)
    front = first_layers(network, n_layers)
    return features_of(front, inputs, CHOOSER.predictor(backend, front.network, inputs), threads)


def features_of(front: Front, inputs: Any, engine: Backend, threads: int | None = None) -> np.ndarray:
    """Return the features that a front makes of checked inputs, (N, H), in the network's dtype."""
    return reference.activate(engine.predict_logits(front.network, inputs, threads), front.activation)


def hidden_size(network: Network, layer: int = LAST) -> int:
    """Return the number of outputs of hidden layer `layer`: 0 is the first one, -1 the last one.

    Raises SettingsError if there is no such layer. Without hidden layers, -1 stands for the inputs.
    """
    return network.sizes[_n_layers(network, layer)]


def _n_layers(network: Network, layer: int) -> int:
    """Return the number of layers up to hidden layer `layer`."""
    n_hidden = len(network.layers) - 1
    if n_hidden == 0:
        check_integer(f"layer of {network}, which has no hidden layers,", layer, LAST, LAST)
        return 0
    return check_integer(f"layer of {network}", layer, -n_hidden, n_hidden - 1) % n_hidden + 1
