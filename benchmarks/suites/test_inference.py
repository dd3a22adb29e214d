"""Predictions, by number of rows, input dtype and backend."""

import numpy as np
import pytest

from fastnn import Network
from fastnn.backends import get_backend


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("rows", [1, 100, 10_000], ids=lambda rows: f"{rows}-rows")
def test_predict(timed, benchmark, mnist, rows, dtype, backend):
    images, scale = np.ascontiguousarray(mnist.images[:rows]), 1 / 255
    if dtype == "float32":
        images, scale = images.astype(np.float32) / np.float32(255), 1.0
    network = Network.initialize((784, 128, 10), seed=3, input_scale=scale)
    chosen = get_backend(backend)
    benchmark.group = f"{rows} rows"
    timed(
        lambda: chosen.predict_proba(network, images),
        expected=get_backend("numpy").predict_proba(network, images),
        iterations=200 if rows == 1 else 1,
    )
