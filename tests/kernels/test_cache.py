"""Compiled kernels on disk: found again, rebuilt when damaged, and never a reason to fail."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fastnn.backends import warmup as compilation
from fastnn.kernels.compiler import cache

# Processes are started by the dozen, and kernels compiled anew.
pytestmark = pytest.mark.slow

PROGRAM = """
import numpy as np
from fastnn.backends import compiled
from fastnn.kernels.ops import softmax
print(compiled.softmax(np.zeros((1, 2)))[0, 0], sum(softmax.softmax.stats.cache_hits.values()))
"""


def _run(folder, **more):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **more}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)


def _files(folder):
    return sorted(path for path in Path(folder).rglob("softmax.softmax*") if path.is_file())


def test_a_kernel_is_compiled_once_and_then_loaded(tmp_path):
    first, second = _run(tmp_path), _run(tmp_path)
    assert (first.stdout, first.stderr) == ("0.5 0\n", "")
    assert (second.stdout, second.stderr) == ("0.5 1\n", "")
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("fastnn-kernels-")
    assert os.name == "nt" or folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage"])
@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_a_damaged_file_is_rebuilt(tmp_path, damage, ending):
    _run(tmp_path)
    for path in _files(tmp_path):
        if path.suffix == ending:
            data = path.read_bytes()
            path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "garbage": b"\x80garbage" * 50}[damage])
    repaired, after = _run(tmp_path), _run(tmp_path)
    assert (repaired.returncode, repaired.stdout.split()[0]) == (0, "0.5"), repaired.stderr
    assert (after.stdout, after.stderr) == ("0.5 1\n", "")


def test_no_place_to_write_is_one_warning(tmp_path):
    blocker = tmp_path / "a file"
    blocker.write_text("")
    result = _run(blocker)
    assert result.stdout == "0.5 0\n"
    assert result.stderr.count("RuntimeWarning") == 1
    assert "no place to keep compiled kernels" in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_folder_others_may_write_to_is_not_trusted(tmp_path):
    _run(tmp_path)
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o777)
    result = _run(tmp_path)
    assert result.stdout == "0.5 0\n"
    assert "can be written by another user" in result.stderr


def test_processes_compile_side_by_side(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", PROGRAM]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].split()[0] for process in running] == ["0.5"] * 4
    assert _run(tmp_path).stdout.startswith("0.5")


def test_importing_kernels_compiles_nothing_and_imports_nothing_of_fastnn():
    code = (
        "import sys, fastnn.kernels.epoch.by_units as epoch\n"
        "assert not epoch.run_epoch_by_units.overloads\n"
        "print(sorted(name for name in sys.modules if name.startswith('fastnn') and 'kernels' not in name))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "['fastnn']\n"


def test_every_kernel_source_counts_for_the_folder(tmp_path, monkeypatch):
    copy = tmp_path / "kernels"
    shutil.copytree(cache.SOURCES, copy)
    monkeypatch.setattr(cache, "SOURCES", copy)
    before = cache.sources_digest.__wrapped__()
    for source in copy.rglob("*.py"):
        text = source.read_bytes()
        source.write_bytes(text + b"# changed")
        assert cache.sources_digest.__wrapped__() != before, source
        source.write_bytes(text)
    assert cache.sources_digest.__wrapped__() == before


WARMUP = [sys.executable, "-m", "fastnn", "warmup", "--json"]


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder in which `fastnn warmup` has run once, and what it said."""
    folder = tmp_path_factory.mktemp("warm")
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    return environment, subprocess.run(WARMUP, env=environment, capture_output=True, text=True, check=True)


def test_warmup_says_what_it_compiled_and_that_it_takes_time(warm):
    answer, notices = json.loads(warm[1].stdout), warm[1].stderr.splitlines()
    epochs, inputs = {"run_epoch_by_units", "run_epoch_by_rows"}, {"list_inputs", "mark_inputs"}
    row_blocks = {"count_row_blocks", "fill_row_blocks"}
    operations = {"predict", "matmul", "softmax", "relu", "softmax_cross_entropy"}
    assert epochs | inputs | row_blocks | operations <= set(answer["compiled"])
    assert answer["compiled"].count("run_epoch_by_units") == 2  # for uint8, and for the network's dtype
    assert answer["loaded"] == 0
    assert 0 < answer["compile_seconds"] <= answer["seconds"]
    assert len(notices) == 1
    assert notices[0].startswith("fastnn: compiling kernels for this CPU, once; ")


def test_after_warmup_nothing_is_compiled(warm, tmp_path):
    """By a second warmup, by a run of the command, and by data that cannot be written and start on odd addresses."""
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
assert "numba.np.linalg" not in sys.modules  # what Numba imports in order to compile, not to load
def odd(array):
    moved = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    moved.flags.writeable = False
    return moved
