"""Tests of arrays in NPY, MATLAB, svmlight and archives, of EMNIST, and of damaged files of every kind."""

import bz2
import csv
import gzip
import io
import lzma
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.io import loadmat, savemat
from sklearn.datasets import dump_svmlight_file

from fastnn.datasets import Dataset, read_files
from fastnn.datasets.containers.matlab import read_matlab
from fastnn.errors import SettingsError

in_one_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
RNG = np.random.default_rng(15)
IMAGES = RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])


def idx(values):
    codes = {"uint8": 8, "int32": 12}
    header = bytes([0, 0, codes[values.dtype.name], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def npy(values):
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def mat(compressed=False, **variables):
    out = io.BytesIO()
    savemat(out, variables, do_compression=compressed)
    return out.getvalue()


def svmlight(rows, labels, **options):
    out = io.BytesIO()
    dump_svmlight_file(rows, labels, out, **options)
    return out.getvalue()


def check(data, n=10):
    np.testing.assert_array_equal(data.images, IMAGES[:n].reshape(n, 784), strict=True)
    assert data.class_labels() == LABELS[:n].tolist()
    assert (data.image_shape, data.pixel_max) == ((28, 28), 255)


@pytest.mark.parametrize("layout", [IMAGES, IMAGES.reshape(10, 784), IMAGES[:, None], IMAGES[..., None]])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], np.eye(10, dtype=int)[LABELS], LABELS.astype("f4")])
def test_images_and_labels_in_two_npy_files_are_read_in_either_order(written, layout, labels):
    paths = [written(npy(layout), "a.npy"), written(npy(labels), "b.npy")]
    for order in (paths, paths[::-1]):
        data, test = read_files(order)
        check(data)
        assert test is None


@pytest.mark.parametrize("names", [
    ("train_x.npy", "train_y.npy", "test_x.npy", "test_y.npy"),
    ("X_test.npy", "y_train.npy", "y_test.npy", "X_train.npy"),
    ("train-imgs.npz", "train-labels.npz", "test-imgs.npz", "test-labels.npz"),
    ("kmnist-test-labels.npz", "kmnist-test-imgs.npz", "kmnist-train-labels.npz", "kmnist-train-imgs.npz"),
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "test-images-idx3-ubyte", "test-labels-idx1-ubyte"),
    ("a0.npy", "a1.npy", "b0.npy", "b1.npy"),
])  # fmt: skip
def test_four_files_of_arrays_are_training_and_test_set(written, names):
    paths = []
    for name in names:
        n = 4 if "test" in name or name.startswith("b") else 10
        is_labels = "label" in name or name.split(".")[0].split("_")[-1] == "y" or "y_" in name or "1.npy" in name
        values = LABELS[:n] if is_labels else IMAGES[:n]
        pack = npy if name.endswith("npy") else (lambda each: npz(arr_0=each)) if name.endswith("npz") else idx
        paths.append(written(pack(values.astype(np.uint8)), name))
    train, test = read_files(paths)
    check(train)
    check(test, 4)


def test_files_of_different_formats_are_images_and_labels(written):
    images, labels = written(idx(IMAGES), "images"), written(npy(LABELS), "labels")
    check(read_files([labels, images])[0])
    check(read_files([written(npz(arr_0=IMAGES), "i.npz"), written(mat(y=LABELS[:, None]), "l.mat")])[0])
    rows = sparse.csr_matrix(IMAGES.reshape(10, 784) / 255)
    sparse.save_npz(images.with_name("s.npz"), rows)
    data, _ = read_files([images.with_name("s.npz"), labels])
    assert data.images.format == "csr"
    np.testing.assert_array_equal(data.images.toarray(), rows.toarray())
    assert data.class_labels() == LABELS.tolist()


def test_qmnist_labels_are_their_first_column(written):
    columns = np.column_stack([LABELS, np.arange(70).reshape(10, 7)]).astype(np.int32)
    paths = [written(idx(columns), "qmnist-labels-idx2-int"), written(idx(IMAGES), "qmnist-images-idx3-ubyte")]
    data, _ = read_files(paths)
    check(data)
    assert "column 1 of 8" in data.notes[0]


