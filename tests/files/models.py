"""Models of random numbers, of all kinds, and an independent forward pass, for tests of exports."""

import math
from functools import partial

import numpy as np
import pytest

from fastnn import DataError, Model, Network
from fastnn.network import AvgPool2D, BatchNorm, Conv2D, Dense, MaxPool2D

# For each kind of model: the output, the number of outputs, and the classes.
ANSWERS = {
    "softmax": ("softmax", 4, ("a", "b", "c", "ç 🙂")),
    "numbered": ("softmax", 3, (7, -3, 2**62)),
    "binary": ("logistic", 1, ("no", "yes")),
    "one class": ("logistic", 1, (5,)),
    "multilabel": ("logistic", 3, ("a", "b", "c")),
    "identity": ("identity", 2, None),
    "exp": ("exp", 2, None),
}


def made(kind="softmax", activation="tanh", dtype="float32", scale=0.25, layers=None, shape=(5,), last=None, **names):
    """Return a model of random numbers: 5 inputs and two hidden layers, or the shape and the hidden layers given."""
    output, n_outputs, classes = ANSWERS[kind]
    layers = [Dense(6, activation), Dense(4, activation)] if layers is None else layers
    layers = [*layers, last or Dense(n_outputs)]
    network = Network.initialize(shape, layers, dtype=dtype, input_scale=scale, output=output)
    rng = np.random.default_rng(5)
    weights = [rng.normal(0, 2, weight.shape).astype(dtype) for weight in network.weights]
    biases = [rng.normal(0, 0.3, bias.shape).astype(dtype) for bias in network.biases]
    statistics = [rng.uniform(0.5, 2, each.shape) for each in network.statistics]
    return Model(network.like(weights, biases, statistics), classes, **names)


def in_float64(network, rows):
    """An independent forward pass of the network in float64."""
    logistic = lambda sums: 1 / (1 + np.exp(-sums))  # noqa: E731
    functions = {
        "relu": lambda sums: sums * (sums > 0),
        "leaky_relu": lambda sums: np.maximum(sums, sums / 100),
        "elu": lambda sums: np.where(sums > 0, sums, np.exp(np.minimum(sums, 0)) - 1),
        "gelu": lambda sums: sums * (1 + np.vectorize(math.erf)(sums / math.sqrt(2))) / 2,
        "silu": lambda sums: sums * logistic(sums),
        "tanh": np.tanh,
        "logistic": logistic,
        "identity": lambda sums: sums,
        "exp": np.exp,
        "softmax": lambda sums: np.exp(sums) / np.exp(sums).sum(axis=1)[:, None],
    }
    values = (rows.astype(np.float64) * network.input_scale).reshape(-1, *network.shapes[0])
    weights, biases, statistics = map(iter, (network.weights, network.biases, network.statistics))
    for layer, shape in zip(network.layers, network.shapes[1:], strict=True):
        if isinstance(layer, (MaxPool2D, AvgPool2D)):
            fill, reduced = (-np.inf, np.max) if isinstance(layer, MaxPool2D) else (0, np.mean)
            sums = in_windows(values, layer, layer.size, shape, fill, partial(reduced, axis=(2, 3)))
        else:
            weight, bias = next(weights).astype(np.float64), next(biases)
        if isinstance(layer, BatchNorm):
            mean, variance = next(statistics), next(statistics).astype(np.float64)
            values = np.moveaxis(values, 1, -1)
            sums = np.moveaxis(weight * (values - mean) / np.sqrt(variance + layer.epsilon) + bias, -1, 1)
        elif isinstance(layer, Conv2D):
            multiply = lambda window, w=weight, b=bias: np.einsum("bckl,cklo->bo", window, w) + b  # noqa: E731
            sums = in_windows(values, layer, layer.kernel, shape, 0, multiply)
        elif isinstance(layer, Dense):
            sums = values.reshape(len(rows), -1) @ weight + bias
        values = functions[layer.activation](sums)
    return functions[network.output](values.reshape(len(rows), -1))


def in_windows(values, layer, size, shape, fill, function):
    """Return `function` of every window of the images, place by place."""
    pads = ((0, 0), (0, 0), *((each, each) for each in layer.padding))
    padded, out = np.pad(values, pads, constant_values=fill), np.empty((len(values), *shape))
    for row, column in np.ndindex(*shape[1:]):
        top, left = row * layer.stride[0], column * layer.stride[1]
        out[:, :, row, column] = function(padded[:, :, top : top + size[0], left : left + size[1]])
    return out


# Hidden layers with every kind of layer and activation.
MIXED = [
    BatchNorm(epsilon=0.5), Dense(6, "gelu"), BatchNorm("tanh", epsilon=0.01), Dense(7, "elu"), Dense(5, "silu"),
    BatchNorm("leaky_relu"), Dense(4, "logistic"),
]  # fmt: skip


# Shapes of an input row and the hidden layers: height and width differ, and so do both axes of each window.
IMAGES = {
    "valid": ((3, 7, 9), [Conv2D(4, (2, 3)), MaxPool2D((2, 3)), Dense(6)]),
    "strided and padded": ((2, 8, 5), [
        Conv2D(5, (3, 2), stride=(2, 1), padding=(2, 1), activation="tanh"), BatchNorm("relu"),
        MaxPool2D((2, 3), stride=(2, 1), padding=(1, 0)), Conv2D(3, 3, padding="same"),
        AvgPool2D((3, 2), stride=(1, 2), padding=(1, 1), activation="tanh"),
    ]),
    "what does not fit is left out": ((1, 6, 11), [Conv2D(2, 2, stride=3), AvgPool2D((1, 3)), BatchNorm(), Dense(3)]),
    "no parameters first": ((2, 4, 6), [AvgPool2D(2, stride=1), MaxPool2D(3, stride=1, padding=1)]),
    "normalised pixels": ((2, 3, 4), [BatchNorm(), Dense(5), BatchNorm("elu"), Dense(4)]),
}  # fmt: skip


def refusal(export, path, *arguments, kind=DataError, **options):
    """Return the message of an export that fails. It is one line, and the folder stays as it was."""
    before = {each: each.read_bytes() for each in path.parent.iterdir()}
    with pytest.raises(kind) as caught:
        export(path, *arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before
    return str(caught.value)
