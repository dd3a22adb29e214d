"""Converts pictures of single digits to the format of MNIST: 28 x 28 pixels, light on black, centred."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.files import FilePath, Source, open_source, source_name
from fastnn.datasets.ink import find_digits, fit_ink
from fastnn.errors import DataError, SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

# Common picture formats whose decoders run no external program.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_EXIF_ORIENTATION = 0x0112
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def prepare_image(image: "FilePath | Image | np.ndarray", *, invert: Literal["auto"] | bool = "auto") -> np.ndarray:
    """Convert a picture of one digit to a row of pixels like MNIST's.

    The last two steps are those of MNIST:

    1. Apply the orientation stored by the camera, blend transparency with white, and convert the picture to grey.
    2. Subtract the background and stretch the contrast. What remains is the ink.
    3. Scale the ink to fit in 20 x 20 pixels, with anti-aliasing, preserving its aspect ratio.
    4. Put its centre of mass at the centre of 28 x 28 pixels.

    Parameters
    ----------
    image : path, PIL image, or ndarray
        Arrays have shape (height, width), (height, width, 1), (height, width, 3) or (height, width, 4). They contain
        integers from 0 to 255, floats from 0 to 1 or from 0 to 255, or booleans (True is light).
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
        If the file is not a picture, the picture is too large, the array is invalid, or there is no ink.
    FileError
        If the file cannot be opened.
    SettingsError
        If an argument is invalid.

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
    if not (isinstance(invert, bool) or invert == "auto"):
        raise SettingsError(f'invert is {invert!r}, expected "auto", True or False')
    name = "image"
    if isinstance(image, np.ndarray):
        grey = _grey_of_array(image, name)
    elif isinstance(image, str | os.PathLike):
        name = display_path(image)
        grey = read_grey(image)
    else:
        from PIL.Image import Image

        if not isinstance(image, Image):
            raise SettingsError(f"image is of type {type(image).__name__}, expected a path, a PIL image or an ndarray")
        grey = _grey_of_picture(image, name)
    digits = find_digits(grey, invert)
    if digits is None:
        raise DataError(f"{name}: no ink: found nothing that stands out from the background, expected a digit")
    if not digits:
        raise DataError(f"{name}: cannot find one digit")
    if len(digits) > 1:
        raise DataError(f"{name}: found {len(digits)} marks of similar size, expected one digit")
    return fit_ink(digits[0])


def _grey_of_array(image: np.ndarray, name: str) -> np.ndarray:
    """Convert an array to grey: (height, width) float32, from 0 to 255."""
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4):
        expected = "(height, width) or (height, width, channels) with 1, 3 or 4 channels"
        raise DataError(f"{name}: found shape {image.shape}, expected {expected}")
    if image.size == 0:
        raise DataError(f"{name}: found shape {image.shape}, expected at least 1 pixel")
    if image.dtype.kind not in "buif":
        raise DataError(f"{name}: found numbers of type {image.dtype}, expected integers, floats or booleans")
    if isinstance(image, np.ma.MaskedArray):
        raise DataError(f"{name}: found a masked array, expected a plain ndarray")
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 255):
        raise DataError(f"{name}: found pixels from {low} to {high}, expected 0 to 255")
    pixels = image.astype(np.float32)
    if image.dtype.kind == "b" or (image.dtype.kind == "f" and high <= 1):
        pixels *= 255
    if image.ndim == 2:
        return pixels
    if channels == 1:
        return pixels[:, :, 0]
    grey: np.ndarray = pixels[:, :, :3] @ _LUMA
    if channels == 4:
        opacity = pixels[:, :, 3] / 255
        grey = grey * opacity + 255 * (1 - opacity)
    return grey


def read_grey(source: Source) -> np.ndarray:
    """Return the picture in a file in grey: (height, width) float32, from 0 to 255. Raises DataError, FileError."""
    name = source_name(source)
    with _opened(source, name) as picture:
        return _grey_of_picture(picture, name)


def picture_size(source: Source) -> tuple[int, int]:
    """Return width and height of the picture in a file, without decoding it. Raises DataError, FileError."""
    with _opened(source, source_name(source)) as picture:
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
        return picture.size[::-1] if orientation in (5, 6, 7, 8) else picture.size


@contextmanager
def _opened(source: Source, name: str) -> "Iterator[Image]":
    """Open the picture in a file; convert every error of the decoders to a DataError."""
    from PIL import Image

    with open_source(source) as file, warnings.catch_warnings():
        # Pillow only warns of pictures that are slightly too large, so make this warning an error. Its other warnings
        # concern metadata, which do not matter here.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=_FORMATS) as picture:
                yield picture
        except DataError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            limit = f"at most {Image.MAX_IMAGE_PIXELS} pixels"
            raise DataError(f"{name}: found a picture too large to decode, expected {limit}") from None
        # For a damaged file, decoders raise many kinds of errors, such as SyntaxError, struct.error and KeyError.
        except Exception as error:
            if isinstance(error, Image.UnidentifiedImageError):
                raise DataError(f"{name}: the file is not a picture, expected one of {', '.join(_FORMATS)}") from None
            reason = ascii(str(error))[1:-1] or type(error).__name__
            raise DataError(f"{name}: the picture is damaged ({reason}), expected an intact one") from None


def _grey_of_picture(picture: "Image", name: str) -> np.ndarray:
    from PIL import Image, ImageOps

    if 0 in picture.size:
        found = f"a picture of {picture.width} x {picture.height} pixels"
        raise DataError(f"{name}: found {found}, expected at least 1 x 1")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        # Grey of 16 bits or more: some cameras and scanners use only part of the range, so stretch it.
        deep: np.ndarray = np.asarray(picture, np.float32)
        low, high = float(deep.min()), float(deep.max())
        if not np.isfinite([low, high]).all():
            raise DataError(f"{name}: found pixels from {low} to {high}, expected finite numbers")
        return (deep - low) * np.float32(255 / max(high - low, 1.0))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("L"), np.float32)