def test_one_npy_file_of_images_has_no_labels(written):
    for values in (IMAGES, IMAGES.reshape(10, 784)):
        data, _ = read_files(written(npy(values), "x.npy"))
        assert (data.labels, data.image_shape) == (None, (28, 28))


def test_files_that_are_no_pair_are_named(written, refused):
    images, labels, other = (written(npy(each), name) for each, name in
                             ((IMAGES, "a.npy"), (LABELS, "b.npy"), (LABELS[:3], "c.npy")))  # fmt: skip
    refused(lambda: read_files([labels, other]), labels, other, "as a pair")
    refused(lambda: read_files([images, images]), images, "as a pair")
    refused(lambda: read_files([images, other]), other, "found 3 labels, expected 10")
    refused(lambda: read_files(labels), labels, "nothing but labels")
    refused(lambda: read_files([images, labels, other]), images, other, "expected one file or folder")


@pytest.mark.parametrize("variables", [
    {"X": IMAGES, "y": LABELS}, {"data": IMAGES.reshape(10, 784), "labels": LABELS[:, None]},
    {"fea": IMAGES, "gnd": LABELS[:, None]}, {"X": IMAGES.transpose(1, 2, 0), "y": LABELS[:, None]},
    {"data": IMAGES.reshape(10, 784).T, "label": LABELS.astype(float)},
])  # fmt: skip
@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_are_read_with_samples_first_or_last(written, variables, compressed):
    data, test = read_files(written(mat(compressed, **variables), "m.mat"))
    check(data)
    assert test is None


def test_colours_of_matlab_files_with_samples_last_become_grey(written):
    colours = np.repeat(IMAGES[..., None], 3, axis=3)
    data, _ = read_files(written(mat(X=colours.transpose(1, 2, 3, 0), y=LABELS), "svhn.mat"))
    check(data)


def test_one_variable_for_each_digit_is_read(written):
    parts = {f"{part}{digit}": IMAGES[start + 2 * digit : start + 2 * digit + 2].reshape(2, 784)
             for part, start in (("train", 0), ("test", 4)) for digit in range(2)}  # fmt: skip
    train, test = read_files(written(mat(**parts), "mnist_all.mat"))
    np.testing.assert_array_equal(train.images, IMAGES[:4].reshape(4, 784))
    np.testing.assert_array_equal(test.images, IMAGES[4:8].reshape(4, 784))
    assert train.labels.tolist() == test.labels.tolist() == [0, 0, 1, 1]


def test_matlab_files_of_version_4_are_read(written):
    out = io.BytesIO()
    savemat(out, {"X": IMAGES.reshape(10, 784), "y": LABELS}, format="4")
    check(read_files(written(out.getvalue(), "old.mat"))[0])


def test_images_of_more_than_8_bits_are_scaled_by_their_bits(written):
    deep = IMAGES.astype(np.uint16) * 16
    deep[0, 0, 0] = 4000
    train, test = read_files(written(npz(x_train=deep, y_train=LABELS, x_test=deep[:3], y_test=LABELS[:3]), "d.npz"))
    assert train.pixel_max == test.pixel_max == 4095
    np.testing.assert_array_equal(test.images, deep[:3].reshape(3, 784).astype(np.float32), strict=True)


def test_names_of_classes_and_features_are_taken_if_they_fit(written):
    names = {"target_names": np.array(list("abcdefghij")), "feature_names": np.array(["width", "height"])}
    data, _ = read_files(written(npz(data=IMAGES[:, 0, :2] / 3, target=LABELS, **names), "n.npz"))
    assert (data.classes, data.feature_names) == (tuple("abcdefghij"), ("width", "height"))
    assert {type(each) for each in data.classes} == {str}


