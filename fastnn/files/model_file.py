"""Saves models to files and loads them. The format is safetensors with a strict schema, checked in full before use.

A model file is a `tensor_file`, so any safetensors reader can open it. Its tensors are those of `network_part`. The
header's ``__metadata__`` contains exactly these strings:

- ``format``: "fastnn-model"
- ``format_version``: "5"; "6" for an ensemble
- ``fastnn``, ``numpy``: the versions that wrote the file
- ``layers``, ``input_shape``, ``output``, ``input_scale``: the network, as `network_part` describes it
- ``classes``: JSON, an array of integers, of numbers with a point, of booleans or of strings, or null
- ``image_shape``: JSON, [height, width] or null
- ``feature_names``: JSON, an array of strings, or null
- ``unknown``: JSON, [threshold, label] or null; see `Model`
- ``pixels``: JSON, [background, ink] or null; see `Model`
- ``sha256``: the digest of the file, see `tensor_file`

A file of an `Ensemble` has ``networks`` in the place of ``layers``, ``input_shape``, ``output`` and ``input_scale``:
JSON, an array of two or more objects with these four strings, one for each network. The tensors of network K, counted
from 0, have the prefix ``network.K.``. A file of version "6" is always an ensemble: a single network is written as
version "5", which earlier versions of fastnn can load.

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
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from fastnn.checks import check_choice, display_path, short
from fastnn.datasets.dataset import Dataset
from fastnn.errors import DataError, SettingsError
from fastnn.files.atomic import write_atomically
from fastnn.files.network_part import (
    KEYS,
    STANDARDIZATION,
    Skeleton,
    arrays_of,
    code_of,
    make_skeleton,
    metadata_of,
    parse_skeleton,
)
from fastnn.files.tensor_file import (
    TensorType,
    check_metadata,
    check_tensors,
    load_file,
    parse_json,
    read_arrays,
    read_header,
    serialized,
)
from fastnn.models import Ensemble, Model, as_model
from fastnn.models.ensemble import FEWEST
from fastnn.models.model import are_sizes, checked_names
from fastnn.network import ACTIVATIONS, Dense, Layer
from fastnn.network.layers import Shape

_VERSION, _ENSEMBLE = "5", "6"
_NAMES = ("classes", "image_shape", "feature_names", "unknown", "pixels")
_EARLIER = ("1", "2", "3")
_EARLIER_NAMES = set(_NAMES) - {"pixels"}
_COMMON = {"format", "format_version", "classes", "image_shape", "fastnn", "numpy", "sha256"}
_METADATA = {  # the keys of each format version
    "1": _COMMON | {"input_scale", "activation"},
    "2": _COMMON | {"input_scale", "activation", "output", *_EARLIER_NAMES},
    "3": _COMMON | {*KEYS, *_EARLIER_NAMES},
    "4": _COMMON | {*KEYS, *_NAMES},
    "5": _COMMON | {*KEYS, *_NAMES},
    "6": _COMMON | {"networks", *_NAMES},
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
    network : Network, Model, `Ensemble`, result of `train`, or fitted estimator
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
        if data is not None:
            names = Model.for_data(model.networks[0], data)
            model = replace(model, **{name: getattr(names, name) for name in _NAMES})
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
        Its network has the saved layers, and arrays with the saved dtype (float32 or float64) and identical bits. A
        file of several networks gives an `Ensemble`.

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
    network = model.networks[0]
    return checked_names(network.output, network.n_inputs, network.n_outputs, **names)


def _serialized(model: Model) -> bytes:
    described = [metadata_of(network) for network in model.networks]
    arrays: dict[str, np.ndarray] = {}
    is_ensemble = isinstance(model, Ensemble)
    for number, network in enumerate(model.networks):
        prefix = _prefix(number) if is_ensemble else ""
        arrays |= {prefix + name: array for name, array in arrays_of(network).items()}
    metadata = {
        "format": "fastnn-model",
        "format_version": _ENSEMBLE if is_ensemble else _VERSION,
        **({"networks": json.dumps(described)} if is_ensemble else described[0]),
        **{name: json.dumps(value) for name, value in checked(model).items()},
        **versions(),
    }
    return serialized(metadata, arrays)


def _prefix(number: int) -> str:
    """Return the beginning of the names of the tensors of a network of an ensemble."""
    return f"network.{number}."


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
    is_ensemble = metadata["format_version"] == _ENSEMBLE
    skeletons = _ensemble_skeletons(metadata["networks"]) if is_ensemble else [_skeleton(header.tensors, metadata)]
    types: dict[str, TensorType] = {}
    for number, skeleton in enumerate(skeletons):
        prefix = _prefix(number) if is_ensemble else ""
        own = _without(prefix, header.tensors)
        is_standardised = metadata["format_version"] not in _EARLIER and STANDARDIZATION[0] in own
        types |= {prefix + name: each for name, each in skeleton.types(code_of(own), is_standardised).items()}
    check_tensors(header, types)
    names = {name: parse_json(metadata[name], name) for name in _NAMES if name in metadata}
    sizes = math.prod(skeletons[0].input_shape), math.prod(skeletons[0].shapes[-1])
    names = checked_names(skeletons[0].output, *sizes, **names)
    arrays = read_arrays(file, size, header, types, "weights")
    names["metadata"] = {key: metadata[key] for key in ("format_version", "fastnn", "numpy")}
    if is_ensemble:
        networks = [each.network(_without(_prefix(number), arrays)) for number, each in enumerate(skeletons)]
        return Ensemble(**names, networks=tuple(networks))
    return Model(skeletons[0].network(arrays), **names)


def _without(prefix: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


def _ensemble_skeletons(text: str) -> list[Skeleton]:
    """Return the networks of an ensemble without their arrays; DataError if the text describes none."""
    described = parse_json(text, "networks")
    if not isinstance(described, list) or len(described) < FEWEST:
        raise DataError(f"its networks are {short(described)}, expected a list of {FEWEST} or more")
    for number, each in enumerate(described):
        if not isinstance(each, dict) or each.keys() != KEYS or not all(isinstance(v, str) for v in each.values()):
            expected = f"an object of strings with the keys {', '.join(sorted(KEYS))}"
            raise DataError(f"network {number} is {short(each)}, expected {expected}")
    return [parse_skeleton(each) for each in described]


def _skeleton(tensors: dict[str, Any], metadata: Mapping[str, str]) -> Skeleton:
    """Return the network of a file of one, without its arrays."""
    if "layers" in metadata:
        return parse_skeleton(metadata)
    return make_skeleton(*_dense_layers(tensors, metadata["activation"]), metadata)


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
