"""Reads ranges of the rows of Parquet and Arrow files: columns of numbers, of lists of numbers, and of pictures."""

import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.arrays import LONGEST_NAME
from fastnn.datasets.files import Allowance, FilePath, errors_named, open_binary
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pictures.decode import open_picture
from fastnn.datasets.tables.frames import flat_frame
from fastnn.datasets.tables.rows import NumberedRows, set_rows
from fastnn.errors import DataError, needs_extra
from fastnn.streams.content import RandomBytes
from fastnn.streams.reader import Reader
from fastnn.streams.tables import Plan, plan_of

_SAMPLE_ROWS = 1000
_CELL_BYTES = 8


class _ArrowReader(Reader):
    """The rows of a table whose parts can be read alone: row groups or record batches.

    Parameters
    ----------
    path : path
    """

    is_text = False

    def __init__(self, path: FilePath) -> None:
        self._path = os.fspath(path)
        self.name = display_path(path)
        with open_binary(path) as file:
            self._stored = file.seek(0, os.SEEK_END)
        with errors_named(self.name, "an intact file of the format"):
            self._names, lengths = self._open()
        self._places = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).tolist()
        self.n_rows = self._places[-1]
        self._columns: tuple[tuple[str, int], ...] = ()

    def cuts(self, block_rows: int) -> Sequence[int] | None:
        """Return the rows where parts begin."""
        return self._places

    def fingerprint(self) -> bytes:
        """Return that of the file."""
        return RandomBytes(self._path).fingerprint()

    def plan(self, plan: Plan | None, options: ReadOptions) -> Plan:
        """Take over the plan of the first file, or make it from the first rows. Raises DataError."""
        table = self._table(0, min(self.n_rows, _SAMPLE_ROWS), self._names)
        frame = set_rows(
            flat_frame(table.to_pandas(ignore_metadata=True).rename(columns=str), self.name, Allowance(self._stored)),
            NumberedRows(),
        )
        if plan is None:
            plan = plan_of(frame, self.name, options)
        plan.check_columns(list(frame.columns), frame.shape[1], self.name)
        # Lists and pictures are several columns of the frame.
        widths = [_width(table.column(name)) for name in self._names]
        ends = np.cumsum(widths)
        chosen = set(plan.inputs)
        self._inputs: list[tuple[str, np.ndarray]] = []
        for name, end, width in zip(self._names, ends, widths, strict=True):
            own = np.array([at for at in range(width) if end - width + at in chosen], np.int64)
            if len(own):
                self._inputs.append((name, own))
        self._label = None if plan.label is None else self._names[int(np.searchsorted(ends, plan.label, "right"))]
        columns = [(table.column(name), f"{self.name}: column {name[:60]!a}") for name, _ in self._inputs]
        self._dtype = np.result_type(*(_dtype(*each) for each in columns))
        self.has_labels, self.notes = plan.label is not None, plan.notes
        self.layout, self.feature_names = plan.layout._replace(stored=self._dtype), plan.feature_names
        return plan

    def read(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return the inputs (n, D) and the labels. Raises DataError with the row."""
        names = [name for name, _ in self._inputs]
        table = self._table(start, stop, names if self._label is None else [*names, self._label])
        n_inputs = sum(len(own) for _, own in self._inputs)
        values = np.empty((stop - start, n_inputs), self._dtype)
        at = 0
        for name, own in self._inputs:
            column = _numbers(table.column(name), f"{self.name}: column {name[:60]!a}", start)
            values[:, at : at + len(own)] = column if column.shape[1] == len(own) else column[:, own]
            at += len(own)
        return values, None if self._label is None else self._labels_of(table, start)

    def read_labels(self, start: int, stop: int) -> Any:
        """Return the labels without reading the inputs."""
        return self._labels_of(self._table(start, stop, [self._label]), start)

    def _labels_of(self, table: Any, start: int) -> Any:
        return _plain(table.column(self._label), f"{self.name}: column {str(self._label)[:60]!a}", start)

    def _table(self, start: int, stop: int, names: Sequence[str | None]) -> Any:
        """Return rows of these columns as a table of Arrow, whose texts are dictionaries."""
        import pyarrow as pa

        if (stop - start) * len(names) * _CELL_BYTES > Allowance(self._stored).left:
            raise Allowance(self._stored).exceeded(self.name, f"{stop - start} rows of {len(names)} columns")
        first, last = (int(np.searchsorted(self._places, place, "right")) - 1 for place in (start, stop - 1))
        at, n_bytes, kept = self._places[first], 0, []
        with errors_named(f"{self.name}, rows {start} to {stop - 1} (from 0)", "intact data"):
            for batch in self._batches(range(first, last + 1), list(names), stop - start):
                if (n_bytes := n_bytes + batch.nbytes) > Allowance(self._stored).left:
                    raise Allowance(self._stored).exceeded(self.name, f"{n_bytes} bytes after decompression")
                own = slice(max(0, start - at), max(0, stop - at))
                if own.start < batch.num_rows and own.stop > own.start:
                    kept.append(batch.slice(own.start, min(own.stop, batch.num_rows) - own.start))
                at += batch.num_rows
                if at >= stop:
                    break
            table = pa.Table.from_batches(kept)
            table.validate(full=True)
        if table.num_rows != stop - start:
            raise DataError(f"{self.name}: found {table.num_rows} rows, expected {stop - start}")
        return table

    @abstractmethod
    def _open(self) -> tuple[list[str], list[int]]:
        """Return the names of the columns, and the number of rows of each part."""

    @abstractmethod
    def _batches(self, parts: range, names: list[str | None], n_rows: int) -> Iterator[Any]:
        """Yield the rows of these parts in batches, from the first row of the first part on."""


class ParquetReader(_ArrowReader):
    """The rows of a Parquet file, by row groups."""

    def _open(self) -> tuple[list[str], list[int]]:
        with self._file() as file:
            metadata, schema = file.metadata, file.metadata.schema
            texts = [
                each
                for each in range(metadata.num_columns)
                if schema.column(each).physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
            ]
            # pyarrow keeps dictionaries of whole columns, but not of those in structures.
            self._texts = [schema.column(each).path for each in texts if "." not in schema.column(each).path]
            groups = [metadata.row_group(each) for each in range(metadata.num_row_groups)]
            # A dictionary can repeat its longest value in each row. Few rows at a time bound what that takes.
            longest = max((group.column(each).total_uncompressed_size for group in groups for each in texts), default=1)
            self._batch_rows = max(1, min(2**16, Allowance(self._stored).left // max(1, longest)))
            return list(file.schema_arrow.names), [group.num_rows for group in groups]

    def _batches(self, parts: range, names: list[str | None], n_rows: int) -> Iterator[Any]:
        with self._file(read_dictionary=self._texts) as file:
            size = min(n_rows, self._batch_rows)
            yield from file.iter_batches(batch_size=size, row_groups=list(parts), columns=names, use_threads=False)

    def _file(self, **options: Any) -> Any:
        return _pyarrow("parquet").ParquetFile(self._path, memory_map=False, **options)


class IpcReader(_ArrowReader):
    """The rows of a file in Arrow's IPC format (Feather), by record batches."""

    def _open(self) -> tuple[list[str], list[int]]:
        with _pyarrow("ipc").open_file(self._path) as file:
            names = list(file.schema.names)
            narrow = min(range(len(names)), key=lambda each: _bit_width(file.schema.field(each).type))
        return names, [batch.num_rows for batch in self._batches(None, [names[narrow]], 0)]

    def _batches(self, parts: range | None, names: list[str | None], n_rows: int) -> Iterator[Any]:
        import pyarrow as pa

        with pa.OSFile(self._path) as source:
            schema = pa.ipc.open_file(source).schema
            options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in names])
            file = pa.ipc.open_file(source, options=options)
            for part in range(file.num_record_batches) if parts is None else parts:
                yield file.get_batch(part)


