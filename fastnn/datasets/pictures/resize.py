"""Resizes grey pictures."""

import numpy as np


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize the picture: shrink it by averaging pixels, or enlarge it by interpolation."""
    from PIL import Image

    larger = max(height, width) > max(pixels.shape)
    method = Image.Resampling.LANCZOS if larger else Image.Resampling.BOX
    enlarged = Image.fromarray(np.ascontiguousarray(pixels, np.float32)).resize((width, height), method)
    return np.clip(np.asarray(enlarged), 0, 255)


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Shrink the picture so that its longer side has at most `side` pixels."""
    scale = side / max(pixels.shape)
    if scale >= 1:
        return pixels
    return resized(pixels, *(max(1, round(length * scale)) for length in pixels.shape))
