"""Sphinx settings of the documentation: ``sphinx-build -W -b html docs build/docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "fastnn"
author = "The fastnn developers"
extensions = ["mathml", "source_lines", "myst_parser", "matplotlib.sphinxext.plot_directive"]
exclude_patterns = ["notebooks/*.ipynb"]
nitpicky = True

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

plot_include_source = False
plot_basedir = str(Path(__file__).parent)
plot_html_show_formats = False
plot_html_show_source_link = False
plot_formats = [("png", 144)]

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
    "secondary_sidebar_items": [],  # leave the width to code of 120 columns
    "footer_start": [],
    "footer_end": [],
}
html_sidebars = {"design": [], "performance": [], "index": [], "notebooks/index": []}
