"""The operations of convolutions and pools: plain loops, central differences, values by hand, any form of arrays."""

from functools import cache

import numpy as np
import pytest

from fastnn.backends import compiled, reference
from fastnn.errors import DataError, SettingsError
from tests import plain_loops
from tests.parity import assert_all_parity, assert_parity, assert_same_bits
from tests.plain_loops import CASES, POOLS, Case

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
CONVOLUTIONS = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
POOLINGS = pytest.mark.parametrize("case", POOLS.values(), ids=POOLS)
STEP, LIMIT = 1e-5, 1e-7  # of central differences in float64


@cache
def _conv_arrays(case):
    """Return random `inp`, `weight`, `bias` and `dsums` that float32 can represent, in float64."""
    rng = np.random.default_rng(1)
    shapes = case.shape, (case.channels, *case.window, case.filters), (case.filters,)
    dsums = (case.samples, case.filters, *case.grid)
    return tuple(rng.standard_normal(shape).astype(np.float32).astype(np.float64) for shape in (*shapes, dsums))


@cache
def _pool_arrays(case):
    """Return `inp`, whose numbers are far apart so that no difference of a maximum meets a tie, and `dout`."""
    rng = np.random.default_rng(2)
    size = np.prod(case.shape)
    inp = (rng.permutation(size) - size // 2).reshape(case.shape) / np.float64(2 ** int(np.log2(size)))
    dout = rng.standard_normal((case.samples, case.channels, *case.grid)).astype(np.float32).astype(np.float64)
    return inp, dout


@cache
def _expected_conv(case):
    inp, weight, bias, dsums = _conv_arrays(case)
    return plain_loops.conv(case, inp, weight, bias), plain_loops.conv_gradients(case, dsums, inp, weight)


# --- Against plain loops ----------------------------------------------------------------------------------------------
@BACKENDS
@DTYPES
@CONVOLUTIONS
def test_a_convolution_and_its_gradients_agree_with_plain_loops(backend, dtype, case):
    inp, weight, bias, dsums = (array.astype(dtype) for array in _conv_arrays(case))
    expected, gradients = _expected_conv(case)
    sums = backend.conv_forward(inp, weight, bias, *case.windows)
    found = backend.conv_backward(dsums, inp, weight, *case.windows)
    assert_parity(sums, expected, "sums")
    assert_all_parity(found, gradients, "gradient")
    assert all(array.dtype == dtype and array.flags.c_contiguous for array in (sums, found[0]))
    without = backend.conv_backward(dsums, inp, weight, *case.windows, needs_dinp=False)
    assert without[0] is None
    assert_same_bits(without[1:], found[1:])


@BACKENDS
@DTYPES
@POOLINGS
def test_pools_and_their_gradients_agree_with_plain_loops(backend, dtype, case):
    inp, dout = (array.astype(dtype) for array in _pool_arrays(case))
    windows = case.window, *case.windows
    largest, taps = backend.max_pool(inp, *windows)
    expected, expected_taps = plain_loops.max_pool(case, inp)
    np.testing.assert_array_equal(largest, expected)
    np.testing.assert_array_equal(taps, expected_taps)
    means = backend.avg_pool(inp, *windows)
    assert_parity(means, plain_loops.avg_pool(case, inp))
    gradients = (
        backend.max_pool_backward(dout, taps, inp.shape, *windows),
        backend.avg_pool_backward(dout, inp.shape, *windows),
    )
    assert_parity(gradients[0], plain_loops.max_pool_gradient(case, dout, taps), "maximum")
    assert_parity(gradients[1], plain_loops.avg_pool_gradient(case, dout), "mean")
    assert taps.dtype == np.int32
    assert all(array.dtype == dtype and array.flags.c_contiguous for array in (largest, means, *gradients))


# --- Central differences ----------------------------------------------------------------------------------------------
def _assert_gradient(function, array, gradient, dout, what):
    """Compare the gradient of ``sum(function() * dout)`` with central differences, for some elements of `array`."""
    flat = array.reshape(-1)
    chosen = np.random.default_rng(3).permutation(flat.size)[: 60 if dout.size < 5000 else 10]
    differences = np.empty(len(chosen))
    for number, index in enumerate(chosen):
        kept, losses = flat[index], []
        for moved in (kept + STEP, kept - STEP):
            flat[index] = moved
            losses.append(np.sum(function() * dout))
        flat[index] = kept
        differences[number] = (losses[0] - losses[1]) / (2 * STEP)
    limit = LIMIT * max(1.0, np.abs(gradient).max())
    np.testing.assert_allclose(gradient.reshape(-1)[chosen], differences, rtol=0, atol=limit, err_msg=what)


@BACKENDS
@CONVOLUTIONS
def test_gradients_of_a_convolution_are_central_differences(backend, case):
    inp, weight, bias, dsums = (array.copy() for array in _conv_arrays(case))
    gradients = backend.conv_backward(dsums, inp, weight, *case.windows)
    for name, array, gradient in zip(("inp", "weight", "bias"), (inp, weight, bias), gradients, strict=True):
        assert gradient.shape == array.shape
        _assert_gradient(
            lambda: backend.conv_forward(inp, weight, bias, *case.windows), array, gradient, dsums, f"d{name}"
        )


@BACKENDS
@POOLINGS
def test_gradients_of_pools_are_central_differences(backend, case):
    (inp, dout), windows = (array.copy() for array in _pool_arrays(case)), (case.window, *case.windows)
    taps = backend.max_pool(inp, *windows)[1]
    gradient = backend.max_pool_backward(dout, taps, inp.shape, *windows)
    _assert_gradient(lambda: backend.max_pool(inp, *windows)[0], inp, gradient, dout, "maximum")
    gradient = backend.avg_pool_backward(dout, inp.shape, *windows)
    _assert_gradient(lambda: backend.avg_pool(inp, *windows), inp, gradient, dout, "mean")


# --- By hand ----------------------------------------------------------------------------------------------------------
IMAGE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
KERNEL = [[1, 0], [0, -1]]


def _image(values, dtype):
    return np.array(values, dtype)[None, None]


@BACKENDS
@DTYPES
def test_a_convolution_by_hand(backend, dtype):
    """A tiny picture and a kernel that compares a pixel with the one to the lower right of it; the bias is 10."""
    weight, bias = np.array(KERNEL, dtype).reshape(1, 2, 2, 1), np.array([10], dtype)
    inp = _image(IMAGE, dtype)
    sums = backend.conv_forward(inp, weight, bias, (1, 1), (0, 0))
    np.testing.assert_array_equal(sums, _image([[6, 6], [6, 6]], dtype))  # the kernel is not mirrored
    padded = backend.conv_forward(inp, weight, bias, (2, 2), (1, 1))
    np.testing.assert_array_equal(padded, _image([[10 - 1, 10 - 3], [10 - 7, 10 + 5 - 9]], dtype))
    dsums = _image([[1, 2], [3, 4]], dtype)
    dinp, dweight, dbias = backend.conv_backward(dsums, inp, weight, (1, 1), (0, 0))
    np.testing.assert_array_equal(dinp, _image([[1, 2, 0], [3, 4 - 1, -2], [0, -3, -4]], dtype))
    np.testing.assert_array_equal(
        dweight[0, :, :, 0], [[1 + 4 + 12 + 20, 2 + 6 + 15 + 24], [4 + 10 + 21 + 32, 5 + 12 + 24 + 36]]
    )
    np.testing.assert_array_equal(dbias, [10])


@BACKENDS
@DTYPES
def test_two_channels_in_and_two_out_by_hand(backend, dtype):
    """With a 1 x 1 kernel, a convolution is a dense layer at each pixel."""
    inp = np.array([[[[1, 2]], [[3, 5]]]], dtype)
    weight = np.array([[10, 100], [1, 1000]], dtype).reshape(2, 1, 1, 2)
    sums = backend.conv_forward(inp, weight, np.array([0, 7], dtype), (1, 1), (0, 0))
    np.testing.assert_array_equal(sums, [[[[10 + 3, 20 + 5]], [[100 + 3000 + 7, 200 + 5000 + 7]]]])


@BACKENDS
@DTYPES
def test_pools_by_hand(backend, dtype):
    inp = _image([[1, 2, 3, 0], [4, 5, 6, 0], [7, 8, 9, 0]], dtype)
    windows = (2, 2), (1, 2), (0, 0)
    largest, taps = backend.max_pool(inp, *windows)
    np.testing.assert_array_equal(largest, _image([[5, 6], [8, 9]], dtype))
    np.testing.assert_array_equal(taps, _image([[3, 2], [3, 2]], np.int32))
    np.testing.assert_array_equal(backend.avg_pool(inp, *windows), _image([[3, 2.25], [6, 3.75]], dtype))
    dout = _image([[4, 8], [12, 16]], dtype)
    found = backend.max_pool_backward(dout, taps, inp.shape, *windows)
    np.testing.assert_array_equal(found, _image([[0, 0, 0, 0], [0, 4, 8, 0], [0, 12, 16, 0]], dtype))
    found = backend.avg_pool_backward(dout, inp.shape, *windows)
    np.testing.assert_array_equal(found, _image([[1, 1, 2, 2], [4, 4, 6, 6], [3, 3, 4, 4]], dtype))


# --- Gradients that are counts ----------------------------------------------------------------------------------------
def _covering(size, window, stride, padding):
    """Return the number of windows over each pixel of a line."""
    starts = np.arange(-padding, size + padding - window + 1, stride)
    pixels = np.arange(size)[:, None]
    return ((pixels >= starts) & (pixels < starts + window)).sum(axis=1)


def _covering_windows(case):
    rows, columns = map(_covering, case.image, case.window, case.stride, case.padding)
    return np.multiply.outer(rows, columns)


@BACKENDS
@DTYPES
@CONVOLUTIONS
def test_a_convolution_of_ones_has_gradients_that_count(backend, dtype, case):
    """Of an input, the windows over it times the filters; of a weight, the pixels it has met times the samples."""
    inp, weight, _, dsums = (np.ones_like(array, dtype) for array in _conv_arrays(case))
    dinp, dweight, dbias = backend.conv_backward(dsums, inp, weight, *case.windows)
    count = case.filters * _covering_windows(case)
    np.testing.assert_array_equal(dinp, np.broadcast_to(count, dinp.shape))
    met = np.zeros(case.window)
    for _, tap, _, _ in case.seen():
        met[tap] += case.samples
    np.testing.assert_array_equal(dweight, np.broadcast_to(met[:, :, None], dweight.shape))
    np.testing.assert_array_equal(dbias, case.samples * np.prod(case.grid))


@BACKENDS
@DTYPES
@POOLINGS
def test_pools_of_ones_have_gradients_that_count(backend, dtype, case):
    """Of a mean, the windows over the input; of a maximum, one for each window in all."""
    inp, dout = (np.ones_like(array, dtype) for array in _pool_arrays(case))
    windows = case.window, *case.windows
    area = case.window[0] * case.window[1]
    found = backend.avg_pool_backward(dout * area, inp.shape, *windows)
    np.testing.assert_array_equal(found, np.broadcast_to(_covering_windows(case), inp.shape))
    taps = backend.max_pool(inp, *windows)[1]
    assert backend.max_pool_backward(dout, taps, inp.shape, *windows).sum() == dout.size


# --- Forms of arrays --------------------------------------------------------------------------------------------------
def _unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def _every_second(array):
    for axis in range(array.ndim):
        array = np.repeat(array, 2, axis)
    return array[(slice(None, None, 2),) * array.ndim]


FORMS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda array: np.ascontiguousarray(np.flip(array))[(slice(None, None, -1),) * array.ndim],
    "every second": _every_second,
    "first axis last": lambda array: np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0),
    "transposed": lambda array: np.ascontiguousarray(array.T).T,
    "unaligned": _unaligned,
    "read-only": _read_only,
}
ODD = Case(3, 2, 5, (7, 6), (3, 2), (2, 1), (1, 1))


