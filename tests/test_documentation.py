"""Run the examples of docstrings; check that documentation names what exists.

docs/code_blocks.py runs the code blocks of pages, in ``make docs``.
"""

import ast
import doctest
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skdejavid"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
}
# Paths in backticks, as the developer guide names them: from the root, with {a,b} and *; or the end
# of a path, as in `cost.hpp`.
ROOTED = re.compile(r"`((?:skdejavid|src_cuda|tests|benchmarks|docs|\.ci|\.github)/[\w./*{},-]*)`")
NAMED = re.compile(r"`([\w/]+\.(?:py|pyi|hpp|cuh|inl|cpp|cu|toml))`")
TEST = re.compile(r"`(test_\w+)`")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    full_name = f"skdejavid.{name}"
    results = doctest.testmod(importlib.import_module(full_name), optionflags=flags)
    if results.attempted == 0:
        # doctest looks for a class where its __module__ says, which may be the package.
        package = importlib.import_module(full_name.rpartition(".")[0])
        results = doctest.testmod(package, optionflags=flags)
    assert results.attempted > 0
    assert results.failed == 0


def test_all_modules_with_examples_are_found():
    assert {"alignment", "classifier", "nn", "sequences.array", "video.extractor"} <= set(MODULES)


# What code blocks may be. docs/code_blocks.py runs all of Python and all commands of skdejavid.
LANGUAGES = {"python", "sh", "text", "bibtex"}
# The blocks that are not run, because a comment before them says so.
NOT_RUN = {
    "README.md": ['next "downloads a model"'],
    "docs/howto/programs/tune.md": [
        'next "Ray takes 260 MB more than the other packages of the documentation"'
    ],
}


def blocks_of(page):
    """Return pairs of the language and the source of the code blocks; directives are not code."""
    text = PAGES[page].read_text()
    found = re.findall(r"^```([^\n`]*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [(language, source) for language, source in found if not language.startswith("{")]


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_name_a_language_that_is_known(page):
    """A block of another language would not be run."""
    assert {language for language, _ in blocks_of(page)} <= LANGUAGES


def test_few_blocks_are_not_run():
    comments = {
        page: re.findall(r"(?m)^<!-- skip: (.*) -->", path.read_text())
        for page, path in PAGES.items()
    }
    assert {page: found for page, found in comments.items() if found} == NOT_RUN


@pytest.mark.parametrize("page", PAGES)
def test_extras_that_are_named_exist(page):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    for language, source in blocks_of(page):
        if language == "sh":
            for names in re.findall(r"(?:skdejavid|\.)\[([\w,]+)\]", source):
                assert set(names.split(",")) <= extras, names


def test_the_readme_names_demo_and_test():
    assert {"demo", "test"} <= set(re.findall(r"make (\w+)", README))


@pytest.mark.parametrize("page", PAGES)
def test_make_commands_that_are_named_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for command in re.findall(r"(?:^|`)make (\w+)", PAGES[page].read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE), command


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_that_exist(page):
    path = PAGES[page]
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_readme_leads_somewhere_from_pypi(tmp_path):
    """Its page there has no files beside it; the release workflow rewrites it before it builds."""
    for name in ("README.md", "pyproject.toml", ".ci/absolute_links"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run([sys.executable, tmp_path / ".ci" / "absolute_links"], check=True)
    shown = (tmp_path / "README.md").read_text()
    targets = re.findall(r"\]\(([^)]+)\)", shown) + re.findall(r'src="([^"]+)"', shown)
    assert len(targets) > 20
    assert all(target.startswith("https://") for target in targets)
    assert "/blob/main/docs/start/sequences.md)" in shown
    assert '"https://raw.githubusercontent.com/skdejavid/skdejavid/main/docs/pictures/' in shown


def alternatives(pattern):
    """Expand one {a,b} of a path."""
    found = re.search(r"\{(.*?)\}", pattern)
    if not found:
        return [pattern]
    return [pattern.replace(found[0], name) for name in found[1].split(",")]


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/developer/")])
def test_files_and_tests_that_the_developer_guide_names_exist(page):
    """Moving or renaming one means correcting the guide."""
    text = PAGES[page].read_text()
    for pattern in ROOTED.findall(text):
        for path in alternatives(pattern):
            assert list(ROOT.glob(path.rstrip("/"))), path
    files = [f"/{path.relative_to(ROOT)}" for path in source_files()]
    for name in NAMED.findall(text):
        assert any(path.endswith(f"/{name}") for path in files), name
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in TEST.findall(text):
        assert f"def {name}(" in tests, name


def source_files():
    for folder in ("skdejavid", "src_cuda", "tests", "benchmarks", "docs"):
        yield from (ROOT / folder).rglob("*")
    yield from ROOT.glob("*")


LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')  # a string of C++


def python_texts(path):
    """Return the texts of a module, with "..." in place of the values of f-strings."""

    def text_of(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return "".join(text_of(part) for part in node.values)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return text_of(node.left) + text_of(node.right)
        return "..."

    kinds = (ast.Constant, ast.JoinedStr, ast.BinOp)
    return [
        text_of(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)
    ]


def native_texts(path):
    """Return the texts of the statements of a C++ file, with "..." in place of their values."""
    joined = re.sub(r'"\s*"', "", re.sub(r"//.*", "", path.read_text()))
    return ["...".join(LITERAL.findall(statement)) for statement in re.split(r";\s*\n", joined)]


def pieces_of(message):
    """Return what a quoted message says between its values, as far as it is two words or more."""
    pieces = [re.sub(r"^\W+|\W+$", "", piece) for piece in re.split(r"\.\.\.|'[^']*'", message)]
    return [piece for piece in pieces if " " in piece]


def occurs(pieces, text):
    """Whether all pieces occur in a text, one after the other."""
    end = 0
    for piece in pieces:
        begin = text.find(piece, end)
        if begin < 0:
            return False
        end = begin + len(piece)
    return True


def quoted_messages():
    """Return the messages in code style in the first column of the troubleshooting page."""
    page = (ROOT / "docs" / "howto" / "troubleshooting.md").read_text()
    symptoms = [row.split(" | ")[0] for row in page.splitlines() if row.startswith("| ")]
    spans = [span for symptom in symptoms for span in re.findall(r"`([^`]*)`", symptom)]
    return [span for span in spans if re.search(r"\s", span)]


def test_messages_that_the_troubleshooting_page_quotes_exist():
    """Rewording a message means correcting the page."""
    known = [text for path in PACKAGE.rglob("*.py") for text in python_texts(path)]
    for pattern in ("*.hpp", "*.cpp"):
        for path in (ROOT / "src_cuda").rglob(pattern):
            known += native_texts(path)
    quoted = quoted_messages()
    assert len(quoted) > 100
    unknown = []
    for message in quoted:
        pieces = pieces_of(message)
        assert pieces, f"{message!r} says too little to be looked for"
        if not any(occurs(pieces, text) for text in known):
            unknown.append(message)
    assert not unknown


def test_tables_of_the_troubleshooting_page_can_be_read():
    page = (ROOT / "docs" / "howto" / "troubleshooting.md").read_text()
    for section in page.split("\n## ")[1:]:
        rows = [row for row in section.splitlines() if row.startswith("|")]
        assert len(rows) <= 2 + 25, section.partition("\n")[0]
        for row in rows:
            assert row.count("|") == 4, row
