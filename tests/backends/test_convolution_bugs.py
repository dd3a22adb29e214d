"""Bugs that other libraries had in convolutions and pools, one test each, in both dtypes and both backends."""

import inspect
import itertools

import numpy as np
import pytest

import fastnn
from fastnn import AvgPool2D, Conv2D, Dense, MaxPool2D, Network, SettingsError
from fastnn.backends import compiled, layerwise, reference
from fastnn.explanation.gradient_check import check_gradients
from tests import plain_loops
from tests.parity import assert_all_parity, assert_parity, make_inputs
from tests.plain_loops import Case

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
NO_PADDING, ONE = (0, 0), (1, 1)


def _arrays(case, dtype):
    """Return random `inp`, `weight`, `bias` and `dsums`."""
    rng = np.random.default_rng(1)
    shapes = case.shape, (case.channels, *case.window, case.filters), (case.filters,)
    sums = (case.samples, case.filters, *case.grid)
    return [rng.standard_normal(shape).astype(dtype) for shape in (*shapes, sums)]


def _exact(*arrays):
    return [array.astype(np.float64) for array in arrays]


def _assert_convolution(backend, case, dtype):
    """Compare a convolution with plain loops; return its gradients."""
    inp, weight, bias, dsums = _arrays(case, dtype)
    assert_parity(
        backend.conv_forward(inp, weight, bias, *case.windows), plain_loops.conv(case, *_exact(inp, weight, bias))
    )
    found = backend.conv_backward(dsums, inp, weight, *case.windows)
    assert_all_parity(found, plain_loops.conv_gradients(case, *_exact(dsums, inp, weight)))
    return found


def _pooled(backend, values, size, stride=None, padding=NO_PADDING, dtype="float64"):
    """Return the maxima of one image, and the gradient of their sum."""
    inp = np.array(values, dtype)[None, None]
    stride = size if stride is None else stride
    largest, taps = backend.max_pool(inp, size, stride, padding)
    dinp = backend.max_pool_backward(np.ones_like(largest), taps, inp.shape, size, stride, padding)
    assert dinp.dtype == largest.dtype == dtype
    return largest[0, 0], dinp[0, 0]


def _network(shape, layers, dtype="float64", seed=1, **settings):
    """Return a network with random biases."""
    network = Network.initialize(shape, layers, dtype="float64", seed=seed, **settings)
    rng = np.random.default_rng(seed)
    biases = [0.1 * rng.standard_normal(bias.shape) for bias in network.biases]
    weights, biases = ([array.astype(dtype) for array in each] for each in (network.weights, biases))
    return network.like(weights, biases, [array.astype(dtype) for array in network.statistics])


@BACKENDS
@DTYPES
@pytest.mark.parametrize(
    "case",
    [
        Case(2, 3, 4, (16, 16), (7, 7), (3, 3), (2, 2)),
        Case(2, 3, 4, (6, 6), (3, 3), (2, 2), (0, 0)),
        Case(2, 3, 4, (9, 8), (2, 3), (4, 3), (1, 0)),
    ],
    ids=["16 by 7, stride 3", "6 by 3, stride 2", "9 x 8 by 2 x 3, stride 4 x 3"],
)
def test_gradients_where_the_stride_leaves_a_remainder(backend, dtype, case):
    dinp, _, _ = _assert_convolution(backend, case, dtype)
    assert dinp.shape == case.shape
    unseen = np.ones(case.image, bool)
    for _, _, row, column in case.seen():
        unseen[row, column] = False
    assert unseen.any() == (case.image != (16, 16))
    assert not dinp[:, :, unseen].any()


@BACKENDS
@DTYPES
def test_the_input_gradient_of_ones_counts_the_windows_over_each_pixel(backend, dtype):
    """A 5 x 5 kernel with stride 3 and padding 1 on 32 x 32 images, from 9 to 3 channels."""
    inp, weight = np.ones((2, 9, 32, 32), dtype), np.ones((9, 5, 5, 3), dtype)
    dsums = np.ones((2, 3, 10, 10), dtype)
    dinp, _, _ = backend.conv_backward(dsums, inp, weight, (3, 3), (1, 1))
    starts, pixels = np.arange(-1, 29, 3), np.arange(32)[:, None]
    counts = ((starts <= pixels) & (pixels < starts + 5)).sum(axis=1)
    assert counts.tolist()[:5] == [1, 1, 2, 2, 1]
    np.testing.assert_array_equal(dinp, np.broadcast_to(3 * np.outer(counts, counts), dinp.shape))


