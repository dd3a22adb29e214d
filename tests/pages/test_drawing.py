"""Tests of the drawing pad in headless Chromium: mouse, finger, pen and keyboard, undo, files, sizes and colours."""

import base64
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastnn.pages

SCRIPTS = Path(fastnn.pages.__file__).parent
SIDE = 300
PAGE = """<!DOCTYPE html><html lang="en"><title>pad</title><style>
:root { color-scheme: light dark; } body { margin: 20px; }
canvas { width: %dpx; height: %dpx; border: 2px solid grey; background: Canvas; color: CanvasText; }
</style><main><canvas></canvas><p role="status"></p></main><script>%s
const canvas = document.querySelector("canvas");
const changes = [], said = [];
const pad = Drawing.attach(canvas, { onChange: () => changes.push(pad.isEmpty), onStatus: (text) => said.push(text) });
function seen(x, y, width = 1, height = 1) {  // pixels of the screen; places in parts of the canvas
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(x * canvas.width, y * canvas.height, width, height).data];
}
function darkness() {  // of the prepared pixels, by halves of the pad: left, right, top, bottom
  const { width, height, data } = pad.pixels(), sums = [0, 0, 0, 0];
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const dark = 255 - data[4 * (y * width + x)];
    sums[2 * x < width ? 0 : 1] += dark;
    sums[2 * y < height ? 2 : 3] += dark;
  }
  return sums.map((sum) => sum / 255);
}
</script></html>"""


@pytest.fixture
def pad(browser, tmp_path):
    """A new page with a pad; returns a function that runs a script in it and returns its result."""
    page = tmp_path / "pad.html"
    scripts = "".join((SCRIPTS / name).read_text(encoding="utf-8") for name in ("pictures.js", "drawing.js"))
    page.write_text(PAGE % (SIDE, SIDE, scripts), encoding="utf-8")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": []})
    browser.get(page.as_uri())
    settled(browser)
    yield browser.execute_script
    assert browser.get_log("browser") == []


def settled(browser):
    """Wait until the page has drawn two frames."""
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def stroke(browser, points, kind="mouse", button=0):
    """Draw a stroke with trusted events: points in parts of the pad's side."""
    from selenium.webdriver.common.action_chains import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    canvas = browser.find_element("tag name", "canvas")
    actions = ActionBuilder(browser, mouse=PointerInput(kind, kind), duration=10)
    # Offsets are from the centre of the canvas.
    places = [[round((part - 0.5) * SIDE) for part in point] for point in points]
    actions.pointer_action.move_to(canvas, *places[0]).pointer_down(button)
    for place in places[1:]:
        actions.pointer_action.move_to(canvas, *place)
    actions.pointer_action.pointer_up(button)
    actions.perform()
    settled(browser)


def keys(browser, *names):
    from selenium.webdriver.common.action_chains import ActionChains

    chain = ActionChains(browser, duration=0)
    for name in names:
        chain.send_keys(name)
    chain.perform()
    settled(browser)


def pixels(script):
    """Return the prepared pixels as an array: (height, width, 4) uint8."""
    width, height, data = script("""
    const { width, height, data } = pad.pixels();
    return [width, height, btoa(Array.from(data, (value) => String.fromCharCode(value)).join(""))]""")
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)


@pytest.mark.parametrize("kind", ["mouse", "touch", "pen"])
def test_strokes_of_every_pointer_are_black_on_white(pad, browser, kind):
    assert pad("return pad.isEmpty")
    stroke(browser, [(0.25, 0.2), (0.25, 0.5), (0.25, 0.8)], kind)
    found = pixels(pad)
    assert found.shape == (280, 280, 4)
    assert (found[..., 3] == 255).all()
    assert (found[..., :3] == found[..., :1]).all()
    dark = found[..., 0] < 128
    rows, columns = (np.flatnonzero(dark.any(axis=axis)) for axis in (1, 0))
    # The width of a stroke is 0.075 of the pad, its ends are round.
    np.testing.assert_allclose([columns[0], columns[-1] + 1], [280 * (0.25 - 0.0375), 280 * (0.25 + 0.0375)], atol=1.5)
    np.testing.assert_allclose([rows[0], rows[-1] + 1], [280 * (0.2 - 0.0375), 280 * (0.8 + 0.0375)], atol=1.5)
    assert pad("return [pad.isEmpty, changes.length > 0, scrollY]") == [False, True, 0]


