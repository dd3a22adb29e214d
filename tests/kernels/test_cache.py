"""Kernels on disk are loaded again and rebuilt when damaged. A failure of the cache never stops a run."""

import compileall
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module, invalidate_caches
from importlib.util import spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
from fastnn.backends import warmup
from fastnn.kernels.compiler import cache, is_plain_requested

# These tests start dozens of processes and compile kernels from scratch.
pytestmark = pytest.mark.slow

PROGRAM = """
import numpy as np
from fastnn.backends import compiled
from fastnn.kernels.ops import softmax
print(compiled.softmax(np.zeros((1, 2)))[0, 0], sum(each.was_on_disk for each in softmax.softmax.versions.values()))
"""


KERNELS = Path(import_module("fastnn.kernels").__file__).parent


def run_program(folder, program=PROGRAM, cwd=None, **more):
    """Run a program whose kernels are kept in `folder`, without modules from the current folder."""
    environment, command = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **more}, [sys.executable, "-P", "-c", program]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300)


def _files(folder):
    return sorted(path for path in Path(folder).rglob("softmax.softmax*") if path.is_file())


def test_a_kernel_is_compiled_once_and_then_loaded_from_disk(tmp_path):
    """Wherever the user wants Numba to keep other functions."""
    first, second = run_program(tmp_path), run_program(tmp_path, NUMBA_CACHE_LOCATOR_CLASSES="InTreeCacheLocator")
    assert (first.stdout, first.stderr) == ("0.5 0\n", "")
    assert (second.stdout, second.stderr) == ("0.5 1\n", "")
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("fastnn-kernels-")
    assert os.name == "nt" or folder.stat().st_mode & 0o777 == 0o700