@BACKENDS
@DTYPES
def test_a_stride_larger_than_the_kernel(backend, dtype):
    """Pixels between the windows have no gradient, whatever the padding does to the first window."""
    for padding in ((0, 0), (1, 1)):
        case = Case(3, 2, 4, (11, 10), (2, 2), (4, 4), padding)
        dinp, _, _ = _assert_convolution(backend, case, dtype)
        starts = [np.arange(-pad, size + pad - 1, 4) for size, pad in zip(case.image, padding, strict=True)]
        rows, columns = (
            np.isin(np.arange(size), [each, each + 1]) for size, each in zip(case.image, starts, strict=True)
        )
        seen = np.logical_and.outer(rows, columns)
        assert (dinp[:, :, seen] != 0).all()
        assert not dinp[:, :, ~seen].any()
    with pytest.raises(SettingsError, match="'same' with stride"):
        Conv2D(4, 3, stride=4, padding="same")


@BACKENDS
@DTYPES
def test_height_and_width_are_not_mixed_up(backend, dtype):
    """With height and width swapped everywhere, all results are swapped."""
    case = Case(2, 3, 4, (9, 6), (4, 2), (3, 1), (0, 1))
    _assert_convolution(backend, case, dtype)
    inp, weight, bias, dsums = _arrays(case, dtype)

    def swapped(array, first=2):
        return np.ascontiguousarray(np.swapaxes(array, first, first + 1))

    kernel, (stride, padding) = swapped(weight, 1), (pair[::-1] for pair in case.windows)
    expected = backend.conv_forward(inp, weight, bias, *case.windows)
    assert_parity(swapped(backend.conv_forward(swapped(inp), kernel, bias, stride, padding)), *_exact(expected))
    found = backend.conv_backward(swapped(dsums), swapped(inp), kernel, stride, padding)
    expected = backend.conv_backward(dsums, inp, weight, *case.windows)
    assert_all_parity([swapped(found[0]), swapped(found[1], 1), found[2]], _exact(*expected))
    for pool in ("max_pool", "avg_pool"):
        found, expected = (
            np.asarray(getattr(backend, pool)(images, size, *windows)[0 if pool == "max_pool" else ...])
            for images, size, windows in (
                (swapped(inp), case.window[::-1], (stride, padding)),
                (inp, case.window, case.windows),
            )
        )
        assert_parity(swapped(found), *_exact(expected))


@BACKENDS
@DTYPES
def test_the_gradient_passes_through_a_padded_convolution(backend, dtype):
    """The first of two convolutions with padding "same" learns, and so would a layer before it."""
    network = _network((2, 5, 4), [Conv2D(3, 3, padding="same"), Conv2D(4, 3, padding="same"), Dense(3)], dtype)
    inp = np.random.default_rng(2).standard_normal((6, 40))
    passes = layerwise.forward(backend, network, inp, training=True)
    dinp, dweights, _ = layerwise.backward(backend, passes, np.ones((6, 3), dtype), needs_dinp=True)
    assert dinp.shape == (6, 2, 5, 4)
    assert (np.abs(dinp) > 0).mean() > 0.9
    assert (dweights[0] != 0).all()
    assert check_gradients(network, inp, np.arange(6) % 3, backend=backend, n_weights=60).passed


def test_the_output_size_is_the_number_of_windows_that_fit():
    for size, kernel, stride, padding in itertools.product(range(1, 9), range(1, 6), range(1, 5), range(4)):
        starts = range(-padding, size + padding - kernel + 1, stride)
        if padding < kernel and len(starts):
            layer = Conv2D(7, (kernel, 1), (stride, 1), (padding, 0))
            assert layer.output_shape((2, size, 3)) == (7, len(starts), 3)
            layer = Conv2D(7, (1, kernel), (1, stride), (0, padding))
            assert layer.output_shape((2, 3, size)) == (7, 3, len(starts))
        if padding <= kernel // 2 and len(starts):
            for pool in (MaxPool2D, AvgPool2D):
                assert pool((1, kernel), (1, stride), (0, padding)).output_shape((2, 3, size)) == (2, 3, len(starts))


