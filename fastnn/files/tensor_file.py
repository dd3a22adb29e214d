"""Safetensors files with a closed schema: written as bytes, and read with every part checked before it is used.

A file has three parts:

- the length of the header: 8 bytes, a little-endian integer;
- the header: JSON in UTF-8, padded with spaces to a multiple of 8 bytes: an object with an entry for each tensor, and
  the strings of ``__metadata__``;
- the payload: the tensors in the order of the header, row-major and little-endian, without gaps.

``sha256`` in the metadata is a digest in lower-case hex. It covers the header without ``sha256``, written as ASCII JSON
with sorted keys and no spaces, followed by the payload. It detects damage, not forgery: anyone who changes a file on
purpose can recompute it.

The library safetensors cannot take the place of this module: its writer orders the metadata differently in each
process. Its reader accepts a key twice and unknown keys, and maps the file into memory, so the process dies if another
one truncates the file.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Set
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from fastnn.checks import display_path, short
from fastnn.datasets.files import open_binary
from fastnn.errors import DataError, FileError, SettingsError

# The codes of the dtypes that may be in a file.
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U32": np.dtype("<u4"),
}
_MAX_HEADER = 1_000_000
_Content = TypeVar("_Content")


class TensorType(NamedTuple):
    """The dtype, as a key of `DTYPES`, and the shape of a tensor."""

    code: str
    shape: tuple[int, ...]


class Header(NamedTuple):
    """The header of a file whose tensors have not been checked yet."""

    tensors: dict[str, Any]
    metadata: dict[str, str]


def code_of_dtype(dtype: np.dtype[Any]) -> str:
    """Return the key of a dtype in `DTYPES`; DataError if there is none."""
    for code, each in DTYPES.items():
        if dtype.newbyteorder("<") == each:
            return code
    raise DataError(f"an array has dtype {dtype}, expected one of {', '.join(str(each) for each in DTYPES.values())}")


def serialized(metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of a file with these arrays, whose dtypes are in `DTYPES`; equal arguments give equal bytes."""
    types = {name: TensorType(code_of_dtype(array.dtype), array.shape) for name, array in arrays.items()}
    # tobytes converts to row-major order: the raw memory of a column-major array would be the transposed matrix.
    payload = b"".join(np.asarray(array, DTYPES[types[name].code]).tobytes() for name, array in arrays.items())
    entries = _entries(types)
    signed = {**metadata, "sha256": _digest(entries, metadata, payload)}
    text = json.dumps({**entries, "__metadata__": signed}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligns the payload for readers that map the file into memory
    return len(text).to_bytes(8, "little") + text + payload


def load_file(path: str | os.PathLike[str], kind: str, read: Callable[[BinaryIO, int], _Content]) -> _Content:
    """Open a file and return what `read`, called with the file and its size, returns. Errors name the path.

    kind: what the file should be, such as "model", for messages
    """
    name = display_path(path)
    with open_binary(path) as file:
        try:
            return read(file, os.fstat(file.fileno()).st_size)
        except (DataError, SettingsError) as error:
            text = str(error)  # may quote a long value of a damaged file
            raise DataError(f"{name}: {text if len(text) < 400 else f'{text[:200]} ... {text[-200:]}'}") from None
        except MemoryError:
            raise DataError(f"{name}: the {kind} does not fit in memory") from None
        except OSError as error:
            raise FileError(f"{name}: cannot be read ({error.strerror or error})") from error


def read_header(file: BinaryIO, size: int, kind: str) -> Header:
    """Read the header of a file of `size` bytes; the next read starts at the first byte of the payload.

    kind: what the file should be, such as "model", for messages
    """
    if size < 8:
        raise DataError(f"found {size} bytes, expected a {kind} file of at least 8")
    start = file.read(1024)
    file.seek(8)
    length = int.from_bytes(start[:8], "little")
    if length > _MAX_HEADER and start[8:9] != b"{":  # the header is a JSON object
        from fastnn.datasets.containers.magic import describe

        raise DataError(f"is no fastnn {kind} file: it is {describe(start)}")
    if length > _MAX_HEADER:
        raise DataError(f"its header has {length} bytes, expected a {kind} file with at most {_MAX_HEADER}")
    if length > size - 8:
        raise DataError(f"its header has {length} bytes, but only {size - 8} follow: truncated")
    try:
        text = file.read(length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"its header is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None
    header = parse_json(text, "header")
    if not isinstance(header, dict):
        raise DataError(f"its header is {short(header)}, expected a JSON object")
    return Header(header, header.pop("__metadata__", None))


def check_metadata(metadata: Any, kind: str, keys: Mapping[str, Set[str]]) -> dict[str, str]:
    """Return the metadata; DataError unless they are strings with the keys of their format version.

    keys: the keys of each format version of files of this `kind`
    """
    expected, found = f"fastnn-{kind}", metadata.get("format") if isinstance(metadata, dict) else metadata
    if found != expected or not isinstance(metadata, dict):
        raise DataError(f"not a fastnn {kind}: its format is {short(found)}, expected {expected!r}")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise DataError(f"its {short(key)} is {short(value)}, expected a string")
    # Check the version first: another one has other keys.
    version = metadata.get("format_version")
    if not isinstance(version, str) or version not in keys:
        expected = f"one of {', '.join(keys)}; a newer one needs a newer fastnn"
        raise DataError(f"its format_version is {short(version)}, expected {expected}")
    for key in sorted(metadata.keys() ^ keys[version]):
        raise DataError(f"its metadata {'has the unknown' if key in metadata else 'lacks the'} key {short(key)}")
    return metadata


def check_tensors(header: Header, expected: Mapping[str, TensorType]) -> None:
    """Raise DataError unless the header has exactly these tensors, in their order and without gaps."""
    entries = _entries(expected)
    for name in {**entries, **header.tensors}:
        # Compared as JSON, because True == 1 in Python.
        here, wanted = (
            _canonical(each[name]) if name in each else "no such tensor" for each in (header.tensors, entries)
        )
        if here != wanted:
            raise DataError(f"tensor {short(name)}: found {here[:200]}, expected {wanted}")


def read_arrays(
    file: BinaryIO, size: int, header: Header, expected: Mapping[str, TensorType], what: str
) -> dict[str, np.ndarray]:
    """Check the tensors of the header, then read and verify the payload; return read-only arrays by name.

    what: what the payload is, such as "weights", for messages
    """
    check_tensors(header, expected)
    entries = _entries(expected)
    found, n_bytes = size - file.tell(), max((each["data_offsets"][1] for each in entries.values()), default=0)
    if found != n_bytes:
        raise DataError(f"found {found} bytes of {what}, expected {n_bytes}: truncated or extended")
    payload = file.read(n_bytes)
    if _digest(header.tensors, header.metadata, payload) != header.metadata["sha256"]:
        raise DataError("the file was changed or damaged: its SHA-256 is not the one in its header")
    arrays = {}
    for name, (code, shape) in expected.items():
        dtype, begin = DTYPES[code], entries[name]["data_offsets"][0]
        numbers = np.frombuffer(payload, dtype, math.prod(shape), begin)
        arrays[name] = numbers.astype(dtype.newbyteorder("="), copy=False).reshape(shape)
    return arrays


def parse_json(text: str, what: str) -> Any:
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


def _entries(types: Mapping[str, TensorType]) -> dict[str, Any]:
    """Return the header's entry of every tensor."""
    entries, end = {}, 0
    for name, (code, shape) in types.items():
        begin, end = end, end + math.prod(shape) * DTYPES[code].itemsize
        entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": [begin, end]}
    return entries


def _digest(entries: Mapping[str, Any], metadata: Mapping[str, str], payload: bytes) -> str:
    """Return the SHA-256 digest that the docstring of this module defines."""
    rest = {key: value for key, value in metadata.items() if key != "sha256"}
    digest = sha256(_canonical({**entries, "__metadata__": rest}).encode())
    digest.update(payload)
    return digest.hexdigest()


def _canonical(value: Any) -> str:
    """Return `value` as ASCII JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
