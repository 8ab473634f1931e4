"""The sources of the gallery. `make docs` runs them; here they are only read."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "docs" / "gallery"
EXAMPLES = {path.stem: path for path in sorted(GALLERY.glob("*.py"))}

# What the extra `docs` installs; nothing else can be imported when the gallery is built.
INSTALLED = {"matplotlib", "numpy", "pandas", "skdejavid", "sklearn", "torch", "transformers"}

# Ways to the network that end on this machine.
LOCAL = {"http.client", "http.server"}

every_example = pytest.mark.parametrize("name", EXAMPLES)


def source(name):
    return EXAMPLES[name].read_text(encoding="utf-8")


def programs_of(name):
    """Return the trees of an example and of the programs that it has as texts, as a server."""
    example = ast.parse(source(name))
    texts = [
        node.value.value
        for node in ast.walk(example)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    ]
    return [example, *(ast.parse(text) for text in texts if "import " in str(text))]


def modules_of(program):
    """Return the names of all modules that a program imports."""
    found = set()
    for node in ast.walk(program):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def test_names_number_the_examples_in_the_order_of_the_gallery():
    numbers = [re.fullmatch(r"plot_(\d\d)_[a-z_]+", name)[1] for name in EXAMPLES]
    assert numbers == [f"{i + 1:02}" for i in range(len(numbers))]
    assert len(numbers) >= 9


@every_example
def test_an_example_begins_with_its_title_and_ends_its_introduction_with_how_to_run_it(name):
    title, underline, empty, *introduction = ast.get_docstring(ast.parse(source(name))).split("\n")
    assert underline == "=" * len(title)
    assert not empty
    needed = re.match(r'To run it, ``pip install "skdejavid\[(.*?)\]"', introduction[-1])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"plot"} <= set(needed[1].split(",")) <= set(extras["optional-dependencies"])


@every_example
def test_an_example_has_pictures_and_its_thumbnail_is_one_of_them(name):
    n_pictures = source(name).count("plt.show()")
    thumbnail = re.search(r"^# sphinx_gallery_thumbnail_number = (\d)$", source(name), re.M)
    assert 1 <= (int(thumbnail[1]) if thumbnail else 1) <= n_pictures


@every_example
def test_an_example_explains_each_step(name):
    """Text, between lines of # %%, is before each piece of code but the first."""
    _, *others = re.split(r"^# %%\n", source(name), flags=re.M)
    assert len(others) >= 5
    assert all(re.match(r"# \w|# ``", step) for step in others)


@every_example
def test_an_example_imports_only_what_is_installed_and_reaches_no_network(name):
    modules = set().union(*map(modules_of, programs_of(name)))
    packages = {module.partition(".")[0] for module in modules}
    assert packages <= INSTALLED | set(sys.stdlib_module_names)
    network = {"ftplib", "http", "socket", "socketserver", "ssl", "urllib", "xmlrpc"}
    assert {module for module in modules if module.partition(".")[0] in network} <= LOCAL
    hosts = re.findall(r"HTTP(?:Connection|Server)\(\(?([^,]+),", source(name))
    assert set(hosts) == ({'"127.0.0.1"'} if modules & LOCAL else set())


@every_example
def test_an_example_gives_the_same_numbers_each_time(name):
    calls = re.findall(r"(\w+)\((.*)\)", source(name))
    assert all(arguments for call, arguments in calls if call in ("default_rng", "manual_seed"))
    if "torch" in modules_of(programs_of(name)[0]):
        assert "torch.manual_seed(" in source(name)
        assert "torch.set_num_threads(1)" in source(name)


@every_example
def test_an_example_removes_its_files(name):
    """An example writes into temporary folders only."""
    text = source(name)
    assert text.count("tempfile.TemporaryDirectory()") == text.count("folder.cleanup()")
    writes = re.search(r"file.write|write_video|to_csv|\.save\(path|save_pretrained\(", text)
    assert not writes or "folder.cleanup()" in text


@every_example
def test_links_of_an_example_lead_to_pages(name):
    """Links are relative to the built page, so that they can be read in a notebook as well."""
    for target in re.findall(r"<([^>\s]+)>`_", source(name)):
        page = (GALLERY / target).resolve()
        assert page.with_suffix(".md").exists() or page.stem in EXAMPLES, target


def test_the_header_names_what_all_examples_need():
    header = (GALLERY / "GALLERY_HEADER.rst").read_text()
    title, underline = header.split("\n")[:2]
    assert underline == "=" * len(title)
    assert 'pip install "skdejavid[cli,plot,transformers]" pandas' in header
