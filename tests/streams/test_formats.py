"""Tests of all formats: blocks have what was written, and what is damaged or does not fit gives one clear error."""

import gzip
import os
import pickle

import numpy as np
import pytest

import fastnn
from fastnn.errors import DataError, FastnnError, SettingsError
from tests.streams.formats import FILES, FORMATS, frame_of, picture, write_npy

RNG = np.random.default_rng(21)
X = RNG.integers(0, 256, (150, 8, 8), np.uint8)
X[X < 100] = 0
X[:, 7, 7] = 255  # so that the last column of svmlight has values
Y = np.sort(RNG.permutation(150) % 5).astype(np.uint8)  # most blocks lack classes, and so does the first one


def written(folder, name, images=X, labels=Y, stem="x"):
    """Write a file of a format, and return its path."""
    file, write = FORMATS[name]
    path = folder / file.replace("x", stem, 1)
    write(path, images, labels)
    return path


def joined(data):
    blocks = [data.read(number) for number in range(data.n_blocks)]
    rows = [each.images if isinstance(each.images, np.ndarray) else each.images.toarray() for each in blocks]
    labels = [each.labels for each in blocks if each.labels is not None]
    return np.concatenate(rows), np.concatenate(labels) if labels else None


def outcome(path, **options):
    """Return the rows and labels of all blocks, or the message of the error."""
    try:
        return joined(fastnn.open_data(path, block_rows=32, **options))
    except FastnnError as error:
        message = str(error)
        assert message.isprintable(), message
        return message


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_hold_what_was_written(tmp_path, name):
    data = fastnn.open_data(written(tmp_path, name), block_rows=32)
    copy = pickle.loads(pickle.dumps(data))
    images, labels = joined(copy)
    if name == "folder":  # its rows are in random order
        order = np.lexsort(X.reshape(150, 64).T)
        own = np.lexsort(images.T)
        images, labels, expected = images[own], labels[own], (X.reshape(150, 64)[order], Y[order])
    else:
        expected = X.reshape(150, 64), Y
    np.testing.assert_array_equal(images, expected[0])
    np.testing.assert_array_equal(labels, expected[1])
    assert data.classes == (0, 1, 2, 3, 4)
    assert (data.n_inputs, data.pixel_max, len(data)) == (64, 255.0, 150)
    assert data.image_shape == (None if name == "svmlight" else (8, 8))
    assert data.dtype == (np.float64 if name == "svmlight" else np.uint8)
    assert max(data.block_lengths) <= 32 < data.n_blocks * 32
    assert copy.digest == data.digest
    last = data.read(data.n_blocks - 1)
    np.testing.assert_array_equal(last.labels, expected[1][-len(last) :] if name != "folder" else last.labels)


@pytest.mark.parametrize("name", ["npy", "idx.gz", "HDF5", "Zarr 3", "CSV", "Parquet", "Arrow", "svmlight"])
def test_several_files_are_one_data_set(tmp_path, name):
    for number, rows in enumerate((slice(40), slice(40, 47), slice(47, None))):
        written(tmp_path, name, X[rows], Y[rows], f"part{number}")
    images, labels = joined(fastnn.open_data(tmp_path / FORMATS[name][0].replace("x", "part[0-9]", 1), block_rows=32))
    np.testing.assert_array_equal(images, X.reshape(150, 64))
    np.testing.assert_array_equal(labels, Y)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_or_right(tmp_path, name):
    path = written(tmp_path, name)
    whole, right = path.read_bytes(), outcome(path)
    assert not isinstance(right, str)
    for cut in (1, len(whole) // 3, len(whole) - 3):
        path.write_bytes(whole[:cut])
        message = outcome(path)
        # Without its last bytes, a line of text may still be a line.
        assert isinstance(message, str) or (name in ("CSV", "svmlight") and cut > 1), cut
        if isinstance(message, str):
            assert path.name in message, message
    rng = np.random.default_rng(5)
    for place in rng.integers(0, len(whole), 12).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        result = outcome(path)
        if isinstance(result, str):
            assert path.name in result, result
        elif "gz" in name or name == "packed npz":  # a checksum covers every byte of the content
            np.testing.assert_array_equal(result[0], right[0])
    path.write_bytes(b"")
    assert "empty file" in outcome(path)


@pytest.mark.parametrize("name", ["Zarr 3", "Zarr 2", "folder"])
def test_a_damaged_file_in_a_folder_is_refused(tmp_path, name):
    path = written(tmp_path, name)
    files = [
        each for each in sorted(path.rglob("*")) if each.is_file() and each.parent.name not in ("labels", "x.zarr")
    ]
    chunk = max(files, key=lambda each: each.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:20])
    message = outcome(path)
    assert isinstance(message, str), message
    assert (chunk.name if name == "folder" else "x.zarr: images") in message


