"""A Sphinx extension that renders formulas as MathML. Browsers draw it without scripts, fonts or network access.

docutils does the conversion. If it cannot convert a formula, the build warns and names its location; with -W, the build
fails.
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
        # Browsers draw a line break between letters as a space.
        mathml = re.sub(r"\n\s*", "", tex2mathml(tex, as_block))
        # TeX sets the lines of `aligned` like formulas of their own; docutils would set small fractions.
        mathml = mathml.replace('<mtable class="ams-align">', '<mtable class="ams-align" displaystyle="true">')
    except MathError as error:
        _log.warning("the formula %r cannot be converted to MathML: %s", tex, error, location=node)
        mathml = f"<code>{writer.encode(tex)}</code>"
    # The word joiner keeps a full stop or comma that follows an inline formula on the same line.
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
