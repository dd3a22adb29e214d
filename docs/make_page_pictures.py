"""Take the pictures of the pages: docs/images/page.png and docs/images/play.png, in Chromium, from runs on MNIST.

Run it from the folder of the checkout, with the extra `test`: `python -m docs.make_page_pictures`.
"""

import base64
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import fastnn
from tests.browser import start_browser

FOLDER = Path(__file__).resolve().parent / "images"
WIDTH = 1100


def main() -> None:
    """Train, open both pages, and write their pictures."""
    browser = start_browser()
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": WIDTH, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        _page(browser)
        _play(browser)
    finally:
        browser.quit()


def _page(browser) -> None:
    train, test = fastnn.load_mnist()
    recipe = fastnn.get_recipe("mnist")
    held_out = np.arange(55_000, 60_000)
    result = fastnn.train(
        fastnn.Network.for_data(train, (128,)), train, validation=train.take(held_out), **recipe.settings
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.html"
        fastnn.write_page(fastnn.Model.for_data(result.network, train), test, path)
        browser.get(path.as_uri())
        time.sleep(1)
        browser.execute_script("document.querySelector('#next').click()")
        time.sleep(1)
        _save(browser, "page", until="#images")


def _play(browser) -> None:
    command = [sys.executable, "-m", "fastnn", "play", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            address = next(word for line in process.stdout for word in line.split() if word.startswith("http"))
            browser.get(address)
            time.sleep(2)
            script = "[...document.querySelectorAll('button')].find(b => b.textContent.trim() === 'Train').click()"
            browser.execute_script(script)
            time.sleep(8)
            browser.execute_script("document.querySelector('main ul button, main li button')?.click()")
            time.sleep(1)
            _save(browser, "play", until="body")
        finally:
            process.terminate()


def _save(browser, name: str, until: str) -> None:
    """Save a picture of the page, from its top to the end of an element."""
    script = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom + scrollY"
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": min(1720, browser.execute_script(script, until)), "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    picture = Image.open(BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
    palette = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    palette.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
