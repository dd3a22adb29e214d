"""Evaluation and prediction of data in blocks agree with those of the same rows in memory."""

import numpy as np
import pytest

import fastnn
from fastnn import Model, Network, evaluate, open_data
from fastnn.evaluation.evaluate import evaluate_model

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


@pytest.mark.parametrize("task", ["classes", "two classes", "numbers"])
def test_all_scores_of_a_model(case, task):
    data, whole, network = case
    if task != "classes":
        labels = whole.labels > 1 if task == "two classes" else whole.images[:, :2] / 7 - 3.5
        data = open_data(
            lambda k: (whole.images[ENDS[k] - LENGTHS[k] : ENDS[k]], labels[ENDS[k] - LENGTHS[k] : ENDS[k]]),
            n_blocks=len(LENGTHS),
        )
        whole = fastnn.Dataset(whole.images, labels.astype(int) if labels.dtype == bool else labels, pixel_max=255)
        settings = {"output": "logistic"} if task == "two classes" else {}
        network = Network.initialize((16, 12, 1), input_scale=1 / 255, **settings)
        network = network if settings else Network.for_data(whole, (12,), seed=1)
    model = Model.for_data(network, whole)
    found, expected = (evaluate_model(model, each, "numpy") for each in (data, whole))
    for name, value in expected._asdict().items():
        if name in ("proba", "labels", "predicted", "targets"):
            assert len(getattr(found, name)) == 0
        elif name == "per_class":
            assert found.per_class == value
        else:
            np.testing.assert_allclose(getattr(found, name), value, rtol=1e-5)


def test_an_ensemble_predicts_and_evaluates(case):
    data, whole, _ = case
    ensemble = fastnn.Ensemble.of(Model.for_data(Network.for_data(whole, (4,), seed=seed), whole) for seed in range(2))
    np.testing.assert_array_equal(ensemble.predict(data), ensemble.predict(whole))
    np.testing.assert_allclose(ensemble.predict_proba(data), ensemble.predict_proba(whole), rtol=1e-5)
    assert evaluate(ensemble, data) == pytest.approx(evaluate(ensemble, whole), rel=1e-6)
