"""Saving a network to a file and loading it again: safetensors with a closed schema, checked before it is believed.

A model file is a safetensors file, so any safetensors reader opens it:

- 8 bytes, the length of the header, a little-endian integer;
- the header, JSON in UTF-8, filled up with spaces to a multiple of 8 bytes;
- the payload: for each layer l from 0, tensor ``weight.l`` of shape (fan_in, fan_out), then ``bias.l`` of shape
  (fan_out,), row by row, little-endian, one after the other without gaps; all F32 or all F64.

The header's ``__metadata__`` holds exactly these strings: ``format`` ("fastnn-model"), ``format_version`` ("1"),
``activation``, ``input_scale`` (as Python's repr writes a float), ``classes`` (a JSON array of integers or of strings),
``image_shape`` (JSON, [height, width] or null), ``fastnn`` and ``numpy`` (the versions that wrote the file) and
``sha256``. The last is the SHA-256, in lower-case hex, of the header without ``sha256``, written as JSON with sorted
keys, no spaces and ASCII only, followed by the payload. It tells damage, not forgery: whoever changes a file on
purpose can compute it anew.

The same network gives the same bytes: there is no time stamp, and the header is written here because safetensors'
own writer puts the metadata in another order in each process.
"""

import io
import json
import math
import os
import re
import reprlib
import stat
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, BinaryIO

import numpy as np

from fastnn.atomic import shown, write_atomically
from fastnn.errors import DataError, FileError, SettingsError
from fastnn.network import ACTIVATIONS, Network

_FORMAT = "fastnn-model"
_VERSION = 1
_METADATA = frozenset(
    {"format", "format_version", "activation", "input_scale", "classes", "image_shape", "fastnn", "numpy", "sha256"}
)
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_MAX_HEADER = 1_000_000
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, eq=False)
class Model:
    """What a model file holds.

    Attributes
    ----------
    network : Network
        Its arrays belong to nobody else and may be written to.
    classes : tuple of int or tuple of str
        The name of each of the network's outputs.
    image_shape : tuple of int, or None
        (height, width) of the image an input row holds, row by row; None where a row is no image.
    metadata : dict of str to str
        The versions that wrote the file: "format_version", "fastnn" and "numpy".
    """

    network: Network
    classes: tuple[int, ...] | tuple[str, ...]
    image_shape: tuple[int, int] | None
    metadata: dict[str, str]


def save(
    path: str | os.PathLike[str],
    network: Network,
    *,
    classes: Sequence[int] | Sequence[str] | np.ndarray | None = None,
    image_shape: Sequence[int] | None = None,
) -> None:
    """Write `network` to `path` in one step: the file is the old one or the new one, never half of it.

    Equal arguments and versions of fastnn and NumPy give equal bytes.

    Parameters
    ----------
    path : str or path
        The file to write; the usual suffix is ``.safetensors``.
    network : Network
        Arrays of shape (fan_in, fan_out) and (fan_out,), float32 or float64, in any memory order.
    classes : sequence of C int or C str, or None
        The name of each output, all different; None for 0 to C - 1.
    image_shape : (height, width), or None
        The image an input row holds: height * width must be D.

    Raises
    ------
    DataError
        If classes or image_shape do not fit the network, or a weight is not finite.
    FileError
        If the file cannot be written; an old file is then as it was.
    """
    try:
        data = _serialized(network, classes, image_shape)
        _read(io.BytesIO(data), len(data))  # what load would refuse shall not replace a good file
    except (DataError, SettingsError) as error:
        raise DataError(f"{shown(path)}: cannot save: {error}") from None
    write_atomically(path, data)


def load(path: str | os.PathLike[str]) -> Model:
    """Read a file that `save` wrote, and trust nothing in it.

    The header is checked in full before memory is taken for weights; no code is run or imported by what a file says.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    Model
        weights of shape (fan_in, fan_out), biases of shape (fan_out,), in the dtype they were saved in (float32 or
        float64), equal to the last bit.

    Raises
    ------
    DataError
        If the file is no model file, is damaged, cut, changed, or written by a newer fastnn: one line that names the
        file, what was found and what was expected.
    FileError
        If there is no such file, or it cannot be read.
    """
    name = shown(path)
    try:
        with _opened(path) as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except (DataError, SettingsError) as error:
        raise DataError(f"{name}: {error}") from None
    except MemoryError:
        raise DataError(f"{name}: the model does not fit into memory") from None
    except OSError as error:
        raise FileError(f"{name}: cannot read: {error.strerror or error}") from error


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a NUL in the path, or characters that no file name can have
        raise OSError(str(error)) from None
    if not stat.S_ISREG(mode):  # asked before opening, since opening a pipe would wait for its writer
        raise OSError(f"it is {'a folder' if stat.S_ISDIR(mode) else 'a device, a pipe or a socket'}, expected a file")
    return open(path, "rb")