@BACKENDS
@DTYPES
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_any_form_of_arrays_gives_the_results_of_contiguous_ones(backend, dtype, form):
    """Each array in turn has another form, then all of them have; none of them changes."""
    inp, weight, bias, dsums = (array.astype(dtype) for array in _conv_arrays(ODD))
    shape, windows = inp.shape, (ODD.window, *ODD.windows)
    taps, dout = backend.max_pool(inp, *windows)[1], _pool_arrays(ODD)[1].astype(dtype)
    for call, arrays in (
        (lambda *each: [backend.conv_forward(*each, *ODD.windows)], (inp, weight, bias)),
        (lambda *each: backend.conv_backward(*each, *ODD.windows), (dsums, inp, weight)),
        (lambda *each: backend.max_pool(*each, *windows), (inp,)),
        (lambda *each: [backend.avg_pool(*each, *windows)], (inp,)),
        (lambda *each: [backend.max_pool_backward(*each, shape, *windows)], (dout, taps)),
        (lambda *each: [backend.avg_pool_backward(*each, shape, *windows)], (dout,)),
    ):
        expected = call(*arrays)
        for changed in (*({number} for number in range(len(arrays))), set(range(len(arrays)))):
            given = [form(array) if number in changed else array for number, array in enumerate(arrays)]
            for one, other in zip(call(*given), expected, strict=True):
                if one.dtype == np.int32:
                    np.testing.assert_array_equal(one, other)
                else:
                    assert_parity(one, other.astype(np.float64))
            for one, other in zip(given, arrays, strict=True):
                np.testing.assert_array_equal(one, other)


