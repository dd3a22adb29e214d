"""A file in the kernels' cache that is damaged, foreign or unsafe is never run, only replaced."""

import hashlib
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fastnn.kernels.compiler import background, cache, kernel_file, machine, versions
from fastnn.kernels.compiler import folder as folders
from fastnn.kernels.compiler.arguments import Record
from fastnn.kernels.compiler.folder import PrivateFolder, UnsafeFileError
from fastnn.kernels.jit import kernel

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX owners, modes and signals")
FLIPS, SEED = 60, 16


def _doubled(array, out):
    for k in range(array.size):
        out[k] = 2 * array[k] + 1


def _halved(array, out):
    for k in range(array.size):
        out[k] = array[k] / 2


def _call(function):
    """The result of a kernel that has nothing in memory, so that it comes from the disk or is compiled."""
    compiled, out = kernel(function), np.zeros(3)
    compiled(np.arange(3.0), out)
    return out.tolist(), sum(each.was_on_disk for each in compiled.versions.values())


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The folder of kernels, empty; nothing has been warned of."""
    path = tmp_path / "kernels"
    monkeypatch.setattr(cache, "cache_folder", lambda: path)
    monkeypatch.setattr(cache, "warned", set())
    return path


@pytest.fixture
def saved(folder):
    """The file of the kernel `_doubled`."""
    assert _call(_doubled) == ([1, 3, 5], 0)
    return _file(folder, "_doubled")


def _file(folder, name):
    (path,) = folder.glob(f"*.{name}-*.kernel")
    return path


@pytest.fixture
def run(monkeypatch):
    """The machine code that was loaded."""
    seen, load = [], machine.load

    def recorded(code):
        seen.append(code)
        return load(code)

    monkeypatch.setattr(machine, "load", recorded)
    return seen


def _assert_refused(path, data, run, monkeypatch):
    """The cache does not load these contents, says so once, and compiles the kernel."""
    path.write_bytes(data)
    run.clear()
    monkeypatch.setattr(cache, "warned", set())
    kind = f"{Record(np.zeros(3)).kind} {Record(np.zeros(3)).kind}"
    with pytest.warns(RuntimeWarning, match="cannot be used") as caught:
        loaded = [versions._from_disk(kernel(_doubled), kind) for _ in range(2)]
    assert loaded == [None, None]
    assert len(caught) == 1
    assert str(path.parent) in str(caught[0].message)
    assert run == []


def test_a_whole_file_is_used(saved, run):
    assert _call(_doubled) == ([1, 3, 5], 1)
    assert len(run) == 1
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600 or os.name == "nt"


def test_a_changed_bit_is_seen_before_anything_is_run(saved, run, monkeypatch):
    """In the header and the key, and anywhere in the payload, of which half is machine code."""
    data, draw, header = saved.read_bytes(), np.random.default_rng(SEED), 500
    places = [*draw.integers(0, header, FLIPS // 2), *draw.integers(header, len(data), FLIPS // 2)]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << int(draw.integers(8))
        _assert_refused(saved, bytes(changed), run, monkeypatch)


def test_a_cut_at_any_length_is_seen_before_anything_is_run(saved, run, monkeypatch):
    data, header = saved.read_bytes(), len(kernel_file.MAGIC) + 36
    draw = np.random.default_rng(SEED)
    for length in [*range(header + 1), *draw.integers(header, len(data), 20), len(data) - 1]:
        _assert_refused(saved, data[:length], run, monkeypatch)
    _assert_refused(saved, data + b"\0", run, monkeypatch)


def test_zeroed_pages_are_seen_before_anything_is_run(saved, run, monkeypatch):
    """A power cut can leave them."""
    data = saved.read_bytes()
    for start in range(0, len(data), 4096):
        zeroed = data[:start] + bytes(len(data[start : start + 4096])) + data[start + 4096 :]
        _assert_refused(saved, zeroed, run, monkeypatch)


def test_the_file_of_another_kernel_is_not_used(saved, folder, run, monkeypatch):
    """It is whole and has its digest, but another name stands in it."""
    assert _call(_halved) == ([0, 0.5, 1], 0)
    _assert_refused(saved, _file(folder, "_halved").read_bytes(), run, monkeypatch)


class _Planted:
    """Pickled, an order to create a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


