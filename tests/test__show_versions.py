import re

import pytest

import skdejavid
from skdejavid import _core, show_versions
from skdejavid.compat.threads import count_threads


def lines(capsys):
    show_versions()
    printed = capsys.readouterr().out
    return dict(re.findall(r"^ *(.+?): (.+)$", printed, flags=re.MULTILINE))


def test_what_this_build_can_do_is_told(capsys):
    told = lines(capsys)
    assert told["skdejavid"] == skdejavid.__version__
    assert told["instruction set"] == _core.cpu_instruction_set
    assert told["threads"] == str(count_threads(None))
    assert told["backends"] == ("CPU and CUDA" if _core.built_with_cuda else "CPU")


def test_packages_that_are_not_there_are_told(capsys, monkeypatch):
    monkeypatch.setattr("skdejavid._show_versions._PACKAGES", ("numpy", "no-such-package"))
    assert lines(capsys)["no-such-package"] == "not installed"


@pytest.mark.parametrize("n_devices", [0, 2])
def test_devices_are_told_and_whether_they_can_be_used(capsys, monkeypatch, n_devices):
    devices = [("A", 9, 0, 80 * 2**30), ("B", 5, 2, 2**30)][:n_devices]
    monkeypatch.setattr(_core, "built_with_cuda", True)
    monkeypatch.setattr(_core, "cuda_architectures", "75-real 90")
    monkeypatch.setattr(_core, "cuda_devices", lambda: (devices, "" if devices else "no driver"))
    monkeypatch.setattr(_core, "cuda_unusable_reason", lambda number: "too old" * number)
    monkeypatch.setattr(_core, "cuda_driver_version", lambda: 12080 if devices else 0)
    monkeypatch.setattr(_core, "cuda_runtime_version", lambda: 13000)
    told = lines(capsys)
    assert told["compiled for"] == "75-real 90"
    assert told["runtime"] == "13.0"
    if devices:
        assert told["driver for"] == "12.8"
        assert told["cuda:0"] == "A, sm_90, 80.0 GiB, usable"
        assert told["cuda:1"] == "B, sm_52, 1.0 GiB, not usable: too old"
    else:
        assert told["driver for"] == "no driver"
        assert told["devices"] == "none: no driver"


def test_a_build_without_cuda_says_how_to_get_one_with_it(capsys, monkeypatch):
    monkeypatch.setattr(_core, "built_with_cuda", False)
    assert "SKDEJAVID_CUDA" in lines(capsys)["built with"]
