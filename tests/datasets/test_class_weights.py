"""Sample weights by class, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

import fastnn
from fastnn import DataError, Dataset, SettingsError

RNG = np.random.default_rng(2)


@pytest.mark.parametrize("labels", [RNG.integers(0, 5, 200) * 2, RNG.choice(["a", "b", "c"], 50), np.zeros(4, int)])
def test_balanced_weights_are_those_of_scikit_learn(labels):
    found = fastnn.class_weights((np.zeros((len(labels), 2)), labels))
    np.testing.assert_allclose(found, compute_sample_weight("balanced", labels), rtol=1e-12)
    assert found.sum() == pytest.approx(len(labels))


def test_a_class_is_weighed_by_its_name_or_number():
    names = Dataset(np.zeros((4, 1)), ["10", "7", "7", "b"])
    assert fastnn.class_weights(names, {7: 2, "b": 0}).tolist() == [1, 2, 2, 0]
    assert fastnn.class_weights((np.zeros((3, 1)), [0, 2, 2]), {"2": 0.5}).tolist() == [1, 0.5, 0.5]


def test_wrong_weights_and_data_are_named():
    data = Dataset(np.zeros((3, 1)), ["cat", "virginica", "virginica"])
    for weights, words in (
        ({"virginca": 1}, "name 'virginca' .did you mean virginica"), ({"cat": -1}, "weight of class 'cat' is -1"),
        ({"cat": np.nan}, "weight of class 'cat' is nan"), ("balancd", "class weights are 'balancd'"), (2, "are 2"),
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=words):
            fastnn.class_weights(data, weights)
    with pytest.raises(DataError, match="has no labels"):
        fastnn.class_weights(Dataset(np.zeros((2, 1))))
    with pytest.raises(DataError, match="has numbers as labels"):
        fastnn.class_weights(Dataset(np.zeros((2, 1)), [0.5, 1.5]))


def test_blocks_have_the_weights_of_their_rows_in_memory():
    labels = np.array([0, 2, 2, 0, 2])
    data = fastnn.open_data(lambda k: (np.zeros((5, 1)), labels), n_blocks=2, classes=range(3))
    rows = (np.zeros((10, 1)), np.tile(labels, 2))
    np.testing.assert_array_equal(fastnn.class_weights(data), fastnn.class_weights(rows))
    np.testing.assert_array_equal(fastnn.class_weights(data, {2: 5}), fastnn.class_weights(rows, {2: 5}))
    with pytest.raises(DataError, match="has no labels"):
        fastnn.class_weights(fastnn.open_data(lambda k: np.zeros((5, 1)), n_blocks=2))
