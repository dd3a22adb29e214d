"""Reads ARFF, the tables of Weka and OpenML, with SciPy."""

import csv
from io import StringIO
from typing import TYPE_CHECKING

from fastnn.datasets.files import (
    MAX_BYTES,
    Source,
    allowance_of,
    check_text_size,
    errors_named,
    read_whole,
    source_name,
)
from fastnn.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def read_arff(source: Source, *, max_bytes: int = MAX_BYTES) -> "pd.DataFrame":
    """Return the table of an ARFF file; nominal values are texts, missing ones NaN or None. Raises DataError."""
    import pandas as pd
    from scipy.io import arff

    name = source_name(source)
    content = read_whole(source, max_bytes)
    check_text_size(content, allowance_of(source), name)
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    limit = csv.field_size_limit()
    with errors_named(name, "an ARFF table of numeric and nominal columns"):
        try:
            rows, header = arff.loadarff(StringIO(text))
        finally:
            csv.field_size_limit(limit)  # SciPy raises that of the whole process
        columns = {key: _texts(rows[key]) if rows[key].dtype.kind == "S" else rows[key] for key in header.names()}
        frame = pd.DataFrame(columns)
    if not len(frame):
        raise DataError(f"{name}: found no rows after @DATA, expected at least one")
    return frame


def _texts(values: "pd.api.extensions.ExtensionArray") -> list[str | None]:
    texts = [value.decode("utf-8", "replace") for value in values]
    return [None if text == "?" else text for text in texts]