def _serialized(network: Network, classes: Iterable[Any] | None, image_shape: Sequence[Any] | None) -> bytes:
    code = "F64" if network.dtype == np.float64 else "F32"
    header: dict[str, Any] = {}
    payload = []
    end = 0
    for layer, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        for tensor, array in ((f"weight.{layer}", weight), (f"bias.{layer}", bias)):
            # Row by row, whatever the array's own order: its memory as it lies would be another matrix.
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
        "input_scale": repr(float(network.input_scale)),
        "classes": json.dumps(_checked_classes(_plain(classes, network.n_classes), network.n_classes)),
        "image_shape": json.dumps(_checked_image_shape(_plain(image_shape), network.n_inputs)),
        **_versions(),
    }
    header["__metadata__"] = metadata
    metadata["sha256"] = _digest(header, payload)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # readers may map the file, and want the payload aligned
    return b"".join([len(text).to_bytes(8, "little"), text, *payload])


def _plain(values: Iterable[Any] | None, n: int | None = None) -> Any:
    """`values` as the JSON types a file would hold: NumPy's integers and strings become Python's."""
    if values is None:
        return None if n is None else list(range(n))
    if isinstance(values, (str, Set)) or not isinstance(values, Iterable):
        return values  # refused later: a set, because it has no order
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("fastnn-digits")
    except PackageNotFoundError:  # a checkout on the path, not installed
        own = "unknown"
    return {"fastnn": own, "numpy": np.__version__}


def _digest(header: dict[str, Any], payload: Iterable[bytes]) -> str:
    """The SHA-256 that the top of this file defines."""
    metadata = {key: value for key, value in header["__metadata__"].items() if key != "sha256"}
    text = json.dumps({**header, "__metadata__": metadata}, sort_keys=True, separators=(",", ":"))
    digest = sha256(text.encode())
    for data in payload:
        digest.update(data)
    return digest.hexdigest()


def _read(file: BinaryIO, size: int) -> Model:
    header = _read_header(file, size)
    metadata = _checked_metadata(header.get("__metadata__"))
    shapes, dtype = _checked_tensors({name: tensor for name, tensor in header.items() if name != "__metadata__"})
    n_inputs, n_classes = shapes[0][0], shapes[-1][0]
    classes = _checked_classes(_parsed(metadata["classes"], "classes"), n_classes)
    image_shape = _checked_image_shape(_parsed(metadata["image_shape"], "image_shape"), n_inputs)
    activation = metadata["activation"]
    if activation not in ACTIVATIONS:
        raise DataError(f"activation is {_short(activation)}, expected one of {', '.join(ACTIVATIONS)}")
    input_scale = _checked_scale(metadata["input_scale"])
    lengths = [math.prod(shape) * dtype.itemsize for shape in shapes]
    if size - file.tell() != sum(lengths):
        raise DataError(f"holds {size - file.tell()} bytes of weights, expected {sum(lengths)}: it was cut or added to")
    payload = [file.read(length) for length in lengths]
    if _digest(header, payload) != metadata["sha256"]:
        raise DataError("was changed or damaged after it was written: its SHA-256 is not the one it states")
    arrays = [
        np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
        for data, shape in zip(payload, shapes, strict=True)
    ]
    return Model(
        Network(arrays[::2], arrays[1::2], activation, input_scale),  # refuses what is not finite, and copies
        tuple(classes),
        None if image_shape is None else (image_shape[0], image_shape[1]),
        {key: metadata[key] for key in ("format_version", "fastnn", "numpy")},
    )


