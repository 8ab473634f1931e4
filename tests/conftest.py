"""Settings that scikit-learn reads when it is imported, shared data, devices and backends."""

import os
import sys

os.environ["SCIPY_ARRAY_API"] = "1"  # else scikit-learn skips its array API check
os.environ["MPLBACKEND"] = "Agg"

import numpy as np
import pytest
from hypothesis import settings

from skdejavid.backends.cuda import CudaBackend
from skdejavid.backends.cuda_device import CudaDevice
from skdejavid.backends.registry import backend_of, register_backend, resolve_device

# The same examples each time, so that tests fail because of changes and not by chance. To search
# for new examples: make test PYTEST_ARGS=--hypothesis-profile=explore
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def _close_figures():
    """Leave no figure to later tests: matplotlib warns of many."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


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
    """Devices of this machine on which results are compared."""
    try:
        resolve_device("cuda")
    except (ImportError, RuntimeError):
        return ["cpu"]
    return ["cpu", "cuda"]


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Device to compute on; tests run on each."""
    if request.param not in usable_devices():
        pytest.skip("no CUDA device that this build can compute on")
    return request.param


@pytest.fixture
def cuda_card():
    """The first CUDA device, for tests that an emulated one cannot replace."""
    if usable_devices() == ["cpu"]:
        pytest.skip("no CUDA device that this build can compute on")
    return backend_of("cuda").open("cuda:0")


@pytest.fixture
def torch_warnings():
    """Let torch repeat warnings that it otherwise issues once in a process."""
    import torch

    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.fixture
def register():
    """A function that registers a backend until the test ends, and returns it."""
    replaced = []

    def register(name, backend):
        replaced.append((name, register_backend(name, backend)))
        return backend

    yield register
    for name, previous in reversed(replaced):
        register_backend(name, previous)


@pytest.fixture
def emulated_cuda(register):
    """An emulated device, which is "cuda" everywhere in the package; for tiny problems.

    Its memory is host memory, its kernels run on the CPU, and its backend owns all tensors.
    """
    import cuda_emulation
    import torch

    class EmulatedDevice(CudaDevice):
        free = 2**40  # bytes
        refuses = staticmethod(lambda n_bytes: False)

        def __init__(self, native):
            self.torch, self.number, self.torch_device = torch, 0, torch.device("cpu")
            self.native = native
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

    class EmulatedBackend(CudaBackend):
        device = EmulatedDevice(cuda_emulation.emulated_core())

        def resolve(self, device):
            return "cuda:0"

        def open(self, device):
            return self.device

        def owns(self, tensor):
            return True

    return register("cuda", EmulatedBackend()).device


def pytest_terminal_summary(terminalreporter):
    """Report the outcomes of scikit-learn's own checks."""
    results = {
        outcome: sum("test_scikit_learns_own_checks" in report.nodeid for report in reports)
        for outcome, reports in terminalreporter.stats.items()
        if outcome in ("passed", "failed", "skipped", "xfailed")
    }
    if any(results.values()):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in results.items() if count)
        terminalreporter.write_line(f"scikit-learn's estimator checks: {counts}")
