"""Standardization inside the network: against scikit-learn, in both backends, in training, files and ONNX."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

from fastnn import (
    BatchNorm,
    DataError,
    Dataset,
    Dense,
    Network,
    SettingsError,
    Standardization,
    check_gradients,
    evaluate,
    get_backend,
    load,
    save,
    train,
)

WINE, CULTIVARS = load_wine(return_X_y=True)


def test_fit_is_that_of_scikit_learn():
    scaler = StandardScaler().fit(WINE)
    found = Standardization.fit(WINE)
    np.testing.assert_allclose(found.mean, scaler.mean_, rtol=1e-13)
    np.testing.assert_allclose(found.scale, 1 / scaler.scale_, rtol=1e-12)
    np.testing.assert_allclose(found.apply(WINE, np.float64), scaler.transform(WINE), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_fit_takes_any_numbers_in_blocks_of_rows(dtype):
    numbers = np.random.default_rng(0).integers(0, 200, (9000, 3)).astype(dtype)
    found = Standardization.fit(numbers)
    np.testing.assert_allclose(found.mean, numbers.astype(float).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.scale, 1 / numbers.astype(float).std(axis=0), rtol=1e-12)


def test_a_constant_column_is_only_shifted():
    for constant in (0.1, 1e9 + 0.1, -7.0):
        found = Standardization.fit(np.column_stack([np.full(1000, constant), np.arange(1000)]))
        assert found.scale[0] == 1
        assert found.apply(np.array([[constant + 2, 0]]), np.float64)[0, 0] == pytest.approx(2, rel=1e-4)


def test_a_large_mean_does_not_cancel_digits_of_float32():
    seconds = 1.7e9 + np.arange(1000.0)[:, None]
    found = Standardization.fit(seconds).apply(seconds, np.float32)
    np.testing.assert_allclose(found, StandardScaler().fit_transform(seconds), atol=3e-7)


def test_sparse_rows_are_scaled_and_stay_sparse():
    dense = np.random.default_rng(0).poisson(0.3, (500, 7)) * 2.5
    found = Standardization.fit(csr_matrix(dense))
    expected = StandardScaler(with_mean=False).fit_transform(dense)
    np.testing.assert_allclose(found.apply(csr_matrix(dense), np.float64).toarray(), expected, rtol=1e-12)
    with pytest.raises(DataError, match="sparse matrix, expected an array: the network subtracts"):
        Standardization([1.0] * 7, [1.0] * 7).apply(csr_matrix(dense), np.float32)


@pytest.mark.parametrize(("mean", "scale", "message"), [
    ([0.0, 1.0], [1.0], "expected"),
    ([np.nan], [1.0], "expected finite"),
    ([0.0], [0.0], "above 0"),
    ([[0.0]], [[1.0]], "expected"),
])  # fmt: skip
def test_values_out_of_range_are_refused(mean, scale, message):
    with pytest.raises(SettingsError, match=message):
        Standardization(mean, scale)


def test_a_network_needs_one_of_its_number_of_inputs():
    with pytest.raises(SettingsError, match="standardization of 2 inputs, expected 3"):
        Network.initialize((3, 2), input_scale=Standardization([0, 0], [1, 1]))


@pytest.fixture
def wine():
    return Dataset(WINE, CULTIVARS, name="wine")


@pytest.mark.parametrize("layers", [[8], [Dense(8, "gelu"), BatchNorm()]], ids=["fused", "layer by layer"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_raw_rows_give_what_standardised_rows_give_without(wine, backend, layers):
    engine = get_backend(backend)
    network = Network.for_data(wine, layers, standardize=True, dtype=np.float64)
    inside = Network.for_data(wine, layers, dtype=np.float64)
    rows = network.standardization.apply(WINE, np.float64)
    np.testing.assert_array_equal(engine.predict_proba(network, WINE), engine.predict_proba(inside, rows))
    one, other = (
        engine.loss_and_gradients(*arguments, CULTIVARS, l2=0.1) for arguments in ((network, WINE), (inside, rows))
    )
    assert one.loss == other.loss
    for mine, its in zip(one.dweights, other.dweights, strict=True):
        np.testing.assert_array_equal(mine, its)
    settings = {"epochs": 4, "batch_size": 16, "learning_rate": 0.1, "backend": backend, "validation": 0.2}
    result, expected = (train(*arguments, **settings) for arguments in (
        (network, wine), (inside, Dataset(rows, CULTIVARS)),
    ))  # fmt: skip
    assert result.network.standardization == network.standardization
    for name in ("loss", "validation_loss", "validation_accuracy"):
        np.testing.assert_array_equal(result.history.column(name), expected.history.column(name))
    for mine, its in zip(result.network.weights, expected.network.weights, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert evaluate(result.network, wine) == evaluate(expected.network, Dataset(rows, CULTIVARS))


def test_the_gradients_are_right(wine):
    assert check_gradients(Network.for_data(wine, (5,), standardize=True), WINE[:4], CULTIVARS[:4]).passed


def test_a_model_file_keeps_it(wine, tmp_path):
    network = Network.for_data(wine, (8,), standardize=True)
    save(tmp_path / "model.safetensors", network)
    loaded = load(tmp_path / "model.safetensors").network
    assert loaded.standardization == network.standardization
    np.testing.assert_array_equal(
        get_backend("numpy").predict_proba(loaded, WINE), get_backend("numpy").predict_proba(network, WINE)
    )


@pytest.mark.parametrize("input_dtype", [None, "float64"])
def test_an_onnx_graph_takes_raw_rows(wine, tmp_path, input_dtype):
    onnxruntime = pytest.importorskip("onnxruntime")
    from fastnn import export_onnx

    network = train(Network.for_data(wine, (8,), standardize=True), wine, epochs=5, learning_rate=0.1).network
    export_onnx(tmp_path / "model.onnx", network, input_dtype=input_dtype)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    _, proba = session.run(None, {"X": WINE.astype(input_dtype or np.float32)})
    expected = get_backend("numpy").predict_proba(network, WINE.astype(input_dtype or np.float32))
    np.testing.assert_allclose(proba, expected, atol=2e-6)
