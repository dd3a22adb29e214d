"""The build backend: setuptools', which also puts kernels into a wheel as LLVM's optimised code.

What is left to do on the user's machine takes a second per kernel and needs only llvmlite: to turn this code into
machine code for the user's CPU. Numba, which takes most of the time it takes to compile a kernel, has done its part
when the wheel is built. Editable installs and source distributions have no such code, and compile kernels as before.
"""

import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

# The CPUs that code is made for, as `fastnn.kernels.compiler.machine.Host.level` names them, and the features that
# decide between them. Older ones compile kernels with Numba.
_X86 = {"x86-64-v3": "+avx2,+fma", "x86-64-v4": "+avx512f,+avx2,+fma"}
_LEVELS = {"x86_64": _X86, "AMD64": _X86}
_PROGRAM = "from fastnn.kernels.compiler import shipped; shipped.record(); import fastnn; fastnn.warmup()"
_FOLDER = Path("kernels", "compiler", "shipped_kernels")


def get_requires_for_build_wheel(config_settings=None):
    """What running the kernels' compiler needs, besides setuptools' own needs."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = "numpy", "numba", "scipy", "threadpoolctl", "platformdirs", "scikit-learn"
    return [
        *build_meta.get_requires_for_build_wheel(config_settings),
        *(each for each in project["dependencies"] if each.startswith(needed)),
    ]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Make the kernels, then the wheel."""
    shutil.rmtree(_FOLDER, ignore_errors=True)
    processes = []
    for cpu, features in _LEVELS.get(platform.machine(), {"generic": ""}).items():
        environment = {**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
        processes.append(subprocess.Popen([sys.executable, "-c", _PROGRAM], env=environment))
    codes = [process.wait() for process in processes]  # of all: none may write into the folder any longer
    if any(codes):
        raise RuntimeError("the kernels could not be compiled")
    try:
        return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    finally:
        shutil.rmtree(_FOLDER)
