"""Figures of one pixel, for tests of what happens around figures: to draw them is half the time of a short run."""

import base64

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
# Makes a program write such figures; for the start of a script that a test runs in another process.
UNDRAWN = f"""
from pathlib import Path
from fastnn.files.atomic import write_atomically
from fastnn.plots.display import Display
Display.save = lambda self, path, dpi=150: write_atomically(Path(path), {PIXEL!r})
"""
