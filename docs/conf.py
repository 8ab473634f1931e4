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
from urllib.parse import urlsplit

import matplotlib

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_extensions"))

from api_objects import documented_names, members_by_name  # noqa: E402
from source_links import place_of  # noqa: E402

project = "skdejavid"
author = "the skdejavid developers"
copyright = f"2026, {author}"
release = version = installed_version("skdejavid")

address = os.environ.get("READTHEDOCS_CANONICAL_URL", "").rstrip("/")
root, _, address_version = address.rpartition("/")
published_versions = ["latest"]
DESCRIPTION = "Classify time series and videos by the order of events, with scikit-learn's API"
urls = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"].get("urls", {})
repository = urls.get("Source", "").rstrip("/")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.linkcode",
    "sphinx_click",
    "sphinx_codeautolink",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "notfound.extension",
    "api_links",
    "commands",
    "mathml",
    "pages",
]
exclude_patterns = ["_templates", "gallery"]
templates_path = ["_templates"]
nitpicky = True
toc_object_entries_show_parents = "hide"
smartquotes = False  # they would change quotation marks of code, and -- that begins an option
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
codeautolink_concat_default = True
copybutton_exclude = ".linenos, .gp, .go"
# Blocks of text are output.
copybutton_selector = "div:not(.highlight-text, .highlight-none) > div.highlight > pre"

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
notfound_context = {
    "title": "Page not found",
    "body": f"""<h1>Page not found</h1>
<p>There is no page at this address; it may have been moved. Continue with the
<a href="{notfound_urls_prefix}index.html">start page</a>, the
<a href="{notfound_urls_prefix}reference/api.html">API</a> or
<a href="{notfound_urls_prefix}howto/troubleshooting.html">troubleshooting</a>, or
<a href="{notfound_urls_prefix}search.html">search</a> the documentation.</p>""",
}
html_title = f"skdejavid {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]
html_favicon = "_static/logo.svg"
html_theme = "pydata_sphinx_theme"
html_sidebars = {"index": [], "reference/changelog": []}
html_show_sourcelink = False
html_context = {"default_mode": "auto", "repository": repository}


html_theme_options = {
    "logo": {
        "text": "skdejavid",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
        "alt_text": "",
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher", "navbar-icon-links"],
    "check_switcher": False,
    "pygments_dark_style": "github-dark",
    "show_version_warning_banner": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
}
if address:
    html_theme_options["navbar_end"].insert(0, "version-switcher")
    html_theme_options["switcher"] = {
        "json_url": f"{root}/latest/_static/versions.json",
        "version_match": address_version,
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


def linkcode_resolve(domain, info):
    """Return the address of the source of an object, of the commit that is built if it is known."""
    place = place_of(info["module"], info["fullname"]) if repository else None
    if place is None:
        return None
    commit = os.environ.get("READTHEDOCS_GIT_COMMIT_HASH", "main")
    path, first, last = place
    return f"{repository}/blob/{commit}/{path}#L{first}-L{last}"


def hide_edit_link(app, pagename, templatename, context, doctree):
    """Offer no link to edit what the build writes, nor beside the first page, which is wide."""
    if pagename == "index" or pagename.startswith(("auto_examples/", "reference/generated/")):
        context["theme_use_edit_page_button"] = False


def describe_first_page(app, pagename, templatename, context, doctree):
    """Give the first page a title of its own, and the description that search engines show."""
    if pagename == "index":
        context["title"], context["docstitle"] = f"skdejavid: {DESCRIPTION}", ""
        context["metatags"] += f'<meta name="description" content="{DESCRIPTION}">'


def hide_from_search(app, doctree):
    """Leave long lists of what happened out of the search, where they would hide the guides."""
    if app.env.docname in {"reference/changelog", "developer/faults"}:
        app.env.metadata[app.env.docname]["nosearch"] = "true"


def write_versions(app, exception):
    """Write the list of versions that all versions of the site read."""
    if address and exception is None:
        versions = [{"version": name, "url": f"{root}/{name}/"} for name in published_versions]
        Path(app.outdir, "_static", "versions.json").write_text(json.dumps(versions))


def setup(app):
    """Connect what this site adds to extensions."""
    app.connect("build-finished", write_versions)
    app.connect("doctree-read", hide_from_search)
    app.connect("html-page-context", describe_first_page)
    app.connect("html-page-context", hide_edit_link)
