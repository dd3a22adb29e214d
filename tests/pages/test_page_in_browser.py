"""Tests of the page of a trained network in headless Chromium: console, network, numbers, drawing, keys, colours."""

import numpy as np
import pytest

import fastnn
from fastnn import evaluation
from fastnn.models import Model
from tests.browser import accessibility_faults, requests

LENET = [
    fastnn.Conv2D(6, 5), fastnn.MaxPool2D(), fastnn.Conv2D(16, 5), fastnn.MaxPool2D(), fastnn.Dense(120),
    fastnn.Dense(84),
]  # fmt: skip
KINDS = ["dense", "convolutional"]


@pytest.fixture(scope="module")
def models(mnist):
    """Trained models of both kinds; the dense one answers "unknown" below 0.6."""
    train, _ = mnist
    config = {"epochs": 1, "learning_rate": 0.1}
    dense = fastnn.train(fastnn.Network.for_data(train, (128,)), train, **config).network
    lenet = fastnn.train(fastnn.Network.for_data(train, LENET), train.take(np.arange(20_000)), **config).network
    return {
        "dense": Model(dense, tuple(range(10)), (28, 28), unknown=(0.6, -1), pixels=(0, 255)),
        "convolutional": Model.for_data(lenet, train),
    }


@pytest.fixture(scope="module")
def pages(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {kind: fastnn.write_page(model, path=folder / f"{kind}.html") for kind, model in models.items()}


@pytest.fixture
def open_page(browser):
    """A function that opens a file, and returns one that runs a script in it.

    There is no message on the console and no request.
    """
    opened = []

    def open_page(path, width=1100, scheme="light"):
        window = {"width": width, "height": 900, "deviceScaleFactor": 1 if width > 500 else 2, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
        requests(browser)
        browser.get(path.as_uri())
        opened.append(path.as_uri())
        settled(browser)
        return browser.execute_script

    yield open_page
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if url not in opened and not url.startswith(("data:", "blob:"))] == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def settled(browser):
    """Wait until the page has drawn two frames, and has answered the drawing."""
    browser.execute_async_script(
        "const done = arguments[0], answered = () => Page.page.timer ? setTimeout(answered, 10) : done();"
        "requestAnimationFrame(() => requestAnimationFrame(answered))"
    )


def text_of(browser, name):
    return browser.execute_script("return document.getElementById(arguments[0]).innerText", name)


def draw(browser, strokes, kind="mouse"):
    """Draw strokes on the pad with trusted events; points are parts of its side."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    pad = browser.find_element("id", "pad")
    side = pad.size["width"]
    for points in strokes:
        actions = ActionBuilder(browser, mouse=PointerInput(kind, kind), duration=5)
        places = [[round((part - 0.5) * side) for part in point] for point in points]
        actions.pointer_action.move_to(pad, *places[0]).pointer_down()
        for place in places[1:]:
            actions.pointer_action.move_to(pad, *place)
        actions.pointer_action.pointer_up()
        actions.perform()
    settled(browser)


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser, duration=0).send_keys(key).perform()
    settled(browser)


SEVEN = [[(0.25, 0.2), (0.5, 0.2), (0.75, 0.2), (0.6, 0.5), (0.45, 0.8)]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_opens_with_its_worst_mistake_and_the_accuracy_of_the_data(
    kind, pages, models, mnist, open_page, browser
):
    _, test = mnist
    run = open_page(pages[kind].path)
    proba = models[kind].predict_proba(test.images)
    worst = int(evaluation.mistakes(test.labels, proba)[0])
    predicted, label = int(proba[worst].argmax()), int(test.labels[worst])
    assert text_of(browser, "answer").startswith(f"Answer: {predicted} (")
    assert f"row {worst:,} of the data: its label is {label}, so the network is wrong." in text_of(browser, "source")
    wrong = int((proba.argmax(axis=1) != test.labels).sum())
    assert f"{wrong:,} of 10,000" in text_of(browser, "numbers")
    assert f"{pages[kind].accuracy * 100:.2f} %" in text_of(browser, "numbers")
    cells = run("return [...document.querySelectorAll('#confusion tbody tr')].map((row) =>"
                " [...row.cells].slice(1, -1).map((cell) => Number(cell.innerText.replace(',', ''))))")  # fmt: skip
    np.testing.assert_array_equal(cells, evaluation.confusion(test.labels, proba.argmax(axis=1), 10))
    shown = run("return Page.page.samples.map(({row, prediction, probability}) => [row, prediction, probability])")
    rows = np.array(shown)[:, 0].astype(int)
    assert (np.array(shown)[:, 1] == proba[rows].argmax(axis=1)).all()
    np.testing.assert_allclose(np.array(shown)[:, 2], proba[rows].max(axis=1), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pointer", ["mouse", "touch"])
def test_a_drawing_gets_the_answer_that_python_gives(kind, pointer, pages, models, open_page, browser):
    run = open_page(pages[kind].path, 390 if pointer == "touch" else 1100)
    draw(browser, SEVEN, pointer)
    row = np.array(run("return Array.from(Page.page.row)"), np.uint8)
    assert row.max() == 255
    label, proba = models[kind].predict(row)[0], models[kind].predict_proba(row)[0]
    np.testing.assert_allclose(run("return Array.from(Page.page.values)"), proba, atol=1e-5)
    expected = "I do not know." if label == -1 else f"Answer: {label} ("
    assert text_of(browser, "answer").startswith(expected)
    assert "answer to your drawing" in text_of(browser, "source")
    browser.find_element("id", "clear").click()
    settled(browser)
    assert text_of(browser, "answer") == "The pad is empty."
    assert not browser.find_element("id", "why").is_displayed()
    browser.find_element("id", "undo").click()
    settled(browser)
    assert text_of(browser, "answer").startswith(expected)


def test_a_drawing_by_keyboard_gets_an_answer(pages, open_page, browser):
    from selenium.webdriver.common.keys import Keys

    open_page(pages["dense"].path)
    browser.execute_script("document.getElementById('pad').focus()")
    press(browser, *[Keys.ARROW_UP] * 8, " ", *[Keys.ARROW_DOWN] * 16, " ")
    assert text_of(browser, "answer").startswith(("Answer:", "I do not know"))
    assert "answer to your drawing" in text_of(browser, "source")


def test_below_the_threshold_the_answer_is_unknown(pages, models, mnist, open_page, browser):
    run = open_page(pages["dense"].path)
    proba = models["dense"].predict_proba(mnist[1].images)
    row = int(np.abs(proba.max(axis=1) - 0.5).argmin())
    run("Page.page.showRow(arguments[0], null)", mnist[1].images[row].tolist())
    assert text_of(browser, "answer") == "I do not know."
    assert f"{proba[row].argmax()}, has " in text_of(browser, "source")
    assert "the threshold is 60.0 %" in text_of(browser, "source")
    run("Page.page.showRow(arguments[0], null)", mnist[1].images[int(proba.max(axis=1).argmax())].tolist())
    assert text_of(browser, "answer").startswith("Answer: ")


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_for_and_against_are_those_of_python(kind, pages, models, mnist, open_page, browser):
    _, test = mnist
    run = open_page(pages[kind].path)
    worst = run("return Page.page.sample.row")
    expected = fastnn.explain(models[kind], test.images[worst], int(test.labels[worst]))
    shown = "return Array.from(Page.page.speaking.cells)"
    largest = np.abs(expected.contributions).max()
    np.testing.assert_allclose(run(shown), expected.contributions, atol=1e-4 * largest)
    title = f"Pixels that speak for {expected.prediction}, against {expected.rival}"
    assert title in text_of(browser, "speaking")
    other = next(each for each in range(10) if each not in (expected.prediction, expected.rival))
    browser.find_elements("css selector", "#probabilities button")[other].click()
    assert f"speak for {other}, against {expected.prediction}" in text_of(browser, "speaking")
    run("const select = document.getElementById('measure'); select.value = 'occlusion';"
        "select.dispatchEvent(new Event('change'))")  # fmt: skip
    browser.set_script_timeout(60)
    browser.execute_async_script(
        "const done = arguments[0], wait = () => document.getElementById('speaking').innerText.includes('drops if')"
        " ? done() : setTimeout(wait, 50); wait()"
    )
    drops = evaluation.occlusion(models[kind], test.images[worst], other).by_pixel
    np.testing.assert_allclose(np.reshape(run(shown), (28, 28)), drops, atol=1e-5)


def test_exact_values_are_shown_under_the_pointer_and_spoken_for_the_keys(pages, models, open_page, browser):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    run = open_page(pages["dense"].path)
    weight = models["dense"].network.weights[0]
    figure = browser.find_element("css selector", "#layers figure")
    canvas, readout = figure.find_element("tag name", "canvas"), figure.find_element("class name", "readout")
    canvas.send_keys(Keys.ARROW_RIGHT)
    press(browser, *[Keys.ARROW_DOWN] * 12, *[Keys.ARROW_RIGHT] * 14, Keys.PAGE_DOWN, Keys.PAGE_DOWN, Keys.PAGE_UP)
    value = weight[12 * 28 + 14, 1]
    assert readout.text.startswith("unit 1, row 12, column 14: weight ")
    assert float(readout.text.rpartition(" ")[2].replace("\u2212", "-")) == pytest.approx(value, rel=1e-5)
    assert readout.get_attribute("aria-live") == "polite"
    summary = run("return document.getElementById(arguments[0].getAttribute('aria-describedby')).innerText", canvas)
    assert summary.startswith("128 images of 28 by 28. Lowest weight ")
    unit = int(np.unravel_index(weight.argmax(), weight.shape)[1])
    assert f"at unit {unit}, row " in summary
    press(browser, Keys.ESCAPE)
    assert readout.text == ""
    ActionChains(browser, duration=0).move_to_element_with_offset(canvas, 0, 0).perform()
    box = run("const box = arguments[0].getBoundingClientRect(); return [box.width, box.height]", canvas)
    ActionChains(browser, duration=0).move_to_element_with_offset(canvas, 10 - box[0] / 2, 10 - box[1] / 2).perform()
    assert readout.text.startswith("unit 0, row ")
    assert readout.get_attribute("aria-live") == "off"


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_shows_its_outputs(kind, pages, models, mnist, open_page, browser):
    run = open_page(pages[kind].path)
    worst = run("return Page.page.sample.row")
    steps = fastnn.explain(models[kind], mnist[1].images[worst]).layers
    found = run("return Page.page.layerFigures.map((each) => Array.from(each.cells || each.values))")
    assert len(found) == len(steps)
    for values, step in zip(found, steps, strict=True):
        np.testing.assert_allclose(values, step.out.ravel(), rtol=1e-4, atol=1e-5 * np.abs(step.out).max())
    # Choosing an output of the first layer marks its weights.
    chosen = run("""
    const [weights, first] = document.querySelectorAll("#layers .area canvas"), before = weights.toDataURL();
    const { top, left, height } = first.getBoundingClientRect();
    first.dispatchEvent(new MouseEvent("click", { clientX: left + 4, clientY: top + height / 2 }));
    return before !== weights.toDataURL();""")
    assert chosen


def test_an_error_of_the_matrix_selects_its_images(pages, models, mnist, open_page, browser):
    _, test = mnist
    open_page(pages["dense"].path)
    proba = models["dense"].predict_proba(test.images)
    first = evaluation.mistakes(test.labels, proba)[0]
    label, predicted = int(test.labels[first]), int(proba[first].argmax())
    count = int(((test.labels == label) & (proba.argmax(axis=1) == predicted)).sum())
    name = f"{label} read as {predicted}"
    browser.find_element("css selector", f'#confusion button[aria-label="{count}: {name}"]').click()
    assert text_of(browser, "images-heading") == name
    assert text_of(browser, "images-note").startswith(f"{count} of the {(test.labels == label).sum():,} samples")
    visible = [each.text for each in browser.find_elements("css selector", "#images li") if each.is_displayed()]
    assert visible
    assert all(f"label {label}\nread as {predicted}" in text for text in visible)
    browser.find_element("css selector", "#errors button").click()
    assert len([each for each in browser.find_elements("css selector", "#images li") if each.is_displayed()]) == 50
    browser.find_element("id", "next").click()
    assert "Test image " in text_of(browser, "source")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_fits_its_window_and_is_accessible(kind, width, scheme, pages, open_page, browser):
    run = open_page(pages[kind].path, width, scheme)
    assert run("return document.documentElement.scrollWidth") <= width
    background = run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) < 200) == (scheme == "dark")
    assert accessibility_faults(browser) == []
    smallest = run(
        "return Math.min(...[...document.querySelectorAll('button, select')].filter((each) => each.checkVisibility())"
        ".map((each) => Math.min(each.offsetWidth, each.offsetHeight)))"
    )
    assert smallest >= 24


def test_every_control_is_reached_by_the_tab_key(pages, open_page, browser):
    from selenium.webdriver.common.keys import Keys

    run = open_page(pages["dense"].path)
    expected = run(
        "return [...document.querySelectorAll('button, select, input, canvas[tabindex]')].filter((each) =>"
        " each.checkVisibility() && !each.disabled).length"
    )
    reached = set()
    for _ in range(expected + 5):
        press(browser, Keys.TAB)
        reached.add(run(
            "const all = [...document.querySelectorAll('button, select, input, canvas[tabindex]')];"
            "return all.indexOf(document.activeElement)"
        ))  # fmt: skip
    assert len(reached - {-1}) == expected


def test_hostile_names_are_text(open_page, browser, tmp_path):
    data = fastnn.load_digits()
    names = ['</script><img src=x onerror="alert(1)">', "<b>bold</b>", *"23456789"]
    data = fastnn.Dataset(data.images, [names[label] for label in data.labels], name="<i>data</i>", image_shape=(8, 8))
    network = fastnn.train(fastnn.Network.for_data(data, (16,)), data, epochs=5, learning_rate=0.1).network
    page = fastnn.write_page(Model.for_data(network, data), data, tmp_path / "page.html", "int8")
    run = open_page(page.path)
    assert run("return document.querySelectorAll('img, b, i').length") == 0
    for name in names:
        assert name in text_of(browser, "probabilities")
    assert "<i>data</i>" in text_of(browser, "about")
    assert "int8" in text_of(browser, "about")
    assert browser.find_elements("id", "pad") == []  # drawings are prepared as 28 x 28 images
    assert text_of(browser, "answer").startswith("Answer: ")


def test_the_policy_blocks_a_script_that_the_page_does_not_have(pages, browser, tmp_path):
    """The same page with one more script, which does not run."""
    text = pages["dense"].path.read_text("utf-8")
    changed = tmp_path / "changed.html"
    changed.write_text(text.replace("</body>", "<script>window.ran = true</script></body>"), "utf-8")
    browser.get(changed.as_uri())
    assert browser.execute_script("return window.ran") is None
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))