def test_a_chunk_that_is_missing_is_told(tmp_path):
    path = written(tmp_path, "Zarr 3")
    next(each for each in sorted((path / "images").rglob("*")) if each.is_file() and each.name != "zarr.json").unlink()
    assert "1 of 10 chunks of images are not there, and are read as 0" in " ".join(fastnn.open_data(path).notes)


@pytest.mark.parametrize("name", ["npy", "npz", "HDF5", "Zarr 3", "Parquet", "lists in Parquet", "Arrow"])
def test_another_dtype_in_the_fourth_file_is_named(tmp_path, refused, name):
    for number in range(5):
        images = X[30 * number : 30 * number + 30]
        if name == "lists in Parquet":
            import pyarrow as pa
            from pyarrow import parquet

            kind = pa.float32() if number == 3 else pa.uint8()
            rows = images.reshape(30, 64).astype(np.float32 if number == 3 else np.uint8)
            table = pa.table({"x": pa.array(list(rows), pa.list_(kind)), "label": Y[:30]})
            parquet.write_table(table, tmp_path / f"part{number}.parquet")
        else:
            written(tmp_path, name, images.astype(np.float32) if number == 3 else images, Y[:30], f"part{number}")
    paths = [tmp_path / FORMATS[name][0].replace("x", f"part{number}", 1) for number in range(5)]
    data = fastnn.open_data(paths, block_rows=30)
    refused(lambda: [data.read(number) for number in range(5)], "part3", "block 3", "float32", "expected uint8")
    converted = fastnn.open_data(paths, block_rows=30, dtype="float32")
    np.testing.assert_array_equal(joined(converted)[0], X.reshape(150, 64))


def test_a_text_among_numbers_is_named_by_its_line(tmp_path, refused, monkeypatch):
    monkeypatch.setattr("fastnn.streams.text._SAMPLE_ROWS", 30)
    path = written(tmp_path, "CSV")
    lines = path.read_text().splitlines()
    for field, expected in (("inf", "finite"), ("x7", "a number"), ("", "finite"), ("300", "from 0 to 255")):
        changed = lines.copy()
        changed[100] = ",".join([changed[100].split(",")[0], field, *changed[100].split(",")[2:]])
        path.write_text("\n".join(changed))
        data = fastnn.open_data(path, block_rows=32, classes=range(5))
        place = "row 99 (from 0), input 0" if field == "300" else "line 101, column 2 ('pixel0')"
        refused(lambda: data.read(3), "x.csv: block 3", place, expected)  # noqa: B023
    changed = lines.copy()
    changed[100] += ",1"
    path.write_text("\n".join(changed))
    refused(lambda: fastnn.open_data(path, block_rows=32).read(3), "block 3", "line 101: found 66 columns, expected 65")


def test_lines_of_text_are_counted_as_the_reader_of_whole_files_counts_them(tmp_path):
    text = '# made by hand\nname;"a\nb";c\n"x; y\n""z""";1,5;7\n\n# note\nplain;2,5;8\n  \nother;3,5;9\nplain;4,5;10'
    path = tmp_path / "x.csv"
    path.write_text(text + "\n\n")
    whole = fastnn.read_csv(path, label="name")
    for block_rows in (1, 2, 3, 9):
        data = fastnn.open_data(path, "name", block_rows=block_rows)
        images, labels = joined(data)
        np.testing.assert_array_equal(images, whole.images)
        np.testing.assert_array_equal(labels, whole.labels)
        assert data.classes == whole.classes
        assert data.feature_names == whole.feature_names == ("a\nb", "c")


