"""Saves networks to files and loads them. The format is safetensors with a strict schema, checked in full before use.

A model file is a safetensors file, so any safetensors reader can open it. It has three parts:

- the length of the header: 8 bytes, a little-endian integer;
- the header: JSON in UTF-8, padded with spaces to a multiple of 8 bytes;
- the payload: for each layer l from 0, tensor ``weight.l`` of shape (fan_in, fan_out), then ``bias.l`` of shape
  (fan_out,). All tensors are F32, or all are F64. They are row-major and little-endian, without gaps.

The header's ``__metadata__`` contains exactly these strings:

- ``format``: "fastnn-model"
- ``format_version``: "2"
- ``fastnn``, ``numpy``: the versions that wrote the file
- ``activation``, ``output``: as in `Network`
- ``input_scale``: a float, as Python's repr writes it
- ``classes``: JSON, an array of integers or of strings, or null
- ``image_shape``: JSON, [height, width] or null
- ``feature_names``: JSON, an array of strings, or null
- ``unknown``: JSON, [threshold, label] or null; see `Model`
- ``sha256``: a digest in lower-case hex. It covers the header without ``sha256``, written as ASCII JSON with sorted
  keys and no spaces, followed by the payload. It detects damage, not forgery: anyone who changes a file on purpose can
  recompute it.

Files of format version "1" can be loaded, too. They have no ``output`` (it is "softmax"), no ``feature_names`` and no
``unknown``.

Equal networks give equal bytes, without a time stamp. This module writes the header itself, because safetensors' writer
orders the metadata differently in each process.
"""

import io
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Sequence, Set
from hashlib import sha256
from typing import Any, BinaryIO

import numpy as np

from fastnn.checks import display_path, short
from fastnn.errors import DataError, FileError, SettingsError
from fastnn.files.atomic import write_atomically
from fastnn.network import ACTIVATIONS, OUTPUTS, Network
from fastnn.network.model import Model, are_sizes, checked_names, default_classes

_FORMAT = "fastnn-model"
_NAMES = {1: ("classes", "image_shape"), 2: ("classes", "image_shape", "feature_names", "unknown")}
_COMMON = {"format", "format_version", "activation", "input_scale", "fastnn", "numpy", "sha256"}
_METADATA = {1: _COMMON.union(_NAMES[1]), 2: _COMMON.union(_NAMES[2], ["output"])}  # of each format version
_VERSION = max(_METADATA)
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_MAX_HEADER = 1_000_000


