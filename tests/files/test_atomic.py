"""Tests of atomic writes: after any failure there is the old file or the new one, and no temporary file."""

import builtins
import errno
import io
import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from fastnn.errors import FileError
from fastnn.files import atomic
from fastnn.files.atomic import write_atomically

OLD = b"the old content"
NEW = b"the new content, which is longer"


@pytest.fixture
def old_file(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(OLD)
    path.chmod(0o640)
    return path


def refused(path, content, *parts):
    """Assert that writing raises an error of one line that contains `parts`."""
    with pytest.raises(FileError) as error:
        write_atomically(path, content)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert str(part) in message


def test_a_new_file_gets_the_default_permissions(tmp_path):
    path = tmp_path / "new.bin"
    mask = os.umask(0o027)
    try:
        write_atomically(path, NEW)
    finally:
        os.umask(mask)
    assert path.read_bytes() == NEW
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["new.bin"]


def test_an_old_file_is_replaced_and_its_permissions_stay(old_file):
    with open(old_file, "rb") as reader:
        write_atomically(str(old_file), memoryview(NEW))
        assert reader.read() == OLD, "a reader that has the old file open keeps reading it"
    assert old_file.read_bytes() == NEW
    assert stat.S_IMODE(old_file.stat().st_mode) == 0o640


def test_the_size_of_a_multidimensional_memoryview_is_in_bytes(tmp_path):
    view = memoryview(bytes(24)).cast("i", (2, 3))
    write_atomically(tmp_path / "new.bin", view)
    assert (tmp_path / "new.bin").read_bytes() == bytes(24)
    refused(tmp_path / "missing" / "new.bin", view, "cannot write 24 bytes")


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    target = tmp_path / "disk" / "model.bin"
    link = tmp_path / "run" / "latest.bin"
    link.symlink_to(os.path.join("..", "disk", "model.bin"))
    for content in (OLD, NEW):  # the link is dangling at first
        write_atomically(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
        assert os.listdir(tmp_path / "run") == ["latest.bin"]
        assert os.listdir(tmp_path / "disk") == ["model.bin"]


@pytest.mark.parametrize(("path", "parts"), [
    ("", ["it is a folder"]),
    ("pipe", ["a device, a pipe or a socket"]),
    ("circle", [os.strerror(errno.ELOOP)]),
    ("model.safetensors/model.bin", [os.strerror(errno.ENOTDIR)]),
    ("missing/model.bin", [f"cannot write {len(NEW)} bytes", "the folder ", "missing does not exist"]),
    ("missing/two\nlines", [r"two\nlines"]),
    ("nul\0.bin", [r"nul\x00.bin", "cannot write"]),
    ("half\ud800.bin", [r"half\ud800.bin", "cannot write"]),
])  # fmt: skip
def test_a_path_that_cannot_be_written_is_named_on_one_line(old_file, path, parts):
    os.mkfifo(old_file.parent / "pipe")
    (old_file.parent / "circle").symlink_to(old_file.parent / "circle")
    before = sorted(os.listdir(old_file.parent))
    refused(os.path.join(old_file.parent, path), NEW, old_file.parent, *parts)
    assert sorted(os.listdir(old_file.parent)) == before
    assert stat.S_ISFIFO(os.stat(old_file.parent / "pipe").st_mode)


def test_an_empty_path_is_an_error():
    refused("", NEW, "''", "cannot write")


def test_a_read_only_folder_is_an_error(old_file, monkeypatch):
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), old_file)
    monkeypatch.setattr(os, "open", Mock(side_effect=error))
    refused(old_file, NEW, old_file, f"{len(NEW)} bytes", os.strerror(errno.EACCES))
    assert old_file.read_bytes() == OLD


def test_the_temporary_file_is_private_until_it_is_complete(old_file, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(os.fstat(descriptor)))
    write_atomically(old_file, NEW)
    assert (stat.S_IMODE(seen[0].st_mode), seen[0].st_size) == (0o600, len(NEW))


