import numpy as np
import pytest
import torch

from skdejavid import TSEExtractor
from skdejavid.video.encoder_errors import as_device, explain_errors

VIDEOS = [np.zeros((8, 12, 16, 3), np.uint8)]


def extract(encoder, **parameters):
    settings = {"width": 4, "stride": 4, "clip_length": 2, "frame_size": 8, **parameters}
    return TSEExtractor(encoder, **settings).transform(VIDEOS)


@pytest.mark.fault(103)
def test_an_image_encoder_in_the_layout_of_clips_is_told_of_the_layout():
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
    with pytest.raises(RuntimeError, match=r"Expected 3D .* conv2d") as caught:
        extract(encoder)
    message = str(caught.value)
    assert "(2, 3, 2, 8, 8), float32 on cpu, with layout='BCTHW': (batch, channels, time" in message
    assert "set layout='BCHW'" in message
    assert "time before channels, as video models of Hugging Face do, layout='BTCHW'" in message
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert extract(encoder, layout="BCHW").n_features == 4 * 6 * 6


@pytest.mark.fault(103)
@pytest.mark.parametrize("kind", [ValueError, KeyError, torch.OutOfMemoryError, IndexError])
def test_errors_of_the_encoder_keep_their_class(kind):
    def encoder(clips):
        raise kind("on purpose")

    with pytest.raises(kind, match=r"on purpose.*shape \(2, 3, 2, 8, 8\)") as caught:
        extract(encoder)
    assert type(caught.value) is kind
    expected = "batch_size" if kind is torch.OutOfMemoryError else "layout='BCHW'"
    assert expected in str(caught.value)


def test_a_video_encoder_with_channels_first_is_told_of_its_layout():
    encoder = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 1), torch.nn.Flatten())
    with pytest.raises(RuntimeError, match="channels before time, layout='BCTHW'"):
        extract(encoder, layout="BTCHW")
    assert extract(encoder, layout="BCTHW").n_features == 4 * 2 * 8 * 8


def test_other_errors_of_the_encoder_become_runtime_errors():
    class OwnError(Exception):
        def __init__(self, number, name):
            super().__init__()

    with (
        pytest.raises(RuntimeError, match=r"^OwnError \(raised by the .*'BTCHW'") as caught,
        explain_errors(torch.zeros(1, 2), "BTCHW"),
    ):
        raise OwnError(1, "a")
    assert isinstance(caught.value.__cause__, OwnError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass(kind):
    def encoder(clips):
        raise kind

    with pytest.raises(kind):
        extract(encoder)


@pytest.mark.fault(103)
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((), "returned an empty tuple, expected a tensor"),
        ([], "returned an empty list, expected a tensor"),
        (None, "returned a NoneType"),
        (3.0, "returned a float"),
        ("a", "returned a str"),
        ((torch.zeros(2, 3), None), "returned a NoneType as one of its outputs .embedding, logits"),
        ({}, r"a mapping with \[\], expected 'embedding'"),
        ({"embedding": None}, "a mapping with"),
        (torch.tensor(1.0), r"for 2 inputs it returned shape \(\)"),
        (torch.zeros(3, 4), r"for 2 inputs it returned shape \(3, 4\)"),
        (torch.full((2, 3), torch.nan), "NaN or infinity for window 0 of"),
    ],
    ids=repr,
)
def test_outputs_that_are_no_embeddings_are_named(output, message):
    with pytest.raises(ValueError, match=message):
        extract(lambda clips: output)


@pytest.mark.fault(103)
@pytest.mark.parametrize("device", ["nonsense", "cuda:a", 1.5, [], ""])
def test_devices_that_are_none_are_named(device):
    with pytest.raises(ValueError, match=r"device must be None or a device of torch, .* got"):
        extract(torch.nn.Flatten(), device=device)
    with pytest.raises(ValueError, match=r"device must be None or a device of torch, .* got"):
        TSEExtractor(torch.nn.Flatten(), device=device).fit()


@pytest.mark.fault(103)
def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:7", torch.device("cuda:0")):
        with pytest.raises(RuntimeError, match=rf"device='{device}' cannot be used: torch .*'cpu'"):
            extract(torch.nn.Flatten(), device=device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RuntimeError, match=r"there are only 2 device\(s\), 'cuda:0' to 'cuda:1'"):
        as_device("cuda:7")
    assert as_device("cuda:1") == torch.device("cuda:1")
    assert as_device(None) is None
    assert as_device("cpu") == torch.device("cpu")
