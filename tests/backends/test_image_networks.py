"""Networks for images as a whole: gradients, parity, equal bits, every option of training, and inputs of any dtype."""

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn import AvgPool2D, BatchNorm, Conv2D, Dataset, Dense, MaxPool2D, Network
from fastnn.backends import compiled, layerwise, reference
from fastnn.errors import DataError
from fastnn.explanation.gradient_check import check_gradients
from fastnn.network import ACTIVATIONS, LOSSES
from fastnn.optim.optimizers import SGD, Adam, AdamW
from fastnn.randomness import dropout_keep, dropout_keys
from tests.parity import assert_all_parity, assert_parity, assert_same_bits, astype, changes, make_inputs
from tests.parity import trained_arrays as trained

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
# No two sizes of an input are equal; three classes.
SHAPE = (2, 9, 8)
CHAINS = {
    "two convolutions and pools": [Conv2D(3, 3), MaxPool2D(), Conv2D(4, 2), MaxPool2D(2, 1), Dense(6), Dense(3)],
    "no pool": [Conv2D(4, (2, 3), activation="tanh"), Conv2D(3, 3, activation="elu"), Dense(3)],
    "strides": [Conv2D(3, 2, stride=(2, 1)), Conv2D(4, (1, 2), stride=3), Dense(3)],
    "strides larger than kernels": [Conv2D(3, (2, 1), stride=(3, 2), activation="tanh"), Dense(5), Dense(3)],
    "padding": [Conv2D(3, 3, padding="same"), MaxPool2D(3, 2, padding=1), Conv2D(2, 3, padding=2), Dense(3)],
    "1 x 1": [Conv2D(5, 1), MaxPool2D(1, 2), Conv2D(4, 1, stride=2), Dense(3)],
    "means": [Conv2D(3, 2, activation="silu"), AvgPool2D((2, 3), (1, 2), (1, 1)), Conv2D(4, 2), AvgPool2D(), Dense(3)],
    "pools first and in a row": [MaxPool2D(2, 1), AvgPool2D((1, 2), 1), Conv2D(4, 3), Dense(3)],
    "activation after the pool": [Conv2D(5, 3, activation="identity"), MaxPool2D(activation="relu"), Dense(3)],
    "batch norm": [
        BatchNorm(), Conv2D(4, 3, activation="identity"), BatchNorm("relu"), MaxPool2D(), Dense(4), Dense(3)
    ],
    "the logits are means": [BatchNorm("tanh"), Conv2D(3, 1), AvgPool2D((9, 8))],
    "the logits are channels": [Conv2D(4, 3), AvgPool2D((7, 6)), Conv2D(3, 1)],
    "a wide dense tail": [Conv2D(2, 4), MaxPool2D(), Dense(130), Dense(70, "tanh"), Dense(3)],
    "many channels": [Conv2D(17, 3), MaxPool2D(), Conv2D(33, 2), Dense(3)],
}  # fmt: skip
CHAIN = pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
SETTINGS = {
    "l2": 0.05, "divide_l2": True, "dropout": 0.2, "label_smoothing": 0.1, "seed": 3, "epoch": 1,
    "sample_weight": np.array([1.0, 0.0, 2.0, 3.0, 0.5]),
}  # fmt: skip


def _network(layers, dtype="float64", output="softmax", **settings):
    """Return a network with random biases and scales."""
    network = Network.initialize(SHAPE, layers, output=output, dtype="float64", seed=1, **settings)
    rng = np.random.default_rng(2)
    arrays = [
        [array + 0.1 * rng.standard_normal(array.shape) for array in each] for each in (network.weights, network.biases)
    ]
    return astype(network.like(*arrays), dtype)


def _batch(n, dtype="float64", n_classes=3):
    rng = np.random.default_rng(3)
    return make_inputs(rng, (n, 144), dtype), rng.integers(n_classes, size=n)


def _losses(result):
    return [each.loss for each in result.history]


