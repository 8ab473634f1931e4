"""Settings that must be in place before scikit-learn is imported, and shared data."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # else scikit-learn skips its array API check
os.environ["MPLBACKEND"] = "Agg"

import numpy as np
import pytest
from hypothesis import settings

from skdejavid import _core

# The same examples each time, so that a change and not chance makes a test fail. To look for new
# ones: make test PYTEST_ARGS=--hypothesis-profile=explore
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("reproducible")


@pytest.fixture
def rng():
    return np.random.default_rng(20251122)


@pytest.fixture
def ragged(rng):
    """Twelve sequences of 3 features and 1 to 12 frames, and three classes."""
    X = [rng.standard_normal((n_frames, 3)) for n_frames in range(1, 13)]
    y = np.arange(12) % 3
    return X, y


@pytest.fixture(scope="session")
def japanese_vowels():
    """JapaneseVowels: 270 training and 370 test sequences, 12 features, 9 classes."""
    from aeon.datasets import load_japanese_vowels

    from skdejavid import TSEArray

    X_train, y_train = load_japanese_vowels("train")
    X_test, y_test = load_japanese_vowels("test")
    return TSEArray.from_aeon(X_train), y_train, TSEArray.from_aeon(X_test), y_test


@pytest.fixture(scope="session")
def gun_point():
    """GunPoint as 3-D arrays (n, 150, 1): 50 training and 150 test sequences, 2 classes."""
    from aeon.datasets import load_gunpoint

    X_train, y_train = load_gunpoint("train")
    X_test, y_test = load_gunpoint("test")
    return X_train.transpose(0, 2, 1), y_train, X_test.transpose(0, 2, 1), y_test


def usable_devices():
    """Devices that results are compared on: those of this machine."""
    if _core.built_with_cuda and any(
        not _core.cuda_unusable_reason(number) for number in range(_core.cuda_device_count())
    ):
        return ["cpu", "cuda"]
    return ["cpu"]


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Where to compute; the same tests hold for both."""
    if request.param not in usable_devices():
        pytest.skip("no CUDA device that this build can compute on")
    return request.param


@pytest.fixture
def cuda_card():
    """A CUDA device, for what only such a device has."""
    if usable_devices() == ["cpu"]:
        pytest.skip("no CUDA device that this build can compute on")
    return "cuda:0"


@pytest.fixture
def emulated_cuda(monkeypatch):
    """A "device" whose memory is the host's, and whose kernels are run there; for tiny problems.

    What is "cuda" anywhere in the package is that device.
    """
    import cuda_emulation
    import torch

    from skdejavid import nn
    from skdejavid.backends import cuda_device, registry

    class EmulatedDevice(cuda_device.CudaDevice):
        free = 2**40  # bytes
        refuses = staticmethod(lambda n_bytes: False)

        def __init__(self):
            self.torch, self.number, self.torch_device = torch, 0, torch.device("cpu")
            self.n_times_emptied = 0

        def stream(self):
            return 0

        def free_bytes(self):
            return self.free

        def empty(self, shape, dtype):
            n_bytes = int(np.prod(shape)) * dtype.itemsize
            if self.refuses(n_bytes):
                raise torch.cuda.OutOfMemoryError(f"{n_bytes} bytes")
            tensor = torch.empty(shape, dtype=dtype)
            return tensor.fill_(float("nan")) if dtype.is_floating_point else tensor

        def pinned(self, shape, dtype):
            return torch.empty(shape, dtype=dtype)

        def upload_async(self, pinned):
            copy = self.empty(pinned.shape, pinned.dtype).copy_(pinned)
            return lambda: copy

        def record_event(self):
            return lambda: None

        def empty_cache(self):
            self.n_times_emptied += 1

    emulated = EmulatedDevice()
    for name, value in vars(cuda_emulation.emulated_core()).items():
        if name.startswith("cuda_adam") or name.startswith("CudaProblem"):
            monkeypatch.setattr(_core, name, value)
    monkeypatch.setattr(registry, "require_device", lambda device: 0)
    monkeypatch.setattr(registry, "open_device", lambda device: emulated)
    monkeypatch.setattr(nn, "device_of", lambda tensor: emulated)
    return emulated


def pytest_terminal_summary(terminalreporter):
    """How many of scikit-learn's own checks ran, and how they went."""
    results = {
        outcome: sum("test_scikit_learns_own_checks" in report.nodeid for report in reports)
        for outcome, reports in terminalreporter.stats.items()
        if outcome in ("passed", "failed", "skipped", "xfailed")
    }
    if any(results.values()):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in results.items() if count)
        terminalreporter.write_line(f"scikit-learn's estimator checks: {counts}")