def test_a_touch_draws_a_dot_and_does_not_scroll_or_zoom(pad, browser):
    stroke(browser, [(0.5, 0.5)], "touch")
    dark = pixels(pad)[..., 0] < 128
    np.testing.assert_allclose(dark.sum(), np.pi / 4 * (0.075 * 280) ** 2, rtol=0.1)
    assert pad("return getComputedStyle(canvas).touchAction") == "none"


def test_a_second_finger_and_other_buttons_are_ignored(pad, browser):
    stroke(browser, [(0.25, 0.2), (0.25, 0.8)], button=2)
    assert pad("return pad.isEmpty")
    pad("""
    const at = (type, pointerId, x, y) => canvas.dispatchEvent(new PointerEvent(type, {
      pointerId, clientX: canvas.getBoundingClientRect().left + x, clientY: canvas.getBoundingClientRect().top + y }));
    at("pointerdown", 7, 75, 60); at("pointerdown", 8, 250, 60); at("pointermove", 8, 250, 250);
    at("pointermove", 7, 75, 240); at("pointerup", 8, 250, 250); at("pointerup", 7, 75, 240)""")
    left, right, _, _ = pad("return darkness()")
    assert left > 1000
    assert right == 0


def test_the_events_between_two_frames_are_all_drawn(pad):
    """A quick half circle, whose middle is in the coalesced events only."""
    pad("""
    const box = canvas.getBoundingClientRect();
    const event = (type, angle, coalesced) => {
      const made = new PointerEvent(type, { pointerId: 7,
        clientX: box.left + 150 - 100 * Math.cos(angle), clientY: box.top + 150 - 100 * Math.sin(angle) });
      if (coalesced) made.getCoalescedEvents = () => coalesced;
      return made;
    };
    const way = Array.from({ length: 31 }, (_, step) => event("pointermove", step / 30 * Math.PI));
    canvas.dispatchEvent(event("pointerdown", 0));
    canvas.dispatchEvent(event("pointermove", Math.PI, way));
    canvas.dispatchEvent(event("pointerup", Math.PI))""")
    _, _, top, bottom = pad("return darkness()")
    assert top > 5 * bottom
    # The length of the arc, in strokes of its width; a straight line would have two thirds.
    np.testing.assert_allclose(top + bottom, np.pi * 93 * 21, rtol=0.1)


def test_a_stroke_that_the_browser_cancels_is_taken_back(pad, browser):
    stroke(browser, [(0.25, 0.2), (0.25, 0.8)])
    before = pad("return darkness()")
    pad("""
    for (const type of ["pointerdown", "pointercancel"]) {
      canvas.dispatchEvent(new PointerEvent(type, { pointerId: 7, clientX: 200, clientY: 200 }));
    }""")
    assert pad("return darkness()") == before


def test_undo_clear_and_the_eraser(pad, browser):
    stroke(browser, [(0.25, 0.2), (0.25, 0.8)])
    one = pad("return darkness()")
    stroke(browser, [(0.75, 0.2), (0.75, 0.8)])
    two = pad("return darkness()")
    assert two[1] > 1000
    pad("pad.erasing = true")
    stroke(browser, [(0.75, 0.1), (0.75, 0.9)])
    np.testing.assert_allclose(pad("return darkness()")[:2], one[:2], atol=100)
    assert pad("const before = changes.length; return pad.undo() && changes.length === before + 1")
    assert pad("return darkness()") == two
    pad("pad.clear(); pad.clear()")
    assert pad("return [pad.isEmpty, ...darkness()]") == [True, 0, 0, 0, 0]
    assert pad("return pad.undo()")
    assert pad("return darkness()") == two
    pad("pad.undo()")
    assert pad("return darkness()") == one
    assert pad("return [pad.undo(), pad.isEmpty, pad.undo()]") == [True, True, False]


