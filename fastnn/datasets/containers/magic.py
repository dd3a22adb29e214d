"""Recognises the format of a file by its first bytes, and says of every other file what it is and what to do."""

import os
import re
from collections.abc import Iterable
from io import BytesIO
from typing import NamedTuple
from zipfile import ZipFile

from fastnn.datasets.files import Content, FilePath, Source, open_content
from fastnn.errors import DataError, FastnnError

_HEAD = 1024


class Kind(NamedTuple):
    """A format of files. `advice` is "" for formats that the readers of this package take."""

    key: str
    what: str
    advice: str = ""

    def refusal(self, name: str) -> DataError:
        """Return the error that names the format and says what to do."""
        return DataError(f"{name}: found {self.what}: {self.advice}")


_AS_NPZ = "save the arrays as NPZ with numpy.savez(file, X=images, y=labels)"
_AS_FOLDER = "give a folder with one folder of pictures per class, or `fastnn predict MODEL PICTURE`"
_UNPACK = "unpack it first"
_AS_CSV = "save the table as CSV"
_TWICE = Kind("compressed twice", "a file that is compressed twice", _UNPACK)
_PICKLE = Kind("pickle", "a Python pickle", f"loading it could run code, so fastnn does not; {_AS_NPZ}")
_MODEL = "give a model as MODEL, not as data"

NPZ = Kind("NPZ", "an NPZ archive")
NPY = Kind("NPY", "an NPY array")
IDX = Kind("IDX", "an IDX file")
HDF5 = Kind("HDF5", "an HDF5 file", f"open it with fastnn.open_data, or read it with h5py, and {_AS_NPZ}")
MATLAB = Kind("MATLAB", "a MATLAB file")
ARFF = Kind("ARFF", "an ARFF table")
SVMLIGHT = Kind("svmlight", "a table in svmlight format")
PARQUET = Kind("Parquet", "a Parquet table")
FEATHER = Kind("Feather", "a Feather (Arrow) table")
EXCEL = Kind("Excel", "an Excel workbook")
JSON_LINES = Kind("JSON lines", "a table in JSON lines")
CSV = Kind("CSV", "a text file")
ZIP = Kind("zip", "a zip archive")
TAR = Kind("tar", "a tar archive")
PICTURE_KEYS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WebP", "PPM")