# --- Gradients --------------------------------------------------------------------------------------------------------
@BACKENDS
@CHAIN
def test_gradients_of_every_layer(backend, layers):
    inp, labels = _batch(5)
    check = check_gradients(_network(layers), inp, labels, backend=backend, n_weights=60, **SETTINGS)
    assert check.passed, check
    assert check.kinks <= 2, check


@BACKENDS
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_every_activation(backend, activation):
    inp, labels = _batch(4)
    layers = [Conv2D(2, 3, activation=activation), MaxPool2D(activation=activation), Dense(3)]
    check = check_gradients(_network(layers), inp, labels, backend=backend, n_weights=60)
    assert check.passed, check


@BACKENDS
@pytest.mark.parametrize("output", LOSSES)
def test_gradients_of_every_loss(backend, output):
    rng, network = np.random.default_rng(4), _network(CHAINS["means"], output=output)
    targets = rng.integers(3, size=5) if network.loss.uses_labels else rng.random((5, 3))
    check = check_gradients(network, rng.standard_normal((5, 144)), targets, backend=backend, n_weights=60)
    assert check.passed, check


# --- Parity -----------------------------------------------------------------------------------------------------------
@BACKENDS
@DTYPES
@CHAIN
def test_loss_gradients_and_predictions_agree_with_the_float64_reference(backend, dtype, layers):
    for n, settings in ((2, {}), (5, SETTINGS), (33, {"l2": 0.01, "dropout": 0.3, "seed": 5, "epoch": 2})):
        for kind in ("uint8", dtype):
            inp, labels = _batch(n, kind)
            network = _network(layers, dtype, input_scale=1 / 255 if kind == "uint8" else 1.0)
            exact = astype(network, "float64")
            found = backend.loss_and_gradients(network, inp, labels, **settings)
            expected = reference.loss_and_gradients(exact, inp, labels, **settings)
            assert_parity(np.array(found.loss, dtype), np.array(expected.loss), "loss")
            assert_all_parity(found.dweights, expected.dweights, "dweight")
            # As one array: a bias before batch normalisation has no effect, so its gradient is rounding.
            assert_parity(np.concatenate(found.dbiases), np.concatenate(expected.dbiases), "dbias")
            assert found.n_correct == expected.n_correct
            logits = backend.predict_logits(network, inp)
            assert_parity(logits, reference.predict_logits(exact, inp), "logits")
            assert_parity(backend.predict_proba(network, inp[:1]), reference.predict_proba(exact, inp[:1]), "one row")


# Adam divides by the magnitude of the gradient. This epsilon is large compared with the rounding of a gradient near 0.
OPTIMIZERS = {
    "sgd": SGD(),
    "momentum": SGD(0.9),
    "nesterov": SGD(0.8, nesterov=True),
    "adam": Adam(epsilon=1e-3),
    "adamw": AdamW(epsilon=1e-3, weight_decay=0.3),
}