def test_small_pieces_of_text_give_the_same_index(tmp_path, monkeypatch):
    path = written(tmp_path, "CSV")
    expected = joined(fastnn.open_data(path, block_rows=7))
    monkeypatch.setattr("fastnn.streams.text._CHUNK_BYTES", 11)
    for found, right in zip(joined(fastnn.open_data(path, block_rows=7)), expected, strict=True):
        np.testing.assert_array_equal(found, right)


def test_columns_that_differ_are_named(tmp_path, refused):
    for name, columns in (("a", ["label", "x1", "x2"]), ("b", ["label", "x1", "x3"])):
        frame = frame_of(X[:40, :1, :2], Y[:40])
        frame.columns = columns
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        frame.to_parquet(tmp_path / f"{name}.parquet")
    for ending in ("csv", "parquet"):
        paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
        refused(lambda: fastnn.open_data(paths), f"b.{ending}", "column 3 ('x3')", "expected 'x2'")  # noqa: B023


def test_a_column_of_texts_in_one_file_is_named(tmp_path, refused):
    for number in range(4):
        frame = frame_of(X[:40], Y[:40])
        if number == 3:
            frame["pixel5"] = frame["pixel5"].astype(object).astype(str)
            frame.loc[7, "pixel5"] = "inf"
        frame.to_parquet(tmp_path / f"part{number}.parquet")
    refused(
        lambda: fastnn.open_data(tmp_path / "part*.parquet"),
        "part3.parquet: column 'pixel5'",
        "string",
        "expected numbers",
    )


def test_labels_that_have_no_name_are_not_named(tmp_path, refused):
    for name in ("svmlight", "folder"):
        path = written(tmp_path, name)
        refused(lambda: fastnn.open_data(path, "label"), "labels is 'label'", kind=SettingsError)  # noqa: B023
        assert not fastnn.open_data(path, "none").has_labels
        assert fastnn.open_data(path, "none").read(0).labels is None
        np.testing.assert_array_equal(joined(fastnn.open_data(path, 4 - Y))[1], 4 - Y)


def test_missing_values_of_parquet_are_named(tmp_path, refused, monkeypatch):
    monkeypatch.setattr("fastnn.streams.arrow._SAMPLE_ROWS", 30)
    frame = frame_of(X, Y).astype(object)
    frame.loc[120, "pixel3"] = None
    frame.astype(dict.fromkeys(frame.columns, "UInt8")).to_parquet(tmp_path / "x.parquet", row_group_size=32)
    data = fastnn.open_data(tmp_path / "x.parquet", block_rows=32)
    refused(lambda: data.read(3), "block 3", "'pixel3'", "row 120 (from 0)", "missing value")


def test_a_picture_of_another_size_is_named(tmp_path, refused):
    path = written(tmp_path, "folder")
    file = path / "3" / "00100.png"
    file.write_bytes(picture(np.zeros((8, 9), np.uint8)))
    data = fastnn.open_data(path, block_rows=32)
    refused(lambda: joined(data), "00100.png", "8 x 9 pixels, expected 8 x 8", "block ")
    file.write_bytes(b"")
    refused(lambda: joined(data), "00100.png")


@pytest.mark.parametrize("name", ["npy", "HDF5", "Zarr 3", "Parquet", "Arrow"])
def test_a_file_without_rows_among_others_changes_nothing(tmp_path, name):
    written(tmp_path, name, X[:70], Y[:70], "part0")
    written(tmp_path, name, X[:0], Y[:0], "part1")
    written(tmp_path, name, X[70:], Y[70:], "part2")
    paths = [tmp_path / FORMATS[name][0].replace("x", f"part{number}", 1) for number in (0, 1, 2)]
    np.testing.assert_array_equal(joined(fastnn.open_data(paths, block_rows=32))[0], X.reshape(150, 64))


