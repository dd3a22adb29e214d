"""Tests of `prepare_image`: it must restore MNIST digits that were changed to look like real pictures."""

import warnings

import numpy as np
import pytest
from PIL import Image

from fastnn.datasets import prepare_image
from fastnn.errors import FileError, SettingsError

HEIGHT, WIDTH = 420, 360


@pytest.fixture(scope="module")
def digits(mnist):
    """50 digits, five of each class, of shape (50, 28, 28)."""
    _, test = mnist
    rows = np.concatenate([np.flatnonzero(test.labels == digit)[:5] for digit in range(10)])
    return test.images[rows].reshape(50, 28, 28)


def difference(prepared, digit):
    assert (prepared.shape, prepared.dtype, prepared.max()) == ((784,), np.uint8, 255)
    return np.abs(prepared.astype(int) - digit.reshape(-1)).mean()


def enlarged(digit):
    return np.kron(digit, np.ones((10, 10), np.uint8))


def on_paper(digit):
    """Draw the digit in dark ink on grey paper with noise, lit from one side."""
    paper = np.full((HEIGHT, WIDTH), 190.0)
    paper[100:380, 60:340] -= 0.5 * enlarged(digit)
    paper -= 60 * np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j].prod(axis=0)
    return np.clip(paper + np.random.default_rng(0).normal(0, 3, paper.shape), 0, 255).astype(np.uint8)


def transparent(digit):
    return np.stack([np.zeros_like(digit)] * 3 + [digit], axis=2)


def smooth(digit):
    return Image.fromarray(digit).resize((280, 280), Image.Resampling.BICUBIC)


CHANGES = {
    "unchanged": (np.array, 1),
    "inverted": (lambda digit: 255 - digit, 1),
    "enlarged": (enlarged, 1),
    "shifted": (lambda digit: np.pad(digit, ((3, 40), (60, 2))), 1),
    "all three": (lambda digit: 255 - np.pad(enlarged(digit), ((3, 90), (200, 0))), 1),
    "fractions": (lambda digit: digit / 255, 1),
    "half as bright": (lambda digit: digit.astype(np.int64) // 2, 3),
    "coloured": (lambda digit: np.stack([255 - digit] * 3, axis=2), 1),
    "transparent": (transparent, 1),
    "on paper": (on_paper, 9),
    "smoothly enlarged": (smooth, 10),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_digits_are_restored(digits, case):
    change, limit = CHANGES[case]
    prepared = [prepare_image(change(digit)) for digit in digits]
    differences = [difference(out, digit) for out, digit in zip(prepared, digits, strict=True)]
    assert np.mean(differences) < limit
    # The difference from the other digits is several times as large.
    others = [difference(out, digits[row - 5]) for row, out in enumerate(prepared)]
    assert np.mean(others) > 3 * np.mean(differences)


def test_paper_and_its_noise_become_black_and_the_digit_is_20_pixels_high_and_centred(digits):
    assert digits[0][13:15, 13:15].max() == 0, "expected a 0 with a wide hole"
    out = prepare_image(on_paper(digits[0])).reshape(28, 28)
    assert out[13:15, 13:15].max() == 0
    rows, columns = np.nonzero(out)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    centre = (np.arange(28) @ out.sum(axis=1) / out.sum(), np.arange(28) @ out.sum(axis=0) / out.sum())
    np.testing.assert_allclose(centre, 14, atol=0.51)


def test_a_thin_line_reaches_full_ink_and_keeps_its_shape():
    paper = np.full((600, 400), 255, np.uint8)
    paper[50:550, 200:203] = 90
    out = prepare_image(paper).reshape(28, 28)
    assert out.max() == 255
    assert (np.count_nonzero(out.any(axis=1)), np.count_nonzero(out.any(axis=0))) == (20, 1)


def test_dust_is_not_ink(digits):
    clean = np.pad(enlarged(255 - digits[3]), 200, constant_values=255)
    dusty = clean.copy()
    dusty[10:14, 20:24] = 0
    assert difference(prepare_image(dusty), prepare_image(clean)) == 0


def test_invert_chooses_dark_or_light_ink(digits):
    digit = digits[7]
    same = prepare_image(digit)
    np.testing.assert_array_equal(prepare_image(digit, invert=False), same)
    np.testing.assert_array_equal(prepare_image(255 - digit, invert=True), same)
    assert difference(prepare_image(np.pad(digit, 0), invert=False), digit) < 1
    with pytest.raises(SettingsError, match="invert is 'yes'"):
        prepare_image(digit, invert="yes")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "tiff", "webp", "ppm"])
def test_files_of_all_formats_are_read(digits, tmp_path, ending):
    path = tmp_path / f"digit.{ending}"
    Image.fromarray(enlarged(255 - digits[2])).save(path)
    assert difference(prepare_image(path), digits[2]) < 12
    assert difference(prepare_image(str(path)), digits[2]) < 12


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_pictures_of_all_modes_are_read(digits, mode):
    picture = Image.fromarray(255 - digits[5])
    if mode == "I;16":
        picture = Image.fromarray((255 - digits[5]).astype(np.uint16) * 200)
    else:
        picture = picture.convert("RGB").convert(mode) if mode in ("LA", "CMYK") else picture.convert(mode)
    assert difference(prepare_image(picture), digits[5]) < (25 if mode == "1" else 1)


