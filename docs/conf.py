"""Sphinx configuration.

Where READTHEDOCS_CANONICAL_URL is set, the site is built for that address: it links to the
documentation of other libraries, whose lists of objects are downloaded, and offers other versions.
Without it nothing is downloaded, and the site works from a folder.
"""

import json
import os
import sys
import tomllib
from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.parse import quote, urlsplit

import matplotlib

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_extensions"))

from api_objects import documented_names, members_by_name  # noqa: E402

project = "skdejavid"
author = "the skdejavid developers"
copyright = f"2026, {author}"
release = version = installed_version("skdejavid")

address = os.environ.get("READTHEDOCS_CANONICAL_URL", "").rstrip("/")
root, _, address_version = address.rpartition("/")
published_versions = ["latest"]
urls = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"].get("urls", {})
repository = urls.get("Source", "").rstrip("/")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_codeautolink",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "notfound.extension",
    "api_links",
    "mathml",
    "pages",
]
exclude_patterns = ["_templates", "gallery", "examples"]
templates_path = ["_templates"]
nitpicky = True
toc_object_entries_show_parents = "hide"
smartquotes_action = "qe"  # -- begins an option
# They say that a name in a code block has no link, as in blocks that another extension has changed.
suppress_warnings = ["codeautolink"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

autodoc_typehints = "none"  # the numpydoc sections state the types
members = members_by_name(documented_names((DOCS / "reference" / "api.md").read_text()))
autosummary_context = {"listed_members": members}
# What scikit-learn provides is listed, and documented there.
nitpick_ignore = [
    ("py:obj", f"{cls}.{name}") for cls, listed in members.items() for name in listed["inherited"]
]
numpydoc_show_class_members = False  # the templates in _templates list them
viewcode_line_numbers = True
codeautolink_concat_default = True
copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_examples",
    "filename_pattern": "/plot_",
    "within_subsection_order": "FileNameSortKey",
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "backreferences_dir": "auto_examples/backreferences",
    "doc_module": ("skdejavid",),
    "min_reported_time": 60,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "write_computation_times": False,  # the page would load scripts from another host
}
matplotlib.use("Agg")

if not address:
    nitpick_ignore_regex = [("py:.*", r"(sklearn|numpy|scipy|torch|pandas)\..*")]
else:
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        name: (f"{site}/", None)
        for name, site in {
            "python": "https://docs.python.org/3",
            "numpy": "https://numpy.org/doc/stable",
            "scipy": "https://docs.scipy.org/doc/scipy",
            "sklearn": "https://scikit-learn.org/stable",
            "pandas": "https://pandas.pydata.org/docs",
            "torch": "https://docs.pytorch.org/docs/stable",
        }.items()
    }

html_baseurl = address
notfound_urls_prefix = f"{urlsplit(address).path}/"
html_title = f"skdejavid {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]
html_favicon = "_static/logo.svg"
html_theme = "pydata_sphinx_theme"
html_sidebars = {"index": [], "reference/changelog": []}
html_show_sourcelink = False
html_context = {"default_mode": "auto", "repository": repository}


def listed_versions():
    """Return the versions between which a reader can switch."""
    if address:
        return [{"version": name, "url": f"{root}/{name}/"} for name in published_versions]
    return [{"version": version, "url": "index.html"}]


def switcher_address():
    """Return where the list of versions is: in the newest version of the site, or in the page."""
    if address:
        return f"{root}/latest/_static/versions.json"
    return f"data:application/json,{quote(json.dumps(listed_versions()))}"


html_theme_options = {
    "logo": {
        "text": "skdejavid",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
        "alt_text": "",
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["version-switcher", "theme-switcher", "navbar-icon-links"],
    "switcher": {
        "json_url": switcher_address(),
        "version_match": address_version if address else version,
    },
    "check_switcher": False,
    "show_version_warning_banner": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
}
if repository:
    github_user, github_repo = urlsplit(repository).path.strip("/").split("/")
    html_context |= {
        "github_user": github_user,
        "github_repo": github_repo,
        "github_version": "main",
        "doc_path": "docs",
    }
    html_theme_options |= {"github_url": repository, "use_edit_page_button": True}


def forget_native_modules(app):
    """Leave modules without Python source out of the list of sources, whose pages do not exist."""
    modules = getattr(app.env, "_viewcode_modules", {})
    for name in [name for name, entry in modules.items() if not entry]:
        del modules[name]
    return []


def hide_edit_link(app, pagename, templatename, context, doctree):
    """Offer no link to edit what the build writes, nor beside the first page, which is wide."""
    if pagename == "index" or pagename.startswith(("auto_examples/", "reference/generated/")):
        context["theme_use_edit_page_button"] = False


def write_versions(app, exception):
    """Write the list of versions that all versions of the site read."""
    if exception is None:
        path = Path(app.outdir, "_static", "versions.json")
        path.write_text(json.dumps(listed_versions()))


def setup(app):
    """Connect what this site adds to extensions."""
    app.connect("build-finished", write_versions)
    app.connect("html-page-context", hide_edit_link)
    app.connect("html-collect-pages", forget_native_modules, priority=100)
