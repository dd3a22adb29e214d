"""The stored notebooks: one for each recipe, without outputs, and each asserts an accuracy at the end.

These tests do not run the notebooks. A separate CI step does: `jupyter execute docs/notebooks/*.ipynb`.
"""

import json
from pathlib import Path

import pytest

from fastnn.runs.recipes import RECIPES

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def test_each_of_the_five_recipes_has_a_notebook():
    names = [f"{recipe.letter}-{recipe.name}" for recipe in RECIPES.values() if recipe.letter]
    assert [path.stem for path in NOTEBOOKS] == sorted(names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_no_outputs_and_asserts_its_accuracy(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        assert cell["outputs"] == [], f"{path.name}: a cell has outputs; clear all outputs before you commit"
        assert cell["execution_count"] is None, f"{path.name}: a cell has an execution count; clear all outputs"
    assert f'get_recipe("{path.stem[0]}")' in "".join("".join(cell["source"]) for cell in cells)
    assert any(line.startswith("assert accuracy >= 0.") for line in cells[-1]["source"])
