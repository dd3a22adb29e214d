"""Tests of NPZ archives: what is read, and one clear error for each kind of invalid archive."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastnn.datasets import read_npz
from fastnn.errors import FileError, SettingsError

in_one_folder = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RNG = np.random.default_rng(4)
X = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)
Y = np.array([0, 1, 2, 3, 4, 5])
FOUR = {"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2]}


@pytest.fixture
def archive(tmp_path):
    """A function that saves arrays to an NPZ file and returns its path."""

    def write(packed=False, **arrays):
        path = tmp_path / "data.npz"
        (np.savez_compressed if packed else np.savez)(path, **arrays)
        return path

    return write


@pytest.fixture
def members(tmp_path):
    """A function that writes the given members to a zip archive and returns its path."""

    def write(*named, method=zipfile.ZIP_STORED):
        path = tmp_path / "made.npz"
        with zipfile.ZipFile(path, "w", method) as made:
            for name, data in named:
                made.writestr(name, data)
        return path

    return write


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npy_declaring(shape, descr="'|u1'", body=b"", version=b"\1\0"):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize("packed", [False, True])
def test_training_and_test_set_are_read(archive, packed):
    path = archive(packed, **FOUR)
    train, test = read_npz(path)
    np.testing.assert_array_equal(train.images, X.reshape(6, 16), strict=True)
    np.testing.assert_array_equal(test.images, X[:2].reshape(2, 16), strict=True)
    np.testing.assert_array_equal(train.labels, Y, strict=True)
    assert (train.image_shape, train.pixel_max) == ((4, 4), 255)
    assert (train.name, test.name) == (f"{path}: x_train", f"{path}: x_test")


@pytest.mark.parametrize(("pixels", "labels", "image_shape"), [
    (X.reshape(6, 16), Y, None),
    (X.reshape(6, 1, 4, 4), Y.reshape(1, 6), (4, 4)),
    (X, np.eye(6), (4, 4)),
    (X, np.eye(6, dtype=bool), (4, 4)),
    (X.reshape(6, 4, 4, 1), Y.reshape(6, 1), (4, 4)),
    (X.reshape(6, 2, 8), Y.astype(float), (2, 8)),
    (X[:, 0, :3], Y.astype(np.uint8), None),
    (X.astype(">i8"), Y.astype(">i2"), (4, 4)),
    (np.asfortranarray(X), Y, (4, 4)),
    (X.transpose(0, 2, 1), Y, (4, 4)),
])  # fmt: skip
def test_all_shapes_types_and_memory_orders_are_read(archive, pixels, labels, image_shape):
    data, nothing = read_npz(archive(X=pixels, y=labels))
    assert nothing is None
    np.testing.assert_array_equal(data.images, pixels.reshape(6, -1).astype(np.uint8), strict=True)
    assert data.images.flags.c_contiguous
    np.testing.assert_array_equal(data.labels, Y, strict=True)
    assert data.image_shape == image_shape


@pytest.mark.parametrize(("stored", "read"), [("f2", "f4"), ("f4", "f4"), ("f8", "f8"), (">f8", "f8")])
def test_floats_stay_floats(archive, stored, read):
    pixels = (X / 255).astype(stored)
    data, _ = read_npz(archive(X=pixels, y=Y))
    np.testing.assert_array_equal(data.images, pixels.reshape(6, 16).astype(read), strict=True)
    assert data.pixel_max == 1


def test_training_and_test_set_get_one_dtype_and_scale(archive, refused):
    eight = np.full((3, 64), 16, np.uint8)
    labels = np.arange(3)
    train, test = read_npz(archive(x_train=eight, y_train=labels, x_test=eight + 1, y_test=labels))
    assert train.pixel_max == test.pixel_max == 255
    fractions = np.full((3, 64), 0.5)
    train, test = read_npz(archive(x_train=fractions, y_train=labels, x_test=eight // 16, y_test=labels))
    assert train.images.dtype == test.images.dtype == np.float64
    assert train.pixel_max == test.pixel_max == 1
    path = archive(x_train=eight, y_train=labels, x_test=fractions, y_test=labels)
    refused(lambda: read_npz(path), path, "x_test", "one scale")
    path = archive(x_train=eight, y_train=labels, x_test=eight[:, :63], y_test=labels)
    refused(lambda: read_npz(path), path, "found 63 pixels", "expected 64")


@pytest.mark.parametrize(("pixels", "labels", "parts"), [
    (X + 0.5 + np.array([np.nan, 0, 0, 0]), Y, ("X: sample 0, pixel 0", "nan", "finite")),
    (X, Y * np.nan, ("y: label 0", "found nan", "finite")),
    (X, Y + 1j, ("y.npy", "'<c16'")),
    (X, Y[:5], ("y", "found 5 labels", "expected 6")),
    (X, np.zeros((6, 2, 2), int), ("y", "(6, 2, 2)", "expected 6")),
    (X[0, 0], Y, ("X", "(4,)", "(N, D)")),
    (X.reshape(6, 2, 4, 2), Y, ("X", "(6, 2, 4, 2)", "(N, height, width)", "channels")),
    (X[:0], Y[:0], ("X", "0 sample(s)")),
    (X[:, :0], Y, ("X", "0 feature(s)")),
    (X + 1j, Y, ("X.npy", "'<c16'")),
    (np.array([["a"] * 4] * 6), Y, ("X", "<U1", "'a'", "expected numbers")),
])  # fmt: skip
def test_invalid_values_and_shapes_are_located(archive, refused, pixels, labels, parts):
    path = archive(X=pixels, y=labels)
    refused(lambda: read_npz(path), path, *parts)


def test_invalid_paths_files_and_max_bytes_are_errors(tmp_path, archive, refused):
    refused(lambda: read_npz(tmp_path / "no.npz"), tmp_path / "no.npz", "no such file", kind=FileError)
    path = archive(**FOUR)
    refused(lambda: read_npz(path, max_bytes=-1), "max_bytes", kind=SettingsError)
    refused(lambda: read_npz(path, max_bytes=100), path, "max_bytes = 100")
    path.write_bytes(b"")
    refused(lambda: read_npz(path), path, "empty file")
    path.write_bytes(npy(X))
    refused(lambda: read_npz(path), path, "a single NPY array", "X and y")


def test_an_object_array_is_never_loaded(archive, refused, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    path = archive(X=np.array([[Trap()]], object), y=np.array([0]))
    message = refused(lambda: read_npz(path), path, "X.npy", "Python objects", "numbers")
    assert "allow_pickle" not in message
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_archive_is_an_error(archive, refused):
    path = archive(**FOUR)
    whole = path.read_bytes()
    for size in (3, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(lambda: read_npz(path), path, "cannot be read", "intact NPZ file")


@pytest.mark.parametrize("packed", [False, True])
def test_a_wrong_crc_is_an_error(archive, refused, packed):
    path = archive(packed, **FOUR)
    data = bytearray(path.read_bytes())
    offset = data.index(b"y_train.npy") - 40  # in the pixels of x_train, the previous member
    data[offset] ^= 0x55
    path.write_bytes(data)
    refused(lambda: read_npz(path), path, "x_train.npy", "cannot be read", "intact NPY array")


def test_declared_terabytes_are_an_error(members, refused):
    for shape in ("(1000000, 1000, 1000)", "(4294967296, 4294967296, 4)", "(9999999999999999999, 9999999999999999999)"):
        path = members(("X.npy", npy_declaring(shape, body=bytes(100))), ("y.npy", npy(Y)))
        refused(lambda path=path: read_npz(path), path, "X.npy", shape, "found 100")
    path = members(("X.npy", npy_declaring("(2, 3)", body=bytes(7))), ("y.npy", npy(Y)))
    refused(lambda: read_npz(path), path, "expected 6 bytes", "found 7")


def test_zip_bombs_and_false_sizes_are_not_decompressed(members, archive, refused, monkeypatch):
    zeros, labels = npy(np.zeros((70, 2**20), np.uint8)), npy(np.zeros(70, int))
    bomb = members(("X.npy", zeros), ("y.npy", labels), method=zipfile.ZIP_DEFLATED)
    false = archive(**FOUR)
    data = bytearray(false.read_bytes())
    for offset in (i for i in range(len(data)) if data[i : i + 4] == b"PK\1\2"):
        struct.pack_into("<I", data, offset + 24, 2**30)
    false.write_bytes(data)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    for path, declared in ((bomb, len(zeros) + len(labels)), (false, 2**32)):
        expected = f"100 times the {path.stat().st_size} bytes of the file"
        refused(lambda path=path: read_npz(path), path, f"declares {declared} bytes", expected)


def test_duplicate_names_are_an_error(members, refused):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = members(("X.npy", npy(X)), ("y.npy", npy(Y)), ("X.npy", npy(X)))
    refused(lambda: read_npz(path), path, "'X.npy' 2 times", "once")


@pytest.mark.parametrize("odd", ["X", "X.npy\0.exe", "readme.txt", "X.npy\n"])
def test_members_that_are_no_arrays_are_an_error(members, refused, odd, tmp_path):
    path = members((odd.replace("\0", "?"), npy(X)), ("y.npy", npy(Y)))  # zipfile ends a name at a NUL byte
    if "\0" in odd:
        path.write_bytes(path.read_bytes().replace(odd.replace("\0", "?").encode(), odd.encode()))
    refused(lambda: read_npz(path), path, "found", "expected an NPZ file with arrays such as X and y")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["made.npz"]


@pytest.mark.parametrize(("images", "labels"), [
    ("X", "y"), ("data", "target"), ("images", "labels"), ("x", "Y"), ("train_images", "train_labels"), ("Xtr", "ytr"),
    ("trainX", "trainY"), ("X_train", "Y_train"), ("arr_0", "arr_1"), ("input", "class"), ("imgs", "lbls"),
    ("features", "targets"), ("something", "other"), ("train_x", "train_y"), ("TrainImages", "TrainLabels"),
])  # fmt: skip
def test_any_sensible_keys_are_read(archive, images, labels):
    data, test = read_npz(archive(**{labels: Y, images: X}) if images != "arr_0" else archive(arr_0=X, arr_1=Y))
    np.testing.assert_array_equal(data.images, X.reshape(6, 16), strict=True)
    assert (data.labels.tolist(), test, data.image_shape) == (Y.tolist(), None, (4, 4))


@pytest.mark.parametrize("keys", [
    ("X_train", "y_train", "X_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels"),
    ("trainX", "trainY", "testX", "testY"), ("images_train", "labels_train", "images_test", "labels_test"),
    ("Xtr", "Ytr", "Xte", "Yte"), ("a", "b", "c", "d"),
])  # fmt: skip
def test_training_and_test_set_are_found_under_any_sensible_keys(archive, keys):
    train, test = read_npz(archive(**dict(zip(keys, FOUR.values(), strict=True))))
    assert (len(train), test.labels.tolist()) == (6, [0, 1])


def test_validation_samples_are_a_test_set_only_without_one(archive):
    parts = {"train_images": X, "train_labels": Y[:, None], "val_images": X[:3], "val_labels": Y[:3, None]}
    train, test = read_npz(archive(**parts))
    assert (len(test), test.labels.tolist()) == (3, [0, 1, 2])
    assert "taken as the test set" in test.notes[-1]
    train, test = read_npz(archive(**parts, test_images=X[:2], test_labels=Y[:2, None]))
    assert len(test) == 2
    assert "the 3 samples for validation are not used" in train.notes[-1]


def test_an_unlabelled_test_set_is_not_used_but_noted(archive):
    train, test = read_npz(archive(x_train=X, y_train=Y, x_test=X[:2]))
    assert test is None
    assert "2 samples have no labels" in train.notes[-1]


def test_the_largest_key_of_images_is_taken_and_others_are_noted(archive):
    path = archive(data=X.reshape(6, 16), images=X, target=Y, target_names=np.array(list("abcdef")), ids=Y, more=Y)
    data, _ = read_npz(path)
    assert (data.image_shape, data.classes) == ((4, 4), tuple("abcdef"))
    assert "not used: 'data', 'ids', 'more'" in data.notes[0]


def test_object_arrays_beside_the_data_are_not_loaded(archive, refused):
    arrays = {"X": X, "y": Y, "DESCR": np.array([{}], object)}
    assert len(read_npz(archive(**arrays))[0]) == 6
    path = archive(**{**arrays, "y": np.array([1, "a"], object)})
    refused(lambda: read_npz(path), path, "y.npy", "Python objects")


def test_texts_booleans_and_fractions_are_labels(archive):
    train, test = read_npz(archive(x_train=X > 3, y_train=list("bacbca"), x_test=X[:2] > 3, y_test=list("cb")))
    np.testing.assert_array_equal(train.images, (X > 3).reshape(6, 16).astype(np.uint8), strict=True)
    assert train.classes == test.classes == ("a", "b", "c")
    assert test.labels.tolist() == [2, 1]  # the numbers of the training set's classes
    assert read_npz(archive(X=X, y=Y > 2))[0].labels.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(read_npz(archive(X=X, y=Y + 0.5))[0].labels, Y[:, None] + 0.5, strict=True)
    assert read_npz(archive(X=X, y=Y - 1))[0].classes == (-1, 0, 1, 2, 3, 4)


def test_whole_numbers_that_are_no_pixels_become_float32(archive):
    features = X.astype(int) * 100 - 50
    data, _ = read_npz(archive(X=features, y=Y))
    np.testing.assert_array_equal(data.images, features.reshape(6, 16).astype(np.float32), strict=True)


def test_colours_become_grey(archive):
    colours = RNG.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    grey = np.rint(colours @ np.array([0.299, 0.587, 0.114])).reshape(6, 20)
    for stored in (colours, colours.transpose(0, 3, 1, 2)):
        data, _ = read_npz(archive(X=stored, y=Y))
        np.testing.assert_allclose(data.images, grey, atol=1)
        assert (data.images.dtype, data.image_shape) == (np.uint8, (4, 5))
        assert "read as grey" in data.notes[0]


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_a_sparse_matrix_of_scipy_is_read(tmp_path, kind):
    from scipy import sparse

    dense = np.eye(6, 9) * 0.5
    sparse.save_npz(tmp_path / "s.npz", getattr(sparse, f"{kind}_matrix")(dense))
    data, _ = read_npz(tmp_path / "s.npz")
    assert data.images.format == "csr"
    np.testing.assert_array_equal(data.images.toarray(), dense)


def test_a_damaged_sparse_matrix_is_an_error(archive, refused):
    parts = {"format": np.bytes_(b"csr"), "shape": (2, 3), "data": np.ones(2), "indptr": [0, 1, 2]}
    for changes in ({"indices": [0, 7]}, {"indices": [0, -1]}, {"indices": [0]}, {"indices": [0, 1], "format": "coo"}):
        path = archive(**{**parts, **changes})
        refused(lambda path=path: read_npz(path), path, "sparse" if "format" in changes else "cannot be read")


@pytest.mark.parametrize("keys", [("a", "b", "c"), ("y",), ("labels", "arr_7"), ("y", "labels", "X")])
def test_keys_that_do_not_tell_are_an_error(archive, refused, keys):
    path = archive(**{key: X if key in "aX" else Y for key in keys})
    refused(lambda: read_npz(path), path, "found", "expected")


@pytest.mark.parametrize("data", [
    b"plain text", bytes(range(100)), b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{}",
    b"\x93NUMPY\x03\x00\x02\x00\x00\x00{}", b"\x93NUMPY\x01\x00\x40\x00{}", pickle.dumps([1]),
    *map(npy_declaring, ["(-1, 1)", "()", "(1,,)", "(1 1)", "(" + "1," * 40 + ")", "(" + "9" * 5000 + ",)"]),
    npy_declaring("(" * 5000 + "1"),
    npy_declaring("(1, 1)", body=b"1", version=b"\4\0"),
    npy_declaring("(1, 1)", descr="__import__('os')"),
    npy_declaring("(1, 1)", descr="'<M8[s]'", body=bytes(8)),
    npy_declaring("(1, 1)", descr="'<f16'", body=bytes(16)),
])  # fmt: skip
def test_invalid_npy_headers_are_an_error(members, refused, data):
    path = members(("X.npy", data), ("y.npy", npy(Y)))
    message = refused(lambda: read_npz(path), path, "X.npy: ", "expected")
    assert "pickle" not in message


def test_an_entry_that_points_to_another_is_an_error(members, refused):
    path = members(("X.npy", npy(X)), ("y.npy", npy(Y)))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\1\2") + 42, 0)
    path.write_bytes(data)
    refused(lambda: read_npz(path), path, "y.npy", "expected an intact")


def test_encryption_and_rare_compression_are_errors(members, refused):
    path = members(("X.npy", npy(X)), ("y.npy", npy(Y)), method=zipfile.ZIP_LZMA)
    refused(lambda: read_npz(path), path, "X.npy", "compression method 14", "0 (none) or 8 (deflate)")
    path = members(("X.npy", npy(X)), ("y.npy", npy(Y)))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(lambda: read_npz(path), path, "X.npy", "encrypted", "expected an intact NPY array")


@given(data=st.data())
@in_one_folder
def test_any_changed_bytes_give_data_or_one_clear_error(tmp_path, outcome, data):
    out = io.BytesIO()
    (np.savez_compressed if data.draw(st.booleans(), "packed") else np.savez)(out, **FOUR)
    good = bytearray(out.getvalue())
    # Change bytes near the headers, where changes matter most.
    marks = [i for i in range(len(good)) if good[i : i + 2] in (b"PK", b"\x93N")]
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        position = data.draw(st.sampled_from(marks), "mark") + data.draw(st.integers(0, 90), "offset")
        good[min(position, len(good) - 1)] = data.draw(st.integers(0, 255), "byte")
    path = tmp_path / "changed.npz"
    path.write_bytes(good[: data.draw(st.integers(len(good) // 2, 2 * len(good)), "length")])
    result = outcome(lambda: read_npz(path))
    if isinstance(result, str):
        assert "changed.npz" in result
    else:
        # A change in the name of an array can hide the labels.
        assert result[0].labels is None or len(result[0]) == len(result[0].labels)
