"""Tests of the preparation of pictures in the browser: it must give the rows of `prepare_image`, and its errors."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import fastnn
import fastnn.pages
from fastnn.backends import reference
from fastnn.datasets import prepare_image
from fastnn.errors import DataError
from fastnn.models.pictures import picture_rows
from fastnn.models.row_format import RowFormat
from tests.datasets import test_images, test_photos

SCRIPTS = Path(fastnn.pages.__file__).parent
PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>pictures</title>
<canvas style="width: 280px; height: 280px"></canvas>
<script src="pictures.js"></script><script src="drawing.js"></script><script src="cases.js"></script><script>
const pad = Drawing.attach(document.querySelector("canvas"));
const text = (bytes) => btoa(Array.from(bytes, (value) => String.fromCharCode(value)).join(""));
async function read(content) {  // a file, or pixels
  const { width, height, data } = content;
  const response = await fetch(`data:;base64,${data ?? content}`);
  if (!data) return Pictures.readFile(await response.blob(), "image");
  return { width, height, data: new Uint8Array(await response.arrayBuffer()) };
}
function outcome(action) {  // the text of a row, or the message of an error
  try {
    const row = action();
    return row instanceof Uint8Array ? text(row) : Array.from(row);
  } catch (error) {
    if (!(error instanceof Pictures.DataError)) throw error;
    return { error: error.message };
  }
}
async function prepared(content, options) {
  const picture = await read(content);
  return outcome(() => Pictures.prepareImage(picture, options));
}
async function preparedAll(names, options) {
  const results = {};
  for (const name of names) results[name] = await prepared(CASES[name], options);
  return results;
}
async function rowOf(model, content) {
  const picture = await read(content);
  return outcome(() => Pictures.rowFor(model, picture));
}
/** Draw strokes with events of a pointer; return the pixels and the row. */
function drawn(strokes, pointerType) {
  const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
  pad.clear();
  for (const points of strokes) {
    points.forEach(([x, y], i) => {
      const place = { pointerId: 7, pointerType, clientX: box.left + 280 * x, clientY: box.top + 280 * y };
      canvas.dispatchEvent(new PointerEvent(i ? "pointermove" : "pointerdown", place));
      if (i === points.length - 1) canvas.dispatchEvent(new PointerEvent("pointerup", place));
    });
  }
  const picture = pad.pixels();
  return [picture.width, picture.height, text(picture.data), outcome(() => Pictures.prepareImage(picture))];
}
</script></html>"""
# The strokes of digits, in parts of the pad: each a list of points.
STROKES = {
    0: [[(0.5, 0.2), (0.35, 0.3), (0.3, 0.5), (0.37, 0.72), (0.5, 0.8), (0.65, 0.7), (0.7, 0.5), (0.64, 0.28),
         (0.5, 0.2)]],
    1: [[(0.42, 0.3), (0.52, 0.2), (0.5, 0.8)]],
    2: [[(0.32, 0.32), (0.45, 0.2), (0.62, 0.28), (0.6, 0.45), (0.3, 0.78), (0.7, 0.77)]],
    3: [[(0.34, 0.25), (0.55, 0.2), (0.62, 0.35), (0.45, 0.47), (0.65, 0.6), (0.57, 0.77), (0.33, 0.75)]],
    4: [[(0.4, 0.2), (0.32, 0.52), (0.68, 0.5)], [(0.6, 0.3), (0.58, 0.82)]],
    5: [[(0.4, 0.22), (0.37, 0.45), (0.55, 0.45), (0.64, 0.6), (0.55, 0.77), (0.34, 0.75)],
        [(0.41, 0.21), (0.66, 0.2)]],
    6: [[(0.56, 0.2), (0.38, 0.45), (0.36, 0.7), (0.5, 0.79), (0.62, 0.68), (0.53, 0.55), (0.38, 0.63)]],
    7: [[(0.3, 0.24), (0.68, 0.22), (0.45, 0.8)], [(0.4, 0.52), (0.64, 0.5)]],
    8: [[(0.5, 0.48), (0.36, 0.35), (0.5, 0.2), (0.63, 0.33), (0.37, 0.66), (0.5, 0.8), (0.63, 0.66), (0.5, 0.48)]],
    9: [[(0.62, 0.32), (0.48, 0.2), (0.38, 0.34), (0.5, 0.45), (0.62, 0.33), (0.57, 0.8)]],
}  # fmt: skip


