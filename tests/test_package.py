"""The names of the package itself, which are imported when they are first used."""

import ast
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import skdejavid

SOURCE = ast.parse(Path(skdejavid.__file__).read_text())
EAGER = {"__version__"}


def run_python(code, folder):
    """Return the output of a fresh interpreter outside of the source tree."""
    command = [sys.executable, "-P", "-c", code]
    return subprocess.check_output(command, cwd=folder, text=True).strip()


def test_importing_the_package_loads_nothing_else(tmp_path):
    """It costs less than a tenth of importing scikit-learn, which waits until it is needed."""
    code = (
        "import sys, skdejavid\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'torch', 'tqdm', 'pandas', 'skdejavid._core'}\n"
        "print(sorted(heavy & sys.modules.keys()), skdejavid.__version__)"
    )
    assert run_python(code, tmp_path) == f"[] {skdejavid.__version__}"


def test_type_checkers_and_users_are_given_the_same_names():
    """Imports under TYPE_CHECKING, the table of modules and ``__all__`` name the same."""
    shown = {
        alias.name: node.module.removeprefix("skdejavid.")
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("skdejavid")
        for alias in node.names
    }
    submodules = {name for name, module in shown.items() if module == "skdejavid"}
    assert submodules == set(skdejavid._SUBMODULES)
    shown = {name: module for name, module in shown.items() if name not in submodules}
    assert shown == skdejavid._MODULE_OF
    assert set(skdejavid.__all__) == shown.keys() | EAGER


def test_names_are_those_of_their_modules():
    for name, module in skdejavid._MODULE_OF.items():
        assert getattr(skdejavid, name) is getattr(sys.modules[f"skdejavid.{module}"], name)
        assert pickle.loads(pickle.dumps(getattr(skdejavid, name))) is getattr(skdejavid, name)


@pytest.mark.slow
def test_a_star_imports_all_public_names(tmp_path):
    code = (
        "from skdejavid import *\nimport skdejavid\nprint(set(skdejavid.__all__) <= vars().keys())"
    )
    assert run_python(code, tmp_path) == "True"


@pytest.mark.slow
def test_public_modules_are_attributes(tmp_path):
    code = (
        "import skdejavid\n"
        "print({name for name in skdejavid._SUBMODULES\n"
        "       if getattr(skdejavid, name).__name__ != f'skdejavid.{name}'})"
    )
    assert run_python(code, tmp_path) == "set()"


def test_unknown_names_are_errors_of_the_usual_kind():
    with pytest.raises(AttributeError, match=r"^module 'skdejavid' has no attribute 'Dejavid'"):
        _ = skdejavid.Dejavid
    with pytest.raises(ImportError, match="cannot import name 'Dejavid' from 'skdejavid'"):
        from skdejavid import Dejavid  # noqa: F401
    assert not hasattr(skdejavid, "Dejavid")


WITHOUT = """
import sys

class Finder:
    def find_spec(name, path, target=None):
        if name in {names}:
            raise {error}

sys.meta_path.insert(0, Finder)
"""


@pytest.mark.slow
def test_all_names_can_be_looked_at_without_torch(tmp_path):
    code = (
        f"{WITHOUT.format(names=['torch'], error='ModuleNotFoundError(name)')}\n"
        "import inspect, skdejavid\n"
        "found = dict(inspect.getmembers(skdejavid))\n"
        "print(set(skdejavid.__all__) <= found.keys(), 'datasets' in found, 'nn' in found)"
    )
    assert run_python(code, tmp_path) == "True True False"


def test_a_broken_dependency_is_not_taken_for_a_missing_name(tmp_path):
    code = (
        f"{WITHOUT.format(names=['sklearn'], error='AttributeError(71)')}\n"
        "import skdejavid\n"
        "try: hasattr(skdejavid, 'DejaVidClassifier')\n"
        "except ImportError as error: print(error)"
    )
    assert run_python(code, tmp_path) == "skdejavid.classifier cannot be imported: 71"


def test_a_function_and_a_class_have_source_and_signature():
    assert "def dtw_path(" in inspect.getsource(skdejavid.dtw_path)
    assert "random_state" in inspect.signature(skdejavid.DejaVidClassifier).parameters


@pytest.mark.slow
def test_threads_may_use_different_names_first_at_once(tmp_path):
    code = (
        "import threading, skdejavid\n"
        "names = [*skdejavid.__all__, 'datasets', 'inspection', 'interchange'] * 2\n"
        "found, wait = [], threading.Barrier(len(names))\n"
        "def use(name):\n"
        "    wait.wait()\n"
        "    found.append((name, id(getattr(skdejavid, name))))\n"
        "threads = [threading.Thread(target=use, args=[name]) for name in names]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(len(found) == len(names), len(set(found)) == len(set(names)))"
    )
    assert run_python(code, tmp_path) == "True True"