def test_arrays_are_named_by_their_keys(tmp_path, refused):
    path = tmp_path / "x.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X[:7], y_test=Y[:7], other=Y + 1)
    data = fastnn.open_data(path)
    assert (len(data), data.notes) == (150, (f"{path}: not used: other, x_test, y_test",))
    assert len(fastnn.open_data(path, images="x_test")) == 7
    np.testing.assert_array_equal(fastnn.open_data(path, "other").read(0).class_labels(), Y + 1)
    assert not fastnn.open_data(path, "none").has_labels
    refused(
        lambda: fastnn.open_data(path, images="x_val"), "images is 'x_val'", "x_test, x_train", "expected one of them"
    )
    refused(lambda: fastnn.open_data(path, "y_val"), "labels is 'y_val'")
    np.savez(path, first=X, second=X)
    refused(lambda: fastnn.open_data(path), "first, second", "name it with images")
    write_npy(tmp_path / "x.npy", X, Y)
    refused(lambda: fastnn.open_data(tmp_path / "x.npy", images="x"), "images is 'x'", kind=SettingsError)


def test_labels_of_a_file_beside_a_table(tmp_path):
    frame_of(X, Y).drop(columns="label").to_parquet(tmp_path / "x.parquet")
    np.save(tmp_path / "y.npy", Y)
    for labels in (tmp_path / "y.npy", str(tmp_path / "y.npy"), Y):
        np.testing.assert_array_equal(joined(fastnn.open_data(tmp_path / "x.parquet", labels, block_rows=32))[1], Y)


def test_texts_of_parquet_are_classes(tmp_path):
    frame = frame_of(X, Y)
    frame["label"] = [f"class {number}" for number in Y]
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=20)
    data = fastnn.open_data(tmp_path / "x.parquet", block_rows=40)
    assert data.classes == tuple(f"class {number}" for number in range(5))
    np.testing.assert_array_equal(joined(data)[1], Y)


def test_a_row_group_is_never_read_for_two_blocks(tmp_path):
    frame_of(X, Y).to_parquet(tmp_path / "x.parquet", row_group_size=40)
    assert fastnn.open_data(tmp_path / "x.parquet", block_rows=32).block_lengths == (40, 40, 40, 30)
    assert fastnn.open_data(tmp_path / "x.parquet", block_rows=100).block_lengths == (80, 70)
    assert max(fastnn.open_data(tmp_path / "x.parquet", block_rows=5).block_lengths) <= 5  # too large for a block


