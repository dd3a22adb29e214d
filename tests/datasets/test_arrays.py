"""Tests of what users give as samples, labels and weights: missing values, masks, mixed types, large numbers."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import fastnn
from fastnn import DataError, Dataset

X = np.arange(12.0).reshape(4, 3)
MASK = [False, False, True, False]
DATES = pd.to_datetime(["2020-01-01", "2021-01-01", "2022-01-01", "2023-01-01"])


def test_lists_become_arrays():
    data = Dataset([[1, 2], [3, 4]], [0, 1])
    assert data.images.tolist() == [[1, 2], [3, 4]]
    assert data.labels.tolist() == [0, 1]
    numbers = Dataset(np.array([[1, 2.5], [3, 4]], object), np.array([1, 0], object))
    assert numbers.images.dtype == np.float64
    assert numbers.labels.tolist() == [1, 0]


@pytest.mark.parametrize("images", [
    np.ma.masked_array(X, X > 5),
    [np.ma.masked_array(row, row > 5) for row in X],
    np.matrix(X),
    pd.DataFrame(X).mask(X > 5),
    pd.DataFrame({"a": pd.array([1, None, 3, 4], dtype="Int64")}),
    pd.DataFrame({"a": [1.0, 2, 3, 4], "date": DATES}),
    pd.DataFrame({"a": [True, False, True, True], "date": DATES}),
    pd.DataFrame({"date": DATES, "span": DATES - DATES[0]}),
    pd.DataFrame({"a": pd.Categorical(["x", None, "y", "x"])}),
    [[1, None], [2, 3], [4, 5], [6, 7]],
    [[1, 2], [2]],
    X + 1j,
    sparse.csr_matrix(X + 1j),
    {"a": [1, 2, 3, 4]},
], ids=repr)  # fmt: skip
def test_images_that_are_no_numbers_or_lack_some_are_refused(refused, images):
    refused(lambda: Dataset(images, [0, 1, 0, 1], name="table"), "table: images", "expected")


@pytest.mark.parametrize("labels", [
    np.ma.masked_array([0, 1, 0, 1], MASK),
    np.ma.masked_array(["a", "b", "a", "b"], MASK),
    np.ma.masked_array([0.5, 1, 0, 1], MASK),
    np.matrix([0, 1, 0, 1]).T,
    pd.Series(["a", "b", None, "a"], dtype="string"),
    pd.array(["a", "b", None, "a"], dtype="string"),
    pd.Series([1, 2, None, 1], dtype="Int64"),
    pd.Series([True, False, None, True], dtype="boolean"),
    pd.Series(pd.Categorical(["a", "b", None, "a"])),
    pd.Categorical(["a", "b", None, "a"]),
    pd.Series(["a", "b", np.nan, "a"], dtype=object),
    ["a", "b", pd.NA, "a"],
    ["a", "b", pd.NaT, "a"],
    ["a", "b", None, "a"],
    ["a", "b", float("nan"), "a"],
    np.array(["a", "b", 1, "a"], object),
    ["a", "b", 2.5, "a"],
    np.array(["2020", "2021", "NaT", "2020"], "M8[D]"),
    np.array([0, 1, 1j, 0]),
    np.array([0, 1, 1e300, 0]),
    np.array([0, 1, 2**63, 0], np.uint64),
    [{}, {"a": 1}, [], {}],
], ids=repr)  # fmt: skip
def test_labels_that_are_missing_masked_or_mixed_are_refused(refused, labels):
    refused(lambda: Dataset(X, labels, name="table"), "table: label", "expected")


def test_dates_are_classes_in_words():
    assert Dataset(X, np.array(["2020", "2021", "2020", "2021"], "M8[D]")).classes == ("2020-01-01", "2021-01-01")


@pytest.mark.parametrize("options", [
    {"pixel_max": "255"}, {"pixel_max": None}, {"pixel_max": np.nan}, {"image_shape": 3}, {"image_shape": ("1", "3")},
    {"classes": 2}, {"classes": {"a", "b"}}, {"classes": "ab"}, {"feature_names": 3}, {"notes": 1},
    {"classes": ["a", "b" * 1001]}, {"feature_names": ["a", "b", "c" * 1001]},
])  # fmt: skip
def test_other_arguments_of_the_wrong_kind_are_refused(refused, options):
    refused(lambda: Dataset(X, [0, 1, 0, 1], name="table", **options), "table", next(iter(options)), "expected")


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("standardize", [False, True])
def test_numbers_too_large_for_the_network_are_named(as_sparse, standardize):
    train = Dataset(X, [0, 1, 0, 1])
    network = fastnn.Network.for_data(train, (4,), standardize=standardize and not as_sparse)
    values = X.copy()
    values[2, 1] = 1e300
    rows = sparse.csr_matrix(values) if as_sparse else values
    data, place = Dataset(rows, [0, 1, 0, 1]), re.escape("1e+300 in row 2, column 1 (from 0), too large for float32")
    for call in (
        lambda: fastnn.train(network, data, epochs=1, backend="numpy"),
        lambda: fastnn.train(network, train, epochs=1, backend="numpy", validation=data),
        lambda: fastnn.evaluate(network, data, backend="numpy"),
        lambda: fastnn.Model.for_network(network).predict(rows, backend="numpy"),
    ):
        with pytest.raises(DataError, match=place):
            call()
    double = fastnn.Network.initialize((3, 4, 2), dtype=np.float64)
    assert fastnn.evaluate(double, data, backend="numpy")[1] >= 0


@pytest.mark.parametrize("weight", [
    np.ma.masked_array([1.0, 1, 1, 1], MASK),
    pd.Series([1, 1, None, 1], dtype="Float64"),
    ["1", "1", "x", "1"],
    np.ones(4) * 1j,
    np.array([1, None, 1, 1], object),
    1.0,
], ids=repr)  # fmt: skip
def test_weights_that_are_no_numbers_or_lack_some_are_refused(refused, weight):
    network = fastnn.Network.initialize((3, 2))
    data = Dataset(X, [0, 1, 0, 1])
    refused(lambda: fastnn.train(network, data, epochs=1, backend="numpy", sample_weight=weight), "sample_weight")