@BACKENDS
@DTYPES
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_training_steps_agree_with_the_float64_reference(backend, dtype, optimizer, kind):
    """Compares the losses and the change of each weight after one step, and after six of which two are short."""
    layers = [Conv2D(5, 3, activation="tanh"), AvgPool2D(), Conv2D(6, 2, activation="tanh"), Dense(9, "tanh"), Dense(3)]
    network = _network(layers, dtype, input_scale=1 / 255 if kind == "uint8" else 1.0)
    (inp, labels), order = _batch(71, kind), np.random.default_rng(5).permutation(71)
    settings = {"l2": 0.01, "dropout": 0.2, "seed": 3, "sample_weight": np.linspace(0, 2, 71)}
    for rows, epochs in ((order[:32], 1), (order, 2)):
        found = backend.trainer(network, inp, labels, optimizer, **settings)
        exact = reference.trainer(astype(network, "float64"), inp, labels, optimizer, **settings)
        losses = [[trainer.run_epoch(rows, 32, 0.02).loss for _ in range(epochs)] for trainer in (found, exact)]
        np.testing.assert_allclose(*losses, rtol=1e-9 if dtype == "float64" else 2e-4)
        # Each step rounds the weight; the error of a gradient is some hundred roundings of its largest entry.
        eps, steps = np.finfo(dtype).eps, epochs * -(-len(rows) // 32)
        arrays = *network.weights, *network.biases
        for start, one, other in zip(arrays, changes(network, found), changes(network, exact), strict=True):
            weight, change = np.abs(start).max(), np.abs(other).max()
            assert change > 0
            tolerance = eps * (steps * (weight + change) + 2000 * change)
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@BACKENDS
@DTYPES
def test_l_bfgs_takes_the_same_steps(backend, dtype):
    inp, labels = _batch(40)
    network = _network([Conv2D(4, 3, activation="tanh"), AvgPool2D(), Dense(3)], dtype)
    settings = {"optimizer": "lbfgs", "epochs": 8, "l2": 0.01, "batch_size": None}
    name = "numba" if backend is compiled else "numpy"
    found = fastnn.train(network, (inp, labels), backend=name, **settings)
    exact = fastnn.train(astype(network, "float64"), (inp, labels), backend="numpy", **settings)
    losses = _losses(found), _losses(exact)
    assert losses[0][-1] < 0.5 * losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-9 if dtype == "float64" else 1e-4)


# --- Equal bits -------------------------------------------------------------------------------------------------------
@BACKENDS
@CHAIN
def test_the_same_seed_gives_the_same_bits(backend, layers):
    (inp, labels), order = _batch(50, "uint8"), np.arange(50)[::-1]
    runs = []
    for _ in range(2):
        network = Network.initialize(SHAPE, layers, seed=7, input_scale=1 / 255)
        trainer = backend.trainer(network, inp, labels, "adam", dropout=0.2, seed=4)
        losses = [np.array(trainer.run_epoch(order, 16, 0.01).loss) for _ in range(2)]
        runs.append([*losses, *trained(trainer), *trainer.network().statistics, backend.predict_proba(network, inp)])
    assert_same_bits(*runs)


def test_any_number_of_threads_gives_the_same_bits(started):
    inp, labels = _batch(300, "uint8")
    network = _network(CHAINS["a wide dense tail"], "float32", input_scale=1 / 255)
    runs = []
    for threads in (1, 2, 3, 4):
        trainer = compiled.trainer(network, inp, labels, "momentum", dropout=0.2, threads=threads)
        trainer.run_epoch(np.arange(300), 128, 0.05)
        runs.append([*trained(trainer), compiled.predict_proba(network, inp, threads)])
    for arrays in runs[1:]:
        assert_same_bits(arrays, runs[0])
    assert {1, 2, 3, 4} <= set(started)


@BACKENDS
def test_an_epoch_in_parts_has_the_bits_of_a_whole_one(backend):
    inp, labels = _batch(70)
    network = _network(CHAINS["batch norm"], "float32")
    whole, parts = (backend.trainer(network, inp, labels, "adam", dropout=0.1) for _ in range(2))
    expected = whole.run_epoch(np.arange(70), 16, 0.01)
    for batches in (range(0, 2), range(2, 3), range(3, 5)):
        found = parts.run_epoch(np.arange(70), 16, 0.01, batches)
    assert found == expected
    assert_same_bits(trained(parts), trained(whole))
    assert_same_bits(parts.network().statistics, whole.network().statistics)


@BACKENDS
def test_rows_are_predicted_block_by_block(backend, monkeypatch):
    """The patches of all rows at once would not fit into memory."""
    inp, _ = _batch(23)
    network = _network(CHAINS["two convolutions and pools"], "float32")
    expected = reference.predict_proba(astype(network, "float64"), inp)
    for at_once in (1, 5000, 20_000):
        monkeypatch.setattr(layerwise, "_PREDICTED_AT_ONCE", at_once)
        assert_parity(backend.predict_proba(network, inp), expected)
        assert backend.predict_proba(network, inp[:0]).shape == (0, 3)


