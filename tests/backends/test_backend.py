import pytest
from test_interfaces import assert_implements

from skdejavid.backends.backend import Backend, Engine, split_device
from skdejavid.backends.cpu import CpuBackend
from skdejavid.backends.cpu_engine import CpuEngine
from skdejavid.backends.cuda import CudaBackend
from skdejavid.backends.cuda_engine import CudaEngine


@pytest.mark.parametrize(
    ("cls", "interface"),
    [
        (CpuBackend, Backend),
        (CudaBackend, Backend),
        (CpuEngine, Engine),
        (CudaEngine, Engine),
    ],
)
def test_both_backends_and_engines_have_the_methods_of_the_interface(cls, interface):
    assert_implements(cls, interface)


@pytest.mark.parametrize(
    ("device", "parts"),
    [("cpu", ("cpu", None)), ("cuda:0", ("cuda", 0)), ("cuda:12", ("cuda", 12)), ("", ("", None))],
)
def test_a_device_is_a_name_and_maybe_a_number(device, parts):
    assert split_device(device) == parts


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cuda: 1"])
def test_what_follows_the_name_is_a_number(device):
    with pytest.raises(ValueError, match=f"after ':' must be a number, got '{device}'"):
        split_device(device)
