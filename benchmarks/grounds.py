"""Draws digits on synthetic grounds: papers with lines, boxes, shadows, tables, thumbs, stains and boards.

Each ground is a function of a random generator and the opacity of the ink, (height, width) from 0 to 1. It returns the
picture: (height, width) or (height, width, channels) uint8.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Ground = Callable[[np.random.Generator, np.ndarray], np.ndarray]
GROUNDS: dict[str, Ground] = {}  # by name, in the order of the table
SHAPE = (420, 400)


def ground(name: str) -> Callable[[Ground], Ground]:
    """Register a ground under its name in the table."""

    def register(function: Ground) -> Ground:
        GROUNDS[name] = function
        return function

    return register


def placed(rng: np.random.Generator, digits: list[np.ndarray], height: tuple[int, int] = (130, 210)) -> np.ndarray:
    """Draw digits side by side, at random sizes and places that leave a margin.

    digits: (28, 28) uint8 each
    height: the range of heights of a digit's strokes in pixels
    returns: SHAPE float, from 0 to 1
    """
    shapes, tall = [], rng.integers(*height)
    for digit in digits:
        rows, columns = np.nonzero(digit > 40)
        digit = digit[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        scale = tall * (rng.uniform(0.8, 1.2) if len(digits) > 1 else 1) / max(digit.shape)
        size = [max(1, round(side * scale)) for side in digit.shape]
        enlarged = Image.fromarray(digit).resize((size[1], size[0]), Image.Resampling.BICUBIC)
        shapes.append(np.asarray(enlarged, float) / 255)
    gaps = [int(tall * rng.uniform(0.08, 0.5)) for _ in digits[1:]] + [0]
    width = sum(shape.shape[1] for shape in shapes) + sum(gaps)
    tops = [int(rng.uniform(-0.15, 0.15) * tall) if len(digits) > 1 else 0 for _ in digits]
    rows = max(top + len(shape) for top, shape in zip(tops, shapes, strict=True)) - min(tops)
    canvas = np.zeros((max(SHAPE[0], rows + 120), max(SHAPE[1], width + 120)))
    left = int(rng.integers(60, canvas.shape[1] - width - 59))
    first = int(rng.integers(60, canvas.shape[0] - rows - 59)) - min(tops)
    for shape, top, gap in zip(shapes, tops, gaps, strict=True):
        part = canvas[first + top : first + top + len(shape), left : left + shape.shape[1]]
        np.maximum(part, shape, out=part)
        left += shape.shape[1] + gap
    return canvas


def _axes(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    return y, x


def _box_of(ink: np.ndarray) -> tuple[int, int, int, int]:
    """Return the top, left, bottom and right of the ink."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])


