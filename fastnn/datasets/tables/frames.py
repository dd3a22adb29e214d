"""Reads files of tables into pandas frames: CSV and its relatives, Parquet, Feather, Excel and JSON lines."""

import json
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastnn.checks import display_path, short
from fastnn.datasets.files import MAX_BYTES, Allowance, FilePath, allowance_of, check_text_size, read_whole
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pictures.decode import open_picture
from fastnn.datasets.tables.declared import check_feather, check_parquet, check_workbook
from fastnn.datasets.tables.delimited import frame_of_text
from fastnn.datasets.tables.rows import NumberedRows, set_rows
from fastnn.errors import DataError, FastnnError, MissingDependencyError, install_extra

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["csv", "parquet", "feather", "excel", "json-lines"]

_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"PAR1", "parquet"),
    (b"ARROW1", "feather"),
    (b"FEA1", "feather"),
    (b"PK\x03\x04", "excel"),
    (b"\xd0\xcf\x11\xe0", "excel"),
)
_PACKAGES = {"parquet": "pyarrow", "feather": "pyarrow", "excel": "openpyxl"}


def read_frame(
    path: FilePath,
    options: ReadOptions | None = None,
    *,
    content: bytes | None = None,
    kind: Kind | None = None,
    max_bytes: int = MAX_BYTES,
    allowance: Allowance | None = None,
) -> "pd.DataFrame":
    """Return the table of a file as a frame, whose columns are names, or numbers from 0 if the file has no header.

    Parameters
    ----------
    path : path
        The file; its name stands in messages.
    options : ReadOptions, optional
        Only `header` matters here.
    content : bytes, optional
        The content of the file, decompressed. None: it is read from the file, which may be gzipped.
    kind : {"csv", "parquet", "feather", "excel", "json-lines"}, optional
        None: by the first bytes of the content.
    max_bytes : int
        The largest accepted size of the content.
    allowance : Allowance, optional
        What the cells may take in memory: formats other than text declare any number of them in a few bytes. None: that
        of the file, or of the content.

    Returns
    -------
    DataFrame
        Its `attrs` name the lines of the file, for the messages of `dataset_of_frame`.

    Raises
    ------
    DataError
        If the content is no table. The message gives line and column, counted from 1.
    FileError
        If the file cannot be opened.
    MissingDependencyError
        If the format needs a package that is not installed.
    """
    name = display_path(path)
    header = None if options is None else options.header
    if allowance is None:
        allowance = allowance_of(path) if content is None else Allowance(len(content))
    content = read_whole(path, max_bytes) if content is None else content
    if kind is None:
        kind = next((kind for magic, kind in _MAGIC if content.startswith(magic)), None)
        kind = kind or ("json-lines" if content.lstrip().startswith(b"{") else "csv")
    if kind == "csv":
        return frame_of_text(content, name, header)
    if kind == "json-lines":
        return _of_json_lines(content, name, allowance)
    if kind == "excel":
        return _of_excel(content, name, header, allowance)
    if kind == "parquet":
        _read(lambda _: check_parquet(content, name, allowance), kind, name)
        frame = _read(lambda pd: pd.read_parquet(BytesIO(content), engine="pyarrow"), kind, name)
    else:
        _read(lambda _: check_feather(content, name, allowance), kind, name)
        frame = _read(lambda pd: pd.read_feather(BytesIO(content)), kind, name)
    return set_rows(flat_frame(frame.rename(columns=str), name, allowance), NumberedRows())


