"""Converts pictures of single digits to the format of MNIST: 28 x 28 pixels, light on black, centred."""

import os
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.files import FilePath, Source, open_source, source_name
from fastnn.datasets.pictures.decode import open_picture, picture_errors
from fastnn.datasets.pictures.grey import grey_of_array, grey_of_picture
from fastnn.datasets.pictures.ink import find_digits, fit_ink
from fastnn.errors import DataError, SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image


def prepare_image(image: "FilePath | Image | np.ndarray", *, invert: Literal["auto"] | bool = "auto") -> np.ndarray:
    """Convert a picture of one digit to a row of pixels like MNIST's.

    The last two steps are those of MNIST:

    1. Apply the orientation stored by the camera, put transparent strokes on a contrasting ground, and convert the
       picture to grey. If ink and paper are equally bright, their colours are compared.
    2. Separate the ink from the paper, its lines and boxes, shadows, tables, thumbs and the edges of scans. Stretch the
       contrast.
    3. Scale the ink to fit in 20 x 20 pixels, with anti-aliasing, preserving its aspect ratio.
    4. Put its centre of mass at the centre of 28 x 28 pixels.

    Parameters
    ----------
    image : path, PIL image, or ndarray
        Arrays have shape (height, width), (1, height, width), or (height, width, channels) with 1 (grey), 2 (grey and
        opacity), 3 (RGB) or 4 (RGBA) channels, or they are one row of a square image, such as (784,). They contain
        integers from 0 to 255, uint16 from 0 to 65535, floats from 0 to 1, from -1 to 1 or from 0 to 255, or booleans
        (True is light).
    invert : {"auto", True, False}
        True: the digit is dark on a light background, as on paper. False: it is light on dark, as in MNIST. "auto": it
        is dark or light, whichever differs more from the background in total.

    Returns
    -------
    ndarray of shape (784,) uint8
        The background is 0, and the strongest ink is 255.

    Raises
    ------
    DataError
        If the file is not a picture, the picture is too large, the array is invalid, there is no ink, there are
        several digits, or no mark can be a digit.
    FileError
        If the file cannot be opened.
    SettingsError
        If an argument is invalid.

    See Also
    --------
    prepare_images : For a picture of several digits.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition. Proceedings of
    the IEEE 86 (1998), section III.A.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> paper = np.full((100, 80), 255, np.uint8)
    >>> paper[10:90, 38:44] = 40  # a vertical stroke: the digit 1
    >>> row = fastnn.prepare_image(paper)
    >>> row.shape, int(row.max())
    ((784,), 255)
    """
    name, digits = _read_digits(image, invert)
    if len(digits) > 1:
        advice = "one digit; for several, use prepare_images, or --many on the command line"
        raise DataError(f"{name}: found {len(digits)} marks of similar size, expected {advice}")
    return fit_ink(digits[0])


def prepare_images(image: "FilePath | Image | np.ndarray", *, invert: Literal["auto"] | bool = "auto") -> np.ndarray:
    """Convert a picture of several digits to rows of pixels like MNIST's, one for each digit.

    The digits must not touch each other. Parts of broken strokes are joined if they are close to each other or above
    each other. For the arguments, the steps and the errors, see `prepare_image`.

    Parameters
    ----------
    image : path, PIL image, or ndarray
        The picture.
    invert : {"auto", True, False}
        Whether the digits are darker than the background.

    Returns
    -------
    ndarray of shape (digits, 784) uint8
        The digits from left to right. If they stand in several rows, from top to bottom.

    Raises
    ------
    DataError
        If `prepare_image` would raise it, except for several digits.
    FileError
        If the file cannot be opened.
    SettingsError
        If an argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> import fastnn
    >>> paper = np.full((100, 160), 255, np.uint8)
    >>> paper[10:90, 40:46] = 40
    >>> paper[14:88, 110:117] = 40
    >>> fastnn.prepare_images(paper).shape
    (2, 784)
    """
    return np.stack([fit_ink(ink) for ink in _read_digits(image, invert)[1]])


def _read_digits(
    image: "FilePath | Image | np.ndarray", invert: Literal["auto"] | bool
) -> tuple[str, list[np.ndarray]]:  # fmt: skip
    """Return the name of the picture and the ink of each of its digits, at least one."""
    if not (isinstance(invert, bool) or invert == "auto"):
        raise SettingsError(f'invert is {invert!r}, expected "auto", True or False')
    name, grey = grey_of(image)
    digits = find_digits(grey, invert)
    if digits is None:
        raise DataError(f"{name}: no ink: found nothing that stands out from the background, expected a digit")
    if not digits:
        expected = "a digit with free space around it"
        raise DataError(f"{name}: cannot find one digit: all marks are at the border or too wide, expected {expected}")
    return name, digits


def grey_of(image: "FilePath | Image | np.ndarray") -> tuple[str, np.ndarray]:
    """Return the name of a picture for messages, and the picture in grey: (height, width) float32, from 0 to 255.

    Raises DataError and FileError as `prepare_image` does, and SettingsError for anything but a picture.
    """
    if isinstance(image, np.ndarray):
        return "image", grey_of_array(image, "image")
    if isinstance(image, str | os.PathLike):
        return display_path(image), read_grey(image)
    from PIL.Image import Image

    if not isinstance(image, Image):
        raise SettingsError(f"image is of type {type(image).__name__}, expected a path, a PIL image or an ndarray")
    with picture_errors("image"):  # the picture may be a file that is not decoded yet
        return "image", grey_of_picture(image, "image")


def read_grey(source: Source) -> np.ndarray:
    """Return the picture in a file in grey: (height, width) float32, from 0 to 255. Raises DataError, FileError."""
    name = source_name(source)
    with open_source(source) as file, open_picture(file, name) as picture:
        return grey_of_picture(picture, name)
