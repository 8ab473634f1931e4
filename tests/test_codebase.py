"""Imports between rooms, sizes of functions and files, and what importing the package loads."""

import re
import shutil
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import codebase
import pytest
from codebase import imported_by, room_of

import skdejavid

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skdejavid"
NATIVE = ROOT / "src_cuda"
MODULES = codebase.modules_of(ROOT)
FILES = codebase.modules_and_packages_of(ROOT)

# A room is a folder, or a module that stands alone. Each may import the rooms named here and,
# within a folder, its own modules.
MAY_IMPORT = {
    "compat": set(),
    "files": {"compat"},
    "sequences": {"compat"},
    "backends": {"_core", "compat", "sequences"},
    "alignment": {"backends", "compat", "sequences"},
    "preprocessing": {"compat", "sequences"},
    "training": {"backends", "compat", "files", "sequences"},
    "store": {"compat", "files", "sequences"},
    "video": {"compat", "files", "preprocessing", "sequences", "store"},
    "_base": {"alignment", "compat", "files", "sequences"},
    "classifier": {
        "_base",
        "alignment",
        "backends",
        "compat",
        "files",
        "sequences",
        "training",
    },
    "nn": {"backends", "classifier", "compat", "sequences"},  # classifier: types only
    "inspection": {"compat", "sequences"},
    "datasets": {"compat", "sequences", "video"},
    "interchange": {"compat", "files", "sequences", "store"},
    "plotting": {"alignment", "classifier", "compat", "sequences"},
    "cli": {"classifier", "compat", "demo", "files", "sequences", "store", "video"},
    "demo": {"", "compat", "datasets"},  # what a user may import
    "_show_versions": {"_core", "backends", "compat"},
    "__main__": {"cli", "compat"},
}


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module):
    room = room_of(module)
    assert {room_of(name) for name in imported_by(MODULES[module], FILES)} - {room} <= MAY_IMPORT[
        room
    ]


def test_arrows_between_rooms_form_no_circle():
    assert codebase.longest_chain(codebase.arrows_between_rooms(ROOT)) <= 8


def test_modules_import_each_other_in_one_direction():
    """Imports in functions and of types count as well, and ``__init__.py`` is a module."""
    order = list(TopologicalSorter(codebase.arrows_between_modules(ROOT)).static_order())
    assert order.index("sequences.layout") < order.index("sequences") < order.index("alignment")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("backends/cpu_engine.py", "from skdejavid.backends.registry import make_problem"),
        ("store/__init__.py", "def load():\n    from skdejavid.interchange import from_folder"),
        ("sequences/layout.py", "import skdejavid.sequences.array"),
        ("files/atomic.py", "from skdejavid import show_versions"),
    ],
)
def test_an_import_against_the_direction_is_noticed(path, line, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "skdejavid", ignore=shutil.ignore_patterns("*.so"))
    with (tmp_path / "skdejavid" / path).open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(CycleError):
        TopologicalSorter(codebase.arrows_between_modules(tmp_path)).prepare()


def test_only_exported_names_are_imported():
    """``__all__`` says what other modules rely on; names that begin with _ are never in it."""
    assert codebase.names_not_exported(ROOT) == []
    exports = {module: codebase.exported_by(path) for module, path in FILES.items()}
    private = {name for names in exports.values() for name in names if name.startswith("_")}
    assert private == {"__version__"}


def all_functions():
    for module, path in MODULES.items():
        for name, function in codebase.functions_of(path):
            yield f"{module}.{name}", function


def test_functions_are_short():
    """Without the docstring; `__init__` assigns parameters, of which estimators have many."""
    lengths = {
        name: codebase.count_lines(function)
        for name, function in all_functions()
        if not name.endswith(".__init__")
    }
    assert {name: n for name, n in lengths.items() if n > 45} == {}


def test_functions_have_few_branches():
    complexities = {name: codebase.complexity(function) for name, function in all_functions()}
    assert {name: n for name, n in complexities.items() if n > 12} == {}


def test_files_are_not_too_long():
    """Documentation of parameters included."""
    sizes = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: n for module, n in sizes.items() if n > 650} == {}
    native = {path.name: len(path.read_text().splitlines()) for path in NATIVE.rglob("*.*")}
    assert {name: n for name, n in native.items() if n > 300} == {}


def test_every_module_has_tests_of_its_own():
    tests = {
        ".".join([*path.relative_to(ROOT / "tests").parts[:-1], path.stem.removeprefix("test_")])
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert set(MODULES) <= tests


def run_python(code, folder):
    """Return the output of a fresh interpreter outside of the source tree."""
    return subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True).strip()


@pytest.mark.slow
def test_importing_loads_neither_torch_nor_matplotlib_nor_a_decoder(tmp_path):
    code = (
        "import sys, skdejavid\n"
        "from skdejavid import *\n"
        "names = 'torch matplotlib av aeon awkward sktime tslearn transformers click skops'\n"
        "print(*(name for name in names.split() if name in sys.modules))"
    )
    assert run_python(code, tmp_path) == ""


def test_everything_public_is_there_and_documented():
    for name in skdejavid.__all__:
        thing = getattr(skdejavid, name)
        if callable(thing) and name not in ("cuda_device_count",):
            assert thing.__doc__, name


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert skdejavid.__version__ == version("skdejavid") == project["version"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_supported_python_has_wheels_and_is_tested():
    """The lists are in three places; the oldest one is also what pip demands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    classified = re.findall(r":: (3\.\d+)$", "\n".join(project["project"]["classifiers"]), re.M)
    built = re.findall(r"cp3(\d+)-", project["tool"]["cibuildwheel"]["build"])
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    tested = re.findall(r"3\.\d+", re.search(r"python: \[(.+)\]", workflow)[1])
    assert classified == [f"3.{minor}" for minor in built] == tested
    assert project["project"]["requires-python"] == f">={classified[0]}"


def test_the_changelog_is_kept():
    """Changes go under Unreleased until a release gives them its number."""
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", section) for section in sections[1:])


def includes(path):
    return set(re.findall(r'#include [<"](.+?)[>"]', path.read_text()))


def test_the_binding_alone_knows_pybind11():
    sources = [path for path in NATIVE.rglob("*") if path.is_file()]
    assert len(sources) >= 6
    knowing = {path.name for path in sources if any("pybind11" in name for name in includes(path))}
    assert knowing == {
        "binding.hpp",
        "border.hpp",
        "module.cpp",
        "module_cuda.cpp",
        "without_gil.hpp",
    }


def test_native_backends_do_not_know_each_other():
    for room, other in (("cpu", "cuda"), ("cuda", "cpu")):
        for path in (NATIVE / room).iterdir():
            assert not any(name.removeprefix("../").startswith(other) for name in includes(path))
    for header in (
        "align.hpp",
        "arithmetic.hpp",
        "cost_term.hpp",
        "optimizer.hpp",
        "recurrence.hpp",
    ):
        assert not any("/" in name for name in includes(NATIVE / header))


def test_no_fast_math_anywhere():
    """It would switch the whole process to flush-to-zero."""
    assert "fast-math" not in re.sub(r"#.*", "", (ROOT / "CMakeLists.txt").read_text())


@pytest.mark.slow
def test_denormal_numbers_survive_the_import(tmp_path):
    code = "import numpy as np; from skdejavid import *; print(np.float64(5e-324) * 1.0 > 0.0)"
    assert run_python(code, tmp_path) == "True"
