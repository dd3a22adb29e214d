"""Reads tables in svmlight format (of libsvm, too): a label, then ``column:value`` of what is not zero."""

from io import BytesIO

from fastnn.datasets.containers.assemble import Named, dataset_of_arrays
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import MAX_BYTES, Source, errors_named, read_whole, source_name
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.pixels import MAX_SPARSE_SIDE
from fastnn.errors import DataError


def read_svmlight(sources: list[Source], options: ReadOptions, *, max_bytes: int = MAX_BYTES) -> list[Dataset]:
    """Return the data sets of files of one format, with CSR matrices of the same number of columns."""
    from sklearn.datasets import load_svmlight_files

    texts = [read_whole(source, max_bytes) for source in sources]
    where = " and ".join(map(source_name, sources))
    with errors_named(where, "lines of a label and column:value"):
        read = load_svmlight_files([BytesIO(text) for text in texts], zero_based="auto")
    found = []
    for source, rows, labels in zip(sources, read[::2], read[1::2], strict=True):
        name = source_name(source)
        if rows.shape[1] > MAX_SPARSE_SIDE:  # a line can name any column
            raise DataError(f"{name}: found column {rows.shape[1]}, expected at most {MAX_SPARSE_SIDE} columns")
        found.append(dataset_of_arrays(Named(name, rows), Named(f"{name}: labels", labels), options))
    return found
