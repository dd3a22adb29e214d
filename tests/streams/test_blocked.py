"""Tests of `BlockedData`: blocks of files and functions have the rows, the labels and the classes of the whole."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn.errors import FileError, SettingsError

RNG = np.random.default_rng(20)
X = RNG.integers(0, 256, (1000, 6, 5), np.uint8)
Y = RNG.integers(0, 10, 1000)
NAMES = np.array(["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay"])


def joined(data):
    """Return the rows and the labels of all blocks, read from the last one to the first."""
    blocks = [data.read(number) for number in reversed(range(data.n_blocks))][::-1]
    assert tuple(map(len, blocks)) == data.block_lengths
    assert all(block.classes == data.classes for block in blocks)
    labels = None if blocks[0].labels is None else np.concatenate([block.labels for block in blocks])
    return np.concatenate([block.images for block in blocks]), labels


def functions_of(x, y):
    """Return blocks of 100 rows, and a function that returns an iterator over them."""

    def block(number):
        return x[100 * number : 100 * number + 100], y[100 * number : 100 * number + 100]

    return block, lambda: map(block, range(len(x) // 100))


@pytest.mark.parametrize(
    ("order", "block_rows"),
    [("C", 1), ("C", 7), ("C", 256), ("C", 999), ("C", 1000), ("C", 5000), ("F", 256), ("F", 5000)],
)
def test_npy_files_are_one_data_set(tmp_path, order, block_rows):
    for number, rows in enumerate((slice(300), slice(300, 300), slice(300, 301), slice(301, None))):
        np.save(tmp_path / f"part-{number}.npy", np.asarray(X[rows], order=order))
    data = fastnn.open_data(tmp_path / "part-*.npy", Y, block_rows=block_rows)
    images, labels = joined(data)
    np.testing.assert_array_equal(images, X.reshape(1000, 30))
    np.testing.assert_array_equal(labels, Y)
    assert set(data.block_lengths[:-1]) <= {block_rows}
    assert (data.dtype, data.image_shape, data.pixel_max, len(data)) == (np.uint8, (6, 5), 255.0, 1000)


@pytest.mark.parametrize("dtype", ["u1", "?", "<f4", ">f4", "<f8", "<f2", "<i8", ">u2"])
def test_blocks_have_the_values_that_the_reader_of_whole_files_gives(tmp_path, dtype):
    values = (X % 2 if dtype == "?" else X).astype(dtype)
    np.save(tmp_path / "x.npy", values)
    whole, _ = fastnn.read_files([tmp_path / "x.npy"])
    data = fastnn.open_data(tmp_path / "x.npy", block_rows=300)
    images, labels = joined(data)
    assert (images.dtype, data.dtype, data.pixel_max, labels) == (
        whole.images.dtype,
        images.dtype,
        whole.pixel_max,
        None,
    )
    np.testing.assert_array_equal(images, whole.images)


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_are_read_into_memory_of_the_caller(tmp_path, order):
    parts = {"a": X[:250], "b": X[250:]}
    for name, part in parts.items():
        np.save(tmp_path / f"{name}.npy", np.asarray(part, order=order))
    for data in (
        fastnn.open_data(tmp_path / "?.npy", Y, block_rows=300),
        fastnn.open_data(tmp_path / "?.npy", Y, block_rows=300, dtype="float64"),
        fastnn.open_data(functions_of(X, Y)[0], n_blocks=10),
    ):
        memory = np.full((1 + max(data.block_lengths), 30), 7, data.dtype)
        for number, length in enumerate(data.block_lengths):
            block = data.read(number, memory[:length])
            assert np.shares_memory(block.images, memory)
            np.testing.assert_array_equal(block.images, data.read(number).images)
            np.testing.assert_array_equal(block.labels, data.read(number).labels)
            assert (memory[-1] == 7).all()


@pytest.mark.parametrize(
    "out", [np.zeros((299, 30), np.uint8), np.zeros((300, 30), np.int8), np.zeros((30, 300), "u1").T]
)
def test_other_memory_is_refused(tmp_path, refused, out):
    np.save(tmp_path / "x.npy", X)
    data = fastnn.open_data(tmp_path / "x.npy", block_rows=300)
    refused(lambda: data.read(0, out), "out has shape", "expected a C-contiguous array", kind=SettingsError)


def test_labels_come_from_the_file_beside_from_paths_and_from_arrays(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "x.labels.npy", Y.astype(np.int16))
    np.save(tmp_path / "names.npy", NAMES[Y])
    by_default = fastnn.open_data(tmp_path / "x.npy", block_rows=300)
    by_path = fastnn.open_data(tmp_path / "x.npy", str(tmp_path / "names.npy"), block_rows=300)
    by_list = fastnn.open_data([tmp_path / "x.npy"], NAMES[Y].tolist(), block_rows=300)
    for data, classes in ((by_default, tuple(range(10))), (by_path, tuple(NAMES)), (by_list, tuple(NAMES))):
        assert data.classes == classes
        np.testing.assert_array_equal(joined(data)[1], Y)
    assert not fastnn.open_data(tmp_path / "x.npy", "none").has_labels


@pytest.mark.parametrize("kind", ["block", "iterator"])
def test_functions_make_blocks(kind):
    block, start = functions_of(X, NAMES[Y])
    data = fastnn.open_data(block, n_blocks=10) if kind == "block" else fastnn.open_data(start)
    images, labels = joined(data)
    np.testing.assert_array_equal(images, X.reshape(1000, 30))
    np.testing.assert_array_equal(labels, Y)
    assert data.classes == tuple(NAMES)
    assert data.is_sequential == (kind == "iterator")
    np.testing.assert_array_equal(data.read(7).images, images[700:800])
    np.testing.assert_array_equal(data.read(2).images, images[200:300])


def test_known_rows_and_classes_need_no_pass():
    calls = []

    def block(number):
        calls.append(number)
        return X[100 * number : 100 * number + 100], Y[100 * number : 100 * number + 100]

    data = fastnn.open_data(block, n_blocks=10, block_rows=100, n_rows=1000, classes=range(10))
    assert len(data) == 1000
    assert data.classes == tuple(range(10))
    assert set(calls) == {0}
    data = fastnn.open_data(block, n_blocks=10)
    calls.clear()
    assert data.classes == tuple(range(10)) == data.classes
    assert data.block_lengths == (100,) * 10
    assert calls == list(range(10)), "the pass is not kept"


def test_classes_are_those_of_all_blocks():
    order = np.argsort(Y, kind="stable")
    block, _ = functions_of(X[order], NAMES[Y[order]])
    data = fastnn.open_data(block, n_blocks=10)
    assert data.classes == tuple(NAMES)
    assert set(data.read(9).labels) <= {8, 9}
    assert data.read(9).n_classes == 10


@pytest.mark.parametrize("targets", [Y + 0.5, np.stack([Y, Y - 0.5], axis=1)])
def test_fractions_are_targets(targets):
    block, _ = functions_of(X, targets)
    data = fastnn.open_data(block, n_blocks=10)
    assert data.classes is None
    assert data.has_targets
    assert data.n_classes == targets.size // 1000
    np.testing.assert_array_equal(joined(data)[1], targets.reshape(1000, -1))


def test_the_task_decides_on_whole_numbers(refused):
    block, _ = functions_of(X, Y)
    assert fastnn.open_data(block, n_blocks=10, task="regression").read(3).has_targets
    halves, _ = functions_of(X, Y + 0.5)
    data = fastnn.open_data(halves, n_blocks=10, task="classification")
    refused(lambda: data.classes, "block 0, row 0", "expected a whole number for a class")


def test_one_hot_rows_are_labels():
    block, _ = functions_of(X, np.eye(10)[Y])
    data = fastnn.open_data(block, n_blocks=10)
    assert data.classes == tuple(range(10))
    np.testing.assert_array_equal(joined(data)[1], Y)


def test_the_pickle_holds_no_open_file_and_no_second_pass(tmp_path):
    np.save(tmp_path / "x.npy", X)
    data = fastnn.open_data(tmp_path / "x.npy", NAMES[Y], block_rows=300)
    digest = data.digest
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.digest, copy.classes, copy.block_lengths) == (digest, data.classes, data.block_lengths)
    np.testing.assert_array_equal(copy.read(3).images, data.read(3).images)


def test_the_digest_tells_data_apart_and_not_their_folders(tmp_path):
    digests = []
    for number, (x, y) in enumerate([(X, Y), (X, Y), (255 - X, Y), (X, (Y + 1) % 10), (X[:-1], Y[:-1])]):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.save(folder / "x.npy", x)
        digests.append(fastnn.open_data(folder / "x.npy", y, block_rows=300).digest)
    digests.append(fastnn.open_data(tmp_path / "0" / "x.npy", Y, block_rows=200).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


def spoiled(number, images, labels):
    """Return a function of ten blocks, of which one is replaced."""
    block, _ = functions_of(X, Y)
    return lambda each: (images, labels) if each == number else block(each)


@pytest.mark.parametrize(
    ("images", "labels", "parts"),
    [
        (X[:100].astype(np.float32), Y[:100], ["float32", "expected uint8", "dtype='float32'"]),
        (X[:100].astype(object), Y[:100].astype("U"), ["numbers"]),
        (X[:100].astype("U3"), Y[:100], ["expected uint8"]),
        (X[:100, :5], Y[:100], ["found 25 inputs, expected 30"]),
        (X[:100], Y[:90], ["found 90 labels, expected 100"]),
        (X[:100], None, ["no labels"]),
        (X[:100], NAMES[Y[:100]], ["labels that are texts", "expected numbers"]),
        (X[:100], np.full(100, np.nan), ["row 0", "nan", "finite"]),
    ],
)
def test_a_block_unlike_the_others_is_named(refused, images, labels, parts):
    data = fastnn.open_data(spoiled(3, images, labels), n_blocks=10)
    refused(lambda: [data.read(number) for number in range(10)], "<lambda>: block 3", *parts)


def test_a_value_that_the_dtype_cannot_hold_is_named(refused, tmp_path):
    values = X.astype(np.float32)
    values[823, 4, 1] = np.inf
    np.save(tmp_path / "x.npy", values)
    data = fastnn.open_data(tmp_path / "x.npy", block_rows=300)
    refused(lambda: data.read(2), "x.npy: block 2, row 823 (from 0), input 21: found inf, expected finite")
    values = X.astype(np.int64)
    values[5] = 300
    np.save(tmp_path / "y.npy", np.concatenate([X[:, :1].astype(np.int64)] * 5 + [values[:, :1]]))
    data = fastnn.open_data(tmp_path / "y.npy", block_rows=3000)
    refused(lambda: data.read(1), "block 1, row 5005 (from 0), input 0: found 300", "dtype='float32'")
    assert fastnn.open_data(tmp_path / "y.npy", block_rows=3000, dtype="float32").read(1).images.max() == 300


def test_pixels_beyond_the_guessed_scale_are_named(refused):
    dark = spoiled(0, X[:100] // 255, Y[:100])
    refused(lambda: fastnn.open_data(dark, n_blocks=10).read(1), "block 1", "from 0 to 1", "pixel_max=255")
    assert fastnn.open_data(dark, n_blocks=10, pixel_max=255).read(1).pixel_max == 255


def test_empty_blocks_are_data_and_nothing_else_is_not(refused, tmp_path):
    data = fastnn.open_data(spoiled(3, np.zeros((0, 30)), Y[:0]), n_blocks=10)
    assert data.block_lengths == (100, 100, 100, 0, *[100] * 6)
    assert data.read(3).images.shape == (0, 30)
    assert data.read(3).labels.shape == (0,)
    first = fastnn.open_data(spoiled(0, np.zeros((0, 30)), Y[:0]), n_blocks=10)
    assert (len(first), first.classes) == (900, tuple(range(10)))
    refused(lambda: fastnn.open_data(lambda: iter([])), "found no rows, expected at least one")
    np.save(tmp_path / "x.npy", X[:0])
    refused(lambda: fastnn.open_data(tmp_path / "x.npy"), "x.npy", "found no rows, expected at least one")


def test_an_error_of_a_function_names_the_block(refused):
    def block(number):
        return X[:10] if number != 4 else [1] / 0

    data = fastnn.open_data(block, n_blocks=6)
    refused(lambda: data.read(4), "block: block 4: TypeError", kind=fastnn.DataError)


def test_blocks_that_change_are_refused(refused):
    sizes = iter([100, 60])

    def block(number):
        n_rows = next(sizes) if number == 1 else 100
        return X[:n_rows], Y[:n_rows]

    data = fastnn.open_data(block, n_blocks=2, n_rows=200, block_rows=100, classes=range(10))
    data.read(1)
    refused(lambda: data.read(1), "block 1: found 60 rows, before 100", "the same blocks")


def test_a_file_that_changes_is_refused(refused, tmp_path):
    np.save(tmp_path / "x.npy", X)
    data = fastnn.open_data(tmp_path / "x.npy", block_rows=300)
    np.save(tmp_path / "x.npy", X[:600])
    refused(lambda: data.read(3), "x.npy: block 3", "when it was opened")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's count of anonymous memory")
def test_reading_takes_the_memory_of_a_block(tmp_path):
    code = """
