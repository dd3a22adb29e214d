"""Tests of folders of pictures: classes by folder, training and test set, and pictures that cannot be used."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fastnn.datasets import load_mnist, prepare_image, read_files

RNG = np.random.default_rng(8)
DIGITS = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)


def saved(root, names, pixels=DIGITS, mode="L"):
    """Save one picture under each name and return the folder."""
    for name, grey in zip(names, pixels, strict=False):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey).convert(mode).save(path)
    return root


def zipped(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def tarred(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "gif", "pgm", "webp"])
def test_small_pictures_of_one_size_are_read_as_they_are(tmp_path, ending):
    names = [f"{label}/{number}.{ending}" for label in (3, 7) for number in range(2)]
    for name, grey in zip(names, DIGITS, strict=False):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(grey).save(tmp_path / name, **({"lossless": True} if ending == "webp" else {}))
    data, test = read_files(tmp_path)
    np.testing.assert_array_equal(data.images, DIGITS[:4].reshape(4, 784), strict=True)
    assert data.class_labels() == [3, 3, 7, 7]
    assert (test, data.image_shape, data.pixel_max, data.classes, data.notes) == (None, (28, 28), 255, (3, 7), ())


def test_words_are_classes_and_training_and_test_set_number_them_alike(tmp_path):
    names = ["train/cat/a.png", "train/dog/a.png", "train/emu/a.png", "test/emu/a.png", "test/cat/b.png"]
    train, test = read_files([saved(tmp_path / "animals", names)])
    assert train.classes == test.classes == ("cat", "dog", "emu")
    assert train.labels.tolist() == [0, 1, 2]
    assert sorted(test.labels.tolist()) == [0, 2]
    np.testing.assert_array_equal(test.images[test.labels == 2], DIGITS[3].reshape(1, 784))


@pytest.mark.parametrize("names", [
    ["training/0/a.png", "training/1/b.png", "testing/0/a.png", "testing/1/a.png"],
    ["mnist/Train/0/a.png", "mnist/Train/1/b.png", "mnist/Test/0/a.png", "mnist/Test/1/a.png"],
    ["0/train/a.png", "1/train/b.png", "0/test/a.png", "1/test/b.png"],
    ["train_set/0/a.png", "train_set/1/b.png", "val/0/a.png", "val/1/a.png"],
])  # fmt: skip
@pytest.mark.parametrize("pack", [None, zipped, tarred])
def test_folders_zip_and_tar_archives_of_usual_forms_are_read(tmp_path, names, pack):
    folder = saved(tmp_path / "made", names)
    for clutter in ("Thumbs.db", ".DS_Store", "readme.txt"):
        (folder / clutter).write_bytes(b"clutter")
    train, test = read_files(folder if pack is None else pack(folder, tmp_path / "made.packed"))
    np.testing.assert_array_equal(train.images, DIGITS[:2].reshape(2, 784))
    np.testing.assert_array_equal(test.images, DIGITS[2:4].reshape(2, 784))
    assert train.labels.tolist() == test.labels.tolist() == [0, 1]


def test_two_folders_are_training_and_test_set(tmp_path):
    saved(tmp_path, ["a_test/0/a.png", "a_test/1/a.png", "a_train/0/a.png", "a_train/1/b.png", "a_train/1/c.png"])
    for order in (["a_test", "a_train"], ["a_train", "a_test"]):
        train, test = read_files([tmp_path / name for name in order])
        assert (len(train), len(test)) == (3, 2)


@pytest.mark.parametrize("names", [
    ["7_0001.png", "7_0002.png", "1_0001.png", "1_0002.png"],
    ["digit7-1.png", "digit7-2.png", "digit1-1.png", "digit1-2.png"],
    ["img_001_label_7.png", "img_002_label_7.png", "img_003_label_1.png", "img_004_label_1.png"],
    ["wrapper/7-1.png", "wrapper/7-2.png", "wrapper/1-1.png", "wrapper/1-2.png"],
])  # fmt: skip
def test_names_tell_the_class_if_there_is_no_doubt(tmp_path, names):
    data, _ = read_files(saved(tmp_path / "flat", names))
    assert sorted(data.class_labels()) == [1, 1, 7, 7]
    np.testing.assert_array_equal(data.images[data.labels == 1], DIGITS[:2].reshape(2, 784))


@pytest.mark.parametrize("names", [
    ["a.png", "b.png"], ["img_1.png", "img_2.png", "img_3.png"], ["1_1.png", "2_1.png", "3_1.png"], ["7/a.png"],
    ["test/0/a.png", "test/1/a.png"], ["0/a.png", "1/a.png", "b.png"],
])  # fmt: skip
def test_folders_that_do_not_tell_classes_are_an_error(tmp_path, refused, names):
    folder = saved(tmp_path / "folder", names)
    refused(lambda: read_files(folder), folder, "expected one folder of pictures for each class, such as 7/a.png")


def test_unlabelled_pictures_for_testing_are_noted(tmp_path):
    train, test = read_files(saved(tmp_path, ["train/0/a.png", "train/1/a.png", "test/1.png", "test/2.png"]))
    assert test is None
    assert "2 pictures for test are in no folders of classes" in train.notes[0]


def test_large_pictures_or_several_sizes_are_prepared(tmp_path):
    images = load_mnist()[1].images[:4].reshape(-1, 28, 28)
    paper = [255 - np.pad(np.kron(image, np.ones((5, 5), np.uint8)), 40) for image in images]
    data, _ = read_files(saved(tmp_path / "large", ["0/a.png", "0/b.png", "1/a.png", "1/b.png"], paper))
    np.testing.assert_array_equal(data.images, [prepare_image(each) for each in paper])
    assert "prepared as digits of 28 x 28" in data.notes[0]
    mixed = [paper[0], paper[1][20:], paper[2]]
    data, _ = read_files(saved(tmp_path / "mixed", ["0/a.png", "0/b.png", "1/a.png"], mixed))
    assert data.image_shape == (28, 28)
    assert "several sizes" in data.notes[0]


def test_other_modes_are_read_in_grey(tmp_path):
    for mode in ("RGB", "RGBA", "P", "1", "LA", "CMYK"):
        folder = saved(tmp_path / mode, [f"{label}/a.{'tif' if mode == 'CMYK' else 'png'}" for label in "01"],
                       DIGITS // 128 * 255, mode)  # fmt: skip
        data, _ = read_files(folder)
        np.testing.assert_allclose(data.images, DIGITS[:2].reshape(2, 784) // 128 * 255.0, atol=2)


def test_every_picture_that_cannot_be_read_is_counted_and_the_first_is_named(tmp_path, refused):
    folder = saved(tmp_path, ["0/a.png", "0/b.png", "1/a.png", "1/b.png"])
    (folder / "0" / "b.png").write_bytes(b"no picture")
    whole = (folder / "1" / "a.png").read_bytes()
    (folder / "1" / "a.png").write_bytes(whole[:100])
    refused(lambda: read_files(folder), folder / "0/b.png", "2 of 4 pictures cannot be used", "not a picture")
    (folder / "0" / "b.png").write_bytes(whole[:200])
    refused(lambda: read_files(folder), folder / "0/b.png", "2 of 4 pictures cannot be used", "damaged")


def test_a_blank_picture_among_photos_is_named(tmp_path, refused):
    blank = np.full((100, 100), 200, np.uint8)
    drawn = blank.copy()
    drawn[20:80, 45:55] = 20
    folder = saved(tmp_path, ["0/a.png", "1/a.png"], [drawn, blank])
    refused(lambda: read_files(folder), folder / "1/a.png", "1 of 2 pictures", "no ink")


def test_a_folder_of_data_files_is_read(tmp_path, refused):
    np.savez(tmp_path / "digits.npz", x_train=DIGITS[:3], y_train=[0, 1, 2], x_test=DIGITS[3:], y_test=[0] * 9)
    (tmp_path / "LICENSE").write_text("free")
    train, test = read_files(tmp_path)
    assert (len(train), len(test)) == (3, 9)
    (tmp_path / "empty").mkdir()
    refused(lambda: read_files(tmp_path / "empty"), tmp_path / "empty", "found 0 files")


def test_an_image_shape_that_does_not_fit_is_an_error(tmp_path, refused):
    folder = saved(tmp_path, ["0/a.png", "1/a.png"])
    refused(lambda: read_files(folder, image_shape=(10, 10)), "784 pixels", "10 x 10")


def test_a_picture_without_an_ending_is_found_by_its_content(tmp_path):
    for label in "01":
        out = io.BytesIO()
        Image.fromarray(DIGITS[int(label)]).save(out, "PNG")
        (tmp_path / label).mkdir()
        (tmp_path / label / "picture").write_bytes(out.getvalue())
    assert len(read_files(tmp_path)[0]) == 2


def test_a_picture_of_another_size_is_a_reason_of_refusal(tmp_path, refused):
    """One odd picture makes all of them photos. If those have no digit, the message names the sizes as the cause."""
    for number, size in enumerate([(8, 8), (8, 8), (9, 8), (8, 8)]):
        (tmp_path / str(number % 2)).mkdir(exist_ok=True)
        Image.new("L", size, 90).save(tmp_path / str(number % 2) / f"{number}.png")
    refused(lambda: read_files(tmp_path), "4 of 4 pictures cannot be used", "these have several sizes or are larger")
