"""Tests of IDX files: what is read, and one clear error for each kind of invalid file."""

import bz2
import gzip
import lzma
import struct
import tracemalloc
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from fastnn.datasets import read_idx
from fastnn.errors import FileError, SettingsError

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
in_one_folder = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def idx_bytes(values):
    header = bytes([0, 0, CODES[values.dtype.name], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def declaring(*sizes, code=8):
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


PIXELS = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)
WHOLE = idx_bytes(PIXELS)
PACKED = gzip.compress(WHOLE, mtime=0)
TERABYTE = declaring(1_000_000, 1000, 1000) + bytes(100)


@pytest.fixture
def images(written):
    return written(WHOLE, "some-images-idx3-ubyte")


def test_images_and_labels_are_read(images, written):
    data = read_idx(images, written(idx_bytes(LABELS), "some-labels-idx1-ubyte"))
    np.testing.assert_array_equal(data.images, PIXELS.reshape(5, 12), strict=True)
    np.testing.assert_array_equal(data.labels, LABELS.astype(np.int64), strict=True)
    assert (data.pixel_max, data.image_shape, data.name) == (255, (4, 3), str(images))
    assert read_idx(str(images)).labels is None


@given(
    values=npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=3, max_side=6)),
    label_type=st.sampled_from(["uint8", "int8", "int16", "int32"]),
    packed=st.booleans(),
    seed=st.integers(0, 1000),
)
@in_one_folder
def test_a_written_file_is_read_back_equal(written, values, label_type, packed, seed):
    classes = np.random.default_rng(seed).integers(0, 100, len(values)).astype(label_type)
    pack = gzip.compress if packed else bytes
    read = read_idx(*(written(pack(idx_bytes(array)), name) for name, array in (("x", values), ("y", classes))))
    np.testing.assert_array_equal(read.images, values.reshape(len(values), -1), strict=True)
    np.testing.assert_array_equal(read.labels, classes)
    if values.ndim == 3 and 1 not in values.shape[1:]:
        assert read.image_shape == values.shape[1:]


@given(data=st.data())
@in_one_folder
def test_any_changed_bytes_give_data_or_one_clear_error(written, outcome, data):
    good = bytearray(PACKED if data.draw(st.booleans(), "gzipped") else WHOLE)
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        position = data.draw(st.integers(0, len(good) - 1), "position")
        good[position] = data.draw(st.integers(0, 255), "byte")
    good = good[: data.draw(st.integers(0, len(good)), "length")] + data.draw(st.binary(max_size=5), "end")
    path, intact = written(good, "changed"), written(WHOLE, "good")
    for call in (lambda: read_idx(path), lambda: read_idx(intact, path)):
        data_or_message = outcome(call)
        assert not isinstance(data_or_message, str) or "changed" in data_or_message


@pytest.mark.parametrize(
    ("stored", "read", "pixel_max"),
    [("int8", "u1", 255), ("int16", "u1", 255), ("int32", "u1", 255), ("float32", "f4", 1), ("float64", "f8", 1)],
)
def test_integers_become_uint8_and_floats_stay_floats_in_native_order(written, stored, read, pixel_max):
    values = (np.arange(24).reshape(2, 3, 4) / (48 if pixel_max == 1 else 1)).astype(stored)
    data = read_idx(written(idx_bytes(values)))
    np.testing.assert_array_equal(data.images, values.reshape(2, 12).astype(read), strict=True)
    assert data.pixel_max == pixel_max


@pytest.mark.parametrize(
    ("shape", "image_shape", "pixel_max"), [((2, 9), None, 255), ((2, 784), (28, 28), 255), ((2, 8, 8), (8, 8), 16)]
)
def test_the_number_of_pixels_decides_image_shape_and_pixel_max(written, shape, image_shape, pixel_max):
    data = read_idx(written(idx_bytes(np.full(shape, 16, np.uint8))))
    assert (data.image_shape, data.pixel_max) == (image_shape, pixel_max)


