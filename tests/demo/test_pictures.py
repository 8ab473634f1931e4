import sys

import matplotlib
import numpy as np

from skdejavid import AlignmentDisplay
from skdejavid.demo.pictures import save_picture


def display():
    sequence, path = np.eye(3), np.repeat(np.arange(3)[:, None], 2, axis=1)
    return AlignmentDisplay(sequence, sequence, np.ones((3, 3)), path).plot()


def test_a_picture_is_saved_in_a_new_folder_and_nothing_is_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backend = matplotlib.get_backend()
    path = save_picture(tmp_path / "new" / "a.png", display)
    assert path.is_absolute()
    assert path.read_bytes().startswith(b"\x89PNG")
    assert matplotlib.get_backend() == backend


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert save_picture(tmp_path / "a.png", display) is None
    assert "it needs matplotlib (pip install 'skdejavid[demo]')" in capsys.readouterr().out
    assert not (tmp_path / "a.png").exists()