@pytest.mark.parametrize("header", ["none", "of another format", "with a wrong digest"])
def test_a_planted_pickle_runs_nothing(header, saved, run, monkeypatch, tmp_path):
    planted = pickle.dumps(_Planted(tmp_path / "ran"))
    whole = kernel_file.pack("key", planted)
    starts = {
        "none": b"",
        "of another format": b"fastnn kernel 0\n" + whole[16:48],
        "with a wrong digest": kernel_file.MAGIC + hashlib.sha256(planted).digest(),
    }
    _assert_refused(saved, starts[header] + planted, run, monkeypatch)
    _assert_refused(saved, whole, run, monkeypatch)
    assert not (tmp_path / "ran").exists()
    pickle.loads(planted)  # it would have
    assert (tmp_path / "ran").exists()


def test_a_damaged_file_is_replaced_and_said_once(saved, folder):
    assert _call(_halved) == ([0, 0.5, 1], 0)
    for path in folder.glob("*.kernel"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning) as caught:
        assert (_call(_doubled), _call(_halved)) == (([1, 3, 5], 0), ([0, 0.5, 1], 0))
    assert len(caught) == 1
    assert f"in {folder} cannot be used (its SHA-256 digest differs)" in str(caught[0].message)
    assert (_call(_doubled), _call(_halved)) == (([1, 3, 5], 1), ([0, 0.5, 1], 1))


@posix
@pytest.mark.parametrize("change", ["writable", "owner", "link", "pipe", "folder", "huge"])
def test_a_file_that_another_user_may_have_written_is_not_read(change, saved, monkeypatch, run, tmp_path):
    copy = tmp_path / "copy"
    copy.write_bytes(saved.read_bytes())
    copy.chmod(0o600)
    if change == "writable":
        saved.chmod(0o622)
    elif change == "owner":
        if os.geteuid():
            pytest.skip("only root can give a file away")
        os.chown(saved, 12345, -1)
    elif change == "huge":
        os.truncate(saved, folders._MOST_BYTES + 1)  # sparse
    else:
        saved.unlink()
        {"link": lambda: saved.symlink_to(copy), "pipe": lambda: os.mkfifo(saved), "folder": saved.mkdir}[change]()
    with PrivateFolder(saved.parent) as private, pytest.raises(UnsafeFileError):
        private.read(saved.name)
    with pytest.warns(RuntimeWarning) as caught:
        assert _call(_doubled) == ([1, 3, 5], 0)
    assert len(run) == 1  # what was compiled
    assert "cannot be used" in str(caught[0].message)
    if change == "folder":  # a folder is not removed
        assert "could not be saved" in str(caught[1].message)
    else:
        assert _call(_doubled) == ([1, 3, 5], 1)
        assert copy.read_bytes()[:16] == kernel_file.MAGIC


@posix
def test_a_folder_that_is_a_link_is_not_used(tmp_path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(PermissionError, match="link is a symbolic link"):
        PrivateFolder(tmp_path / "link", create=True)
    with PrivateFolder(tmp_path / "link" / "below", create=True):  # a parent may be one
        assert (tmp_path / "real" / "below").is_dir()


@posix
@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    ("mode", "owner", "refused"),
    [
        (0o755, "own", False), (0o755, "root", False), (0o755, "other", True), (0o777, "own", True),
        (0o1777, "root", False), (0o1777, "own", False), (0o1777, "other", True), (0o775, "own", True),
        (0o1775, "own", False),
    ],
)  # fmt: skip
def test_parents_that_another_user_may_change_are_refused(mode, owner, refused, create, tmp_path, monkeypatch):
    """As with the HOME of another user, which `sudo -E` keeps. The owners are simulated."""
    parent, me = tmp_path / "parent", 4321
    owners = {"own": me, "root": 0, "other": 1234}
    (parent / "kernels").mkdir(parents=True, mode=0o700)
    lstat, fstat = os.lstat, os.fstat

    def changed(status, path):
        user, bits = (me, 0o700) if path == str(parent / "kernels") else (0, 0o755)
        if path == str(parent):
            user, bits = owners[owner], mode
        fields = list(status)
        fields[0], fields[4], fields[5] = stat.S_IFMT(status.st_mode) | bits, user, 4321
        return os.stat_result(fields)

    monkeypatch.setattr(folders.os, "geteuid", lambda: me)
    monkeypatch.setattr(folders.os, "lstat", lambda path: changed(lstat(path), path))
    monkeypatch.setattr(folders.os, "fstat", lambda descriptor: changed(fstat(descriptor), str(parent / "kernels")))
    if refused:
        with pytest.raises(PermissionError, match=f"{parent} is owned or writable by another user"):
            PrivateFolder(parent / "kernels", create)
    else:
        PrivateFolder(parent / "kernels", create).close()


