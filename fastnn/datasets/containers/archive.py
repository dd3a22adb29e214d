"""Reads the members of zip and tar archives, without writing them to a disk and within a limit of size."""

import tarfile
from io import BytesIO
from pathlib import PurePosixPath
from zipfile import ZipFile, ZipInfo

from fastnn.datasets.containers.magic import TAR, Kind
from fastnn.datasets.files import (
    MAX_BYTES,
    Allowance,
    Member,
    Source,
    allowance_of,
    check_unpacked,
    errors_named,
    open_content,
    read_whole,
    source_name,
)
from fastnn.errors import DataError

# Archives hold at most this number of files: more take gigabytes for their names alone.
_MAX_MEMBERS = 2_000_000


def read_archive(source: Source, kind: Kind, *, max_bytes: int = MAX_BYTES) -> list[Member]:
    """Return the files in a zip or tar archive, sorted by path, without hidden ones and those of operating systems.

    Raises DataError for a damaged or encrypted archive, or one that declares more than `max_bytes` or its allowance.
    """
    read = _read_tar if kind is TAR else _read_zip
    members = sorted(read(source, max_bytes), key=lambda member: member.path)
    if not members:
        raise DataError(f"{source_name(source)}: found {kind.what} without files, expected data files or pictures")
    return members


def is_hidden(parts: tuple[str, ...]) -> bool:
    """Return whether a path is hidden, or a file that operating systems add to folders and archives."""
    return any(
        part.startswith((".", "__MACOSX")) or part.lower() in ("thumbs.db", "desktop.ini", "ehthumbs.db")
        for part in parts
    )


def _read_zip(source: Source, max_bytes: int) -> list[Member]:
    name = source_name(source)
    with (
        open_content(source) as content,
        errors_named(f"{name}: the archive", "an intact zip archive"),
        ZipFile(content.raw) as archive,
    ):
        members = [member for member in archive.infolist() if not member.is_dir()]
        members = [member for member in members if not is_hidden(_parts(member.filename))]
        _check_count(len(members), name)
        check_unpacked(sum(member.file_size for member in members), content.allowance, max_bytes, name)
        return [_zip_member(archive, member, name, content.allowance) for member in members]


def _zip_member(archive: ZipFile, member: ZipInfo, name: str, allowance: Allowance) -> Member:
    where = f"{name}: {shown_member(member.filename)}"
    if member.flag_bits & 1:
        raise DataError(f"{where}: found an encrypted file, expected one without a password")
    with errors_named(where, "an intact file in the archive"), archive.open(member) as file:
        data = file.read(member.file_size + 1)
    return Member(where, PurePosixPath(*_parts(member.filename)), data, allowance)


def _read_tar(source: Source, max_bytes: int) -> list[Member]:
    name, allowance = source_name(source), allowance_of(source)
    data = read_whole(source, max_bytes)
    found: list[Member] = []
    with (
        errors_named(f"{name}: the archive", "an intact tar archive"),
        tarfile.open(fileobj=BytesIO(data), mode="r:") as archive,
    ):
        total = 0
        for member in archive:
            parts = _parts(member.name)
            # Links and devices are no data, and sparse files can declare any size.
            if not member.isreg() or member.issparse() or is_hidden(parts):
                continue
            total += member.size
            if total > len(data):
                raise DataError(f"{name}: declares {total} bytes of files, expected at most {len(data)}")
            _check_count(len(found), name)
            file = archive.extractfile(member)
            body = file.read() if file else b""
            if len(body) != member.size:
                raise DataError(f"{name}: {shown_member(member.name)}: found {len(body)} bytes, expected {member.size}")
            found.append(Member(f"{name}: {shown_member(member.name)}", PurePosixPath(*parts), body, allowance))
    return found


def shown_member(path: str) -> str:
    """Return the path of a member for a message: on one line, and not too long."""
    text = ascii(path)[1:-1]
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-90:]}"


def _parts(path: str) -> tuple[str, ...]:
    """Return the parts of a path in an archive. Nothing is written, so that ".." does no harm and is left out."""
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")) or ("unnamed",)


def _check_count(count: int, name: str) -> None:
    if count > _MAX_MEMBERS:
        raise DataError(f"{name}: found more than {_MAX_MEMBERS} files, expected fewer")
