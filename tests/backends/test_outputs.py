"""Logistic, identity and exponential outputs in both backends: losses, gradients, steps, predictions and errors."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, mean_poisson_deviance, mean_squared_error

from fastnn.backends import compiled, reference
from fastnn.backends.arguments import check_run
from fastnn.backends.base import TrainerState
from fastnn.errors import DataError
from fastnn.explanation.gradient_check import check_gradients
from fastnn.network import Network
from fastnn.optim.optimizers import SGD, Adam, get_optimizer
from tests.parity import assert_all_parity, assert_parity, astype, make_inputs

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
OUTPUTS = pytest.mark.parametrize("output", ["logistic", "identity", "exp"])
FUSED_OUTPUTS = pytest.mark.parametrize("output", ["logistic", "identity"])  # those with kernels
# "rows": threads share the rows of a batch. "panels": they share panels of units.
SIZES = {"rows": (23, 17, 5), "panels": (65, 200, 70, 19), "no hidden layer": (30, 3), "one output": (12, 90, 1)}
SHAPES = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def _problem(rng, sizes, output, dtype, n=131, input_dtype="uint8"):
    scale = 1 / 255 if input_dtype == "uint8" else 1.0
    network = Network.initialize(sizes, activation="tanh", dtype=np.float64, input_scale=scale, output=output, seed=4)
    network = network.like(network.weights, [rng.standard_normal(bias.shape) * 0.1 for bias in network.biases])
    targets = rng.random((n, sizes[-1]))
    of_output = {"logistic": targets > 0.6, "identity": targets * 3 - 1, "exp": np.floor(targets * 4)}
    targets = of_output.get(output, targets).astype(float)
    return astype(network, dtype), make_inputs(rng, (n, sizes[0]), input_dtype), targets


@BACKENDS
@DTYPES
@pytest.mark.parametrize("outputs", [1, 3, 17, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_agree_with_scikit_learn(backend, dtype, outputs, weighted):
    rng = np.random.default_rng(1)
    outs, targets, weight = rng.standard_normal((65, outputs)) * 4, rng.random((65, outputs)) > 0.5, rng.random(65)
    rounded, targets = outs.astype(dtype), targets.astype(dtype)
    sample_weight, mean_weight = (weight, weight / weight.sum()) if weighted else (None, np.full(65, 1 / 65))
    found, dlogits = backend.logistic_cross_entropy(rounded, targets, sample_weight)
    proba = expit(rounded.astype(np.float64))
    expected = sum(
        log_loss(column, p, sample_weight=sample_weight, labels=[0, 1])
        for column, p in zip(targets.T, proba.T, strict=True)
    )
    assert_parity(np.array(found, dtype), np.array(expected))
    assert_parity(dlogits, (proba - targets) * mean_weight[:, None])
    found, douts = backend.squared_error(rounded, targets, sample_weight)
    errors = rounded.astype(np.float64) - targets
    expected = 0.5 * outputs * mean_squared_error(targets, rounded.astype(np.float64), sample_weight=sample_weight)
    assert_parity(np.array(found, dtype), np.array(expected))
    assert_parity(douts, errors * mean_weight[:, None])


@BACKENDS
@DTYPES
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_exponential_outputs_is_half_the_poisson_deviance(backend, dtype, outputs, weighted):
    rng = np.random.default_rng(2)
    logits, targets = rng.standard_normal((65, outputs)).astype(dtype), rng.poisson(1.0, (65, outputs)).astype(dtype)
    weight = rng.random(65) if weighted else None
    found, dlogits = backend.mean_loss("exp", logits, targets, weight)
    rates = np.exp(logits.astype(np.float64))
    columns = zip(targets.T, rates.T, strict=True)
    expected = sum(mean_poisson_deviance(column, rate, sample_weight=weight) / 2 for column, rate in columns)
    assert_parity(np.array(found, dtype), np.array(expected))
    share = np.full(65, 1 / 65) if weight is None else weight / weight.sum()
    assert_parity(dlogits, (rates - targets) * share[:, None])


@BACKENDS
@DTYPES
def test_the_loss_of_huge_logits_is_exact_and_does_not_overflow(backend, dtype):
    """By hand: the loss of a logit of 1000 is 0 for the target 1, and 1000 for the target 0."""
    logits, targets = np.array([[1000.0, 1000.0], [-1000.0, 0.0]], dtype), np.array([[1, 0], [1, 0]], dtype)
    loss, dlogits = backend.logistic_cross_entropy(logits, targets)
    assert loss == pytest.approx((0 + 1000 + 1000 + np.log(2)) / 2, rel=1e-6)
    np.testing.assert_allclose(dlogits, [[0, 0.5], [-0.5, 0.25]], atol=1e-7)


@BACKENDS
@OUTPUTS
@pytest.mark.parametrize("activation", ["tanh", "logistic"])
@pytest.mark.parametrize("options", [{}, {"l2": 0.1, "dropout": 0.3, "sample_weight": np.array([0, 1, 2.5, 0.5, 1])}])
def test_gradients_agree_with_finite_differences(backend, output, activation, options):
    rng = np.random.default_rng(2)
    network, inp, targets = _problem(rng, (6, 5, 4, 3), output, "float64", n=5, input_dtype="float64")
    network = Network(network.weights, network.biases, activation, output=output)
    check = check_gradients(network, inp, targets, backend=backend, **options)
    assert check.passed, check
    assert check.largest_error > 0


@BACKENDS
@DTYPES
@OUTPUTS
@SHAPES
def test_loss_and_gradients_agree_with_the_float64_reference(backend, dtype, output, sizes):
    rng = np.random.default_rng(3)
    network, inp, targets = _problem(rng, sizes, output, dtype)
    found = backend.loss_and_gradients(network, inp, targets, l2=0.01, sample_weight=rng.random(131))
    rng = np.random.default_rng(3)
    _problem(rng, sizes, output, dtype)
    exact = astype(network, "float64")
    targets = targets.astype(dtype).astype(np.float64)
    expected = reference.loss_and_gradients(
        exact, inp, targets, l2=0.01, sample_weight=rng.random(131).astype(dtype).astype(np.float64)
    )
    assert_parity(np.array(found.loss, dtype), np.array(expected.loss))
    assert_all_parity(found.dweights, expected.dweights, "weight")
    assert_all_parity(found.dbiases, expected.dbiases, "bias")
    assert found.n_correct == expected.n_correct
    if output == "logistic" and sizes[-1] < 6:
        logits = reference.predict_logits(exact, inp)
        assert found.n_correct == np.sum(((logits > 0) == (targets > 0.5)).all(axis=1)) > 0


@BACKENDS
@DTYPES
@OUTPUTS
@SHAPES
@pytest.mark.parametrize("optimizer", [SGD(), SGD(0.9), Adam()], ids=["sgd", "momentum", "adam"])
def test_epochs_with_divided_l2_agree_with_the_float64_reference(backend, dtype, output, sizes, optimizer):
    """Losses and weights of three epochs, with dropout, sample weights and a short last batch."""
    rng = np.random.default_rng(5)
    network, inp, targets = _problem(rng, sizes, output, dtype)
    options = {"l2": 0.5, "divide_l2": True, "dropout": 0.2, "sample_weight": rng.random(131), "seed": 3}
    order = rng.permutation(131)
    found = backend.trainer(network, inp, targets, optimizer, **options)
    exact = reference.trainer(astype(network, "float64"), inp, targets, optimizer, **options)
    losses = [[trainer.run_epoch(order, 64, 0.01).loss for _ in range(3)] for trainer in (found, exact)]
    np.testing.assert_allclose(*losses, rtol=1e-9 if dtype == "float64" else 2e-4)
    for one, other in zip(found.network().weights, exact.network().weights, strict=True):
        tolerance = 1e-8 if dtype == "float64" else 2e-3
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@BACKENDS
def test_divided_l2_is_divided_by_the_weight_of_each_batch(backend):
    """By hand: only the L2 term has a gradient. A step at rate 1 multiplies the weights by ``1 - l2 / batch size``."""
    network = Network([np.full((2, 1), 2.0)], [np.zeros(1)], output="identity")
    inp, targets = np.zeros((5, 2)), np.zeros((5, 1))
    trainer = backend.trainer(network, inp, targets, SGD(), l2=0.3, divide_l2=True)
    trainer.run_epoch(np.arange(5), 3, 1.0)
    np.testing.assert_allclose(trainer.network().weights[0], 2.0 * (1 - 0.3 / 3) * (1 - 0.3 / 2), rtol=1e-12)
    weighted = backend.trainer(network, inp, targets, SGD(), l2=0.3, divide_l2=True, sample_weight=np.full(5, 4.0))
    weighted.run_epoch(np.arange(5), 5, 1.0)
    np.testing.assert_allclose(weighted.network().weights[0], 2.0 * (1 - 0.3 / 20), rtol=1e-12)


# The maximum number of threads in batches of 128, and in a full batch of 700. It is the number of panels of the widest
# layer if threads share panels, or the number of chunks of the batch if they share rows.
MAX_THREADS = {
    ("rows", "float32"): (4, 16), ("rows", "float64"): (2, 2),  # 17 float64 are three vectors: two panels
    ("panels", "float32"): (4, 4), ("panels", "float64"): (7, 7),
    ("no hidden layer", "float32"): (4, 16), ("no hidden layer", "float64"): (4, 16),
    ("one output", "float32"): (2, 2), ("one output", "float64"): (3, 3),
}  # fmt: skip


@FUSED_OUTPUTS
@pytest.mark.parametrize("case", MAX_THREADS, ids=", ".join)
def test_same_bits_for_any_number_of_threads(output, case, started):
    (shape, dtype), runs = case, []
    network, inp, targets = _problem(np.random.default_rng(6), SIZES[shape], output, dtype, n=700)
    for threads in (1, 2, 3, 4):
        started.clear()
        trainer = compiled.trainer(
            network, inp, targets, Adam(), l2=0.1, divide_l2=True, dropout=0.2, threads=threads, seed=1
        )
        results = [trainer.run_epoch(np.arange(700), size, 0.01) for size in (128, 700)]
        assert started == [min(threads, limit) for limit in MAX_THREADS[case]]
        runs.append((results, trainer.network().weights))
    for results, weights in runs[1:]:
        np.testing.assert_equal(results, runs[0][0])
        assert all(np.array_equal(one, other) for one, other in zip(weights, runs[0][1], strict=True))


@BACKENDS
@DTYPES
@OUTPUTS
def test_logits_and_probabilities_agree_with_the_float64_reference(backend, dtype, output):
    network, inp, _ = _problem(np.random.default_rng(7), (30, 70, 5), output, dtype)
    logits = reference.predict_logits(astype(network, "float64"), inp)
    assert_parity(backend.predict_logits(network, inp), logits)
    function = {"logistic": expit, "identity": np.array, "exp": np.exp}[output]
    assert_parity(backend.predict_proba(network, inp), function(logits))


@BACKENDS
@pytest.mark.parametrize(
    ("output", "targets", "words"),
    [
        ("logistic", np.zeros(4), r"shape \(4,\), dtype float64, expected numbers \(4, 3\)"),
        ("logistic", np.full((4, 3), 2.0), "from 2 to 2, expected 0 to 1"),
        ("exp", np.full((4, 3), -1.0), "from -1 to -1, expected 0 to inf"),
        ("identity", np.full((4, 3), np.nan), "NaN, infinity or a value too large for float32"),
        ("identity", np.full((4, 3), 1e300), "too large for float32"),
        ("identity", np.array([["a"] * 3] * 4), "expected numbers"),
    ],
    ids=["shape", "range", "negative", "NaN", "too large", "text"],
)
def test_bad_targets_raise_an_error_of_one_line(backend, output, targets, words):
    network = Network.initialize((2, 3), output=output)
    with pytest.raises(DataError, match=words) as caught:
        backend.trainer(network, np.zeros((4, 2), np.float32), targets, SGD())
    assert "\n" not in str(caught.value)


# --- Continuing from a state, and the objective ----------------------------------------------------------------------
@BACKENDS
@SHAPES
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
def test_a_trainer_continues_from_a_state_with_the_same_bits(backend, sizes, optimizer):
    network, inp, targets = _problem(np.random.default_rng(8), sizes, "identity", "float32")
    options = {"dropout": 0.2, "seed": 5}
    whole = backend.trainer(network, inp, targets, get_optimizer(optimizer), **options)
    order = np.arange(131)
    for _ in range(2):
        whole.run_epoch(order, 50, 0.01)
    middle, state = whole.network(), whole.state()
    assert isinstance(state, TrainerState)
    assert (state.epochs, state.steps) == (2, 6)
    later = backend.trainer(middle, inp, targets, get_optimizer(optimizer), state=state, **options)
    assert whole.run_epoch(order, 50, 0.01).loss == later.run_epoch(order, 50, 0.01).loss
    for one, other in zip(whole.network().weights, later.network().weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(whole.state().slots, later.state().slots, strict=True):
        for a, b in zip((*one[0], *one[1]), (*other[0], *other[1]), strict=True):
            np.testing.assert_array_equal(a, b)


@BACKENDS
@SHAPES
@pytest.mark.parametrize("output", ["softmax", "logistic", "identity"])
def test_the_objective_returns_loss_and_gradients_at_other_weights(backend, sizes, output, started):
    rng = np.random.default_rng(9)
    network, inp, targets = _problem(rng, sizes, output, "float64", n=300)
    if output == "softmax":
        targets = rng.integers(sizes[-1], size=300)
    weight = rng.random(300)
    data = check_run(network, inp, targets, weight, {"l2": 0.2, "threads": 2})
    objective = backend.objective(network, *data)
    started.clear()
    for _ in range(2):
        moved = network.like(*([array + rng.random(array.shape) for array in arrays] for arrays in
                               (network.weights, network.biases)))  # fmt: skip
        at = backend.objective(moved, *data).start
        gradient, there = np.empty(len(at)), objective.snapshot(at).network
        assert_all_parity((*there.weights, *there.biases), (*moved.weights, *moved.biases))
        expected = reference.loss_and_gradients(moved, inp, targets, l2=0.2, sample_weight=weight)
        assert objective.evaluate(at, gradient) == pytest.approx(expected.loss, rel=1e-10)
        as_parameters = objective.snapshot(gradient).network  # the gradient in the shapes of the parameters
        assert_all_parity(as_parameters.weights, expected.dweights)
        assert_all_parity(as_parameters.biases, expected.dbiases)
        assert objective.n_correct == expected.n_correct
        assert np.count_nonzero(at) == sum(np.count_nonzero(array) for array in (*moved.weights, *moved.biases))
    assert [each for each in started if each > 1] == ([2, 2] if backend is compiled else [])
