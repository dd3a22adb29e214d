"""Tests of the default run's report in headless Chromium: console, network, pictures, colours, print."""

import json

import pytest

from fastnn.cli.command import main
from tests.browser import requests


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of `fastnn train` with default settings."""
    folder = tmp_path_factory.mktemp("run") / "default"
    assert main(["train", "--out", str(folder)]) == 0
    assert main(["report", str(folder)]) == 0
    return folder / "report.html"


def test_the_page_opens_from_a_file_without_network_or_errors(page, browser):
    browser.get_log("browser"), requests(browser)  # those of other pages
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    outside = [url for url in requests(browser) if url != page.as_uri() and not url.startswith("data:image/png;")]
    assert outside == []
    pictures = browser.execute_script(
        "return [...document.images].map(image => [image.complete, image.naturalWidth, image.naturalHeight, image.alt])"
    )
    assert len(pictures) == page.read_text(encoding="utf-8").count("<img ") > 0
    assert all(complete and width > 300 and height > 100 and alt for complete, width, height, alt in pictures)
    accuracy = json.loads((page.parent / "report.json").read_text())["test_accuracy"]
    assert accuracy > 0.97
    text = browser.execute_script("return document.body.innerText")
    assert f"{100 * accuracy:.2f} %" in text
    assert browser.title == f"Run default: {100 * accuracy:.2f} %"


def test_the_checks_detect_a_broken_page(tmp_path, browser):
    """The same checks fail on a page with a damaged picture, a missing file and a script error."""
    broken = tmp_path / "broken.html"
    broken.write_text("<img src='data:image/png;base64,AAAA'><img src='lost.png'><script>nothing()</script>")
    browser.get(broken.as_uri())
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert any("nothing is not defined" in message for message in messages)
    assert any(url.endswith("lost.png") for url in requests(browser))
    assert browser.execute_script("return [...document.images].map(image => image.naturalWidth)") == [0, 0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_the_page_fits_its_window_and_has_contrast(scheme, width, page, browser):
    window = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", window)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())
    root = "return document.documentElement"
    assert browser.execute_script(f"{root}.scrollWidth") <= width
    style = "const style = getComputedStyle(document.body); "
    colours = browser.execute_script(f"{style}return [style.color, style.backgroundColor]")
    text, background = ([int(part) for part in colour[4:-1].split(",")] for colour in colours)
    assert (sum(background) < sum(text)) == (scheme == "dark")
    assert abs(sum(text) - sum(background)) > 3 * 150
    widths = browser.execute_script("return [...document.images].map(image => image.getBoundingClientRect().width)")
    assert all(0 < each <= width for each in widths)


def test_the_folded_table_of_epochs_is_printed(page, browser):
    """The table is hidden on the screen and visible in print."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.get(page.as_uri())
    table = "document.querySelector('details table').getBoundingClientRect().height"
    visible = "document.querySelector('details table').checkVisibility({contentVisibilityAuto: true})"
    assert browser.execute_script(f"return [{table} > 300, {visible}]") == [True, True]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    assert browser.execute_script(f"return {visible}") is False
