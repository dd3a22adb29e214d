"""The reference has every public name; samples print what the pages say; commands have the options that pages use."""

import contextlib
import io
import re
import sys

import pytest

import fastnn
import fastnn.dask
import fastnn.mpi
from fastnn import evaluation, explanation, plots
from fastnn.cli import main
from tests.docs.doc_examples import DOCS

README = DOCS.parent / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
DIRECTIVE = re.compile(r"^\.\. auto(?:function|class|exception|data):: (\S+)$", re.MULTILINE)


def public_names() -> set[str]:
    """Return the public names of fastnn and of the packages that the pages describe, with their module."""
    names = {f"fastnn.{name}" for name in fastnn.__all__ if name != "__version__"}
    names |= {f"{package.__name__}.{name}" for package in (fastnn.dask, fastnn.mpi) for name in package.__all__}
    for package in (evaluation, explanation, plots):
        own = {f"{package.__name__}.{name}" for name in package.__all__ if not name.startswith("check_")}
        names |= {name for name in own if f"fastnn.{name.rpartition('.')[2]}" not in names}
    return names


def test_the_reference_describes_every_public_name_once():
    described = [name for page in (DOCS / "api").glob("*.md") for name in DIRECTIVE.findall(page.read_text("utf-8"))]
    assert sorted(described) == sorted(public_names())


def options_of_commands(capsys) -> dict[str, set[str]]:
    """Return the options of each command, from its help."""
    options = {}
    for name in re.findall(r"^    (\w+)", help_of([], capsys), re.MULTILINE):
        options[name] = set(re.findall(r"--[a-z][\w-]*", help_of([name], capsys)))
    assert {"train", "predict", "evaluate", "explain"} <= set(options)
    return options


def help_of(command: list[str], capsys) -> str:
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out


def test_pages_use_only_options_that_the_commands_have(capsys):
    options, checked = options_of_commands(capsys), 0
    everywhere = set().union(*options.values())
    for page in PAGES:
        text = page.read_text("utf-8")
        for command, rest in re.findall(r"fastnn (\w+)((?: [^`|&\n]*)?)", text):
            if command in options:
                given = set(re.findall(r"(?<!\S)--[a-z][\w-]*", rest))
                assert given <= options[command], f"{page.name}: fastnn {command}{rest}"
                checked += len(given)
        if page.stem in ("your-own-data", "tips", "learning-rate"):
            given = set(re.findall(r"`(--[a-z][\w-]*)", text))
            assert given <= everywhere, f"{page.name}: {given - everywhere}"
            checked += len(given)
    assert checked > 40


@pytest.mark.parametrize("page", [README, DOCS / "index.md"], ids=["README", "index"])
def test_the_first_sample_prints_what_its_comments_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)[0]
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert expected
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    lines = printed.getvalue().splitlines()
    assert len(lines) == len(expected)
    for line, shown in zip(lines, expected, strict=True):
        if line.startswith("accuracy"):  # differs in the last digits between processors
            assert abs(float(line.split()[1]) - float(shown.split()[1])) <= 0.3
        else:
            assert line == shown


def test_the_readme_describes_its_chart_by_the_recorded_ratios(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    monkeypatch.setattr(sys, "path", sys.path.copy())  # the script adds the checkout
    from make_speed_charts import recorded_ratios

    from benchmarks.compare.chart import STYLES

    groups = recorded_ratios()
    assert len(groups) == 10
    alt = re.search(r'<img src="docs/images/speed.png" width="\d+" alt="(.*?)">', README.read_text("utf-8"))[1]
    assert [f"{STYLES[bar.library][0]} {bar.median:.1f}" for bar in groups[0].bars] == re.findall(
        r"[\w-]+ [\d.]+\d", alt
    )
