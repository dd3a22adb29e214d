"""The file of one compiled kernel: what it is, the SHA-256 digest of the rest, the kernel's key, the kernel.

A file has, one after the other:

- `MAGIC`, with the number of this format
- the SHA-256 digest of all that follows, 32 bytes
- the number of bytes of the key, 4 bytes, big endian
- the key, UTF-8: names the kernel, its dtypes, the CPU, and the versions of all that compiled it
- the payload
"""

import hashlib

MAGIC = b"fastnn kernel 1\n"
_DIGEST, _LENGTH = len(MAGIC) + 32, 4


class DamagedFileError(Exception):
    """The contents of a file are not those that were written, or those of another kernel."""


def pack(key: str, payload: bytes) -> bytes:
    """The contents of a file."""
    name = key.encode()
    body = len(name).to_bytes(_LENGTH, "big") + name + payload
    return MAGIC + hashlib.sha256(body).digest() + body


def unpack(data: bytes, key: str) -> memoryview:
    """The payload in the contents of a file, exactly what `pack` was given.

    Raises DamagedFileError if a byte has changed, or if the file has another key.
    """
    body = memoryview(data)[_DIGEST:]
    if not data.startswith(MAGIC) or hashlib.sha256(body).digest() != data[len(MAGIC) : _DIGEST]:
        raise DamagedFileError("its SHA-256 digest differs")
    name = key.encode()
    prefix = len(name).to_bytes(_LENGTH, "big") + name
    if body[: len(prefix)] != prefix:
        raise DamagedFileError("it is the file of another kernel")
    return body[len(prefix) :]
