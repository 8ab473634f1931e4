"""The documentation site: its list of the API, its links, and its picture of the method."""

import importlib
import inspect
import sys
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
from public_api import MODULES

import skdejavid
from skdejavid.cli import skdejavid as commands_of_skdejavid

DOCS = Path(__file__).parents[1] / "docs"

# In `__all__` of a module for other modules of the package; users do not need them.
INTERNAL = {
    "SequenceTransformer",
    "SequenceView",
    "compute_distances",
    "compute_distances_by_timestep",
    "read_checked",
}


def load(folder, name, monkeypatch):
    """Import a module from a folder of the documentation."""
    monkeypatch.syspath_prepend(str(DOCS / folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


@pytest.fixture
def api_objects(monkeypatch):
    return load("_extensions", "api_objects", monkeypatch)


@pytest.fixture
def check_site(monkeypatch):
    return load("", "check_site", monkeypatch)


@pytest.fixture
def listed(api_objects):
    return api_objects.documented_names((DOCS / "reference" / "api.md").read_text())


def test_the_api_page_lists_everything_public_once(api_objects, listed):
    public = {}
    for name in MODULES:
        module = importlib.import_module(f"skdejavid.{name}".removesuffix("."))
        public |= {name: getattr(module, name) for name in module.__all__}
    documented = {name for name, thing in public.items() if callable(thing)} - INTERNAL
    assert sorted(name.rpartition(".")[2] for name in listed) == sorted(documented)
    assert public.keys() >= INTERNAL


def test_the_api_page_names_objects_where_users_import_them(api_objects, listed):
    functions = {name for name in skdejavid.__all__ if callable(getattr(skdejavid, name))}
    assert functions <= {name.removeprefix("skdejavid.") for name in listed}
    assert all(callable(api_objects.object_of(name)) for name in listed)


def test_pages_of_classes_list_own_members_and_those_of_scikit_learn(api_objects):
    members = api_objects.members_of(skdejavid.DejaVidClassifier)
    assert {"fit", "predict", "predict_proba", "score", "save", "load"} <= set(members["own"])
    assert {"get_params", "set_params", "fit_transform"} <= set(members["inherited"])
    assert not {"set_fit_request", "get_metadata_routing"} & {
        *members["own"],
        *members["inherited"],
    }


def test_pages_of_classes_leave_out_what_torch_and_python_provide(api_objects):
    from skdejavid.nn import TimeWeightedDTW

    assert "forward" in api_objects.members_of(TimeWeightedDTW)["own"]
    assert api_objects.members_of(TimeWeightedDTW)["inherited"] == []
    assert inspect.getdoc(skdejavid.VideoDecodeError.with_traceback)
    assert "with_traceback" not in api_objects.members_of(skdejavid.VideoDecodeError)["own"]


@pytest.mark.parametrize(
    ("module", "name", "text"),
    [
        ("skdejavid", "TSEArray", "class TSEArray"),
        ("skdejavid", "TSEArray.from_long", "def from_long("),
        ("skdejavid", "TSEArray.n_features", "def n_features("),
        ("skdejavid", "DejaVidClassifier.save", "def save("),
        ("skdejavid", "dtw_path", "def dtw_path("),
        ("skdejavid.store", "StoreWriter", "class StoreWriter"),
    ],
)
def test_links_to_the_source_lead_to_the_lines_of_the_object(monkeypatch, module, name, text):
    source_links = load("_extensions", "source_links", monkeypatch)
    path, first, last = source_links.place_of(module, name)
    lines = (DOCS.parent / path).read_text(encoding="utf-8").splitlines()
    assert text in "\n".join(lines[first - 1 : first + 4])
    assert lines[last - 1].startswith("    ")
    assert not "".join(lines[last : last + 1]).strip()


@pytest.mark.parametrize("name", ["cuda_device_count", "DejaVidClassifier.set_output"])
def test_what_the_package_does_not_define_has_no_link_to_its_source(monkeypatch, name):
    source_links = load("_extensions", "source_links", monkeypatch)
    assert source_links.place_of("skdejavid", name) is None


def test_the_page_of_the_command_line_describes_all_arguments(monkeypatch):
    commands = load("_extensions", "commands", monkeypatch)
    arguments = [
        parameter.human_readable_name
        for command in commands_of_skdejavid.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    assert set(arguments) == set(commands.ARGUMENTS)
    lines = [".. option:: STORE", "", "   Required argument", ""]
    commands.describe_arguments(None, None, lines)
    assert lines[2] == f"   {commands.ARGUMENTS['STORE']}"


def test_examples_of_the_command_line_become_code(monkeypatch):
    commands = load("_extensions", "commands", monkeypatch)
    lines = ["Text.", "", "|   one", "|   two", "", "More."]
    commands.write_examples_as_code(None, None, lines)
    code = [".. code-block:: sh", "", "   one", "   two"]
    assert lines == ["Text.", "", *code, "", "More."]


KINDS = {
    "skdejavid.TSEArray": "class",
    "skdejavid.TSEArray.from_long": "method",
    "skdejavid.interchange.read_arrow": "function",
}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("TSEArray", "skdejavid.TSEArray"),
        ("skdejavid.TSEArray", "skdejavid.TSEArray"),
        ("TSEArray.from_long", "skdejavid.TSEArray.from_long"),
        ("TSEArray.from_long()", "skdejavid.TSEArray.from_long"),
        ("interchange.read_arrow", "skdejavid.interchange.read_arrow"),
        ("read_arrow", "skdejavid.interchange.read_arrow"),
        ("from_long", None),
        ("Array", None),
        ("TSEArray(X)", None),
        ("X", None),
    ],
)
def test_texts_in_code_style_name_objects_but_not_methods_alone(api_objects, text, name):
    assert api_objects.find_object(KINDS, text) == name


def test_the_picture_of_the_method_shows_the_class_of_the_sequence(tmp_path, monkeypatch):
    overview = load("pictures", "overview", monkeypatch)
    path = tmp_path / "overview.svg"
    assert overview.main(path) == 3
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
    assert b"<text" not in path.read_bytes(), "the letters must not depend on the reader's fonts"
    assert (DOCS / "pictures" / "overview.svg").stat().st_size <= 150_000


@pytest.fixture
def site(tmp_path):
    """A site of two pages without problems."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="folder/page.html#here">x</a> <a href="https://example.org/">y</a>'
        '<link rel="stylesheet" href="style.css">'
    )
    (tmp_path / "folder" / "page.html").write_text('<h1 id="here">x</h1> <a href="..">up</a>')
    (tmp_path / "style.css").write_text("p { background: url(folder/page.html) }")
    return tmp_path


def test_a_site_without_problems_passes_and_its_external_links_are_listed(check_site, site):
    listing = site.parent / "external_links.txt"
    assert check_site.main(site, listing) == 0
    assert listing.read_text() == "https://example.org/\tindex.html\n"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.html", '<a href="missing.html">', "a.html: missing.html: there is no such file"),
        ("a.html", '<a href="#gone">', "a.html: #gone: the page has no such place"),
        ("a.html", '<a href="/folder/page.html#gone">', "the page has no such place"),
        ("a.html", '<script src="https://cdn.org/x.js">', "loads https://cdn.org/x.js from"),
        ("a.html", '<link rel="alternate icon" href="https://x.org/i">', "loads https://x.org/i"),
        ("a.html", '<img srcset="//x.org/a.png 2x">', "loads //x.org/a.png from another host"),
        ("a.html", '<p style="background: url(//x.org/a)">', "loads //x.org/a from another host"),
        ("a.html", "<style>@import '//x.org/a'</style>", "loads //x.org/a from another host"),
        ("a.css", "@import 'https://cdn.org/x.css';", "loads https://cdn.org/x.css from"),
        ("a.css", "p { background: url('//cdn.org/x.png') }", "loads //cdn.org/x.png from"),
        ("llms.txt", "- [x](missing.html)", "llms.txt: missing.html: there is no such file"),
    ],
)
def test_a_broken_link_or_a_foreign_asset_is_reported(check_site, site, file, text, message):
    (site / file).write_text(text)
    problems, _, _ = check_site.check(site)
    assert len(problems) == 1
    assert message in problems[0]
