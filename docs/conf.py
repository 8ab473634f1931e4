"""Sphinx configuration."""

from importlib.metadata import version as installed_version

project = "skdejavid"
author = "the skdejavid developers"
release = version = installed_version("skdejavid")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # the numpydoc sections state the types
numpydoc_show_class_members = False
html_theme = "furo"
