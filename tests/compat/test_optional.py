import sys

import numpy as np
import pytest

from skdejavid import AlignmentDisplay
from skdejavid.compat.optional import import_if_installed, import_optional, loaded
from skdejavid.datasets import write_video
from skdejavid.video.decoding import decode


def test_an_installed_module_is_imported():
    assert import_optional("json.decoder", "any", "Reading JSON") is sys.modules["json.decoder"]


def test_a_module_that_nobody_has_imported_stays_so():
    assert loaded("json.decoder") is sys.modules["json.decoder"]
    assert "this" not in sys.modules
    assert loaded("this") is None
    assert "this" not in sys.modules


def test_a_missing_module_is_none_where_it_is_not_needed(monkeypatch):
    assert import_if_installed("json.decoder") is sys.modules["json.decoder"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert import_if_installed("pandas") is None


def test_the_extra_that_brings_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    video = np.zeros((1, 16, 16, 3), np.uint8)
    one = np.ones((2, 2))
    for call, extra in [
        (lambda: next(decode(tmp_path / "a.mp4")), "video"),
        (lambda: write_video(tmp_path / "a.mp4", video), "video"),
        (lambda: AlignmentDisplay(one, one, one, np.array([[0, 0], [1, 1]])).plot(), "plot"),
    ]:
        with pytest.raises(ImportError, match=rf"pip install 'skdejavid\[{extra}\]'"):
            call()