# --- Layers within a network ------------------------------------------------------------------------------------------
@BACKENDS
@DTYPES
def test_batch_norm_takes_the_mean_and_variance_of_each_channel(backend, dtype):
    """Over samples, rows and columns; the variance that enters the running average is divided by one less."""
    layers = [BatchNorm(momentum=0.75, epsilon=1e-3), Dense(3)]
    network = _network(layers, dtype)
    inp, labels = _batch(6)
    inp = (3 * inp + 1).astype(dtype)
    images, (scale, shift) = inp.astype(np.float64).reshape(6, *SHAPE), (network.weights[0], network.biases[0])
    mean, variance, n = np.empty(2), np.empty(2), 6 * 9 * 8
    for channel in range(2):
        mean[channel] = images[:, channel].sum() / n
        variance[channel] = ((images[:, channel] - mean[channel]) ** 2).sum() / n
    normal = (images - mean[:, None, None]) / np.sqrt(variance + 1e-3)[:, None, None]
    passes = layerwise.forward(backend, network, inp, training=True)
    assert_parity(passes[0].out, normal * scale[:, None, None] + shift[:, None, None])
    trainer = backend.trainer(network, inp, labels)
    trainer.run_epoch(np.arange(6), 6, 1e-6)
    averages = 0.25 * mean, 0.75 + 0.25 * variance * n / (n - 1)
    for found, expected in zip(trainer.network().statistics, averages, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == "float32" else 1e-12)
    prediction = backend.predict_logits(trainer.network(), inp)
    normal = (images - averages[0][:, None, None]) / np.sqrt(averages[1] + 1e-3)[:, None, None]
    (scale, weight), (shift, bias) = trainer.network().weights, trainer.network().biases
    rows = (normal * scale[:, None, None] + shift[:, None, None]).reshape(6, -1)
    assert_parity(prediction, rows @ weight.astype(np.float64) + bias)


@BACKENDS
@DTYPES
def test_dropout_applies_to_what_comes_into_dense_layers(backend, dtype):
    """After convolutions and pools, which keep all their inputs; each pixel of each channel is dropped by itself."""
    network = _network([Conv2D(4, 3, activation="tanh"), AvgPool2D(), Dense(5, "tanh"), Dense(3)], dtype)
    (inp, labels), rate = _batch(7, dtype), 0.4
    found = backend.loss_and_gradients(network, inp, labels, dropout=rate, seed=3, epoch=2)
    exact = astype(network, "float64")
    front = Network(
        exact.weights[:1], exact.biases[:1], layers=[Conv2D(4, 3, activation="tanh"), AvgPool2D()], input_shape=SHAPE
    )
    out = reference.predict_logits(front, inp)
    _, *keys = dropout_keys(3, 2, 3)  # after that of the inputs
    for key, weight, bias in zip(keys, exact.weights[1:], exact.biases[1:], strict=True):
        if out.shape[1] == 5:
            out = np.tanh(out)
        keep = dropout_keep(key, np.arange(7), out.shape[1], rate)
        assert 0.2 < keep.mean() < 0.9
        out = (out * keep / (1 - rate)) @ weight + bias
    loss, _ = reference.softmax_cross_entropy(out, labels)
    assert_parity(np.array(found.loss, dtype), np.array(loss))


@BACKENDS
@DTYPES
def test_a_sample_weight_counts_the_sample_as_often(backend, dtype):
    network, (inp, labels) = _network(CHAINS["two convolutions and pools"], dtype), _batch(6, dtype)
    weight = np.array([1, 0, 2, 0, 3, 1])
    found = backend.loss_and_gradients(network, inp, labels, sample_weight=weight)
    rows = np.repeat(np.arange(6), weight)
    expected = reference.loss_and_gradients(astype(network, "float64"), inp[rows], labels[rows])
    assert_parity(np.array(found.loss, dtype), np.array(expected.loss))
    assert_all_parity([*found.dweights, *found.dbiases], [*expected.dweights, *expected.dbiases])


