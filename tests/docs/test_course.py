"""The course is correct: its examples print the outputs shown, and its numeric equations hold."""

import ast
import builtins
import re
from math import exp, log, sqrt
from pathlib import Path

import pytest

from tests.docs.doc_examples import DOCS, run_examples

COURSE = DOCS / "course"
# In the order of the table of contents, because the examples form one session.
TOC = re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)```", (COURSE / "index.md").read_text(encoding="utf-8"), re.DOTALL)
PAGES = [COURSE / f"{name}.md" for name in TOC[1].split()] if TOC else []
FUNCTIONS = {"exp": exp, "log": log, "sqrt": sqrt, "__builtins__": {}}


def value_of(tex: str) -> float | None:
    """Return the value of a TeX expression that contains only numbers, else None."""
    code = re.sub(r"e\^\{([^{}]*)\}", r"exp(\1)", tex.replace(r"\cdot", "*").replace(r"\,", ""))
    for _ in range(3):  # from the innermost braces outward
        code = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", code)
        code = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", code)
    code = re.sub(r"\\log ?\(", "log(", code)
    code = re.sub(r"\\log ([\d.]+)", r"log(\1)", code).strip().rstrip(",")
    if not re.fullmatch(r"(?:[\d.+\-*/() ]|exp|log|sqrt)*\d(?:[\d.+\-*/() ]|exp|log|sqrt)*", code):
        return None
    return float(eval(code, FUNCTIONS))


def equations(page: Path) -> list[tuple[str, float, str, float]]:
    """Return each pair of neighbouring sides of an equation that are both numeric: as written, and their values."""
    found = []
    for block in re.findall(r"^\$\$\n(.*?)\n\$\$$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in re.split(r"\\\\|\\qquad", re.sub(r"\\(begin|end)\{aligned\}", "", block)):
            sides = line.replace("&=", "=").split("=")
            values = [value_of(side) for side in sides]
            for k in range(len(sides) - 1):
                left, right = values[k], values[k + 1]
                if left is not None and right is not None:
                    found.append((sides[k], left, sides[k + 1], right))
    return found


@pytest.mark.filterwarnings("ignore:inputs are bytes up to 255")  # the chapter on data says so
def test_course_examples_print_the_outputs_shown(monkeypatch):
    assert len(PAGES) == 15
    monkeypatch.syspath_prepend(COURSE)  # for tiny.py
    _, failures = run_examples(PAGES)
    assert not failures, failures


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_numeric_equations_hold(page):
    for left, left_value, right, right_value in equations(page):
        decimals = [len(digits) for digits in re.findall(r"\.(\d{4,})", right)]
        last_place = 10.0 ** -min(decimals) if decimals else 1e-9  # rounded numbers have four decimals or more
        assert abs(left_value - right_value) <= last_place, f"{left} = {right}, but the left side is {left_value}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_columns_and_line_breaks_stand_in_an_environment(page):
    """TeX, MathJax and KaTeX refuse a bare `&`, and ignore a bare line break."""
    for block in re.findall(r"^\$\$\n(.*?)\n\$\$$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        rest = re.sub(r"\\begin\{(\w+)\}.*?\\end\{\1\}", "", block, flags=re.DOTALL)
        assert not re.search(r"&|\\\\", rest), f"{page.name}: {block}"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_quoted_code_is_that_of_the_source(page, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    from embed_code import updated

    assert page.read_text(encoding="utf-8") == updated(page), "run python docs/embed_code.py"


def test_a_change_of_quoted_code_is_noticed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    import embed_code

    monkeypatch.setattr(embed_code, "DOCS", tmp_path / "docs")
    (tmp_path / "docs").mkdir()
    (tmp_path / "code.py").write_text("def f():\n    a = 1\n    return a\n")
    page = tmp_path / "docs" / "page.md"
    page.write_text('Text.\n\n<!-- code: ../code.py | f | from "a =" -->\n\nMore.\n')
    assert embed_code.main(["--check"]) == 1
    assert embed_code.main([]) == 0
    quoted = "[`code.py`](../code.py), `f`:\n\n```python\na = 1\nreturn a\n```\n"
    assert page.read_text() == f'Text.\n\n<!-- code: ../code.py | f | from "a =" -->\n{quoted}\nMore.\n'
    assert embed_code.main(["--check"]) == 0
    (tmp_path / "code.py").write_text("def f():\n    a = 2\n    return a\n")
    assert embed_code.main(["--check"]) == 1
    (tmp_path / "code.py").write_text("def g():\n    a = 2\n")
    with pytest.raises(SystemExit, match=r"docs/page\.md: \.\./code\.py: f was not found"):
        embed_code.main([])


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda page: page.stem)
def test_a_chapter_ends_with_three_exercises_and_their_solutions(page):
    _, *rest = page.read_text(encoding="utf-8").split("\n## Exercises\n")
    assert len(rest) == 1
    questions, *solutions = rest[0].split("<details>\n")
    assert re.findall(r"^(\d)\. ", questions, re.MULTILINE) == ["1", "2", "3"]
    assert [re.match(r"<summary>Solution (\d)</summary>\n\n", text)[1] for text in solutions] == ["1", "2", "3"]
    assert all(text.endswith("\n\n</details>\n") for text in (text.rstrip("\n") + "\n" for text in solutions))


def test_the_chapter_on_kernels_explains_each_function_that_they_call():
    text, calls = PAGES[-2].read_text(encoding="utf-8"), set()
    kernels = re.findall(r"<!-- code: \.\./\.\./(kernels/\S+) \| (\w+) -->", text)
    for path, name in kernels:
        module = ast.parse((DOCS.parent / path).read_text(encoding="utf-8"))
        function = next(node for node in module.body if getattr(node, "name", None) == name)
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not hasattr(builtins, node.func.id):
                calls.add(node.func.id)
    prose = re.sub(r"^```.*?^```$|^\[`.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    explained = set(re.findall(r"`@?(\w+)", prose))
    assert len(kernels) == 6
    assert len(calls) > 20
    assert calls - explained - {"real"} == set()  # `real` converts a number to the working dtype


def test_the_glossary_is_sorted():
    assert PAGES[-1].stem == "glossary"
    terms = re.findall(r"^## (.*)$", PAGES[-1].read_text(encoding="utf-8"), re.MULTILINE)
    assert len(terms) > 50
    assert terms == sorted(terms, key=str.casefold)


def test_each_figure_has_a_script_and_an_alternative_text():
    scripts, shown = {path.stem for path in (DOCS / "figures").glob("*.py")}, set()
    for page in PAGES:
        for text, name in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(encoding="utf-8")):
            assert len(text) > 20, f"{page.name}: {name}"
            assert (page.parent / name).exists()
            shown.add(Path(name).stem)
    assert {name.split("-")[0] for name in shown} == scripts
    assert {path.stem for path in (DOCS / "images" / "figures").glob("*.png")} == shown


def test_the_course_has_numeric_equations_to_check():
    assert len([equation for page in PAGES for equation in equations(page)]) >= 20
    assert value_of(r"\frac{e^{0}}{e^{0} + e^{-1}}") == 1 / (1 + exp(-1))
    assert value_of(r"-\log 0.5 ") == log(2)
    assert value_of("p_1") is None
