"""The wheel has every package of the checkout, and a checkout adds `fastnn.kernels` and nothing else to `fastnn`."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_package_is_installed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        ".".join((prefix, *init.parent.relative_to(ROOT / folder).parts))
        for prefix, folder in setuptools["package-dir"].items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert set(setuptools["packages"]) == {*folders, "fastnn.datasets.mnist"}


@pytest.mark.parametrize("name", ["fastnn.tests", "fastnn.fastnn", "fastnn.benchmarks", "fastnn.docs"])
def test_the_rest_of_the_checkout_is_no_part_of_fastnn(name):
    assert importlib.util.find_spec("fastnn.kernels") is not None
    assert importlib.util.find_spec(name) is None