@BACKENDS
@DTYPES
def test_same_padding_is_equal_on_all_sides(backend, dtype):
    """A flipped image and a flipped kernel give the flipped result. Even kernels, which cannot, are refused."""
    layer = Conv2D(4, (5, 3), padding="same")
    case = Case(2, 3, 4, (6, 7), (5, 3), (1, 1), layer.padding)
    inp, weight, bias, _ = _arrays(case, dtype)
    expected = backend.conv_forward(inp, weight, bias, *case.windows)
    assert expected.shape[2:] == inp.shape[2:]
    flipped = np.flip(inp, (2, 3)), np.flip(weight, (1, 2))
    assert_parity(np.flip(backend.conv_forward(*flipped, bias, *case.windows), (2, 3)), *_exact(expected))
    for kernel in (2, 4, (3, 2), (6, 5)):
        with pytest.raises(SettingsError, match=r"'same' with kernel .* expected odd"):
            Conv2D(4, kernel, padding="same")


@BACKENDS
@DTYPES
def test_overlapping_windows_of_a_pool_add_their_gradients(backend, dtype):
    _, dinp = _pooled(backend, [[5, 3, 1, 2, 5]], (1, 2), (1, 1), dtype=dtype)
    np.testing.assert_array_equal(dinp, [[1, 1, 0, 1, 1]])
    image = np.arange(25).reshape(5, 5)
    image[2, 2] = 88  # wins all four windows
    largest, dinp = _pooled(backend, image, (3, 3), (2, 2), dtype=dtype)
    np.testing.assert_array_equal(largest, [[88, 88], [88, 88]])
    expected = np.zeros((5, 5))
    expected[2, 2] = 4
    np.testing.assert_array_equal(dinp, expected)
    dinp = backend.avg_pool_backward(np.full((1, 1, 2, 2), 9, dtype), (1, 1, 5, 5), (3, 3), (2, 2), NO_PADDING)
    np.testing.assert_array_equal(dinp[0, 0], np.outer([1, 1, 2, 1, 1], [1, 1, 2, 1, 1]))


@BACKENDS
@DTYPES
def test_of_equal_numbers_the_first_gets_the_gradient(backend, dtype):
    """The gradient of each window of a constant image arrives once, at the window's first pixel within the image."""
    for value in (0, 3, -3):
        image = np.full((4, 6), value)
        _, dinp = _pooled(backend, image, (2, 3), dtype=dtype)
        expected = np.zeros((4, 6))
        expected[::2, ::3] = 1
        np.testing.assert_array_equal(dinp, expected)
        largest, dinp = _pooled(backend, image, (3, 3), (2, 2), (1, 1), dtype=dtype)
        assert (largest == value).all()
        expected = np.zeros((4, 6))
        expected[np.ix_([0, 1], [0, 1, 3])] = 1
        np.testing.assert_array_equal(dinp, expected)
    largest, dinp = _pooled(backend, [[0.0, -0.0], [-0.0, 0.0]], (2, 2), dtype=dtype)  # equal, too
    np.testing.assert_array_equal(dinp, [[1, 0], [0, 0]])
    assert not np.signbit(largest).any()


@BACKENDS
@DTYPES
def test_windows_of_nan_and_of_infinity(backend, dtype):
    """NaN in, NaN out, and its gradient arrives there; a window of -inf is -inf, and its gradient stays within it."""
    nan, inf = np.nan, np.inf
    largest, dinp = _pooled(backend, [[1, nan, 2, 3], [nan, 4, 5, inf]], (2, 2), dtype=dtype)
    np.testing.assert_array_equal(largest, [[nan, inf]])
    np.testing.assert_array_equal(dinp, [[0, 1, 0, 0], [0, 0, 0, 1]])
    for value in (nan, -inf):
        largest, dinp = _pooled(backend, np.full((4, 5), value), (3, 3), (2, 2), (1, 1), dtype=dtype)
        np.testing.assert_array_equal(largest, np.full((2, 3), value))
        expected = np.zeros((4, 5))
        expected[np.ix_([0, 1], [0, 1, 3])] = 1
        np.testing.assert_array_equal(dinp, expected)
    inp = np.ones((2, 3, 4, 5), dtype)
    inp[0, 1, 0, 0], inp[1, 2, 3, 4] = nan, -inf
    means = backend.avg_pool(inp, (2, 2), (2, 2), NO_PADDING)
    assert np.isnan(means[0, 1, 0, 0])
    assert np.isnan(means).sum() == 1
    assert np.isfinite(means).sum() == means.size - 1  # the last column is in no window
    weight, bias = np.ones((3, 2, 2, 4), dtype), np.zeros(4, dtype)
    with np.errstate(invalid="ignore"):
        sums = backend.conv_forward(inp, weight, bias, ONE, NO_PADDING)
    assert np.isnan(sums[0, :, 0, 0]).all()
    assert np.isneginf(sums[1, :, 2, 3]).all()
    assert np.isfinite(sums).sum() == sums.size - 2 * 4


