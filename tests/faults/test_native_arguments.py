"""Hostile arguments of native code: a named error of one line, or the result of the reference backend.

Before each was refused or copied, most of these cases ended the process or wrote to memory of others.
"""

import mmap
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import fastnn
from fastnn.backends import compiled, reference
from fastnn.backends.compiled import inputs as compiled_inputs
from fastnn.backends.compiled.inputs import NonzeroInputs
from fastnn.errors import DataError, FastnnError, SettingsError
from fastnn.network import BatchNorm, Dense, Network
from fastnn.optim.optimizers import SGD
from tests.parity import assert_same_bits, make_inputs, make_network, trained_arrays

BACKENDS = pytest.mark.parametrize("backend", [reference, compiled], ids=["numpy", "numba"])
HUGE = 10**6


def _network(sizes=(40, 33, 10), dtype="float32"):
    return make_network(np.random.default_rng(0), sizes, "uint8", dtype, "relu")


def _data(n_rows=300, n_inputs=40, n_classes=10):
    rng = np.random.default_rng(1)
    return make_inputs(rng, (n_rows, n_inputs), "uint8"), rng.integers(n_classes, size=n_rows)


def _refused(error: type[Exception], call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(error) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Data that change during a run -----------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("batch_size", [32, None], ids=["batches", "one batch"])
@pytest.mark.parametrize("labels", [HUGE, -1, 10])
def test_labels_that_a_callback_changes_change_nothing(backend, batch_size, labels):
    images, true = _data()
    settings = {"epochs": 3, "batch_size": batch_size, "learning_rate": 0.1, "backend": backend}
    expected = fastnn.train(_network(), (images, true), **settings)
    weight = np.ones(len(true), np.float32)
    data = fastnn.Dataset(images, true.copy())

    def change(_):
        data.labels[:] = labels
        weight[:] = np.nan

    found = fastnn.train(_network(), data, sample_weight=weight, callbacks=[change], **settings)
    assert (data.labels == labels).all()
    assert_same_bits(found.network.weights, expected.network.weights)


@pytest.mark.parametrize("output", ["identity", "logistic"])
def test_targets_that_change_after_a_trainer_is_made_change_nothing(output):
    images, _ = _data()
    targets = np.random.default_rng(2).random((300, 2), np.float32)
    network = Network.initialize((40, 9, 2), output=output, input_scale=1 / 255)
    given = targets.copy()
    found, expected = (compiled.trainer(network, images, each, SGD()) for each in (given, targets))
    given[:] = np.inf
    for trainer in (found, expected):
        trainer.run_epoch(np.arange(300), 32, 0.1)
    assert_same_bits(trained_arrays(found), trained_arrays(expected))


@pytest.mark.parametrize("form", ["images", "rows"])
def test_another_thread_that_changes_all_arrays_during_a_run_does_not_reach_the_kernels(form):
    """Labels, order, structure: the results are those of the run alone."""
    images, labels = _data(2000)
    order = np.random.default_rng(3).permutation(2000)
    given = scipy.sparse.csr_matrix(images) if form == "rows" else images
    kept = labels.copy(), order.copy(), given.copy()
    found = compiled.trainer(_network(), given, labels, SGD(), threads=2)
    expected = compiled.trainer(_network(), kept[2], kept[0], SGD(), threads=2)
    stop = threading.Event()

    def change():
        while not stop.is_set():
            labels[:] = HUGE
            order[:], order[:] = HUGE, kept[1]
            if form == "rows":
                given.indices[:], given.indptr[:] = HUGE, HUGE

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(20):
            with suppress(IndexError):  # the check saw the changed order
                found.run_epoch(order, 64, 0.0)
            found.run_epoch(kept[1], 64, 0.05)
    finally:
        stop.set()
        changer.join()
    for _ in range(20):
        expected.run_epoch(kept[1], 64, 0.05)
    assert_same_bits(found.network().weights, expected.network().weights)


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_images_that_fill_up_after_they_were_counted_are_refused_where_they_are_listed(rows_at_once, monkeypatch):
    monkeypatch.setattr(compiled_inputs, "_LISTED_AT_ONCE", rows_at_once * 40)
    images, labels = _data()
    trainer = compiled.trainer(_network((40, 10)), images, labels, SGD())
    images[:] = 255
    assert "inputs changed" in _refused(DataError, trainer.prepare, 300, 300)


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
def test_images_that_lose_nonzero_inputs_are_listed_as_they_are_then(rows_at_once, monkeypatch):
    monkeypatch.setattr(compiled_inputs, "_LISTED_AT_ONCE", rows_at_once * 40)
    images, labels = _data()
    later = images * (np.arange(40) % 2).astype(np.uint8)
    found = compiled.trainer(_network((40, 10)), images, labels, SGD())
    images[:] = later
    expected = compiled.trainer(_network((40, 10)), later, labels, SGD())
    for trainer in (found, expected):
        trainer.run_epoch(np.arange(300), 300, 0.1)
        assert trainer.describe().inputs == "lists"
    assert_same_bits(trained_arrays(found), trained_arrays(expected))


def test_lists_do_not_depend_on_the_rows_that_are_listed_at_once(monkeypatch):
    images, _ = _data(301, 45)
    images.flags.writeable = False
    rows = scipy.sparse.csr_matrix(images)
    for rows_at_once in (1, 2, 100, 300, 1000):
        monkeypatch.setattr(compiled_inputs, "_LISTED_AT_ONCE", rows_at_once * 45)
        lists = NonzeroInputs(images, None, np.dtype(np.float32)).lists()
        np.testing.assert_array_equal(lists.indptr, rows.indptr)
        for name in ("indices", "data"):
            np.testing.assert_array_equal(getattr(lists, name)[: rows.nnz], getattr(rows, name))


@pytest.mark.parametrize("form", ["images", "rows"])
def test_inputs_of_a_trainer_cannot_be_resized(form):
    images, labels = _data()
    images = images.copy()  # an array that owns its memory
    given = scipy.sparse.csr_matrix(images) if form == "rows" else images
    owner = given.data if form == "rows" else images
    trainer = compiled.trainer(_network(), given, labels, SGD())
    with pytest.raises(ValueError, match="resize"):
        owner.resize(1, refcheck=False)
    del trainer
    if form == "images":
        owner.resize(1, refcheck=False)


# --- Sparse matrices --------------------------------------------------------------------------------------------------
def _matrix(indptr, indices, data=None, n_inputs=40, kind=scipy.sparse.csr_matrix, index_dtype=np.int32):
    """Return a CSR matrix that has these arrays, which SciPy's constructor would refuse."""
    matrix = kind((len(indptr) - 1, n_inputs), dtype=np.float32)
    matrix.indptr, matrix.indices = np.array(indptr, index_dtype), np.array(indices, index_dtype)
    matrix.data = np.ones(len(indices), np.float32) if data is None else data
    return matrix


MOST = 2**31 - 1
BAD_MATRICES = {
    "an index too large": ([0, 1, 2], [0, 40]),
    "a huge index": ([0, 1, 2], [0, MOST]),
    "a negative index": ([0, 1, 2], [0, -1]),
    "differences that wrap": ([0, MOST, -2, 2], [0, 1]),
    "decreasing indptr": ([0, 2, 1, 2], [0, 1]),
    "indptr from 1 on": ([1, 1, 2], [0, 1]),
    "negative indptr": ([0, -1, 2], [0, 1]),
    "more entries than there are": ([0, 1, 3], [0, 1]),
    "a huge number of entries": ([0, 1, MOST], [0, 1]),
    "no data": ([0, 1, 2], [0, 1], np.ones(0, np.float32)),
    "data of two dimensions": ([0, 1, 2], [0, 1], np.ones((2, 1), np.float32)),
}


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csr_array])
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@BACKENDS
@pytest.mark.parametrize("case", BAD_MATRICES)
def test_a_matrix_with_a_bad_structure_is_refused(case, backend, index_dtype, kind):
    matrix = _matrix(*BAD_MATRICES[case], kind=kind, index_dtype=index_dtype)
    matrix.has_sorted_indices = matrix.has_canonical_format = (
        True  # SciPy caches these flags, and a program may set them
    )
    n_rows, network = matrix.shape[0], _network()
    for call in (
        lambda: backend.predict_proba(network, matrix),
        lambda: backend.trainer(network, matrix, np.zeros(n_rows, int), SGD()),
        lambda: backend.loss_and_gradients(network, matrix, np.zeros(n_rows, int)),
        lambda: fastnn.train(network, (matrix, np.zeros(n_rows, int)), epochs=1),
    ):
        assert "do not fit its shape" in _refused(DataError, call)


