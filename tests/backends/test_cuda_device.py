"""Which CUDA device can be used, and what it is told when it cannot."""

import subprocess
import sys

import pytest
import torch

from skdejavid import _core
from skdejavid.backends import cuda_device as cuda
from skdejavid.backends.cuda_device import require_device


@pytest.fixture
def card(monkeypatch):
    """A machine with two devices, as far as questions about it go."""
    monkeypatch.setattr(_core, "built_with_cuda", True)
    monkeypatch.setattr(_core, "cuda_devices", lambda: ([("A", 9, 0, 8), ("B", 5, 2, 8)], ""))
    monkeypatch.setattr(_core, "cuda_unusable_reason", lambda number: "compiled for 75" * number)
    monkeypatch.setattr(_core, "cuda_driver_version", lambda: 0)
    monkeypatch.setattr(_core, "cuda_runtime_version", lambda: 13020)
    monkeypatch.setattr(cuda, "_cuda_began", False)
    monkeypatch.setattr(cuda, "_usable", set())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return monkeypatch


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_device_that_can_be_used_is_its_number(card, name):
    assert require_device(name) == 0
    assert cuda._cuda_began
    card.setattr(_core, "cuda_devices", None)  # found good once, it is not looked at again
    assert require_device(name) == 0


def test_without_any_device_cuda_has_not_begun(card):
    """A process forked later shall not be told that this was the reason."""
    card.setattr(_core, "cuda_devices", lambda: ([], "no driver"))
    with pytest.raises(RuntimeError, match="no driver"):
        require_device("cuda")
    assert not cuda._cuda_began


@pytest.mark.fault(46, 47)
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cuda", {(_core, "built_with_cuda"): False}, "no CUDA backend .* with SKDEJAVID_CUDA=ON"),
        (
            "cuda:1",
            {(_core, "cuda_devices"): lambda: ([], "no driver")},
            r"none: no driver \(driver for CUDA not installed, this build uses CUDA 13.2\)",
        ),
        ("cuda", {(_core, "cuda_devices"): lambda: ([], "")}, "no CUDA device was found"),
        ("cuda:2", {}, r"there are only 2 device\(s\), 'cuda:0' to 'cuda:1'"),
        ("cuda:1", {}, r"B \(sm_52\) cannot be used: compiled for 75"),
        ("cuda", {(torch.version, "cuda"): None}, "torch .* was built without CUDA"),
        ("cuda", {(torch.cuda, "is_available"): lambda: False}, "torch .* cannot use it"),
        ("cuda", {(cuda, "_forked_after"): True}, "forked .* 'loky' or multiprocessing's 'spawn'"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused_with_the_reason(card, name, changes, message):
    for (owner, attribute), value in changes.items():
        card.setattr(owner, attribute, value)
    with pytest.raises(RuntimeError, match=f"device='{name}' was asked for, but .*{message}"):
        require_device(name)


@pytest.mark.fault(49)
def test_a_process_forked_after_cuda_began_knows(card, tmp_path):
    code = (
        "import os, sys\n"
        "from skdejavid.backends import cuda_device as cuda\n"
        "cuda._cuda_began = sys.argv[1] == 'began'\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(int(cuda._forked_after))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(cuda._forked_after))\n"
    )
    for began, expected in (("began", "1 0"), ("not", "0 0")):
        command = [sys.executable, "-c", code, began]
        assert subprocess.check_output(command, text=True, cwd=tmp_path).strip() == expected


def test_questions_about_devices_need_no_driver():
    devices, reason = _core.cuda_devices()
    assert len(devices) == _core.cuda_device_count()
    assert bool(devices) != bool(reason)
    assert _core.built_with_cuda == bool(_core.cuda_architectures)
    if not devices:
        assert _core.cuda_unusable_reason(0)


def test_rows_that_are_padded_already_are_not_copied(emulated_cuda):
    tensor = torch.zeros(2, 3, 8)
    assert emulated_cuda.padded(tensor).data_ptr() == tensor.data_ptr()
    padded = emulated_cuda.padded(torch.ones(2, 3, 5))
    assert padded.shape == (2, 3, 8)
    assert padded.sum() == 30


def test_importing_begins_nothing(tmp_path):
    code = (
        "import sys, skdejavid.backends.cuda_device, skdejavid.backends.cuda_engine\n"
        "print('torch' in sys.modules, skdejavid.backends.cuda_device._cuda_began)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    assert printed.strip() == "False False"
