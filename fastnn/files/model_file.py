"""Saves networks to files and loads them. The format is safetensors with a strict schema, checked in full before use.

A model file is a safetensors file, so any safetensors reader can open it. It has three parts:

- the length of the header: 8 bytes, a little-endian integer;
- the header: JSON in UTF-8, padded with spaces to a multiple of 8 bytes;
- the payload: ``weight.0``, ``bias.0``, ``weight.1`` and so on, one of each per layer that has parameters, then
  ``statistic.0`` and so on: the arrays of `Network`, with the shapes that the layers state, all F32 or all F64. A
  network that standardises its inputs also has ``input.mean`` and ``input.scale``, which are F64. Tensors are row-major
  and little-endian, without gaps.

The header's ``__metadata__`` contains exactly these strings:

- ``format``: "fastnn-model"
- ``format_version``: "4"
- ``fastnn``, ``numpy``: the versions that wrote the file
- ``layers``: JSON, an array with an object for each layer: its ``kind``, a key of `LAYERS`, and the fields of its class
- ``input_shape``: JSON, an array: the shape of an input row
- ``output``: as in `Network`
- ``input_scale``: a float, as Python's repr writes it
- ``classes``: JSON, an array of integers or of strings, or null
- ``image_shape``: JSON, [height, width] or null
- ``feature_names``: JSON, an array of strings, or null
- ``unknown``: JSON, [threshold, label] or null; see `Model`
- ``pixels``: JSON, [background, ink] or null; see `Model`
- ``sha256``: a digest in lower-case hex. It covers the header without ``sha256``, written as ASCII JSON with sorted
  keys and no spaces, followed by the payload. It detects damage, not forgery: anyone who changes a file on purpose can
  recompute it.

Files of earlier format versions can be loaded, too. Version "3" lacks ``pixels`` and the standardization. In versions
"1" and "2", all layers are dense, so the weights state the sizes, and ``activation``, that of the hidden layers, takes
the place of ``layers`` and ``input_shape``. Version "1" also lacks ``output`` (it is "softmax"), ``feature_names`` and
``unknown``.

Equal networks give equal bytes, without a time stamp. The library safetensors cannot take the place of this module: its
writer orders the metadata differently in each process. Its reader accepts a key twice and unknown keys, and maps the
file into memory, so the process dies if another one truncates the file.
"""

import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from hashlib import sha256
from typing import Any, BinaryIO

import numpy as np

from fastnn.checks import check_choice, display_path, short
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import open_binary
from fastnn.errors import DataError, FileError, SettingsError
from fastnn.files.atomic import write_atomically
from fastnn.models import Model, as_model
from fastnn.models.model import are_sizes, checked_names
from fastnn.network import ACTIVATIONS, LOSSES, Dense, Layer, Network, Standardization
from fastnn.network.layers import Shape, array_shapes, from_json, to_json
from fastnn.network.network import chain_shapes

_FORMAT, _VERSION = "fastnn-model", "4"
_NAMES = ("classes", "image_shape", "feature_names", "unknown", "pixels")
_EARLIER = ("1", "2", "3")
_STANDARDIZATION = ("input.mean", "input.scale")
_EARLIER_NAMES = set(_NAMES) - {"pixels"}
_COMMON = {"format", "format_version", "input_scale", "classes", "image_shape", "fastnn", "numpy", "sha256"}
_METADATA = {  # the keys of each format version
    "1": _COMMON | {"activation"},
    "2": _COMMON | {"activation", "output", *_EARLIER_NAMES},
    "3": _COMMON | {"layers", "input_shape", "output", *_EARLIER_NAMES},
    "4": _COMMON | {"layers", "input_shape", "output", *_NAMES},
}
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_MAX_HEADER = 1_000_000