def save(
    path: str | os.PathLike[str],
    network: Network,
    *,
    classes: Sequence[int] | Sequence[str] | np.ndarray | None = None,
    image_shape: Sequence[int] | None = None,
    feature_names: Sequence[str] | np.ndarray | None = None,
    unknown: tuple[float, int | str] | None = None,
) -> None:
    """Save a network, and the names of its inputs and outputs, to a file.

    The file is written atomically: a failure leaves the old file or the new one, never half a file. Equal arguments and
    equal versions of fastnn and NumPy give equal bytes.

    Parameters
    ----------
    path : str or path
        The file to write. The usual suffix is ``.safetensors``.
    network : Network
        D inputs and C outputs. Its weights have shape (fan_in, fan_out) and its biases (fan_out,), float32 or float64,
        in any memory order.
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
        classes = default_classes(network.output, network.n_outputs) if classes is None else classes
        data = _serialized(Model(network, classes, image_shape, {}, feature_names, unknown))  # type: ignore[arg-type]
        _read(io.BytesIO(data), len(data))  # a file that load would reject must not replace a good one
    except (DataError, SettingsError) as error:
        raise DataError(f"{display_path(path)}: cannot save: {error}") from None
    write_atomically(path, data)


def load(path: str | os.PathLike[str]) -> Model:
    """Load a model from a file that `save` wrote. Files from untrusted sources are safe to load.

    The header is checked in full before memory is allocated for weights. Nothing in the file is executed or imported.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Model
        Weights of shape (fan_in, fan_out) and biases of shape (fan_out,), with the saved dtype (float32 or float64) and
        identical bits.

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
    ((0, 1), '2')
    """
    name = display_path(path)
    try:
        with _open(path) as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except (DataError, SettingsError) as error:
        raise DataError(f"{name}: {error}") from None
    except MemoryError:
        raise DataError(f"{name}: the model does not fit in memory") from None
    except OSError as error:
        raise FileError(f"{name}: cannot read: {error.strerror or error}") from error


def load_classifier(path: str | os.PathLike[str]) -> Model:
    """Load a model whose output is a softmax over C classes; raise DataError for any other model."""
    model = load(path)
    if model.network.output != "softmax":
        raise DataError(
            f"{display_path(path)}: the output of its network is {model.network.output}, "
            f"expected softmax: one of C classes"
        )
    return model


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # the path has a NUL or invalid characters
        raise OSError(str(error)) from None
    if not stat.S_ISREG(mode):  # checked before opening: opening a pipe would wait for a writer
        raise OSError(f"it is {'a folder' if stat.S_ISDIR(mode) else 'a device, a pipe or a socket'}, expected a file")
    return open(path, "rb")


def checked(model: Model) -> dict[str, Any]:
    """Return the names and the threshold of a model as a file stores them; raise DataError if they do not match."""
    names = {name: _as_json_types(getattr(model, name)) for name in _NAMES[_VERSION]}
    network = model.network
    return checked_names(network.output, network.n_inputs, network.n_outputs, **names)


def _serialized(model: Model) -> bytes:
    network = model.network
    code = "F64" if network.dtype == np.float64 else "F32"
    header: dict[str, Any] = {}
    payload = []
    end = 0
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        for tensor, array in ((f"weight.{layer}", weight), (f"bias.{layer}", bias)):
            # Convert to row-major order: the raw memory of a column-major array would be the transposed matrix.
            data = np.ascontiguousarray(array, _DTYPES[code]).tobytes()
            header[tensor] = {
                "dtype": code,
                "shape": list(array.shape),
                "data_offsets": [end, end + len(data)],
            }
            payload.append(data)
            end += len(data)
    metadata = {
        "format": _FORMAT,
        "format_version": str(_VERSION),
        "activation": network.activation,
        "output": network.output,
        "input_scale": repr(float(network.input_scale)),
        **{name: json.dumps(value) for name, value in checked(model).items()},
        **versions(),
    }
    header["__metadata__"] = metadata
    metadata["sha256"] = _digest(header, payload)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the payload for readers that map the file into memory
    return b"".join([len(text).to_bytes(8, "little"), text, *payload])


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


def _digest(header: dict[str, Any], payload: Iterable[bytes]) -> str:
    """Return the SHA-256 digest that the docstring of this module defines."""
    metadata = {key: value for key, value in header["__metadata__"].items() if key != "sha256"}
    text = json.dumps({**header, "__metadata__": metadata}, sort_keys=True, separators=(",", ":"))
    digest = sha256(text.encode())
    for data in payload:
        digest.update(data)
    return digest.hexdigest()


def _read(file: BinaryIO, size: int) -> Model:
    header = _read_header(file, size)
    metadata = _check_metadata(header.get("__metadata__"))
    shapes, dtype = _check_tensors({name: tensor for name, tensor in header.items() if name != "__metadata__"})
    activation, output = metadata["activation"], metadata.get("output", "softmax")
    for name, value, choices in (("activation", activation, ACTIVATIONS), ("output", output, OUTPUTS)):
        if value not in choices:
            raise DataError(f"{name} is {short(value)}, expected one of {', '.join(choices)}")
    names = {
        name: _parse_json(metadata[name], name, fractions=name == "unknown")
        for name in _NAMES[int(metadata["format_version"])]
    }
    names = checked_names(output, shapes[0][0], shapes[-1][0], **names)
    input_scale = _parse_scale(metadata["input_scale"])
    lengths = [math.prod(shape) * dtype.itemsize for shape in shapes]
    if size - file.tell() != sum(lengths):
        raise DataError(f"found {size - file.tell()} bytes of weights, expected {sum(lengths)}: truncated or extended")
    payload = [file.read(length) for length in lengths]
    if _digest(header, payload) != metadata["sha256"]:
        raise DataError("the file was changed or damaged: its SHA-256 is not the one in its header")
    arrays = [
        np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
        for data, shape in zip(payload, shapes, strict=True)
    ]
    return Model(
        Network(arrays[::2], arrays[1::2], activation, input_scale, output),  # rejects NaN and infinity, and copies
        metadata={key: metadata[key] for key in ("format_version", "fastnn", "numpy")},
        **names,
    )


def _read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    """Read the header; the next read starts at the first byte of the payload."""
    if size < 8:
        raise DataError(f"found {size} bytes, expected a model file of at least 8")
    length = int.from_bytes(file.read(8), "little")
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


def _parse_json(text: str, what: str, *, fractions: bool = False) -> Any:
    """Parse JSON more strictly than Python does: no duplicate keys, no NaN, no huge integers.

    Fractions are errors unless `fractions` is set. `what` is the name of the text in messages.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise DataError(f"its {what} has the key {short(key)} twice")
            found[key] = value
        return found

    def refuse(number: str) -> Any:
        raise DataError(f"its {what} has the number {short(number)}, expected integers only")

    def integer(number: str) -> int:
        # An int64 has at most 19 digits and a sign. For thousands of digits, Python's int() would raise its own error.
        if len(number) > 20:
            raise DataError(f"its {what} has an integer of {len(number)} characters, expected at most 20")
        return int(number)

    try:
        value = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=refuse,
            parse_float=float if fractions else refuse,
            parse_int=integer,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise DataError(f"its {what} is not valid JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise DataError(f"its {what} is nested too deeply") from None
    except UnicodeEncodeError:
        raise DataError(f"its {what} has half of a surrogate pair, expected whole characters") from None
    return value


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        found = metadata.get("format") if isinstance(metadata, dict) else metadata
        raise DataError(f"not a fastnn model: its format is {short(found)}, expected {_FORMAT!r}")
    version = metadata.get("format_version")
    # Check the version first: a newer format may have other keys and tensors, and the remedy is to update fastnn.
    if isinstance(version, str) and re.fullmatch("[1-9][0-9]{0,8}", version) and int(version) > _VERSION:
        raise DataError(f"its format_version is {version}, expected at most {_VERSION}: update fastnn to read it")
    expected = next((keys for known, keys in _METADATA.items() if version == str(known)), None)
    if expected is None:
        raise DataError(f"its format_version is {short(version)}, expected '1' or '{_VERSION}'")
    if metadata.keys() != expected:
        odd = sorted(metadata.keys() ^ expected)[0]
        raise DataError(f"its metadata {'lacks the key' if odd in expected else 'has the unknown key'} {short(odd)}")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise DataError(f"its {key} is {short(value)}, expected a string")
    return metadata


def _tensor_name(index: int) -> str:
    return f"{'bias' if index % 2 else 'weight'}.{index // 2}"


def _check_tensors(tensors: dict[str, Any]) -> tuple[list[tuple[int, ...]], np.dtype[Any]]:
    """Check that the tensors match each other and the payload.

    Returns the shapes of weight.0, bias.0, weight.1 and so on, and the dtype of all tensors.
    """
    names = [_tensor_name(index) for index in range(max(2, len(tensors) + len(tensors) % 2))]
    if tensors.keys() != set(names):
        unknown = sorted(tensors.keys() - set(names))
        if unknown:
            raise DataError(f"found the tensor {short(unknown[0])}, expected weight.0, bias.0, weight.1 and so on")
        raise DataError(f"the tensor {next(name for name in names if name not in tensors)} is missing")
    code = ""
    fan: Any = None
    end = 0
    shapes = []
    for name in names:
        tensor = tensors[name]
        if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
            raise DataError(f"{name} is {short(tensor)}, expected dtype, shape and data_offsets")
        found = tensor["dtype"]
        if not isinstance(found, str) or found not in _DTYPES or code not in ("", found):
            raise DataError(f"{name} has dtype {short(found)}, expected {code or 'F32 or F64'}")
        code = found
        shape = tensor["shape"]
        expected = f"[{fan}]" if name.startswith("bias") else f"[{fan or 'inputs'}, units]"
        if not are_sizes(shape, 1 if name.startswith("bias") else 2) or (fan is not None and shape[0] != fan):
            raise DataError(f"{name} has shape {short(shape)}, expected {expected}")
        fan = shape[-1]
        shapes.append(tuple(shape))
        begin, end = end, end + math.prod(shape) * _DTYPES[code].itemsize
        if tensor["data_offsets"] != [begin, end]:
            raise DataError(f"{name} has data_offsets {short(tensor['data_offsets'])}, expected [{begin}, {end}]")
    return shapes, _DTYPES[code]


def _parse_scale(text: str) -> float:
    # float() also accepts '1_0', ' 1' and the digits of other scripts, but save writes only the output of repr.
    try:
        scale = float(text)
    except ValueError:
        scale = np.nan
    if not (0 < scale < np.inf and repr(scale) == text):
        raise DataError(f"input_scale is {short(text)}, expected a positive number")
    return scale
