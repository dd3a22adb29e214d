"""Reads tables of delimited text, such as MNIST in CSV. Each line has the inputs of a sample and its label."""

from typing import Any, Literal

from fastnn.checks import check_choice, check_integer, display_path
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.files import MAX_BYTES, FilePath
from fastnn.datasets.options import ReadOptions
from fastnn.datasets.tables.frames import read_frame
from fastnn.datasets.tables.table import dataset_of_frame
from fastnn.errors import SettingsError

Header = Literal["auto", "yes", "no"]
Labels = Literal["auto", "first", "last", "none"]

_HEADERS = {"auto": None, "yes": True, "no": False}


def read_csv(
    path: FilePath,
    *,
    header: Header | bool | None = "auto",
    labels: Labels = "auto",
    n_pixels: int | None = None,
    max_bytes: int = MAX_BYTES,
    **options: Any,
) -> Dataset:
    """Read a table of delimited text. What is not told is found in the text, and `Dataset.notes` says what was found.

    - Fields are separated by commas, semicolons, tabs, bars or any number of spaces. They may have quotation marks.
    - Numbers may have decimal commas if commas do not separate fields.
    - The text is UTF-8, UTF-16 or Windows-1252, with any line ends, gzipped or not. Blank lines and comment lines
      (``#``, ``%``) are left out; a comment line above the data may be the header.
    - Columns of row numbers and ids are left out: those named index, id, ``*_id`` or not at all, and those that count
      the rows from 0 or 1.

    Parameters
    ----------
    path : path
    header : {"auto", "yes", "no"} or bool
        Whether line 1 contains the names of the columns. "auto": it does if none of its fields is a number.
    labels : {"auto", "first", "last", "none"}
        The column of the labels; `label` takes any other one. "auto": the column named label, class, target or the
        like (species, digit, diagnosis, ...), else the column at either end of the row that holds few different whole
        numbers, each of them often, unlike the other columns, or the only texts. If neither tells, an error asks for
        `label`. A table of 784 or 64 numbers without names has no labels.
    n_pixels : int, optional
        The number of inputs that a row must have.
    max_bytes : int
        The largest accepted size of the file, decompressed.
    **options
        Those of `ReadOptions`:

        - label : str or int, the column of the labels, by its name or by its number from 1
        - drop : sequence of str, columns to leave out
        - missing : {"refuse", "mean"}, what to do with missing inputs; missing labels are always refused
        - task : {"auto", "classification", "regression"}, whether labels are classes or numbers. "auto": numbers if
          they have fractions, or if there are more than 20 different ones that stand in fewer than 5 rows each on
          average (10, in fewer than 2 rows), or more than 50 that do not begin at 0 or 1
        - pixel_max : float, the largest value a pixel can have
        - image_shape : (int, int), height and width of the image in a row

    Returns
    -------
    Dataset
        - images: (N, D), uint8 if the columns are pixels from 0 to 255: rows of 784 or 64 of them, columns named like
          pixels, or 100 and more columns of such numbers. Otherwise float32, or float64 if float32 loses digits.
        - labels: (N,) int64, with `classes` if they are texts or do not begin at 0; (N, 1) float64 for numbers to
          predict; or None
        - image_shape: that of the option, of 784 pixels (28 x 28), of 64 (8 x 8), or of names such as 1x1; else None
        - feature_names: the names in the header, unless the columns are images

    Raises
    ------
    DataError
        If the table is invalid. The message gives line and column, counted from 1.
    FileError
        If the file cannot be opened.
    SettingsError
        If an argument is invalid, or arguments contradict each other.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import fastnn
    >>> with TemporaryDirectory() as folder:
    ...     with open(f"{folder}/flowers.csv", "w") as file:
    ...         _ = file.write("petal length;species\\n1,5;setosa\\n4,5;versicolor\\n6,0;virginica\\n")
    ...     data = fastnn.read_csv(f"{folder}/flowers.csv")
    >>> data.images.tolist(), data.labels, data.classes
    ([[1.5], [4.5], [6.0]], array([0, 1, 2]), ('setosa', 'versicolor', 'virginica'))
    >>> data.notes
    ("labels: column 2 ('species'), 3 classes",)
    """
    if not isinstance(header, bool) and header is not None:
        header = _HEADERS[check_choice("header", header, tuple(_HEADERS))]
    check_choice("labels", labels, ("auto", "first", "last", "none"))
    if labels != "auto":
        if options.get("label") is not None:
            raise SettingsError(f"labels is {labels!r} and label is {options['label']!r}, expected one of the two")
        options["label"] = labels
    told = ReadOptions(header=header, **options)
    if n_pixels is not None:
        check_integer("n_pixels", n_pixels, 1)
    if told.image_shape is not None:
        height, width = told.image_shape
        if n_pixels not in (None, height * width):
            expected = f"{height * width} because image_shape is {told.image_shape}"
            raise SettingsError(f"n_pixels is {n_pixels}, expected {expected}")
        n_pixels = height * width
    frame = read_frame(path, told, kind="csv", max_bytes=max_bytes)
    return dataset_of_frame(frame, display_path(path), told, n_inputs=n_pixels)