def test_words_in_matlab_files_are_classes(written):
    words = np.array(["cat", "dog"] * 5, object)
    data, _ = read_files(written(mat(X=IMAGES, y=words), "w.mat"))
    assert (data.classes, data.labels.tolist()) == (("cat", "dog"), [0, 1] * 5)
    data, _ = read_files(written(mat(X=IMAGES, y=np.array(["cat", "horse"] * 5)), "w.mat"))
    assert data.classes == ("cat", "horse")


def test_variables_of_every_kind_are_read_as_scipy_reads_them(written):
    rng = np.random.default_rng(0)
    variables = {
        **{kind: rng.integers(0, 100, (3, 4, 2)).astype(kind) for kind in ("u1", "i2", "i4", "u8", "f4", "f8")},
        "logical": np.array([[True, False]]), "complex": rng.normal(size=(2, 3)) + 1j, "none": np.zeros((0, 3)),
        "sparse": sparse.random(5, 6, 0.3, format="csc", random_state=0),
        "text": "h\u00e4llo \u20ac \U0001f600", "texts": np.array(["cat", "horse"]), "nothing": "",
    }  # fmt: skip
    for compressed in (False, True):
        path = written(mat(compressed, **variables, nest={"a": {"b": 7}, "c": "d"}), "kinds.mat")
        found, expected = read_matlab(path), loadmat(path)
        assert (found.pop("nest.a.b").item(), found.pop("nest.c").item()) == (7, "d")
        assert list(found) == list(variables)
        for key, values in found.items():
            if key == "sparse":
                values, expected[key] = values.toarray(), expected[key].toarray()
            elif values.dtype.kind == "U":
                expected[key] = np.char.rstrip(expected[key])
            np.testing.assert_array_equal(values, expected[key], strict=True)


def test_cells_and_objects_are_errors_when_they_are_needed(written, refused):
    mixed = np.array([1, "x", np.arange(3)], object)
    found = read_matlab(written(mat(X=IMAGES, y=LABELS, notes=mixed), "m.mat"))
    assert "notes: found cells or objects" in str(found["notes"])
    check(read_files(written(mat(X=IMAGES, y=LABELS, notes=mixed), "m.mat"))[0])
    path = written(mat(X=IMAGES, y=mixed), "y.mat")
    refused(lambda: read_files(path), path, "y: found cells or objects")


def test_a_matlab_bomb_is_not_decompressed(written, refused):
    path = written(mat(True, X=np.zeros((3000, 784), np.uint8), y=np.arange(3000)), "bomb.mat")
    refused(lambda: read_matlab(path, max_bytes=2**20), path, "max_bytes = 1048576")


@pytest.mark.parametrize("zero_based", [True, False])
def test_svmlight_files_become_sparse_rows(written, zero_based):
    rows = np.where(RNG.random((10, 30)) < 0.3, RNG.random((10, 30)), 0)
    rows[0, [0, 29]] = 0.5
    train = written(svmlight(rows, LABELS, zero_based=zero_based), "train.svm")
    data, test = read_files(train)
    np.testing.assert_allclose(data.images.toarray(), rows, rtol=1e-14)
    assert (data.images.format, data.class_labels(), test, data.image_shape) == ("csr", LABELS.tolist(), None, None)
    narrow = written(bz2.compress(svmlight(rows[:4, :20], LABELS[:4], zero_based=zero_based)), "test.bz2")
    data, test = read_files([narrow, train])
    assert (data.images.shape, test.images.shape) == ((10, 30), (4, 30))


def test_regression_targets_are_found_and_the_task_decides(written, refused):
    rows = RNG.random((10, 6))
    path = written(npz(X=rows, y=LABELS + 0.5), "r.npz")
    np.testing.assert_array_equal(read_files(path)[0].labels, LABELS[:, None] + 0.5)
    refused(lambda: read_files(path, task="classification"), path, "label 0", "3.5", "whole number")
    path = written(npz(X=rows, y=LABELS), "c.npz")
    np.testing.assert_array_equal(read_files(path, task="regression")[0].labels, LABELS[:, None] * 1.0, strict=True)
    many = RNG.permutation(200)
    data, _ = read_files(written(npz(X=RNG.random((200, 3)), y=many), "many.npz"))
    assert data.has_targets
    assert "200 different values in 200 rows, read as numbers" in data.notes[0]