@BACKENDS
@DTYPES
def test_pixels_are_converted_to_the_dtype_of_the_weight(backend, dtype):
    _, weight, bias, dsums = (array.astype(dtype) for array in _conv_arrays(ODD))
    pixels = np.random.default_rng(4).integers(0, 256, ODD.shape).astype(np.uint8)
    for kind in (np.uint8, np.float32, np.float64):
        inp = pixels.astype(kind)
        found = backend.conv_forward(inp, weight, bias, *ODD.windows)
        exact = inp.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64)
        assert_parity(found, plain_loops.conv(ODD, *exact))
        found = backend.conv_backward(dsums, inp, weight, *ODD.windows)
        assert_all_parity(found, plain_loops.conv_gradients(ODD, dsums.astype(np.float64), *exact[:2]))
        assert {array.dtype for array in found} == {np.dtype(dtype)}


@BACKENDS
@DTYPES
def test_a_batch_without_samples_has_results_without_samples(backend, dtype):
    inp, weight, bias = np.ones((0, 2, 7, 6), dtype), np.ones((2, 3, 2, 5), dtype), np.ones(5, dtype)
    windows = ODD.window, *ODD.windows
    sums = backend.conv_forward(inp, weight, bias, *ODD.windows)
    assert sums.shape == (0, 5, *ODD.grid)
    dinp, dweight, dbias = backend.conv_backward(sums, inp, weight, *ODD.windows)
    assert dinp.shape == inp.shape
    assert not dweight.any()
    assert not dbias.any()
    largest, taps = backend.max_pool(inp, *windows)
    assert largest.shape == taps.shape == backend.avg_pool(inp, *windows).shape == (0, 2, *ODD.grid)
    assert backend.max_pool_backward(largest, taps, inp.shape, *windows).shape == inp.shape
    assert backend.avg_pool_backward(largest, inp.shape, *windows).shape == inp.shape


