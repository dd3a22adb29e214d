"""Saves networks to files and loads them. The format is safetensors with a strict schema, checked in full before use.

A model file is a `tensor_file`, so any safetensors reader can open it. Its tensors are those of `network_part`. The
header's ``__metadata__`` contains exactly these strings:

- ``format``: "fastnn-model"
- ``format_version``: "5"
- ``fastnn``, ``numpy``: the versions that wrote the file
- ``layers``, ``input_shape``, ``output``, ``input_scale``: the network, as `network_part` describes it
- ``classes``: JSON, an array of integers, of numbers with a point, of booleans or of strings, or null
- ``image_shape``: JSON, [height, width] or null
- ``feature_names``: JSON, an array of strings, or null
- ``unknown``: JSON, [threshold, label] or null; see `Model`
- ``pixels``: JSON, [background, ink] or null; see `Model`
- ``sha256``: the digest of the file, see `tensor_file`

Files of earlier format versions can be loaded, too. Versions below "5" have no layers for images, only dense ones and
batch normalisation. Version "3" lacks ``pixels`` and the standardization. In versions
"1" and "2", all layers are dense, so the weights state the sizes, and ``activation``, that of the hidden layers, takes
the place of ``layers`` and ``input_shape``. Version "1" also lacks ``output`` (it is "softmax"), ``feature_names`` and
``unknown``.

Equal networks give equal bytes, without a time stamp.
"""

import functools
import io
import json
import math
import os
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from fastnn.checks import check_choice, display_path, short
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError, SettingsError
from fastnn.files.atomic import write_atomically
from fastnn.files.network_part import (
    STANDARDIZATION,
    arrays_of,
    code_of,
    make_skeleton,
    metadata_of,
    parse_skeleton,
)
from fastnn.files.tensor_file import (
    check_metadata,
    check_tensors,
    load_file,
    parse_json,
    read_arrays,
    read_header,
    serialized,
)
from fastnn.models import Model, as_model
from fastnn.models.model import are_sizes, checked_names
from fastnn.network import ACTIVATIONS, Dense, Layer
from fastnn.network.layers import Shape

_VERSION = "5"
_NAMES = ("classes", "image_shape", "feature_names", "unknown", "pixels")
_EARLIER = ("1", "2", "3")
_EARLIER_NAMES = set(_NAMES) - {"pixels"}
_COMMON = {"format", "format_version", "input_scale", "classes", "image_shape", "fastnn", "numpy", "sha256"}
_METADATA = {  # the keys of each format version
    "1": _COMMON | {"activation"},
    "2": _COMMON | {"activation", "output", *_EARLIER_NAMES},
    "3": _COMMON | {"layers", "input_shape", "output", *_EARLIER_NAMES},
    "4": _COMMON | {"layers", "input_shape", "output", *_NAMES},
    "5": _COMMON | {"layers", "input_shape", "output", *_NAMES},
}


def save(
    path: str | os.PathLike[str],
    network: Any,
    *,
    classes: Sequence[int] | Sequence[str] | Sequence[float] | np.ndarray | None = None,
    image_shape: Sequence[int] | None = None,
    feature_names: Sequence[str] | np.ndarray | None = None,
    unknown: tuple[float, int | str | float] | None = None,
    data: Dataset | None = None,
) -> None:
    """Save a network, and the names of its inputs and outputs, to a file.

    The file is written atomically: a failure leaves the old file or the new one, never half a file. Equal arguments and
    equal versions of fastnn and NumPy give equal bytes.

    Parameters
    ----------
    path : str or path
        The file to write. The usual suffix is ``.safetensors``.
    network : Network, Model, result of `train`, or fitted estimator
        D inputs and C outputs. Its arrays may have any memory order. A model's own names are the defaults of those
        below.
    classes : sequence of C int, C str, C float or C bool, or None
        The name of each output, all different. None means 0 to C - 1. A single logistic output has two names and
        gives the probability of the second (None means 0 and 1), or it has only one name. Must be None for outputs
        that are numbers ("identity" and "exp").
    image_shape : (int, int), or None
        Height and width of the image in an input row. Their product must be D.
    feature_names : sequence of D str, or None
        The name of each input, all different.
    unknown : (float, int or str or float), or None
        A threshold in (0, 1] and a label. The model predicts this label if the largest probability is below the
        threshold. The label has the type of the classes, not bool, but is not one of them. Must be None for outputs
        that are numbers and for several logistic outputs.
    data : Dataset, or None
        The training data. They give the names that are not given otherwise, and tell the model the range and the ink
        of its images, which `Model.predict` needs for pictures.

    Raises
    ------
    DataError
        If a name or the threshold does not match the network, or a weight is not finite.
    FileError
        If the file cannot be written. An old file then stays unchanged.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> network = fastnn.Network.initialize((4, 3, 2), seed=0)
    >>> with TemporaryDirectory() as folder:
    ...     fastnn.save(f"{folder}/model.safetensors", network, classes=["ham", "spam"])
    ...     model = fastnn.load(f"{folder}/model.safetensors")
    >>> model.classes, model.network.sizes
    (('ham', 'spam'), (4, 3, 2))
    """
    try:
        model = as_model(network)
        model = model if data is None else Model.for_data(model.network, data)
        given: dict[str, Any] = {
            "classes": classes,
            "image_shape": image_shape,
            "feature_names": feature_names,
            "unknown": unknown,
        }
        model = replace(model, **{name: value for name, value in given.items() if value is not None})
        content = _serialized(model)
        _read(io.BytesIO(content), len(content))  # a file that load would reject must not replace a good one
    except (DataError, SettingsError) as error:
        raise DataError(f"{display_path(path)}: cannot save: {error}") from None
    write_atomically(path, content)


