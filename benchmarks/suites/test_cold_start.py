"""Start-up cost of a process: importing, then compiling kernels or loading them from disk."""

import os
import subprocess
import sys

import pytest

from benchmarks.compare.environment import environment

PROGRAMS = {
    "python": "pass",
    "import-numpy": "import numpy",
    "import-fastnn": "import fastnn",
    "import-kernels": "import fastnn.backends.compiled",
}
EPOCH = """
import numpy as np
from fastnn import Network, SGD
from fastnn.backends import get_backend
images, labels = np.eye(64, 784, dtype=np.uint8), np.arange(64) % 10
trainer = get_backend("numba").trainer(Network.initialize((784, 128, 10)), images, labels, SGD())
print(trainer.run_epoch(np.arange(64), 64, 0.1).loss)
"""
PREDICT = """
import numpy as np
from fastnn import Network
from fastnn.backends import get_backend
print(get_backend("numba").predict_proba(Network.initialize((784, 128, 10)), np.eye(1, 784, dtype=np.uint8)).sum())
"""


def _run(program, cache):
    variables = {**environment(os.cpu_count() or 1), "NUMBA_CACHE_DIR": str(cache)}
    result = subprocess.run(
        [sys.executable, "-P", "-c", program], env=variables, check=True, capture_output=True, text=True
    )
    return result.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_import(timed, tmp_path, program):
    timed(lambda: _run(PROGRAMS[program], tmp_path), expected=None, rounds=5)


@pytest.mark.parametrize("program", [EPOCH, PREDICT], ids=["first-epoch", "first-prediction"])
@pytest.mark.parametrize("cache", ["empty", "warm"])
def test_first_call(timed, tmp_path_factory, program, cache):
    warm = tmp_path_factory.mktemp("warm")
    if cache == "warm":
        assert float(_run(program, warm)) > 0

    def folder():
        return (program, warm if cache == "warm" else tmp_path_factory.mktemp("empty")), {}

    timed(_run, setup=folder, compilation=False, rounds=5 if cache == "warm" else 2)