def test_a_damaged_kernel_file_is_rebuilt(tmp_path):
    """`tests/faults/test_kernel_cache.py` damages files in more ways."""
    run_program(tmp_path)
    (path,) = _files(tmp_path)
    data = path.read_bytes()
    changed = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    for damaged in (b"", data[: len(data) // 2], b"\x80garbage" * 50, changed):
        path.write_bytes(damaged)
        repaired = run_program(tmp_path)
        assert (repaired.returncode, repaired.stdout) == (0, "0.5 0\n"), repaired.stderr
        assert repaired.stderr.count("RuntimeWarning") == 1
        assert f"in {path.parent} cannot be used" in repaired.stderr
    after = run_program(tmp_path)
    assert (after.stdout, after.stderr) == ("0.5 1\n", "")


def test_an_unusable_cache_folder_gives_one_warning(tmp_path):
    blocker = tmp_path / "a file"
    blocker.write_text("")
    result = run_program(blocker)
    assert result.stdout == "0.5 0\n"
    assert result.stderr.count("RuntimeWarning") == 1
    assert "compiled kernels cannot be kept on disk" in result.stderr


NAMELESS = """
import os, pwd
def getpwuid(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"): os.environ.pop(name, None)
os.environ |= EXTRA
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX users")
@pytest.mark.parametrize("extra", [{"HOME": "", "XDG_CACHE_HOME": "relative"}, {"NUMBA_CACHE_DIR": "~/x"}])
def test_a_user_without_a_name_and_a_home_folder_gets_one_warning(tmp_path, extra):
    """Users of containers often have a number but no entry in the list of users."""
    result = run_program("", NAMELESS.replace("EXTRA", repr(extra)) + PROGRAM, cwd=tmp_path)
    assert result.stdout == "0.5 0\n", result.stderr
    assert result.stderr.count("RuntimeWarning") == 1
    assert "compiled kernels cannot be kept on disk" in result.stderr
    assert list(tmp_path.iterdir()) == []  # neither a folder "~" nor a relative one


@pytest.mark.skipif(os.name == "nt", reason="POSIX users")
def test_the_home_folder_in_the_name_of_the_cache_folder_is_found(tmp_path):
    result = run_program("~/x", cwd=tmp_path, HOME=str(tmp_path / "home"))
    assert (result.stdout, result.stderr) == ("0.5 0\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert len(list((tmp_path / "home" / "x").iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="XDG folders")
def test_a_relative_xdg_cache_home_is_ignored(tmp_path):
    result = run_program("", cwd=tmp_path, HOME=str(tmp_path / "home"), XDG_CACHE_HOME="relative")
    assert (result.stdout, result.stderr) == ("0.5 0\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_folder_that_others_can_write_to_is_not_used(tmp_path):
    run_program(tmp_path)
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o777)
    result = run_program(tmp_path)
    assert result.stdout == "0.5 0\n"
    assert "is owned or writable by another user" in result.stderr


def test_several_processes_can_compile_at_the_same_time(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        assert [run.stdout.split()[0] for run in pool.map(run_program, [tmp_path] * 4)] == ["0.5"] * 4
    assert run_program(tmp_path).stdout.startswith("0.5")


def test_importing_kernels_compiles_nothing_and_imports_nothing_of_fastnn(tmp_path):
    imports = "import sys, fastnn.kernels.epoch.by_units as epoch; assert not epoch.run_epoch_by_units.versions"
    found = "print(sorted(name for name in sys.modules if name.startswith('fastnn') and 'kernels' not in name))"
    assert run_program(tmp_path, f"{imports}; {found}").stdout == "['fastnn']\n"


_UNCACHED = cache.sources_alone.__wrapped__


def _digest_of(package, monkeypatch):
    """The digest for the kernels in that folder."""
    spec = spec_from_file_location("fastnn.kernels", package / "__init__.py", submodule_search_locations=[str(package)])
    invalidate_caches()
    monkeypatch.setattr(cache, "import_module", lambda _: SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(cache, "sources_alone", _UNCACHED)
    return cache.sources_digest.__wrapped__()


def test_a_change_in_any_kernel_source_changes_the_folder_name(tmp_path, monkeypatch):
    copy = tmp_path / "kernels"
    shutil.copytree(KERNELS, copy)
    before = _digest_of(copy, monkeypatch)
    assert before == cache.sources_digest()
    for source in copy.rglob("*.py"):
        text = source.read_bytes()
        source.write_bytes(text + b"# changed")
        assert _digest_of(copy, monkeypatch) != before, source
        source.write_bytes(text)
    assert _digest_of(copy, monkeypatch) == before


def test_another_release_or_another_compiler_uses_another_folder(monkeypatch):
    before = cache.sources_digest()
    for name, value in (("version", lambda _: "99.0"), ("is_plain_requested", lambda: not is_plain_requested())):
        with monkeypatch.context() as changed:
            changed.setattr(cache, name, value)
            assert cache.sources_digest.__wrapped__() != before
    assert cache.sources_digest.__wrapped__() == before


def test_a_frozen_program_without_sources_has_a_folder_of_its_own(tmp_path, monkeypatch):
    program = tmp_path / "program"
    monkeypatch.setattr(cache, "import_module", lambda _: SimpleNamespace(__spec__=SimpleNamespace(loader=None)))
    monkeypatch.setattr(cache, "sources_alone", _UNCACHED)
    monkeypatch.setattr(sys, "executable", str(program))
    digests = []
    for content in ("one", "another", "another"):
        program.write_text(content)
        os.utime(program, (0, 0))
        digests.append(cache.sources_digest.__wrapped__())
    assert digests[0] != digests[1] == digests[2] != cache.sources_digest()


@pytest.mark.parametrize("form", ["zip", "byte code"])
def test_a_program_in_a_zip_file_or_without_sources_keeps_its_kernels(tmp_path, form):
    """Each release of such a program has a folder of its own, too."""
    ignore = shutil.ignore_patterns("__pycache__", "mnist")
    environment = {"PYTHONPATH": str(tmp_path / "app.zip" if form == "zip" else tmp_path / "app")}
    for change in ("", "\nchanged = True\n"):
        shutil.copytree(Path(fastnn.__file__).parent, tmp_path / "app" / "fastnn", ignore=ignore)
        shutil.copytree(KERNELS, tmp_path / "app" / "fastnn" / "kernels", ignore=ignore, dirs_exist_ok=True)
        helper = tmp_path / "app" / "fastnn" / "kernels" / "vector" / "exp_log.py"
        helper.write_text(helper.read_text() + change)
        if form == "zip":
            shutil.make_archive(str(tmp_path / "app"), "zip", tmp_path / "app")
        else:
            compileall.compile_dir(tmp_path / "app", legacy=True, quiet=1)
            for source in (tmp_path / "app").rglob("*.py"):
                source.unlink()
        for hits in (0, 1):
            result = run_program(tmp_path / "cache", cwd=tmp_path, **environment)
            assert (result.stdout, result.stderr) == (f"0.5 {hits}\n", "")
        shutil.rmtree(tmp_path / "app")
    assert len(list((tmp_path / "cache").iterdir())) == 2


WARMUP = [sys.executable, "-m", "fastnn", "warmup", "--json"]


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """Run `fastnn warmup` once; return the environment with its cache folder, and the result of that run."""
    folder = tmp_path_factory.mktemp("warm")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    return environment, subprocess.run(WARMUP, env=environment, capture_output=True, text=True, check=True)


def test_warmup_lists_the_compiled_kernels_and_announces_the_wait(warm):
    answer, notices = json.loads(warm[1].stdout), warm[1].stderr.splitlines()
    epochs, inputs = {"run_epoch_by_units", "run_epoch_by_rows"}, {"list_inputs", "mark_inputs"}
    row_blocks = {"count_row_blocks", "fill_row_blocks"}
    operations = {"predict", "matmul", "softmax", "relu", "softmax_cross_entropy"}
    assert epochs | inputs | row_blocks | operations <= set(answer["compiled"])
    assert answer["compiled"].count("run_epoch_by_units") == 2  # for uint8 inputs and for inputs in the network's dtype
    assert answer["loaded"] == 0
    assert 0 < answer["compile_seconds"] <= answer["seconds"]
    assert len(notices) == 1
    assert notices[0].startswith("fastnn: compiling kernels for this CPU, once; ")


def test_after_warmup_nothing_is_compiled(warm, tmp_path):
    """A second warmup, a training run, and read-only data at odd addresses all use the kernels on disk."""
    environment, first = warm
    again = subprocess.run(WARMUP, env=environment, capture_output=True, text=True, check=True)
    answer = json.loads(again.stdout)
    assert (answer["compiled"], answer["loaded"], again.stderr) == ([], len(json.loads(first.stdout)["compiled"]), "")
    train = [sys.executable, "-m", "fastnn", "train", "--recipe", "digits", "--epochs", "1", "--json"]
    run = subprocess.run([*train, "--out", str(tmp_path / "run")], env=environment, capture_output=True, text=True)
    assert run.stderr.startswith("epoch 1/1")
    assert json.loads(run.stdout)["compile_seconds"] == 0
    program = """
import sys
import numpy as np, fastnn
from fastnn.kernels.compiler import cache
assert "numba" not in sys.modules  # it is imported only to compile
def odd(array):
    copy = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    copy.flags.writeable = False
    return copy
data = fastnn.Dataset(odd(np.eye(32, 64, dtype=np.uint8)), odd(np.arange(32) % 3))
network = fastnn.Network.initialize((64, 20, 3))
result = fastnn.train(network, data, epochs=1, sample_weight=odd(np.ones(32, np.float32)), validation=0.1)
engine = fastnn.get_backend("numba")
engine.softmax_cross_entropy(odd(np.ones((32, 3), np.float32)), data.labels)
engine.matmul(odd(np.ones((5, 64), np.float32)), odd(network.weights[0]))
numbers = fastnn.Dataset(data.images.astype(np.float32), data.labels)
fastnn.train(network, numbers, epochs=1)
similar = np.tile(np.arange(64) < 20, (4800, 1)).astype(np.uint8)
many = fastnn.Dataset(odd(similar), odd(np.arange(4800) % 3))
fastnn.train(fastnn.Network.initialize((64, 7, 3)), many, epochs=2, batch_size=None)
assert "numba" not in sys.modules
assert cache.compilations == [], cache.compilations
assert cache.compile_seconds() == 0
assert cache.loads() > 0
"""
    odd = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (odd.returncode, odd.stderr) == (0, "")


DENSE = "fastnn.Network.initialize((4, 2))"
IMAGES = "fastnn.Network.initialize((1, 8, 8), [fastnn.Conv2D(3), fastnn.MaxPool2D(), fastnn.Dense(2)])"
IN_BACKGROUND = """
import sys
import numpy as np
import fastnn
from fastnn.backends import warmup
from fastnn.kernels.compiler import cache
from fastnn.kernels.epoch.image_passes import forward_images
from fastnn.kernels.epoch.predict import predict
NETWORK = {network}
def in_background(backend="numba", threads=None):
    return warmup.compile_prediction_in_background(backend, NETWORK, np.dtype(np.uint8), threads)
warmup.usable_cores = lambda: 1
with in_background() as process:
    assert process is None
warmup.usable_cores = lambda: 2
for unneeded in (in_background("numpy"), in_background(threads=1)):
    with unneeded as process:
        assert process is None
with in_background() as process:
    assert process.poll() is None
assert process.poll() is not None  # the process ends with the block
assert not cache.is_on_disk({kernel})
with in_background() as process:
    assert process.wait() == 0
assert cache.is_on_disk({kernel})
with in_background() as process:
    assert process is None
fastnn.get_backend("numba").predict_proba(NETWORK, np.zeros((9, NETWORK.n_inputs), np.uint8))
print(cache.compilations, cache.loads())
"""


@pytest.mark.parametrize(("network", "kernel", "loads"), [(DENSE, "predict", 1), (IMAGES, "forward_images", 2)])
def test_the_prediction_kernels_are_compiled_by_a_background_process(network, kernel, loads, tmp_path):
    """The process starts only if there is a second core and the kernel is not on disk. A later run loads the kernel.

    Like a run, the background process does not import modules from the current folder.
    """
    for module in ("json.py", "numpy.py"):
        (tmp_path / module).write_text("raise SystemExit('imported from the current folder')")
    run = run_program(tmp_path, IN_BACKGROUND.format(network=network, kernel=kernel), cwd=tmp_path)
    assert (run.stdout, run.stderr) == (f"[] {loads}\n", "")


def test_no_background_process_starts_for_a_network_that_no_kernel_covers(monkeypatch):
    monkeypatch.setattr(warmup, "usable_cores", lambda: 2)
    monkeypatch.setattr(warmup.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    network = fastnn.Network.initialize((4, 4), [fastnn.Dense(3), fastnn.BatchNorm(), fastnn.Dense(2)])
    with warmup.compile_prediction_in_background("auto", network, np.dtype(np.uint8), 2) as process:
        assert process is None


@pytest.mark.parametrize(("name", "value"), [("cache_folder", lambda: None), ("is_on_disk", lambda _: True)])
def test_no_background_process_starts_if_the_kernel_is_on_disk_or_cannot_be_kept(name, value, monkeypatch):
    monkeypatch.setattr(warmup, "usable_cores", lambda: 2)
    monkeypatch.setattr(warmup.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.setattr(cache, name, value)
    network = fastnn.Network.initialize((4, 2))
    with warmup.compile_prediction_in_background("auto", network, np.dtype(np.uint8), 2) as process:
        assert process is None


WITHOUT_KERNELS = """
import sys
import numpy as np
sys.modules["fastnn.kernels.epoch.predict"] = None
from fastnn.backends import warmup
warmup.usable_cores = lambda: 2
warmup.subprocess.Popen = None
import fastnn
NETWORK = fastnn.Network.initialize((4, 2))
with warmup.compile_prediction_in_background("auto", NETWORK, np.dtype(np.uint8), 2) as process:
    assert process is None
"""


def test_no_background_process_starts_if_kernels_cannot_be_imported(tmp_path):
    run = run_program(tmp_path, WITHOUT_KERNELS)  # an empty cache
    assert (run.returncode, run.stderr) == (0, "")


NOISY = """
from fastnn.kernels.jit import inlined, kernel
@inlined
def helper(x):
    print('x is', x)
    return x + 1
@kernel
def outer(x):
    return helper(x)
outer(1)
"""


def test_a_kernel_that_prints_is_refused(tmp_path):
    """It needs functions of Numba's, which a process that loads the kernel from disk does not have."""
    (tmp_path / "noisy.py").write_text(NOISY)
    result = run_program(tmp_path / "cache", "import noisy", PYTHONPATH=str(tmp_path))
    assert "TypeError: a kernel needs numba_" in result.stderr
    assert list((tmp_path / "cache").rglob("*.kernel")) == []


def test_unused_kernel_folders_are_removed(tmp_path):
    """Only kernel folders are removed, only after 30 days, and never the target of a symbolic link."""
    base, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    names = ["fastnn-kernels-" + digit * 16 for digit in "0123"]
    for folder in [elsewhere, *(base / name for name in [*names[:2], "fastnn-kernels-mine", "other"])]:
        folder.mkdir(parents=True)
        (folder / "file").write_text("kept?")
    (base / names[2]).symlink_to(elsewhere)
    (base / names[3]).write_text("no folder")
    for path in (*base.iterdir(), elsewhere):
        age = 29 if path.name == names[1] else 31
        os.utime(path, (time.time() - age * 86400,) * 2, **({} if os.name == "nt" else {"follow_symlinks": False}))
    assert run_program(base).stderr == ""
    (new,) = {path.name for path in base.iterdir()} - {*names, "fastnn-kernels-mine", "other"}
    assert {path.name for path in base.iterdir()} == {new, *names[1:], "fastnn-kernels-mine", "other"}
    assert (elsewhere / "file").exists()
    # Using a folder resets its age.
    os.utime(base / new, (0, 0))
    assert run_program(base).stdout == "0.5 1\n"
    assert time.time() - (base / new).stat().st_mtime < 86400
