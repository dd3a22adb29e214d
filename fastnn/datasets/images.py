"""Pictures of single digits, made into what MNIST holds: 28 x 28 pixels, light on black, centred."""

import os
import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastnn.checks import display_path
from fastnn.datasets.files import FilePath, open_binary
from fastnn.datasets.ink import find_ink, fit_ink
from fastnn.errors import DataError, SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

# Decoders that run no other program and belong to formats that people keep pictures in.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def prepare_image(image: "FilePath | Image | np.ndarray", *, invert: Literal["auto"] | bool = "auto") -> np.ndarray:
    """Make a picture of one digit into a row of pixels like MNIST's.

    The picture becomes grey (transparency is put on white; the orientation that a camera noted is applied), the
    background is subtracted and the contrast stretched. What remains is the ink, and goes the way of MNIST's digits:
    size-normalised to fit in 20 x 20 pixels while preserving the aspect ratio, with anti-aliasing, then centred by its
    centre of mass in 28 x 28.

    Parameters
    ----------
    image : path, PIL image, or ndarray of shape (height, width), (height, width, 3) or (height, width, 4)
        Arrays hold integers from 0 to 255, floats from 0 to 1 or from 0 to 255, or booleans (True is light).
    invert : "auto", True or False
        True: the digit is dark on a light ground, as on paper. False: light on dark, as in MNIST. "auto": what differs
        from the median of the border decides.

    Returns
    -------
    ndarray of uint8 and shape (784,)
        0 is the ground; the ink reaches 255.

    Raises
    ------
    DataError
        If the file is no picture, the picture is too large, the array cannot be used, or there is no ink.
    FileError
        If the file cannot be opened.
    SettingsError
        If an argument is none of the above.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition. Proceedings of
    the IEEE 86 (1998), section III.A.
    """
    if not (isinstance(invert, bool) or invert == "auto"):
        raise SettingsError(f'invert is {invert!r}, expected "auto", True or False')
    name = "image"
    if isinstance(image, np.ndarray):
        grey = _grey_of_array(image, name)
    elif isinstance(image, str | os.PathLike):
        name = display_path(image)
        grey = _grey_of_file(image, name)
    elif _is_pillow_image(image):
        grey = _grey_of_picture(image, name)
    else:
        raise SettingsError(f"image is of type {type(image).__name__}, expected a path, a PIL image or an ndarray")
    ink = find_ink(grey, invert)
    if ink is None:
        raise DataError(f"{name}: no ink: found nothing that stands out from the ground, expected a digit")
    return fit_ink(ink)


def _is_pillow_image(image: object) -> bool:
    from PIL.Image import Image

    return isinstance(image, Image)


def _grey_of_array(image: np.ndarray, name: str) -> np.ndarray:
    """float32 of shape (height, width), from 0 to 255."""
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise DataError(f"{name}: found shape {image.shape}, expected (height, width), with 3 or 4 channels if any")
    if image.size == 0:
        raise DataError(f"{name}: found shape {image.shape}, expected at least 1 pixel")
    if image.dtype.kind not in "buif":
        raise DataError(f"{name}: found numbers of type {image.dtype}, expected integers, floats or booleans")
    if isinstance(image, np.ma.MaskedArray):
        raise DataError(f"{name}: found a masked array, expected a plain one")
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


def _grey_of_file(path: FilePath, name: str) -> np.ndarray:
    from PIL import Image

    with open_binary(path) as file, warnings.catch_warnings():
        # A picture too large is a warning first; other warnings are about notes in the file that do not matter here.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=_FORMATS) as picture:
                return _grey_of_picture(picture, name)
        except DataError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise DataError(
                f"{name}: found a picture too large to unpack, expected at most {Image.MAX_IMAGE_PIXELS} pixels"
            ) from None
        # Decoders raise whatever a damaged file leads them to, SyntaxError, struct.error and KeyError among them.
        except Exception as error:
            if isinstance(error, Image.UnidentifiedImageError):
                raise DataError(f"{name}: found no picture, expected one of {', '.join(_FORMATS)}") from None
            reason = ascii(str(error))[1:-1] or type(error).__name__
            raise DataError(f"{name}: the picture is damaged ({reason}), expected a whole one") from None


def _grey_of_picture(picture: "Image", name: str) -> np.ndarray:
    from PIL import Image, ImageOps

    if 0 in picture.size:
        raise DataError(
            f"{name}: found a picture of {picture.width} x {picture.height} pixels, expected at least 1 x 1"
        )
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        # Deep grey: 16 bits and more, of which some cameras and scanners use a part only.
        deep: np.ndarray = np.asarray(picture, np.float32)
        low, high = float(deep.min()), float(deep.max())
        if not np.isfinite([low, high]).all():
            raise DataError(f"{name}: found pixels from {low} to {high}, expected finite numbers")
        return (deep - low) * np.float32(255 / max(high - low, 1.0))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return np.asarray(picture.convert("L"), np.float32)
