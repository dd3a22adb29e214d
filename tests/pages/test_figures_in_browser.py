"""Tests of figures.js in headless Chromium: colours, sharpness, exact numbers, keys, texts for screen readers."""

from itertools import cycle

import numpy as np
import pytest

from fastnn.evaluation import probability_text
from fastnn.pages.assets import read_asset, script_json
from fastnn.plots.display import signed_colours

PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>figures</title><style>%s</style><main></main>
<script>%s
const host = document.querySelector("main");
function seen(canvas, x, y) {
  const copy = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, -x, -y);
  return [...copy.getImageData(0, 0, 1, 1).data];
}
</script></html>"""


@pytest.fixture
def run(browser, tmp_path):
    """A new page with figures.js, in the light, at one pixel per CSS pixel; a function that runs a script in it."""
    page = tmp_path / "figures.html"
    page.write_text(PAGE % (read_asset("style.css"), read_asset("figures.js")), "utf-8")
    emulate(browser)
    browser.get(page.as_uri())
    yield browser.execute_script
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    emulate(browser, reset=True)


def emulate(browser, scheme="light", ratio=1, width=1000, reset=False):
    if not reset:
        window = {"width": width, "height": 800, "deviceScaleFactor": ratio, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    features = [] if reset else [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})


def settled(browser):
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def test_signed_numbers_have_the_colours_of_the_other_figures(run):
    values = np.append(np.linspace(-2.5, 2.5, 401), 0.0)
    found = run(
        "window.figure = new Figures.Images(host, { title: 'all' });"
        "figure.draw({ values: arguments[0], count: 1, height: 1, width: arguments[0].length, limit: 2 });"
        "return Array.from(figure.image.data)", values.tolist(),
    )  # fmt: skip
    colours = np.reshape(found, (-1, 4))
    expected = 255 * signed_colours()(np.clip((values + 2) / 4, 0, 1))
    # Either map has about 256 steps, of up to 3.1 levels of a channel.
    assert np.abs(colours - expected).max() < 4
    assert colours[-1].tolist() == [255, 255, 255, 255]  # 0 is exactly white
    assert colours[0, :3].tolist() == [0xD5, 0x5E, 0x00]
    assert colours[-2, :3].tolist() == [0x00, 0x72, 0xB2]


def test_a_scale_covers_the_same_share_of_the_magnitudes_as_the_other_figures(run):
    values = np.random.default_rng(0).standard_t(3, 20_000)
    found = run(f"return Figures.magnitudeOf({script_json(values.tolist())})")
    # Exact to a step of the histogram.
    assert found == pytest.approx(np.percentile(np.abs(values), 99.5), abs=np.abs(values).max() / 4096)
    assert run("return Figures.magnitudeOf([0, 0])") == 1
    assert run("return Figures.magnitudeOf([3, -4, NaN], 1)") == 4


@pytest.mark.parametrize("ratio", [1, 2, 1.5])
def test_every_cell_is_a_sharp_square_of_whole_pixels_of_the_screen(ratio, run, browser):
    emulate(browser, ratio=ratio)
    values = (np.arange(6 * 7) % 2).reshape(6, 7) * 2.0 - 1  # a chess board
    run(
        f"window.figure = new Figures.Images(host, {{ title: 'board', size: 70 }});"
        f"figure.draw({{ values: {script_json(values.ravel().tolist())}, count: 1, height: 6, width: 7, limit: 1 }})"
    )
    settled(browser)
    pixel, width, styled = run(
        "return [figure.pixel, figure.canvas.width, figure.canvas.getBoundingClientRect().width]"
    )
    assert pixel == round(70 * ratio / 7)
    assert styled == pytest.approx(width / ratio, abs=0.01)
    for row in range(6):
        for column in range(7):
            corners = [
                (1 + column * pixel + dx, 1 + row * pixel + dy) for dx in (0, pixel - 1) for dy in (0, pixel - 1)
            ]
            expected = [0, 0x72, 0xB2, 255] if values[row, column] > 0 else [0xD5, 0x5E, 0, 255]
            assert all(run("return seen(figure.canvas, ...arguments)", *corner) == expected for corner in corners)


def test_units_that_are_columns_of_a_weight_are_images(run):
    weight = np.random.default_rng(1).normal(size=(12, 5)).astype(np.float32)  # 5 units of 3 x 4 inputs
    cells = run(
        "window.figure = new Figures.Images(host, { title: 'weights', item: (index) => `unit ${index}` });"
        "figure.draw({ values: Float32Array.from(arguments[0]), count: 5, height: 3, width: 4, pixelStride: 5,"
        " starts: [0, 1, 2, 3, 4] }); return Array.from(figure.cells)", weight.ravel().tolist(),
    )  # fmt: skip
    np.testing.assert_array_equal(np.float32(cells), weight.T.ravel())
    largest = np.unravel_index(weight.argmax(), weight.shape)
    place = f"unit {largest[1]}, row {largest[0] // 4}, column {largest[0] % 4}"
    assert f"at {place}." in run("return figure.summary.textContent")


def test_other_numbers_are_shown_under_a_cursor_that_stays(run, browser):
    """Live weights change ten times a second: the shown number changes, and is not spoken again."""
    from selenium.webdriver.common.keys import Keys

    run("window.figure = new Figures.Images(host, { title: 'live', quantity: 'weight' });"
        "figure.draw({ values: [1, 2, 3, 4], count: 1, height: 2, width: 2 })")  # fmt: skip
    browser.find_element("tag name", "canvas").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    readout = browser.find_element("class name", "readout")
    assert readout.text == "row 1, column 0: weight 3"
    assert readout.get_attribute("aria-live") == "polite"
    run("figure.draw({ values: [1, 2, -0.25, 4], count: 1, height: 2, width: 2 })")
    assert readout.text == "row 1, column 0: weight \u22120.25"
    assert readout.get_attribute("aria-live") == "off"
    browser.find_element("tag name", "canvas").send_keys(Keys.ARROW_UP)
    assert readout.get_attribute("aria-live") == "polite"
    run("figure.draw({ values: [1], count: 1, height: 1, width: 1 })")  # the cell is gone
    assert readout.text == "weight 1"
    run("figure.draw({ values: [], count: 0, height: 1, width: 1 })")
    assert readout.text == ""


def test_numbers_that_are_not_finite_have_no_colour_and_no_error(run):
    found = run(
        "window.figure = new Figures.Images(host, { title: 'diverged' });"
        "figure.draw({ values: [NaN, 1, -1, Infinity], count: 1, height: 2, width: 2 });"
        "return [...figure.image.data].filter((_, i) => i % 4 === 3)"
    )
    assert found == [0, 255, 255, 255]
    assert run("figure.draw({ values: [NaN, NaN], count: 1, height: 1, width: 2 }); return figure.pixels.length") == 2
    run("window.bars = new Figures.Bars(host, { title: 'diverged' }); bars.draw([NaN, 1, Infinity])")


def test_bars_start_at_zero_and_wrap(run, browser):
    run("window.bars = new Figures.Bars(host, { title: 'outputs', quantity: 'output', item: (i) => `unit ${i}` });"
        "bars.draw(Float64Array.from({ length: 300 }, (_, i) => Math.sin(i)))")  # fmt: skip
    lines = run("return bars.canvas.height / bars.lineHeight")
    assert lines == -(-300 // run("return bars.perLine")) > 1
    above = run("return seen(bars.canvas, 2 * bars.step + 1, Math.round(bars.lineHeight / 2) - 4)")  # sin(2) > 0
    below = run("return seen(bars.canvas, 4 * bars.step + 1, Math.round(bars.lineHeight / 2) + 6)")  # sin(4) < 0
    assert above[:3] == [0, 0x72, 0xB2]
    assert below[:3] == [0xD5, 0x5E, 0]
    browser.find_element("tag name", "canvas").send_keys("\ue014", "\ue014", "\ue015")  # right, right, down
    place = 1 + run("return bars.perLine")
    assert browser.find_element("class name", "readout").text == f"unit {place}: output {signed(np.sin(place))}"
    assert run("return bars.summary.textContent").startswith("300 bars, 299 of them not 0. Lowest output ")


def signed(value):
    return f"{value:.6g}".replace("-", "\u2212")


def test_figures_follow_the_scheme_and_the_width(run, browser):
    run("window.figure = new Figures.Images(host, { title: 'many' });"
        "figure.draw({ values: new Float32Array(40 * 64), count: 40, height: 8, width: 8 })")  # fmt: skip
    wide = run("return figure.columns")
    emulate(browser, "dark", width=360)
    settled(browser)
    assert run("return figure.columns") < wide
    assert run("return document.documentElement.scrollWidth") <= 360
    assert sum(run("return seen(figure.canvas, 4, 4)")[:3]) < 120  # 0 is dark
    run("figure.remove()")
    assert run("return host.children.length") == 0


def test_figures_follow_the_density_of_the_screen_alone(run, browser):
    from selenium.webdriver.support.ui import WebDriverWait

    def screen(factor):
        window = {"width": 800, "height": 600, "deviceScaleFactor": factor, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        WebDriverWait(browser, 30).until(lambda _: run("return devicePixelRatio") == factor)

    screen(1)
    settled(browser)
    run("window.figure = new Figures.Bars(host, { title: 'bars' }); figure.draw(new Float32Array([1, 2, 3]))")
    motions = cycle(["reduce", "no-preference"])

    def follows(factor):
        # Emulation sends no event of the density before it changes something else.
        features = [{"name": "prefers-reduced-motion", "value": next(motions)}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        settled(browser)
        return run("return figure.pixelRatio") == factor

    for factor in (2, 1):
        screen(factor)
        WebDriverWait(browser, 30).until(lambda _, factor=factor: follows(factor))
    run("figure.remove()")


def test_a_thumbnail_follows_the_scheme(run, browser):
    from selenium.webdriver.support.ui import WebDriverWait

    run("window.small = document.createElement('canvas'); host.append(small);"
        "Figures.thumbnail(small, [0, 255], 1, 2)")  # fmt: skip
    light = "return [0, 1].map((x) => seen(small, x, 0)[0] > 127)"
    assert run(light) == [True, False]  # ink is dark
    emulate(browser, "dark")
    WebDriverWait(browser, 30).until(lambda _: run(light) == [False, True])


@pytest.mark.parametrize("probability", [0, 1e-9, 0.0004, 0.0006, 0.123, 0.5, 0.9994, 0.9996, 1 - 1e-9, 1])
def test_probabilities_are_written_as_in_python(probability, run):
    assert run("return Figures.percent(arguments[0])", probability) == probability_text(probability)


def test_of_many_classes_the_most_probable_are_shown(run):
    values = np.random.default_rng(2).dirichlet(np.ones(62))
    shown = run(
        f"const names = Array.from({{ length: 62 }}, (_, i) => `class ${{i}}`), chosen = [];"
        f"window.list = new Figures.Probabilities(host, {{ title: 'p', names, onChoose: (i) => chosen.push(i) }});"
        f"list.draw({script_json(values.tolist())}, {{ answer: {values.argmax()} }});"
        "host.querySelectorAll('button')[2].click();"
        "return [chosen, [...host.querySelectorAll('.name')].map((each) => each.textContent),"
        "host.querySelector('.answer').innerText]"
    )
    order = np.argsort(-values, kind="stable")[:20]
    assert shown[0] == [order[2]]
    assert shown[1] == [f"class {each}" for each in order]
    assert shown[2].split("\n")[0] == f"class {order[0]}"
