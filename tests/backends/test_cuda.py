"""Which CUDA devices can be used, and the errors for those that cannot."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from skdejavid import _core
from skdejavid.backends import cuda
from skdejavid.backends.cuda import CudaBackend


def native(**changes):
    """A native core that sees two devices, of which the second is unusable."""
    fields = {
        "built_with_cuda": True,
        "cuda_architectures": "75-real 90",
        "cuda_devices": lambda: ([("A", 9, 0, 80 * 2**30), ("B", 5, 2, 2**30)], ""),
        "cuda_unusable_reason": lambda number: "compiled for 75" * number,
        "cuda_driver_version": lambda: 0,
        "cuda_runtime_version": lambda: 13020,
    }
    return SimpleNamespace(**fields | changes)


@pytest.fixture
def torch_with_cuda(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_device_that_can_be_used_is_resolved_to_its_number(torch_with_cuda, name):
    core = native()
    backend = CudaBackend(core)
    assert backend.resolve(name) == "cuda:0"
    core.cuda_devices = None  # a device that was usable once is not checked again
    assert backend.resolve(name) == "cuda:0"


def test_a_device_that_two_threads_open_at_once_is_one_object(torch_with_cuda, monkeypatch):
    both_create = threading.Barrier(2, timeout=10)

    class Device:
        def __init__(self, number, native):
            both_create.wait()

    monkeypatch.setattr(cuda, "CudaDevice", Device)
    backend = CudaBackend(native())
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(backend.open, ["cuda", "cuda:0"])
    assert first is second is backend.open("cuda:0")


@pytest.mark.fault(46, 47)
@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cuda", {"built_with_cuda": False}, r"no CUDA backend .* with SKDEJAVID_CUDA=ON"),
        (
            "cuda:1",
            {"cuda_devices": lambda: ([], "no driver")},
            r"no driver \(driver for CUDA not installed, this build uses CUDA 13.2\)",
        ),
        ("cuda", {"cuda_devices": lambda: ([], "")}, "no CUDA device was found"),
        ("cuda:2", {}, r"there are only 2 device\(s\), 'cuda:0' to 'cuda:1'"),
        ("cuda:1", {}, r"B \(sm_52\): compiled for 75"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused_with_the_reason(
    torch_with_cuda, name, changes, message
):
    with pytest.raises(RuntimeError, match=f"device='{name}' cannot be used: .*{message}"):
        CudaBackend(native(**changes)).resolve(name)


@pytest.mark.parametrize(
    ("owner", "attribute", "value", "message"),
    [
        (torch.version, "cuda", None, "torch .* was built without CUDA"),
        (torch.cuda, "is_available", lambda: False, "torch .* does not find a CUDA device"),
    ],
)
def test_a_torch_that_cannot_use_the_device_is_named(
    torch_with_cuda, monkeypatch, owner, attribute, value, message
):
    monkeypatch.setattr(owner, attribute, value)
    with pytest.raises(RuntimeError, match=f"device='cuda' cannot be used: {message}"):
        CudaBackend(native()).resolve("cuda")


def test_without_torch_the_extra_that_brings_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    message = r"device='cuda:0' needs torch, .*: pip install 'skdejavid\[cuda\]'"
    with pytest.raises(ImportError, match=message):
        CudaBackend(native()).resolve("cuda:0")


@pytest.mark.slow
@pytest.mark.fault(49)
@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ([("A", 9, 0, 8)], "this process was forked from one that had used CUDA"),
        ([], "no driver"),  # nothing was initialized that a fork could break
    ],
)
def test_a_process_forked_after_cuda_began_knows(devices, message, tmp_path):
    code = f"""
import os
from types import SimpleNamespace
from skdejavid.backends.cuda import CudaBackend
backend = CudaBackend(SimpleNamespace(
    built_with_cuda=True, cuda_architectures="", cuda_devices=lambda: ({devices!r}, "no driver"),
    cuda_unusable_reason=lambda number: "too old", cuda_driver_version=lambda: 0,
    cuda_runtime_version=lambda: 13000,
))
backend.describe()
if os.fork() == 0:
    try:
        backend.resolve("cuda")
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    assert message in printed


@pytest.mark.parametrize("n_devices", [0, 2])
def test_devices_are_described_and_whether_they_can_be_used(n_devices):
    core = native()
    devices, _ = core.cuda_devices()
    core.cuda_devices = lambda: (devices[:n_devices], "" if n_devices else "no driver")
    core.cuda_driver_version = lambda: 12080 if n_devices else 0
    rows = CudaBackend(core).describe()
    assert rows.pop("compiled for") == "75-real 90"
    assert rows.pop("runtime") == "13.2"
    if n_devices:
        assert rows == {
            "driver for": "12.8",
            "cuda:0": "A, sm_90, 80.0 GiB, usable",
            "cuda:1": "B, sm_52, 1.0 GiB, not usable: compiled for 75",
        }
    else:
        assert rows == {"driver for": "no driver", "devices": "none: no driver"}


def test_a_build_without_cuda_says_how_to_get_one_with_it():
    assert "SKDEJAVID_CUDA" in CudaBackend(native(built_with_cuda=False)).describe()["built with"]


def test_questions_about_devices_need_no_driver():
    devices, reason = _core.cuda_devices()
    assert len(devices) == _core.cuda_device_count()
    assert bool(devices) != bool(reason)
    assert _core.built_with_cuda == bool(_core.cuda_architectures)
    if not devices:
        assert _core.cuda_unusable_reason(0)


@pytest.mark.slow
def test_importing_loads_no_torch_and_no_driver(tmp_path):
    code = (
        "import sys, skdejavid.backends.cuda_engine\n"
        "from skdejavid.backends.registry import backend_of\n"
        "print('torch' in sys.modules, backend_of('cuda')._driver_process)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    assert printed.strip() == "False None"
