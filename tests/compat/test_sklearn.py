"""Private names of scikit-learn are imported in one place."""

import re
from pathlib import Path

import skdejavid

PACKAGE = Path(skdejavid.__file__).parent
# A module or a name that begins with an underscore.
PRIVATE = re.compile(
    r"^\s*from sklearn[\w.]*(?:\._\w+[\w.]* import|.* import .*\b_\w+)", re.MULTILINE
)


def test_private_names_of_scikit_learn_are_imported_in_one_place():
    importing = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if PRIVATE.search(path.read_text())
    }
    assert importing == {"compat/callbacks.py", "compat/sklearn.py"}