def arrow_readers(make: type[_ArrowReader], paths: Sequence[FilePath], options: ReadOptions) -> list[Reader]:
    """Return the rows of Parquet or Arrow files, all with the columns of the first one. Raises DataError."""
    readers = [reader for reader in map(make, paths) if reader.n_rows]
    plan: Plan | None = None
    for reader in readers:
        plan = reader.plan(plan, options)
    return list(readers)


def _pyarrow(part: str) -> Any:
    with needs_extra("reading Parquet and Arrow needs pyarrow", "streams"):
        import pyarrow
        from pyarrow import ipc, parquet
    return {"ipc": ipc, "parquet": parquet, "": pyarrow}[part]


def _bit_width(kind: Any) -> int:
    try:
        return int(kind.bit_width)
    except ValueError:  # texts, lists and structures
        return 2**31


def _combined(column: Any) -> Any:
    """Return a chunked array as one array."""
    import pyarrow as pa

    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _width(column: Any) -> int:
    """Return the number of inputs that a column becomes, by its first value."""
    import pyarrow.types as kinds

    array = _combined(column.slice(0, 1))
    if _is_list(array.type):
        return len(array[0])
    if kinds.is_struct(array.type) or kinds.is_binary(_value_type(array.type)):
        picture = next(_pictures(array, "", 0))
        return int(picture.size)
    return 1


def _value_type(kind: Any) -> Any:
    import pyarrow.types as kinds

    return kind.value_type if kinds.is_dictionary(kind) else kind


