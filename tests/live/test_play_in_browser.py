"""Tests of the live page in headless Chromium: controls, drawing, code, two browsers, widths and colours."""

import functools
import http.server
import json
import subprocess
import sys
import threading
from importlib import resources

import numpy as np
import pytest

import fastnn
from fastnn.evaluation import probability_text
from fastnn.live import serve
from tests.browser import requests
from tests.live.conftest import ended, paused, status, wait_until

DIGITS = ("--recipe", "digits", "--epochs", "6", "--backend", "numpy")


@pytest.fixture
def open_page(new_session, browser):
    """Returns a function that opens the page of a session in the browser; what the page did wrong fails the test."""
    servers = []

    def open_in_browser(*arguments):
        session = new_session(*(arguments or DIGITS))
        server = serve(session)
        servers.append(server)
        browser.get_log("browser")
        requests(browser)
        show(browser, server, 1100)
        wait_until(lambda: text(browser, "#connection") == "Connected.")
        paused(session)
        wait_until(lambda: "Paused: epoch 1 of" in text(browser, ".a .state"))
        return session, server

    yield open_in_browser
    messages = browser.get_log("browser")
    outside = [url for url in requests(browser) if not url.startswith(tuple(own(server) for server in servers))]
    browser.get("about:blank")
    for server in servers:
        server.close()
    assert messages == []
    assert [url for url in outside if not url.startswith(("data:", "about:", "chrome:"))] == []


def own(server):
    return f"http://127.0.0.1:{server.port}/"


def show(browser, server, width, scheme="light"):
    """Open the page in a window of this width."""
    window = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get("about:blank")
    browser.get(server.address)


def text(browser, selector):
    """Return the text of an element; "" if there is none."""
    return browser.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)


def press(browser, command, run="a"):
    """Wait until a button can be pressed, and press it."""
    script = "const button = document.querySelector(arguments[0]); return Boolean(button) && !button.disabled"
    selector = f"#runs .{run} button[data-command={command}]"
    wait_until(lambda: browser.execute_script(script, selector))
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def usable(browser, run="a"):
    """Return the commands whose buttons are not disabled."""
    script = "return [...document.querySelectorAll(arguments[0])].map(button => button.dataset.command)"
    return browser.execute_script(script, f"#runs .{run} button[data-command]:not(:disabled)")


def draw(browser, points):
    """Draw a stroke by the pointer."""
    script = """
const pad = document.getElementById("pad"), box = pad.getBoundingClientRect(), points = arguments[0];
const send = (type, [x, y]) => pad.dispatchEvent(new PointerEvent(type, {
  pointerId: 1, pointerType: "touch", isPrimary: true, buttons: 1, bubbles: true, cancelable: true,
  clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
send("pointerdown", points[0]);
points.slice(1).forEach((point) => send("pointermove", point));
send("pointerup", points[points.length - 1]);
"""
    browser.execute_script(script, points)


def test_the_buttons_control_the_run(open_page, browser):
    session, _ = open_page()
    assert usable(browser) == ["train", "step", "epoch", "stop"]
    press(browser, "step")
    wait_until(lambda: status(session).batch == 1 and paused(session))
    wait_until(lambda: "batch 1 of 45" in text(browser, ".a .state"))
    assert usable(browser) == ["train", "step", "epoch", "again", "stop"]
    press(browser, "epoch")
    wait_until(lambda: "Paused: epoch 2 of 6, batch 0 of 45" in text(browser, ".a .state"))
    browser.execute_script(
        "const pace = document.querySelector('.a select'); pace.value = '3'; pace.dispatchEvent(new Event('change'))"
    )
    press(browser, "train")
    wait_until(lambda: "Training: epoch 2 of 6, batch" in text(browser, ".a .state"))
    assert usable(browser) == ["pause", "again", "stop"]
    press(browser, "pause")
    wait_until(lambda: "Paused" in text(browser, ".a .state"))
    browser.execute_script(
        "const pace = document.querySelector('.a select'); pace.value = '0'; pace.dispatchEvent(new Event('change'))"
    )
    press(browser, "train")
    result = ended(session)
    wait_until(lambda: "Ended: epoch 6 of 6" in text(browser, ".a .state"))
    assert usable(browser) == ["again"]
    last = result.history[-1]
    assert text(browser, ".a dd[data-key=validation]") == f"{100 * last.validation_accuracy:.2f} %"
    assert text(browser, ".a dd[data-key=loss]") == f"{last.loss:.4f}"
    press(browser, "again")
    wait_until(lambda: "Paused: epoch 1 of 6, batch 0 of 45" in text(browser, ".a .state"))


