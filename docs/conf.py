"""Settings of the site (Sphinx). `tools/build_site.py` collects its sources and runs it."""

import os
import sys
import tomllib
from pathlib import Path

ROOT = Path(os.environ["EDGEQ_SITE_ROOT"])  # the checkout that the site describes
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "edgeq"
author = copyright = "the edgeq authors, Apache-2.0"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_nb", "autoapi.extension", "sphinx.ext.napoleon", "offline_maths"]

nb_execution_mode = "off"  # notebooks are shown as they are stored
nb_ipywidgets_js = {}  # these would come from a CDN
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
suppress_warnings = [
    "myst.header",  # notebooks may step from a title to a third-level heading
    "mystnb.unknown_mime_type",  # an output that only a live kernel shows
    "autoapi.python_import_resolution",
    "ref.python",  # `bytes` is a type and a field of two tables
]

autoapi_dirs = [str(ROOT / "edgeq_lib")]  # read, not imported: no TensorFlow
autoapi_root = "api"
autoapi_options = ["members", "undoc-members", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_add_toctree_entry = False
autodoc_typehints = "signature"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "code"  # docstrings mark code with single backticks

html_theme = "pydata_sphinx_theme"
html_title = "edgeq"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}  # light or dark as the reader's system
html_theme_options = {
    "secondary_sidebar_items": {
        "studies/*": [],
        "notebooks/*": [],
    },
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
}
html_sidebars = {"index": [], "architecture": [], "glossary": [], "contributing": [], "changes": []}
exclude_patterns = ["_ext"]
