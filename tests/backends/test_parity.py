"""Parity: every operation and whole training steps of both backends agree with the reference in float64."""

import numpy as np
import pytest

from fastnn.backends import compiled, reference
from fastnn.errors import SettingsError
from fastnn.network import ACTIVATIONS, BatchNorm, Dense, Network
from fastnn.optim.config import TrainingConfig
from fastnn.optim.optimizers import SGD, Adam, AdamW, get_optimizer
from tests.parity import assert_all_parity, assert_parity, astype, changes, make_inputs, make_network

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
INPUT_DTYPES = pytest.mark.parametrize("input_dtype", ["uint8", "float32", "float64"])
# Sizes that do not fill a block or need more than one: 1 row, 1 input, 1 or 17 units, 2 or 100 classes, 130 units.
SHAPES = [(1, 1, 1), (1, 784, 17), (3, 5, 1), (65, 17, 2), (64, 64, 64), (33, 100, 130), (257, 63, 100)]
SHAPE_IDS = ["x".join(map(str, shape)) for shape in SHAPES]


def _rounded(dtype, *arrays):
    return [array.astype(dtype) for array in arrays]


@BACKENDS
@DTYPES
@INPUT_DTYPES
@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
def test_matmul_agrees_with_numpy_in_float64(backend, dtype, input_dtype, shape):
    rng, (B, D, H) = np.random.default_rng(1), shape
    inp, (weight,) = make_inputs(rng, (B, D), input_dtype), _rounded(dtype, rng.standard_normal((D, H)))
    out = backend.matmul(inp, weight)
    assert out.dtype == dtype
    assert_parity(out, inp.astype(dtype).astype(np.float64) @ weight.astype(np.float64))


@BACKENDS
@DTYPES
def test_relu_keeps_nan(backend, dtype):
    inp = np.array([[-1.0, 0.0, 2.0, np.nan, np.inf, -np.inf]], dtype)
    np.testing.assert_array_equal(backend.relu(inp), np.array([[0.0, 0.0, 2.0, np.nan, np.inf, 0.0]], dtype))
    dout = np.array([[3.0, 3.0, 3.0, 3.0, 3.0, 3.0]], dtype)
    out = np.array([[0.0, 0.0, 2.0, 1.0, np.inf, 0.0]], dtype)
    np.testing.assert_array_equal(backend.relu_backward(dout, out), np.array([[0, 0, 3, 3, 3, 0]], dtype))