def test_compressed_content_that_is_too_large_is_refused(tmp_path, refused):
    import h5py
    import zarr

    head = bytes([0, 0, 8, 3]) + np.array([2**20, 28, 28], ">u4").tobytes()
    (tmp_path / "x-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + bytes(1000)))
    refused(lambda: fastnn.open_data(tmp_path / "x-images-idx3-ubyte.gz"), "after decompression", "at most 100 times")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("images", shape=(2**30, 28, 28), dtype=np.uint8, chunks=(64, 28, 28), compression="gzip")
    refused(lambda: fastnn.open_data(tmp_path / "x.h5").read(3), "after decompression", "at most 100 times")
    zarr.create_array(tmp_path / "x.zarr", shape=(2**40, 784), chunks=(2**30, 784), dtype=np.uint8)
    refused(lambda: fastnn.open_data(tmp_path / "x.zarr"), "a chunk", "after decompression", "at most 100 times")


def test_a_text_or_a_picture_that_a_small_file_repeats_is_refused(tmp_path, refused):
    import pyarrow as pa
    from pyarrow import parquet

    places, numbers = np.zeros(50_000, np.int32), np.zeros(50_000)
    for name, value in (("label", "x" * 2**20), ("image", picture(X[0]) + bytes(2**20))):
        column = pa.DictionaryArray.from_arrays(pa.array(places), pa.array([value]))
        table = pa.table({"a": numbers, **{"label": numbers.astype(np.int64), name: column}})
        parquet.write_table(table, tmp_path / "x.parquet", store_schema=False)
        assert (tmp_path / "x.parquet").stat().st_size < 2**17
        refused(lambda: fastnn.open_data(tmp_path / "x.parquet", "label"), "after decompression", "at most 100 times")


def test_nothing_outside_of_a_file_is_opened(tmp_path, refused):
    import h5py

    (tmp_path / "secret").write_bytes(bytes(range(100)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = X
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("other.h5", "/images")
        file.create_dataset("images", (50, 2), np.uint8, external=[(tmp_path / "secret", 0, 100)])
    refused(lambda: fastnn.open_data(tmp_path / "x.h5"), "found the arrays", "none")
    refused(lambda: fastnn.open_data(tmp_path / "x.h5", images="images"), "keeps its rows in other files")
    refused(lambda: fastnn.open_data(tmp_path / "x.h5", images="linked"), "images is 'linked'")


def test_codecs_that_could_run_code_are_refused(tmp_path, refused):
    import json

    path = tmp_path / "x.zarr"
    folder = path / "images"
    folder.mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    meta = {"zarr_format": 2, "shape": [4, 3], "chunks": [4, 3], "dtype": "|O", "fill_value": None, "order": "C",
            "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(meta))

    class Harm:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    (folder / "0.0").write_bytes(pickle.dumps(np.array([Harm()] * 12, object)))
    with pytest.raises(DataError):
        fastnn.open_data(path).read(0)
    assert not (tmp_path / "harm").exists()
    refused(lambda: fastnn.open_data(path, images="images"), "x.zarr")


def test_files_of_two_formats_are_refused(tmp_path, refused):
    paths = [written(tmp_path, "npy"), written(tmp_path, "CSV")]
    refused(lambda: fastnn.open_data(paths), "x.csv: found a text file, expected an NPY array as")
    (tmp_path / "x.pdf").write_bytes(b"%PDF-1.7")
    refused(lambda: fastnn.open_data(tmp_path / "x.pdf"), "x.pdf", "a PDF document")


def test_formats_that_are_read_as_a_whole_say_so(tmp_path, refused):
    (tmp_path / "x.arff").write_text("@relation x\n@attribute a numeric\n@data\n1\n")
    refused(lambda: fastnn.open_data(tmp_path / "x.arff"), "found an ARFF table", "try fastnn.read_files")
    (tmp_path / "y.csv").write_text("label\n1\n2\n")
    path = written(tmp_path, "npy")
    refused(lambda: fastnn.open_data(path, tmp_path / "y.csv"), "y.csv: found a text file, expected an NPY or IDX file")


def test_lines_without_line_feeds_are_refused(tmp_path, refused):
    (tmp_path / "x.csv").write_text("a,b,label\r" + "1.5,2,0\r3,4.5,1\r" * 20)
    refused(lambda: fastnn.open_data(tmp_path / "x.csv"), "x.csv: found carriage returns and no line feeds")
    (tmp_path / "x.csv").write_text("a,b,label\n" + '1.5,2,0\n3,"4.5,1\n' * 20 + '1,"2,3\n')
    refused(lambda: joined(fastnn.open_data(tmp_path / "x.csv", block_rows=5)), "x.csv")


def test_other_compressions_are_refused(tmp_path, refused):
    import bz2

    (tmp_path / "x.npy.bz2").write_bytes(bz2.compress(written(tmp_path, "npy").read_bytes()))
    refused(lambda: fastnn.open_data(tmp_path / "x.npy.bz2"), "found a bzip2 file", "decompress it first")


def test_gzip_is_read_from_the_nearest_place(tmp_path, monkeypatch):
    from fastnn.streams import content

    values = RNG.integers(0, 4, 300_000, np.uint8)
    members = [gzip.compress(part.tobytes()) for part in np.split(values, [100_000, 100_000, 250_000])]
    (tmp_path / "x.gz").write_bytes(b"".join(members) + bytes(7))  # gzip pads with zeros
    monkeypatch.setattr(content, "_FIRST_SPACING", 10_000)
    monkeypatch.setattr(content, "_STEP_BYTES", 3_000)
    monkeypatch.setattr(content, "_MAX_PLACES", 12)
    data = content.DeflatedBytes(tmp_path / "x.gz")
    assert data.read(299_990, 100) == values[299_990:].tobytes()
    assert 6 <= len(data._places) <= 13
    for start in (0, 99_999, 250_000, 5, 123_456, 130_000, 299_999):
        assert data.read(start, 777) == values[start : start + 777].tobytes()
    assert pickle.loads(pickle.dumps(data)).read(200_000, 3) == values[200_000:200_003].tobytes()