@pytest.mark.parametrize("existing", ["t-images-idx3-ubyte", "t-images.idx3-ubyte", "t-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("requested", ["t-images-idx3-ubyte", "t-images.idx3-ubyte", "t-images.idx3-ubyte.gz"])
def test_other_spellings_of_the_name_are_found(written, existing, requested):
    path = written(PACKED if existing.endswith("gz") else WHOLE, existing)
    assert len(read_idx(path.with_name(requested))) == 5


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

    monkeypatch.setattr("builtins.open", Mock(side_effect=PermissionError(13, "Permission denied")))
    refused(lambda: read_idx(images), images, "no permission", kind=FileError)


@pytest.mark.parametrize(("data", "parts"), [
    (b"", ["empty file"]),
    (gzip.compress(b""), ["found 0 bytes", "header of at least 8"]),
    (b"\0\0\x08", ["found 3 bytes", "header of at least 8"]),
    (WHOLE[:9], ["found 9 bytes", "header of 16"]),
    (b"\x12\x34\x08\x03" + bytes(20), ["12 34 08 03", "00 00 tt nn"]),
    *[
        (declaring(1, 2, 2, code=code) + bytes(4), [f"0x{code:02x}", "0x08 (uint8)", "0x0e (float64)"])
        for code in (0, 7, 0x0A, 0x0F, 255)
    ],
    *[(declaring(*[1] * rank) + b"\0", [f"rank {rank}", "expected"]) for rank in (0, 5, 255)],
    (declaring(0, 28, 28), ["0 sample(s)", "(0, 28, 28)", "minimum of 1"]),
    (declaring(10**9, 28, 0), ["0 feature(s)", "minimum of 1"]),
    (TERABYTE, [10**12, "max_bytes = 4294967296"]),
    (gzip.compress(TERABYTE, mtime=0), [10**12, "max_bytes = 4294967296"]),
    (declaring(*[2**32 - 1] * 3), [(2**32 - 1) ** 3]),
    (declaring(2**31, 2**31, 4), [2**64]),
    *[
        (pack(WHOLE[:-52]), ["expected 60 bytes of data (5 x 4 x 3 of uint8)", "found 8"])
        for pack in (bytes, gzip.compress)
    ],
    (WHOLE + b"\0", ["expected 60 bytes", "found 61"]),
    (gzip.compress(WHOLE + b"\0"), ["expected 60 bytes", "found more"]),
    (gzip.compress(WHOLE, mtime=0) + b"\0\0junk", ["damaged or followed by other bytes", "b'ju'", "intact gzip file"]),
    (PACKED[:-20], ["ended before the end-of-stream marker", "intact gzip file"]),
    (PACKED[:5], ["ended before the end-of-stream marker", "intact gzip file"]),
    (PACKED[:-4] + b"\xff\xff\xff\xff", ["Incorrect length", "intact gzip file"]),
    (PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], ["CRC check failed", "intact gzip file"]),
    (PACKED[:10] + b"\xff" + PACKED[11:], ["damaged", "intact gzip file"]),
    (idx_bytes(np.array([[0.5, np.nan]], np.float32)), ["sample 0, pixel 1", "found nan", "finite"]),
    (idx_bytes(LABELS), ["looks like a label file (rank 1)", "rank 3"]),
], ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "")  # fmt: skip
def test_an_invalid_image_file_gives_one_clear_error(written, refused, data, parts):
    path = written(data)
    refused(lambda: read_idx(path), path, *parts)


@pytest.mark.parametrize(("labels", "parts"), [
    (np.zeros((5, 4), np.int32), ["looks like an image file (rank 2)", "rank 1"]),
    (LABELS.astype(np.float32), ["float32", "an integer type"]),
    (LABELS[:4], ["some-images-idx3-ubyte", "found 4 labels, expected 5"]),
    (PIXELS, ["looks like an image file (rank 3)", "rank 1"]),
])  # fmt: skip
def test_an_invalid_label_file_gives_one_clear_error(images, written, refused, labels, parts):
    path = written(idx_bytes(labels))
    refused(lambda: read_idx(images, path), path, *parts)


def test_labels_of_qmnist_and_of_one_column_and_images_of_one_channel_are_read(images, written):
    columns = np.arange(40, dtype=np.int32).reshape(5, 8)
    data = read_idx(images, written(idx_bytes(columns), "qmnist"))
    np.testing.assert_array_equal(data.labels, columns[:, 0])
    assert "column 1 of 8 is the label" in data.notes[0]
    data = read_idx(written(idx_bytes(PIXELS[..., None]), "rank4"), written(idx_bytes(LABELS[:, None]), "column"))
    np.testing.assert_array_equal(data.images, PIXELS.reshape(5, 12))
    assert (data.labels.tolist(), data.image_shape, data.notes) == (LABELS.tolist(), (4, 3), ())


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_all_compressions_are_read_and_damage_is_an_error(written, refused, pack):
    packed = pack(WHOLE)
    np.testing.assert_array_equal(read_idx(written(packed)).images, PIXELS.reshape(5, 12))
    path = written(packed[:-12])
    refused(lambda: read_idx(path), path, "damaged", "expected an intact")
    path = written(pack(declaring(1, 2, 2) + bytes(200 * 2**20)))
    tracemalloc.start()
    refused(lambda: read_idx(path), path, "expected 4 bytes", "found more")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24  # the dictionary of xz has 8 MiB


@pytest.mark.parametrize(("pack", "found"), [(bytes, "found 100"), (gzip.compress, "100 times")], ids=["plain", "gzip"])
def test_no_memory_is_allocated_for_declared_terabytes(written, refused, pack, found):
    path = written(pack(TERABYTE))
    refused(lambda: read_idx(path, max_bytes=10**13), path, f"{10**12} bytes of data", found)


@pytest.mark.parametrize(("name", "data"), [
    ("plain.gz", WHOLE), ("packed", PACKED), ("zeros follow", PACKED + bytes(700)),
    ("two members", gzip.compress(WHOLE[:30]) + gzip.compress(WHOLE[30:])),
])  # fmt: skip
def test_gzip_is_detected_by_content_and_may_have_further_members_and_zeros(written, name, data):
    np.testing.assert_array_equal(read_idx(written(data, name)).images, PIXELS.reshape(5, 12))


def test_a_gzip_bomb_is_not_decompressed(written, refused):
    path = written(gzip.compress(declaring(1, 2, 2) + bytes(200 * 2**20), 1))
    tracemalloc.start()
    refused(lambda: read_idx(path), path, "expected 4 bytes", "found more")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
