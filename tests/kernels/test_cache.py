"""Compiled kernels on disk: found again, rebuilt when damaged, and never a reason to fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn.kernels

PROGRAM = """
import numpy as np
from fastnn.backends import compiled
from fastnn.kernels import softmax
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
        "import sys, fastnn.kernels.epoch as epoch\n"
        "assert not epoch.run_epoch.overloads\n"
        "print(sorted(name for name in sys.modules if name.startswith('fastnn') and 'kernels' not in name))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "['fastnn']\n"


def test_every_kernel_source_counts_for_the_folder(tmp_path, monkeypatch):
    from fastnn.kernels import jit

    for source in Path(fastnn.kernels.__file__).parent.glob("*.py"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "jit.py"))
    before = jit.sources_digest.__wrapped__()
    (tmp_path / "dropout.py").write_text("# changed")
    assert jit.sources_digest.__wrapped__() != before
