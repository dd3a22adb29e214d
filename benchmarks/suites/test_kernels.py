"""Each operation of the backend contract, on both backends, at the shapes of one batch of 784-128-10."""

import numpy as np
import pytest

from fastnn import Network
from fastnn.backends import get_backend

B, D, H, C = 64, 784, 128, 10
ITERATIONS = 50


def _arrays():
    rng = np.random.default_rng(2)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    pixels = (rng.integers(1, 256, (B, D)) * (rng.random((B, D)) < 0.2)).astype(np.uint8)
    return {
        "inp": normal(B, D), "weight": normal(D, H) * np.float32(0.05), "bias": normal(H),
        "hidden": normal(B, H), "dout": normal(B, H), "logits": normal(B, C), "labels": rng.integers(C, size=B),
        "pixels": pixels, "network": Network.initialize((D, H, C), seed=2, input_scale=1 / 255),
    }  # fmt: skip


OPERATIONS = {
    "matmul": lambda b, a: b.matmul(a["inp"], a["weight"]),
    "relu": lambda b, a: b.relu(a["hidden"]),
    "relu_backward": lambda b, a: b.relu_backward(a["dout"], a["hidden"]),
    "softmax": lambda b, a: b.softmax(a["logits"]),
    "softmax_cross_entropy": lambda b, a: b.softmax_cross_entropy(a["logits"], a["labels"]),
    "dense_forward": lambda b, a: b.dense_forward(a["inp"], a["weight"], a["bias"]),
    "dense_backward": lambda b, a: b.dense_backward(a["dout"], a["inp"], a["weight"]),
    "predict_logits": lambda b, a: b.predict_logits(a["network"], a["pixels"]),
    "predict_proba": lambda b, a: b.predict_proba(a["network"], a["pixels"]),
    "loss_and_gradients": lambda b, a: b.loss_and_gradients(a["network"], a["pixels"], a["labels"]),
}


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation(timed, benchmark, operation, backend):
    arrays, call, chosen = _arrays(), OPERATIONS[operation], get_backend(backend)
    benchmark.group = operation
    expected = call(get_backend("numpy"), arrays)
    timed(lambda: call(chosen, arrays), expected=expected, iterations=ITERATIONS)