# --- What does not fit ------------------------------------------------------------------------------------------------
ONES = {
    name: np.ones(shape)
    for name, shape in {
        "inp": (2, 3, 5, 6), "weight": (3, 2, 2, 4), "bias": (4,), "dsums": (2, 4, 4, 5), "dout": (2, 3, 4, 5),
    }.items()
}  # fmt: skip
ONES["taps"] = np.zeros((2, 3, 4, 5), np.int32)
CALLS = {  # of arrays, a stride, a padding and a window
    "conv_forward": lambda b, a, s, p, w: b.conv_forward(a["inp"], a["weight"], a["bias"], s, p),
    "conv_backward": lambda b, a, s, p, w: b.conv_backward(a["dsums"], a["inp"], a["weight"], s, p),
    "max_pool": lambda b, a, s, p, w: b.max_pool(a["inp"], w, s, p),
    "max_pool_backward": lambda b, a, s, p, w: b.max_pool_backward(a["dout"], a["taps"], a["inp"].shape, w, s, p),
    "avg_pool": lambda b, a, s, p, w: b.avg_pool(a["inp"], w, s, p),
    "avg_pool_backward": lambda b, a, s, p, w: b.avg_pool_backward(a["dout"], a["inp"].shape, w, s, p),
}
ARRAYS = {
    "conv_forward": ("inp", "weight", "bias"), "conv_backward": ("dsums", "inp", "weight"), "max_pool": ("inp",),
    "max_pool_backward": ("dout", "taps"), "avg_pool": ("inp",), "avg_pool_backward": ("dout",),
}  # fmt: skip


