"""Evaluation and prediction of data in blocks agree with those of the same rows in memory."""

import numpy as np
import pytest

import fastnn
from fastnn import Model, Network, evaluate, open_data

LENGTHS = (40, 0, 1, 9000, 7)
ENDS = np.cumsum(LENGTHS)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 256, (ENDS[-1], 16), np.uint8), rng.integers(3, size=ENDS[-1])
    labels[: ENDS[2]] = 1  # two classes are missing in the first blocks
    whole = fastnn.Dataset(images, labels, pixel_max=255)
    data = open_data(
        lambda k: (images[ENDS[k] - LENGTHS[k] : ENDS[k]], labels[ENDS[k] - LENGTHS[k] : ENDS[k]]),
        n_blocks=len(LENGTHS),
    )
    return data, whole, Network.for_data(whole, (12,), seed=1)


@pytest.mark.parametrize("backend", ["numpy", "numba", "auto"])
def test_loss_and_accuracy(case, backend):
    data, whole, network = case
    loss, accuracy = evaluate(network, whole, backend=backend, l2=0.1)
    found = evaluate(network, data, backend=backend, l2=0.1)
    assert found[0] == pytest.approx(loss, rel=1e-6)
    assert found[1] == accuracy
    assert evaluate(Model.for_data(network, data), data, backend=backend)[1] == accuracy


def test_labels_are_looked_up_in_the_classes_of_the_model(case):
    data, whole, network = case
    turned = Model(network, (2, 1, 0))
    assert evaluate(turned, data) == pytest.approx(evaluate(turned, whole), rel=1e-6)
    with pytest.raises(fastnn.DataError, match=r"block 3: .* labels are none of the classes"):
        evaluate(Model(network, (1, 2, 7)), data)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_predictions(case, backend):
    data, whole, network = case
    model = Model.for_data(network, data)
    for method in (model.predict, model.predict_proba, model.transform):
        found, expected = method(data, backend=backend), method(whole, backend=backend)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_block_that_cannot_be_read_is_named(case):
    _, whole, network = case

    def block(k):
        if k == 2:
            raise OSError("no such disk")
        return whole.images[:100], whole.labels[:100]

    data = open_data(block, n_blocks=3, n_rows=300, block_rows=100, classes=(0, 1, 2))
    for action in (lambda: evaluate(network, data), lambda: Model.for_data(network, data).predict(data)):
        with pytest.raises(fastnn.DataError, match=r"block 2.*no such disk"):
            action()
