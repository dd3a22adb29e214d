"""Kernels are compiled by shortcuts through Numba's internals, or by plain Numba where those have changed."""

import sys
import threading
import tomllib
import warnings
from pathlib import Path
from types import SimpleNamespace

import numba
import pytest
from numba.core import codegen, compiler, compiler_lock, untyped_passes

import fastnn.kernels.compiler
from fastnn.kernels.compiler import UNTRIED_NUMBA, cache, pipeline, trial
from fastnn.kernels.jit import inlined, kernel
from tests.kernels.test_cache import PROGRAM, run_program


@inlined
def _next(x):
    return x + 1


@kernel
def _two_on(x):
    return _next(_next(x))


def test_the_shortcuts_work_with_this_numba():
    with warnings.catch_warnings(action="error"):
        assert trial._pipeline.__wrapped__() is (None if trial.is_plain_requested() else pipeline)
    assert _two_on(1) == 3


def _remove(monkeypatch):
    monkeypatch.delattr(untyped_passes, "InlineClosureLikes")
    monkeypatch.delitem(sys.modules, pipeline.__name__)
    monkeypatch.delattr(fastnn.kernels.compiler, "pipeline")


def _rename(monkeypatch):
    monkeypatch.delattr(codegen.CPUCodegen, "_module_pass_manager")


def _call_no_hook(monkeypatch):
    library = codegen.CPUCodeLibrary
    monkeypatch.setattr(library, "add_llvm_module", lambda self, module: self._final_module.link_in(module))


def _compute_nothing(monkeypatch):
    monkeypatch.setattr(numba, "njit", lambda **_: lambda function: lambda *_: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remove, "ImportError: cannot import name 'InlineClosureLikes'"),
        (_rename, "AttributeError: .* no attribute '_module_pass_manager'"),
        (_call_no_hook, "RuntimeError: Numba did not call _Library._optimize_functions"),
        (_compute_nothing, r"RuntimeError: the trial kernel computed \[0.0, 1.0, 2.0\], expected \[0, 2, 4\]"),
    ],
)
def test_changed_internals_give_one_warning_and_plain_njit(change, message, monkeypatch):
    monkeypatch.delenv("FASTNN_PLAIN_NJIT", raising=False)
    change(monkeypatch)
    with pytest.warns(RuntimeWarning, match=f"Numba {numba.__version__} have changed .{message}") as all_warnings:
        assert trial._pipeline.__wrapped__() is None
    assert len(all_warnings) == 1


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty folder for kernels."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path


@pytest.mark.parametrize(
    ("owner", "name", "warned"),
    [
        (compiler.CompileResult, "_reduce", ["could not be saved"]),
        (codegen.CPUCodegen, "magic_tuple", ["cannot be used", "could not be saved"]),
    ],
)
def test_a_changed_disk_cache_never_stops_a_kernel(owner, name, warned, monkeypatch, folder):
    monkeypatch.delattr(owner, name)
    triple = kernel(lambda x: 3 * x)
    with pytest.warns(RuntimeWarning, match=f"compiled kernel .*{name}") as caught:
        assert (triple(2), triple(2.5)) == (6, 7.5)
    assert len(caught) == len(warned)
    assert all(words in str(warning.message) for words, warning in zip(warned, caught, strict=True))
    assert list(folder.glob("[!.]*")) == []


def test_a_numba_without_a_place_for_the_cache_gives_one_warning(folder):
    """Numba's own cache, which runs damaged files, is not used instead."""
    functions = [lambda x: x] * 2
    with pytest.warns(RuntimeWarning, match="cannot keep compiled kernels on disk") as caught:
        assert [cache.keep_on_disk(function) for function in functions] == functions
    assert len(caught) == 1


def test_a_numba_with_another_lock_compiles_in_the_calling_thread(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, compiler_lock.__name__, SimpleNamespace())
    threads = []
    triple = kernel(lambda x: 3 * x)
    monkeypatch.setattr(triple._cache, "load_overload", lambda *_: threads.append(threading.current_thread()))
    assert triple(2) == 6
    assert threads == [threading.current_thread()]


CHANGED = "import sys; sys.modules['fastnn.kernels.compiler.pipeline'] = None\n"


@pytest.mark.slow
@pytest.mark.parametrize(("program", "requested", "n_warnings"), [(PROGRAM, "1", 0), (CHANGED + PROGRAM, "", 1)])
def test_plain_njit_computes_the_same_and_keeps_kernels_on_disk(tmp_path, program, requested, n_warnings):
    for hits in (0, 1):
        result = run_program(tmp_path, program, FASTNN_PLAIN_NJIT=requested)
        assert result.stdout == f"0.5 {hits}\n"
        assert result.stderr.count("Warning") == (0 if hits else n_warnings), result.stderr


@pytest.mark.skipif(trial.is_plain_requested(), reason="plain njit compiles helpers as kernels")
def test_a_helper_used_as_a_function_raises_instead_of_calling_address_0():
    @numba.njit("int64(FunctionType(int64(int64)), int64)")
    def call(function, x):
        return function(x)

    with pytest.raises(TypeError, match="_next is a helper of kernels and has no address"):
        call(_next, 1)
    with pytest.raises(TypeError, match="not callable"):
        _next(1)


def test_the_newest_tried_numba_is_the_ceiling_of_the_distribution():
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    (numba_,) = (each for each in pyproject["project"]["dependencies"] if each.startswith("numba"))
    assert numba_.endswith("<{}.{}".format(*UNTRIED_NUMBA))