@BACKENDS
@DTYPES
def test_l2_penalises_the_weights_of_convolutions_and_neither_biases_nor_scales(backend, dtype):
    network, (inp, labels) = _network(CHAINS["batch norm"], dtype), _batch(6, dtype)
    plain, found = (backend.loss_and_gradients(network, inp, labels, l2=l2) for l2 in (0.0, 0.5))
    squares = sum(np.sum(np.square(weight, dtype=np.float64)) for weight in network.weights if weight.ndim > 1)
    assert found.loss == pytest.approx(plain.loss + 0.25 * squares, rel=1e-5)
    for weight, one, other in zip(network.weights, found.dweights, plain.dweights, strict=True):
        expected = other.astype(np.float64) + 0.5 * weight * (weight.ndim > 1)
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
    assert_all_parity(found.dbiases, [array.astype(np.float64) for array in plain.dbiases])


# --- Training and its data --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits():
    """600 images of digits of 8 x 8 pixels, from 0 to 16."""
    data = fastnn.load_digits()
    return Dataset(data.images[:600], data.labels[:600], pixel_max=16, image_shape=(8, 8))


OPTIONS = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.2},
    "nesterov and a schedule": {"optimizer": "nesterov", "learning_rate": 0.05, "schedule": "cosine", "warm_up": 1},
    "adam, dropout and weights": {"optimizer": "adam", "dropout": 0.1, "sample_weight": np.linspace(0.5, 2, 600)},
    "adamw, l2 and smoothing": {"optimizer": "adamw", "l2": 0.001, "label_smoothing": 0.05},
    "clipping and augmentation": {"optimizer": "adam", "clip_norm": 5.0, "augment": "shift=1"},
    "l-bfgs": {"optimizer": "lbfgs", "epochs": 10, "batch_size": None, "learning_rate": None, "l2": 0.001},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_of_training_learns_the_same_in_both_backends(options, digits):
    network = Network.for_data(digits, [Conv2D(6, 3), MaxPool2D(), Dense(24)], seed=3)
    settings = {
        "epochs": 6,
        "batch_size": 32,
        "learning_rate": 0.01,
        "validation": 0.2,
        "early_stopping": 50,
        **options,
    }
    results = []
    for backend in ("numpy", "numba"):
        seen = []
        results.append(fastnn.train(network, digits, backend=backend, callbacks=[seen.append], **settings))
        assert len(seen) == len(results[-1].history)
        assert _losses(results[-1])[-1] < 0.6 * _losses(results[-1])[0]
    losses = [_losses(result) for result in results]
    np.testing.assert_allclose(losses[0][:2], losses[1][:2], rtol=1e-3)
    np.testing.assert_allclose(*losses, rtol=0.05, atol=0.02)


@BACKENDS
def test_early_stopping_keeps_the_best_network(backend, digits):
    network = Network.for_data(digits, [Conv2D(4, 3), BatchNorm("relu"), MaxPool2D(), Dense(16)], seed=3)
    settings = {"epochs": 200, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.02, "validation": 0.2}
    name = "numba" if backend is compiled else "numpy"
    result = fastnn.train(network, digits, backend=name, early_stopping=2, **settings)
    losses = [each.validation_loss for each in result.history]
    assert result.stopped == "early"
    assert result.best_epoch == np.argmin(losses) + 1 == len(losses) - 2
    whole = fastnn.train(network, digits, backend=name, **(settings | {"epochs": result.best_epoch}))
    assert_same_bits(result.network.weights, whole.network.weights)
    assert_same_bits(result.network.statistics, whole.network.statistics)


