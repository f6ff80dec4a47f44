"""The site: `python -m sphinx docs build/site`."""

import re

import shmps

project, author, version = "shmps", "the authors of shmps", shmps.__version__
root_doc = "contents"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"page_width": "72em", "sidebar_width": "15em"}
html_show_sourcelink = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
strip_signature_backslash = True

_SIGNS = re.compile(r"[|*\\]|(?<=\w)_(?!\w| :)")
_NAMED = re.compile(r"[a-z]\w*(, \w+)*: ")
_CODE = re.compile(r"(`+[^`]*`+|::\n(?:\n| .*\n?)+)")  # in backticks, or indented after a double colon


def _as_text(app, what, name, obj, options, lines):
    """Docstrings are text with code in backticks: other signs of reStructuredText in them mean themselves.

    Lines that start with `name: ` become a list.
    """
    parts = _CODE.split("\n".join(lines))
    parts[::2] = [_SIGNS.sub(r"\\\g<0>", part) for part in parts[::2]]
    parts[1::2] = [part if part[0] == ":" else "``" + part.strip("`") + "``" for part in parts[1::2]]
    text, in_list = [], False
    for line in "".join(parts).split("\n"):
        starts = _NAMED.match(line) is not None
        if starts and not in_list:
            text.append("")
        in_list = starts or (in_list and line != "")
        text.append(("- " if starts else "  " if in_list else "") + line)
    lines[:] = text


def setup(app):
    app.connect("autodoc-process-docstring", _as_text, priority=100)  # before napoleon