@posix
@pytest.mark.parametrize(("mode", "owner"), [(0o720, None), (0o702, None), (0o1777, None), (0o700, 12345)])
def test_a_folder_of_kernels_is_for_its_user_alone(mode, owner, tmp_path):
    """Even a sticky one: another user could add files to it."""
    path = tmp_path / "kernels"
    path.mkdir()
    path.chmod(mode)
    if owner:
        if os.geteuid():
            pytest.skip("only root can give a folder away")
        os.chown(path, owner, -1)
    with pytest.raises(PermissionError, match="kernels is owned or writable by another user"):
        PrivateFolder(path, create=True)


@posix
def test_the_link_of_another_user_in_a_shared_folder_is_not_followed(tmp_path):
    if os.geteuid():
        pytest.skip("only root can give a link away")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "real").mkdir()
    (shared / "link").symlink_to(tmp_path / "real")
    PrivateFolder(shared / "link" / "kernels", create=True).close()
    os.lchown(shared / "link", 12345, -1)
    with pytest.raises(PermissionError, match="link of another user"):
        PrivateFolder(shared / "link" / "kernels", create=True)


@posix
def test_missing_parents_are_created_for_the_user_alone(tmp_path):
    with PrivateFolder(tmp_path / "a" / "b" / "kernels", create=True):
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError):
        PrivateFolder(tmp_path / "c")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    with PrivateFolder(tmp_path / "kernels", create=True) as private:
        private.replace("file", b"old")
        for name in ("fsync", "replace"):
            with monkeypatch.context() as broken:
                broken.setattr(folders.os, name, _raise_no_space)
                with pytest.raises(OSError, match="No space"):
                    private.replace("file", b"new")
            assert private.read("file") == b"old"
            assert set(private.names()) == {"file", ".lock"} - ({".lock"} if os.name == "nt" else set())
        private.replace("file", b"new")
        assert private.read("file") == b"new"


def _raise_no_space(*_, **__):
    raise OSError(28, "No space left on device")


def test_what_killed_writers_have_left_is_removed_when_it_is_old(tmp_path):
    with PrivateFolder(tmp_path / "kernels", create=True) as private:
        for name, age in (("old.tmp", 3700), ("new.tmp", 0), ("old.kernel", 3700)):
            (tmp_path / "kernels" / name).write_bytes(b"")
            os.utime(tmp_path / "kernels" / name, (time.time() - age,) * 2)
        private.replace("file", b"")
        assert {name for name in private.names() if name != ".lock"} == {"new.tmp", "old.kernel", "file"}