def test_missing_values_are_refused_or_filled(written, refused):
    rows = RNG.random((10, 6))
    rows[3, 2] = np.nan
    path = written(npz(X=rows, y=LABELS), "m.npz")
    refused(lambda: read_files(path), path, "sample 3, pixel 2", "nan")
    data, _ = read_files(path, missing="mean")
    assert data.images[3, 2] == pytest.approx(np.nanmean(rows[:, 2]))
    rows[:, 2] = np.nan
    path = written(npz(X=rows, y=LABELS), "m.npz")
    refused(lambda: read_files(path, missing="mean"), path, "column 2", "no value")


def test_options_of_pixels_are_used_and_checked(written, refused):
    path = written(npz(X=IMAGES.reshape(10, 784), y=LABELS), "o.npz")
    data, _ = read_files(path, image_shape=(14, 56), pixel_max=300)
    assert (data.image_shape, data.pixel_max) == ((14, 56), 300)
    refused(lambda: read_files(path, image_shape=(3, 3)), "784 pixels", "3 x 3")
    refused(lambda: read_files(path, task="guess"), "task", kind=SettingsError)
    data, _ = read_files(written(npz(X=IMAGES, fine_labels=LABELS, coarse=LABELS // 2), "two.npz"), label="coarse")
    assert data.class_labels() == (LABELS // 2).tolist()


@pytest.mark.parametrize("width", [4, 9, 16, 25, 100])
def test_a_square_number_of_columns_is_no_image(written, width):
    data, _ = read_files(written(npz(X=RNG.random((10, width)), y=LABELS), "w.npz"))
    assert data.image_shape is None


def test_emnist_is_transposed_unless_told(written):
    turned = IMAGES.transpose(0, 2, 1)
    paths = [written(gzip.compress(idx(turned)), "emnist-digits-train-images-idx3-ubyte.gz"),
             written(idx(LABELS.astype(np.uint8)), "emnist-digits-train-labels-idx1-ubyte")]  # fmt: skip
    data, _ = read_files(paths)
    check(data)
    assert "as EMNIST needs" in data.notes[0]
    np.testing.assert_array_equal(read_files(paths, transpose=False)[0].images, turned.reshape(10, 784))
    other = written(npz(X=turned, y=LABELS), "other.npz")
    np.testing.assert_array_equal(read_files(other)[0].images, turned.reshape(10, 784))
    check(read_files(other, transpose=True)[0])


def test_options_of_tables_are_refused_where_there_is_no_table(written, refused, tmp_path):
    path = written(npz(X=IMAGES, y=LABELS), "o.npz")
    pair = [written(npy(IMAGES), "a.npy"), written(npy(LABELS), "b.npy")]
    for paths in (path, pair, written(svmlight(IMAGES[:, 0] / 255, LABELS), "s")):
        for options in ({"drop": ["a"]}, {"header": True}, {"label": "digit"}, {"label": 1}):
            refused(lambda p=paths, o=options: read_files(p, **o), next(iter(options)), "table", kind=SettingsError)
        assert read_files(paths, label="none")[0].labels is None


def test_an_array_with_labels_in_a_column_is_read_as_a_table(written):
    rows = np.column_stack([LABELS, IMAGES.reshape(10, 784)])
    check(read_files(written(npy(rows), "rows.npy"), label="first")[0])
    named = np.zeros(10, [("width", "f4"), ("species", "U9")])
    named["width"], named["species"] = np.arange(10) / 3, np.where(LABELS > 3, "big", "small")
    data, _ = read_files(written(npy(named), "named.npy"))
    assert (data.feature_names, data.classes) == (("width",), ("big", "small"))


def test_classes_that_do_not_begin_at_zero_have_no_empty_class(written):
    data, _ = read_files(written(npz(X=IMAGES, y=LABELS + 1), "one.npz"))
    assert data.classes == (2, 3, 4, 5, 6, 7, 10)
    assert data.class_labels() == (LABELS + 1).tolist()
    train, test = read_files(written(npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=[9, 5]), "two.npz"))
    assert (test.classes, test.class_labels()) == (train.classes, [9, 5])


def test_images_that_are_not_square_change_their_shape_when_transposed(written, refused):
    path = written(npz(X=IMAGES[:, :5], y=LABELS), "flat.npz")
    data, _ = read_files(path, transpose=True)
    assert data.image_shape == (28, 5)
    np.testing.assert_array_equal(data.images.reshape(10, 28, 5), IMAGES[:, :5].transpose(0, 2, 1))
    path = written(npz(X=RNG.random((10, 7)), y=LABELS), "table.npz")
    refused(lambda: read_files(path, transpose=True), path, "7 columns", "images to transpose")


def test_letters_of_emnist_keep_their_numbers_or_get_the_characters_of_the_mapping(written):
    paths = [written(idx(IMAGES), "emnist-letters-train-images-idx3-ubyte"),
             written(idx(LABELS.astype(np.uint8)), "emnist-letters-train-labels-idx1-ubyte")]  # fmt: skip
    assert read_files(paths)[0].class_labels() == LABELS.tolist()
    written("".join(f"{number} {64 + number} {96 + number}\n" for number in range(1, 27)), "emnist-letters-mapping.txt")
    data, _ = read_files(paths)
    assert data.classes == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert data.class_labels() == [chr(64 + label) for label in LABELS]


def test_emnist_in_matlab_is_read(written):
    part = {"images": IMAGES.transpose(0, 2, 1).reshape(10, 784), "labels": LABELS[:, None], "writers": LABELS[:, None]}
    half = {key: values[:4] for key, values in part.items()}
    mapping = np.array([[number, 48 + number] for number in range(10)])
    path = written(mat(True, dataset={"train": part, "test": half, "mapping": mapping}), "emnist-mnist.mat")
    train, test = read_files(path)
    check(train)
    check(test, 4)


def test_emnist_in_its_archive_is_transposed_and_uses_the_mapping_of_matlab(written):
    turned, labels = IMAGES.transpose(0, 2, 1), LABELS.astype(np.uint8)
    names = ("gzip/emnist-letters-train-images-idx3-ubyte.gz", "gzip/emnist-letters-train-labels-idx1-ubyte.gz")
    members = dict(zip(names, (gzip.compress(idx(turned)), gzip.compress(idx(labels))), strict=True))
    check(read_files(written(zipped(members), "gzip.zip"))[0])
    mapping = np.array([[number, 64 + number, 96 + number] for number in range(1, 27)])
    part = {"images": turned.reshape(10, 784), "labels": LABELS[:, None]}
    data, _ = read_files(written(mat(dataset={"train": part, "mapping": mapping}), "emnist-letters.mat"))
    assert data.class_labels() == [chr(64 + label) for label in LABELS]


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


MNIST = {
    "gzip/emn.ist/t10k-labels-idx1-ubyte.gz": gzip.compress(idx(LABELS[:4].astype(np.uint8))),
    "gzip/emn.ist/train-images-idx3-ubyte.gz": gzip.compress(idx(IMAGES)),
    "gzip/emn.ist/t10k-images-idx3-ubyte.gz": gzip.compress(idx(IMAGES[:4])),
    "gzip/emn.ist/train-labels-idx1-ubyte.gz": gzip.compress(idx(LABELS.astype(np.uint8))),
    "__MACOSX/._x": b"junk", "README.md": b"# MNIST", "LICENSE": b"free",
}  # fmt: skip


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archives_of_data_files_are_read(written, pack):
    train, test = read_files(written(pack(MNIST), "mnist.bin"))
    check(train)
    check(test, 4)
    train, _ = read_files(written(pack({"data.npz": npz(X=IMAGES, y=LABELS)}), "one.bin"))
    check(train)
    train, _ = read_files(written(zipped({"inner.bin": pack({"data.npz": npz(X=IMAGES, y=LABELS)})}), "two.bin"))
    check(train)


def test_archives_without_data_or_with_passwords_or_bombs_are_errors(written, refused):
    path = written(zipped({}), "e.zip")
    refused(lambda: read_files(path), path, "without files")
    path = written(zipped({"a.pdf": b"%PDF-1.4"}), "p.zip")
    refused(lambda: read_files(path), "a.pdf", "PDF")
    path = written(zipped({"zeros.csv": bytes(70 * 2**20)}), "bomb.zip")
    refused(lambda: read_files(path), path, "100 times")
    data = bytearray(zipped({"data.npz": npz(X=IMAGES, y=LABELS)}))
    data[data.index(b"PK\1\2") + 8] |= 1
    path = written(data, "secret.zip")
    refused(lambda: read_files(path), path, "encrypted")
    nest = npz(X=IMAGES, y=LABELS)
    for _ in range(6):
        nest = zipped({"a.zip": nest})
    path = written(nest, "nest.zip")
    refused(lambda: read_files(path), path, "archives in archives")


SAMPLES = {
    "npz": npz(x_train=IMAGES, y_train=LABELS),
    "npy": npy(IMAGES),
    "mat": mat(X=IMAGES, y=LABELS),
    "mat, compressed": mat(True, dataset={"train": {"images": IMAGES, "labels": LABELS}}),
    "svmlight": svmlight(IMAGES[:, 0] / 255, LABELS),
    "zip": zipped(MNIST),
    "tar.xz": tarred(MNIST),
    "bz2": bz2.compress(npy(IMAGES)),
    "xz": lzma.compress(npy(IMAGES)),
    "csr": npz(format=np.bytes_(b"csr"), shape=(2, 3), data=np.ones(2), indices=[0, 2], indptr=[0, 1, 2]),
}


@pytest.mark.parametrize("kind", SAMPLES)
@given(data=st.data())
@in_one_folder
def test_any_changed_bytes_give_data_or_one_clear_error(kind, written, outcome, data):
    good = bytearray(SAMPLES[kind])
    front = data.draw(st.booleans(), "front")
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        last = min(len(good), 400 if front else len(good)) - 1
        good[data.draw(st.integers(0, last), "position")] = data.draw(st.integers(0, 255), "byte")
    if data.draw(st.booleans(), "cut"):
        good = good[: data.draw(st.integers(0, len(good)), "length")]
    result = outcome(lambda: read_files(written(good, "changed")))
    assert "changed" in result if isinstance(result, str) else isinstance(result[0], Dataset)


def test_labels_of_any_name_are_found_beside_images(written, refused):
    labels = LABELS.reshape(10, 1)
    for name, values in (("outputs", LABELS), ("annotations", labels)):
        data, _ = read_files(written(npz(images=IMAGES, **{name: values})))
        np.testing.assert_array_equal(data.class_labels(), LABELS)
        assert data.notes[0].endswith(f"data: {name} taken as the labels, by its shape")
    data, _ = read_files(written(npz(images=IMAGES, ids=np.arange(10), more=np.arange(10))))
    assert data.labels is None
    assert data.notes[0].endswith("data: not used: 'ids', 'more'")


def test_a_submission_beside_the_data_is_no_data(written):
    table = "".join(f"{a},{b},{'xy'[int(a > b)]}\n" for a, b in RNG.random((30, 2)).round(3))
    members = {"train.csv": f"a,b,label\n{table}", "gender_submission.csv": "id,label\n1,x\n"}
    data, test = read_files(written(zipped({name: text.encode() for name, text in members.items()})))
    assert (len(data), test) == (30, None)


def test_arff_leaves_the_limits_of_the_process(tmp_path):
    limit = csv.field_size_limit()
    (tmp_path / "a.arff").write_text(
        "@RELATION a\n@ATTRIBUTE x NUMERIC\n@ATTRIBUTE class {u,v}\n@DATA\n1,u\n2,v\n3,u\n4,v\n"
    )
    read_files(tmp_path / "a.arff")
    assert csv.field_size_limit() == limit