def load(path: str | os.PathLike[str]) -> Model:
    """Load a model from a file that `save` wrote. Files from untrusted sources are safe to load.

    The header is checked in full before memory is allocated for weights. Nothing in the file is executed or imported.

    Parameters
    ----------
    path : str or path
        The file, or the folder of a run, which has one.

    Returns
    -------
    Model
        Its network has the saved layers, and arrays with the saved dtype (float32 or float64) and identical bits.

    Raises
    ------
    DataError
        If the file is not a model file, is damaged, truncated or changed, or was written by a newer fastnn. One line
        names the file, what was found and what was expected.
    FileError
        If the file does not exist or cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> with TemporaryDirectory() as folder:
    ...     fastnn.save(f"{folder}/model.safetensors", fastnn.Network.initialize((4, 3, 2), seed=0))
    ...     model = fastnn.load(f"{folder}/model.safetensors")
    >>> model.classes, model.metadata["format_version"]
    ((0, 1), '5')
    """
    if isinstance(path, str | os.PathLike) and os.path.isdir(path):
        inside = os.path.join(path, "model.safetensors")
        path = inside if os.path.exists(inside) else path
    return load_file(path, "model", _read)


def checked(model: Model) -> dict[str, Any]:
    """Return the names and the threshold of a model as a file stores them; raise DataError if they do not match."""
    names = {name: _as_json_types(getattr(model, name)) for name in _NAMES}
    network = model.network
    return checked_names(network.output, network.n_inputs, network.n_outputs, **names)


def _serialized(model: Model) -> bytes:
    metadata = {
        "format": "fastnn-model",
        "format_version": _VERSION,
        **metadata_of(model.network),
        **{name: json.dumps(value) for name, value in checked(model).items()},
        **versions(),
    }
    return serialized(metadata, arrays_of(model.network))


def _as_json_types(values: Any) -> Any:
    """Convert `values` to the JSON types that a file stores: NumPy's integers and strings become Python's."""
    if isinstance(values, (str, Set)) or not isinstance(values, Iterable):
        return values  # a later check rejects it; a set is rejected because it has no order
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def versions() -> dict[str, str]:
    return {"fastnn": _own_version(), "numpy": np.__version__}


@functools.cache  # reading the metadata of a package takes milliseconds
def _own_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fastnn-digits")
    except PackageNotFoundError:  # a checkout that is on the path but not installed
        return "unknown"


def _read(file: BinaryIO, size: int) -> Model:
    header = read_header(file, size, "model")
    metadata = check_metadata(header.metadata, "model", _METADATA)
    if "layers" in metadata:
        skeleton = parse_skeleton(metadata)
    else:
        layers, input_shape = _dense_layers(header.tensors, metadata["activation"])
        skeleton = make_skeleton(layers, input_shape, metadata)
    is_standardised = metadata["format_version"] not in _EARLIER and STANDARDIZATION[0] in header.tensors
    types = skeleton.types(code_of(header.tensors), is_standardised)
    check_tensors(header, types)
    names = {name: parse_json(metadata[name], name) for name in _NAMES if name in metadata}
    sizes = math.prod(skeleton.input_shape), math.prod(skeleton.shapes[-1])
    names = checked_names(skeleton.output, *sizes, **names)
    network = skeleton.network(read_arrays(file, size, header, types, "weights"))
    return Model(network, metadata={key: metadata[key] for key in ("format_version", "fastnn", "numpy")}, **names)


def _dense_layers(tensors: dict[str, Any], activation: str) -> tuple[Sequence[Layer], Shape]:
    """Return the layers and the shape of an input row of a file of version 1 or 2."""
    check_choice("activation", activation, list(ACTIVATIONS))
    weights: list[Any] = []
    for number in range(max(1, sum(name.startswith("weight.") for name in tensors))):
        tensor = tensors.get(f"weight.{number}")
        shape: Any = tensor.get("shape") if isinstance(tensor, dict) else None
        if not are_sizes(shape, 2):
            raise DataError(f"weight.{number} is {short(tensor)}, expected a tensor of shape [inputs, units]")
        weights.append(shape)
    names = [activation] * (len(weights) - 1) + ["identity"]
    return [Dense(units, name) for (_, units), name in zip(weights, names, strict=True)], tuple(weights[0][:1])