def _is_list(kind: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def _dtype(column: Any, where: str) -> np.dtype:
    """Return the dtype of NumPy for a column of numbers, lists or pictures."""
    import pyarrow.types as kinds

    kind = column.type.value_type if _is_list(column.type) else column.type
    if kinds.is_struct(kind) or kinds.is_binary(_value_type(kind)) or kinds.is_boolean(kind):
        return np.dtype(np.uint8)
    if not (kinds.is_integer(kind) or kinds.is_floating(kind)):
        raise DataError(f"{where}: found values of type {str(kind)[:60]}, expected numbers")
    return np.dtype(kind.to_pandas_dtype())


def _numbers(column: Any, where: str, start: int) -> np.ndarray:
    """Return a column as numbers (n, width). Raises DataError with the row."""
    import pyarrow as pa
    import pyarrow.types as kinds

    array = _combined(column)
    if kinds.is_struct(array.type) or kinds.is_binary(_value_type(array.type)):
        return _grey(array, where, start)
    if array.null_count:
        row = start + array.is_null().to_pylist().index(True)
        raise DataError(f"{where}, row {row} (from 0): found a missing value, expected one in each row")
    values = array
    width = 1
    if _is_list(array.type):
        lengths = np.asarray(pa.compute.list_value_length(array))
        width = int(lengths[0])
        if (lengths != width).any():
            row = int((lengths != width).argmax())
            found = f"{lengths[row]} numbers"
            raise DataError(f"{where}, row {start + row} (from 0): found {found}, expected {width} as in the first row")
        values = array.flatten()
        if values.null_count:
            row = start + values.is_null().to_pylist().index(True) // max(1, width)
            raise DataError(f"{where}, row {row} (from 0): found a missing value, expected numbers")
    kind = values.type
    if kinds.is_boolean(kind):
        return values.to_numpy(zero_copy_only=False).astype(np.uint8).reshape(-1, width)
    if not (kinds.is_integer(kind) or kinds.is_floating(kind)):
        raise DataError(f"{where}: found values of type {str(kind)[:60]}, expected numbers")
    return values.to_numpy(zero_copy_only=False).reshape(-1, width)


def _plain(column: Any, where: str, start: int) -> np.ndarray:
    """Return a column of labels as numbers, or texts (n,) object. Raises DataError with the row."""
    import pyarrow.types as kinds

    array = _combined(column)
    if array.null_count:
        row = start + array.is_null().to_pylist().index(True)
        raise DataError(f"{where}, row {row} (from 0): found a missing label, expected one in each row")
    if not kinds.is_dictionary(array.type):
        if kinds.is_string(array.type) or kinds.is_large_string(array.type):
            array = array.dictionary_encode()
        else:
            return _numbers(column, where, start)
    texts = array.dictionary
    longest = max((len(text.as_py()) for text in texts), default=0)
    if longest > LONGEST_NAME:
        raise DataError(f"{where}: found a label of {longest} characters, expected at most {LONGEST_NAME}")
    return np.array(texts.to_pylist(), object)[array.indices.to_numpy(zero_copy_only=False)]


def _grey(array: Any, where: str, start: int) -> np.ndarray:
    """Return pictures as grey rows (n, height * width) uint8; all must have one size. Raises DataError with the row."""
    rows = None
    shape: tuple[int, ...] = ()
    for number, picture in enumerate(_pictures(array, where, start)):
        if rows is None:
            rows, shape = np.empty((len(array), picture.size), np.uint8), picture.shape
        if picture.shape != shape:
            sizes = [" x ".join(map(str, each)) for each in (picture.shape, shape)]
            place = f"{where}, row {start + number} (from 0)"
            raise DataError(f"{place}: found a picture of {sizes[0]} pixels, expected {sizes[1]} as before")
        rows[number] = picture.reshape(-1)
    return np.zeros((0, 0), np.uint8) if rows is None else rows


def _pictures(array: Any, where: str, start: int) -> Iterator[np.ndarray]:
    """Yield the pictures of a column of bytes, or of structures with bytes, in grey."""
    import pyarrow.types as kinds

    if kinds.is_struct(array.type):
        if array.type.get_field_index("bytes") < 0:
            raise DataError(f"{where}: found structures without bytes, expected pictures as {{bytes, path}}")
        array = array.field("bytes") if not array.null_count else array.flatten()[array.type.get_field_index("bytes")]
    for number, value in enumerate(array):
        data = value.as_py()
        place = f"{where}, row {start + number} (from 0)"
        if not isinstance(data, bytes):
            raise DataError(f"{place}: found a missing picture, expected the bytes of one")
        with open_picture(BytesIO(data), place) as picture:
            yield np.asarray(picture.convert("L"))
