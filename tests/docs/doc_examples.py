"""Runs the examples of pages and compares what they print."""

import doctest
import re
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def run_examples(pages: Sequence[Path]) -> tuple[int, str]:
    """How many examples the pages have, run as one session in their order, and what failed."""
    session: dict = {}
    failed: list[str] = []
    count = 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^```pycon\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        assert text.count(">>> ") == sum(fence.count(">>> ") for fence in fences), f"{page.name}: one not in a fence"
        if fences:
            example = doctest.DocTestParser().get_doctest("\n".join(fences), session, page.name, str(page), 0)
            doctest.DocTestRunner(verbose=False).run(example, out=failed.append, clear_globs=False)
            session, count = example.globs, count + len(example.examples)
    return count, "".join(failed)
