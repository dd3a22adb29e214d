"""The examples of the how-tos print the outputs shown."""

import pytest

from tests.docs.doc_examples import DOCS, run_examples


@pytest.mark.parametrize(
    "page",
    [
        "onnx.md",
        "from-scikit-learn.md",
        "checkpoints.md",
        "transfer.md",
        "ensembles.md",
        "page.md",
        "export-c.md",
        "streams.md",
        "sweeps.md",
        "dask.md",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_how_to_examples_print_the_outputs_shown(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    count, failures = run_examples([DOCS / page])
    assert count > 5
    assert not failures, failures
