"""The stored notebooks: one for each recipe, and one on convolutions; without outputs, and each asserts an accuracy.

These tests do not run the notebooks. A separate CI step does: `jupyter execute docs/notebooks/*.ipynb`.
"""

import json
from pathlib import Path

import pytest

from fastnn.runs.recipes import RECIPES

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
LETTERS = {f"{recipe.letter}-{recipe.name}": recipe.letter for recipe in RECIPES.values() if recipe.letter}


def test_each_of_the_five_recipes_has_a_notebook_and_convolutions_have_one():
    assert [path.stem for path in NOTEBOOKS] == sorted([*LETTERS, "convolution"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_no_outputs_and_asserts_its_accuracy(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        assert cell["outputs"] == [], f"{path.name}: a cell has outputs; clear all outputs before you commit"
        assert cell["execution_count"] is None, f"{path.name}: a cell has an execution count; clear all outputs"
    if path.stem in LETTERS:
        assert f'get_recipe("{LETTERS[path.stem]}")' in "".join("".join(cell["source"]) for cell in cells)
    assert any(line.startswith("assert accuracy >= 0.") for line in cells[-1]["source"])