def test_an_opaque_channel_of_opacity_changes_nothing(digits):
    ground, ink = np.array([60, 150, 70]), np.array([180, 120, 90])
    colours = np.rint(ground + digits[6][:, :, None] / 255 * (ink - ground)).astype(np.uint8)
    opaque = np.dstack([colours, np.full((28, 28), 255, np.uint8)])
    np.testing.assert_array_equal(prepare_image(opaque), prepare_image(colours))
    np.testing.assert_array_equal(prepare_image(Image.fromarray(opaque)), prepare_image(Image.fromarray(colours)))


def test_transparency_in_files_is_blended_with_white(digits, tmp_path):
    Image.fromarray(transparent(digits[4])).save(tmp_path / "t.png")
    assert difference(prepare_image(tmp_path / "t.png"), digits[4]) < 1


def test_the_orientation_stored_by_the_camera_is_applied(digits, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = Image.fromarray(enlarged(255 - digits[1])).transpose(Image.Transpose.ROTATE_90)
    rotated.save(tmp_path / "phone.png", exif=exif)
    assert difference(prepare_image(tmp_path / "phone.png"), digits[1]) < 1


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("noise", [0, 6])
@pytest.mark.parametrize("invert", ["auto", True, False])
def test_blank_paper_has_no_ink(refused, level, noise, invert):
    paper = level + np.random.default_rng(level).normal(0, noise, (200, 300)) + np.linspace(-20, 20, 300)
    blank = np.clip(paper, 0, 255).astype(np.uint8) if noise else np.full((200, 300), level, np.uint8)
    refused(lambda: prepare_image(blank, invert=invert), "no ink")


@pytest.mark.parametrize(("array", "parts"), [
    (np.zeros(783), ["(783,)", "(height, width)"]),
    (np.zeros((28, 28, 5)), ["(28, 28, 5)"]),
    (np.full((5, 5), -1.5), ["-1.5", "-1 to 1"]),
    (np.zeros((1, 28, 28, 3)), ["(1, 28, 28, 3)"]),
    (np.zeros((0, 28)), ["(0, 28)", "at least 1 pixel"]),
    (np.full((5, 5), np.nan), ["nan", "0 to 255"]),
    (np.full((5, 5), np.inf), ["inf", "0 to 255"]),
    (np.full((5, 5), -1), ["-1", "0 to 255"]),
    (np.full((5, 5), 256), ["256", "0 to 255"]),
    (np.full((5, 5), "a"), ["<U1"]),
    (np.full((5, 5), None), ["object"]),
    (np.full((5, 5), 1j), ["complex128"]),
    (np.ma.masked_array(np.zeros((5, 5))), ["masked"]),
    (np.zeros((1, 1)), ["no ink"]),
    (Image.new("L", (0, 5)), ["0 x 5"]),
    (Image.fromarray(np.full((5, 5), np.nan, np.float32)), ["nan", "finite"]),
])  # fmt: skip
def test_invalid_arrays_and_pictures_are_errors(refused, array, parts):
    refused(lambda: prepare_image(array), "image", *parts)


def test_other_types_are_errors(refused):
    for other in (7, None, [[0, 1]]):
        refused(lambda other=other: prepare_image(other), type(other).__name__, "expected a path", kind=SettingsError)


def test_files_that_are_not_pictures_or_blank_are_errors(refused, tmp_path, digits):
    path = tmp_path / "x.png"
    Image.new("RGBA", (30, 30), (0, 0, 0, 0)).save(path)
    refused(lambda: prepare_image(path), path, "no ink")
    path.write_bytes(b"no picture at all")
    refused(lambda: prepare_image(path), path, "not a picture", "PNG")
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    refused(lambda: prepare_image(path), path, "not a picture")
    refused(lambda: prepare_image(tmp_path / "none.png"), "no such file", kind=FileError)
    refused(lambda: prepare_image(tmp_path), "found a folder", kind=FileError)
    for ending in ("png", "jpg", "gif", "tiff", "bmp"):
        path = tmp_path / f"cut.{ending}"
        Image.fromarray(enlarged(digits[0])).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(lambda path=path: prepare_image(path), path, "damaged", "intact one")


@pytest.mark.parametrize("times", [1.5, 3], ids=["where Pillow warns", "where Pillow refuses"])
def test_a_picture_too_large_to_decode_is_an_error(refused, tmp_path, monkeypatch, times):
    path = tmp_path / "large.png"
    Image.new("1", (400, 400)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(400 * 400 / times))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        refused(lambda: prepare_image(path), path, "too large", int(400 * 400 / times))


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (3, 3), (1500, 2000)])
def test_pictures_of_odd_sizes_are_prepared(shape):
    picture = np.zeros(shape, np.uint8)
    picture[shape[0] // 2, shape[1] // 2 :] = 255
    out = prepare_image(picture, invert=False)
    assert out.max() == 255
