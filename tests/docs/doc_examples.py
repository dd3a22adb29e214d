"""Runs the examples of documentation pages and compares their output with the pages."""

import doctest
import re
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def run_examples(pages: Sequence[Path]) -> tuple[int, str]:
    """Run the examples of `pages` in order, as one session; return their number and a report of the failures."""
    session: dict = {}
    failures: list[str] = []
    count = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^```pycon\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        n_in_fences = sum(fence.count(">>> ") for fence in fences)
        assert text.count(">>> ") == n_in_fences, f"{page.name}: an example is outside a pycon fence"
        if fences:
            example = doctest.DocTestParser().get_doctest("\n".join(fences), session, page.name, str(page), 0)
            doctest.DocTestRunner(verbose=False).run(example, out=failures.append, clear_globs=False)
            session, count = example.globs, count + len(example.examples)
    return count, "".join(failures)
