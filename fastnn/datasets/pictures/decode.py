"""Opens files of pictures. Checks the header before anything is decoded: a few bytes can declare any size."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, TYPE_CHECKING

from fastnn.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# Common picture formats whose decoders run no external program.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
# The usual endings of their names.
SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".pbm", ".ppm", ".pnm"}
# A page scanned at 600 dots per inch has 35 million pixels. Pillow takes up to 4 bytes for each, and decoders as much.
MAX_PIXELS = 36_000_000
# Cameras of phones make JPEG files of up to 50 million pixels. They are decoded at half their size.
_MAX_JPEG_PIXELS = 52_000_000
# The decoder of WebP keeps three copies of a picture.
_MAX_WEBP_PIXELS = 18_000_000
MAX_SIDE = 2**16
_STDERR = 2
_stderr_lock = threading.Lock()


def check_picture_size(width: int, height: int, name: str, most: int = MAX_PIXELS) -> None:
    """Raise DataError if a picture has no pixels or too many."""
    found = f"a picture of {width} x {height} pixels"
    if width < 1 or height < 1:
        raise DataError(f"{name}: found {found}, expected at least 1 x 1")
    if width * height > most or max(width, height) > MAX_SIDE:
        expected = f"at most {most / 1e6:g} million pixels and {MAX_SIDE} on each side; make it smaller"
        raise DataError(f"{name}: found {found}, expected {expected}")


@contextmanager
def open_picture(file: IO[bytes], name: str) -> Iterator["Image"]:
    """Decode the first frame of a picture, and close it at the end of the context.

    Raises DataError if the file is not a picture, is damaged or has too many pixels. JPEG files of too many pixels are
    decoded at a smaller scale, down to 1/8.
    """
    from PIL import Image

    # Without a handler, Python prints what Pillow logs about damaged files to stderr.
    logger = logging.getLogger("PIL")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    with picture_errors(name), Image.open(file, formats=_FORMATS) as picture:
        # Photos of phones may be MPO files: JPEG with a second picture, such as a depth map, which is not read.
        limits = {"JPEG": _MAX_JPEG_PIXELS, "MPO": _MAX_JPEG_PIXELS, "WEBP": _MAX_WEBP_PIXELS}
        check_picture_size(*picture.size, name, limits.get(picture.format or "", MAX_PIXELS))
        if picture.width * picture.height > MAX_PIXELS:
            picture.draft(None, (picture.width // 2, picture.height // 2))
        with _without_stderr() if picture.format == "TIFF" else nullcontext():
            picture.load()
        yield picture


@contextmanager
def picture_errors(name: str) -> Iterator[None]:
    """Convert the many kinds of errors of Pillow's decoders, such as SyntaxError and struct.error, to DataError."""
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow's warnings concern metadata, which do not matter here, and pictures that are slightly too large.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except DataError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            expected = f"at most {min(MAX_PIXELS, Image.MAX_IMAGE_PIXELS or MAX_PIXELS)} pixels"
            raise DataError(f"{name}: found a picture too large to decode, expected {expected}") from None
        except Image.UnidentifiedImageError:
            raise DataError(f"{name}: the file is not a picture, expected one of {', '.join(_FORMATS)}") from None
        except MemoryError:
            raise DataError(f"{name}: the picture does not fit in memory, expected a smaller one") from None
        except Exception as error:
            reason = ascii(str(error)[:160])[1:-1] or type(error).__name__
            raise DataError(f"{name}: the picture is damaged ({reason}), expected an intact one") from None


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Discard what libtiff prints about damaged files; the exception says the same."""
    with _stderr_lock:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # it is closed, so that nothing can be printed
            yield
            return
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, _STDERR)
            os.close(sink)
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
