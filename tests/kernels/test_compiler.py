"""Kernels are compiled by shortcuts through Numba's internals, or by plain Numba where those have changed."""

import sys
import threading
import tomllib
import warnings
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from numba.core import codegen, compiler_lock, untyped_passes

import fastnn.kernels.compiler
from fastnn.kernels.compiler import UNTRIED_NUMBA, cache, is_plain_requested, machine, pipeline, trial
from fastnn.kernels.compiler import kernel as kernel_module
from fastnn.kernels.compiler.arguments import Record, address_of, joined
from fastnn.kernels.jit import inlined, kernel
from fastnn.kernels.team import Member
from tests.kernels.test_cache import PROGRAM, run_program


@inlined
def _next(x):
    return x + 1


@kernel
def _two_on(x):
    return _next(_next(x))


def test_the_shortcuts_work_with_this_numba():
    with warnings.catch_warnings(action="error"):
        assert trial._pipeline.__wrapped__() is (None if is_plain_requested() else pipeline)
    assert _two_on(1) == 3


def _remove(monkeypatch):
    monkeypatch.delattr(untyped_passes, "InlineClosureLikes")
    monkeypatch.delitem(sys.modules, pipeline.__name__)
    monkeypatch.delattr(fastnn.kernels.compiler, "pipeline")


def _rename(monkeypatch):
    monkeypatch.delattr(codegen.CPUCodeLibrary, "_get_module_for_linking")


def _call_no_hook(monkeypatch):
    library = codegen.CPUCodeLibrary
    monkeypatch.setattr(library, "add_llvm_module", lambda self, module: self._final_module.link_in(module))


def _compute_nothing(monkeypatch):
    monkeypatch.setattr(machine, "ENTRY_TYPE", lambda _: lambda _: 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_remove, "ImportError: cannot import name 'InlineClosureLikes'"),
        (_rename, "AttributeError: .* no attribute '_get_module_for_linking'"),
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
    monkeypatch.setattr(cache, "warned", set())
    return tmp_path


def test_a_numba_with_another_lock_compiles_in_the_calling_thread(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, compiler_lock.__name__, SimpleNamespace())
    threads, find = [], kernel_module.version_of

    def version_of(*arguments):
        threads.append(threading.current_thread())
        return find(*arguments)

    monkeypatch.setattr(kernel_module, "version_of", version_of)
    assert kernel(lambda x: 3 * x)(2) == 6
    assert threads == [threading.current_thread()]


CHANGED = "import sys; sys.modules['fastnn.kernels.compiler.pipeline'] = None\n"


@pytest.mark.slow
@pytest.mark.parametrize(("program", "requested", "n_warnings"), [(PROGRAM, "1", 0), (CHANGED + PROGRAM, "", 1)])
def test_plain_njit_computes_the_same_and_keeps_kernels_on_disk(tmp_path, program, requested, n_warnings):
    for hits in (0, 1):
        result = run_program(tmp_path, program, FASTNN_PLAIN_NJIT=requested)
        assert result.stdout == f"0.5 {hits}\n"
        assert result.stderr.count("Warning") == (0 if hits else n_warnings), result.stderr


def test_kernels_take_numbers_arrays_and_tuples_and_return_numbers():
    """One version for each combination of types. Read-only, strided and unaligned arrays have their own."""
    numbers = [2, 2.5, True, np.float32(2.5), np.uint64(2**63 + 1), np.int64(-3)]
    identity = kernel(lambda x: x)
    assert [identity(x) for x in numbers] == numbers
    assert len(identity.versions) == 5  # an int is an int64

    @kernel
    def third(pair):
        array, k = pair
        return array[k]

    frozen, every = np.arange(5.0), np.arange(10.0)[::2]
    frozen.flags.writeable = False
    assert [third((array, 3)) for array in (np.arange(5.0), frozen, every)] == [3, 3, 6]
    assert len(third.versions) == 3
    with pytest.raises(TypeError, match="argument of type str"):
        third("text")


@pytest.mark.parametrize("array", [
    np.arange(6.0), np.arange(6.0)[2:], np.arange(6.0)[::-1], np.zeros((3, 4), np.float32, order="F").T[1:],
    np.empty((0, 5), np.uint8), np.frombuffer(b"read only", np.uint8),
])  # fmt: skip
def test_an_address_is_the_one_that_numpy_tells(array):
    assert address_of(array) == array.ctypes.data == array.__array_interface__["data"][0]


def test_a_tuple_of_prepared_elements_is_the_tuple_prepared_as_a_whole():
    value = Member(1, 2, np.arange(3)), np.float32(0.5), (), True
    whole, parts = Record(value), joined(value, [Record(each) for each in value])
    assert (parts.kind, parts.words, parts.value) == (whole.kind, whole.words, value)


def test_a_helper_is_not_callable_from_python():
    with pytest.raises(TypeError, match="_next is a part of kernels"):
        _next(1)


def test_the_newest_tried_numba_is_the_ceiling_of_the_distribution():
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    (numba_,) = (each for each in pyproject["project"]["dependencies"] if each.startswith("numba"))
    assert numba_.endswith("<{}.{}".format(*UNTRIED_NUMBA))
