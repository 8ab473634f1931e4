import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from skdejavid import __main__ as entrance


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-m", "skdejavid"], [Path(sys.executable).with_name("skdejavid")]],
    ids=["module", "command"],
)
def test_it_is_a_module_and_a_command(command, tmp_path):
    printed = subprocess.check_output([*command, "--version"], cwd=tmp_path, text=True)
    assert version("skdejavid") in printed


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "click", None)
    with pytest.raises(SystemExit, match=r"^Error: The command line needs click.*skdejavid\[cli\]"):
        entrance.main()
