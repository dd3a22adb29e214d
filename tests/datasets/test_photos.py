"""Tests of photographs: the digit that is read must be the one that is read from plain paper."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fastnn.datasets import prepare_image, prepare_images
from fastnn.datasets.pictures.crops import separated

SIZE = 300
Y, X = np.mgrid[:SIZE, :SIZE].astype(float)
# The digit's strokes are in rows 80 to 220.
PLACE = 80, 140


@pytest.fixture(scope="module")
def inks(mnist):
    """The opacity of five digits on a page: (5, SIZE, SIZE), from 0 to 1."""
    _, test = mnist
    return [placed(test.images[row].reshape(28, 28)) for row in (0, 1, 2, 3, 4)]


def placed(digit, height=PLACE[1], top=PLACE[0], left=None):
    rows, columns = np.nonzero(digit > 40)
    digit = digit[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    width = max(1, round(digit.shape[1] * height / digit.shape[0]))
    shape = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BICUBIC), float) / 255
    left = (SIZE - width) // 2 if left is None else left
    ink = np.zeros((SIZE, SIZE))
    ink[top : top + height, left : left + width] = shape
    return ink


def lines(distance, spacing, width=2):
    return np.abs(distance % spacing - spacing / 2) < width / 2


def drawn(draw):
    picture = Image.new("L", (SIZE, SIZE))
    draw(ImageDraw.Draw(picture))
    return np.asarray(picture) > 0


def on(paper, ink, darkness=0.7):
    return paper * (1 - darkness * ink)


def sheet_on(table, ink):
    u, v = X - 150 + 0.08 * (Y - 150), Y - 150 - 0.08 * (X - 150)
    return np.where((np.abs(u) < 115) & (np.abs(v) < 110), on(210, ink), table)


def lit(picture, shade, light=0.5):
    return np.where(shade, light * picture, picture)


GROUNDS = {
    "squared paper": lambda ink: on(np.where(lines(Y + 0.03 * X, 36) | lines(X - 0.03 * Y, 36), 130, 210), ink),
    "ruled paper": lambda ink: on(np.where(lines(Y + 0.05 * X, 34, 3), 90, 210), ink),
    "a line below": lambda ink: on(210, np.maximum(ink, np.abs(Y - 235) < 3)),
    "a line above": lambda ink: on(210, np.maximum(ink, np.abs(Y - 62 + 0.02 * X) < 2)),
    "an underline": lambda ink: on(210, np.maximum(ink, (np.abs(Y - 240) < 3) & (np.abs(X - 150) < 70))),
    "a line across": lambda ink: on(np.where(np.abs(Y - 170) < 2, 110, 210), ink),
    "a box": lambda ink: on(210, np.maximum(ink, drawn(lambda d: d.rectangle([60, 55, 240, 245], outline=1, width=4)))),
    "a rounded box": lambda ink: on(210, np.maximum(
        ink, drawn(lambda d: d.rounded_rectangle([55, 55, 245, 245], 40, outline=1, width=4)))),
    "a circle": lambda ink: on(210, np.maximum(
        ink, drawn(lambda d: d.ellipse([35, 35, 265, 265], outline=1, width=4)))),
    "a hard shadow": lambda ink: lit(on(210, ink), X + 0.4 * Y > 200),
    "a round shadow": lambda ink: lit(on(210, ink), np.hypot(Y - 300, X - 60) < 170, 0.6),
    "a thumb": lambda ink: np.where(
        (np.abs(Y - 260) < 25) & (X < 40) | (np.hypot(Y - 260, X - 40) < 25), 110, on(210, ink)),
    "a black strip": lambda ink: np.where(X < 25, 15, on(210, ink)),
    "black strips": lambda ink: np.where((X < 15) | (X > 270) | (Y < 20) | (Y > 285), 15, on(210, ink)),
    "a sheet on a dark table": lambda ink: sheet_on(40, ink),
    "a sheet on a striped table": lambda ink: sheet_on(90 + 20 * np.sin(Y / 4), ink),
    "a sheet seen at an angle": lambda ink: np.where(
        (np.abs(X - 150) < 80 + 0.3 * (Y - 60)) & (Y > 60) & (Y < 240), on(210, ink), 60),
    "a stain that meets the digit": lambda ink: on(210 - 50 * (np.abs(np.hypot(Y - 80, X - 190) - 60) < 4), ink),
    "dotted paper": lambda ink: on(np.where(lines(Y, 25, 3) & lines(X, 25, 3), 90, 210), ink),
    "holes": lambda ink: np.where(np.hypot((Y - 20) % 110 - 55, X - 20) < 8, 40, on(210, ink)),
    "the ring of a cup": lambda ink: on(210 - 40 * (np.abs(np.hypot(Y - 250, X - 260) - 110) < 5), ink),
    "folds": lambda ink: on(np.where(Y > 140, 180, 215) - 40 * (np.abs(X - 165) < 1.5), ink),
    "a whiteboard with a frame": lambda ink: np.where(Y < 20, 120, on(230, ink)),
    "a blackboard with a frame": lambda ink: np.where(X < 20, 150, 50 + 160 * ink),
    "red on green of equal brightness": lambda ink: (
        np.array([60, 150, 70]) + ink[:, :, None] * (np.array([200, 72, 90]) - np.array([60, 150, 70]))),
    "white on transparency": lambda ink: np.stack([np.full_like(ink, 255)] * 3 + [255 * ink], axis=2),
    "black on transparency": lambda ink: np.stack([np.zeros_like(ink)] * 3 + [255 * ink], axis=2),
    "white on transparency in grey": lambda ink: np.stack([np.full_like(ink, 240), 255 * ink], axis=2),
}  # fmt: skip


def photo(picture, is_exact=False):
    noise = 0 if is_exact else np.random.default_rng(0).normal(0, 2, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def distance(prepared, other):
    """Return the mean difference of two rows, up to a shift of one pixel: the centre of mass is rounded to a pixel."""
    rows = other.reshape(28, 28).astype(int)
    shifts = [np.roll(rows, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    return min(np.abs(prepared.reshape(28, 28) - shifted).mean() for shifted in shifts)


@pytest.mark.parametrize("name", GROUNDS)
def test_the_digit_is_separated_from_its_ground(inks, name):
    plain = [prepare_image(photo(on(210, ink))) for ink in inks]
    found = [prepare_image(photo(GROUNDS[name](ink), is_exact="transparency" in name)) for ink in inks]
    distances = np.array([[distance(row, other) for other in plain] for row in found])
    assert distances.diagonal().mean() < 12
    assert distances.diagonal().max() < 0.6 * distances[~np.eye(5, dtype=bool)].min()


@pytest.mark.parametrize("gap", [12, 40])
@pytest.mark.parametrize("count", [2, 3])
def test_several_digits_are_noticed_and_read_from_left_to_right(mnist, refused, gap, count):
    _, test = mnist
    digits = [test.images[row].reshape(28, 28) for row in (2, 1, 0)[:count]]  # 1, 2, 7
    page, expected, left = np.zeros((SIZE, SIZE)), [], 20
    for number, digit in enumerate(digits):
        ink = placed(digit, height=90 - 10 * number, top=90 + 8 * number, left=left)
        left = np.flatnonzero(ink.any(axis=0))[-1] + gap
        page = np.maximum(page, ink)
        expected.append(prepare_image(photo(on(210, ink))))
    picture = photo(on(210, page))
    refused(lambda: prepare_image(picture), "image", f"found {count} marks of similar size", "prepare_images", "--many")
    rows = prepare_images(picture)
    assert (rows.shape, rows.dtype) == ((count, 784), np.uint8)
    assert np.abs(rows.astype(int) - expected).mean(axis=1).max() < 5


def test_rows_of_digits_are_read_from_top_to_bottom(mnist):
    _, test = mnist
    inks = [placed(test.images[row].reshape(28, 28), 80, top, left)
            for row, top, left in ((0, 30, 160), (1, 36, 30), (3, 180, 40))]  # fmt: skip
    rows = prepare_images(photo(on(210, np.max(inks, axis=0))))
    expected = [prepare_image(photo(on(210, inks[number]))) for number in (1, 0, 2)]
    assert np.abs(rows.astype(int) - expected).mean(axis=1).max() < 5


def test_one_digit_gives_one_row(inks):
    picture = photo(on(210, inks[1]))
    np.testing.assert_array_equal(prepare_images(picture), prepare_image(picture)[None])


def test_the_parts_of_a_broken_digit_are_one_digit():
    five = drawn(lambda d: (
        d.line([(110, 90), (190, 86)], 1, 12), d.line([(112, 104), (108, 150)], 1, 12),
        d.arc([80, 140, 195, 230], 200, 520, 1, 12),
    ))  # fmt: skip
    assert len(prepare_images(photo(on(210, five)))) == 1


def test_a_digit_that_is_cut_close_is_read(inks):
    for ink in (inks[0], inks[1], inks[3]):
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        close = photo(on(210, ink))[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert np.abs(prepare_image(close).astype(int) - prepare_image(photo(on(210, ink)))).mean() < 8


def test_digits_with_a_narrow_gap_are_separated():
    ink = np.zeros((80, 100), np.float32)
    ink[:, :20] = ink[:60, 23:] = 255
    assert [part.shape[1] for part in separated(ink)] == [20, 77]


def test_a_thick_digit_in_a_corner_is_read(inks):
    rows, columns = np.flatnonzero(inks[3].any(axis=1)), np.flatnonzero(inks[3].any(axis=0))  # 0
    corner = np.roll(inks[3], (SIZE - 1 - rows[-1], SIZE - 1 - columns[-1]), (0, 1))
    assert distance(prepare_image(photo(on(210, corner))), prepare_image(photo(on(210, inks[3])))) < 8


def test_a_shadow_without_a_digit_is_refused(refused):
    refused(lambda: prepare_image(photo(lit(np.full((SIZE, SIZE), 210.0), X + Y > 300))), "cannot find one digit")


@pytest.mark.parametrize("change", [
    lambda grey: grey.astype(np.uint16) * 257,
    lambda grey: grey[None],
    lambda grey: grey / np.float32(127.5) - 1,
    lambda grey: np.stack([grey] * 3),
    np.ravel,
], ids=["uint16", "(1, H, W)", "-1 ... 1", "(3, H, W)", "a row"])  # fmt: skip
def test_arrays_of_other_ranges_and_shapes_are_read(inks, change):
    grey = photo(on(210, inks[0]))
    np.testing.assert_allclose(prepare_image(change(grey)).astype(int), prepare_image(grey), atol=3)
