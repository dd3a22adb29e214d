"""The table of faults names tests that exist, one in each row."""

import ast
import re
from functools import cache

import pytest

from tests.docs.doc_examples import DOCS

ROOT = DOCS.parent
PAGE = (DOCS / "faults.md").read_text(encoding="utf-8")
# The rows of the tables whose last column is a test.
ROWS = [
    line.strip("|").split("|")
    for section in PAGE.split("\n## ")
    if "| fault | what happens | test |" in section
    for line in section.splitlines()
    if line.startswith("| ") and not line.startswith(("| fault |", "| --- |"))
]


@cache
def names_in(path):
    """Return the names of the test functions of a file, without importing it."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_each_row_names_a_test_that_exists():
    assert len(ROWS) > 100
    wrong = []
    for row in ROWS:
        assert len(row) == 3, row
        found = re.fullmatch(r" `(tests/[\w/]+\.py)::(test_\w+)` ", row[2])
        if found is None or not (ROOT / found[1]).is_file() or found[2] not in names_in(found[1]):
            wrong.append(row[2])
    assert not wrong, "\n".join(wrong)


def test_no_fault_is_listed_twice():
    faults = [row[0] for row in ROWS]
    assert len(set(faults)) == len(faults)


@pytest.mark.parametrize("option", re.findall(r"pytest tests/faults --faults=(\w+)", PAGE))
def test_the_options_on_the_page_exist(option):
    assert option == "full" or float(option) > 0
