import pickle
import sys

import pytest

from skdejavid.video.named_code import NamedCodeError, call_named


@pytest.fixture(autouse=True)
def modules_and_path(monkeypatch):
    """Restore what named code leaves behind."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in list(sys.modules):
        if name.startswith("_skdejavid_file_") or name.endswith("_of_mine"):
            del sys.modules[name]


def test_a_function_is_called_by_its_name(tmp_path):
    path = tmp_path / "places.py"
    path.write_text(
        "class Encoder:\n    pass\n\ndef load(*arguments):\n    return Encoder, arguments\n"
    )
    encoder, arguments = call_named(f"{path}:load", "a", "b")
    assert encoder.__name__ == "Encoder"
    assert arguments == ("a", "b")
    pickle.dumps(encoder)
    assert call_named("math:sqrt", 9) == 3
    with pytest.raises(ValueError, match=r"places\.py has no missing"):
        call_named(f"{path}:missing")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.py"):
        call_named(f"{tmp_path}/nowhere.py:load")
    with pytest.raises(ImportError, match="nowhere"):
        call_named("nowhere.at_all:load")


@pytest.mark.parametrize("name", ["random", "torch", "numpy", "skdejavid", "json"])
def test_a_file_named_like_a_library_replaces_none(name, tmp_path):
    library = __import__(name)
    path = tmp_path / f"{name}.py"
    path.write_text(
        f"import {name} as same\nclass Encoder: pass\ndef load(): return Encoder, same\n"
    )
    encoder, same = call_named(f"{path}:load")
    assert same is library is sys.modules[name]
    assert pickle.loads(pickle.dumps(encoder)) is encoder


def test_a_file_that_was_edited_is_read_again(tmp_path):
    path = tmp_path / "encoder.py"
    for value in range(5):  # of one size, and within a second
        path.write_text(f"class Encoder: pass\ndef load(): return {value}, Encoder\n")
        number, encoder = call_named(f"{path}:load")
        assert number == value
        assert pickle.loads(pickle.dumps(encoder)) is encoder
    assert not list(tmp_path.glob("__pycache__"))


def test_modules_beside_a_file_can_be_imported_and_replace_none(tmp_path):
    (tmp_path / "blocks_of_mine.py").write_text("value = 7\n")
    (tmp_path / "json.py").write_text("raise RuntimeError\n")
    code = "import json\nfrom blocks_of_mine import value\ndef load(): return value, json\n"
    (tmp_path / "encoder.py").write_text(code)
    assert call_named(f"{tmp_path / 'encoder.py'}:load") == (7, sys.modules["json"])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\nraise KeyError('gone')\n", "line 2, in <module>"),
        ("def load():\n    return 1 / 0\n", "line 2, in load"),
        ("def load():\n    open('/nowhere/weights')\n", "No such file"),
        ("def load(:\n", "SyntaxError"),
        ("import nothing_of_this_name\n", "No module named 'nothing_of_this_name'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("x = '\\udc80'.encode()\n", "UnicodeEncodeError"),
    ],
)
def test_errors_inside_of_a_file_are_shown_with_its_lines_and_no_others(code, message, tmp_path):
    path = tmp_path / "encoder.py"
    path.write_text(code)
    before = set(sys.modules)
    with pytest.raises(NamedCodeError, match=r"encoder\.py(:load)? failed:\n") as caught:
        call_named(f"{path}:load")
    assert message in str(caught.value)
    assert f'File "{path}", line ' in str(caught.value)
    assert "named_code.py" not in str(caught.value)
    is_loaded = code.startswith("def load():")
    names = {name for name in set(sys.modules) - before if name.startswith("_skdejavid_file_")}
    assert len(names) == is_loaded


def test_an_interrupt_while_a_file_is_loaded_is_one(tmp_path):
    path = tmp_path / "encoder.py"
    path.write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        call_named(f"{path}:load")
    assert not any(name.startswith("_skdejavid_file_encoder") for name in sys.modules)


def test_errors_inside_of_a_module_are_shown_with_its_lines(tmp_path, monkeypatch):
    (tmp_path / "module_of_mine.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NamedCodeError, match=r"module_of_mine failed:\n") as caught:
        call_named("module_of_mine:load")
    assert "module_of_mine.py" in str(caught.value)
    assert "importlib" not in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
