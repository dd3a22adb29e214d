"""Random damage to the bytes of a file, and to the parts of its format under valid checksums.

A `Structure` splits a file into parts and joins parts to a file whose lengths and checksums are valid, so that damage
reaches the code behind these checks.
"""

import gzip
import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import NamedTuple

# Numbers at which the sizes and the counts of a format overflow, by their width in bytes.
NUMBERS = {
    width: [*range(4), (1 << bits) - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1, (1 << bits) - 2, 1 << (bits // 2)]
    for width in (1, 2, 4, 8)
    for bits in (8 * width,)
}
TOKENS = [
    b"", b"0", b"-1", b"1e999", b"-0", b"nan", b"NaN", b"inf", b"-Infinity", b"1e308", b"5e-324", b"0x10", b"1_0",
    b"9223372036854775808", b"18446744073709551616", b"9" * 400, b"1" * 5000, b"null", b"true", b"[]", b"{}",
    b'"', b"'", b"\\", b"\0", b"\n", b"\r", b"\r\n", b",", b";", b"\t", b" ", b":", b"?", b"%", b"#", b"@",
    b"[" * 2000, b'{"a":' * 500, b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3\x28", "\u2028é\u202e".encode(), b"\x1b[31m",
    b"../../x", b"/etc/passwd", b"=1+1", b"1970-01-01", b"," * 300, b"a" * 20000, b"object", b"<U9", b">f8", b"V16",
    b"-", b"\\ud800",
]  # fmt: skip


def _position(rng: Random, data: bytes) -> int:
    """Return a position in `data`; half of them are in the first 64 bytes, where most headers are."""
    return rng.randrange(len(data) if rng.random() < 0.5 else min(64, len(data)))


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    """Return the bounds of a block, which is short more often than long."""
    start = _position(rng, data)
    return start, min(len(data), start + 1 + int(len(data) ** rng.random()))


def _flip(rng: Random, data: bytes, other: bytes) -> bytes:
    at = _position(rng, data)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _replace(rng: Random, data: bytes, other: bytes) -> bytes:
    at = _position(rng, data)
    return data[:at] + bytes([rng.choice([0, 255, rng.randrange(256)])]) + data[at + 1 :]


def _number(rng: Random, data: bytes, other: bytes) -> bytes:
    width, at = rng.choice(list(NUMBERS)), _position(rng, data)
    at -= at % rng.choice([1, width])
    return data[:at] + rng.choice(NUMBERS[width]).to_bytes(width, rng.choice(["little", "big"])) + data[at + width :]


def _insert(rng: Random, data: bytes, other: bytes) -> bytes:
    at = _position(rng, data)
    return data[:at] + rng.choice([rng.randbytes(rng.randint(1, 9)), rng.choice(TOKENS)]) + data[at:]


def _delete(rng: Random, data: bytes, other: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _cut(rng: Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _duplicate(rng: Random, data: bytes, other: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:end] * rng.choice([1, 1, 2, 50]) + data[end:]


def _swap(rng: Random, data: bytes, other: bytes) -> bytes:
    (a, b), (c, d) = sorted([_span(rng, data), _span(rng, data)])
    b = min(b, c)
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _fill(rng: Random, data: bytes, other: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + bytes([rng.choice([0, 255, 32, 48])]) * (end - start) + data[end:]


def _splice(rng: Random, data: bytes, other: bytes) -> bytes:
    return data[: _position(rng, data)] + other[rng.randrange(len(other)) if other else 0 :]


MUTATIONS = (_flip, _replace, _number, _insert, _delete, _cut, _duplicate, _swap, _fill, _splice)


def damaged(rng: Random, data: bytes, other: bytes) -> bytes:
    """Return `data` after one to four random changes; `other` is a file to splice with."""
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        if data:
            data = rng.choice(MUTATIONS)(rng, data, other)
    return data


class Structure(NamedTuple):
    """A format's parts: a file -> its parts, and parts -> a file with valid lengths and checksums."""

    split: Callable[[bytes], list[bytes]]
    join: Callable[[list[bytes]], bytes]


def damaged_parts(rng: Random, structure: Structure, data: bytes, other: bytes) -> bytes:
    """Return a file of which some parts are changed, missing, repeated or exchanged, with valid checksums."""
    parts = structure.split(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if not parts:
            break
        at, to = rng.randrange(len(parts)), rng.randrange(len(parts))
        kind = rng.randrange(8)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts[at:at] = [parts[to]] * rng.choice([1, 1, 2, 40])
        elif kind == 2:
            parts[at], parts[to] = parts[to], parts[at]
        elif kind == 3:
            parts[at] = parts[to]
        elif kind == 4:
            parts[at] = rng.choice(TOKENS)
        else:
            parts[at] = damaged(rng, parts[at], other)
    return structure.join(parts)


# --- The structures of formats ---------------------------------------------------------------------------------------
_TOKEN = re.compile(rb"[A-Za-z_]+|[-+.\d]+|\s+|[\s\S]")
text = Structure(_TOKEN.findall, b"".join)
lines = Structure(lambda data: data.splitlines(keepends=True), b"".join)
gz = Structure(lambda data: [gzip.decompress(data)], lambda parts: gzip.compress(b"".join(parts), 1, mtime=0))


def _split_zip(data: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [part for name in archive.namelist() for part in (name.encode(), archive.read(name))]


def _join_zip(parts: list[bytes]) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, content in zip(parts[::2], parts[1::2], strict=False):
            member = zipfile.ZipInfo(name.decode("latin-1")[:60000].partition("\0")[0])  # zipfile would cut it there
            archive.writestr(member, content)
    return target.getvalue()


zipped = Structure(_split_zip, _join_zip)


def _split_npy(data: bytes) -> list[bytes]:
    end = 10 + int.from_bytes(data[8:10], "little")
    return [data[:8], *_TOKEN.findall(data[10:end]), data[end:]]


def _join_npy(parts: list[bytes]) -> bytes:
    start, *header, content = [*parts, b"", b""][: max(2, len(parts))]
    joined = b"".join(header)[:65535]
    return start + len(joined).to_bytes(2, "little") + joined + content


npy = Structure(_split_npy, _join_npy)


_MEMBER = b"\0member"  # stands between the members


def _split_npz(data: bytes) -> list[bytes]:
    """Return the tokens of the headers of all members, one after another, with their names between."""
    parts = _split_zip(data)
    return [
        each
        for name, content in zip(parts[::2], parts[1::2], strict=True)
        for each in (b"\0member", name, *_split_npy(content))
    ]


def _join_npz(parts: list[bytes]) -> bytes:
    members: list[list[bytes]] = []
    for part in parts:
        if part == _MEMBER or not members:
            members.append([])
        else:
            members[-1].append(part)
    return _join_zip([each for name, *content in filter(None, members) for each in (name, _join_npy(content))])


npz = Structure(_split_npz, _join_npz)


def _split_png(data: bytes) -> list[bytes]:
    """Return the chunks, without lengths and checksums; the pixels are decompressed."""
    parts, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        parts.append(kind + (zlib.decompress(content) if kind == b"IDAT" else content))
        at += 12 + length
    return parts


def _join_png(parts: list[bytes]) -> bytes:
    chunks = [b"\x89PNG\r\n\x1a\n"]
    for part in parts:
        kind, content = part[:4].ljust(4, b"x"), part[4:]
        content = zlib.compress(content) if kind == b"IDAT" else content
        chunks.append(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
    return b"".join(chunks)


png = Structure(_split_png, _join_png)


def _split_mat(data: bytes) -> list[bytes]:
    """Return the header of a MATLAB file and its variables, decompressed."""
    parts, at = [data[:128]], 128
    while at < len(data):
        _, length = struct.unpack_from("<II", data, at)
        parts.append(zlib.decompress(data[at + 8 : at + 8 + length]))
        at += 8 + length
    return parts


def _join_mat(parts: list[bytes]) -> bytes:
    packed = [zlib.compress(part) for part in parts[1:]]
    return b"".join([*parts[:1], *(struct.pack("<II", 15, len(part)) + part for part in packed)])


mat = Structure(_split_mat, _join_mat)


def _split_safetensors(data: bytes) -> list[bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return [*_TOKEN.findall(data[8:end]), data[end:]]


def _join_safetensors(parts: list[bytes]) -> bytes:
    """Join the parts of a safetensors file; if its header is one of fastnn's, its digest is valid."""
    header, payload = b"".join(parts[:-1]), parts[-1] if parts else b""
    try:
        content = json.loads(header)
        rest = {key: value for key, value in content["__metadata__"].items() if key != "sha256"}
        text = json.dumps({**content, "__metadata__": rest}, sort_keys=True, separators=(",", ":"))
        content["__metadata__"]["sha256"] = sha256(text.encode("ascii") + payload).hexdigest()
        header = json.dumps(content).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # damaged before its digest would be read
    return len(header).to_bytes(8, "little") + header + payload


safetensors = Structure(_split_safetensors, _join_safetensors)
