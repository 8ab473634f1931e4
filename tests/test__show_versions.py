import re

import skdejavid
from skdejavid import _core, show_versions
from skdejavid.backends.cpu import CpuBackend
from skdejavid.compat.threads import count_threads


def printed_rows(capsys):
    show_versions()
    printed = capsys.readouterr().out
    return dict(re.findall(r"^ *(.+?): (.+)$", printed, flags=re.MULTILINE))


def test_what_this_build_can_do_is_printed(capsys):
    rows = printed_rows(capsys)
    assert rows["skdejavid"] == skdejavid.__version__
    assert rows["instruction set"] == _core.cpu_instruction_set
    assert rows["threads"] == str(count_threads(None))
    assert rows["backends"] == ("CPU and CUDA" if _core.built_with_cuda else "CPU")
    assert "compiled for" in rows or "built with" in rows


def test_packages_that_are_missing_are_printed(capsys, monkeypatch):
    monkeypatch.setattr("skdejavid._show_versions._PACKAGES", ("numpy", "no-such-package"))
    assert printed_rows(capsys)["no-such-package"] == "not installed"


def test_every_registered_backend_describes_itself(capsys, register):
    class Toy(CpuBackend):
        def describe(self):
            return {"toy:0": "usable", "toy:1": "not usable: too old"}

    register("toy", Toy())
    rows = printed_rows(capsys)
    assert rows["toy:0"] == "usable"
    assert rows["toy:1"] == "not usable: too old"
    assert rows["instruction set"] == _core.cpu_instruction_set