def test_everything_works_by_keyboard(pad, browser):
    from selenium.webdriver.common.keys import Keys

    keys(browser, Keys.TAB)
    assert pad("return document.activeElement === canvas")
    # From the middle, up without ink, then down with ink.
    keys(browser, *[Keys.ARROW_UP] * 10, Keys.SPACE, *[Keys.ARROW_DOWN] * 20, Keys.SPACE, *[Keys.ARROW_RIGHT] * 10)
    dark = pixels(pad)[..., 0] < 128
    rows, columns = (np.flatnonzero(dark.any(axis=axis)) for axis in (1, 0))
    np.testing.assert_allclose([columns[0], columns[-1] + 1], [280 * 0.4625, 280 * 0.5375], atol=1.5)
    np.testing.assert_allclose([rows[0], rows[-1] + 1], [280 * (0.25 - 0.0375), 280 * (0.75 + 0.0375)], atol=1.5)
    assert pad("return said.at(-1)") == "Pen up, 75 % across, 75 % down"
    one = pad("return darkness()")
    keys(browser, Keys.SPACE, *[Keys.ARROW_UP] * 4, Keys.SPACE)
    assert pad("return darkness()") != one
    keys(browser, "z")
    assert pad("return darkness()") == one
    keys(browser, "e", *[Keys.ARROW_LEFT] * 10, *[Keys.ARROW_DOWN] * 4, Keys.SPACE, *[Keys.ARROW_UP] * 24)
    assert sum(pad("return darkness()")) < 0.1 * sum(one)
    assert pad("return said.at(-1)").startswith("Eraser down")
    pad("document.querySelector('canvas').dispatchEvent(new KeyboardEvent('keydown', {key: 'z', ctrlKey: true}))")
    assert pad("return darkness()") == one
    keys(browser, Keys.DELETE)
    assert pad("return pad.isEmpty")
    keys(browser, "e", Keys.SPACE, Keys.SHIFT + Keys.ARROW_RIGHT + Keys.NULL, Keys.TAB)
    assert pad("return document.activeElement !== canvas"), "the pad keeps the focus"
    assert pad("return scrollY") == 0
    described = pad("return canvas.getAttribute('aria-description')")
    assert all(word in described for word in ("arrow keys", "Space", "Delete", "Z", "E"))
    assert pad("return canvas.getAttribute('aria-label')") == "Drawing pad"


def test_the_pen_of_the_keyboard_is_seen_but_not_prepared(pad, browser):
    from selenium.webdriver.common.keys import Keys

    seen = "return seen(0, 0, canvas.width, canvas.height).some(Boolean)"
    keys(browser, Keys.TAB, Keys.ARROW_LEFT)
    assert pad(seen)
    assert pad("return darkness()") == [0, 0, 0, 0]
    keys(browser, Keys.TAB)
    assert not pad(seen)