def save(
    path: str | os.PathLike[str],
    network: Any,
    *,
    classes: Sequence[int] | Sequence[str] | np.ndarray | None = None,
    image_shape: Sequence[int] | None = None,
    feature_names: Sequence[str] | np.ndarray | None = None,
    unknown: tuple[float, int | str] | None = None,
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
    classes : sequence of C int or C str, or None
        The name of each output, all different. None means 0 to C - 1. A single logistic output has two names and
        gives the probability of the second (None means 0 and 1), or it has only one name. Must be None for "identity"
        outputs.
    image_shape : (int, int), or None
        Height and width of the image in an input row. Their product must be D.
    feature_names : sequence of D str, or None
        The name of each input, all different.
    unknown : (float, int or str), or None
        A threshold in (0, 1] and a label. The model predicts this label if the largest probability is below the
        threshold. The label has the type of the classes but is not one of them. Must be None for "identity" outputs and
        for several logistic outputs.
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
    ((0, 1), '4')
    """
    if isinstance(path, str | os.PathLike) and os.path.isdir(path):
        inside = os.path.join(path, "model.safetensors")
        path = inside if os.path.exists(inside) else path
    name = display_path(path)
    with open_binary(path) as file:
        try:
            return _read(file, os.fstat(file.fileno()).st_size)
        except (DataError, SettingsError) as error:
            text = str(error)  # may quote a long value of a damaged file
            raise DataError(f"{name}: {text if len(text) < 400 else f'{text[:200]} ... {text[-200:]}'}") from None
        except MemoryError:
            raise DataError(f"{name}: the model does not fit in memory") from None
        except OSError as error:
            raise FileError(f"{name}: cannot be read ({error.strerror or error})") from error


def checked(model: Model) -> dict[str, Any]:
    """Return the names and the threshold of a model as a file stores them; raise DataError if they do not match."""
    names = {name: _as_json_types(getattr(model, name)) for name in _NAMES}
    network = model.network
    return checked_names(network.output, network.n_inputs, network.n_outputs, **names)


def _serialized(model: Model) -> bytes:
    network = model.network
    code = "F64" if network.dtype == np.float64 else "F32"
    inputs = network.standardization
    standardization = () if inputs is None else (inputs.mean, inputs.scale)
    arrays = _by_name(zip(network.weights, network.biases, strict=True), network.statistics, standardization)
    # tobytes converts to row-major order: the raw memory of a column-major array would be the transposed matrix.
    payload = b"".join(np.asarray(array, _DTYPES[_code(name, code)]).tobytes() for name, array in arrays.items())
    metadata = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "layers": json.dumps(to_json(network.layers)),
        "input_shape": json.dumps(_as_json_types(network.shapes[0])),
        "output": network.output,
        "input_scale": repr(float(network.input_scale)),
        **{name: json.dumps(value) for name, value in checked(model).items()},
        **versions(),
    }
    entries = _entries({name: array.shape for name, array in arrays.items()}, code)
    metadata["sha256"] = _digest(entries, metadata, payload)
    text = json.dumps({**entries, "__metadata__": metadata}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the payload for readers that map the file into memory
    return len(text).to_bytes(8, "little") + text + payload


def _as_json_types(values: Any) -> Any:
    """Convert `values` to the JSON types that a file stores: NumPy's integers and strings become Python's."""
    if isinstance(values, (str, Set)) or not isinstance(values, Iterable):
        return values  # a later check rejects it; a set is rejected because it has no order
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("fastnn-digits")
    except PackageNotFoundError:  # a checkout that is on the path but not installed
        own = "unknown"
    return {"fastnn": own, "numpy": np.__version__}


def _by_name(
    parameters: Iterable[tuple[Any, ...]], statistics: Sequence[Any], standardization: Sequence[Any]
) -> dict[str, Any]:
    """Return arrays, or their shapes, by the names of their tensors, in the order of the payload."""
    named: dict[str, Any] = {}
    for k, (weight, bias) in enumerate(parameters):
        named |= {f"weight.{k}": weight, f"bias.{k}": bias}
    named |= {f"statistic.{k}": each for k, each in enumerate(statistics)}
    return named | dict(zip(_STANDARDIZATION, standardization, strict=False))


def _code(name: str, code: str) -> str:
    """Return the code of a tensor's dtype in a file whose weights have the dtype `code`."""
    return "F64" if name in _STANDARDIZATION else code


def _entries(shapes: Mapping[str, Shape], code: str) -> dict[str, Any]:
    """Return the header's entry of every tensor."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        own = _code(name, code)
        begin, end = end, end + math.prod(shape) * _DTYPES[own].itemsize
        entries[name] = {"dtype": own, "shape": list(shape), "data_offsets": [begin, end]}
    return entries


def _digest(entries: dict[str, Any], metadata: dict[str, str], payload: bytes) -> str:
    """Return the SHA-256 digest that the docstring of this module defines."""
    rest = {key: value for key, value in metadata.items() if key != "sha256"}
    digest = sha256(_canonical({**entries, "__metadata__": rest}).encode())
    digest.update(payload)
    return digest.hexdigest()


def _canonical(value: Any) -> str:
    """Return `value` as ASCII JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _read(file: BinaryIO, size: int) -> Model:
    header = _read_header(file, size)
    metadata = _check_metadata(header.pop("__metadata__", None))
    output = check_choice("output", metadata.get("output", "softmax"), list(LOSSES))
    text = metadata["input_scale"]
    input_scale = _parse_json(text, "input_scale")
    # save writes only the output of repr: neither "1" nor " 1.0".
    if not isinstance(input_scale, float) or not 0 < input_scale < math.inf or repr(input_scale) != text:
        raise DataError(f"input_scale is {short(text)}, expected a positive number")
    layers, input_shape = _layers(metadata) if "layers" in metadata else _dense_layers(header, metadata["activation"])
    *input_shapes, output_shape = chain_shapes(input_shape, layers)
    stated = array_shapes(layers, input_shapes)
    parameters = [pair for pair, _ in stated if pair]
    is_standardised = metadata["format_version"] not in _EARLIER and _STANDARDIZATION[0] in header
    of_inputs = 2 * [(math.prod(input_shape),)] * is_standardised
    shapes = _by_name(parameters, [shape for _, statistics in stated for shape in statistics], of_inputs)
    entries = _check_tensors(header, shapes)
    names = {name: _parse_json(metadata[name], name) for name in _NAMES if name in metadata}
    names = checked_names(output, math.prod(input_shape), math.prod(output_shape), **names)
    found, expected = size - file.tell(), max(each["data_offsets"][1] for each in entries.values())
    if found != expected:
        raise DataError(f"found {found} bytes of weights, expected {expected}: truncated or extended")
    payload = file.read(expected)
    if _digest(header, metadata, payload) != metadata["sha256"]:
        raise DataError("the file was changed or damaged: its SHA-256 is not the one in its header")
    arrays = {}
    for name, entry in entries.items():
        dtype, (begin, end) = _DTYPES[entry["dtype"]], entry["data_offsets"]
        numbers = np.frombuffer(payload, dtype, (end - begin) // dtype.itemsize, begin)
        arrays[name] = numbers.astype(dtype.newbyteorder("="), copy=False).reshape(entry["shape"])
    weights, biases, statistics = (
        [array for name, array in arrays.items() if name.startswith(kind)]
        for kind in ("weight.", "bias.", "statistic.")
    )
    if is_standardised:
        if input_scale != 1:
            raise DataError(f"input_scale is {input_scale}, expected 1.0 with a standardization")
        input_scale = Standardization(*(arrays[name] for name in _STANDARDIZATION))
    chain = (weights, biases, "relu", input_scale, output, layers, input_shape, statistics)
    metadata = {key: metadata[key] for key in ("format_version", "fastnn", "numpy")}
    return Model(Network(*chain), metadata=metadata, **names)  # Network rejects NaN and infinity, and copies


def _read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    """Read the header; the next read starts at the first byte of the payload."""
    if size < 8:
        raise DataError(f"found {size} bytes, expected a model file of at least 8")
    start = file.read(1024)
    file.seek(8)
    length = int.from_bytes(start[:8], "little")
    if length > _MAX_HEADER and start[8:9] != b"{":  # the header of a model file is a JSON object
        from fastnn.datasets.containers.magic import describe

        raise DataError(f"is no fastnn model file: it is {describe(start)}")
    if length > _MAX_HEADER:
        raise DataError(f"its header has {length} bytes, expected a model file with at most {_MAX_HEADER}")
    if length > size - 8:
        raise DataError(f"its header has {length} bytes, but only {size - 8} follow: truncated")
    try:
        text = file.read(length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"its header is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None
    header = _parse_json(text, "header")
    if not isinstance(header, dict):
        raise DataError(f"its header is {short(header)}, expected a JSON object")
    return header


def _parse_json(text: str, what: str) -> Any:
    """Parse JSON more strictly than Python does: no duplicate keys, no NaN, no huge integers, no half characters."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise DataError(f"its {what} has the key {short(key)} twice")
            found[key] = value
        return found

    def refuse(number: str) -> Any:
        raise DataError(f"its {what} has the number {short(number)}, expected finite ones and int64 integers")

    def integer(number: str) -> int:
        return int(number) if len(number) <= 20 else refuse(number)  # an int64 has at most 19 digits and a sign

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_int=integer)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise DataError(f"its {what} is not valid JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise DataError(f"its {what} is nested too deeply") from None
    except UnicodeEncodeError:
        raise DataError(f"its {what} has half of a surrogate pair, expected whole characters") from None
    return value


def _check_metadata(metadata: Any) -> dict[str, str]:
    found = metadata.get("format") if isinstance(metadata, dict) else metadata
    if found != _FORMAT or not isinstance(metadata, dict):
        raise DataError(f"not a fastnn model: its format is {short(found)}, expected {_FORMAT!r}")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise DataError(f"its {short(key)} is {short(value)}, expected a string")
    # Check the version first: another one has other keys.
    version = metadata.get("format_version")
    if version not in _METADATA:
        expected = f"one of {', '.join(_METADATA)}; a newer one needs a newer fastnn"
        raise DataError(f"its format_version is {short(version)}, expected {expected}")
    for key in sorted(metadata.keys() ^ _METADATA[version]):
        raise DataError(f"its metadata {'has the unknown' if key in metadata else 'lacks the'} key {short(key)}")
    return metadata


def _layers(metadata: dict[str, str]) -> tuple[Sequence[Layer], Shape]:
    """Return the layers and the shape of an input row."""
    layers = from_json(_parse_json(metadata["layers"], "layers"))
    names = [layer.activation for layer in layers]
    if None in names or names[-1:] != ["identity"]:
        raise DataError(f"the activations of its layers are {short(names)}, expected names, the last one identity")
    input_shape = _parse_json(metadata["input_shape"], "input_shape")
    if not are_sizes(input_shape):
        raise DataError(f"input_shape is {short(input_shape)}, expected sizes of 1 or more")
    return layers, tuple(input_shape)


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


def _check_tensors(tensors: dict[str, Any], shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Return the header's entries of these tensors; raise DataError unless `tensors` are exactly these."""
    first = tensors.get("weight.0")
    code = "F64" if isinstance(first, dict) and first.get("dtype") == "F64" else "F32"
    expected = _entries(shapes, code)
    for name in {**expected, **tensors}:
        # Compared as JSON, because True == 1 in Python.
        here, wanted = (_canonical(each[name]) if name in each else "no such tensor" for each in (tensors, expected))
        if here != wanted:
            raise DataError(f"tensor {short(name)}: found {here[:200]}, expected {wanted}")
    return expected
