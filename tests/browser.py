"""The installed Chromium, driven by the installed chromedriver, for tests of pages."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def start_browser():
    """Return a headless browser; skip the test if there is none. Nothing is downloaded."""
    pytest.importorskip("selenium", reason="selenium is not installed; it is in the extra 'test'")
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("Chromium or chromedriver is not on the PATH (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_argument("--headless=new")
    options.add_argument("--window-size=1100,900")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # Chromium's sandbox refuses to run as root, as in a container
        options.add_argument("--no-sandbox")
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    chromium.set_page_load_timeout(30)
    return chromium


def requests(browser):
    """Return the addresses that the browser has asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def accessibility_faults(browser):
    """Return what axe-core finds wrong with the open page: (rule, elements) for each violation; skip without it."""
    package = importlib.util.find_spec("axe_playwright_python")  # not imported: that would need Playwright
    if package is None:
        pytest.skip("axe_playwright_python, which contains axe-core, is not installed; it is in the extra 'test'")
    browser.execute_script(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    browser.set_script_timeout(60)
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run({resultTypes: ['violations']}).then(({violations}) => done(violations.map("
        "({id, help, nodes}) => [id, help, nodes.map((node) => node.html.slice(0, 200) + ' ' + node.failureSummary)])))"
    )
    return [tuple(each) for each in found]
