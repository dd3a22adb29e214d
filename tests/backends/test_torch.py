"""Parity with PyTorch: sizes, values and gradients of convolutions and pools over a grid of windows; a network."""

import itertools

import numpy as np
import pytest

from fastnn import AvgPool2D, Conv2D, Dense, MaxPool2D, Network
from fastnn.backends import compiled, reference
from tests.parity import assert_all_parity, assert_parity

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
WINDOWS = [(1, 1), (2, 2), (3, 3), (5, 5), (1, 4), (3, 2)]
STRIDES = [(1, 1), (2, 2), (3, 1), (2, 5)]
SHAPE, FILTERS = (2, 3, 9, 7), 4


def _paddings(window, share):
    """Return the paddings to try: none, 1 below, 1 across, and the largest."""
    most = tuple(map(share, window))
    return sorted({(0, 0), (min(1, most[0]), 0), (0, min(1, most[1])), most})


CONVOLUTIONS = [
    (window, stride, padding)
    for window, stride in itertools.product(WINDOWS, STRIDES)
    for padding in _paddings(window, lambda size: size - 1)
]
POOLS = [
    (window, stride, padding)
    for window, stride in itertools.product(WINDOWS, [*STRIDES, None])
    for padding in _paddings(window, lambda size: size // 2)
]


@pytest.fixture(scope="module")
def torch():
    """PyTorch, imported when the first test runs, on one thread: the images are small."""
    module = pytest.importorskip("torch", reason="PyTorch, which only benchmarks need, is not installed")
    module.set_num_threads(1)
    return module


def _tensor(torch, array):
    """Return the values of an array as a tensor of float64 that asks for a gradient."""
    return torch.from_numpy(array.astype(np.float64)).requires_grad_()


def _gradients(out, dout, *tensors):
    """Return the gradients of tensors, given that of an output."""
    out.backward(out.new_tensor(dout))
    return [each.grad.numpy() for each in tensors]


@BACKENDS
@DTYPES
def test_convolutions_have_the_sizes_values_and_gradients_of_pytorch(backend, dtype, torch):
    rng = np.random.default_rng(1)
    for window, stride, padding in CONVOLUTIONS:
        what = f"{window}, {stride}, {padding}"
        inp, weight, bias = (
            rng.standard_normal(shape).astype(dtype) for shape in (SHAPE, (3, *window, FILTERS), (FILTERS,))
        )
        tensors = _tensor(torch, inp), _tensor(torch, weight.transpose(3, 0, 1, 2)), _tensor(torch, bias)
        out = torch.nn.functional.conv2d(*tensors, stride=stride, padding=padding)
        assert Conv2D(FILTERS, window, stride, padding).output_shape(SHAPE[1:]) == out.shape[1:], what
        assert_parity(backend.conv_forward(inp, weight, bias, stride, padding), out.detach().numpy(), what)
        dsums = rng.standard_normal(out.shape).astype(dtype)
        dinp, dweight, dbias = _gradients(out, dsums, *tensors)
        found = backend.conv_backward(dsums, inp, weight, stride, padding)
        assert_all_parity(found, (dinp, dweight.transpose(1, 2, 3, 0), dbias), what)


@BACKENDS
@DTYPES
@pytest.mark.parametrize("values", ["numbers", "ties", "NaN"])
def test_maxima_have_the_sizes_values_and_gradients_of_pytorch(backend, dtype, values, torch):
    rng = np.random.default_rng(2)
    for window, stride, padding in POOLS:
        what = f"{window}, {stride}, {padding}"
        inp = (rng.integers(-2, 3, SHAPE) if values == "ties" else rng.standard_normal(SHAPE)).astype(dtype)
        if values == "NaN":
            inp[rng.random(SHAPE) < 0.05] = np.nan
            inp[rng.random(SHAPE) < 0.3] = -np.inf
        tensor = _tensor(torch, inp)
        out = torch.nn.functional.max_pool2d(tensor, window, stride, padding)
        assert MaxPool2D(window, stride, padding).output_shape(SHAPE[1:]) == out.shape[1:], what
        windows = window, stride or window, padding
        found, taps = backend.max_pool(inp, *windows)
        np.testing.assert_array_equal(found, out.detach().numpy(), what)
        if values == "NaN":
            continue  # of several NaN, PyTorch takes the last
        dout = rng.standard_normal(out.shape).astype(dtype)
        assert_parity(backend.max_pool_backward(dout, taps, SHAPE, *windows), *_gradients(out, dout, tensor), what)


@BACKENDS
@DTYPES
def test_means_have_the_sizes_values_and_gradients_of_pytorch(backend, dtype, torch):
    rng = np.random.default_rng(3)
    for window, stride, padding in POOLS:
        what, inp = f"{window}, {stride}, {padding}", rng.standard_normal(SHAPE).astype(dtype)
        tensor = _tensor(torch, inp)
        out = torch.nn.functional.avg_pool2d(tensor, window, stride, padding)
        assert AvgPool2D(window, stride, padding).output_shape(SHAPE[1:]) == out.shape[1:], what
        windows = window, stride or window, padding
        assert_parity(backend.avg_pool(inp, *windows), out.detach().numpy(), what)
        dout = rng.standard_normal(out.shape).astype(dtype)
        assert_parity(backend.avg_pool_backward(dout, SHAPE, *windows), *_gradients(out, dout, tensor), what)


@BACKENDS
@DTYPES
def test_a_network_has_the_logits_loss_and_gradients_of_pytorch(backend, dtype, torch):
    """LeNet-5 on images that are not square, whose rows are flat in the order of PyTorch's Flatten."""
    layers = [Conv2D(6, 5), MaxPool2D(), Conv2D(16, (5, 3)), AvgPool2D((2, 3)), Dense(30, "tanh"), Dense(10)]
    network = Network.initialize((2, 20, 17), layers, seed=4, dtype=dtype)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(2, 6, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(6, 16, (5, 3)),
        torch.nn.ReLU(), torch.nn.AvgPool2d((2, 3)), torch.nn.Flatten(), torch.nn.Linear(32, 30), torch.nn.Tanh(),
        torch.nn.Linear(30, 10),
    ).double()  # fmt: skip
    modules = [module for module in theirs if hasattr(module, "weight")]
    with torch.no_grad():
        for module, weight, bias in zip(modules, network.weights, network.biases, strict=True):
            module.weight.copy_(torch.from_numpy(weight.transpose(weight.ndim - 1, *range(weight.ndim - 1))))
            module.bias.copy_(torch.from_numpy(bias))
    rng = np.random.default_rng(5)
    inp, labels = rng.standard_normal((7, 2, 20, 17)).astype(dtype), rng.integers(10, size=7)
    logits = theirs(torch.from_numpy(inp.astype(np.float64)))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
    loss.backward()
    rows = inp.reshape(7, -1)
    assert_parity(backend.predict_logits(network, rows), logits.detach().numpy())
    found = backend.loss_and_gradients(network, rows, labels)
    assert_parity(np.array(found.loss, dtype), loss.detach().numpy())
    weights = [module.weight.grad.numpy() for module in modules]
    assert_all_parity(found.dweights, [each.transpose(*range(1, each.ndim), 0) for each in weights], "dweight")
    assert_all_parity(found.dbiases, [module.bias.grad.numpy() for module in modules], "dbias")