_MEDIA = Kind("media", "a sound or video file", _AS_NPZ)
_JSON = Kind("JSON", "a JSON file", _AS_CSV)
_PROGRAM = Kind("program", "a program", "give a data file")
_NUMBER = rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
# Comments, then a line of labels, perhaps a query, and column:value. The line may be longer than what is read.
_SVMLIGHT_LINE = (
    rb"(?:\s*#[^\n]*\n)*\s*%b(?:,\d+)*(?:[ \t]+qid:\d+)?(?:[ \t]+\d+:%b)+(?:\s*(?:#|\n|\r|$)|[ \t]+[\d:.eE+-]*$)"
    % (_NUMBER, _NUMBER)
)
# The first row that matches decides. Patterns match at the start of the file.
_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (rb"PAR1(?![\w,;\s\"])", PARQUET),
    (rb"(?:ARROW1|FEA1)\0", FEATHER),
    (rb"\x93NUMPY", NPY),
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", ZIP),
    (rb"[\s\S]{257}ustar", TAR),
    (rb"MATLAB 7\.3 MAT-file", Kind("MATLAB 7.3", "a MATLAB 7.3 file (HDF5)", "save it with save(..., '-v7')")),
    (rb"MATLAB 5\.0 MAT-file", MATLAB),
    # Version 4: type, rows, columns, whether complex, length of the name, name; numbers of 4 bytes.
    (rb"[\0\x0a\x14\x1e\x28\x32-\x34\x01]\0\0\0(?:[\s\S]{3}\0){2}[\0\x01]\0\0\0[\x02-\x40]\0\0\0[A-Za-z]", MATLAB),
    (rb"(?:%[^\n]*\n|\s)*@relation\b", ARFF),
    (rb"\x89HDF\r\n\x1a\n", HDF5),
    (rb"\x0e\x03\x13\x01", Kind("HDF4", "an HDF4 file", _AS_NPZ)),
    (rb"\x80[\x02-\x05]|[(\]}.\w]*c(?:numpy|copy_reg|copyreg|__builtin__|builtins)[\w.]*\n|\([dl]p[01]\n", _PICKLE),
    (rb"\x89PNG\r\n\x1a\n", Kind("PNG", "a single picture (PNG)", _AS_FOLDER)),
    (rb"\xff\xd8\xff", Kind("JPEG", "a single picture (JPEG)", _AS_FOLDER)),
    (rb"GIF8[79]a", Kind("GIF", "a single picture (GIF)", _AS_FOLDER)),
    (rb"BM[\s\S]{4}\0\0\0\0", Kind("BMP", "a single picture (BMP)", _AS_FOLDER)),
    (rb"II[*+]\0|MM\0[*+]", Kind("TIFF", "a single picture (TIFF)", _AS_FOLDER)),
    (rb"RIFF[\s\S]{4}WEBP", Kind("WebP", "a single picture (WebP)", _AS_FOLDER)),
    (rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s", Kind("PPM", "a single picture (PPM)", _AS_FOLDER)),
    (rb"\0\0\0[\s\S]ftyp(?:hei|mif1|avif)", Kind("HEIC", "a single picture (HEIC or AVIF)", "save it as PNG")),
    (rb"\0\0\x01\0[\x01-\x20]\0", Kind("ICO", "an icon (ICO)", "save it as PNG")),
    (rb"8BPS", Kind("PSD", "a Photoshop picture", "save it as PNG")),
    (rb"\0\0\0[\s\S]ftyp|RIFF[\s\S]{4}(?:AVI |WAVE)|ID3[\x02-\x04]|OggS|fLaC", _MEDIA),
    (rb"\0\0", IDX),
    (rb"SQLite format 3\0", Kind("SQLite", "an SQLite database", f"export the table, or {_AS_CSV}")),
    (rb"%PDF-", Kind("PDF", "a PDF document", _AS_CSV)),
    (rb"%!PS", Kind("PostScript", "a PostScript document", _AS_CSV)),
    (rb"\xd0\xcf\x11\xe0", Kind("OLE", "an old Office document, such as XLS", f"save it as XLSX, or {_AS_CSV}")),
    (rb"version https://git-lfs", Kind("LFS", "a Git LFS pointer, not the file itself", "run `git lfs pull`")),
    (
        rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body)",
        Kind("HTML", "a web page", "the download has probably failed; open the address in a browser"),
    ),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|[a-z]+[ >])", Kind("XML", "an XML file", _AS_CSV)),
    # An object of objects: the columns of a table, as pandas writes them.
    (rb"(?:\xef\xbb\xbf)?\{\s*\"[^\"\n]*\"\s*:\s*\{", _JSON),
    (rb"(?:\xef\xbb\xbf)?\{\s*\"[^\n]*\}\s*\n\s*\{|\{\s*\"[^\n]{%d}" % (_HEAD - 200), JSON_LINES),
    (rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*[\"}]|\[\s*[\[{\"\d-])", _JSON),
    (rb"[\s\S]{3}[\s\S]\0\0\0\0\{\s*\"", Kind("safetensors", "a model file (safetensors)", _MODEL)),
    (rb"\x08[\x01-\x20][\x12\x1a\x22\x3a]", Kind("ONNX", "a model in ONNX or another protobuf file", _MODEL)),
    (rb"GGUF", Kind("GGUF", "a language model (GGUF)", "fastnn takes tables and images")),
    (rb"\x1f\x8b\x08|BZh[1-9]|\xfd7zXZ\0", _TWICE),
    (rb"\x28\xb5\x2f\xfd", Kind("Zstandard", "a Zstandard archive", _UNPACK)),
    (rb"\x04\x22\x4d\x18", Kind("LZ4", "an LZ4 archive", _UNPACK)),
    (rb"7z\xbc\xaf\x27\x1c", Kind("7z", "a 7-Zip archive", _UNPACK)),
    (rb"Rar!\x1a\x07", Kind("RAR", "a RAR archive", _UNPACK)),
    (rb"\x1f[\x9d\xa0]", Kind("compress", "a file of the old program compress (.Z)", _UNPACK)),
    (rb"\x5d\0\0[\s\S]{2}[\xff\0]", Kind("LZMA", "an LZMA archive", _UNPACK)),
    (rb"RD[XAB][23]\n|[XB]\n\0\0\0[\x02\x03]|A\n[23]\n\d+\n", Kind("R", "an R data file", "use write.csv in R")),
    (rb"\$FL[23]@", Kind("SPSS", "an SPSS file", _AS_CSV)),
    (rb"<stata_dta>", Kind("Stata", "a Stata file", _AS_CSV)),
    (rb"Obj\x01", Kind("Avro", "an Avro table", f"save it as Parquet, or {_AS_CSV}")),
    (rb"ORC(?![\w,;\s\"])", Kind("ORC", "an ORC table", f"save it as Parquet, or {_AS_CSV}")),
    (rb"SIMPLE  =", Kind("FITS", "a FITS file", _AS_NPZ)),
    (rb"[\s\S]{128}DICM", Kind("DICOM", "a DICOM picture", "save it as PNG")),
    (rb"\{\\rtf", Kind("RTF", "an RTF document", _AS_CSV)),
    (rb"\x7fELF|MZ[\s\S]\0|\xca\xfe\xba\xbe|[\xcf\xce]\xfa\xed\xfe|\0asm", _PROGRAM),
    (rb"#!\s*/", Kind("script", "a script", "give a data file")),
    (_SVMLIGHT_LINE, SVMLIGHT),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE if b"doctype" in pattern or kind is ARFF else 0), kind)
                  for pattern, kind in _MAGIC)  # fmt: skip