@posix
def test_a_lock_that_is_held_for_ever_only_delays(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr(folders, "_LOCK_SECONDS", 0.05)
    with PrivateFolder(tmp_path / "kernels", create=True) as private, open(tmp_path / "kernels" / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        private.replace("file", b"new")
        assert private.read("file") == b"new"


def test_options_of_numba_that_change_the_code_have_files_of_their_own(saved, folder, monkeypatch):
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    assert _call(_doubled) == ([1, 3, 5], 0)
    assert len(list(folder.glob("*._doubled-*.kernel"))) == 2


def test_functions_that_differ_in_a_constant_have_files_of_their_own(folder):
    """They have the same name and the same byte code."""
    results = []
    for factor in "23":
        scope = {}
        exec(f"def f(array, out):\n for k in range(array.size):\n  out[k] = {factor} * array[k]", scope)
        scope["f"].__module__ = __name__
        results.append(_call(scope["f"]))
    assert results == [([0, 2, 4], 0), ([0, 3, 6], 0)]


def test_a_folder_that_cannot_be_written_gives_one_warning(folder, monkeypatch):
    monkeypatch.setattr(folders.os, "fsync", _raise_no_space)
    with pytest.warns(RuntimeWarning, match="could not be saved in .*No space left") as caught:
        assert (_call(_doubled), _call(_halved)) == (([1, 3, 5], 0), ([0, 0.5, 1], 0))
    assert len(caught) == 1
    assert list(folder.glob("[!.]*")) == []


def _slow(seconds, calls, error=None):
    """A kernel in the place of Numba's: compiling takes some seconds."""
    name = threading.get_ident()

    def make(signature):
        calls.append((signature, threading.current_thread()))
        time.sleep(seconds)
        if error:
            raise error
        return signature, name

    return _Compiled(make)


class _Compiled:
    """What `compile_apart` knows of a kernel; `compile` makes a version of it."""

    __name__ = "slow"

    def __init__(self, make):
        self._make = make

    def compile(self, signature):
        return background.compile_apart(self, signature, lambda: self._make(signature))


def test_several_threads_that_need_a_kernel_wait_for_one_compilation():
    calls, results = [], []
    slow = _slow(0.2, calls)
    threads = [threading.Thread(target=lambda: results.append(slow.compile("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(set(results)) == 1
    assert len(results) == 8
    assert calls[0][1] not in threads


def test_an_error_of_the_compiler_reaches_the_caller_and_is_not_kept():
    calls = []
    slow = _slow(0, calls, ValueError("wrong"))
    for _ in range(2):
        with pytest.raises(ValueError, match="wrong"):
            slow.compile("a")
    assert len(calls) == 2
    assert background._jobs == {}


def test_a_compilation_within_a_compilation_starts_no_thread():
    calls = []
    inner = _slow(0, calls)
    outer = _Compiled(lambda _: inner.compile("a"))
    outer.compile("b")
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:  # as when the user's own function calls a kernel
        inner.compile("c")
    assert calls[0][1] is not threading.current_thread()
    assert calls[1][1] is threading.current_thread()


def test_where_no_thread_can_start_the_caller_compiles(monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    calls = []
    monkeypatch.setattr(threading.Thread, "start", start)
    _slow(0, calls).compile("a")
    assert [thread for _, thread in calls] == [threading.current_thread()]


def test_a_member_of_a_team_that_is_stopped_waits_no_longer():
    calls, errors, stop = [], [], threading.Event()
    slow = _slow(0.5, calls)

    def member():
        background.stop_waiting_when(stop.is_set)
        try:
            slow.compile("a")
        except background.InterruptedWaitError as error:
            errors.append(error)

    thread = threading.Thread(target=member)
    thread.start()
    stop.set()
    thread.join(0.4)
    assert len(errors) == 1
    background._finish()


@posix
def test_ctrl_c_interrupts_the_wait_and_the_next_call_takes_the_result():
    """A second Ctrl-C too. The kernel is compiled once."""
    calls = []
    slow = _slow(1.0, calls)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for _ in range(2):
            timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                slow.compile("a")
            assert len(background._jobs) == 1  # it goes on
        slow.compile("a")
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) == 1
    assert background._jobs == {}


@posix
def test_ctrl_c_at_the_start_of_the_thread_loses_nothing(monkeypatch):
    """The job is there, but no thread runs it: the next call starts one."""
    calls = []
    slow = _slow(0, calls)

    def interrupted(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            slow.compile("a")
    background._finish()  # as before a fork: there is nothing to wait for
    assert slow.compile("a")[0] == "a"
    assert len(calls) == 1


COMPILING = """
import os, sys, threading, time
import numpy as np
import fastnn
from fastnn.backends import compiled
from fastnn.kernels.compiler import background
network = fastnn.Network.initialize((4, 10, 2))
def answer():
    try:
        compiled.predict_proba(network, np.zeros((1, 4), np.uint8), 1)
    except KeyboardInterrupt:
        print("interrupted", time.time(), flush=True)
        return True
"""
# At the end of the process, the compiler is in one of its phases: Python, the optimiser, or the emission of code.
ENDS = "print(time.time(), flush=True)\nif answer():\n    ENDING"
DAEMON = """
print(time.time(), flush=True)
threading.Thread(target=answer, daemon=True).start()
time.sleep(SECONDS)
print("main ends", time.time(), flush=True)
"""
RESUMES = """
print(time.time(), flush=True)
assert answer()
assert len(background._jobs) == 1
compiled.predict_proba(network, np.zeros((1, 4), np.uint8), 1)
from fastnn.kernels.compiler import cache
print(sum(each.kernel == "predict" for each in cache.compilations))
"""


def _start(folder, program):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", COMPILING + program]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    return process


def _interrupt(process, seconds):
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    sent = time.time()
    out, err = process.communicate(timeout=60)
    return sent, out.split(), err


@posix
@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "ending", "code"),
    [(0.3, "raise", -signal.SIGINT), (1.5, "sys.exit(130)", 130), (3.0, "raise", -signal.SIGINT)],
)
def test_ctrl_c_while_a_kernel_compiles_ends_the_process(seconds, ending, code, tmp_path):
    """Whatever the compiler does at that moment. The limits are wide; an idle machine takes milliseconds."""
    ending = "raise KeyboardInterrupt" if ending == "raise" else ending
    process = _start(tmp_path, ENDS.replace("ENDING", ending))
    sent, out, err = _interrupt(process, seconds)
    assert out[0] == "interrupted", (out, err)
    assert process.returncode == code, err
    assert "ignored" not in err
    assert err == "" or err.rstrip().endswith("KeyboardInterrupt")
    assert float(out[1]) - sent < 2


@posix
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 2])
def test_the_end_of_the_process_waits_for_no_daemon_that_compiles(seconds, tmp_path):
    process = _start(tmp_path, DAEMON.replace("SECONDS", str(seconds)))
    out, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("main ends")


@posix
@pytest.mark.slow
def test_after_ctrl_c_the_kernel_is_compiled_on_and_used(tmp_path):
    process = _start(tmp_path, RESUMES)
    _, out, err = _interrupt(process, 0.5)
    assert (process.returncode, err) == (0, "")
    assert out[0] == "interrupted"
    assert out[2] == "1"
    again = "answer(); from fastnn.kernels.compiler import cache; print(cache.compilations, cache.loads())"
    assert _run(tmp_path, COMPILING + again).communicate(timeout=60) == ("[] 1\n", "")


PROGRAM = """
import numpy as np
from fastnn.backends import compiled
from fastnn.kernels.ops import activations
versions = activations.relu.versions.values
print(compiled.relu(np.array([[-1.0, 2.0]])).tolist(), sum(each.was_on_disk for each in versions()))
"""


def _run(folder, program=PROGRAM, **variables):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)} | variables
    return subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_four_processes_that_compile_at_once_leave_one_whole_file(tmp_path):
    for process in [_run(tmp_path) for _ in range(4)]:
        out, err = process.communicate(timeout=300)
        assert (out[:13], err) == ("[[0.0, 2.0]] ", "")
    (path,) = tmp_path.iterdir()
    assert len([file for file in path.iterdir() if file.suffix == ".kernel"]) == 1
    assert not list(path.glob("*.tmp"))
    assert _run(tmp_path).communicate(timeout=100) == ("[[0.0, 2.0]] 1\n", "")


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))"
MORE = "compiled.relu_backward(np.ones((1, 2)), np.ones((1, 2)))"


