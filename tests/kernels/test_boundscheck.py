"""NUMBA_BOUNDSCHECK=1 reaches kernels and their helpers, so that the tests which run with it can find a wrong index.

It does not reach the loads and stores of vectors: the tests with pages that must not be touched find those.
"""

import os
import subprocess
import sys

import pytest

# A file of its own, because Numba reads the source of what it compiles.
MODULE = """
from fastnn.kernels.jit import inlined, kernel


@inlined
def put(array, index):
    array[index] = 1


@kernel
def put_by_helper(array, index):
    put(array, index)


@kernel
def get(array, index):
    return array[index]
"""
PROGRAM = """
import sys
import numpy as np
import kernels_of_a_test

try:
    print(getattr(kernels_of_a_test, sys.argv[1])(np.zeros(4), int(sys.argv[2])))
except IndexError as error:
    print("IndexError:", error)
"""


@pytest.mark.parametrize("index", [4, -5])
@pytest.mark.parametrize("name", ["put_by_helper", "get"])
def test_an_index_outside_an_array_is_an_error(name, index, tmp_path):
    (tmp_path / "kernels_of_a_test.py").write_text(MODULE)
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(index)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.stdout == f"IndexError: {name}: an index is out of bounds\n", run.stderr
