import pytest

from skdejavid.backends.backend import split_device


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