@posix
@pytest.mark.slow
def test_a_full_disk_gives_one_warning(tmp_path):
    """A limit of the size of files fails a write as a full disk does, in the middle."""
    out, err = _run(tmp_path, LIMITED + PROGRAM + MORE).communicate(timeout=100)
    assert out == "[[0.0, 2.0]] 0\n"
    assert err.count("RuntimeWarning") == 1
    assert "could not be saved" in err
    (path,) = tmp_path.iterdir()
    assert [file.name for file in path.iterdir()] == [".lock"]


NAMELESS = """
import os, pwd
def getpwuid(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"): os.environ.pop(name, None)
"""


@posix
@pytest.mark.slow
def test_a_user_without_a_home_gets_one_warning_for_all_kernels(tmp_path):
    out, err = _run("", NAMELESS + PROGRAM + MORE).communicate(timeout=100)
    assert out == "[[0.0, 2.0]] 0\n"
    assert err.count("RuntimeWarning") == 1
    assert "compiled kernels cannot be kept on disk" in err


@posix
@pytest.mark.slow
def test_the_home_of_another_user_is_not_used(tmp_path):
    """As under `sudo -E`. Nothing is created there."""
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(tmp_path, 12345, -1)
    variables = {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": str(tmp_path)}
    out, err = _run("", PROGRAM + MORE, **variables).communicate(timeout=100)
    assert out == "[[0.0, 2.0]] 0\n"
    assert err.count("RuntimeWarning") == 1
    assert f"{tmp_path} is owned or writable by another user (owner 12345" in err
    assert list(tmp_path.iterdir()) == []


DISABLED = """
import warnings
warnings.simplefilter("always")
import fastnn
print(fastnn.get_backend("auto").__name__)
try:
    fastnn.get_backend("numba")
except fastnn.errors.MissingDependencyError as error:
    print(error)
"""


@pytest.mark.slow
def test_numba_that_compiles_nothing_leaves_the_reference(tmp_path):
    out, err = _run(tmp_path, DISABLED, NUMBA_DISABLE_JIT="1").communicate(timeout=100)
    backend, failure = out.splitlines()
    assert backend == "fastnn.backends.reference"
    assert failure.startswith('backend "numba" needs Numba, which cannot be used (NUMBA_DISABLE_JIT is set')
    assert err.count("RuntimeWarning") == 1
