"""Run the examples of docstrings and README; check that documentation names what exists."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import joblib
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
    for path in [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
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


def python_blocks(text):
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def namespace():
    """The names of a reader's own data, which the pages use."""
    from skdejavid.datasets import make_order_sequences

    X, y = make_order_sequences(60, random_state=0)
    return {"X": X, "y": y, "X_train": X, "y_train": y, "X_test": X[:12], "y_test": y[:12]}


@pytest.mark.slow
@pytest.mark.parametrize("pages", [("fit", "save", "preprocess", "inspect"), ("scikit_learn",)])
def test_examples_of_pages(pages, namespace, tmp_path, monkeypatch):
    from skdejavid import DejaVidClassifier

    monkeypatch.chdir(tmp_path)
    # Two epochs show that the examples run; their accuracy is of no interest here.
    monkeypatch.setitem(DejaVidClassifier.__init__.__kwdefaults__, "n_epochs", 2)
    texts = [(ROOT / "docs" / "howto" / f"{page}.md").read_text() for page in pages]
    blocks = python_blocks("".join(text.partition("## Callbacks")[0] for text in texts))
    assert blocks
    with joblib.parallel_config(backend="threading"):
        for block in blocks:
            exec(block, namespace)


def test_the_readme_example_for_sequences(capsys):
    namespace = {}
    exec(python_blocks(README)[0], namespace)
    assert float(capsys.readouterr().out.split()[0]) >= 0.97


@pytest.mark.slow
def test_the_readme_example_for_videos(tmp_path, monkeypatch, capsys):
    """The reader's files, labels and encoder are filled in; the test clips are training clips."""
    import torch

    from skdejavid.datasets import make_order_videos, write_video

    monkeypatch.chdir(tmp_path)
    videos, y = make_order_videos(18, random_state=0)
    paths = [f"{i}.mp4" for i in range(len(videos))]
    for path, frames in zip(paths, videos, strict=True):
        write_video(path, frames)

    class Encoder(torch.nn.Module):
        def forward(self, clips):
            return torch.nn.functional.avg_pool3d(clips, (16, 56, 56)).flatten(1)

    namespace = {
        "encoder": Encoder(),
        "train_paths": paths,
        "y_train": y,
        "test_paths": paths[:6],
        "y_test": y[:6],
    }
    exec(python_blocks(README)[1], namespace)
    assert float(capsys.readouterr().out.split()[0]) == 1.0


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
