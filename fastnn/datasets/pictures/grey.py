"""Converts arrays and pictures, colours and transparency, to grey pictures in which ink differs from its ground."""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.datasets.pictures.decode import check_picture_size
from fastnn.datasets.pictures.resize import shrunk
from fastnn.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_SIDE = 1024  # of the pictures in which digits are found, in pixels
# Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# The projection on the colours' own direction replaces the luma if its contrast is this many times as large.
_COLOUR_GAIN = 3.0
_SAMPLE_SIDE = 128
_STRIP_PIXELS = 2**21
# Where Pillow looks for the orientation of the camera.
_ORIENTATION_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


def grey_of_array(image: np.ndarray, name: str) -> np.ndarray:
    """Convert an array to grey: (height, width) float32, from 0 to 255."""
    if isinstance(image, np.ma.MaskedArray):
        raise DataError(f"{name}: found a masked array, expected a plain ndarray")
    if image.size == 0:
        raise DataError(f"{name}: found shape {image.shape}, expected at least 1 pixel")
    if image.dtype.kind not in "buif":
        raise DataError(f"{name}: found numbers of type {image.dtype}, expected integers, floats or booleans")
    image = _with_axes(image, name)
    check_picture_size(image.shape[1], image.shape[0], name)
    if image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] in (3, 4)):
        from PIL import Image

        return grey_of_picture(Image.fromarray(np.ascontiguousarray(image)), name)
    pixels = _scaled(image, name)
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] in (2, 4):
        return grey_of_transparent(pixels)
    return pixels[:, :, 0] if pixels.shape[2] == 1 else grey_of_colours(pixels)


def _with_axes(image: np.ndarray, name: str) -> np.ndarray:
    """Return the array as (height, width) or (height, width, channels)."""
    if image.ndim == 1:
        side = round(image.size**0.5)
        if side * side == image.size and side > 1:
            return image.reshape(side, side)
    if image.ndim == 3 and image.shape[0] == 1 and image.shape[2] not in (1, 2, 3, 4):
        return image[0]
    if image.ndim == 3 and image.shape[0] in (3, 4) and image.shape[2] not in (1, 2, 3, 4):
        return np.moveaxis(image, 0, 2)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 2, 3, 4):
        expected = "(height, width), a row of height * height pixels, or (height, width, channels) with 1 to 4 channels"
        raise DataError(f"{name}: found shape {image.shape}, expected {expected}")
    return image


def _scaled(image: np.ndarray, name: str) -> np.ndarray:
    """Return the pixels as float32 from 0 to 255."""
    low, high = image.min(), image.max()
    kind = image.dtype.kind
    if kind == "u" and image.dtype.itemsize == 2 and high > 255:
        return image.astype(np.float32) * np.float32(255 / 65535 if high > 4095 else 255 / 4095)
    if kind == "f" and -1 <= low < 0 and high <= 1:
        return (image.astype(np.float32) + 1) * np.float32(127.5)
    if not (low >= 0 and high <= 255):
        expected = "0 to 255 (or 0 to 65535 in uint16, or -1 to 1 in floats)"
        raise DataError(f"{name}: found pixels from {low} to {high}, expected {expected}")
    pixels = image.astype(np.float32)
    if kind == "b" or (kind == "f" and high <= 1):
        pixels *= 255
    return pixels


def grey_of_picture(picture: "Image", name: str) -> np.ndarray:
    """Convert a picture to grey: (height, width) float32, from 0 to 255."""
    from PIL import ImageOps

    check_picture_size(*picture.size, name)
    picture = ImageOps.exif_transpose(_reduced(picture))
    if picture.mode.startswith(("I", "F")):
        # Grey of 16 bits or more: some cameras and scanners use only part of the range, so stretch it.
        deep: np.ndarray = np.asarray(picture, np.float32)
        low, high = float(deep.min()), float(deep.max())
        if not np.isfinite([low, high]).all():
            raise DataError(f"{name}: found pixels from {low} to {high}, expected finite numbers")
        return (deep - low) * np.float32(255 / max(high - low, 1.0))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        if picture.getchannel("A").getextrema() != (255, 255):
            return grey_of_transparent(np.asarray(picture, np.float32))
    luma = np.asarray(picture.convert("L"), np.float32)
    if picture.mode in ("1", "L"):
        return luma
    return grey_of_colours(picture if picture.mode == "RGB" else picture.convert("RGB"), luma)