def coded(picture, format="PNG"):
    """Return the text of a file with the picture, whose pixels survive."""
    file = io.BytesIO()
    picture.save(file, format, **({"lossless": True} if format == "WEBP" else {}))
    return base64.b64encode(file.getvalue()).decode()


def pixels_of(picture):
    """Return the pixels of a picture for the page."""
    data = base64.b64encode(picture.convert("RGBA").tobytes()).decode()
    return {"width": picture.width, "height": picture.height, "data": data}


def in_python(action):
    """Return the row as an array, or the message of the error."""
    try:
        return action()
    except DataError as error:
        return str(error)


def in_page(result):
    """The same for a result of the page."""
    if isinstance(result, dict):
        return result["error"]
    return (
        np.frombuffer(base64.b64decode(result), np.uint8) if isinstance(result, str) else np.array(result, np.float32)
    )


@pytest.fixture(scope="module")
def pictures(mnist):
    """Pictures of all kinds by name: pictures of PIL whose pixels a file can hold."""
    _, test = mnist
    rng = np.random.default_rng(7)
    digits = [test.images[np.flatnonzero(test.labels == digit)[4]].reshape(28, 28) for digit in range(10)]
    found = {}

    def add(name, picture):
        if isinstance(picture, np.ndarray):
            if picture.dtype.kind == "f":
                picture = np.rint(255 * picture)
            picture = Image.fromarray(picture.astype(np.uint8))
        found[name] = picture

    for number, (name, ground) in enumerate(test_photos.GROUNDS.items()):
        for digit in (number % 10, (number + 3) % 10, (number + 7) % 10):
            picture = ground(test_photos.placed(digits[digit]))
            add(f"{digit}: {name}", test_photos.photo(picture, is_exact="transparency" in name))
    for number, (name, (change, _)) in enumerate(test_images.CHANGES.items()):
        for digit in range(number % 2, 10, 2):
            add(f"{digit}: {name}", change(digits[digit]))
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA"):
        picture = Image.fromarray(255 - digits[5])
        add(f"mode {mode}", picture.convert("RGB").convert(mode) if mode == "LA" else picture.convert(mode))
    for count, gap in ((2, 12), (2, 40), (3, 12)):
        page, left = np.zeros((300, 300)), 20
        for number in range(count):
            ink = test_photos.placed(digits[number + 1], height=90 - 10 * number, top=90 + 8 * number, left=left)
            left = np.flatnonzero(ink.any(axis=0))[-1] + gap
            page = np.maximum(page, ink)
        add(f"{count} digits, {gap} apart", test_photos.photo(test_photos.on(210, page)))
    for shape in ((1, 5000), (5000, 1), (3, 3), (1, 1), (900, 700)):
        picture = np.zeros(shape, np.uint8)
        picture[shape[0] // 2, shape[1] // 2 :] = 255
        add(f"{shape[0]} x {shape[1]}", picture)
    for level in (0, 128, 255):
        for noise in (0, 6):
            paper = level + noise * rng.normal(0, 1, (200, 300)) + np.linspace(-20, 20, 300) * (noise > 0)
            add(f"blank {level}, noise {noise}", np.clip(paper, 0, 255))
    add("a shadow", test_photos.photo(test_photos.lit(np.full((300, 300), 210.0), test_photos.X + test_photos.Y > 300)))
    thin = np.full((600, 400), 255)
    thin[50:550, 200:203] = 90
    add("a thin line", thin)
    add("nothing on transparency", np.zeros((30, 30, 4)))
    for number in range(12):
        ground, ink = rng.integers(0, 256, (2, 3))
        opacity = test_photos.placed(digits[number % 10])[:, :, None]
        add(f"{number % 10}: colours {ground} and {ink}", test_photos.photo(ground + opacity * (ink - ground)))
        faint = np.dstack([np.clip(rng.normal(ground, 20, (300, 300, 3)), 0, 255), 255 * np.maximum(opacity, 0.3)])
        add(f"{number % 10}: semitransparent {ground}", faint)
        if number % 3 == 0:
            opaque = np.dstack([test_photos.photo(ground + opacity * (ink - ground)), np.full((300, 300), 255)])
            add(f"{number % 10}: colours {ground} and {ink}, opaque RGBA", opaque)
    for number in range(24):
        add(f"noise {number}", rng.integers(0, 256, rng.integers(2, 70, 2)))
    for number, size in enumerate([(2050, 1500), (1200, 3100)]):  # reduced twofold and threefold
        strokes = test_photos.placed(digits[number + 2])
        for name, picture in {
            "opaque": test_photos.photo(test_photos.GROUNDS["folds"](strokes)),
            "transparent": np.stack([np.full_like(strokes, 240)] * 3 + [255 * strokes], axis=2).astype(np.uint8),
        }.items():
            if number == 0 or name == "opaque":
                add(f"{name} {size}", Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    return found


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory, pictures):
    """A page with the scripts and the pictures; returns a function that awaits an expression in it."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("pictures.js", "drawing.js"):
        script = (SCRIPTS / name).read_text(encoding="utf-8")
        (folder / name).write_text(
            script.replace("return { readFile,", "return { polygon, readFile,"), encoding="utf-8"
        )
    # A canvas multiplies colours by their opacity and rounds them, so semitransparent colours are passed as pixels.
    cases = {name: pixels_of(picture) if "semi" in name else coded(picture) for name, picture in pictures.items()}
    (folder / "cases.js").write_text(f"const CASES = {json.dumps(cases)};", encoding="utf-8")
    (folder / "page.html").write_text(PAGE, encoding="utf-8")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get((folder / "page.html").as_uri())
    browser.set_script_timeout(120)

    def awaited(expression, *values):
        answer = browser.execute_async_script(
            "const values = [...arguments], done = values.pop();"
            f"(async () => {expression})().then((value) => done([value]), (error) => done(error.stack))", *values
        )  # fmt: skip
        assert isinstance(answer, list), answer
        return answer[0]

    yield awaited
    assert browser.get_log("browser") == []


@pytest.fixture(scope="module")
def label(mnist):
    """A function that returns the digit that a small network reads in a row."""
    train, _ = mnist
    result = fastnn.train(fastnn.Network.for_data(train, hidden=(32,)), train, epochs=2)
    return lambda row: int(reference.predict_proba(result.network, row[None]).argmax())


def compare(results, expected, label):
    """Compare rows and errors of the page with Python's; return the number of rows."""
    count = 0
    for name, result in results.items():
        found, wanted = in_page(result), expected[name]
        if isinstance(wanted, str) or isinstance(found, str):
            assert str(found) == str(wanted), name
        else:
            assert np.abs(found.astype(int) - wanted).max() <= 1, name
            assert label(found) == label(wanted), name
            count += 1
    return count


def test_pictures_are_prepared_as_in_python(page, pictures, label):
    """The browser decodes the files, too."""
    results = page("await preparedAll(Object.keys(CASES))")
    expected = {name: in_python(lambda picture=picture: prepare_image(picture)) for name, picture in pictures.items()}
    rows = compare(results, expected, label)
    assert len(results) == len(pictures) > 200
    assert rows > 160
    messages = [message for message in expected.values() if isinstance(message, str)]
    assert all(any(part in message for message in messages) for part in ("no ink", "cannot find", "found 2 marks"))


def test_drawings_on_the_pad_are_prepared_as_in_python(page, label):
    """Synthetic pointer, touch and pen events on the pad; the pixels of the pad in Python."""
    rng = np.random.default_rng(1)
    drawings = {}
    for digit, strokes in STROKES.items():
        for kind in ("mouse", "touch", "pen"):
            scale, shift = rng.uniform(0.4, 1.1), rng.uniform(-0.1, 0.1, 2)
            drawings[f"{digit} by {kind}"] = (
                [
                    [
                        (0.5 + scale * (np.array(point) - 0.5) + shift + rng.normal(0, 0.012, 2)).tolist()
                        for point in stroke
                    ]
                    for stroke in strokes
                ],
                kind,
            )
    drawings["two ones"] = [[(0.25, 0.2), (0.25, 0.8)], [(0.75, 0.2), (0.75, 0.8)]], "mouse"
    drawings["nothing"] = [], "mouse"
    results = page("Object.fromEntries(Object.entries(values[0]).map(([name, [strokes, kind]]) =>"
                   " [name, drawn(strokes, kind)]))", drawings)  # fmt: skip
    expected = {}
    for name, (width, height, data, _) in results.items():
        pixels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
        expected[name] = in_python(lambda pixels=pixels: prepare_image(pixels[..., :3]))
        if isinstance(expected[name], str):
            expected[name] = expected[name].replace("image: ", "drawing: ", 1)
        else:
            # Opaque RGBA in Python, whose luma is not rounded.
            assert np.abs(prepare_image(pixels).astype(int) - expected[name]).max() <= 1
    assert compare({name: result[-1] for name, result in results.items()}, expected, label) == 30
    read = [label(row) == int(name[0]) for name, row in expected.items() if not isinstance(row, str)]
    assert np.mean(read) > 0.6, "the drawings are no digits"


@pytest.mark.parametrize("format", ["BMP", "GIF", "WEBP"])
def test_files_of_other_formats_are_read(page, pictures, label, format):
    for picture in (pictures["4: enlarged"], pictures["3: coloured"]):
        if format == "GIF":
            picture = picture.convert("L")
        result = page("await prepared(values[0])", coded(picture, format))
        compare({format: result}, {format: prepare_image(picture)}, label)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_stored_by_the_camera_is_applied(page, pictures, label, orientation):
    """Decoders of JPEG differ in the last bits, so the digit and most of the row are compared."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    pictures["4: enlarged"].save(file, "JPEG", exif=exif, quality=95)
    found = in_page(page("await prepared(values[0])", base64.b64encode(file.getvalue()).decode()))
    wanted = prepare_image(Image.open(file))
    assert label(found) == label(wanted)
    assert np.abs(found.astype(int) - wanted).mean() < 1


@pytest.mark.parametrize("invert", [True, False])
def test_invert_is_as_in_python(page, pictures, label, invert):
    names = ["4: unchanged", "4: on paper", "2: a hard shadow", "2: holes", "a thin line"]
    names = [name for name in pictures if name in names or "blackboard" in name]
    results = page("await preparedAll(values[0], { invert: values[1] })", names, invert)
    wanted = {name: in_python(lambda name=name: prepare_image(pictures[name], invert=invert)) for name in names}
    compare(results, wanted, label)
    assert len(names) >= 6


@pytest.mark.parametrize(("shape", "pixels"), [
    ((28, 28), (0, 255)), ((28, 28), (255, 0)), ((28, 28), (0, 1)), ((28, 28), (1, -1)), ((28, 28), (16, 0)),
    ((9, 6), (0, 255)), ((9, 6), (255, 0)), ((9, 6), (0, 16)), ((9, 6), (1, -1)), (None, (0, 255)),
])  # fmt: skip
def test_rows_have_the_range_and_the_ink_of_the_model(page, pictures, shape, pixels):
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 6, 3), np.uint8))
    rows = RowFormat(784 if shape is None else shape[0] * shape[1], shape, None, pixels)
    model = {"imageShape": shape, "pixels": pixels}
    for picture in (pictures["4: unchanged"], small):
        found = page("await rowOf(values[0], values[1])", model, coded(picture))
        wanted = in_python(lambda picture=picture: picture_rows(rows, [picture])[0])
        if isinstance(wanted, str):
            assert found == {"error": wanted}
        else:
            assert wanted.dtype == (np.uint8 if isinstance(found, str) else np.float32)
            np.testing.assert_allclose(in_page(found).astype(float), wanted, rtol=0, atol=np.ptp(pixels) / 255 * 1.01)


def test_polygons_are_filled_as_pillow_does(page):
    """The quadrilaterals of sheets, which the pictures above do not vary."""
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 40, (300, 4, 2)).tolist()
    for each in corners[:100]:
        each[1][1] = each[0][1]  # level edges
    found = page("values[0].map((corners) => text(Pictures.polygon(corners, 40, 40).data))", corners)
    for each, result in zip(corners, found, strict=True):
        picture = Image.new("L", (40, 40))
        ImageDraw.Draw(picture).polygon([tuple(corner) for corner in each], fill=1)
        np.testing.assert_array_equal(in_page(result), np.asarray(picture).reshape(-1), str(each))
