"""The file of a run's snapshots: the weights of its first layer after some epochs, and the metrics of these epochs.

It is a safetensors file (see `tensor_file`) with three tensors: "epochs", (K,) int64, in ascending order; "weights",
(K, n, h, w) float32, n pictures for each epoch; and "metrics", (K, 4) float64, the loss, the accuracy, the validation
loss and the validation accuracy of each epoch, NaN where there is none.
"""

import os
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastnn.checks import short
from fastnn.errors import DataError
from fastnn.files.tensor_file import (
    Header,
    TensorType,
    check_metadata,
    load_file,
    read_arrays,
    read_header,
    serialized,
)
from fastnn.network import Network
from fastnn.network.weight_pictures import weight_pictures

SNAPSHOTS = "snapshots.safetensors"
METRICS = ("loss", "accuracy", "validation_loss", "validation_accuracy")
# The largest number of pictures of an epoch, and of numbers in one; and of epochs in a file.
UNITS, MOST_NUMBERS, MOST_EPOCHS = 24, 4096, 1000
# What the pictures are: the weights into units as images, filters of a convolution, or one matrix (units, inputs).
KINDS = ("units", "filters", "matrix")
_KEYS = {"1": frozenset({"format", "format_version", "kind", "sha256"})}


class Snapshots(NamedTuple):
    """The content of the file.

    kind: one of `KINDS`
    epochs: (K,) int64
    weights: (K, n, h, w) float32
    metrics: (K, 4) float64, in the order of `METRICS`
    """

    kind: str
    epochs: np.ndarray
    weights: np.ndarray
    metrics: np.ndarray


def pictures(network: Network, image_shape: tuple[int, int] | None) -> tuple[str, np.ndarray]:
    """Return the kind of pictures of the first layer's weights, and the pictures: (n, h, w) float32, a copy."""
    weight = network.weights[0]
    if weight.ndim == 1:  # a scale of batch normalisation
        weight = weight[:, None]
    kind, images = weight_pictures(weight, image_shape if len(weight) <= MOST_NUMBERS else None)
    if kind == "matrix":
        return kind, images[None, :UNITS, : MOST_NUMBERS // UNITS].astype(np.float32)
    return kind, images.reshape(-1, *images.shape[-2:])[:UNITS].astype(np.float32)


def to_bytes(snapshots: Snapshots) -> bytes:
    """Return the content of the file; equal snapshots give equal bytes."""
    metadata = {"format": "fastnn-snapshots", "format_version": "1", "kind": snapshots.kind}
    arrays = {"epochs": snapshots.epochs, "weights": snapshots.weights, "metrics": snapshots.metrics}
    return serialized(metadata, arrays)


def load_snapshots(path: str | os.PathLike[str]) -> Snapshots:
    """Read the file. Raises FileError if it cannot be opened, and DataError if it is damaged."""
    return load_file(path, "snapshots", _read)


def _read(file: BinaryIO, size: int) -> Snapshots:
    header = read_header(file, size, "snapshots")
    metadata = check_metadata(header.metadata, "snapshots", _KEYS)
    if metadata["kind"] not in KINDS:
        raise DataError(f"its kind is {short(metadata['kind'])}, expected one of {', '.join(KINDS)}")
    n_epochs, n, height, width = _shape(header)
    types = {
        "epochs": TensorType("I64", (n_epochs,)),
        "weights": TensorType("F32", (n_epochs, n, height, width)),
        "metrics": TensorType("F64", (n_epochs, len(METRICS))),
    }
    arrays = read_arrays(file, size, header, types, "snapshots")
    epochs, weights = arrays["epochs"], arrays["weights"]
    if not (epochs[0] >= 0 and (epochs[1:] > epochs[:-1]).all()):
        raise DataError(f"its epochs are {short(epochs.tolist())}, expected ascending numbers")
    if not np.isfinite(weights).all():
        raise DataError("its weights are not finite")
    return Snapshots(metadata["kind"], epochs, weights, arrays["metrics"])


def _shape(header: Header) -> tuple[int, int, int, int]:
    entry: Any = header.tensors.get("weights")
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if isinstance(shape, list) and len(shape) == 4 and all(type(each) is int and each > 0 for each in shape):
        n_epochs, n, height, width = shape
        if n_epochs <= MOST_EPOCHS and n <= UNITS and height * width <= MOST_NUMBERS:
            return n_epochs, n, height, width
    raise DataError(f"the shape of its weights is {short(shape)}, expected (epochs, pictures, height, width)")
