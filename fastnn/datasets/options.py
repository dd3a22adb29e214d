"""`ReadOptions`: what a user says about a data file, for all readers. Each reader uses what concerns its format."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastnn.checks import check_choice, check_number, is_integer
from fastnn.errors import SettingsError

TASKS = ("auto", "classification", "regression")
MISSING = ("refuse", "mean")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user says about data files. The defaults leave everything to the evidence in the file.

    Parameters
    ----------
    label : str, int or None
        The column of the labels of a table: its name, its number from 1, "first", "last", or "none" for a table without
        labels. None: the column is found by its name, or by evidence at both ends of the row.
    drop : sequence of str
        The names of columns to leave out.
    header : bool or None
        Whether line 1 of a table has the names of the columns; None: the line itself decides.
    missing : {"refuse", "mean"}
        What to do with missing values of inputs: refuse the file, or replace them by the mean of their column.
    task : {"auto", "classification", "regression"}
        Whether labels are classes or numbers to predict. "auto": labels are numbers if they have fractions, or so many
        different values that hardly one of them repeats.
    transpose : bool or None
        Whether images are stored with rows and columns exchanged; None: only those of files named ``emnist``.
    pixel_max : float or None
        The largest value that a pixel can have; None: by the data.
    image_shape : (int, int) or None
        Height and width of the image in a row; None: 28 x 28 for 784 columns and 8 x 8 for 64 columns, if
        they are pixels, else none.

    Raises
    ------
    SettingsError
        If an option is out of range.
    """

    label: str | int | None = None
    drop: Sequence[str] = ()
    header: bool | None = None
    missing: str = "refuse"
    task: str = "auto"
    transpose: bool | None = None
    pixel_max: float | None = None
    image_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "drop", (self.drop,) if isinstance(self.drop, str) else tuple(self.drop))
        check_choice("missing", self.missing, MISSING)
        check_choice("task", self.task, TASKS)
        if not (self.label is None or isinstance(self.label, str) or is_integer(self.label)):
            raise SettingsError(f"label is {self.label!r}, expected the name or the number of a column")
        if self.pixel_max is not None:
            check_number("pixel_max", self.pixel_max, above=0)
        if self.image_shape is not None:
            sides = tuple(self.image_shape)
            if len(sides) != 2 or not all(is_integer(side) and side > 0 for side in sides):
                raise SettingsError(f"image_shape is {self.image_shape!r}, expected (height, width)")
            object.__setattr__(self, "image_shape", sides)
