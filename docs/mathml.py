"""A Sphinx extension: formulas as MathML, which browsers draw themselves: no script, no font, no network.

The conversion is docutils' own. A formula it cannot convert is a warning with its place, so a build with -W fails.
"""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)


def _formula(writer: Any, node: nodes.Element, as_block: bool) -> None:
    tex = node.astext()
    try:
        # A line break between letters would be drawn as a space.
        mathml = re.sub(r"\n\s*", "", tex2mathml(tex, as_block))
    except MathError as error:
        _log.warning("the formula %r is no MathML: %s", tex, error, location=node)
        mathml = f"<code>{writer.encode(tex)}</code>"
    # After a formula in a line, no line may begin with the full stop or comma that follows: hence the word joiner.
    writer.body.append(f'<div class="formula">{mathml}</div>\n' if as_block else f"{mathml}&#8288;")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer as "mathml"."""
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(lambda writer, node: _formula(writer, node, False), None),
        block_renderers=(lambda writer, node: _formula(writer, node, True), None),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
