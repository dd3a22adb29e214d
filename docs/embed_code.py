"""Writes the code that pages quote into the pages, so that they also show it on a code host.

A page says what it quotes in a comment: a file, a function, class or method, and optionally its first and last lines.

    <!-- code: ../fastnn/network/network.py | Network.for_data | from "settings =" | to "return" -->

The text between the comment and the end of the next block of code belongs to this script. "before" instead of "to"
leaves out the line it names. `python docs/embed_code.py` updates all pages; `--check` only lists the outdated ones.
"""

import ast
import re
import sys
import textwrap
from pathlib import Path

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"^(<!-- code: (.+?) -->\n)(\[`.*?^```python\n.*?^```\n)?", re.DOTALL | re.MULTILINE)
PART = re.compile(r'(from|to|before) "(.*)"')


def main(arguments: list[str]) -> int:
    """Update the pages, or check that they are up to date; return the exit code."""
    stale = [page for page in sorted(DOCS.rglob("*.md")) if updated(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        if "--check" not in arguments:
            page.write_text(updated(page), encoding="utf-8")
        print(f"{page.relative_to(DOCS.parent)}: {'out of date' if '--check' in arguments else 'updated'}")
    return 1 if stale and "--check" in arguments else 0


def updated(page: Path) -> str:
    """Return the text of a page with the code as it is now."""

    def block(match: re.Match[str]) -> str:
        path, name, *parts = [part.strip() for part in match[2].split(" | ")]
        try:
            code = quoted((page.parent / path).read_text(encoding="utf-8"), name, parts)
        except (ValueError, OSError) as error:
            raise SystemExit(f"{page.relative_to(DOCS.parent)}: {path}: {error}") from error
        shown = (page.parent / path).resolve().relative_to(DOCS.parent).as_posix()
        caption = f"[`{shown}`]({path})" + (f", `{name}`" if name else "")
        return f"{match[1]}{caption}:\n\n```python\n{code}\n```\n"

    return BLOCK.sub(block, page.read_text(encoding="utf-8"))


def quoted(source: str, name: str, parts: list[str]) -> str:
    """Return the code of `name` in `source` ("" for the whole file), from and to the lines that `parts` name."""
    lines = source.splitlines()
    if name:
        node: ast.AST = ast.parse(source)
        for step in name.split("."):
            found = [child for child in getattr(node, "body", []) if getattr(child, "name", None) == step]
            if not found:
                raise ValueError(f"{name} was not found")
            node = found[0]
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        lines = lines[first - 1 : node.end_lineno]
    for part in parts:
        match = PART.fullmatch(part)
        if match is None:
            raise ValueError(f'{part!r} was not understood, expected from "...", to "..." or before "..."')
        position = next((index for index, line in enumerate(lines) if match[2] in line), None)
        if position is None:
            raise ValueError(f"{name} has no line with {match[2]!r}")
        lines = {"from": lines[position:], "to": lines[: position + 1], "before": lines[:position]}[match[1]]
    return textwrap.dedent("\n".join(lines)).strip("\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
