"""Checks how many cells Excel, Parquet and Feather files declare, before they are read as frames."""

import re
from io import BytesIO
from typing import Any
from xml.parsers import expat
from zipfile import ZipFile, ZipInfo

from fastnn.datasets.files import Allowance
from fastnn.errors import DataError

_CELL_BYTES = 8
_CHUNK = 2**18
# The parts of a workbook besides sheets and texts, such as styles, of which openpyxl makes an object for each entry.
_MAX_OTHER_PARTS = 2**22
_REFERENCE = re.compile(r"([A-Za-z]{1,4})\d*")


def check_workbook(content: bytes, name: str, allowance: Allowance) -> None:
    """Raise DataError if an Excel workbook has too many bytes after decompression, or too many cells.

    A sheet with one cell in its last row and column has 17 billion cells for pandas.
    """
    with ZipFile(BytesIO(content)) as archive:
        parts = [part for part in archive.infolist() if part.filename.lower().endswith((".xml", ".rels", ".vml"))]
        total = sum(part.file_size for part in parts)
        if total > allowance.left:
            raise allowance.exceeded(name, f"a workbook of {total} bytes after decompression")
        others = 0
        for part in parts:
            if part.filename.lower().endswith("sharedstrings.xml"):
                continue
            rows, columns = _extent(archive, part) if part.filename.lower().endswith(".xml") else (0, 0)
            others += part.file_size * (not columns)
            if rows * columns * _CELL_BYTES > allowance.left:
                raise allowance.exceeded(name, f"a sheet that declares {rows} rows of {columns} cells")
            allowance.take(rows * columns * _CELL_BYTES, name)
        if others > _MAX_OTHER_PARTS:
            found = f"{others} bytes of styles and the like"
            raise DataError(f"{name}: found {found}, expected at most {_MAX_OTHER_PARTS}; save the table as CSV")


def _extent(archive: ZipFile, sheet: ZipInfo) -> tuple[int, int]:
    """Return the numbers of rows and columns of a sheet, by its last row and its last cell; 0 for other parts."""
    row = rows = column = columns = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal row, rows, column, columns
        kind = tag.rsplit(":", 1)[-1]
        if kind == "row":
            row = int(attributes.get("r", row + 1))
            rows, column = max(rows, row), 0
        elif kind == "c":
            match = _REFERENCE.match(attributes.get("r", ""))
            column = _column_number(match[1]) if match else column + 1
            columns = max(columns, column)

    def refuse(*_: Any) -> None:
        raise ValueError("the sheet declares a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse  # entities could multiply its size
    with archive.open(sheet) as file:
        while chunk := file.read(_CHUNK):
            parser.Parse(chunk)
        parser.Parse(b"", True)
    return rows, columns


def _column_number(letters: str) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def check_parquet(content: bytes, name: str, allowance: Allowance) -> None:
    """Raise DataError if a Parquet file declares too many cells, or too many bytes of texts and pictures.

    Its encodings repeat a value any number of times. The lengths of texts are added up while they are still encoded.
    """
    import pyarrow.compute as pc
    from pyarrow import parquet

    declared = parquet.ParquetFile(BytesIO(content)).metadata
    size = sum(declared.row_group(group).total_byte_size for group in range(declared.num_row_groups))
    cells = declared.num_rows * max(1, declared.num_columns)
    if max(size, cells * _CELL_BYTES) > allowance.left:
        found = f"{declared.num_rows} rows of {declared.num_columns} columns, {size} bytes after decompression"
        raise allowance.exceeded(name, found)
    schema = declared.schema
    texts = [
        schema.column(each).path
        for each in range(declared.num_columns)
        if schema.column(each).physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
    ]
    if not texts:
        return
    file = parquet.ParquetFile(BytesIO(content), read_dictionary=texts)
    for batch in file.iter_batches(columns=texts):
        for column in _leaves(batch.columns):
            if hasattr(column, "dictionary"):
                lengths = pc.fill_null(pc.binary_length(column.dictionary).take(column.indices), 0)
                allowance.take(pc.sum(lengths).as_py() or 0, name)
            else:
                allowance.take(column.nbytes, name)


def check_feather(content: bytes, name: str, allowance: Allowance) -> None:
    """Raise an error if a Feather file has too many bytes after decompression, or offsets outside of its data.

    pyarrow does not look at the offsets of texts before they are used.
    """
    from pyarrow import feather, ipc

    if not content.startswith(b"ARROW1"):  # version 1 has no compression
        feather.read_table(BytesIO(content)).validate(full=True)
        return
    file = ipc.open_file(BytesIO(content))
    for number in range(file.num_record_batches):
        batch = file.get_batch(number)
        batch.validate(full=True)
        allowance.take(batch.nbytes, name)


def _leaves(columns: list[Any]) -> list[Any]:
    """Return the arrays of values in columns of structures and lists."""
    found = []
    for column in columns:
        if hasattr(column, "dictionary") or not hasattr(column, "flatten") or not column.type.num_fields:
            found.append(column)
        else:
            flat = column.flatten()
            found += _leaves(flat if isinstance(flat, list) else [flat])
    return found
