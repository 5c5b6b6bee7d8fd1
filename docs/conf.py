"""Sphinx's settings: the site of these documents, and of the docstrings."""

import re

project = "gbt_t5x"
extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
html_theme = "furo"
html_title = "gbt_t5x"
html_show_copyright = html_copy_source = False
myst_heading_anchors = 4

apidoc_modules = [
    {
        "path": "../gbt_t5x",
        "destination": "api",
        "exclude_patterns": ["../gbt_t5x/gin/**"],
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members"},
    }
]
autoclass_content = "both"  # of the class, and of its constructor
autodoc_member_order = "bysource"
napoleon_use_ivar = True
suppress_warnings = ["misc.highlighting_failure"]  # of IPython's %%writefile
highlight_language = "none"  # most blocks are commands, output or gin
default_role = "py:obj"  # of `this` in docstrings

_SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):$")


def _literal_blocks(app, what, name, obj, options, lines):
    """What docstrings indent is code or a table, as in Markdown."""
    sections = (i for i, line in enumerate(lines) if _SECTION.match(line))
    for i in range(next(sections, len(lines)) - 1, 1, -1):
        text = next((line for line in reversed(lines[:i]) if line), " ")
        if lines[i].startswith(" ") and not lines[i - 1] and not text.startswith(" "):
            lines[i:i] = ["::", ""]


def setup(app):
    app.connect("autodoc-process-docstring", _literal_blocks, priority=100)
