from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skdejavid.video import transfers
from skdejavid.video.transfers import transfers_to

CPU = torch.device("cpu")


@pytest.fixture
def frame(rng):
    return rng.integers(0, 256, size=(3, 6, 5), dtype=np.uint8)


def test_on_the_cpu_a_frame_is_copied_nowhere(frame):
    frame.flags.writeable = False  # without a warning
    to_cpu = transfers_to(CPU)
    for given in (frame, frame.copy()):
        uploaded = to_cpu.upload(to_cpu.stage(given))
        assert uploaded.data_ptr() == given.ctypes.data
        np.testing.assert_array_equal(uploaded, frame)


def test_what_was_downloaded_does_not_change_with_the_output_of_the_encoder():
    output = torch.tensor([[1.0, 2.0]])
    download = transfers_to(CPU).download(output, torch.float32)
    output.zero_()
    assert download.wait is None
    np.testing.assert_array_equal(download.get(), [[1, 2]])


@pytest.mark.parametrize(
    ("given", "asked"), [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64")]
)
def test_precision_is_changed_on_the_way(given, asked):
    output = torch.tensor([[1.5, 3.0]], dtype=getattr(torch, given))
    values = transfers_to(CPU).download(output, getattr(torch, asked)).get()
    assert values.dtype == asked
    np.testing.assert_array_equal(values, [[1.5, 3]])


class FakeStream:
    """Work that is done in order, when somebody waits for it."""

    def __init__(self, device=None):
        self.queue = []

    def wait_stream(self, other):
        self.queue.append(other.run)

    def run(self):
        while self.queue:
            self.queue.pop(0)()

    def __enter__(self):
        self.outer, FakeCuda.current = FakeCuda.current, self

    def __exit__(self, *_):
        FakeCuda.current = self.outer


class FakeEvent:
    def __init__(self, *, blocking):
        assert blocking

    def record(self, stream):
        self.synchronize = stream.run


class FakeCuda:
    """What `torch.cuda` offers of streams; nothing is copied before somebody waits for it."""

    current = FakeStream()
    Stream, Event = FakeStream, FakeEvent

    @staticmethod
    def stream(stream):
        return stream

    @classmethod
    def current_stream(cls, device):
        assert device == torch.device("cuda")
        return cls.current


class FakeTensor:
    """A tensor on a card, or one that is copied there or from there by a stream."""

    def __init__(self, values, device):
        self.values, self.device = np.array(values), device
        self.recorded = []

    def to(self, device, dtype=None, *, non_blocking):
        assert non_blocking
        copied = FakeTensor(np.zeros_like(self.values), torch.device(device))
        FakeCuda.current.queue.append(lambda: copied.values.__setitem__(..., self.values))
        return copied

    def record_stream(self, stream):
        self.recorded.append(stream)

    def numpy(self):
        return self.values


@pytest.fixture
def fake_card(monkeypatch):
    monkeypatch.setattr(transfers, "torch", SimpleNamespace(cuda=FakeCuda))
    monkeypatch.setattr(FakeCuda, "current", FakeStream())
    return transfers_to(torch.device("cuda"))


@pytest.mark.parametrize("waits", [True, False])
def test_a_card_computes_with_frames_that_have_arrived(waits, fake_card):
    """The copies are made by another stream than the computation."""
    frames = [fake_card.upload(FakeTensor([k], CPU)) for k in (3, 4)]
    main = FakeCuda.current
    assert main.queue == []
    assert all(frame.recorded == [main] for frame in frames)
    if waits:
        fake_card.await_uploads()
    total = FakeTensor([0], torch.device("cuda"))
    main.queue.append(lambda: total.values.__setitem__(0, sum(f.values[0] for f in frames)))
    download = fake_card.download(total, torch.float32)
    assert total.values == 0  # nobody has waited yet
    np.testing.assert_array_equal(download.get(), [7 if waits else 0])


def test_parts_of_the_output_that_a_card_does_not_have_need_no_waiting(fake_card):
    output = torch.tensor([[1.0]])
    download = fake_card.download(output, torch.float32)
    output.zero_()
    assert download.wait is None
    np.testing.assert_array_equal(download.get(), [[1]])


@pytest.mark.gpu
def test_copies_to_a_card_and_back_keep_every_bit(rng, cuda_card):
    """Memory is reused meanwhile, on both sides."""
    device = torch.device("cuda")
    card = transfers_to(device)
    frames = rng.integers(0, 256, size=(300, 3, 224, 224), dtype=np.uint8)
    downloads = []
    for k in range(0, 300, 10):
        uploaded = [card.upload(card.stage(frame)) for frame in frames[k : k + 10]]
        card.await_uploads()
        downloads.append(card.download(torch.stack(uploaded), torch.float32))
        del uploaded
    assert all(download.wait is not None for download in downloads)
    for k, download in enumerate(downloads):
        np.testing.assert_array_equal(download.get(), frames[10 * k : 10 * k + 10])