@BACKENDS
@DTYPES
def test_the_padding_of_a_maximum_is_never_the_largest(backend, dtype):
    largest, dinp = _pooled(backend, [[-3, -1], [-2, -4]], (2, 2), padding=(1, 1), dtype=dtype)
    np.testing.assert_array_equal(largest, [[-3, -1], [-2, -4]])
    np.testing.assert_array_equal(dinp, np.ones((2, 2)))
    for pool in (MaxPool2D, AvgPool2D):
        assert pool(3, padding=1).padding == (1, 1)
        with pytest.raises(SettingsError, match=r"padding .* expected at most 1: half the size"):
            pool(3, padding=2)
        with pytest.raises(SettingsError, match=r"padding .* expected at most \(2, 1\): half the size"):
            pool((4, 3), padding=(0, 2))
    for call in (backend.max_pool, backend.avg_pool):
        with pytest.raises(SettingsError, match=r"padding is \(0, 2\)"):
            call(np.ones((1, 1, 4, 4), dtype), (2, 2), ONE, (0, 2))


@BACKENDS
@DTYPES
def test_the_gradient_of_a_padded_pool(backend, dtype):
    image = np.arange(9).reshape(3, 3) + 1
    largest, dinp = _pooled(backend, image, (2, 2), padding=(1, 1), dtype=dtype)
    np.testing.assert_array_equal(largest, [[1, 3], [7, 9]])
    np.testing.assert_array_equal(dinp, [[1, 0, 1], [0, 0, 0], [1, 0, 1]])
    inp, dout = image[None, None].astype(dtype), np.array([[[[4, 8], [12, 16]]]], dtype)
    means = backend.avg_pool(inp, (2, 2), (2, 2), ONE)
    np.testing.assert_array_equal(means[0, 0], [[1 / 4, 5 / 4], [11 / 4, 28 / 4]])
    dinp = backend.avg_pool_backward(dout, inp.shape, (2, 2), (2, 2), ONE)
    np.testing.assert_array_equal(dinp[0, 0], [[1, 2, 2], [3, 4, 4], [3, 4, 4]])


