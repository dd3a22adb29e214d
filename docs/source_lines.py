"""A Sphinx extension: `literalinclude` says above the lines which file and which function they are of."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.directives.code import LiteralInclude

ROOT = Path(__file__).resolve().parent.parent


class SourceLines(LiteralInclude):
    """`literalinclude` with a caption of its own making; lines of a method begin at the margin."""

    def run(self) -> list[nodes.Node]:
        """The lines and their caption."""
        _, path = self.env.relfn2path(self.arguments[0])
        name = self.options["pyobject"]
        self.options["caption"] = f"`{Path(path).resolve().relative_to(ROOT).as_posix()}`, `{name}`"
        if "." in name or "start-at" in self.options:
            self.options.setdefault("dedent", None)
        return super().run()


def setup(app: Sphinx) -> dict[str, Any]:
    """Put `SourceLines` in the place of Sphinx's own directive."""
    app.add_directive("literalinclude", SourceLines, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