@BACKENDS
@DTYPES
@pytest.mark.parametrize("classes", [1, 2, 10, 17, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_and_cross_entropy_agree_with_the_float64_reference(backend, dtype, classes, weighted):
    rng = np.random.default_rng(2)
    (logits,), labels = _rounded(dtype, rng.standard_normal((65, classes)) * 10), rng.integers(classes, size=65)
    sample_weight = rng.random(65).astype(dtype) if weighted else None
    exact = logits.astype(np.float64)
    assert_parity(backend.softmax(logits), reference.softmax(exact))
    loss, dlogits = backend.softmax_cross_entropy(logits, labels, sample_weight)
    exact_weight = sample_weight.astype(np.float64) if weighted else None
    exact_loss, exact_dlogits = reference.softmax_cross_entropy(exact, labels, exact_weight)
    assert_parity(np.array(loss, dtype), np.array(exact_loss))
    assert_parity(dlogits, exact_dlogits)


@BACKENDS
@DTYPES
def test_huge_logits_do_not_overflow(backend, dtype):
    proba = backend.softmax(np.array([[1e30, 0.0, -1e30], [1000.0, 1000.0, 999.0]], dtype))
    np.testing.assert_array_equal(proba[0], [1, 0, 0])
    e = np.exp(-1.0)
    np.testing.assert_allclose(proba[1], [1 / (2 + e), 1 / (2 + e), e / (2 + e)], rtol=1e-6)
    loss, _ = backend.softmax_cross_entropy(np.array([[1000.0, 0.0]], dtype), np.array([1]))
    assert loss == 1000


@BACKENDS
def test_softmax_and_its_loss_equal_values_computed_by_hand(backend):
    """Logits ln 1, ln 2, ln 5 have probabilities 1/8, 2/8, 5/8."""
    logits = np.log([[1.0, 2.0, 5.0]])
    np.testing.assert_allclose(backend.softmax(logits), [[0.125, 0.25, 0.625]], rtol=1e-15)
    loss, dlogits = backend.softmax_cross_entropy(logits, np.array([1]))
    assert loss == pytest.approx(np.log(4), rel=1e-15)
    np.testing.assert_allclose(dlogits, [[0.125, -0.75, 0.625]], rtol=1e-14)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("classes", [2, 7, 33])
def test_label_smoothing_equals_the_cross_entropy_with_smoothed_targets(backend, dtype, classes):
    """The expected values come from the definition: minus the sum of target * log(probability)."""
    rng = np.random.default_rng(3)
    (logits,), labels = _rounded(dtype, rng.standard_normal((65, classes)) * 3), rng.integers(classes, size=65)
    targets = 0.8 * np.eye(classes)[labels] + 0.2 / classes
    proba = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True)
    loss, dlogits = backend.softmax_cross_entropy(logits, labels, smoothing=0.2)
    assert_parity(np.array(loss, dtype), -(targets * np.log(proba)).sum(axis=1).mean())
    assert_parity(dlogits, (proba - targets) / 65)


@BACKENDS
@DTYPES
@INPUT_DTYPES
@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
def test_dense_forward_and_backward_agree_with_the_float64_reference(backend, dtype, input_dtype, shape):
    rng, (B, D, H) = np.random.default_rng(3), shape
    inp = make_inputs(rng, (B, D), input_dtype)
    weight, bias, dsums = _rounded(
        dtype, rng.standard_normal((D, H)) / (255 * D), rng.standard_normal(H), rng.standard_normal((B, H))
    )
    exact = [array.astype(np.float64) for array in (inp.astype(dtype), weight, bias, dsums)]
    assert_parity(backend.dense_forward(inp, weight, bias), exact[0] @ exact[1] + exact[2], "forward")
    found = backend.dense_backward(dsums, inp, weight)
    assert_all_parity(found, (exact[3] @ exact[1].T, exact[0].T @ exact[3], exact[3].sum(axis=0)), "backward")
    assert backend.dense_backward(dsums, inp, weight, needs_dinp=False)[0] is None


@BACKENDS
@DTYPES
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_agree_with_the_float64_reference(backend, dtype, activation):
    rng = np.random.default_rng(13)
    inp, dout = _rounded(dtype, rng.standard_normal((33, 17)) * 3, rng.standard_normal((33, 17)))
    exact_inp, exact_dout = inp.astype(np.float64), dout.astype(np.float64)
    out, exact = backend.activate(inp, activation), reference.activate(exact_inp, activation)
    assert_parity(out, exact, "forward")
    found = backend.activate_backward(dout, inp, out, activation)
    assert_parity(found, reference.activate_backward(exact_dout, exact_inp, exact, activation), "backward")
    extreme = np.array([[-np.inf, -1e4, 0.0, 1e4, np.inf, np.nan]], dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        values = backend.activate(extreme, activation)[0]
    assert np.isfinite(values[1:4]).all()
    assert np.isnan(values[5])


@BACKENDS
@DTYPES
@pytest.mark.parametrize("shape", [(3, 1), (33, 17), (257, 130)], ids=lambda shape: "x".join(map(str, shape)))
def test_batch_norm_agrees_with_the_float64_reference(backend, dtype, shape):
    rng = np.random.default_rng(14)
    inp, dout = _rounded(dtype, rng.standard_normal(shape) * 2 + 3, rng.standard_normal(shape))
    weight, bias = _rounded(dtype, rng.standard_normal(shape[1]), rng.standard_normal(shape[1]))
    exact = [array.astype(np.float64) for array in (inp, weight, bias, dout)]
    found = backend.batch_norm_forward(inp, weight, bias, 1e-3)
    mean, variance = exact[0].mean(axis=0), exact[0].var(axis=0)
    out = exact[1] * (exact[0] - mean) / np.sqrt(variance + 1e-3) + exact[2]
    assert_all_parity(found, (out, mean, variance), "forward")
    assert_parity(backend.batch_norm(inp, weight, bias, *found[1:], 1e-3), out, "with given statistics")
    found = backend.batch_norm_backward(dout, inp, weight, *found[1:], 1e-3)
    assert_all_parity(
        found, reference.batch_norm_backward(exact[3], exact[0], exact[1], mean, variance, 1e-3), "backward"
    )


NETWORKS = {
    "1 unit": (5, 1, 2),
    "17 units": (100, 17, 10),
    "2 classes": (64, 65, 2),
    "100 classes": (30, 40, 100),
    "no hidden layer": (50, 10),
    "3 hidden layers": (65, 130, 33, 7, 10),
    "panels": (100, 192, 128, 70),
}


@BACKENDS
@DTYPES
@INPUT_DTYPES
@pytest.mark.parametrize("sizes", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize(
    ("n", "activation", "options"),
    [
        (1, "relu", {}),
        (64, "tanh", {"l2": 0.01}),
        (33, "relu", {"dropout": 0.3, "seed": 5, "epoch": 2}),
        (300, "logistic", {"dropout": 0.5, "l2": 0.1, "sample_weight": np.random.default_rng(1).random(300)}),
    ],
    ids=["one row", "l2", "dropout", "dropout, l2 and sample weights"],
)
def test_loss_and_gradients_agree_with_the_float64_reference(
    backend, dtype, input_dtype, sizes, n, activation, options
):
    rng = np.random.default_rng(4)
    network = make_network(rng, sizes, input_dtype, dtype, activation)
    inp, labels = make_inputs(rng, (n, sizes[0]), input_dtype), rng.integers(sizes[-1], size=n)
    found = backend.loss_and_gradients(network, inp, labels, **options)
    expected = reference.loss_and_gradients(astype(network, "float64"), inp, labels, **options)
    assert_parity(np.array(found.loss, dtype), np.array(expected.loss), "loss")
    assert_all_parity(found.dweights, expected.dweights, "dweight")
    assert_all_parity(found.dbiases, expected.dbiases, "dbias")
    assert found.n_correct == expected.n_correct
    assert_parity(
        backend.predict_logits(network, inp), reference.predict_logits(astype(network, "float64"), inp), "logits"
    )


# Chains of layers, and whether the fused kernels cover them.
CHAINS = {
    "batch norm": ([Dense(20, "identity"), BatchNorm("relu"), Dense(17), BatchNorm(), Dense(5)], False),
    "batch norm first": ([BatchNorm(), Dense(20, "tanh"), Dense(5)], False),
    "gelu and silu": ([Dense(20, "gelu"), Dense(17, "silu"), Dense(5)], False),
    "one activation without a kernel": ([Dense(20, "relu"), Dense(17, "silu"), Dense(5)], False),
    "two activations": ([Dense(20, "leaky_relu"), Dense(17, "elu"), Dense(5)], True),
    "three activations": ([Dense(70, "elu"), Dense(9, "logistic"), Dense(70, "identity"), Dense(5)], True),
}


@BACKENDS
@DTYPES
@INPUT_DTYPES
@pytest.mark.parametrize(("layers", "is_fused"), CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("optimizer", ["sgd", AdamW(epsilon=1e-3, weight_decay=0.3)], ids=["sgd", "adamw"])
def test_chains_of_layers_agree_with_the_float64_reference(backend, dtype, input_dtype, layers, is_fused, optimizer):
    """Compares the loss, the gradients, the predictions and the running statistics of four steps."""
    rng = np.random.default_rng(15)
    inp, labels = make_inputs(rng, (100, 30), input_dtype), rng.integers(5, size=100)
    network = Network.initialize((30,), layers, dtype=dtype, seed=1, input_scale=1 / 255 if inp.dtype == "uint8" else 1)
    options = {"l2": 0.01, "dropout": 0.2, "label_smoothing": 0.1, "sample_weight": rng.random(100), "seed": 3}
    exact = astype(network, "float64")
    trainer = compiled.fused_trainer(network, TrainingConfig(optimizer=optimizer, label_smoothing=0.1))
    assert (trainer is not None) == is_fused
    found = backend.loss_and_gradients(network, inp, labels, **options)
    expected = reference.loss_and_gradients(exact, inp, labels, **options)
    assert_parity(np.array(found.loss, dtype), np.array(expected.loss), "loss")
    # All biases are compared as one array: a bias before batch normalisation has no effect, its gradient is rounding.
    assert_all_parity(found.dweights, expected.dweights, "dweight")
    assert_parity(np.concatenate(found.dbiases), np.concatenate(expected.dbiases), "dbias")
    trainers = [
        engine.trainer(each, inp, labels, optimizer, **options)
        for engine, each in ((backend, network), (reference, exact))
    ]
    losses = [[trainer.run_epoch(np.arange(100), 50, 0.05).loss for _ in range(2)] for trainer in trainers]
    np.testing.assert_allclose(*losses, rtol=1e-9 if dtype == "float64" else 2e-4)
    trained, exact = (trainer.network() for trainer in trainers)
    assert len(trained.statistics) == 2 * sum(isinstance(layer, BatchNorm) for layer in layers)
    for one, other in zip(trained.statistics, exact.statistics, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9 if dtype == "float64" else 1e-3, atol=1e-4)
    assert_parity(backend.predict_proba(network, inp), reference.predict_proba(astype(network, "float64"), inp))


def test_batch_norm_predicts_with_the_running_averages_of_its_batches():
    """Two batches: each keeps 0.9 of the averages before it; the variance that enters is divided by B - 1."""
    network = Network.initialize((1,), [BatchNorm(), Dense(2)], dtype="float64")
    inp = np.array([[1.0], [3.0], [10.0], [20.0]])
    trainer = reference.trainer(network, inp, np.array([0, 1, 0, 1]))
    trainer.run_epoch(np.arange(4), 2, 1e-9)
    mean, variance = trainer.network().statistics
    np.testing.assert_allclose(mean, [0.9 * (0.1 * 2) + 0.1 * 15], rtol=1e-12)
    np.testing.assert_allclose(variance, [0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 50], rtol=1e-12)


@BACKENDS
def test_a_single_sample_at_the_end_of_an_epoch_keeps_the_running_averages(backend):
    """It has no variance, and would move the mean to itself."""
    rng = np.random.default_rng(16)
    network = Network.initialize((3,), [Dense(4, "identity"), BatchNorm("tanh"), Dense(2)], dtype="float64")
    inp, labels = rng.standard_normal((9, 3)), rng.integers(2, size=9)
    trainers = [backend.trainer(network, inp[:n], labels[:n], learning_rate=1.0) for n in (8, 9)]
    for trainer, n in zip(trainers, (8, 9), strict=True):
        trainer.run_epoch(np.arange(n), 8, 1e-12)
    assert_all_parity(*(trainer.network().statistics for trainer in trainers))
    with pytest.raises(SettingsError, match="batch_size is 1, expected 2 or more for batch normalisation"):
        backend.trainer(network, inp[:1], labels[:1])
    with pytest.raises(SettingsError, match=r"optimizer is LBFGS.*expected one that updates by batches"):
        backend.trainer(network, inp, labels, "lbfgs")


# Adam divides by the magnitude of the gradient. This epsilon is large compared with the rounding of a gradient near 0.
OPTIMIZERS = {
    "sgd": SGD(),
    "momentum": SGD(0.9),
    "nesterov": SGD(0.8, nesterov=True),
    "adam": Adam(epsilon=1e-3),
    "adam, other betas": Adam(0.8, 0.99, 1e-3),
    "adamw": AdamW(epsilon=1e-3, weight_decay=0.3),
}


@BACKENDS
@DTYPES
@INPUT_DTYPES
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize(("rows", "epochs"), [(64, 1), (131, 4)], ids=["one step", "twelve steps"])
def test_training_steps_agree_with_the_float64_reference(backend, dtype, input_dtype, optimizer, rows, epochs):
    """Compares the losses and the change of each weight; the epochs of 131 rows end with a short batch."""
    rng = np.random.default_rng(6)
    sizes, n, batch = (65, 70, 17, 10), 131, 64
    network = make_network(rng, sizes, input_dtype, dtype, "tanh")
    inp, labels = make_inputs(rng, (n, sizes[0]), input_dtype), rng.integers(10, size=n)
    options = {"l2": 0.01, "dropout": 0.2, "sample_weight": rng.random(n), "seed": 3}
    found = backend.trainer(network, inp, labels, optimizer, **options)
    exact = reference.trainer(astype(network, "float64"), inp, labels, optimizer, **options)
    order = rng.permutation(n)[:rows]
    losses = [[trainer.run_epoch(order, batch, 0.02).loss for _ in range(epochs)] for trainer in (found, exact)]
    np.testing.assert_allclose(*losses, rtol=1e-9 if dtype == "float64" else 2e-4)
    # Each step rounds the weight. The error of a gradient is about a hundred roundings of its largest entry (160 in
    # float64).
    eps, steps = np.finfo(dtype).eps, epochs * -(-rows // batch)
    arrays = (*network.weights, *network.biases)
    for index, (start, one, other) in enumerate(
        zip(arrays, changes(network, found), changes(network, exact), strict=True)
    ):
        largest_weight, largest_change = np.abs(start).max(), np.abs(other).max()
        assert largest_change > 0
        tolerance = eps * (steps * (largest_weight + largest_change) + 1000 * largest_change)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=f"change of array {index}")


@DTYPES
def test_an_epoch_on_mnist_agrees_between_backends(dtype, mnist_small):
    """On 2,000 images the loss agrees within 1e-3 relatively, and the accuracy within one image in 200."""
    images, labels = mnist_small
    network = make_network(np.random.default_rng(7), (784, 128, 10), "uint8", dtype, "relu")
    order = np.random.default_rng(8).permutation(len(images))
    results = [
        backend.trainer(network, images, labels, SGD(), threads=2).run_epoch(order, 64, 0.1)
        for backend in (reference, compiled)
    ]
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-3)
    assert results[0].accuracy == pytest.approx(results[1].accuracy, abs=0.005)
    assert results[0].accuracy > 0.6


@BACKENDS
@pytest.mark.parametrize("rows", [300, 513])
def test_a_batch_larger_than_a_block_is_one_step(backend, rows):
    """One step over all rows equals the step along the mean gradient, computed separately."""
    rng = np.random.default_rng(9)
    network = make_network(rng, (40, 70, 10), "uint8", "float64", "tanh")
    inp, labels = make_inputs(rng, (rows, 40), "uint8"), rng.integers(10, size=rows)
    gradients = reference.loss_and_gradients(network, inp, labels, l2=0.1)
    trainer = backend.trainer(network, inp, labels, SGD(), l2=0.1)
    result = trainer.run_epoch(np.arange(rows), rows, 0.5)
    assert result.loss == pytest.approx(gradients.loss, rel=1e-12)
    expected = [weight - 0.5 * dweight for weight, dweight in zip(network.weights, gradients.dweights, strict=True)]
    assert_all_parity(trainer.network().weights, expected)


@BACKENDS
def test_a_batch_of_weight_zero_changes_nothing(backend):
    """The batch changes no parameter, and the epoch's loss is that of the other batches."""
    rng = np.random.default_rng(10)
    network = make_network(rng, (6, 5, 3), "float64", "float64", "tanh")
    inp, labels = make_inputs(rng, (8, 6), "float64"), rng.integers(3, size=8)
    weight = np.array([0.0, 0, 0, 0, 1, 2, 3, 4])
    trainer = backend.trainer(network, inp, labels, SGD(), sample_weight=weight)
    result = trainer.run_epoch(np.arange(8), 4, 0.1)
    without = backend.trainer(network, inp[4:], labels[4:], SGD(), sample_weight=weight[4:])
    assert result.loss == pytest.approx(without.run_epoch(np.arange(4), 4, 0.1).loss, rel=1e-12)
    assert_all_parity(trainer.network().weights, without.network().weights)


@BACKENDS
def test_a_diverged_epoch_names_its_first_failed_batch(backend):
    rng = np.random.default_rng(11)
    network = make_network(rng, (20, 30, 5), "float64", "float32", "relu")
    inp, labels = make_inputs(rng, (96, 20), "float64") * 1e6, rng.integers(5, size=96)
    trainer = backend.trainer(network, inp, labels, SGD())
    failed = [trainer.run_epoch(np.arange(96), 32, 1e30).failed_batch for _ in range(2)]
    assert failed[0] in (1, 2)


@pytest.mark.parametrize("cause", ["weight", "input"])
@BACKENDS
def test_nan_in_a_weight_or_an_input_reaches_the_output(backend, cause):
    network = make_network(np.random.default_rng(12), (4, 6, 3), "float64", "float32", "relu")
    inp = np.ones((2, 4), np.float32)
    if cause == "input":
        inp[0, 0] = np.nan
    else:
        network.weights[0][0, 0] = np.nan
    assert np.isnan(backend.predict_proba(network, inp)[0]).all()
    if cause == "input":  # Network refuses NaN in the arrays it is made from
        trainer = backend.trainer(network, inp, np.array([0, 1]), SGD())
        assert trainer.run_epoch(np.arange(2), 2, 0.1).failed_batch == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
def test_optimizer_state_decays_to_zero_and_is_never_subnormal(optimizer, dtype):
    """Only the first step uses the second input. Each later step multiplies the state of its weights by 0.9."""
    images = np.array([[1, 255], [1, 0]], np.uint8)
    network = Network.initialize((2, 3, 2), seed=1, dtype=dtype, input_scale=1 / 255)
    trainer = compiled.trainer(network, images, np.array([0, 1]), get_optimizer(optimizer))
    trainer.run_epoch(np.array([0]), 1, 1e-3)

    def first_layers():
        """Return the state of the first layer's weights in each slot: (2, 3), one row per input."""
        return [weights[0] for weights, _ in trainer.state().slots]

    assert first_layers()[0][1].any()
    trainer.run_epoch(np.ones(10_000, np.int64), 1, 1e-3)
    for state in first_layers():
        assert (abs(state[state != 0]) >= np.finfo(dtype).tiny).all()
    assert not first_layers()[0][1].any()
