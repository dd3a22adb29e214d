"""Tests of the recognition of formats: every file is named for what it is, whatever its name."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fastnn.datasets import read_files
from fastnn.datasets.containers.magic import describe, kind_of_bytes


def picture(kind):
    out = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(out, kind)
    return out.getvalue()


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return out.getvalue()


def database(tmp_path):
    connection = sqlite3.connect(tmp_path / "made.db")
    connection.execute("create table t (a)")
    connection.commit()
    connection.close()
    return (tmp_path / "made.db").read_bytes()


REFUSED = {
    "pickle": (pickle.dumps([np.zeros(3)]), "a Python pickle", "could run code"),
    "pickle.gz": (gzip.compress(pickle.dumps({"a": 1}, 2)), "a Python pickle", "NPZ"),
    "old pickle": (pickle.dumps(np.zeros(3), 0), "a Python pickle", "NPZ"),
    "torch": (zipped(model__data_dot_pkl=b"x", model__version=b"3"), "PyTorch", "could run code"),
    "keras": (zipped(**{"model.weights.h5": b"", "config.json": b""}), "Keras", "MODEL"),
    "docx": (zipped(**{"[Content_Types].xml": b"", "word/document.xml": b""}), "Office", "CSV"),
    "matlab7.3": (b"MATLAB 7.3 MAT-file, Platform".ljust(512) + b"\x89HDF\r\n\x1a\n", "MATLAB 7.3", "-v7"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5", "h5py"),
    "png": (picture("PNG"), "single picture (PNG)", "folder"),
    "jpeg": (picture("JPEG"), "single picture (JPEG)", "folder"),
    "gif": (picture("GIF"), "single picture (GIF)", "folder"),
    "bmp": (picture("BMP"), "single picture (BMP)", "folder"),
    "tiff": (picture("TIFF"), "single picture (TIFF)", "folder"),
    "webp": (picture("WEBP"), "single picture (WebP)", "folder"),
    "ppm": (picture("PPM"), "single picture (PPM)", "folder"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "PDF", "CSV"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer", "git lfs pull"),
    "html": (b"\n<!DOCTYPE html>\n<html>", "web page", "download"),
    "html2": (b"<HTML><body>404", "web page", "download"),
    "xml": (b"<?xml version='1.0'?><a/>", "XML", "CSV"),
    "json": (json.dumps({"a": [1]}, indent=1).encode(), "JSON", "CSV"),
    "model": ((64).to_bytes(8, "little") + b'{"__metadata__":{}}', "safetensors", "MODEL"),
    "onnx": (b"\x08\x0a\x12\x06fastnn\x1a\x031.0", "ONNX", "MODEL"),
    "elf": (b"\x7fELF\x02\x01\x01", "program", "data file"),
    "7z": (b"7z\xbc\xaf\x27\x1c\0\4", "7-Zip", "unpack"),
    "rar": (b"Rar!\x1a\x07\x01\0", "RAR", "unpack"),
    "zstd": (b"\x28\xb5\x2f\xfd\4\0", "Zstandard", "unpack"),
    "rds": (gzip.compress(b"X\n\0\0\0\3\0\4\3\0"), "R data", "write.csv"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "XLS", "CSV"),
    "mp4": (b"\0\0\0\x18ftypmp42\0\0", "video", "NPZ"),
    "noise": (b"\x89\0\1\2", "unknown format (bytes 89 00 01 02 at the start)", "NPZ"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("pack", [bytes, bz2.compress])
def test_every_other_format_is_named_with_what_to_do(written, refused, case, pack):
    data, *parts = REFUSED[case]
    for name in ("data.csv", "data"):
        path = written(pack(data), name)
        if pack is bz2.compress and data[:2] in (b"\x1f\x8b", b"PK"):
            parts = ["compressed twice", "unpack"]
        refused(lambda path=path: read_files([path]), path, *parts)
        assert parts[0] in describe(path)


def test_an_sqlite_database_is_named(tmp_path, written, refused):
    path = written(database(tmp_path))
    refused(lambda: read_files([path]), path, "SQLite", "CSV")


def test_no_pickle_is_loaded(written, refused, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for pack in (bytes, gzip.compress, bz2.compress, lzma.compress):
            path = written(pack(pickle.dumps(Trap(), protocol)))
            refused(lambda path=path: read_files([path]), path)
    assert not (tmp_path / "sprung").exists()


def test_formats_that_are_read_are_described(tmp_path, written):
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", np.zeros(3))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.npy")
    for name, text in (
        ("a.npy", "an NPY array"), ("a.npz", "an NPZ archive"), ("a.tar", "a tar archive"), ("", "a folder"),
        ("no", "a file that cannot be read"),
    ):  # fmt: skip
        assert describe(tmp_path / name).startswith(text)
    for data, text in (
        (b"PAR1\x15\4", "Parquet"), (b"ARROW1\0\0", "Feather"), (b"5,0,0\n", "text"), (b"% x\n@relation a", "ARFF"),
        (b"@RELATION a", "ARFF"), (b"1 3:0.5 7:1\n-1 1:2", "svmlight"), (b"1,3 qid:3 1:0.5 # a", "svmlight"),
        (zipped(xl__workbook_dot_xml=b""), "zip"), (b"", "an empty file"), (b"\0\0\x08\x03\0\0", "IDX"),
        ("\ufeff5,0".encode("utf-16"), "text"), (b"# a comment\n1 2 3", "text"), (b"12:30,4", "text"),
    ):  # fmt: skip
        assert text in describe(data), data
    assert describe(written(b"")) == "an empty file"


@pytest.mark.parametrize("text", [
    b"label,1x1,1x2\n5,0,0\n", b"5 0 0 0\n", b"5\t0\t0\n", b"a;b\n1;2\n", b'"a","b"\n', b"P5,1\n", b"BMI,age\n22,3\n",
    b"ORCID,b\n", b"ID3,x\n"[1:], b"MZ,1\n", b"#!x"[:1] + b" a,b\n", b"cat,dog\n", b"(dim),x\n", b"GIF,8\n", b"X\n1\n",
    b"version,1\n", b"PAR1,PAR2\n", b"ARROW1,a\n", b"BZh,a\n", b"Obj,2\n", b"RDX,2\n",
    b"[1],2\n"[1:], b"1.5,a:b\n", "grün,é\n".encode("latin-1"), b"-0.5,1e-3\n",
])  # fmt: skip
def test_tables_are_taken_for_no_other_format(text):
    assert kind_of_bytes(text).key == "CSV"