def _read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    """Read the header, and leave `file` at the first byte of the payload."""
    if size < 8:
        raise DataError(f"is {size} bytes long, expected a model file: at least the 8 bytes of its header's length")
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise DataError(f"its header would have {length} bytes, expected a model file's, at most {_MAX_HEADER}")
    if length > size - 8:
        raise DataError(f"was cut: its header has {length} bytes, but only {size - 8} follow")
    try:
        text = file.read(length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"its header is no UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None
    header = _parsed(text, "header")
    if not isinstance(header, dict):
        raise DataError(f"its header is {_short(header)}, expected a JSON object")
    return header


def _parsed(text: str, what: str) -> Any:
    """Parse JSON more strictly than Python does: no key twice, no NaN, no fractions, no huge integer."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise DataError(f"its {what} has the key {_short(key)} twice")
            found[key] = value
        return found

    def refuse(number: str) -> Any:
        raise DataError(f"its {what} has the number {_short(number)}, expected integers only")

    def integer(number: str) -> int:
        # int64 has 19 digits and a sign; Python's int() of thousands of digits is an error of its own.
        if len(number) > 20:
            raise DataError(f"its {what} has an integer of {len(number)} characters, expected at most 20")
        return int(number)

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=refuse, parse_int=integer)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise DataError(f"its {what} is no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise DataError(f"its {what} is nested too deeply") from None
    except UnicodeEncodeError:
        raise DataError(f"its {what} has half of a surrogate pair, expected whole characters") from None
    return value


def _checked_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        found = metadata.get("format") if isinstance(metadata, dict) else metadata
        raise DataError(f"is no fastnn model: its format is {_short(found)}, expected {_FORMAT!r}")
    version = metadata.get("format_version")
    # Before anything else: a newer format may have other keys and tensors, and the advice is to update.
    if isinstance(version, str) and re.fullmatch("[1-9][0-9]{0,8}", version) and int(version) > _VERSION:
        raise DataError(f"written by a newer fastnn (format {version}, this one reads {_VERSION}): update fastnn")
    if version != str(_VERSION):
        raise DataError(f"its format_version is {_short(version)}, expected '{_VERSION}'")
    if metadata.keys() != _METADATA:
        odd = sorted(metadata.keys() ^ _METADATA)[0]
        raise DataError(f"its metadata {'lacks' if odd in _METADATA else 'has the unknown key'} {_short(odd)}")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise DataError(f"its {key} is {_short(value)}, expected a string")
    return metadata


def _tensor_name(index: int) -> str:
    return f"{'bias' if index % 2 else 'weight'}.{index // 2}"


def _checked_tensors(tensors: dict[str, Any]) -> tuple[list[tuple[int, ...]], np.dtype[Any]]:
    """The shapes of weight.0, bias.0, weight.1, ... and the dtype of all, once they fit each other and the payload."""
    names = [_tensor_name(index) for index in range(max(2, len(tensors) + len(tensors) % 2))]
    if tensors.keys() != set(names):
        unknown = sorted(tensors.keys() - set(names))
        if unknown:
            raise DataError(f"has the tensor {_short(unknown[0])}, expected weight.0, bias.0, weight.1 and so on")
        raise DataError(f"lacks the tensor {next(name for name in names if name not in tensors)}")
    code = ""
    fan: Any = None
    end = 0
    shapes = []
    for name in names:
        tensor = tensors[name]
        if not isinstance(tensor, dict) or tensor.keys() != {"dtype", "shape", "data_offsets"}:
            raise DataError(f"{name} is {_short(tensor)}, expected dtype, shape and data_offsets")
        found = tensor["dtype"]
        if not isinstance(found, str) or found not in _DTYPES or code not in ("", found):
            raise DataError(f"{name} has dtype {_short(found)}, expected {code or 'F32 or F64'}")
        code = found
        shape = tensor["shape"]
        wanted = f"[{fan}]" if name.startswith("bias") else f"[{fan or 'inputs'}, units]"
        if not _are_sizes(shape, 1 if name.startswith("bias") else 2) or (fan is not None and shape[0] != fan):
            raise DataError(f"{name} has shape {_short(shape)}, expected {wanted}")
        fan = shape[-1]
        shapes.append(tuple(shape))
        begin, end = end, end + math.prod(shape) * _DTYPES[code].itemsize
        if tensor["data_offsets"] != [begin, end]:
            raise DataError(
                f"{name} lies at {_short(tensor['data_offsets'])} of the payload, expected [{begin}, {end}]"
            )
    return shapes, _DTYPES[code]


def _are_sizes(values: Any, n: int) -> bool:
    return isinstance(values, list) and len(values) == n and all(type(size) is int and size > 0 for size in values)


def _checked_classes(classes: Any, n_classes: int) -> list[Any]:
    if (
        not isinstance(classes, list)
        or {type(label) for label in classes} not in ({int}, {str})
        or any(isinstance(label, int) and label not in _INT64 for label in classes)
    ):
        raise DataError(f"classes are {_short(classes)}, expected a list of int64 integers or of strings")
    if len(classes) != n_classes:
        raise DataError(f"{len(classes)} classes for {n_classes} outputs of the network, expected one each")
    if len(set(classes)) != n_classes:
        raise DataError(f"classes are {_short(classes)}, expected all of them different")
    return classes


def _checked_image_shape(image_shape: Any, n_inputs: int) -> list[int] | None:
    if image_shape is None:
        return None
    if not _are_sizes(image_shape, 2) or image_shape[0] * image_shape[1] != n_inputs:
        raise DataError(f"image_shape is {_short(image_shape)}, expected a height and a width with product {n_inputs}")
    return list(image_shape)


def _checked_scale(text: str) -> float:
    # float() takes '1_0', ' 1' and the digits of any script; only what repr gives back is what save wrote.
    try:
        scale = float(text)
    except ValueError:
        scale = np.nan
    if not (0 < scale < np.inf and repr(scale) == text):
        raise DataError(f"input_scale is {_short(text)}, expected a positive number")
    return scale


def _short(value: Any) -> str:
    """`value` for a message: one line, however long and deep it is."""
    return " ".join(reprlib.repr(value).split())
