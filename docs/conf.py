"""Sphinx settings of the documentation: ``sphinx-build -W -b html docs build/docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "fastnn"
author = "The fastnn developers"
extensions = [
    "mathml",
    "command_reference",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
]
nitpicky = True
# Docstrings write code in single backticks. What has a page of its own becomes a link, the rest stays code.
default_role = "py:obj"
nitpick_ignore_regex = [("py:.*", ".*")]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # numpydoc's sections state the types, with shapes and dtypes
autosummary_generate = False
numpydoc_show_class_members = False

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

nb_execution_mode = "force"  # notebooks are stored without outputs
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True


html_theme = "pydata_sphinx_theme"
html_title = "fastnn"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "show_prev_next": True,
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": [],  # leave the width to code of 120 columns
    "footer_start": [],
    "footer_end": [],
}
WITHOUT_SIDEBAR = [
    "index",
    "commands",
    "your-own-data",
    "photos",
    "tips",
    "learning-rate",
    "limits",
    "checkpoints",
    "faults",
    "security",
    "design",
    "performance",
]
html_sidebars: dict[str, list[str]] = {name: [] for name in WITHOUT_SIDEBAR}


def _skip_foreign(app, what, name, member, skip, options):
    """Leave out what an estimator inherits from scikit-learn, whose pages describe it."""
    return skip or not getattr(member, "__module__", "fastnn").startswith("fastnn")


def setup(app):
    """Connect the filter of members."""
    app.connect("autodoc-skip-member", _skip_foreign)