class Injector:
    """Makes the n-th system call of a write fail, and records which one it was."""

    def __init__(self, monkeypatch, nth, make_error):
        self.nth, self.make_error, self.count, self.failed = nth, make_error, 0, None
        for name in ("open", "fstat", "close", "chmod", "fsync", "replace"):
            self.wrap(monkeypatch, os, name)
        monkeypatch.setattr(builtins, "open", self.open_file)

    def open_file(self, path, mode, **keywords):
        self.fail("open")
        file = io.FileIO(path, mode, **keywords)
        write = file.write

        def failing(data):
            self.fail("write", lambda: write(data[: len(data) // 2]))  # half of the data, like on a full disk
            return write(data)

        file.write = failing
        return file

    def wrap(self, monkeypatch, module, name):
        original = getattr(module, name)

        def wrapped(*arguments, **keywords):
            # A close that fails still closes the descriptor.
            self.fail(name, lambda: original(*arguments, **keywords) if name == "close" else None)
            return original(*arguments, **keywords)

        monkeypatch.setattr(module, name, wrapped)

    def fail(self, name, first=lambda: None):
        self.count += 1
        if self.count == self.nth:
            self.failed = name
            first()
            raise self.make_error()


MAKERS = {
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "EIO": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "Ctrl-C": KeyboardInterrupt,
}


@pytest.mark.parametrize("existing", [True, False], ids=["old file", "no file"])
@pytest.mark.parametrize("make_error", MAKERS.values(), ids=MAKERS)
def test_any_failing_call_leaves_one_whole_file_and_no_temporary_file(tmp_path, make_error, existing):
    path = tmp_path / "model.bin"
    if existing:
        path.write_bytes(OLD)
    before = OLD if existing else None
    failed = []
    for nth in range(1, 100):
        with pytest.MonkeyPatch.context() as monkeypatch:
            injector = Injector(monkeypatch, nth, make_error)
            try:
                write_atomically(path, NEW)
                raised = None
            except (FileError, KeyboardInterrupt) as error:
                raised = error
        names = os.listdir(tmp_path)
        content = path.read_bytes() if names else None
        assert names in (["model.bin"], []), f"left behind by a failing {injector.failed}"
        if injector.failed is None:
            break
        assert raised is not None, f"a failing {injector.failed} went unnoticed"
        if isinstance(raised, FileError):
            assert len(str(raised).splitlines()) == 1
            assert str(path) in str(raised)
            assert raised.__cause__.strerror in str(raised)
        if "replace" not in failed:
            assert content == before, f"changed by a failing {injector.failed}"
            assert isinstance(raised, KeyboardInterrupt) or f"{len(NEW)} bytes" in str(raised)
        else:  # after the rename, the new file is complete
            assert content == NEW
            assert isinstance(raised, KeyboardInterrupt) or "the file is written" in str(raised)
            path.unlink()
            if existing:
                path.write_bytes(OLD)
        failed.append(injector.failed)
    assert raised is None
    assert content == NEW
    assert {"open", "write", "fsync", "replace"} <= set(failed)
    assert failed.index("fsync") < failed.index("replace"), "the content must be synced before the rename"
    assert failed[failed.index("replace") + 1] == "fsync", "the folder must be synced after the rename"


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_folder_that_does_not_support_sync_is_not_an_error(old_file, monkeypatch, call):
    original = getattr(os, call)

    def refuse(target, *arguments):
        status = os.fstat(target) if call == "fsync" else os.stat(target) if os.path.exists(target) else None
        if status is not None and stat.S_ISDIR(status.st_mode):
            number = errno.EINVAL if call == "fsync" else errno.EACCES
            raise OSError(number, os.strerror(number))
        return original(target, *arguments)

    monkeypatch.setattr(os, call, refuse)
    write_atomically(old_file, NEW)
    assert old_file.read_bytes() == NEW


def test_concurrent_writers_leave_one_whole_file(tmp_path):
    path = tmp_path / "model.bin"
    contents = [bytes([number]) * 50_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_atomically, [path] * 8, contents))
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["model.bin"]


def temporary_files(folder):
    return [name for name in os.listdir(folder) if name.endswith(".tmp")]


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_the_next_write_removes_what_killed_processes_left(tmp_path):
    """Each process is killed at the sync of its file, so each leaves one, which the next one removes."""
    program = (
        "import os, signal, sys; from fastnn.files.atomic import write_atomically\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(sys.argv[1], b'new')"
    )
    path = tmp_path / "model.bin"
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", program, path]).returncode == -signal.SIGKILL
        assert len(temporary_files(tmp_path)) == 1
    (tmp_path / ".fastnn-notes.tmp").write_text("another file")
    write_atomically(path, NEW)
    assert temporary_files(tmp_path) == [".fastnn-notes.tmp"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX locks")
def test_the_temporary_file_of_a_living_process_stays(tmp_path, monkeypatch):
    """While one write waits for the disk, another one into the same folder leaves its temporary file alone."""
    fsync = os.fsync

    def write_another(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        write_atomically(tmp_path / "other.bin", OLD)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", write_another)
    write_atomically(tmp_path / "model.bin", NEW)
    assert (tmp_path / "model.bin").read_bytes() == NEW
    assert sorted(os.listdir(tmp_path)) == ["model.bin", "other.bin"]


@pytest.mark.parametrize(("age", "left"), [(10, 1), (7200, 0)])
def test_without_locks_only_old_temporary_files_are_removed(tmp_path, monkeypatch, age, left):
    monkeypatch.setattr(atomic, "try_lock", lambda _: None)
    abandoned = tmp_path / f".fastnn-{'0' * 16}.tmp"
    abandoned.write_bytes(OLD)
    os.utime(abandoned, (time.time() - age,) * 2)
    write_atomically(tmp_path / "model.bin", NEW)
    assert len(temporary_files(tmp_path)) == left


def test_a_temporary_file_taken_for_an_abandoned_one_is_replaced_by_another(tmp_path, monkeypatch):
    answers = iter([False, True])
    monkeypatch.setattr(atomic, "try_lock", lambda _: next(answers))
    write_atomically(tmp_path / "model.bin", NEW)
    assert os.listdir(tmp_path) == ["model.bin"]
    monkeypatch.setattr(atomic, "try_lock", lambda _: False)  # forever: it is written all the same
    write_atomically(tmp_path / "model.bin", OLD)
    assert (tmp_path / "model.bin").read_bytes() == OLD
    assert os.listdir(tmp_path) == ["model.bin"]