def test_the_code_of_the_page_repeats_its_run(open_page, browser):
    session, _ = open_page()
    press(browser, "step")
    press(browser, "train")
    digest = ended(session).digest()
    browser.execute_script("document.querySelector('#code .a button').click()")
    wait_until(lambda: digest in text(browser, "#code .digest"))
    code = text(browser, "#code pre.python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest
    assert text(browser, "#code pre.command").startswith("fastnn train --recipe digits --hidden 32 32 --epochs 6")


def test_a_drawing_is_answered_by_the_network_as_it_learns(open_page, browser):
    session, _ = open_page("--recipe", "mnist", "--epochs", "1", "--hidden", "16", "--backend", "numpy")
    draw(browser, [[0.5, 0.2], [0.5, 0.8]])
    wait_until(lambda: "Asked: the drawing" in text(browser, "#asked"))
    wait_until(lambda: text(browser, "#answers .a .answer .number") != "")
    script = "return [...document.querySelectorAll('#answers .a .probabilities .number')].map(each => each.textContent)"
    before = browser.execute_script(script)
    assert len(before) == 10
    press(browser, "train")
    ended(session)
    wait_until(lambda: text(browser, "#answers .a .answer .name") == "1")
    assert browser.execute_script(script) != before
    browser.execute_script("document.querySelector('#answers .a details').open = true")
    wait_until(lambda: text(browser, "#answers .a caption").startswith("unit 0 of layer 1"))
    wait_until(lambda: "output = relu(" in text(browser, "#answers .a tbody tr:last-child th"))
    browser.execute_script("document.getElementById('clear').click()")
    wait_until(lambda: text(browser, "#answers .a .answer .number") == "")


def test_a_mistake_can_be_asked(open_page, browser):
    session, _ = open_page()
    press(browser, "train")
    network = ended(session).network
    wait_until(lambda: "Ended" in text(browser, ".a .state"))
    browser.execute_script("document.querySelector('#inside .a .mistakes button').click()")
    validation = status(session).setup.validation
    proba = fastnn.Model.for_data(network, validation).predict_proba(validation.images)
    worst = int(fastnn.evaluation.mistakes(validation.labels, proba)[0])
    wait_until(lambda: f"sample {worst} of the validation data" in text(browser, "#asked"))
    wait_until(lambda: text(browser, "#answers .a .answer .name") == str(proba[worst].argmax()))


def test_two_runs_are_beside_each_other_with_settings_of_their_own(open_page, browser):
    session, _ = open_page()
    browser.execute_script("document.getElementById('second').click()")
    wait_until(lambda: len(session._seats) == 2 and paused(session, 1))
    fill = """
const form = document.querySelector("#runs .b form");
for (const [name, value] of Object.entries(arguments[0])) form.elements[name].value = value;
form.requestSubmit();
"""
    wait_until(lambda: text(browser, "#runs .b .state").startswith("Paused"))
    browser.execute_script(fill, {"layers": "8", "optimizer": "adam", "learning_rate": "", "activation": "tanh"})
    wait_until(lambda: "8 tanh" in text(browser, "#runs .b .network"))
    for run in ("a", "b"):
        press(browser, "train", run)
    results = [ended(session, run) for run in (0, 1)]
    assert results[1].config.optimizer == "adam"
    wait_until(lambda: all("Ended" in text(browser, f"#runs .{run} .state") for run in "ab"))
    summary = text(browser, "#curves .hidden")
    for name in ("A training", "A validation", "B training", "B validation"):
        assert name in summary
    browser.execute_script(fill, {"layers": "8", "optimizer": "quick"})
    wait_until(lambda: "optimizer is 'quick'" in text(browser, "#runs .b form .error"))
    wait_until(lambda: text(browser, "#runs .b .state").startswith("Ended"))  # the run before is still there


def test_a_question_outlives_the_run_that_it_was_asked(open_page, browser):
    """The answer on the page is that of the newest network, not of one that is gone."""
    session, _ = open_page()
    press(browser, "train")
    ended(session)
    wait_until(lambda: "Ended" in text(browser, ".a .state"))
    worst = browser.execute_script(
        "const button = document.querySelector('#inside .a .mistakes button');"
        "button.click(); return [...button.querySelectorAll('span')].map(each => each.textContent)"
    )
    row = int(text(browser, "#asked").split()[2])

    def shown(run):
        script = "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)"
        return browser.execute_script(script, f"#answers .{run} .probabilities .number")

    def expected(run):
        seat = session._seats["ab".index(run)]
        model, images = seat.pictures.model(), seat.live.moment.setup.validation.images
        return [probability_text(each) for each in model.predict_proba(images[row : row + 1])[0]]

    wait_until(lambda: shown("a") == expected("a"))
    trained = shown("a")
    label = int(status(session).setup.validation.labels[row])
    assert worst[0] == f"label {label}"
    assert worst[1] == f"read as {trained.index(worst[2])}"
    press(browser, "again")
    wait_until(lambda: "Paused: epoch 1 of 6, batch 0" in text(browser, ".a .state"))
    wait_until(lambda: shown("a") == expected("a"))
    assert shown("a") != trained
    browser.execute_script("document.getElementById('second').click()")
    wait_until(lambda: len(session._seats) == 2 and paused(session, 1))
    wait_until(lambda: shown("b") == expected("b"))
    fill = "const form = document.querySelector('#runs .b form'); form.elements.seed.value = 7; form.requestSubmit()"
    browser.execute_script(fill)
    wait_until(lambda: "do not have the sample" in text(browser, "#answers .b p"))
    assert shown("b") == []
    assert shown("a") == expected("a")


@pytest.mark.parametrize("width", [390, 1100])
def test_what_a_click_changes_is_in_sight(width, open_page, browser):
    session, server = open_page()
    press(browser, "train")
    ended(session)
    show(browser, server, width)
    wait_until(lambda: "Ended" in text(browser, ".a .state"))
    is_seen = """
const box = document.querySelector(arguments[0])?.getBoundingClientRect();
return Boolean(box) && box.height > 0 && box.top >= -1 && box.top < innerHeight - 40"""
    wait_until(lambda: browser.execute_script("return Boolean(document.querySelector('#inside .a .mistakes button'))"))
    browser.execute_script(
        "const button = document.querySelector('#inside .a .mistakes button');"
        "button.scrollIntoView({ block: 'center' }); button.click()"
    )
    wait_until(lambda: text(browser, "#answers .a .answer .number") != "")
    for selector in ("#asked", "#asked-image", "#answers .a .answer"):
        assert browser.execute_script(is_seen, selector), selector
    browser.execute_script("document.getElementById('second').click()")
    wait_until(lambda: text(browser, "#runs .b .state").startswith("Paused"))
    wait_until(lambda: browser.execute_script(is_seen, "#runs .b .run-name"))
    assert browser.execute_script("return document.activeElement.getAttribute('aria-label')") == "Run B"
    browser.execute_script(
        "const buttons = [...document.querySelectorAll('#runs .b button')];"
        "const remove = buttons.find(({ textContent }) => textContent === 'Remove'); remove.focus(); remove.click()"
    )
    wait_until(lambda: browser.execute_script("return document.activeElement.id") == "second")


def test_two_browsers_see_and_control_the_same_run(open_page, browser):
    session, server = open_page()
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    try:
        browser.get(server.address)
        wait_until(lambda: "Paused" in text(browser, ".a .state"))
        press(browser, "step")
        wait_until(lambda: "batch 1 of 45" in text(browser, ".a .state"))
    finally:
        browser.close()  # while its stream is open
        browser.switch_to.window(first)
    wait_until(lambda: "batch 1 of 45" in text(browser, ".a .state"))
    press(browser, "train")
    ended(session)
    wait_until(lambda: "Ended" in text(browser, ".a .state"))


def test_an_address_without_the_token_says_what_to_do(open_page, browser):
    _, server = open_page()
    browser.get("about:blank")
    browser.get(own(server))
    wait_until(lambda: "no valid token" in text(browser, "#connection"))
    messages = browser.get_log("browser")
    assert all("403" in entry["message"] for entry in messages)


def test_names_are_shown_as_text(open_page, browser, tmp_path):
    names = ["<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>"]
    generator = np.random.default_rng(0)
    rows = ["one,two,class"]
    for number in range(80):
        label = names[number % 2].replace('"', '""')
        rows.append(f'{generator.normal() + number % 2},{generator.normal()},"{label}"')
    table = tmp_path / "<b>table<b>.csv"
    table.write_text("\n".join(rows))
    session, _ = open_page("--data", str(table), "--epochs", "3", "--backend", "numpy")
    press(browser, "train")
    ended(session)
    wait_until(lambda: "Ended" in text(browser, ".a .state"))
    assert browser.execute_script("return document.querySelectorAll('main img, main b, main script').length") == 0
    assert session.picture()[0]["runs"][0]["classes"] == sorted(names)
    assert browser.execute_script("return document.getElementById('pad-column').hidden")
    json.dumps(session.picture()[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_fits_its_window_and_its_controls_fit_fingers(scheme, width, open_page, browser):
    session, server = open_page()
    show(browser, server, width, scheme)
    wait_until(lambda: "Paused" in text(browser, ".a .state"))
    browser.execute_script("document.getElementById('second').click()")
    wait_until(lambda: len(session._seats) == 2 and text(browser, ".b .state").startswith("Paused"))
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    style = "const style = getComputedStyle(document.body); "
    colours = browser.execute_script(f"{style}return [style.color, style.backgroundColor]")
    ink, background = ([int(part) for part in colour[4:-1].split(",")] for colour in colours)
    assert (sum(background) < sum(ink)) == (scheme == "dark")
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('button, select, input, summary')]"
        ".filter(each => each.offsetParent).map(each => each.getBoundingClientRect().height))"
    )
    assert smallest >= (44 if width == 390 else 24)


def test_everything_works_by_keyboard_and_has_a_name(open_page, browser):
    session, _ = open_page()
    press(browser, "train")
    ended(session)
    wait_until(lambda: "Ended" in text(browser, ".a .state"))
    nameless = browser.execute_script(
        """
const names = (each) => each.getAttribute("aria-label") || each.textContent.trim() || each.labels?.[0]?.textContent
  || document.getElementById(each.getAttribute("aria-labelledby") ?? "")?.textContent;
return [...document.querySelectorAll("button, select, input, canvas[role], summary")]
  .filter((each) => !names(each)).map((each) => each.outerHTML);
"""
    )
    assert nameless == []
    script = """
const canvas = document.querySelector("#curves canvas");
canvas.focus();
for (const key of ["Home", "ArrowRight"]) canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
return canvas.closest("figure").querySelector(".readout").textContent;
"""
    history = status(session).result.history
    readout = browser.execute_script(script)
    assert readout.startswith("Epoch 2: training ")
    assert f"{history[1].loss:.4g}" in readout


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(scheme, open_page, browser):
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed; it is in the extra 'test'")
    session, server = open_page()
    show(browser, server, 1100, scheme)
    wait_until(lambda: "Paused" in text(browser, ".a .state"))
    browser.execute_script("document.getElementById('second').click()")
    wait_until(lambda: len(session._seats) == 2 and text(browser, ".b .state").startswith("Paused"))
    press(browser, "train")
    ended(session)
    wait_until(lambda: "Ended" in text(browser, ".a .state"))
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    browser.execute_script("document.querySelector('#inside .a .mistakes button').click()")
    browser.execute_script("document.querySelector('#code .a button').click()")
    wait_until(lambda: text(browser, "#answers .a caption") and text(browser, "#code pre.python"))
    browser.execute_script(resources.files(axe).joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run().then(({violations}) => "
        "done(violations.map(({id, nodes}) => [id, nodes.map((node) => [node.html, node.failureSummary])])))"
    )
    assert found == []


def test_the_page_works_in_the_frame_of_a_notebook(new_session, browser, tmp_path):
    """The page of a notebook comes from another port of this computer, and frames the address of a view."""
    session = new_session(*DIGITS)
    server = serve(session, frames=True)
    page = f'<link rel="icon" href="data:,"><title>notebook</title><iframe src="{server.address}"></iframe>'
    (tmp_path / "notebook.html").write_text(page)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as notebook:
        threading.Thread(target=notebook.serve_forever, daemon=True).start()
        try:
            browser.get(f"http://localhost:{notebook.server_port}/notebook.html")
            browser.switch_to.frame(0)
            wait_until(lambda: "Paused" in text(browser, ".a .state"))
            press(browser, "train")
            ended(session)
            wait_until(lambda: "Ended" in text(browser, ".a .state"))
        finally:
            browser.switch_to.default_content()
            browser.get("about:blank")
            notebook.shutdown()
            server.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *_):
        """Print nothing."""
