"""Tests of `check_scale`: inputs that were scaled twice, or not at all, give a warning, and no others do."""

import warnings

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import fastnn
from fastnn import Dataset, Network
from fastnn.network import check_scale

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 64), dtype=np.uint8)
TWICE, RAW = "lie in 0 ... 1, but the network multiplies them by 1/255", "are bytes up to 255, but"


@pytest.mark.parametrize(("scale", "inputs", "words"), [
    (1 / 255, BYTES / 255, TWICE),
    (1 / 255, (BYTES / 255).astype(np.float32), TWICE),
    (1 / 255, BYTES > 127, TWICE),
    (1 / 255, (BYTES > 127).astype(np.uint8), TWICE),
    (1 / 255, csr_matrix(BYTES / 255), TWICE),
    (1 / 16, BYTES / 255, "by 1/16: pass"),
    (1.0, BYTES, RAW),
    (1 / 255, BYTES, None),
    (1 / 255, BYTES.astype(float), None),
    (1 / 255, csr_matrix(BYTES), None),
    (1 / 255, BYTES / 255 - 0.5, None),  # not in 0 ... 1: no pixels
    (1 / 255, np.zeros((3, 64), np.uint8), None),  # blank
    (1 / 255, np.zeros((0, 64)), None),
    (1.0, BYTES / 255, None),
    (1.0, BYTES[:, :4], None),  # a table
    (1.0, BYTES.astype(float), None),  # numbers of a table
    (1.0, BYTES // 16, None),
    (2.0, BYTES / 255, None),
])  # fmt: skip
def test_the_range_is_compared_with_the_scale(scale, inputs, words):
    network = Network.initialize((inputs.shape[1], 3, 2), input_scale=scale)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_scale(network, inputs)
    assert len(caught) == (words is not None)
    if words:
        assert words in str(caught[0].message)
        assert caught[0].filename == __file__


def test_evaluate_warns_at_the_line_that_calls_it():
    data = fastnn.load_digits()
    network = Network.for_data(data, (8,))
    fastnn.evaluate(network, data, backend="numpy")
    with pytest.warns(UserWarning, match=r"lie in 0 ... 1, but the network multiplies them by 1/16") as caught:
        fastnn.evaluate(network, Dataset(data.images / 16, data.labels), backend="numpy")
    assert caught[0].filename == __file__


def test_a_standardization_that_only_scales_is_checked_too():
    images = 255 - fastnn.load_mnist()[1].images[:50]
    network = fastnn.Network.initialize((784, 10), input_scale=fastnn.Standardization([255] * 784, [1 / 255] * 784))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_scale(network, images)
        check_scale(
            fastnn.Network.initialize((3, 2), input_scale=fastnn.Standardization([0] * 3, [1, 2, 3])), images[:, :3]
        )
    with pytest.warns(UserWarning, match="lie in 0 ... 1, but the network multiplies them by 1/255"):
        check_scale(network, images / 255)
