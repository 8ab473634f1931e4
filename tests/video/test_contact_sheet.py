import numpy as np
import pytest
import torch

from skdejavid import TSEExtractor
from skdejavid.datasets import write_video
from skdejavid.video import contact_sheet as module
from skdejavid.video.contact_sheet import SheetRow, contact_sheet, draw_sheet

RED, BLUE = [255, 0, 0], [0, 0, 255]


def picture(height, width, color):
    return np.full((height, width, 3), color, dtype=np.uint8)


def test_frames_stand_above_what_the_encoder_gets_of_them():
    rows = [SheetRow("w", [picture(48, 64, RED)] * 3, [picture(32, 32, BLUE)] * 3)] * 2
    sheet = np.asarray(draw_sheet("title\nof two lines", rows))
    for color, width in ((RED, 128), (BLUE, 96)):  # each is 96 high
        assert (sheet == color).all(axis=2).sum() == 2 * 3 * 96 * width
    tops, lefts = {}, {}
    for name, color in (("red", RED), ("blue", BLUE)):
        y, x = np.nonzero((sheet == color).all(axis=2))
        tops[name], lefts[name] = y.min(), sorted(set(x[np.diff(x, prepend=-9) > 1]))
    assert tops["blue"] == tops["red"] + 100
    assert lefts["red"] == lefts["blue"]


def test_pictures_keep_their_orientation_and_colors():
    frame = picture(96, 128, 0)
    frame[:20, :30] = RED
    sheet = np.asarray(draw_sheet("t", [SheetRow("w", [frame], [frame])]))
    y, x = np.nonzero((sheet == RED).all(axis=2))
    assert len(y) == 2 * 20 * 30
    black = np.nonzero((sheet == 0).all(axis=2)[y.min() : y.min() + 96])
    assert x.min() == black[1][black[1] > 3].min()


@pytest.mark.parametrize("shape", [(1, 500), (500, 1)])
def test_pictures_of_any_shape_have_the_same_height(shape):
    sheet = np.asarray(draw_sheet("", [SheetRow("", [picture(*shape, RED)], [])]))
    y, x = np.nonzero((sheet == RED).all(axis=2))
    assert len(set(y)) == 96
    assert len(set(x)) == max(1, round(shape[1] * 96 / shape[0]))


@pytest.mark.parametrize("layout", ["BCTHW", "BTCHW", "BCHW"])
@pytest.mark.parametrize("is_file", [True, False])
def test_the_pixels_are_those_that_the_encoder_gets(layout, is_file, tmp_path, monkeypatch):
    """Each window of the sheet is what a module is called with, with its normalization undone."""
    frames = np.arange(20, dtype=np.uint8).repeat(40 * 60 * 3).reshape(20, 40, 60, 3) * 10
    frames[:, :10, :15] = 255  # a corner
    video = frames
    if is_file:
        video = str(tmp_path / "a.mp4")
        write_video(video, frames)
    seen, drawn = [], []

    class Spy(torch.nn.Module):
        def forward(self, batch):
            seen.append(batch.numpy().copy())
            return batch.flatten(1)[:, :2]

    mean, std = np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 0.25, 0.125])
    windows = {"width": 4, "stride": 3, "clip_length": 2, "batch_size": 1, "frame_size": (40, 32)}
    extractor = TSEExtractor(Spy(), layout=layout, mean=list(mean), std=list(std), **windows)
    monkeypatch.setattr(module, "draw_sheet", lambda title, rows: drawn.extend(rows))
    contact_sheet(extractor, video, n_windows=100)
    assert not seen  # the encoder is not run
    n_windows = len(extractor.transform([video])[0])
    assert len(drawn) == n_windows
    order = {"BCTHW": (0, 2, 3, 4, 1), "BTCHW": (0, 1, 3, 4, 2), "BCHW": (0, 2, 3, 1)}[layout]
    got = np.concatenate(seen).transpose(order).reshape(-1, 32, 32, 3)
    expected = {tuple(frame.ravel()) for frame in np.rint((got * std + mean) * 255).astype(int)}
    for row in drawn:
        assert {tuple(frame.ravel().astype(int)) for frame in row.pixels} <= expected
        assert [frame.shape for frame in row.frames] == [(96, 144, 3)] * 2
        for shown, pixels in zip(row.frames, row.pixels, strict=True):
            assert abs(int(shown[-5, -5, 0]) - int(pixels[-2, -2, 0])) <= 3
            assert shown[5, 5].min() > 240  # upright
    assert [row.caption.split(":")[0] for row in drawn[:1]] == [
        "window 0 (0.00 to 0.16)" if is_file else "window 0 (0.00 to 4.00)"
    ]


def test_windows_are_spread_over_the_video():
    video = np.zeros((40, 32, 32, 3), np.uint8)
    extractor = TSEExtractor(lambda batch: batch, width=4, stride=1, clip_length=1)
    sheet = contact_sheet(extractor, video, n_windows=3)
    assert sheet.size[1] == contact_sheet(extractor, video[:20], n_windows=3).size[1]
