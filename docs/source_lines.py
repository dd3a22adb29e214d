"""A Sphinx extension: `literalinclude` captions the code with its file and function."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.directives.code import LiteralInclude

ROOT = Path(__file__).resolve().parent.parent


class SourceLines(LiteralInclude):
    """`literalinclude` with a caption that names the file and, if given, the function; that of a method is dedented."""

    def run(self) -> list[nodes.Node]:
        """Return the code and its caption."""
        _, path = self.env.relfn2path(self.arguments[0])
        name = self.options.get("pyobject", "")
        self.options["caption"] = f"`{Path(path).resolve().relative_to(ROOT).as_posix()}`" + (
            f", `{name}`" if name else ""
        )
        if "." in name or "start-at" in self.options:
            self.options.setdefault("dedent", None)
        return super().run()


def setup(app: Sphinx) -> dict[str, Any]:
    """Replace Sphinx's own directive by `SourceLines`."""
    app.add_directive("literalinclude", SourceLines, override=True)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
