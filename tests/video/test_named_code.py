import pickle

import pytest

from skdejavid.video.named_code import call_named


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