def _reduced(picture: "Image") -> "Image":
    """Return the picture with its longer side below 2 * LARGEST_SIDE, by averaging blocks of pixels.

    Strips of the picture are converted one after the other, so that no large copy of it is made.
    """
    from PIL import Image

    factor = max(picture.size) // LARGEST_SIDE
    if factor <= 1:
        return picture
    picture.load()
    width, height = picture.size
    mode = _plain_mode(picture)
    small = Image.new(mode, (-(-width // factor), -(-height // factor)))
    step = factor * max(1, _STRIP_PIXELS // (factor * width))
    for top in range(0, height, step):
        strip = picture.crop((0, top, width, min(top + step, height)))
        strip = strip if strip.mode == mode else strip.convert(mode)
        small.paste(strip.reduce(factor), (0, top // factor))
    small.info.update({key: picture.info[key] for key in _ORIENTATION_KEYS if key in picture.info})
    return small


def _plain_mode(picture: "Image") -> str:
    """Return the mode of pixels that can be averaged, and that holds those of the picture."""
    if picture.mode.startswith(("I", "F")):
        return picture.mode[:1]
    if picture.has_transparency_data:
        return "RGBA"
    return "L" if picture.mode in ("1", "L") else "RGB"


def grey_of_transparent(pixels: np.ndarray) -> np.ndarray:
    """Put the picture on a ground that differs from what is opaque: light strokes on black, others on white.

    If most of the picture is opaque, the ground is its median.

    pixels: (height, width, 2 or 4) float32, from 0 to 255; the last channel is opacity
    """
    opacity = pixels[:, :, -1] / 255
    colours = pixels[:, :, :-1]
    grey = colours[:, :, 0] if colours.shape[2] == 1 else grey_of_colours(colours) if opacity.all() else colours @ LUMA
    is_opaque = opacity > 0.5
    if is_opaque.mean() > 0.6:
        ground = float(np.median(grey[is_opaque]))
    else:
        weight = float(opacity.sum(dtype=float))
        mean = float((grey * opacity).sum(dtype=float)) / weight if weight else 0.0
        ground = 0.0 if mean > 127.5 else 255.0
    return grey * opacity + np.float32(ground) * (1 - opacity)


def grey_of_colours(picture: "Image | np.ndarray", luma: np.ndarray | None = None) -> np.ndarray:
    """Convert colours to grey: their luma or, if ink and ground are about equally bright, what separates them best.

    picture: RGB, or (height, width, 3) float32 from 0 to 255
    luma: (height, width) float32, if known
    """
    from PIL import Image

    if isinstance(picture, np.ndarray):
        bands = [picture[:, :, channel] for channel in range(3)]
        luma = picture @ LUMA if luma is None else luma
        samples = np.stack([shrunk(band, _SAMPLE_SIDE) for band in bands], axis=-1)
    else:
        scale = min(1.0, _SAMPLE_SIDE / max(picture.size))
        size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
        samples = np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32)
        luma = np.asarray(picture.convert("L"), np.float32) if luma is None else luma
    direction = _ink_direction(samples.reshape(-1, 3))
    if direction is None:
        return luma
    grey: np.ndarray = np.asarray(picture, np.float32) @ direction
    low, high = float(grey.min()), float(grey.max())
    return (grey - low) * np.float32(255 / max(high - low, 1.0))


def _ink_direction(colours: np.ndarray) -> np.ndarray | None:
    """Return the direction of colour in which ink differs from its ground; None if the luma shows it well enough.

    colours: (pixels, 3) float32
    """
    ground = np.median(colours, axis=0)
    difference = colours - ground
    distance = np.sqrt((difference**2).sum(axis=1))
    far = distance > max(24.0, 0.5 * float(np.percentile(distance, 99.5)))
    if not far.any():
        return None
    _, _, axes = np.linalg.svd(difference[far], full_matrices=False)
    direction = axes[0].astype(np.float32)
    if direction[np.abs(direction).argmax()] < 0:  # LAPACK leaves the sign open
        direction = -direction
    by_luma = float(np.median(np.abs(difference[far] @ LUMA)))
    by_colour = float(np.median(np.abs(difference[far] @ direction)))
    return direction if by_colour > _COLOUR_GAIN * max(by_luma, 1.0) else None
