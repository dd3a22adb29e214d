"""A network in two parts: the front makes features of the inputs, and the tail is a network on rows of features."""

import math
from typing import NamedTuple

from fastnn.checks import check_integer
from fastnn.errors import SettingsError
from fastnn.network.layers import Dense
from fastnn.network.network import Network


class Front(NamedTuple):
    """The first layers of a network.

    The features are ``activation(logits)`` of the network: a network has no activation after its last layer.
    """

    network: Network  # without the activation of its last layer; output "identity"
    activation: str  # that of its last layer


def split(network: Network, n_layers: int) -> tuple[Front, Network]:
    """Return the first `n_layers` layers of a network, and the other ones, which take the features as their inputs.

    Both share the arrays of the network. The tail neither scales nor standardises its inputs. If it begins with a
    dense layer, its inputs have one dimension, also where the front ends in feature maps.

    Parameters
    ----------
    network : Network
    n_layers : int
        From 1 to the number of layers - 1.

    Returns
    -------
    front : Front
    tail : Network

    Raises
    ------
    SettingsError
        If `n_layers` is out of range.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.network.parts import split
    >>> layers = [fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Dense(84), fastnn.Dense(10)]
    >>> front, tail = split(fastnn.Network.initialize((1, 28, 28), layers), 2)
    >>> tail
    Network(864 -> 84 relu -> 10 softmax, float32, 73,510 parameters)
    """
    check_integer(f"n_layers of {network}", n_layers, 1, len(network.layers) - 1)
    return first_layers(network, n_layers), _last_layers(network, n_layers)


def first_layers(network: Network, n_layers: int) -> Front:
    """Return the front of `split`; `n_layers` may be that of the whole network."""
    *layers, last = network.layers[:n_layers]
    part = network.part(0, n_layers, [*layers, last.with_activation("identity")])
    part.output = "identity"
    return Front(part, str(last.activation))


def _last_layers(network: Network, n_layers: int) -> Network:
    part = network.part(n_layers, len(network.layers), network.layers[n_layers:])
    part.input_scale, part.standardization = 1.0, None
    if type(part.layers[0]) is Dense:
        part.shapes = ((math.prod(part.shapes[0]),), *part.shapes[1:])
    return part


def join(front: Front, tail: Network) -> Network:
    """Return the network of which `split` makes these two. Its arrays are copies.

    Raises
    ------
    SettingsError
        If the features do not fit the tail.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.network.parts import join, split
    >>> network = fastnn.Network.initialize((784, 128, 64, 10), input_scale=1 / 255)
    >>> join(*split(network, 2))
    Network(784 -> 128 relu -> 64 relu -> 10 softmax, float32, 109,386 parameters)
    """
    first = front.network
    *layers, last = first.layers
    return Network(
        [*first.weights, *tail.weights], [*first.biases, *tail.biases], input_scale=first.input_transform,
        output=tail.output, layers=[*layers, last.with_activation(front.activation), *tail.layers],
        input_shape=first.shapes[0], statistics=[*first.statistics, *tail.statistics],
    )  # fmt: skip


def split_frozen(network: Network, n_frozen: int) -> tuple[Front, Network]:
    """Return the layers before the layer of ``network.weights[n_frozen]``, and the other ones, as `split` does.

    SettingsError if there is no such layer. `n_frozen` is 1 or more.
    """
    n_weights = len(network.weights)
    if n_frozen >= n_weights:
        raise SettingsError(
            f"frozen is {n_frozen}, expected at most {n_weights - 1} of the {n_weights} layers with weights of "
            f"{network}: the last one trains"
        )
    places = [place for place, (_, arrays) in enumerate(network.chain()) if arrays.weight is not None]
    return split(network, places[n_frozen])
