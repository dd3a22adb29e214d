"""Faults that belong to no other file of this folder."""

import mmap

import numpy as np
import pytest

import fastnn
from fastnn import MLPClassifier, Network
from tests.parity import assert_parity, astype

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_numbers_as_strings_are_converted_and_words_are_refused():
    inputs, labels = np.random.default_rng(0).standard_normal((30, 4)), np.arange(30) % 3
    settings = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0, "backend": "numpy"}
    expected = MLPClassifier(**settings).fit(inputs, labels)
    for text in (inputs.astype(str), inputs.astype(str).astype(object), inputs.astype(str).tolist()):
        found = MLPClassifier(**settings).fit(text, labels)
        np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])
        np.testing.assert_array_equal(found.predict(text), expected.predict(inputs))
    words = inputs.astype(str)
    words[7, 2] = "seven"
    for call in (lambda: MLPClassifier(**settings).fit(words, labels), lambda: expected.predict(words)):
        with pytest.raises(ValueError, match=r"seven|dtype='numeric'"):
            call()


def test_a_mapped_model_stays_when_another_one_is_saved_over_it(tmp_path):
    """As a program has it that maps the tensors of a file instead of reading them."""
    path = tmp_path / "model.safetensors"
    fastnn.save(path, Network.initialize((4, 3, 2), seed=0))
    before = path.read_bytes()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        fastnn.save(path, Network.initialize((4, 300, 2), seed=1))
        assert path.read_bytes() != before
        assert mapped[:] == before


@pytest.mark.parametrize(("one", "other"), [("numba", "numpy"), ("numpy", "numba")])
def test_a_model_of_one_backend_predicts_in_the_other(one, other, tmp_path):
    data = fastnn.load_digits()
    result = fastnn.train(Network.for_data(data, (16,)), data, epochs=2, backend=one)
    fastnn.save(tmp_path / "model.safetensors", result, data=data)
    network = fastnn.load(tmp_path / "model.safetensors").network
    exact = astype(network, "float64")
    expected = fastnn.get_backend("numpy").predict_proba(exact, data.images)
    for backend in (one, other):
        assert_parity(fastnn.get_backend(backend).predict_proba(network, data.images), expected, backend)