import re, sys
import numpy as np
import fastnn

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

data = fastnn.open_data(sys.argv[1], block_rows=10_000, classes=range(10))
data.read(0)
before, most = anonymous(), 0
for number in range(data.n_blocks):
    block = data.read(number)
    most = max(most, anonymous())
print(most - before)
"""
    with open(tmp_path / "x.npy", "wb") as file:  # 300 MB of zeros that take no space on the disk
        header = {"descr": "|u1", "fortran_order": False, "shape": (400_000, 784)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 400_000 * 784)
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "x.npy"], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 3 * 7.84, "more than two blocks and a little are in memory"


def test_arguments_are_checked(refused, tmp_path):
    np.save(tmp_path / "x.npy", X)
    for call, parts in (
        (lambda: fastnn.open_data(tmp_path / "x.npy", block_rows=0), ["block_rows"]),
        (lambda: fastnn.open_data(tmp_path / "x.npy", n_blocks=3), ["n_blocks"]),
        (lambda: fastnn.open_data(tmp_path / "x.npy", dtype="int8"), ["dtype", "uint8"]),
        (lambda: fastnn.open_data(3), ["expected a path"]),
        (lambda: fastnn.open_data(lambda i: X, n_blocks=0), ["n_blocks"]),
        (lambda: fastnn.open_data(lambda i: X, n_blocks=3, n_rows=7), ["n_rows"]),
        (lambda: fastnn.open_data(tmp_path / "x.npy").read(1), ["block is 1"]),
    ):
        refused(call, *parts, kind=SettingsError)
    refused(lambda: fastnn.open_data(tmp_path / "no.npy"), "no.npy", kind=FileError)
    refused(lambda: fastnn.open_data(tmp_path / "no-*.npy"), "no-*.npy", kind=FileError)
    refused(lambda: fastnn.open_data(tmp_path / "x.npy", Y[:-1]), "999 labels, expected 1000")