def _drawn(shape: tuple[int, ...], draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    """Return what `draw` draws with fill or outline 255, smoothed: `shape` float, from 0 to 1."""
    large = Image.new("L", (shape[1] * 2, shape[0] * 2))
    draw(ImageDraw.Draw(large))
    return np.asarray(large.resize((shape[1], shape[0]), Image.Resampling.BOX), float) / 255


def _paper(rng: np.random.Generator, ink: np.ndarray, level: float | None = None) -> np.ndarray:
    """Paper with uneven light: the picture without ink."""
    y, x = _axes(ink.shape)
    slope = rng.uniform(-25, 25, 2)
    level = rng.uniform(180, 235) if level is None else level
    return level + slope[0] * (y / ink.shape[0] - 0.5) + slope[1] * (x / ink.shape[1] - 0.5)


def _inked(rng: np.random.Generator, paper: np.ndarray, ink: np.ndarray, strength: float | None = None) -> np.ndarray:
    return paper * (1 - (rng.uniform(0.55, 0.85) if strength is None else strength) * ink)


def _taken(rng: np.random.Generator, picture: np.ndarray, noise: float | None = None) -> np.ndarray:
    """Add the noise of a camera, and round to uint8."""
    noise = rng.uniform(1, 4) if noise is None else noise
    return np.clip(np.rint(picture + rng.normal(0, noise, picture.shape)), 0, 255).astype(np.uint8)


def _rules(rng: np.random.Generator, shape: tuple[int, ...], vertical: bool, angle: float, spacing: float,
           width: float) -> np.ndarray:  # fmt: skip
    """Parallel lines, at an angle in degrees: `shape` float, from 0 to 1."""
    y, x = _axes(shape)
    along = (x if vertical else y) + np.tan(np.deg2rad(angle)) * (-y if vertical else x)
    distance = np.abs((along + rng.uniform(0, spacing)) % spacing - spacing / 2)
    return np.clip(width / 2 + 0.5 - distance, 0, 1)


def _darkened(paper: np.ndarray, mask: np.ndarray, strength: float) -> np.ndarray:
    return paper * (1 - strength * mask)


@ground("plain noisy paper")
def plain(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Paper with uneven light and noise."""
    return _taken(rng, _inked(rng, _paper(rng, ink), ink))


@ground("squared paper")
def squared(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Two sets of parallel lines, slightly turned."""
    angle, spacing, width = rng.uniform(-3, 3), rng.uniform(18, 60), rng.uniform(1, 3)
    lines = np.maximum(*(_rules(rng, ink.shape, way, angle, spacing, width) for way in (False, True)))
    return _taken(rng, _inked(rng, _darkened(_paper(rng, ink), lines, rng.uniform(0.12, 0.6)), ink))


@ground("ruled paper")
def ruled(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Horizontal lines, slightly turned."""
    lines = _rules(rng, ink.shape, False, rng.uniform(-4, 4), rng.uniform(25, 90), rng.uniform(1, 4))
    return _taken(rng, _inked(rng, _darkened(_paper(rng, ink), lines, rng.uniform(0.12, 0.7)), ink))


@ground("one line below")
def line_below(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A line from side to side below the digit."""
    bottom = _box_of(ink)[2] + rng.uniform(8, 40)
    tilt, width = rng.uniform(-8, 8), rng.uniform(2, 8)
    line = _drawn(ink.shape, lambda draw: draw.line(
        [(0, 2 * bottom + tilt), (2 * ink.shape[1], 2 * bottom - tilt)], 255, round(2 * width)))  # fmt: skip
    return _taken(rng, _inked(rng, _paper(rng, ink), np.maximum(ink, line)))


@ground("an underline")
def underline(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A short line below, above, left or right of the digit, in the same ink."""
    top, left, bottom, right = _box_of(ink)
    extra, gap, side = rng.uniform(5, 40), rng.uniform(10, 30), rng.integers(4)
    if side < 2:
        place = bottom + gap if side else top - gap
        middle, half = (left + right) / 2, max(right - left, 100) / 2 + extra
        ends = [(2 * (middle - half), 2 * place), (2 * (middle + half), 2 * place + 6)]
    else:
        place = right + gap if side == 2 else left - gap
        ends = [(2 * place, 2 * (top - extra)), (2 * place + 6, 2 * (bottom + extra))]
    width = round(2 * rng.uniform(2, 6))
    line = _drawn(ink.shape, lambda draw: draw.line(ends, 255, width))
    return _taken(rng, _inked(rng, _paper(rng, ink), np.maximum(ink, line)))


@ground("a line across the digit")
def line_across(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """One thin line from side to side through the digit."""
    top, left, bottom, right = _box_of(ink)
    width, tilt = round(2 * rng.uniform(1, 4)), rng.uniform(-10, 10)
    if rng.random() < 0.5:
        y = 2 * rng.uniform(0.75 * top + 0.25 * bottom, bottom)
        ends = [(0, y + tilt), (2 * ink.shape[1], y - tilt)]
    else:
        x = 2 * rng.uniform(left, right)
        ends = [(x + tilt, 0), (x - tilt, 2 * ink.shape[0])]
    line = _drawn(ink.shape, lambda draw: draw.line(ends, 255, width))
    return _taken(rng, _inked(rng, _darkened(_paper(rng, ink), line, rng.uniform(0.3, 0.7)), ink))


def _frame(rng: np.random.Generator, ink: np.ndarray, form: str) -> np.ndarray:
    top, left, bottom, right = _box_of(ink)
    middle, width = ((left + right) / 2, (top + bottom) / 2), round(2 * rng.uniform(2, 6))
    half = [side / 2 + rng.uniform(14, 45) for side in (max(right - left, 80), bottom - top)]
    if form == "circle":
        half = [float(np.hypot((right - left) / 2, (bottom - top) / 2)) + rng.uniform(8, 25)] * 2
    corners = [2 * (middle[0] - half[0]), 2 * (middle[1] - half[1]),
               2 * (middle[0] + half[0]), 2 * (middle[1] + half[1])]  # fmt: skip
    kwargs = {"outline": 255, "width": width}
    if form == "circle":
        return _drawn(ink.shape, lambda draw: draw.ellipse(corners, **kwargs))
    radius = rng.uniform(10, 60) if form == "rounded" else 0
    frame = _drawn(ink.shape, lambda draw: draw.rounded_rectangle(corners, radius, **kwargs))
    turned = Image.fromarray(frame.astype(np.float32)).rotate(rng.uniform(-4, 4), Image.Resampling.BILINEAR)
    return np.asarray(turned, float)


@ground("a box")
def box(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A rectangle round the digit, in the same ink."""
    return _taken(rng, _inked(rng, _paper(rng, ink), np.maximum(ink, _frame(rng, ink, "box"))))


@ground("a rounded box")
def rounded(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A rectangle with round corners, in another ink."""
    paper = _darkened(_paper(rng, ink), _frame(rng, ink, "rounded"), rng.uniform(0.3, 0.9))
    return _taken(rng, _inked(rng, paper, ink))


@ground("a circle")
def circle(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A circle round the digit, in the same ink."""
    return _taken(rng, _inked(rng, _paper(rng, ink), np.maximum(ink, _frame(rng, ink, "circle"))))


@ground("a hard shadow")
def shadow(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Half of the page is in shadow; the straight edge is at any angle and often crosses the digit."""
    y, x = _axes(ink.shape)
    angle = rng.uniform(0, 2 * np.pi)
    top, left, bottom, right = _box_of(ink)
    centre = np.array([rng.uniform(top, bottom), rng.uniform(left, right)])
    side = (y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle)
    shade = np.clip(side / rng.uniform(1, 6) + 0.5, 0, 1)
    return _taken(rng, _inked(rng, _paper(rng, ink), ink) * (1 - rng.uniform(0.3, 0.6) * shade))


@ground("curved and several shadows")
def shadows(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Two shadows with round edges, such as of a head and a hand."""
    y, x = _axes(ink.shape)
    picture = _inked(rng, _paper(rng, ink), ink)
    for _ in range(2):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(150, 300)
        far = radius + rng.uniform(20, 150)
        distance = np.hypot(y - ink.shape[0] / 2 - far * np.sin(angle), x - ink.shape[1] / 2 - far * np.cos(angle))
        picture = picture * (1 - rng.uniform(0.25, 0.5) * np.clip((radius - distance) / rng.uniform(1, 8) + 0.5, 0, 1))
    return _taken(rng, picture)


@ground("a thumb")
def thumb(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A thumb reaches in from one side."""
    height, width = ink.shape
    top, left, bottom, right = _box_of(ink)
    room = {"left": left, "right": width - right, "top": top, "bottom": height - bottom}
    side = max(room, key=lambda name: room[name])
    reach, half = min(room[side] - 15, rng.uniform(50, 130)), rng.uniform(25, 60)
    along = rng.uniform(0.2, 0.8) * (height if side in ("left", "right") else width)
    y, x = _axes(ink.shape)
    depth = {"left": x, "right": width - x, "top": y, "bottom": height - y}[side]
    across = (y if side in ("left", "right") else x) - along
    tip = max(reach - half, 0)
    distance = np.hypot(across, np.maximum(depth - tip, 0) * half / max(reach - tip, 1))
    skin = np.clip((half - distance) / 2 + 0.5, 0, 1)
    picture = _inked(rng, _paper(rng, ink), ink)
    return _taken(rng, picture * (1 - skin) + rng.uniform(80, 150) * (1 - 0.3 * (distance / half) ** 2) * skin)


def _strips(rng: np.random.Generator, ink: np.ndarray, sides: int, level: float) -> np.ndarray:
    picture = _inked(rng, _paper(rng, ink), ink)
    for side in rng.permutation(4)[:sides]:
        turned = np.rot90(picture, side)  # a view
        turned[: int(rng.integers(6, 50))] = level
    return picture


@ground("a black strip on one side")
def strip(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The edge of a scan."""
    return _taken(rng, _strips(rng, ink, 1, rng.uniform(0, 60)))


@ground("black strips on all sides")
def strips(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The edges of a scan."""
    return _taken(rng, _strips(rng, ink, 4, rng.uniform(0, 60)))


def _on_table(rng: np.random.Generator, ink: np.ndarray, table: np.ndarray) -> np.ndarray:
    y, x = _axes(ink.shape)
    angle = np.deg2rad(rng.uniform(-8, 8))
    centre, sheet = (ink.shape[0] / 2, ink.shape[1] / 2), np.ones(ink.shape, bool)
    top, left, bottom, right = _box_of(ink)
    reach = [max(centre[0] - top, bottom - centre[0]), max(centre[1] - left, right - centre[1])]
    u = (x - centre[1]) * np.cos(angle) + (y - centre[0]) * np.sin(angle)
    v = (y - centre[0]) * np.cos(angle) - (x - centre[1]) * np.sin(angle)
    sheet = (np.abs(u) < reach[1] + rng.uniform(20, 45)) & (np.abs(v) < reach[0] + rng.uniform(20, 45))
    return np.where(sheet, _inked(rng, _paper(rng, ink), ink), table)


@ground("a sheet on a dark table")
def dark_table(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A turned sheet with the table on all sides."""
    return _taken(rng, _on_table(rng, ink, _paper(rng, ink, rng.uniform(20, 90))))


@ground("a sheet on a wooden table")
def wood(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The table has a grain of stripes."""
    y, x = _axes(ink.shape)
    grain = 18 * np.sin(y / rng.uniform(3, 9) + 3 * np.sin(x / 70)) + 10 * np.sin(y / 2.3)
    return _taken(rng, _on_table(rng, ink, rng.uniform(70, 120) + grain))


@ground("dotted paper")
def dotted(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A grid of dots."""
    spacing, width, angle = rng.uniform(18, 45), rng.uniform(2, 5), rng.uniform(-3, 3)
    dots = np.minimum(*(_rules(rng, ink.shape, way, angle, spacing, width) for way in (False, True)))
    return _taken(rng, _inked(rng, _darkened(_paper(rng, ink), dots, rng.uniform(0.2, 0.7)), ink))


@ground("a margin line and holes")
def holes(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A red line and punched holes along the left side of ruled paper."""
    place, y = rng.uniform(30, 55), rng.uniform(0.2, 0.4)
    paper = _darkened(_paper(rng, ink), _rules(rng, ink.shape, False, 0.5, rng.uniform(40, 70), 1.5), 0.25)
    line = _drawn(ink.shape, lambda draw: draw.line([(2 * place, 0), (2 * place - 8, 2 * ink.shape[0])], 255, 5))
    radius, left = rng.uniform(7, 11), place - 20
    spots = [(left, y * ink.shape[0]), (left, (1 - y) * ink.shape[0])]
    dark = _drawn(ink.shape, lambda draw: [
        draw.ellipse([2 * (x - radius), 2 * (v - radius), 2 * (x + radius), 2 * (v + radius)], 255) for x, v in spots
    ] and None)  # fmt: skip
    return _taken(rng, _inked(rng, paper, ink) * (1 - 0.5 * line) * (1 - 0.8 * dark))


@ground("a coffee stain")
def stain(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The ring of a cup."""
    y, x = _axes(ink.shape)
    radius = rng.uniform(90, 160)
    centre = rng.uniform(0, ink.shape[0]), rng.uniform(0, ink.shape[1])
    distance = np.hypot(y - centre[0], x - centre[1])
    ring = np.exp(-(((distance - radius) / rng.uniform(3, 8)) ** 2)) * rng.uniform(0.1, 0.25)
    return _taken(rng, _inked(rng, _paper(rng, ink) * (1 - ring) * (1 - 0.05 * (distance < radius)), ink))


@ground("folds")
def folds(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The page was folded twice: the light differs, with a dark crease."""
    y, x = _axes(ink.shape)
    picture = _inked(rng, _paper(rng, ink), ink)
    for axis, size in ((y, ink.shape[0]), (x, ink.shape[1])):
        place = rng.uniform(0.3, 0.7) * size
        picture = picture * np.where(axis > place, rng.uniform(0.8, 0.95), 1)
        picture = picture * (1 - rng.uniform(0.1, 0.35) * np.exp(-(((axis - place) / rng.uniform(1, 3)) ** 2)))
    return _taken(rng, picture)


@ground("faint printed text")
def text(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A line of small grey text above or below the digit."""
    top, _, bottom, _ = _box_of(ink)
    place = 2 * (bottom + 12) if ink.shape[0] - bottom > top else 2 * max(top - 32, 4)
    words, left = "fill in one figure per field, please", 2 * rng.uniform(10, 60)
    printed = _drawn(ink.shape, lambda draw: draw.text((left, place), words, 255, font_size=28))
    return _taken(rng, _inked(rng, _darkened(_paper(rng, ink), printed, rng.uniform(0.25, 0.5)), ink))


@ground("staples and clips")
def staples(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A staple in one corner, and a clip at the edge."""
    x, y = 2 * rng.uniform(15, 40), 2 * rng.uniform(15, 30)
    edge = 2 * rng.uniform(0.3, 0.7) * ink.shape[1]

    def draw_metal(draw: ImageDraw.ImageDraw) -> None:
        draw.line([(x, y), (x + 55, y + 20)], 255, 6)
        draw.rounded_rectangle([edge, -20, edge + 24, 85], 12, outline=255, width=5)

    metal = _drawn(ink.shape, draw_metal)
    return _taken(rng, _inked(rng, _darkened(_paper(rng, ink), metal, rng.uniform(0.4, 0.7)), ink))


@ground("a strong vignette and JPEG")
def jpeg(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Dark corners and the blocks of strong compression."""
    import io

    y, x = _axes(ink.shape)
    squares = (y / ink.shape[0] - 0.5) ** 2 + (x / ink.shape[1] - 0.5) ** 2
    picture = _taken(rng, _inked(rng, _paper(rng, ink), ink) * (1 - rng.uniform(0.8, 1.4) * squares))
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(rng.integers(8, 30)))
    return np.asarray(Image.open(file))


@ground("a whiteboard")
def whiteboard(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """A coloured marker, a bright reflection, and the grey frame of the board on one side."""
    y, x = _axes(ink.shape)
    centre = rng.uniform(0, ink.shape[0]), rng.uniform(0, ink.shape[1])
    shine = rng.uniform(20, 60) * np.exp(-(((y - centre[0]) / 60) ** 2) - ((x - centre[1]) / 90) ** 2)
    board = np.minimum(_paper(rng, ink, 205) + shine, 255)
    board[: int(rng.integers(8, 40))] = rng.uniform(100, 150)
    colour = np.array([[30, 60, 150], [170, 30, 40], [20, 110, 60], [30, 30, 30]], float)[rng.integers(4)]
    return _taken(rng, board[:, :, None] * (1 - ink[:, :, None]) + colour * ink[:, :, None])


@ground("a blackboard")
def blackboard(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Grainy chalk, traces of the sponge, and a wooden frame on one side."""
    smear = np.asarray(Image.fromarray(rng.normal(0, 1, (8, 12)).astype(np.float32)).resize(ink.shape[::-1], 3))
    board = _paper(rng, ink, rng.uniform(40, 70)) + 6 * smear
    board[:, : int(rng.integers(8, 40))] = rng.uniform(120, 170)
    grain = np.clip(rng.normal(0.85, 0.15, ink.shape), 0, 1)
    return _taken(rng, board * (1 - ink * grain) + rng.uniform(180, 235) * ink * grain)


@ground("coloured ink of equal luma")
def colours(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """Ink and paper of equal brightness, in colours such as red on green."""
    luma, pairs = np.array([0.299, 0.587, 0.114]), [(0, 1), (1, 0), (2, 1), (0, 2), (2, 0)]
    one, other = pairs[rng.integers(len(pairs))]
    target = rng.uniform(80, 110)
    colour = np.full((2, 3), target)
    for row, channel in enumerate((one, other)):
        colour[row, channel] += rng.uniform(60, 110)
        colour[row] = np.clip(colour[row] + target - colour[row] @ luma, 0, 255)
    mixed = colour[0] * (1 - ink[:, :, None]) + colour[1] * ink[:, :, None]
    return _taken(rng, mixed * (_paper(rng, ink, 200) / 200)[:, :, None])


@ground("white ink on transparency")
def white_ink(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The export of a drawing program: only the strokes are opaque, in a light colour."""
    colour = np.broadcast_to(rng.uniform(200, 255, 3), (*ink.shape, 3))
    return np.rint(np.dstack([colour, 255 * ink])).astype(np.uint8)


@ground("dark ink on transparency")
def dark_ink(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The export of a drawing program: only the strokes are opaque, in a dark colour."""
    colour = np.broadcast_to(rng.uniform(0, 110, 3), (*ink.shape, 3))
    return np.rint(np.dstack([colour, 255 * ink])).astype(np.uint8)


@ground("cut close")
def cut(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The strokes touch all four edges."""
    top, left, bottom, right = _box_of(ink > 0.3)
    ink = ink[top : bottom + 1, left : right + 1]
    return _taken(rng, _inked(rng, _paper(rng, ink), ink))


@ground("small in a corner")
def corner(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The strokes are a few pixels away from two edges."""
    top, left, bottom, right = _box_of(ink)
    down, right_by = rng.integers(2, 10, 2)
    ink = np.roll(ink, (down - top, right_by - left), (0, 1))
    if rng.random() < 0.5:  # at the bottom right
        ink = np.roll(
            ink,
            (ink.shape[0] - 1 - 2 * down - (bottom - top), ink.shape[1] - 1 - 2 * right_by - (right - left)),
            (0, 1),
        )
    return _taken(rng, _inked(rng, _paper(rng, ink), ink))


@ground("28 x 28 pixels, light on dark")
def small(rng: np.random.Generator, ink: np.ndarray) -> np.ndarray:
    """The digit as in MNIST, at its own scale."""
    top, left, bottom, right = _box_of(ink)
    margin, sides = round(0.2 * max(bottom - top, right - left)), (bottom - top, right - left)
    around = [margin + (max(sides) - side) // 2 for side in sides]
    digit = np.pad(ink[top : bottom + 1, left : right + 1], [(space, space) for space in around])
    return np.asarray(Image.fromarray((255 * digit).astype(np.uint8)).resize((28, 28), Image.Resampling.BOX))
