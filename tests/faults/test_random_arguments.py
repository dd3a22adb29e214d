"""Random accepted arguments: both backends agree with the reference in float64, on arrays with no memory behind them.

The Numba backend gives the same bits on 1 to 4 threads.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import sparse

from fastnn.backends import compiled, reference
from fastnn.network import ACTIVATIONS, AvgPool2D, Conv2D, Dense, MaxPool2D, Network
from fastnn.optim.optimizers import SGD, Adam, AdamW
from tests.faults.guarded import guarded
from tests.parity import (
    assert_all_parity,
    assert_parity,
    assert_same_bits,
    astype,
    changes,
    make_inputs,
    trained_arrays,
)
from tests.plain_loops import Case

pytestmark = pytest.mark.faults

BACKENDS = {"numpy": reference, "numba": compiled}
# Adam divides by the magnitude of the gradient. This epsilon is large compared with the rounding of a gradient near 0.
OPTIMIZERS = [SGD(), SGD(0.9), SGD(0.8, nesterov=True), Adam(epsilon=1e-2), AdamW(epsilon=1e-2, weight_decay=0.1)]
KINKS = {name for name, activation in ACTIVATIONS.items() if activation.has_kink}
STEPS = 6


class Arguments(NamedTuple):
    """The random arguments of one training."""

    network: Network
    inputs: Any  # an array or a CSR matrix
    targets: np.ndarray
    order: np.ndarray
    batch_size: int
    optimizer: Any
    settings: dict[str, Any]

    def __str__(self) -> str:
        kind = f"{type(self.inputs).__name__} {self.inputs.dtype}"
        given = {**self.settings, "optimizer": self.optimizer, "batch_size": self.batch_size, "rows": len(self.order)}
        return f"{self.network}, {len(self.targets)} samples, {kind}, {given}"


def _size(rng, most, *others):
    """Return a size from 1 to `most`; half of them are such as fill a vector, a block or a panel, or just do not."""
    usual = [size for size in (1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 128, 129, *others) if size <= most]
    return rng.choice(usual) if rng.random() < 0.5 else rng.randint(1, most)


def _guarded_csr(matrix):
    data, indices, indptr = map(guarded, (matrix.data, matrix.indices, matrix.indptr))
    return sparse.csr_matrix((data, indices, indptr), shape=matrix.shape, copy=False)


def _network(rng, values, n_inputs, output, dtype, input_dtype):
    units = [_size(rng, 160) for _ in range(rng.randrange(4))]
    sizes = (n_inputs, *units, _size(rng, 100, 10, 99, 100))
    names = [rng.choice(list(ACTIVATIONS)) for _ in units]
    activation = names if rng.random() < 0.5 else names[0] if names else "relu"
    scale = 1 / 255 if input_dtype == "uint8" else 1.0
    start = Network.initialize(sizes, activation=activation, output=output, seed=rng.randrange(1000), dtype=np.float64)
    return _guarded(start, values, dtype, scale)


def _image_network(rng, values, output, dtype, input_dtype):
    shape, layers = _images(rng)
    layers.append(Dense(_size(rng, 100, 10, 99, 100)))
    scale = 1 / 255 if input_dtype == "uint8" else 1.0
    start = Network.initialize(shape, layers, output=output, seed=rng.randrange(1000), dtype=np.float64)
    return _guarded(start, values, dtype, scale)


def _guarded(start, values, dtype, scale):
    """Return the network with random biases, and with arrays that end at memory that must not be touched."""
    biases = [guarded((values.standard_normal(bias.shape) * 0.1).astype(dtype)) for bias in start.biases]
    weights = [guarded(weight.astype(dtype)) for weight in start.weights]
    return Network(weights, biases, "relu", scale, start.output, start.layers, start.shapes[0])


def _images(rng):
    """Return the shape of an input row and the hidden layers of a random network for images."""
    channels, height, width = rng.choice([1, 1, 2, 3]), rng.randint(1, 13), rng.randint(1, 13)
    layers, shape = [], (channels, height, width)
    for _ in range(rng.randint(1, 4)):
        size, stride = tuple(rng.randint(1, min(4, each)) for each in shape[1:]), (rng.randint(1, 4), rng.randint(1, 4))
        kind, name = rng.choice([Conv2D, Conv2D, MaxPool2D, AvgPool2D]), rng.choice(list(ACTIVATIONS))
        most = [each - 1 if kind is Conv2D else each // 2 for each in size]
        padding = tuple(rng.choice([0, rng.randint(0, each)]) for each in most)
        given = (_size(rng, 40),) if kind is Conv2D else ()
        layers.append(kind(*given, size, stride, padding, name))
        shape = layers[-1].output_shape(shape)
    units = [Dense(_size(rng, 160), rng.choice(list(ACTIVATIONS))) for _ in range(rng.randrange(3))]
    return (channels, height, width), [*layers, *units]


def _targets(values, output, n, n_outputs, dtype):
    if output == "softmax":
        return guarded(values.integers(n_outputs, size=n))
    numbers = values.random((n, n_outputs)) if output == "logistic" else values.standard_normal((n, n_outputs))
    return guarded(numbers.astype(dtype))


def _weights(rng, values, n):
    """Return sample weights, of which a third is often 0; or None."""
    if rng.random() < 0.5:
        return None
    weight = values.random(n) * (values.random(n) < rng.choice([0.67, 1.0]))
    weight[values.integers(n)] = 1.0
    return guarded(weight)


def _arguments(rng, kind):
    values = np.random.default_rng(rng.getrandbits(64))
    output = rng.choice(["softmax", "softmax", "logistic", "identity"])
    dtype, input_dtype = rng.choice(["float32", "float64"]), rng.choice(["uint8", "float32", "float64"])
    if kind == "images":
        n, network = _size(rng, 70), _image_network(rng, values, output, dtype, input_dtype)
    else:
        n, n_inputs = _size(rng, 300, 256, 257), _size(rng, 784, 255, 256, 257, 783, 784)
        network = _network(rng, values, n_inputs, output, dtype, input_dtype)
    inputs = guarded(make_inputs(values, (n, network.n_inputs), input_dtype))
    if kind == "rows" and rng.random() < 0.3:
        inputs = _guarded_csr(sparse.csr_matrix(inputs * (values.random(inputs.shape) < 0.2)))
    batch_size = rng.choice([rng.randint(1, n), rng.randint(1, 10 * n), n])
    rows = min(n, STEPS * batch_size)
    order = values.permutation(n)[:rows] if rng.random() < 0.7 else values.integers(n, size=rows)
    settings = {
        "l2": rng.choice([0.0, 0.0, 0.01]),
        "divide_l2": rng.random() < 0.3,
        "dropout": rng.choice([0.0, 0.0, 0.2, 0.5]),
        "label_smoothing": rng.choice([0.0, 0.0, 0.1]) if output == "softmax" else 0.0,
        "sample_weight": _weights(rng, values, n),
        "seed": rng.randrange(1000),
    }
    targets = _targets(values, output, n, network.n_outputs, dtype)
    return Arguments(network, inputs, targets, guarded(order), batch_size, rng.choice(OPTIMIZERS), settings)


KINDS = pytest.mark.parametrize(("kind", "usual"), [("rows", 60), ("images", 25)], ids=["rows", "images"])


def _trained(backend, each, network, **settings):
    trainer = backend.trainer(network, each.inputs, each.targets, each.optimizer, **each.settings, **settings)
    return trainer, trainer.run_epoch(each.order, each.batch_size, 0.01)


def _check_training(each, backend, exact, expected):
    """Compare the loss and the changes of all weights with those of the reference in float64."""
    network = each.network
    trainer, result = _trained(backend, each, network)
    eps = np.finfo(network.dtype).eps
    # A sum that is rounded to the other side of a kink switches a unit off for one sample.
    has_kink = any(layer.activation in KINKS or isinstance(layer, MaxPool2D) for layer in network.layers)
    kink = 0.02 if network.dtype == np.float32 and has_kink else 0
    steps = -(-len(each.order) // each.batch_size)
    np.testing.assert_allclose(result.loss, expected.loss, rtol=4000 * eps + kink / 10)
    if np.isfinite(expected.accuracy):
        assert abs(result.accuracy - expected.accuracy) <= (0 if network.dtype == np.float64 else 0.1) + 1e-12
    arrays = (*network.weights, *network.biases)
    for index, (start, one, other) in enumerate(
        zip(arrays, changes(network, trainer), changes(network, exact), strict=True)
    ):
        weight, change = np.abs(start).max(), np.abs(other).max()
        tolerance = eps * (steps * (weight + change) + 4000 * change) + kink * change
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance, err_msg=f"change of array {index}")


@KINDS
def test_random_trainings_agree_with_the_float64_reference(faults, started, kind, usual):
    for case in faults.cases(usual):
        each = _arguments(faults.rng("trainings", *([] if kind == "rows" else [kind]), case), kind)
        try:
            exact, expected = _trained(reference, each, astype(each.network, "float64"))
            for backend in BACKENDS.values():
                _check_training(each, backend, exact, expected)
            found = [trained_arrays(_trained(compiled, each, each.network, threads=n)[0]) for n in (1, 2, 3, 4)]
            for n, arrays in enumerate(found[1:], 2):
                assert_same_bits(arrays, found[0], f"{n} threads")
        except Exception as error:
            error.add_note(f"case {case}: {each}")
            raise
        faults.counts["random trainings compared between backends"] += 1
    assert {1, 2, 3, 4} <= set(started)


@KINDS
def test_random_predictions_agree_with_the_float64_reference(faults, started, kind, usual):
    for case in faults.cases(usual):
        each = _arguments(faults.rng("predictions", *([] if kind == "rows" else [kind]), case), kind)
        exact = astype(each.network, "float64")
        try:
            for function in ("predict_logits", "predict_proba"):
                expected = getattr(reference, function)(exact, each.inputs)
                for backend in BACKENDS.values():
                    found = [getattr(backend, function)(each.network, each.inputs, threads=n) for n in (1, 2, 4)]
                    assert_parity(found[0], expected, function)
                    assert_same_bits(found, found[:1] * 3, function)
        except Exception as error:
            error.add_note(f"case {case}: {each}")
            raise
        faults.counts["random predictions compared between backends"] += 1
    assert {1, 2, 4} <= set(started)


def _operations(backend, rng, values, dtype):
    """Yield the name and the results of each operation on random arrays, which depend on `rng` and `values` only."""
    b, d, h, c = _size(rng, 300), _size(rng, 784), _size(rng, 160), _size(rng, 100)
    inp = guarded(make_inputs(values, (b, d), rng.choice(["uint8", dtype])))
    weight = guarded((values.standard_normal((d, h)) / d / 255).astype(dtype))
    arrays = {
        name: guarded(values.standard_normal(shape).astype(dtype))
        for name, shape in {"bias": (h,), "sums": (b, h), "dsums": (b, h), "logits": (b, c)}.items()
    }
    sample_weight = guarded(values.random(b).astype(dtype)) if rng.random() < 0.5 else None
    labels, targets = guarded(values.integers(c, size=b)), guarded(values.random((b, c)).astype(dtype))
    if backend is None:  # the reference in float64
        backend, inp, weight, targets = reference, *(array.astype(np.float64) for array in (inp, weight, targets))
        arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
        sample_weight = None if sample_weight is None else sample_weight.astype(np.float64)
    name = rng.choice(list(ACTIVATIONS))
    sums, dsums, logits = arrays["sums"], arrays["dsums"], arrays["logits"]
    out = backend.activate(sums, name)
    yield "matmul", [backend.matmul(inp, weight)]
    yield "dense_forward", [backend.dense_forward(inp, weight, arrays["bias"])]
    yield "dense_backward", [backend.dense_backward(dsums, inp, weight)[k] for k in range(3)]
    yield f"activate {name}", [out]
    yield f"activate_backward {name}", [backend.activate_backward(dsums, sums, out, name)]
    yield "softmax", [backend.softmax(logits)]
    for loss, target in (
        ("softmax_cross_entropy", labels), ("logistic_cross_entropy", targets), ("squared_error", targets),
    ):  # fmt: skip
        value, gradient = getattr(backend, loss)(logits, target, sample_weight)
        yield loss, [np.array(value, logits.dtype), gradient]


def _image_operations(backend, rng, values, dtype):
    """`_operations` on images."""
    height, width = rng.randint(1, 12), rng.randint(1, 12)
    size, stride = (
        (rng.randint(1, min(4, height)), rng.randint(1, min(4, width))),
        (rng.randint(1, 4), rng.randint(1, 4)),
    )
    padding = rng.randint(0, size[0] // 2), rng.randint(0, size[1] // 2)
    case = Case(_size(rng, 40), rng.randint(1, 20), _size(rng, 33), (height, width), size, stride, padding)
    b, c, o, *_ = case
    shapes = {"weight": (c, *size, o), "bias": (o,), "dsums": (b, o, *case.grid), "dout": (b, c, *case.grid)}
    inp = guarded(make_inputs(values, case.shape, dtype))
    arrays = {name: guarded(values.standard_normal(shape).astype(dtype)) for name, shape in shapes.items()}
    if backend is None:
        backend, inp = reference, inp.astype(np.float64)
        arrays = {name: array.astype(np.float64) for name, array in arrays.items()}
    weight, dout = arrays["weight"], arrays["dout"]
    yield f"conv_forward {case}", [backend.conv_forward(inp, weight, arrays["bias"], stride, padding)]
    yield f"conv_backward {case}", backend.conv_backward(arrays["dsums"], inp, weight, stride, padding)
    largest, taps = backend.max_pool(inp, size, stride, padding)
    yield f"max_pool {case}", [largest]
    yield f"max_pool_backward {case}", [backend.max_pool_backward(dout, taps, inp.shape, size, stride, padding)]
    yield f"avg_pool {case}", [backend.avg_pool(inp, size, stride, padding)]
    yield f"avg_pool_backward {case}", [backend.avg_pool_backward(dout, inp.shape, size, stride, padding)]


@pytest.mark.parametrize("operations", [_operations, _image_operations], ids=["rows", "images"])
def test_random_operations_agree_with_the_float64_reference(faults, operations):
    for case in faults.cases(40):
        dtype = faults.rng("operations", case).choice(["float32", "float64"])
        seed = faults.rng("operations", case).getrandbits(64)

        def results(backend, dtype=dtype, case=case, seed=seed):
            return operations(backend, faults.rng("shapes", case), np.random.default_rng(seed), dtype)

        for backend in BACKENDS.values():
            for (name, found), (_, expected) in zip(results(backend), results(None), strict=True):
                assert_all_parity(found, expected, f"case {case}: {name}")
                faults.counts["random operations compared with the reference"] += 1