@BACKENDS
def test_pixels_of_any_dtype_are_the_same_images(backend):
    """uint8 with a scale, numbers from 0 to 1, and rows in any order in memory."""
    pixels, labels = _batch(20, "uint8")
    layers = CHAINS["two convolutions and pools"]
    network = _network(layers, "float64", input_scale=1 / 255)
    scaled = _network(layers, "float64")
    expected = reference.loss_and_gradients(network, pixels, labels)
    for form in (pixels / 255, np.asfortranarray(pixels / 255), np.repeat(pixels / 255, 2, axis=1)[:, ::2]):
        found = backend.loss_and_gradients(scaled, form, labels)
        assert_all_parity([*found.dweights, *found.dbiases], [*expected.dweights, *expected.dbiases])
        assert_parity(backend.predict_logits(scaled, form), reference.predict_logits(network, pixels))
    for dtype in (np.uint8, np.int64, np.float32, np.float64):
        found = backend.predict_logits(network, pixels.astype(dtype)[::-1])
        assert_parity(found, reference.predict_logits(network, pixels)[::-1])


@BACKENDS
def test_a_standardised_network_for_images(backend, digits):
    network = Network.for_data(digits, [Conv2D(4, 3), MaxPool2D()], standardize=True, dtype="float64")
    mean, scale = digits.images.mean(axis=0), digits.images.std(axis=0)
    by_hand = (digits.images - mean) / np.where(scale > 0, scale, 1)
    plain = Network(network.weights, network.biases, layers=network.layers, input_shape=(1, 8, 8))
    np.testing.assert_allclose(
        backend.predict_logits(network, digits.images), reference.predict_logits(plain, by_hand), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("layers", [CHAINS["no pool"], CHAINS["pools first and in a row"]], ids=["conv", "pool"])
def test_sparse_images_are_refused_in_one_line(backend, layers):
    network, labels = _network(layers, "float32"), np.arange(5) % 3
    matrix, engine = scipy.sparse.csr_matrix(np.eye(5, 144, dtype=np.float32)), fastnn.get_backend(backend)
    for call in (
        lambda: engine.predict_logits(network, matrix),
        lambda: engine.predict_proba(network, matrix),
        lambda: engine.loss_and_gradients(network, matrix, labels),
        lambda: engine.trainer(network, matrix, labels),
        lambda: fastnn.train(network, (matrix, labels), epochs=1, backend=backend),
        lambda: fastnn.evaluate(network, (matrix, labels), backend=backend),
    ):
        with pytest.raises(
            DataError, match="inputs are a sparse matrix, expected an array for the first layer"
        ) as caught:
            call()
        assert "\n" not in str(caught.value)


@BACKENDS
def test_nan_in_a_weight_or_a_pixel_reaches_the_output(backend):
    for layers in (CHAINS["two convolutions and pools"], CHAINS["means"]):
        network, (inp, labels) = _network(layers, "float32"), _batch(3, "float32")
        inp[1] = np.nan
        with np.errstate(invalid="ignore"):
            found = backend.predict_proba(network, inp)
        assert np.isnan(found[1]).all()
        assert np.isfinite(found[[0, 2]]).all()
        assert backend.trainer(network, inp, labels).run_epoch(np.arange(3), 1, 0.1).failed_batch == 1
        network.weights[0][0, 0, 0, 0] = np.nan
        with np.errstate(invalid="ignore"):
            assert np.isnan(backend.predict_proba(network, _batch(2)[0])).all()


@BACKENDS
def test_inputs_that_do_not_fit_are_refused_in_one_line(backend):
    network, labels = _network(CHAINS["no pool"]), np.arange(5) % 3
    for inp in (np.ones((5, 143)), np.ones((5, 2, 9, 8)), np.ones((5, 9, 8, 2)), np.ones((5, 144), complex)):
        for call in (backend.predict_proba, lambda *arguments: backend.trainer(*arguments, labels)):
            with pytest.raises(DataError, match="inputs have") as caught:
                call(network, inp)
            assert "\n" not in str(caught.value)
