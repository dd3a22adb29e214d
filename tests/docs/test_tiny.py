"""The 60-line trainer of the course computes what the reference backend computes, from equal weights in equal order."""

import importlib.util
import runpy

import numpy as np
import pytest

from fastnn.backends import reference
from fastnn.network import Network
from tests.docs.doc_examples import DOCS

FILE = DOCS / "course" / "tiny.py"
_spec = importlib.util.spec_from_file_location("tiny", FILE)
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)


def layers_of(network):
    return [(weight.copy(), bias.copy()) for weight, bias in zip(network.weights, network.biases, strict=True)]


@pytest.fixture(params=[(6, 5, 4), (6, 3), (7, 6, 5, 4)], ids=str)
def network(request):
    rng, initial = np.random.default_rng(1), Network.initialize(request.param, seed=3, dtype=np.float64)
    return initial.like(initial.weights, [rng.normal(size=bias.shape) for bias in initial.biases])


@pytest.fixture
def data(network):
    rng = np.random.default_rng(2)
    return rng.normal(size=(50, network.sizes[0])), rng.integers(0, network.sizes[-1], 50)


def test_a_class_can_type_it():
    assert len(FILE.read_text(encoding="utf-8").splitlines()) <= 60


def test_loss_and_gradients_are_those_of_the_reference(network, data):
    loss, gradients = tiny.loss_and_gradients(layers_of(network), *data)
    expected = reference.loss_and_gradients(network, *data)
    assert loss == pytest.approx(expected.loss, rel=1e-12)
    for (dweight, dbias), expected_dweight, expected_dbias in zip(
        gradients, expected.dweights, expected.dbiases, strict=True
    ):
        np.testing.assert_allclose(dweight, expected_dweight, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(dbias, expected_dbias, rtol=1e-10, atol=1e-14)


def test_three_epochs_end_in_the_same_weights(network, data):
    layers, trainer, rng = layers_of(network), reference.trainer(network, *data), np.random.default_rng(4)
    for _ in range(3):
        order = rng.permutation(50)  # batches of 8: the last one has 2 samples
        loss = tiny.train_epoch(layers, *data, order, 8, 0.3)
        assert loss == pytest.approx(trainer.run_epoch(order, 8, 0.3).loss, rel=1e-10)
    trained = trainer.network()
    for (weight, bias), expected_weight, expected_bias in zip(layers, trained.weights, trained.biases, strict=True):
        np.testing.assert_allclose(weight, expected_weight, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(bias, expected_bias, rtol=1e-8, atol=1e-12)
    predicted = reference.predict_proba(trained, data[0]).argmax(axis=1)
    assert tiny.accuracy(layers, *data) == (predicted == data[1]).mean()


def test_large_logits_do_not_overflow():
    layers = [(np.array([[1000.0, 0.0]]), np.zeros(2))]
    assert tiny.loss_and_gradients(layers, np.ones((1, 1)), np.array([1]))[0] == 1000


def test_it_loads_mnist_and_learns_it(mnist, monkeypatch, capsys):
    """It runs as a script: here on the first 3,000 images of each file."""
    monkeypatch.chdir(DOCS.parent)
    train, _ = mnist
    images = tiny.load("train-images-idx3", 16).reshape(-1, 784)
    np.testing.assert_array_equal(images, train.images)
    np.testing.assert_array_equal(tiny.load("train-labels-idx1", 8), train.labels)
    frombuffer = np.frombuffer
    monkeypatch.setattr(
        np,
        "frombuffer",
        lambda *arguments, offset: frombuffer(*arguments, offset=offset)[: 3000 * (784 if offset == 16 else 1)],
    )
    runpy.run_path(str(FILE), run_name="__main__")
    assert float(capsys.readouterr().out.split()[-1]) > 0.85
