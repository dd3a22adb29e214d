"""Kernels are compiled for this CPU, or for the one that Numba's environment variables name."""

import platform
import re

import pytest

from tests.kernels.test_cache import run_program

pytestmark = pytest.mark.slow

on_x86 = pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="names CPUs of x86")
CPUS = {
    "x86-64-v2": {"NUMBA_CPU_NAME": "x86-64-v2", "NUMBA_CPU_FEATURES": "+sse4.2,+popcnt"},
    "x86-64-v3": {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
    "x86-64-v4": {"NUMBA_CPU_NAME": "x86-64-v4", "NUMBA_CPU_FEATURES": "+avx512f,+avx2,+fma"},
}

SAME_AS_NUMBA = """
from numba.core.registry import cpu_target
from fastnn.kernels.compiler import machine
assert cpu_target.target_context.codegen().magic_tuple() == tuple(machine.host()), machine.host()
"""


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"NUMBA_ENABLE_AVX": "0"},
        {"NUMBA_CPU_NAME": "generic"},
        {"NUMBA_CPU_NAME": "Generic", "NUMBA_CPU_FEATURES": ""},
        pytest.param({"NUMBA_CPU_NAME": "haswell"}, marks=on_x86),
        pytest.param({"NUMBA_CPU_FEATURES": "+avx2"}, marks=on_x86),
        pytest.param(CPUS["x86-64-v2"], marks=on_x86),
    ],
    ids=str,
)
def test_the_cpu_is_that_of_numba(variables, tmp_path):
    run = run_program(tmp_path, SAME_AS_NUMBA, **variables)
    assert run.returncode == 0, run.stderr


# The assembly of a kernel. It is not run, so this CPU may lack its instructions.
ASSEMBLY = """
import llvmlite.binding as llvm
import numpy as np
from fastnn.backends import compiled
from fastnn.kernels.compiler import machine, trial

def show(code):
    _, cpu, features = machine.host()
    print(machine._machine(cpu, features).emit_assembly(llvm.parse_bitcode(code)))
    raise SystemExit

trial._try_out = lambda pipeline: None
machine.assemble = show
compiled.softmax(np.zeros((1, 2), np.float32))
"""


@on_x86
@pytest.mark.parametrize(
    ("cpu", "used", "unused"),
    [
        ("x86-64-v2", {"xmm", "mulps"}, {"ymm", "zmm", "vfmadd", "fmaf"}),
        ("x86-64-v3", {"ymm", "vfmadd"}, {"zmm", "fmaf"}),
        ("x86-64-v4", {"zmm", "vfmadd"}, {"fmaf"}),
    ],
)
def test_a_kernel_uses_the_registers_of_the_cpu_and_no_function_for_multiply_add(cpu, used, unused, tmp_path):
    run = run_program(tmp_path, ASSEMBLY, **CPUS[cpu])
    assert run.returncode == 0, run.stderr
    found = set(re.findall(r"[xyz]mm|vfmadd|mulps|fmaf", run.stdout))
    assert used <= found
    assert not unused & found


@on_x86
def test_a_kernel_of_another_cpu_is_not_loaded(tmp_path):
    runs = [run_program(tmp_path, **variables) for variables in ({}, CPUS["x86-64-v2"], {}, CPUS["x86-64-v2"])]
    assert [run.stdout for run in runs] == ["0.5 0\n", "0.5 0\n", "0.5 1\n", "0.5 1\n"]
