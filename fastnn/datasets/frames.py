"""Reads files of tables into pandas frames: CSV and its relatives, Parquet, Feather, Excel and JSON lines."""

from typing import TYPE_CHECKING, Literal

from fastnn.datasets.files import MAX_BYTES, FilePath
from fastnn.datasets.options import ReadOptions

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["csv", "parquet", "feather", "excel", "json-lines"]


def read_frame(
    path: FilePath,
    options: ReadOptions | None = None,
    *,
    content: bytes | None = None,
    kind: Kind | None = None,
    max_bytes: int = MAX_BYTES,
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
    raise NotImplementedError
