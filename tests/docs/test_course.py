"""The course keeps its word: its examples give the outputs shown, its equations with numbers add up."""

import re
from math import exp, log, sqrt
from pathlib import Path

import pytest

from tests.docs.doc_examples import DOCS, run_examples

COURSE = DOCS / "course"
# In the order of the table of contents: the examples are one session.
TOC = re.search(r"```\{toctree\}\n:hidden:\n\n(.*?)```", (COURSE / "index.md").read_text(encoding="utf-8"), re.DOTALL)
PAGES = [COURSE / f"{name}.md" for name in TOC[1].split()] if TOC else []
FUNCTIONS = {"exp": exp, "log": log, "sqrt": sqrt, "__builtins__": {}}


def value_of(tex: str) -> float | None:
    """The value of an expression in TeX that holds nothing but numbers, else None."""
    code = re.sub(r"e\^\{([^{}]*)\}", r"exp(\1)", tex.replace(r"\cdot", "*").replace(r"\,", ""))
    for _ in range(3):  # from the innermost braces outwards
        code = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", code)
        code = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", code)
    code = re.sub(r"\\log ?\(", "log(", code)
    code = re.sub(r"\\log ([\d.]+)", r"log(\1)", code).strip().rstrip(",")
    if not re.fullmatch(r"(?:[\d.+\-*/() ]|exp|log|sqrt)*\d(?:[\d.+\-*/() ]|exp|log|sqrt)*", code):
        return None
    return float(eval(code, FUNCTIONS))


def equations(page: Path) -> list[tuple[str, float, str, float]]:
    """Each pair of neighbouring sides of an equation that both hold nothing but numbers: as written, and evaluated."""
    found = []
    for block in re.findall(r"^\$\$\n(.*?)\n\$\$$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in re.split(r"\\\\|\\qquad", block):
            sides = line.replace("&=", "=").split("=")
            values = [value_of(side) for side in sides]
            for k in range(len(sides) - 1):
                left, right = values[k], values[k + 1]
                if left is not None and right is not None:
                    found.append((sides[k], left, sides[k + 1], right))
    return found


def test_the_examples_give_what_the_pages_show():
    assert len(PAGES) == 10
    _, failed = run_examples(PAGES)
    assert not failed, failed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_equations_with_numbers_add_up(page):
    for left, found, right, expected in equations(page):
        decimals = [len(digits) for digits in re.findall(r"\.(\d{4,})", right)]
        last_place = 10.0 ** -min(decimals) if decimals else 1e-9  # rounded numbers have four decimals or more
        assert abs(found - expected) <= last_place, f"{left} = {right}, but it is {found}"


def test_equations_are_found():
    assert len([equation for page in PAGES for equation in equations(page)]) >= 20
    assert value_of(r"\frac{e^{0}}{e^{0} + e^{-1}}") == 1 / (1 + exp(-1))
    assert value_of(r"-\log 0.5 ") == log(2)
    assert value_of("p_1") is None