@pytest.mark.parametrize("ratio", [1, 2.5])
def test_the_canvas_has_the_pixels_of_the_screen(pad, browser, ratio):
    from selenium.webdriver.support.ui import WebDriverWait

    stroke(browser, [(0.3, 0.2), (0.7, 0.8)])
    before = pixels(pad)
    # The size changes, too, whatever an earlier test has set: zooming changes both.
    for width, factor in ((700, 1), (800, ratio)):
        window = {"width": width, "height": 600, "deviceScaleFactor": factor, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        settled(browser)
    browser.execute_async_script(
        """
    const [ratio, done] = arguments;
    (function wait() { devicePixelRatio === ratio ? done() : setTimeout(wait, 5); })()""",
        ratio,
    )
    WebDriverWait(browser, 30).until(lambda _: settled(browser) or pad("return canvas.width") == SIDE * ratio)
    assert pad("return [canvas.width, canvas.height, canvas.clientWidth]") == [SIDE * ratio, SIDE * ratio, SIDE]
    pad("canvas.style.width = canvas.style.height = '200px'")
    settled(browser)
    assert pad("return [canvas.width, canvas.clientWidth]") == [200 * ratio, 200]
    np.testing.assert_array_equal(pixels(pad), before)  # the drawing is the same
    assert pad("return [seen(0.5, 0.5)[3], seen(0.2, 0.8)[3]]") == [255, 0]


@pytest.mark.parametrize("event", ["media", "pointer", "key"])
def test_the_canvas_follows_the_density_of_the_screen_alone(event, pad, browser):
    """Emulation sends no event of the density until it sets media; what is drawn in between has the new density."""
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    def screen(factor):
        window = {"width": 800, "height": 600, "deviceScaleFactor": factor, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        WebDriverWait(browser, 30).until(lambda _: settled(browser) or pad("return devicePixelRatio") == factor)

    motions = cycle(["reduce", "no-preference"])

    def follows(factor):
        if event == "media":
            features = [{"name": "prefers-reduced-motion", "value": next(motions)}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        settled(browser)
        return pad("return canvas.width") == SIDE * factor

    screen(1)
    stroke(browser, [(0.3, 0.2), (0.7, 0.8)])
    before = pixels(pad)
    pad("window.resized = 0; addEventListener('resize', () => window.resized++)")
    for factor in (2, 3):
        screen(factor)
        if event == "key":
            keys(browser, Keys.ARROW_LEFT)
        elif event == "pointer":
            stroke(browser, [(0.3, 0.2), (0.7, 0.8)])
        WebDriverWait(browser, 30).until(lambda _, factor=factor: follows(factor))
        assert pad("return [seen(0.5, 0.5)[3], seen(0.2, 0.8)[3]]") == [255, 0]
    assert pad("return window.resized") == 0
    if event == "media":
        np.testing.assert_array_equal(pixels(pad), before)


def test_the_colours_of_the_page_are_seen_and_prepared_alike(pad, browser):
    stroke(browser, [(0.3, 0.2), (0.7, 0.8)])
    found = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        settled(browser)
        found[scheme] = pad("return seen(0.5, 0.5)"), pixels(pad)
    assert (found["light"][0], found["dark"][0]) == ([0, 0, 0, 255], [255, 255, 255, 255])
    np.testing.assert_array_equal(found["light"][1], found["dark"][1])


def test_a_dropped_or_pasted_file_becomes_the_picture(pad, browser, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    stroke(browser, [(0.3, 0.2), (0.7, 0.8)])
    drawing = pixels(pad)
    for event, transfer in (("DragEvent('drop'", "dataTransfer"), ("ClipboardEvent('paste'", "clipboardData")):
        browser.execute_async_script(f"""
        const [bytes, done] = arguments;
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(bytes)], "noise.png"));
        const before = changes.length;
        document.body.dispatchEvent(new {event}, {{ {transfer}: files, bubbles: true, cancelable: true }}));
        (function wait() {{ changes.length > before ? done() : setTimeout(wait, 5); }})()
        """, list((tmp_path / "noise.png").read_bytes()))  # fmt: skip
        np.testing.assert_array_equal(pixels(pad)[..., :3], noise)
        assert pad("return [pad.isEmpty, pad.pixels().name]") == [False, "noise.png"]
        pad("pad.undo()")
        np.testing.assert_array_equal(pixels(pad), drawing)
    # A stroke on a picture starts a new drawing.
    open_file(browser, tmp_path / "noise.png")
    stroke(browser, [(0.3, 0.2), (0.7, 0.8)])
    assert pixels(pad).shape == (280, 280, 4)
    pad("pad.undo()")
    np.testing.assert_array_equal(pixels(pad)[..., :3], noise)


def open_file(browser, path):
    """Open a file in the pad: return whether it was a picture, and the last message."""
    return browser.execute_async_script(
        "const [bytes, name, done] = arguments; const file = new File([new Uint8Array(bytes)], name);"
        "pad.open(file).then((opened) => done([opened, said.at(-1)]), (error) => done(String(error)))",
        list(path.read_bytes()), path.name,
    )  # fmt: skip


def test_files_that_cannot_be_read_give_one_clear_line(pad, browser, tmp_path):
    digit = Image.fromarray(np.kron(np.eye(9, dtype=np.uint8), np.full((9, 9), 255, np.uint8)))
    path = tmp_path / "x.png"
    for content in (b"no picture at all", b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        path.write_bytes(content)
        expected = "x.png: the file is not a picture, expected one of PNG, JPEG, BMP, GIF, WEBP"
        assert open_file(browser, path) == [False, expected]
    for ending in ("png", "jpg", "gif", "bmp", "webp"):
        path = tmp_path / f"whole.{ending}"
        digit.convert("RGB").save(path)
        assert open_file(browser, path) == [True, "A picture of 81 x 81 pixels"]
        whole = path.read_bytes()
        for length in (20, len(whole) // 2):
            (tmp_path / f"cut.{ending}").write_bytes(whole[:length])
            opened, message = open_file(browser, tmp_path / f"cut.{ending}")
            if not opened:
                assert message == f"cut.{ending}: the picture is damaged, expected an intact one"
            else:  # browsers show the part of a picture that has arrived
                assert length > 20
    # Headers that declare too many pixels are refused before anything is decoded.
    declared = (20_000).to_bytes(4, "big")
    Image.new("L", (50, 50)).save(path := tmp_path / "bomb.png")
    path.write_bytes(path.read_bytes()[:16] + declared + declared + path.read_bytes()[24:])
    opened, message = open_file(browser, path)
    expected = "found a picture of 20000 x 20000 pixels, expected at most 36 million pixels and 65536 on each side"
    assert (opened, message) == (False, f"bomb.png: {expected}; make it smaller")
    assert pad("return pad.isEmpty") is False, "the picture that was there has gone"


def test_a_detached_pad_no_longer_draws(pad, browser):
    pad("pad.detach()")
    stroke(browser, [(0.3, 0.2), (0.7, 0.8)])
    assert pad("return [pad.isEmpty, changes.length]") == [True, 0]
