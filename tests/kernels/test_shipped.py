"""A wheel contains kernels as LLVM's optimised code, from which kernels are made without Numba."""

import importlib.util
import shutil
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import fastnn
from fastnn.kernels.compiler import machine, shipped
from tests.kernels.test_cache import run_program

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KERNELS = Path(import_module("fastnn.kernels").__file__).parent
RECORD = """
from fastnn.kernels.compiler import shipped
shipped.record()
import numpy as np
from fastnn.backends import compiled
compiled.softmax(np.zeros((1, 2)))
"""
USE = """
import sys
import numpy as np
from fastnn.backends import compiled
from fastnn.kernels.compiler import cache
print(compiled.softmax(np.log([[1.0, 3.0]])).tolist(), "numba" in sys.modules, len(cache.compilations), cache.loads())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The packages as a wheel installs them, and shipped kernels of one function."""
    folder = tmp_path_factory.mktemp("installed")
    ignore = shutil.ignore_patterns("__pycache__", "mnist", shipped.FOLDER)
    shutil.copytree(Path(fastnn.__file__).parent, folder / "fastnn", ignore=ignore)
    shutil.copytree(KERNELS, folder / "fastnn" / "kernels", ignore=ignore, dirs_exist_ok=True)
    run = run_program(folder / "cache", RECORD, cwd=folder, PYTHONPATH=str(folder))
    assert (run.returncode, run.stderr) == (0, "")
    assert not list((folder / "cache").rglob("*.kernel"))
    assert len(list((folder / "fastnn" / "kernels" / "compiler" / shipped.FOLDER).iterdir())) == 1
    return folder


def test_a_shipped_kernel_needs_no_numba_and_is_kept_on_disk(installed, tmp_path):
    for compiled, loaded in ((1, 0), (0, 1)):
        run = run_program(tmp_path, USE, cwd=installed, PYTHONPATH=str(installed))
        assert (run.stdout, run.stderr) == (f"[[0.25, 0.75]] False {compiled} {loaded}\n", "")


@pytest.mark.parametrize("change", ["source", "damage", "cpu"])
def test_a_shipped_kernel_that_does_not_fit_is_compiled_by_numba(change, installed, tmp_path):
    shutil.copytree(installed, tmp_path / "app")
    more = {}
    if change == "source":
        helper = tmp_path / "app" / "fastnn" / "kernels" / "vector" / "exp_log.py"
        helper.write_text(helper.read_text() + "\nchanged = True\n")
    elif change == "damage":
        (path,) = (tmp_path / "app" / "fastnn" / "kernels" / "compiler" / shipped.FOLDER).iterdir()
        path.write_bytes(path.read_bytes()[:-50])
    else:
        features = machine.host().features.replace("+avx512f", "-avx512f").replace("+avx2", "-avx2")
        if features == machine.host().features:
            pytest.skip("the processor has no features to leave out")
        more = {"NUMBA_CPU_FEATURES": features}
    run = run_program(tmp_path / "cache", USE, cwd=tmp_path / "app", PYTHONPATH=str(tmp_path / "app"), **more)
    assert run.stdout == "[[0.25, 0.75]] True 1 0\n", run.stderr


def test_a_checkout_ships_nothing():
    assert not shipped.is_there()
    assert shipped.find("any key") is None


def test_only_a_wheel_needs_numba_to_be_built(monkeypatch):
    spec = importlib.util.spec_from_file_location("with_kernels", ROOT / "building" / "with_kernels.py")
    backend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(backend)
    monkeypatch.setattr(backend.build_meta, "get_requires_for_build_wheel", lambda _=None: ["own"])
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    numba = next(each for each in dependencies if each.startswith("numba"))
    assert {"own", numba} <= set(backend.get_requires_for_build_wheel())
    for name in ("get_requires_for_build_editable", "get_requires_for_build_sdist"):
        assert getattr(backend, name) == getattr(backend.build_meta, name)