_UNKNOWN = Kind("binary", "binary data of an unknown format", f"give a table or images; {_AS_NPZ}")
_EMPTY = Kind("empty", "an empty file", "expected data")
_TORCH = Kind("PyTorch", "a PyTorch file (pickle)", f"loading it could run code, so fastnn does not; {_AS_NPZ}")
_KERAS = Kind("Keras", "a Keras model", _MODEL)
_OFFICE = Kind("Office", "an Office document", _AS_CSV)
_PACKAGE = Kind("package", "a program package", "give a data file")
# Bytes that text does not contain: control characters except tab, line feed, form feed, carriage return and escape.
_CONTROL = bytes(set(range(32)) - {9, 10, 12, 13, 26, 27})


def kind_of_bytes(head: bytes, name: str = "data") -> Kind:
    """Return the format of (uncompressed) content by its first bytes; 1,024 of them are enough."""
    if not head:
        return _EMPTY
    head = head[:_HEAD]
    for pattern, kind in _PATTERNS:
        if pattern.match(head):
            return kind
    is_text = head[:2] in (b"\xff\xfe", b"\xfe\xff") or len(head.translate(None, _CONTROL)) == len(head)
    return CSV if is_text else _UNKNOWN._replace(what=f"{_UNKNOWN.what} (bytes {head[:4].hex(' ')} at the start)")


def kind_of_zip(names: Iterable[str]) -> Kind:
    """Return the format of a zip archive by the names of its members."""
    names = [name for name in names if not name.endswith("/")]
    last = {name.rsplit("/", 1)[-1] for name in names}
    for found, kind in (
        ("data.pkl" in last, _TORCH),
        ("xl/workbook.xml" in names or "xl/workbook.bin" in names, EXCEL),
        ("[Content_Types].xml" in names or "mimetype" in names, _OFFICE),
        ("model.weights.h5" in names, _KERAS),
        ("META-INF/MANIFEST.MF" in names, _PACKAGE),
        (bool(names) and all(name.endswith(".npy") and "/" not in name for name in names), NPZ),
    ):
        if found:
            return kind
    return ZIP


def kind_of(source: Source) -> Kind:
    """Return the format of a file by its content, after decompression of gzip, bzip2 or xz.

    Raises FileError if the file cannot be opened, DataError if it is empty or its compressed data are damaged.
    """
    with open_content(source) as content:
        kind = kind_of_bytes(content.read(_HEAD), content.name)
        if kind is not ZIP:
            return kind
    with open_content(source) as content:
        return _kind_of_zip_content(content)


def _kind_of_zip_content(content: Content) -> Kind:
    if content.compression:
        return _TWICE
    try:
        with ZipFile(content.raw) as archive:
            return kind_of_zip(member.filename for member in archive.infolist())
    except Exception:  # zipfile raises many kinds of errors for damaged archives, which the readers report
        return NPZ if content.name.endswith(".npz") else ZIP


def describe(source: FilePath | bytes) -> str:
    """Say in a few words what a file is, for messages of readers that expected another one.

    Parameters
    ----------
    source : path, or the first bytes of a file

    Returns
    -------
    str
        Such as "a Parquet table". A file that cannot be opened is described by the reason.

    Examples
    --------
    >>> from fastnn.datasets.containers.magic import describe
    >>> describe(b"PAR1")
    'a Parquet table'
    >>> describe(b"<!DOCTYPE html>")
    'a web page'
    """
    try:
        if isinstance(source, bytes):
            if not source:
                return _EMPTY.what
            with Content(BytesIO(source), "data") as content:
                return kind_of_bytes(content.read(_HEAD)).what
        return "a folder" if os.path.isdir(source) else kind_of(source).what
    except FastnnError as error:
        return _EMPTY.what if "empty file" in str(error) else f"a file that cannot be read ({error})"