data = fastnn.Dataset(odd(np.eye(32, 64, dtype=np.uint8)), odd(np.arange(32) % 3))
network = fastnn.Network.initialize((64, 20, 3))
result = fastnn.train(network, data, epochs=1, sample_weight=odd(np.ones(32, np.float32)), validation=0.1)
engine = fastnn.get_backend("numba")
engine.softmax_cross_entropy(odd(np.ones((32, 3), np.float32)), data.labels)
engine.matmul(odd(np.ones((5, 64), np.float32)), odd(network.weights[0]))
numbers = fastnn.Dataset(data.images.astype(np.float32), data.labels)
fastnn.train(network, numbers, epochs=1)
alike = np.tile(np.arange(64) < 20, (4800, 1)).astype(np.uint8)
many = fastnn.Dataset(odd(alike), odd(np.arange(4800) % 3))
fastnn.train(fastnn.Network.initialize((64, 7, 3)), many, epochs=2, batch_size=None)
assert "numba.np.linalg" not in sys.modules
assert cache.compilations == [], cache.compilations
assert cache.compile_seconds() == 0
assert cache.loads() > 0
"""
    odd = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (odd.returncode, odd.stderr) == (0, "")


ASIDE = """
import sys
import numpy as np
from fastnn.backends import warmup as compilation
from fastnn.kernels.compiler import cache
from fastnn.kernels.epoch.predict import predict
def aside(backend="numba", threads=None):
    return compilation.compile_prediction_in_background(backend, "float32", np.dtype(np.uint8), threads)
compilation.usable_cores = lambda: 1
with aside() as process:
    assert process is None
compilation.usable_cores = lambda: 2
for nowhere in (aside("numpy"), aside(threads=1)):
    with nowhere as process:
        assert process is None
with aside() as process:
    assert process.poll() is None
assert process.poll() is not None  # it does not outlive the block
assert not cache.is_on_disk(predict)
with aside() as process:
    assert process.wait() == 0
assert cache.is_on_disk(predict)
with aside() as process:
    assert process is None
compilation._compile_prediction("float32", "uint8")
print(cache.compilations, cache.loads())
"""


def test_the_kernel_for_predictions_is_compiled_in_another_process(tmp_path):
    """Where there is a second core, and the kernel is not on disk; a run then finds it there. Modules in the current
    folder, which the run does not see, the other process does not see either.
    """
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for module in ("json.py", "numpy.py"):
        (tmp_path / module).write_text("raise SystemExit('not this one')")
    command = [sys.executable, "-P", "-c", ASIDE]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("[] 1\n", "")


@pytest.mark.parametrize(("name", "value"), [("cache_folder", lambda: None), ("is_on_disk", lambda _: True)])
def test_no_process_is_started_where_kernels_cannot_be_kept(name, value, monkeypatch):
    monkeypatch.setattr(compilation, "usable_cores", lambda: 2)
    monkeypatch.setattr(compilation.subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    monkeypatch.setattr(cache, name, value)
    with compilation.compile_prediction_in_background("auto", "float32", np.dtype(np.uint8), 2) as process:
        assert process is None


WITHOUT_KERNELS = """
import sys
import numpy as np
sys.modules["fastnn.kernels.epoch.predict"] = None
from fastnn.backends import warmup as compilation
compilation.usable_cores = lambda: 2
compilation.subprocess.Popen = None
with compilation.compile_prediction_in_background("auto", "float32", np.dtype(np.uint8), 2) as process:
    assert process is None
"""


def test_no_process_is_started_where_kernels_cannot_be_imported(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}  # no kernel is on disk here
    run = subprocess.run([sys.executable, "-c", WITHOUT_KERNELS], env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_helper_can_print(tmp_path):
    """As one does to debug it: a helper has no machine code of its own, so its constants are found in the kernel's."""
    module = tmp_path / "noisy.py"
    module.write_text(
        "from fastnn.kernels.jit import inlined, kernel\n"
        "@inlined\n"
        "def helper(x):\n"
        "    print('x is', x)\n"
        "    return x + 1\n"
        "@kernel\n"
        "def outer(x):\n"
        "    return helper(x)\n"
        "print(outer(1), sum(outer.stats.cache_hits.values()))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for hits in (0, 1):
        command = [sys.executable, "-c", "import noisy"]
        result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert result.stdout == f"x is 1\n2 {hits}\n", result.stderr


def test_folders_of_kernels_that_nobody_uses_are_removed(tmp_path):
    """Only such folders, only after 30 days, and not the one that a link of that name leads to."""
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
    assert _run(base).stderr == ""
    (new,) = {path.name for path in base.iterdir()} - {*names, "fastnn-kernels-mine", "other"}
    assert {path.name for path in base.iterdir()} == {new, *names[1:], "fastnn-kernels-mine", "other"}
    assert (elsewhere / "file").exists()
    # A folder in use is young, however old its kernels are.
    os.utime(base / new, (0, 0))
    assert _run(base).stdout == "0.5 1\n"
    assert time.time() - (base / new).stat().st_mtime < 86400