@BACKENDS
@DTYPES
def test_both_passes_of_a_mean_divide_by_the_whole_window(backend, dtype):
    """Windows that are partly padding, and those that do not fit, which are left out: there is no ceil mode."""
    inp = np.arange(49, dtype=dtype).reshape(1, 1, 7, 7)
    means = backend.avg_pool(inp, (2, 2), (3, 3), NO_PADDING)
    np.testing.assert_array_equal(means[0, 0], [[4, 7], [25, 28]])
    dinp = backend.avg_pool_backward(np.ones_like(means), inp.shape, (2, 2), (3, 3), NO_PADDING)
    line = np.array([1, 1, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(dinp[0, 0], np.outer(line, line) / 4)
    case = Case(2, 3, 1, (5, 6), (3, 4), (2, 3), (1, 2))
    rng = np.random.default_rng(3)
    inp, dout = rng.standard_normal(case.shape).astype(dtype), rng.standard_normal((2, 3, *case.grid)).astype(dtype)
    windows = case.window, *case.windows
    forward = np.sum(backend.avg_pool(inp, *windows) * dout, dtype=np.float64)
    backward = np.sum(backend.avg_pool_backward(dout, inp.shape, *windows) * inp, dtype=np.float64)
    assert forward == pytest.approx(backward, rel=1e-4 if dtype == "float32" else 1e-12)  # both are one linear map
    for layer in (MaxPool2D, AvgPool2D):
        assert not {"ceil_mode", "count_include_pad"} & set(inspect.signature(layer).parameters)


@BACKENDS
@DTYPES
def test_rows_and_columns_that_fill_no_window_are_ignored(backend, dtype):
    rng = np.random.default_rng(4)
    for size, window in ((7, 2), (49, 3)):
        shape, pair = (2, 3, size, size), (window, window)
        inp, used = rng.standard_normal(shape).astype(dtype), size // window * window
        largest, taps = backend.max_pool(inp, pair, pair, NO_PADDING)
        blocks = inp[:, :, :used, :used].reshape(2, 3, used // window, window, used // window, window)
        np.testing.assert_array_equal(largest, blocks.max(axis=(3, 5)))
        means = backend.avg_pool(inp, pair, pair, NO_PADDING)
        assert_parity(means, blocks.astype(np.float64).mean(axis=(3, 5)))
        for dinp in (
            backend.max_pool_backward(np.ones_like(largest), taps, shape, pair, pair, NO_PADDING),
            backend.avg_pool_backward(np.ones_like(means), shape, pair, pair, NO_PADDING),
        ):
            assert dinp.shape == shape
            assert dinp.sum() == pytest.approx(largest.size, rel=1e-5)
            if used < size:
                assert not dinp[:, :, used:].any()
                assert not dinp[:, :, :, used:].any()


@BACKENDS
@DTYPES
def test_transposed_and_reversed_arrays_are_not_read_as_contiguous_ones(backend, dtype):
    """All dimensions of a kernel have size 2, so that only the order of the elements can go wrong."""
    case = Case(2, 2, 2, (3, 3), (2, 2), (1, 1), (0, 0))
    inp, weight, bias, dsums = _arrays(case, dtype)
    views = [weight.transpose(axes) for axes in itertools.permutations(range(4))]
    views += [weight[::-1], weight[:, ::-1, ::-1], weight[..., ::-1]]
    for view in views:
        expected = plain_loops.conv(case, *_exact(inp, view, bias))
        assert_parity(backend.conv_forward(inp, view, bias, *case.windows), expected)
        found = backend.conv_backward(dsums, inp, view, *case.windows)
        assert_all_parity(found, plain_loops.conv_gradients(case, *_exact(dsums, inp, view)))
    for images in (inp.swapaxes(2, 3), inp.swapaxes(0, 1), inp[..., ::-1], inp[::-1], np.asfortranarray(inp)):
        expected = plain_loops.conv(case, *_exact(images, weight, bias))
        assert_parity(backend.conv_forward(images, weight, bias, *case.windows), expected)
        largest, taps = backend.max_pool(images, (2, 2), ONE, NO_PADDING)
        expected = plain_loops.max_pool(case, images)
        np.testing.assert_array_equal(largest, expected[0])
        np.testing.assert_array_equal(taps, expected[1])
        assert_parity(backend.avg_pool(images, (2, 2), ONE, NO_PADDING), plain_loops.avg_pool(case, *_exact(images)))


@BACKENDS
def test_float32_is_the_same_function_as_float64(backend):
    """Fast paths are often for float32 only, and tests of gradients run in float64."""
    network = _network(
        (3, 9, 8), [Conv2D(5, (3, 2)), MaxPool2D((2, 3)), Conv2D(17, 2, padding=1), AvgPool2D(), Dense(4)]
    )
    single = network.like(*([array.astype(np.float32) for array in each] for each in (network.weights, network.biases)))
    rng = np.random.default_rng(5)
    inp, labels = rng.standard_normal((21, 216)), rng.integers(4, size=21)
    found = backend.loss_and_gradients(single, inp, labels)
    expected = reference.loss_and_gradients(network, inp, labels)
    assert {array.dtype for array in (*found.dweights, *found.dbiases)} == {np.dtype(np.float32)}
    assert_all_parity([*found.dweights, *found.dbiases], [*expected.dweights, *expected.dbiases])
    assert_parity(backend.predict_logits(single, inp), reference.predict_logits(network, inp))


def test_there_is_no_dilation_and_there_are_no_groups():
    """Nothing accepts what a backward pass would ignore."""
    assert list(inspect.signature(Conv2D).parameters) == ["channels", "kernel", "stride", "padding", "activation"]
    for pool in (MaxPool2D, AvgPool2D):
        assert list(inspect.signature(pool).parameters) == ["size", "stride", "padding", "activation"]
    for option in ("dilation", "groups"):
        with pytest.raises(TypeError, match=option):
            Conv2D(4, 3, **{option: 2})


@BACKENDS
@DTYPES
def test_the_gradient_of_a_batch_is_the_mean_over_its_samples(backend, dtype):
    """Not divided by the number of places as well."""
    network = _network((2, 6, 5), [Conv2D(3, (3, 2)), AvgPool2D((2, 1)), Dense(4)], dtype)
    rng = np.random.default_rng(6)
    inp, labels = rng.standard_normal((7, 60)), rng.integers(4, size=7)
    found = backend.loss_and_gradients(network, inp, labels)
    each = [backend.loss_and_gradients(network, inp[k : k + 1], labels[k : k + 1]) for k in range(7)]
    for name in ("dweights", "dbiases"):
        means = [np.mean(_exact(*arrays), axis=0) for arrays in zip(*(getattr(one, name) for one in each), strict=True)]
        assert_all_parity(getattr(found, name), means, name)


@BACKENDS
@DTYPES
def test_the_bias_belongs_to_the_output_channel(backend, dtype):
    case = Case(2, 3, 5, (7, 4), (3, 2), (2, 1), (0, 1))
    inp, weight, bias, dsums = _arrays(case, dtype)
    without = backend.conv_forward(inp, weight, np.zeros_like(bias), *case.windows)
    found = backend.conv_forward(inp, weight, bias, *case.windows)
    assert_parity(found, _exact(without)[0] + bias.astype(np.float64)[:, None, None])
    _, _, dbias = backend.conv_backward(dsums, inp, weight, *case.windows)
    assert_parity(dbias, dsums.astype(np.float64).sum(axis=(0, 2, 3)))
    network = _network((3, 7, 4), [Conv2D(5, (3, 2)), Dense(3)], dtype)
    inp = make_inputs(np.random.default_rng(7), (6, 84), dtype)
    trainer = backend.trainer(network, inp, np.arange(6) % 3)
    trainer.run_epoch(np.arange(6), 6, 0.5)
    assert (trainer.network().biases[0] != network.biases[0]).all()  # and it is trained


@BACKENDS
@DTYPES
def test_a_dense_layer_sees_channels_then_rows_then_columns(backend, dtype):
    """A dense layer whose unit k sees input k only shows in which order images become rows."""
    shape = (3, 2, 4)
    layers = [Conv2D(3, 1, activation="identity"), Dense(24)]
    identity = np.eye(3, dtype=dtype).reshape(3, 1, 1, 3), np.eye(24, dtype=dtype)
    network = Network(identity, [np.zeros(3, dtype), np.zeros(24, dtype)], layers=layers, input_shape=shape)
    inp = np.arange(48, dtype=dtype).reshape(2, 24)
    np.testing.assert_array_equal(backend.predict_logits(network, inp), inp)
    pooled = Network([np.eye(6, dtype=dtype)], [np.zeros(6, dtype)], layers=[MaxPool2D(2), Dense(6)], input_shape=shape)
    expected = [inp[0].reshape(shape)[c, :, 2 * w : 2 * w + 2].max() for c in range(3) for w in range(2)]
    np.testing.assert_array_equal(backend.predict_logits(pooled, inp)[0], expected)


@DTYPES
def test_both_backends_learn_the_same_in_a_hundred_steps(dtype):
    """A fast path can look right in its forward pass and learn less."""
    data = fastnn.load_digits()
    images, labels = data.images[:800], data.labels[:800]
    layers = [Conv2D(6, 3), MaxPool2D(), Conv2D(8, 2), Dense(20), Dense(10)]
    network = _network((1, 8, 8), layers, dtype, input_scale=1 / 16)
    losses = []
    for backend in (reference, compiled):
        trainer, order = backend.trainer(network, images, labels, "momentum"), np.arange(800)
        losses.append([trainer.run_epoch(order[k : k + 32], 32, 0.05).loss for k in 4 * [*range(0, 800, 32)]])
    assert len(losses[0]) == 100
    assert np.mean(losses[0][-10:]) < 0.25 * losses[0][0]
    np.testing.assert_allclose(
        *losses, rtol=1e-9 if dtype == "float64" else 2e-3, atol=1e-9 if dtype == "float64" else 2e-4
    )


@BACKENDS
def test_the_gradient_check_leaves_kinks_out(backend):
    """Numbers far apart have no kink. Where the weights are 0, all sums are equal, and a step changes the largest."""
    network = _network((2, 5, 6), [Conv2D(3, 2), MaxPool2D(), Conv2D(4, (1, 2)), Dense(3)])
    rng = np.random.default_rng(8)
    inp, labels = rng.permutation(4 * 60).reshape(4, 60) / 240, np.array([0, 1, 2, 0])
    check = check_gradients(network, inp, labels, backend=backend)
    assert check.passed
    assert check.kinks == 0
    network.weights[0][...] = 0
    check = check_gradients(network, inp, labels, backend=backend)
    assert check.passed
    assert check.kinks > 0


@BACKENDS
@DTYPES
def test_no_shape_is_kept_from_another_layer_or_batch(backend, dtype):
    """Chains without pools, with pools in a row, and a pool before a convolution; then batches of other sizes."""
    rng = np.random.default_rng(9)
    for layers in (
        [Conv2D(4, 2), Conv2D(5, 3), Dense(3)],
        [Conv2D(4, 2, activation="identity"), MaxPool2D(activation="relu"), Conv2D(5, 2), Dense(3)],
        [MaxPool2D((2, 1)), AvgPool2D((1, 2)), Conv2D(4, 2), Dense(3)],
    ):
        network, exact = _network((2, 6, 8), layers, dtype), _network((2, 6, 8), layers)
        for n in (5, 1, 9, 5):
            inp, labels = rng.standard_normal((n, 96)), rng.integers(3, size=n)
            found = backend.loss_and_gradients(network, inp, labels)
            expected = reference.loss_and_gradients(exact, inp, labels)
            assert_all_parity([*found.dweights, *found.dbiases], [*expected.dweights, *expected.dbiases])
            assert_parity(backend.predict_logits(network, inp), reference.predict_logits(exact, inp))
        assert check_gradients(exact, inp, labels, backend=backend, n_weights=60).passed
    case = Case(2, 3, 1, (5, 6), (2, 3), (2, 1), (1, 1))  # the gradient of a pool has strides of its own
    inp, windows = rng.standard_normal(case.shape).astype(dtype), (case.window, *case.windows)
    dout = np.moveaxis(rng.standard_normal((*case.grid, 3, 2)).astype(dtype), (0, 1, 2, 3), (2, 3, 1, 0))
    taps = backend.max_pool(inp, *windows)[1]
    found = backend.max_pool_backward(dout, taps, inp.shape, *windows)
    assert_parity(found, plain_loops.max_pool_gradient(case, *_exact(dout), taps))


def test_sizes_are_inferred_and_errors_name_the_layer():
    network = Network.initialize((3, 20, 17), [Conv2D(6, 5), MaxPool2D(), Conv2D(16, 3, stride=2), Dense(4)])
    assert network.shapes == ((3, 20, 17), (6, 16, 13), (6, 8, 6), (16, 3, 2), (4,))
    assert network.weights[2].shape == (96, 4)
    with pytest.raises(SettingsError, match=r"layer 3: inputs of shape \(6, 2, 2\) come into conv2d 3x3, expected at"):
        Network.initialize((1, 9, 9), [Conv2D(6, 5), MaxPool2D(), Conv2D(16, 3), Dense(4)])
    with pytest.raises(
        SettingsError, match=r"layer 2: inputs of shape \(9,\) come into conv2d 3x3, expected \(channels"
    ):
        Network.initialize((1, 9, 9), [Dense(9), Conv2D(16, 3), Dense(4)])
    with pytest.raises(SettingsError, match=r"layer 2: weight of shape \(95, 4\), expected \(96, 4\)"):
        Network(
            [np.ones((3, 3, 3, 6)), np.ones((95, 4))], [np.ones(6), np.ones(4)],
            layers=[Conv2D(6), Dense(4)], input_shape=(3, 6, 6),
        )  # fmt: skip