def _refused(error, call, *arguments):
    with pytest.raises(error) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)


WRONG = {
    "no samples axis": lambda array: array[0],
    "one axis more": lambda array: array[None],
    "another number of channels": lambda array: array.repeat(
        2, axis=int(array.ndim == 4 and array is not ONES["weight"])
    ),
    "no rows": lambda array: array[:, :, :0] if array.ndim == 4 else array[:0],
    "no columns": lambda array: array[..., :0],
    "text": lambda array: array.astype("S3"),
    "complex numbers": lambda array: array.astype(complex),
    "a list": lambda array: array.tolist(),
}


@BACKENDS
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", CALLS)
def test_arrays_that_do_not_fit_are_refused_in_one_line(backend, name, wrong):
    CALLS[name](backend, ONES, (1, 1), (0, 0), (2, 2))
    for changed in ARRAYS[name]:
        if (wrong == "another number of channels" and name in ("max_pool", "avg_pool")) or (
            wrong == "no columns" and changed == "weight"
        ):
            continue  # pools work on any number of channels; without filters, there are no sums
        arrays = {**ONES, changed: WRONG[wrong](ONES[changed])}
        _refused((DataError, SettingsError), CALLS[name], backend, arrays, (1, 1), (0, 0), (2, 2))


@BACKENDS
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("stride", "padding", "window"),
    [
        ((0, 1), (0, 0), (2, 2)),
        ((1, -1), (0, 0), (2, 2)),
        ((1, 1), (-1, 0), (2, 2)),
        ((1, 1), (0, 2), (2, 2)),  # a window would see nothing but padding
        ((1,), (0, 0), (2, 2)),
        ((1, 1.5), (0, 0), (2, 2)),
        ((1, 1), (0, 0), (6, 2)),
        ((1, 1), (0, 0), (0, 2)),
    ],
    ids=str,
)
def test_windows_that_do_not_fit_are_refused_in_one_line(backend, name, stride, padding, window):
    arrays = {**ONES, "weight": np.ones((3, *window, 4))}
    _refused((DataError, SettingsError), CALLS[name], backend, arrays, stride, padding, window)
