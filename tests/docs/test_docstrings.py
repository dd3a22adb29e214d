"""The examples in docstrings run and print what they show, and every public name has one."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import fastnn

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(fastnn.__path__, "fastnn.")
    # PyInstaller imports its hook.
    if not module.name.startswith(("fastnn.kernels", "fastnn.__main__", "fastnn._pyinstaller.hook"))
)
# Data, and what `explain` and `diagnose` return; exceptions need no example either.
WITHOUT_EXAMPLE = {"RECIPES", "__version__", "Explanation", "Finding"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(set(fastnn.__all__) - WITHOUT_EXAMPLE))
def test_every_public_name_has_an_example(name):
    value = getattr(fastnn, name)
    if inspect.isclass(value) and issubclass(value, (BaseException, Warning)):
        return
    texts = [value.__doc__, *(getattr(value, member).__doc__ for member in dir(value) if not member.startswith("_"))]
    assert any(">>>" in (text or "") for text in texts)
