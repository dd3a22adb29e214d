"""The how-tos keep their word: their examples print what the pages show."""

import pytest

from tests.docs.doc_examples import DOCS, run_examples


@pytest.mark.parametrize("page", ["onnx.md", "from-scikit-learn.md"])
@pytest.mark.filterwarnings("ignore")
def test_the_examples_give_what_the_page_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count, failed = run_examples([DOCS / page])
    assert count > 10
    assert not failed, failed
