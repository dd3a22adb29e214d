"""Tests of IDX files: what is read, and one clear error for each kind of invalid file."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fastnn.datasets import read_idx
from fastnn.errors import FileError, SettingsError

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
in_one_folder = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def idx_bytes(values: np.ndarray) -> bytes:
    header = bytes([0, 0, CODES[values.dtype.name], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def declaring(*sizes: int, code: int = 8) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


PIXELS = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "some-images-idx3-ubyte"
    path.write_bytes(idx_bytes(PIXELS))
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "some-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(LABELS))
    return path


def test_images_and_labels_are_read(images, labels):
    data = read_idx(images, labels)
    assert data.images.dtype == np.uint8
    np.testing.assert_array_equal(data.images, PIXELS.reshape(5, 12))
    assert data.labels.dtype == np.int64
    np.testing.assert_array_equal(data.labels, LABELS)
    assert (data.pixel_max, data.image_shape, data.name) == (255, (4, 3), str(images))
    assert read_idx(str(images)).labels is None


@given(
    values=npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=3, max_side=6)),
    label_type=st.sampled_from(["uint8", "int8", "int16", "int32"]),
    packed=st.booleans(),
    seed=st.integers(0, 1000),
)
@in_one_folder
def test_a_written_file_is_read_back_equal(tmp_path, values, label_type, packed, seed):
    classes = np.random.default_rng(seed).integers(0, 100, len(values)).astype(label_type)
    for name, array in (("x", values), ("y", classes)):
        data = idx_bytes(array)
        (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    read = read_idx(tmp_path / "x", tmp_path / "y")
    np.testing.assert_array_equal(read.images, values.reshape(len(values), -1))
    np.testing.assert_array_equal(read.labels, classes)
    assert read.images.dtype == np.uint8
    if values.ndim == 3:
        assert read.image_shape == values.shape[1:]


@given(data=st.data())
@in_one_folder
def test_any_changed_bytes_give_data_or_one_clear_error(tmp_path, outcome, data):
    good = bytearray(idx_bytes(PIXELS))
    if data.draw(st.booleans(), "gzipped"):
        good = bytearray(gzip.compress(bytes(good)))
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        position = data.draw(st.integers(0, len(good) - 1), "position")
        good[position] = data.draw(st.integers(0, 255), "byte")
    good = good[: data.draw(st.integers(0, len(good)), "length")] + data.draw(st.binary(max_size=5), "end")
    path = tmp_path / "changed"
    path.write_bytes(bytes(good))
    for call in (lambda: read_idx(path), lambda: read_idx(tmp_path / "good", path)):
        (tmp_path / "good").write_bytes(idx_bytes(PIXELS))
        data_or_message = outcome(call)
        assert not isinstance(data_or_message, str) or "changed" in data_or_message


@pytest.mark.parametrize("type_name", ["int8", "int16", "int32"])
def test_all_integer_types_become_uint8(tmp_path, type_name):
    values = np.arange(24, dtype=type_name).reshape(2, 3, 4)
    (tmp_path / "x").write_bytes(idx_bytes(values))
    data = read_idx(tmp_path / "x")
    assert data.images.dtype == np.uint8
    np.testing.assert_array_equal(data.images, values.reshape(2, 12))


@pytest.mark.parametrize("type_name", ["float32", "float64"])
def test_floats_stay_floats_in_native_order(tmp_path, type_name):
    values = np.random.default_rng(2).random((3, 2, 2)).astype(type_name)
    (tmp_path / "x").write_bytes(idx_bytes(values))
    data = read_idx(tmp_path / "x")
    assert data.images.dtype == np.dtype(type_name)
    assert data.images.dtype.isnative
    np.testing.assert_array_equal(data.images, values.reshape(3, 4))
    assert data.pixel_max == 1


def test_rank_2_gives_square_images_or_no_image_shape(tmp_path):
    (tmp_path / "square").write_bytes(idx_bytes(np.zeros((2, 9), np.uint8)))
    (tmp_path / "row").write_bytes(idx_bytes(np.zeros((2, 8), np.uint8)))
    assert read_idx(tmp_path / "square").image_shape == (3, 3)
    assert read_idx(tmp_path / "row").image_shape is None


def test_8x8_digits_have_pixel_max_16(tmp_path):
    (tmp_path / "x").write_bytes(idx_bytes(np.full((2, 8, 8), 16, np.uint8)))
    assert read_idx(tmp_path / "x").pixel_max == 16


@pytest.mark.parametrize("existing", ["t-images-idx3-ubyte", "t-images.idx3-ubyte", "t-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("requested", ["t-images-idx3-ubyte", "t-images.idx3-ubyte", "t-images.idx3-ubyte.gz"])
def test_other_spellings_of_the_name_are_found(tmp_path, existing, requested):
    data = idx_bytes(PIXELS)
    (tmp_path / existing).write_bytes(gzip.compress(data) if existing.endswith("gz") else data)
    assert len(read_idx(tmp_path / requested)) == 5


@pytest.mark.parametrize("max_bytes", [0, -1, 2.5, True, "1"])
def test_max_bytes_must_be_positive(images, refused, max_bytes):
    refused(lambda: read_idx(images, max_bytes=max_bytes), "max_bytes", repr(max_bytes), kind=SettingsError)


def test_paths_that_cannot_be_read_are_named(tmp_path, images, monkeypatch, refused):
    missing = tmp_path / "line\nbreak"
    refused(lambda: read_idx(missing), "line\\nbreak", "no such file", kind=FileError)
    refused(lambda: read_idx(tmp_path), tmp_path, "found a folder, expected a file", kind=FileError)
    refused(lambda: read_idx("a\0b"), "a\\x00b", kind=FileError)
    refused(lambda: read_idx(7), "int", "expected a path", kind=SettingsError)
    refused(lambda: read_idx("/dev/null"), "/dev/null", "regular file", kind=FileError)

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    refused(lambda: read_idx(images), images, "no permission", kind=FileError)


def test_a_wrong_magic_number_is_shown(tmp_path, refused):
    path = tmp_path / "x"
    path.write_bytes(b"\x12\x34\x08\x03" + bytes(20))
    refused(lambda: read_idx(path), path, "12 34 08 03", "00 00 tt nn")


@pytest.mark.parametrize("code", [0, 7, 0x0A, 0x0F, 255])
def test_an_unknown_type_code_is_shown(tmp_path, refused, code):
    path = tmp_path / "x"
    path.write_bytes(declaring(1, 2, 2, code=code) + bytes(4))
    refused(lambda: read_idx(path), path, f"0x{code:02x}", "0x08 (uint8)", "0x0e (float64)")


def test_invalid_pixels_are_located(tmp_path, refused):
    path = tmp_path / "x"
    path.write_bytes(idx_bytes(np.array([[1, 255], [256, 0]], np.int16)))
    refused(lambda: read_idx(path), path, "sample 1, pixel 0", "found 256", "from 0 to 255")
    path.write_bytes(idx_bytes(np.array([[0.5, np.nan]], np.float32)))
    refused(lambda: read_idx(path), path, "sample 0, pixel 1", "found nan", "finite")


@pytest.mark.parametrize(("value", "type_name"), [(-1, "int8"), (10_000, "int16")])
def test_labels_out_of_range_are_located(images, tmp_path, refused, value, type_name):
    path = tmp_path / "y"
    path.write_bytes(idx_bytes(np.array([0, 1, value, 3, 4], type_name)))
    refused(lambda: read_idx(images, path), path, "label 2", f"found {value}", "0 to 9999")


def test_float_labels_are_an_error(images, tmp_path, refused):
    path = tmp_path / "y"
    path.write_bytes(idx_bytes(LABELS.astype(np.float32)))
    refused(lambda: read_idx(images, path), path, "float32", "an integer type")


def test_swapped_images_and_labels_are_detected(images, labels, refused):
    refused(lambda: read_idx(labels, images), labels, "looks like a label file (rank 1)", "rank 3")
    refused(lambda: read_idx(images, images), images, "looks like an image file (rank 3)", "rank 1")


@pytest.mark.parametrize("rank", [0, 4, 255])
def test_unsupported_ranks_are_an_error(tmp_path, refused, rank):
    path = tmp_path / "x"
    path.write_bytes(declaring(*[1] * rank) + b"\0")
    refused(lambda: read_idx(path), path, f"rank {rank}", "expected")


def test_a_truncated_header_is_an_error(tmp_path, refused):
    path = tmp_path / "x"
    path.write_bytes(idx_bytes(PIXELS)[:9])
    refused(lambda: read_idx(path), path, "found 9 bytes", "header of 16")
    path.write_bytes(b"\0\0\x08")
    refused(lambda: read_idx(path), path, "found 3 bytes", "header of at least 8")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_truncated_data_are_an_error(tmp_path, refused, pack):
    path = tmp_path / "x"
    path.write_bytes(pack(idx_bytes(PIXELS)[:-52]))
    refused(lambda: read_idx(path), path, "expected 60 bytes of data (5 x 4 x 3 of uint8)", "found 8")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_trailing_bytes_are_an_error(tmp_path, refused, pack):
    path = tmp_path / "x"
    path.write_bytes(pack(idx_bytes(PIXELS) + b"\0"))
    refused(lambda: read_idx(path), path, "expected 60 bytes", "found")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_declared_terabytes_are_an_error(tmp_path, refused, pack):
    path = tmp_path / "x"
    path.write_bytes(pack(declaring(1_000_000, 1000, 1000) + bytes(100)))
    refused(lambda: read_idx(path), path, 10**12, "max_bytes = 4294967296")
    found = "found 100" if pack is bytes else "which cannot hold that many"
    refused(lambda: read_idx(path, max_bytes=10**13), path, f"expected {10**12} bytes", found)


@pytest.mark.parametrize("sizes", [(2**32 - 1,) * 3, (2**31, 2**31, 4)])
def test_a_declared_size_beyond_64_bits_is_an_error(tmp_path, refused, sizes):
    path = tmp_path / "x"
    path.write_bytes(declaring(*sizes))
    refused(lambda: read_idx(path, max_bytes=2**200), path, sizes[0] * sizes[1] * sizes[2])


def test_no_images_and_no_pixels_are_errors(tmp_path, refused):
    path = tmp_path / "x"
    path.write_bytes(declaring(0, 28, 28))
    refused(lambda: read_idx(path), path, "0 sample(s)", "(0, 28, 28)", "minimum of 1")
    path.write_bytes(declaring(10**9, 28, 0))
    refused(lambda: read_idx(path), path, "0 feature(s)", "minimum of 1")


def test_damaged_gzip_data_are_an_error(tmp_path, refused):
    path = tmp_path / "x"
    whole = gzip.compress(idx_bytes(PIXELS))
    for damaged, part in (
        (whole[:-20], "truncated"),
        (whole[:5], "truncated"),
        (whole[:-4] + b"\xff\xff\xff\xff", "incorrect length check"),
        (whole[:-8] + b"\0\0\0\0" + whole[-4:], "incorrect data check"),
        (whole[:10] + b"\xff" + whole[11:], "damaged"),
    ):
        path.write_bytes(damaged)
        refused(lambda: read_idx(path), path, part, "intact gzip file")


def test_empty_files_are_an_error(tmp_path, refused):
    for name in ("x", "x.gz"):
        (tmp_path / name).write_bytes(b"")
        refused(lambda name=name: read_idx(tmp_path / name), name, "empty file")
    (tmp_path / "nothing").write_bytes(gzip.compress(b""))
    refused(lambda: read_idx(tmp_path / "nothing"), "nothing", "found 0 bytes")


def test_zeros_and_further_members_may_follow_gzip_data_but_nothing_else(tmp_path, refused):
    path = tmp_path / "x"
    data = idx_bytes(PIXELS)
    path.write_bytes(gzip.compress(data) + b"\0" * 700)
    np.testing.assert_array_equal(read_idx(path).images, PIXELS.reshape(5, 12))
    path.write_bytes(gzip.compress(data[:30]) + gzip.compress(data[30:]))
    np.testing.assert_array_equal(read_idx(path).images, PIXELS.reshape(5, 12))
    path.write_bytes(gzip.compress(data) + b"\0\0junk")
    refused(lambda: read_idx(path), path, "0x6a756e6b", "end of the file")


def test_a_gzip_bomb_is_not_decompressed(tmp_path, refused, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(declaring(1, 2, 2) + bytes(200 * 2**20), 1))
    from fastnn.datasets import files

    sizes = []
    inflate = files.Content._inflate

    def counted(self, size):
        part = inflate(self, size)
        sizes.append(len(part))
        return part

    monkeypatch.setattr(files.Content, "_inflate", counted)
    refused(lambda: read_idx(path), path, "expected 4 bytes", "found more")
    assert sum(sizes) == 16 + 5


def test_gzip_is_detected_by_content_not_by_name(tmp_path):
    (tmp_path / "plain.gz").write_bytes(idx_bytes(PIXELS))
    (tmp_path / "packed").write_bytes(gzip.compress(idx_bytes(PIXELS)))
    for name in ("plain.gz", "packed"):
        np.testing.assert_array_equal(read_idx(tmp_path / name).images, PIXELS.reshape(5, 12))


def test_different_numbers_of_images_and_labels_are_an_error(images, tmp_path, refused):
    path = tmp_path / "y"
    path.write_bytes(idx_bytes(LABELS[:4]))
    refused(lambda: read_idx(images, path), images, path, "found 4 labels, expected 5")