@pytest.mark.parametrize("name", ["indptr", "indices"])
def test_a_structure_that_is_not_of_whole_numbers_is_refused(name):
    matrix = _matrix([0, 1, 2], [3, 4])
    setattr(matrix, name, getattr(matrix, name).astype(np.float32))
    _refused(DataError, compiled.predict_proba, _network(), matrix)


@BACKENDS
def test_unsorted_and_repeated_indices_are_added_up_whatever_the_flags_say(backend):
    matrix = _matrix([0, 4, 5], [7, 3, 7, 0, 39], np.arange(1, 6, dtype=np.float32))
    dense = np.zeros((2, 40), np.float32)
    np.add.at(dense, ([0, 0, 0, 0, 1], matrix.indices), matrix.data)
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    expected = backend.predict_proba(_network(), dense)
    np.testing.assert_allclose(backend.predict_proba(_network(), matrix), expected, rtol=1e-6)
    trained = [backend.trainer(_network(), each, np.array([1, 2]), SGD()) for each in (matrix, dense)]
    for trainer in trained:
        trainer.run_epoch(np.arange(2), 2, 0.1)
    for found, wanted in zip(*map(trained_arrays, trained), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


@BACKENDS
@pytest.mark.filterwarnings("ignore:Constructing a DIA")
@pytest.mark.parametrize("form", ["csc", "coo", "bsr", "lil", "dok", "dia"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_other_sparse_formats_are_refused_by_backends_and_converted_for_data_sets(backend, form, kind):
    images, labels = _data()
    matrix = getattr(scipy.sparse, f"csr_{kind}")(images).asformat(form)
    assert "expected 'csr'" in _refused(DataError, backend.predict_proba, _network(), matrix)
    assert "expected 'csr'" in _refused(DataError, backend.trainer, _network(), matrix, labels, SGD())
    name = "numba" if backend is compiled else "numpy"
    settings = {"epochs": 1, "learning_rate": 0.1, "backend": name}
    found, expected = (fastnn.train(_network(), (each, labels), **settings) for each in (matrix, images))
    for one, other in zip(found.network.weights, expected.network.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# --- Networks whose arrays change -------------------------------------------------------------------------------------
def _replaced(name, layer, array):
    def change(network):
        arrays = list(getattr(network, name))
        arrays[layer] = array
        setattr(network, name, tuple(arrays))

    return change


def _in_place(attribute, value):
    def change(network):
        setattr(network.weights[1], attribute, value)

    return change


BAD_ARRAYS = {
    "more rows": _replaced("weights", 1, np.zeros((6400, 10), np.float32)),
    "fewer rows": _replaced("weights", 1, np.zeros((32, 10), np.float32)),
    "more units": _replaced("weights", 0, np.zeros((40, 64), np.float32)),
    "one row that NumPy would repeat": _replaced("weights", 0, np.zeros((1, 33), np.float32)),
    "more outputs": _replaced("weights", 1, np.zeros((33, 11), np.float32)),
    "three dimensions": _replaced("weights", 1, np.zeros((33, 10, 1), np.float32)),
    "a short bias": _replaced("biases", 0, np.zeros(3, np.float32)),
    "a bias that NumPy would repeat": _replaced("biases", 0, np.zeros(1, np.float32)),
    "a number as bias": _replaced("biases", 1, np.float32(0)),
    "a weight of objects": _replaced("weights", 1, np.zeros((33, 10), object)),
    "a first weight of whole numbers": _replaced("weights", 0, np.zeros((40, 33), np.int64)),
    "a first weight of the other byte order": _replaced("weights", 0, np.zeros((40, 33), ">f4")),
    "a first weight of half precision": _replaced("weights", 0, np.zeros((40, 33), np.float16)),
    "fewer weights": lambda network: setattr(network, "weights", network.weights[:1]),
    "more biases": lambda network: setattr(network, "biases", (*network.biases, np.zeros(1, np.float32))),
    "another shape in place": _in_place("shape", (10, 33)),
    "a flat shape in place": _in_place("shape", (330,)),
    "another dtype in place": _in_place("dtype", np.float64),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
@pytest.mark.parametrize("warm", [False, True], ids=["at once", "after a prediction"])
def test_a_network_given_arrays_of_another_shape_is_refused(case, warm):
    network, (images, labels) = _network(), _data()
    if warm:
        compiled.predict_proba(network, images)
    BAD_ARRAYS[case](network)
    for call in (
        lambda: compiled.predict_proba(network, images),
        lambda: compiled.predict_logits(network, images[:1]),
        lambda: compiled.trainer(network, images, labels, SGD()),
        lambda: compiled.loss_and_gradients(network, images, labels),
    ):
        _refused(FastnnError, call)


@BACKENDS
@pytest.mark.parametrize("layers", [[Dense(9), Dense(10)], [Dense(9, "identity"), BatchNorm("relu"), Dense(10)]])
@pytest.mark.parametrize("name", ["weights", "biases", "statistics"])
@pytest.mark.parametrize("value", [None, 5, "ab", {}, (1,), (np.ones(9),) * 4], ids=repr)
def test_other_values_in_the_place_of_a_networks_arrays_are_refused(value, name, layers, backend):
    network, (images, labels) = Network.initialize((40,), layers), _data()
    setattr(network, name, value)
    for call in (
        lambda: backend.predict_proba(network, images),
        lambda: backend.predict_logits(network, images),
        lambda: backend.trainer(network, images, labels, SGD()),
        lambda: backend.loss_and_gradients(network, images, labels),
    ):
        assert name in _refused(SettingsError, call)


@BACKENDS
@pytest.mark.parametrize("layers", [None, [Dense(9, "identity"), BatchNorm("relu"), Dense(10)]])
@pytest.mark.parametrize(
    ("order", "batch_size", "batches", "error"),
    [
        (np.arange(40).reshape(20, 2), 10, None, ValueError),
        (np.arange(40.0), 10, None, ValueError),
        (np.arange(40) > 3, 10, None, ValueError),
        (np.int64(3), 10, None, ValueError),
        (np.arange(0), 10, None, ValueError),
        (np.arange(40), 0, None, ValueError),
        (np.arange(40), 10, range(1, 4), ValueError),
        (np.arange(40), 10, range(0, 5), ValueError),
        (np.arange(40), 10, range(0, 0), ValueError),
        (np.arange(40), 10, range(0, 4, 2), ValueError),
        (np.arange(261, 301), 10, None, IndexError),
        (np.arange(-1, 39), 10, None, IndexError),
        (np.arange(40, dtype=np.uint64) + 2**63, 10, None, IndexError),
    ],
)
def test_a_bad_order_of_an_epoch_is_refused_and_changes_nothing(order, batch_size, batches, error, layers, backend):
    network, (images, labels) = _network() if layers is None else Network.initialize((40,), layers), _data()
    trainer = backend.trainer(network, images, labels, SGD())
    _refused(error, trainer.run_epoch, order, batch_size, 0.1, batches)
    assert_same_bits(trainer.network().weights, network.weights)
    assert trainer.state().steps == 0


def test_a_shape_that_is_changed_in_place_and_back_is_noticed_both_times():
    network, (images, _) = _network(), _data()
    expected = compiled.predict_proba(network, images)
    network.weights[1].shape = (10, 33)
    assert "layer 2: weight of shape (10, 33)" in _refused(SettingsError, compiled.predict_proba, network, images)
    network.weights[1].shape = (33, 10)
    assert_same_bits([compiled.predict_proba(network, images)], [expected])


def test_a_prediction_has_the_sizes_of_the_arrays_not_those_that_a_program_writes_beside_them():
    network, (images, _) = _network(), _data()
    expected = compiled.predict_proba(network, images)
    network.sizes = (40, 33, 5)
    assert_same_bits([compiled.predict_proba(network, images)], [expected])
    network.sizes = (39, 33, 10)
    _refused(DataError, compiled.predict_proba, network, images[:, :39])


def test_arrays_of_a_network_cannot_be_resized_after_a_prediction():
    network, (images, _) = _network(), _data()
    weights = tuple(weight.copy() for weight in network.weights)
    network.weights = weights
    expected = compiled.predict_proba(network, images)
    for array in (*weights, *network.biases):
        while array.base is not None:
            array = array.base
        with pytest.raises(ValueError, match="resize"):
            array.resize(1, refcheck=False)
    assert_same_bits([compiled.predict_proba(network, images)], [expected])


@BACKENDS
def test_lists_of_arrays_are_followed(backend):
    network, (images, _) = _network(), _data()
    network.weights, network.biases = list(network.weights), list(network.biases)
    before = backend.predict_proba(network, images)
    network.weights[1] = 2 * network.weights[1]
    after = backend.predict_proba(network, images)
    assert not np.array_equal(before, after)
    network.weights[0][:] = 0
    assert not np.array_equal(after, backend.predict_proba(network, images))
    network.weights[1] = np.zeros((6400, 10), np.float32)
    _refused(FastnnError, backend.predict_proba, network, images)


@pytest.mark.parametrize("make", [np.asfortranarray, lambda w: np.repeat(w, 2, axis=-1)[..., ::2], np.float64, list])
def test_arrays_in_another_form_are_copied(make):
    network, (images, labels) = _network(), _data()
    expected = compiled.predict_proba(network, images), compiled.loss_and_gradients(network, images, labels).loss
    network.weights = network.weights[0], make(network.weights[1])
    network.biases = tuple(map(make, network.biases))
    found = compiled.predict_proba(network, images), compiled.loss_and_gradients(network, images, labels).loss
    assert_same_bits(found[:1], expected[:1])
    assert found[1] == expected[1]


def test_a_network_that_changes_during_a_run_does_not_change_it():
    (images, labels), network = _data(), _network()
    found, expected = (compiled.trainer(each, images, labels, SGD()) for each in (network, _network()))
    network.weights[0].shape = (33, 40)
    network.weights, network.biases, network.sizes, network.layers = (), (), (1, 2), ()
    for trainer in (found, expected):
        trainer.run_epoch(np.arange(300), 32, 0.1)
    assert_same_bits(trained_arrays(found), trained_arrays(expected))


@pytest.mark.parametrize("name", ["weights", "biases", "statistics"])
@pytest.mark.parametrize("shape", [(1000,), (3,), (9, 1)])
def test_batch_norm_refuses_arrays_of_another_shape(name, shape):
    network = Network.initialize((40,), [Dense(9, "identity"), BatchNorm("relu"), Dense(3)])
    arrays = list(getattr(network, name))
    arrays[1] = np.ones(shape, np.float32)
    setattr(network, name, tuple(arrays))
    _refused(DataError, compiled.predict_proba, network, np.ones((5, 40)))


# --- Operations -------------------------------------------------------------------------------------------------------
def _strided(array):
    for axis in range(array.ndim):
        array = np.repeat(array, 2, axis)
    return array[(slice(None, None, 2),) * array.ndim]


def _unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def _read_only(array):
    array.flags.writeable = False
    return array


def _overlapping(array):
    """An array whose rows share memory."""
    return np.lib.stride_tricks.as_strided(array, array.shape, (array.itemsize,) * array.ndim)


FORMS = {
    "as they are": lambda array: array,
    **{name: lambda array, name=name: (4 * array).astype(name) for name in
       ("float16", ">f4", ">f8", "longdouble", "int8", "int64", "uint8", "bool", "complex64", "object", "S3", "M8[s]")},
    "Fortran": np.asfortranarray,
    "strided": _strided,
    "unaligned": _unaligned,
    "read-only": _read_only,
    "overlapping": _overlapping,
    "no rows": lambda array: array[:0],
    "no columns": lambda array: array[..., :0],
    "one dimension more": lambda array: array[None],
    "one dimension less": lambda array: array[0],
    "matrix": lambda array: array.view(np.matrix) if array.ndim == 2 else array,
    "masked": np.ma.masked_array,
    "subclass": lambda array: array.view(type("Mine", (np.ndarray,), {})),
    "list": lambda array: array.tolist(),
    "None": lambda array: None,
}  # fmt: skip
ACCEPTED = ("as they are", "Fortran", "strided", "unaligned", "read-only", "overlapping", "subclass")
IMAGES = {
    "images": (5, 2, 4, 6), "kernels": (2, 2, 2, 3), "filters": (3,), "dsums": (5, 3, 3, 5), "dout": (5, 2, 3, 5),
    "taps": (5, 2, 3, 5),
}  # fmt: skip
ARRAYS = {"inp": (7, 5), "weight": (5, 3), "bias": (3,), "sums": (7, 3), "more": (7, 3), "mean": (3,), "variance": (3,)}
OPERATIONS = {
    "matmul": ("inp", "weight"),
    "relu": ("inp",),
    "relu_backward": ("sums", "more"),
    "softmax": ("sums",),
    "dense_forward": ("inp", "weight", "bias"),
    "dense_backward": ("sums", "inp", "weight"),
    "batch_norm": ("sums", "mean", "bias", "mean", "variance"),
    "batch_norm_forward": ("sums", "mean", "bias"),
    "batch_norm_backward": ("sums", "more", "mean", "bias", "variance"),
    "softmax_cross_entropy": ("sums", "labels"),
    "logistic_cross_entropy": ("sums", "more"),
    "squared_error": ("sums", "more"),
    "conv_forward": ("images", "kernels", "filters"),
    "conv_backward": ("dsums", "images", "kernels"),
    "max_pool": ("images",),
    "max_pool_backward": ("dout", "taps"),
    "avg_pool": ("images",),
    "avg_pool_backward": ("dout",),
}
STRIDE, PADDING, SIZE = (2, 1), (1, 0), (2, 2)
# The arguments after the arrays.
REST = {
    "batch_norm": (1e-5,), "batch_norm_forward": (1e-5,), "batch_norm_backward": (1e-5,),
    "conv_forward": (STRIDE, PADDING), "conv_backward": (STRIDE, PADDING),
    "max_pool": (SIZE, STRIDE, PADDING), "max_pool_backward": (IMAGES["images"], SIZE, STRIDE, PADDING),
    "avg_pool": (SIZE, STRIDE, PADDING), "avg_pool_backward": (IMAGES["images"], SIZE, STRIDE, PADDING),
}  # fmt: skip


def _called(backend, name, arguments):
    with np.errstate(all="ignore"):
        found = getattr(backend, name)(*arguments, *REST.get(name, ()))
    return found if isinstance(found, tuple) else (found,)


def _result(name, arguments):
    """The results of the compiled operation, or None if it is refused in one line."""
    try:
        return _called(compiled, name, arguments)
    except FastnnError as error:
        if "\n" in str(error):
            raise
        return None


def _assert_close(found, expected, digits, what=""):
    for one, other in zip(found, expected, strict=True):
        size = max(1.0, float(np.abs(other).max(initial=0.0)))
        np.testing.assert_allclose(one, other, rtol=10.0**-digits, atol=10.0**-digits * size, err_msg=what)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_the_reference_or_refused(name, form, dtype):
    """Each array of an operation in turn has another form, and then all have."""
    rng = np.random.default_rng(5)
    arrays = {each: rng.random(shape).astype(dtype) for each, shape in (ARRAYS | IMAGES).items()}
    arrays |= {"labels": rng.integers(3, size=7), "taps": rng.integers(4, size=IMAGES["taps"]).astype(np.int32)}
    names, make = OPERATIONS[name], FORMS[form]
    digits = 2 if form == "float16" else 5 if "float32" in (dtype, form) or form == ">f4" else 10
    for changed in (*({each} for each in names), set(names)):
        arguments = [make(arrays[each].copy()) if each in changed else arrays[each] for each in names]
        found = _result(name, arguments)
        if found is not None:
            expected = _called(reference, name, arguments)
            wanted = arrays["sums"] if type(found[0]) is float else expected[-1]  # losses convert the targets
            assert found[-1].dtype == wanted.dtype.newbyteorder("=")
            _assert_close(found, expected, digits)
        assert found is not None or form not in ACCEPTED, changed


@BACKENDS
@pytest.mark.parametrize("tap", [HUGE, -1, -HUGE, 4, 2**31 - 1])
def test_a_tap_outside_the_window_gets_no_gradient(backend, tap):
    shape = IMAGES["taps"]
    dout, taps = np.ones(shape, np.float32), np.full(shape, tap, np.int32)
    with suppress(DataError):
        assert not backend.max_pool_backward(dout, taps, IMAGES["images"], SIZE, STRIDE, PADDING).any()


@BACKENDS
@pytest.mark.parametrize("logits", [np.ones((4, 3), bool), np.ones((4, 0), np.float32), np.ones(4, np.float32)])
def test_logits_that_are_no_numbers_or_have_no_columns_are_refused(backend, logits):
    with_rows = np.zeros(4, np.int64)
    assert "logits" in _refused(DataError, backend.softmax, logits)
    assert "logits" in _refused(DataError, backend.softmax_cross_entropy, logits, with_rows)
    if logits.ndim == 2:
        assert "logits" in _refused(DataError, backend.squared_error, logits, logits)


@BACKENDS
@pytest.mark.parametrize("logits", [np.ones((4, 3), np.int64), np.ones((4, 3), np.float16), np.ones((0, 3))])
def test_a_loss_needs_rows_of_a_dtype_that_can_hold_its_gradient(backend, logits):
    assert "float32 or float64, and rows" in _refused(DataError, backend.squared_error, logits, logits)


@BACKENDS
@pytest.mark.parametrize("label", [HUGE, 3, -1])
def test_the_label_of_a_loss_is_checked(backend, label):
    logits, labels = np.ones((4, 3), np.float32), np.array([0, 1, 2, label])
    _refused(DataError, backend.softmax_cross_entropy, logits, labels)
    if backend is compiled:
        _refused(DataError, backend.mean_loss, "softmax", logits, labels)


@pytest.mark.parametrize("operation", ["dense_forward", "dense_backward"])
@pytest.mark.parametrize("case", BAD_MATRICES)
def test_an_operation_refuses_a_sparse_matrix_with_a_bad_structure(operation, case):
    matrix = _matrix(*BAD_MATRICES[case])
    weight, bias, dsums = np.ones((40, 3), "f4"), np.ones(3, "f4"), np.ones((matrix.shape[0], 3), "f4")
    arguments = (matrix, weight, bias) if operation == "dense_forward" else (dsums, matrix, weight)
    _refused(DataError, getattr(compiled, operation), *arguments)


@pytest.mark.parametrize("batch_size", [301, 10**6, 2**63 - 1, 2**63, 2**100])
@pytest.mark.parametrize("sizes", [(40, 10), (40, 65, 10)], ids=["by rows", "by units"])
def test_a_batch_larger_than_the_data_is_one_batch(batch_size, sizes):
    images, labels = _data()
    found, expected = (compiled.trainer(_network(sizes), images, labels, SGD()) for _ in range(2))
    found.run_epoch(np.arange(300), batch_size, 0.1)
    expected.run_epoch(np.arange(300), 300, 0.1)
    assert_same_bits(trained_arrays(found), trained_arrays(expected))


# --- Random arguments -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(30))
def test_random_operations_are_those_of_the_reference(seed):
    rng = np.random.default_rng([6, seed])
    dtype = rng.choice(["float32", "float64"])
    (b, d, h), names = rng.integers(1, 80, 3), [each for each in OPERATIONS if not set(OPERATIONS[each]) & set(IMAGES)]
    shapes = {"inp": (b, d), "weight": (d, h), "sums": (b, h), "more": (b, h)}
    for name in names:
        arrays = {each: rng.random(shapes.get(each, (h,))).astype(dtype) for each in ARRAYS}
        arrays["labels"] = rng.integers(h, size=b).astype(rng.choice(["int8", "uint16", "int64"]))
        if rng.random() < 0.3:
            arrays["inp"] = rng.integers(0, 256, (b, d)).astype(np.uint8)
        arguments = [arrays[each] if rng.random() < 0.7 else _strided(arrays[each]) for each in OPERATIONS[name]]
        found, expected = (_called(each, name, arguments) for each in (compiled, reference))
        _assert_close(found, expected, 3 if dtype == "float32" else 8, name)


# --- Files ------------------------------------------------------------------------------------------------------------
def test_no_reader_maps_a_file_into_memory(tmp_path, monkeypatch):
    """A mapped file that another program cuts short ends the process."""
    images, labels = _data(20, 16, 2)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    np.save(tmp_path / "data.npy", np.column_stack([labels, images]))
    np.savetxt(tmp_path / "data.csv", np.column_stack([labels, images]), "%d", ",")
    fastnn.save(tmp_path / "model.safetensors", _network((16, 4, 2)))

    def refuse(*_, **__):
        raise AssertionError("a file was mapped")

    for module, name in ((mmap, "mmap"), (np, "memmap"), (np.lib.format, "open_memmap")):
        monkeypatch.setattr(module, name, refuse)
    for data in (
        fastnn.read_npz(tmp_path / "data.npz")[0],
        fastnn.read_files(tmp_path / "data.npy", label=1)[0],
        fastnn.read_csv(tmp_path / "data.csv", label=1),
    ):
        np.testing.assert_array_equal(data.images, images)
    fastnn.load(tmp_path / "model.safetensors")
