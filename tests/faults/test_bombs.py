"""Small files that declare much: each reader refuses them, in memory that is bounded.

Every file is read by a process of its own, forked from one that has imported all readers. Its largest memory beyond
theirs is measured. A limit of the address space guards the machine if a reader is wrong.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib

import numpy as np
import pytest

# Above the 32 MiB that every file may unpack to, and 1,000 times as large as it is compressed.
SIZE = 40 * 2**20
PART = 8 * 2**20  # four of them are allowed
MEGABYTE = 2**20

READ = """
import json, os, resource, sys
import numpy, pandas, PIL.Image, scipy.io, scipy.ndimage, scipy.sparse, sklearn.datasets, zipfile
import fastnn
from fastnn.datasets.containers.formats import read_files
from fastnn.datasets.tables.frames import read_frame
try:
    import openpyxl, pyarrow.parquet, pyarrow.compute
except ImportError:
    pass
PIL.Image.init()

def read(path, reader):
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    try:
        found = "read " + repr(getattr(fastnn, reader)(path))
    except fastnn.FastnnError as error:
        found = str(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start
    print(json.dumps([peak // 1024, found]), flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        read(*json.loads(line))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        print(json.dumps([10**6, f"the process ended with status {status}"]), flush=True)
"""


@pytest.fixture(scope="module")
def outcome():
    """A function that returns the MiB that a reader takes for a path, and its error or what it has read."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", READ]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def call(path, reader="read_files"):
            process.stdin.write(json.dumps([str(path), reader]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield call
        process.stdin.close()


def idx(n_bytes):
    return b"\0\0\x08\x03" + np.array([n_bytes // 1024, 32, 32], ">u4").tobytes() + bytes(n_bytes)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return file.getvalue()


def tarred(**members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def mat(**arrays):
    from scipy.io import savemat

    file = io.BytesIO()
    savemat(file, arrays, do_compression=True)
    return file.getvalue()


def zeros_csv(n_bytes):
    return b"a,b,c,d,e,f,g,h,i,label\n" + b"0,0,0,0,0,0,0,0,0,1\n" * (n_bytes // 20)


def parts(suffix, data, count=6):
    return {f"part{number}__{suffix}": data for number in range(count)}


UNPACKED = {
    "idx.gz": lambda: gzip.compress(idx(SIZE)),
    "idx.bz2": lambda: bz2.compress(idx(SIZE)),
    "idx.xz": lambda: lzma.compress(idx(SIZE), preset=1),
    "npy.gz": lambda: gzip.compress(npy(np.zeros((1024, SIZE // 1024), np.uint8))),
    "csv.gz": lambda: gzip.compress(zeros_csv(SIZE)),
    "members.gz": lambda: gzip.compress(zeros_csv(PART)) * 6,
    "data.npz": lambda: npz(X=np.zeros((1024, SIZE // 1024), np.uint8), y=np.zeros(1024, int)),
    "parts.npz": lambda: npz(**{f"x{number}": np.zeros(PART, np.uint8) for number in range(6)}),
    "data.zip": lambda: zipped(data__csv=zeros_csv(SIZE)),
    "parts.zip": lambda: zipped(**parts("csv", zeros_csv(PART))),
    "gz-in.zip": lambda: zipped(**parts("csv__gz", gzip.compress(zeros_csv(PART)))),
    "zip-in.zip": lambda: zipped(**parts("zip", zipped(data__csv=zeros_csv(PART)))),
    "npz-in.zip": lambda: zipped(**parts("npz", npz(X=np.zeros((1024, PART // 1024), np.uint8)))),
    "mat-in.zip": lambda: zipped(**parts("mat", mat(X=np.zeros((1024, PART // 1024), np.uint8)))),
    "data.tgz": lambda: tarred(data__csv=zeros_csv(SIZE)),
    "gz-in.tgz": lambda: tarred(**parts("csv__gz", gzip.compress(zeros_csv(PART)))),
    "data.mat": lambda: mat(X=np.zeros((1024, SIZE // 1024), np.uint8)),
    "parts.mat": lambda: mat(**{f"x{number}": np.zeros(PART, np.uint8) for number in range(6)}),
}


@pytest.mark.parametrize("name", UNPACKED)
def test_compressed_files_are_bounded_by_their_size(outcome, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(UNPACKED[name]())
    assert path.stat().st_size < SIZE / 100
    peak, found = outcome(path)
    assert "at most 100 times the" in found
    assert "or 32 MiB; if it is intact, decompress it first" in found
    assert peak < 120


def test_a_file_that_was_decompressed_is_read(outcome, tmp_path):
    path = tmp_path / "zeros.csv"
    path.write_bytes(zeros_csv(SIZE))
    peak, found = outcome(path)
    assert found.startswith("read (Dataset(")
    assert peak < 20 * SIZE / MEGABYTE
    small = tmp_path / "small.csv.gz"
    small.write_bytes(gzip.compress(zeros_csv(PART)))
    assert outcome(small)[1].startswith("read (Dataset(")


def png(width, height):
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def picture(kind, width, height, mode="RGB", **options):
    from PIL import Image

    file = io.BytesIO()
    Image.new(mode, (width, height), 255 if mode in "L1" else (255, 255, 255)).save(file, kind, **options)
    return file.getvalue()


def gif(width, height):
    data = bytearray(picture("GIF", 8, 8, "L"))
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    data[6:10] = size
    at = data.index(b"\x2c")
    data[at + 5 : at + 9] = size
    return bytes(data)


def bmp():
    data = bytearray(picture("BMP", 8, 8))
    data[18:26] = (9000).to_bytes(4, "little") * 2
    return bytes(data)


PICTURES = {
    "large.png": lambda: png(9000, 9000),
    "wide.png": lambda: png(89_000_000, 1),
    "tall.png": lambda: png(1, 89_000_000),
    "giant.png": lambda: png(2**31 - 1, 2**31 - 1),
    "large.gif": lambda: gif(9000, 9000),
    "giant.gif": lambda: gif(65535, 65535),
    "large.webp": lambda: picture("WEBP", 9000, 2100, lossless=True, method=0),
    "large.tif": lambda: picture("TIFF", 40, 900_001, "L", compression="tiff_lzw"),
    "large.ppm": lambda: b"P5 9000 9000 255\n" + bytes(1000),
    "large.bmp": bmp,
    "large.jpg": lambda: picture("JPEG", 8, 8).replace(b"\0\x08\0\x08\x03", b"\xff\xff\xff\xff\x03"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_many_pixels_are_refused_before_they_are_decoded(outcome, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(PICTURES[name]())
    peak, found = outcome(path, "prepare_image")
    assert "found a picture" in found
    assert "pixels" in found
    assert peak < 30


@pytest.mark.parametrize(("name", "options", "most"), [
    ("photo.jpg", {}, 120),
    ("progressive.jpg", {"progressive": True}, 320),
])  # fmt: skip
def test_a_photo_of_48_million_pixels_is_read(outcome, tmp_path, name, options, most):
    from PIL import Image, ImageDraw

    photo = Image.new("RGB", (8000, 6000), (220, 220, 210))
    ImageDraw.Draw(photo).line((4000, 1500, 4000, 4500), (20, 20, 60), 300)
    photo.save(tmp_path / name, quality=80, **options)
    peak, found = outcome(tmp_path / name, "prepare_images")
    assert found.startswith("read array(")
    assert peak < most


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_large_pictures_of_every_mode_are_shrunk_in_strips(outcome, tmp_path, mode):
    from PIL import Image, ImageDraw

    page = Image.new("L", (6000, 5900), 230)
    ImageDraw.Draw(page).line((3000, 1500, 3000, 4500), 20, 300)
    values = np.asarray(page, np.uint16) * 257
    page = Image.fromarray(values) if mode == "I;16" else page.convert(mode)
    page.save(tmp_path / "page.png", compress_level=1)
    peak, found = outcome(tmp_path / "page.png", "prepare_images")
    assert found.startswith("read array(")
    assert peak < 220


def workbook(cells):
    """Return an Excel workbook with one sheet of cells, given as XML of its rows."""
    openpyxl = pytest.importorskip("openpyxl")
    file = io.BytesIO()
    openpyxl.Workbook().save(file)
    found = {}
    with zipfile.ZipFile(file) as archive:
        found = {member: archive.read(member) for member in archive.namelist()}
    sheet = found["xl/worksheets/sheet1.xml"].decode()
    found["xl/worksheets/sheet1.xml"] = re.sub(
        "<sheetData ?/>|<sheetData></sheetData>", f"<sheetData>{cells}</sheetData>", sheet
    ).encode()
    return found


def packed(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


CORNERS = '<row r="1"><c r="XFD1"><v>1</v></c></row><row r="1048576"><c r="A1048576"><v>1</v></c></row>'


def moved_sheet():
    """Return a workbook whose sheet is not where sheets are."""
    members = workbook(CORNERS)
    sheet = members.pop("xl/worksheets/sheet1.xml")
    links = members["xl/_rels/workbook.xml.rels"].replace(b"worksheets/sheet1.xml", b"other.xml")
    return packed({**members, "xl/_rels/workbook.xml.rels": links, "xl/other.xml": sheet})


def parquet(**columns):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    file = io.BytesIO()
    files.write_table(pa.table(columns), file, compression="zstd")
    return file.getvalue()


def sparse_npz(shape):
    return npz(format="csc", shape=np.array(shape), data=np.ones(1), indices=np.zeros(1, int), indptr=np.array([0, 1]))


def sparse_mat(rows):
    from scipy.sparse import csc_matrix

    return mat(X=csc_matrix((np.ones(1), [0], [0, 1]), shape=(rows, 1)))


DECLARED = {
    "corners.xlsx": (lambda: packed(workbook(CORNERS)), "rows of 16384 cells"),
    "moved.xlsx": (moved_sheet, "rows of 16384 cells"),
    "blown.xlsx": (
        lambda: packed({**workbook("<row/>"), "xl/sharedStrings.xml": b"<a>" + bytes(SIZE)}), "a workbook of"
    ),
    "styles.xlsx": (
        lambda: packed({**workbook("<row/>"), "xl/styles.xml": b"<a>" + b"<b/>" * 2**21 + b"</a>"}), "of styles"
    ),
    "rows.parquet": (lambda: parquet(a=np.zeros(10_000_000), b=np.zeros(10_000_000)), "10000000 rows of 2 columns"),
    "texts.parquet": (lambda: parquet(a=["x" * 2**20] * 100, b=list(range(100))), "more bytes after decompression"),
    "names.jsonl": (lambda: "".join(f'{{"k{n}":1}}\n' for n in range(9000)).encode(), "different names in the first"),
    "depth.jsonl": (lambda: b'{"a":' + b"[" * 10**6 + b"\n" * 2 + b'{"a":1}', "line 1"),
    "rows.arff.gz": (
        lambda: gzip.compress(b"@relation t\n@attribute a numeric\n@attribute b numeric\n@data\n" + b"1,0\n" * 2**21),
        "a text of",
    ),
    "rows.jsonl.gz": (lambda: gzip.compress(b'{"a":1,"b":0}\n' * 2**20), "a text of"),
    "empty.jsonl": (lambda: b'{"a":[],"y":0}\n' * 9, "row 1: found an empty list"),
    "number.jsonl": (lambda: b'{"a":[1%s],"y":0}\n{"a":[1],"y":0}\n' % (b"0" * 400), "row 1: found a list"),
    "columns.svm": (lambda: b"1 2147483648:1\n0 1:1\n", "columns"),
    "rows.npz": (lambda: sparse_npz((2**40, 1)), "a sparse matrix of shape"),
    "rows.mat": (lambda: sparse_mat(2**31 - 1), "a sparse matrix of shape"),
    "columns.csv": (lambda: b"0," * 10_000_000 + b"1\n", "line 1: found more than 4194304 bytes"),
    "names.csv": (lambda: b",".join(b"n%d" % n for n in range(400_000)) + b"\n", "columns, expected at most 262144"),
    "digits.csv": (lambda: b"a,b,label\n1,2,3\n4," + b"6" * 10_000_000 + b",5\n", "line 3, column 2"),
    "cells.mat": (
        lambda: mat(X=np.zeros((500, 4)), y=np.array(["x" * 2**20, *["a", "b"] * 249, "a"], object)), "y: found cells"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECLARED)
def test_declared_sizes_are_not_allocated(outcome, tmp_path, name):
    make, text = DECLARED[name]
    path = tmp_path / name
    path.write_bytes(make())
    peak, found = outcome(path)
    assert text in found
    assert peak < 160


def test_comments_and_blank_lines_take_no_memory_of_their_own(outcome, tmp_path):
    path = tmp_path / "comments.csv"
    path.write_bytes(b"#\n\n1,0\n2,1\n" * 300_000 + b"1,2,3\n")
    peak, found = outcome(path)
    assert "line 1200001: found 3 columns, expected 2" in found
    assert peak < 20 * path.stat().st_size / MEGABYTE


def test_a_model_with_a_class_of_200_kilobytes_is_refused(tmp_path):
    from hashlib import sha256

    import fastnn

    path = tmp_path / "model.safetensors"
    fastnn.save(path, fastnn.Network.initialize((2, 2)), classes=["a", "b"])
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, payload = json.loads(content[8 : 8 + length]), content[8 + length :]
    header["__metadata__"]["classes"] = json.dumps(["a", "b" * 200_000])
    del header["__metadata__"]["sha256"]
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    header["__metadata__"]["sha256"] = sha256(text + payload).hexdigest()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + payload)
    with pytest.raises(fastnn.DataError, match="of 200000 characters, expected at most 1000"):
        fastnn.load(path)