def _read(reader: Callable[[Any], Any], kind: Kind, name: str) -> Any:
    """Return what pandas reads; raise one clear error for the many kinds that it and its engines raise."""
    import pandas as pd

    try:
        return reader(pd)
    except FastnnError:
        raise
    except ImportError:
        package = _PACKAGES.get(kind, "pandas")
        found = f"{name}: reading {kind} needs {package}, which is not installed"
        raise MissingDependencyError(f"{found}; {install_extra('tables')}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise DataError(f"{name}: cannot be read ({ascii(reason)[1:-1]}), expected an intact {kind} file") from None


def _of_json_lines(content: bytes, name: str, allowance: Allowance) -> "pd.DataFrame":
    """Return a table with one JSON object per line. pandas' own reader turns some numbers into dates by their names."""
    check_text_size(content, allowance, name)
    rows: list[dict[str, Any]] = []
    names: set[str] = set()
    for number, line in enumerate(BytesIO(content), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = ascii(str(error)[:80])[1:-1]
            raise DataError(f"{name}: line {number}: cannot be read ({reason}), expected an object of JSON") from None
        if not isinstance(row, dict):
            raise DataError(f"{name}: line {number}: found {short(row)}, expected an object of JSON")
        rows.append(row)
        names.update(row)
        if 8 * len(rows) * len(names) > allowance.left:  # a table of so many cells would be empty for the most part
            raise allowance.exceeded(name, f"{len(names)} different names in the first {len(rows)} rows")
    return set_rows(
        flat_frame(_read(lambda pd: pd.DataFrame(rows), "json-lines", name), name, allowance), NumberedRows()
    )


def _of_excel(content: bytes, name: str, header: bool | None, allowance: Allowance) -> "pd.DataFrame":
    """Return the first sheet that has cells. Its first row is the header unless one of its cells is a number."""
    import pandas as pd

    _read(lambda _: check_workbook(content, name, allowance), "excel", name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # openpyxl warns of styles and links that it leaves out
        sheets = _read(lambda _: pd.read_excel(BytesIO(content), sheet_name=None, header=None), "excel", name)
    filled = [title for title, sheet in sheets.items() if len(sheet)]
    if not filled:
        raise DataError(f"{name}: found no cells, expected a table")
    frame = sheets[filled[0]]
    notes = [f"sheet {filled[0]!a} read; not used: {', '.join(map(ascii, filled[1:]))}"] if filled[1:] else []
    empty = int(frame.notna().any(axis=1).to_numpy().argmax())  # rows above the table
    frame = frame.iloc[empty:].dropna(axis=1, how="all")
    first = frame.iloc[0].tolist()
    if header is None:
        header = not any(isinstance(cell, (int, float)) and cell == cell for cell in first)
    if header:
        frame = frame.iloc[1:]
        frame.columns = ["" if cell != cell else str(cell).strip() for cell in first]
    else:
        frame.columns = pd.RangeIndex(frame.shape[1])
    frame = frame.dropna(how="all").reset_index(drop=True).infer_objects()
    return set_rows(frame, NumberedRows(empty + 1 + int(header)), notes)


def flat_frame(frame: "pd.DataFrame", name: str, allowance: Allowance) -> "pd.DataFrame":
    """Replace columns of lists by one column for each number, and columns of pictures by their pixels.

    `allowance` is what the pixels may take. Raises DataError for lists or pictures of several sizes.
    """
    import pandas as pd

    parts: list[pd.DataFrame] = []
    for position, column in enumerate(frame.columns):
        values = frame.iloc[:, position]
        first = next((value for value in values if value is not None), None) if values.dtype == object else None
        if isinstance(first, (dict, bytes)):
            pixels = _pixels(values, f"{name}: column {position + 1} ({column[:60]!a})", allowance)
            columns = pd.MultiIndex.from_product([range(pixels.shape[1]), range(pixels.shape[2])])
            names = [f"pixel_{row}_{column}" for row, column in columns]
            parts.append(pd.DataFrame(pixels.reshape(len(pixels), -1), columns=names))
        elif isinstance(first, (list, tuple, np.ndarray)):
            parts.append(_numbers(values, str(column), f"{name}: column {position + 1} ({column[:60]!a})"))
        else:
            parts.append(frame.iloc[:, [position]].reset_index(drop=True))
    return pd.concat(parts, axis=1)


def _numbers(values: "pd.Series", column: str, where: str) -> "pd.DataFrame":
    """Return a column of lists of numbers, all of one length, as columns of a frame."""
    import pandas as pd

    rows: list[np.ndarray] = []
    for row, value in enumerate(values, 1):
        try:
            numbers = np.asarray(value.tolist() if isinstance(value, np.ndarray) else value, np.float64).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{where}, row {row}: found a list that is not of numbers, expected numbers") from None
        if not len(numbers):
            raise DataError(f"{where}, row {row}: found an empty list, expected numbers")
        if rows and len(numbers) != len(rows[0]):
            raise DataError(f"{where}, row {row}: found {len(numbers)} numbers, expected {len(rows[0])} as in row 1")
        rows.append(numbers)
    array = np.stack(rows)
    if (np.floor(array) == array).all() and array.min() >= 0 and array.max() <= np.iinfo(np.uint8).max:
        array = array.astype(np.uint8)
    return pd.DataFrame(array, columns=[f"{column}_{number}" for number in range(array.shape[1])])


def _pixels(values: "pd.Series", where: str, allowance: Allowance) -> np.ndarray:
    """Return a column of encoded pictures, all of one size, as grey pixels (N, height, width)."""
    pictures: list[np.ndarray] = []
    for row, value in enumerate(values, 1):
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise DataError(f"{where}, row {row}: found {type(data).__name__}, expected the bytes of a picture")
        place = f"{where}, row {row}"
        with open_picture(BytesIO(data), place) as picture:
            allowance.take(picture.width * picture.height, place)
            pixels = np.asarray(picture.convert("L"))
        if pictures and pixels.shape != pictures[0].shape:
            sizes = [" x ".join(map(str, each)) for each in (pixels.shape, pictures[0].shape)]
            raise DataError(f"{where}, row {row}: found a picture of {sizes[0]} pixels, expected {sizes[1]} as row 1")
        pictures.append(pixels)
    return np.stack(pictures)
