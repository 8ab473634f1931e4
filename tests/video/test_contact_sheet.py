import numpy as np
import pytest
import torch

from skdejavid import TSEExtractor
from skdejavid.datasets import write_video
from skdejavid.video import contact_sheet as module
from skdejavid.video.contact_sheet import SheetRow, contact_sheet, draw_sheet, write_contact_sheet
from skdejavid.video.opening import VideoDecodeError

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
    frame = picture(96, 128, BLUE)
    frame[:20, :30] = RED
    sheet = np.asarray(draw_sheet("t", [SheetRow("w", [frame], [frame])]))
    y, x = np.nonzero((sheet == RED).all(axis=2))
    assert len(y) == 2 * 20 * 30
    blue = np.nonzero((sheet == BLUE).all(axis=2)[y.min() : y.min() + 96])
    assert x.min() == blue[1].min()


def test_each_line_of_pictures_says_what_it_shows(monkeypatch):
    """Left of the pictures, in the middle of the line; of many pictures each line again."""
    drawn = []
    draw = module._draw_text

    def record(text):
        drawn.append((text, draw(text)))
        return drawn[-1][1]

    monkeypatch.setattr(module, "_draw_text", record)
    frames, pixels = [picture(96, 96, RED)] * 9, [picture(96, 96, BLUE)] * 9
    sheet = np.asarray(draw_sheet("", [SheetRow("w", frames, pixels)]))
    images = {text: np.asarray(image) for text, image in drawn}
    assert images["video"].min() == images["encoder"].min() == 0
    for color, label in ((RED, "video"), (BLUE, "encoder")):
        y, x = np.nonzero((sheet == color).all(axis=2))
        for top in sorted(set(y[np.diff(y, prepend=-9) > 1])):
            height, width = images[label].shape[:2]
            beside = sheet[top + 38 : top + 38 + height, 4 : 4 + width]
            np.testing.assert_array_equal(beside, images[label])
            assert x.min() >= 4 + width


def test_many_pictures_take_several_lines_and_keep_their_pairs():
    frames = [picture(96, 96, [20 * i, 0, 0]) for i in range(11)]
    pixels = [picture(96, 96, [0, 0, 20 * i + 9]) for i in range(11)]
    sheet = np.asarray(draw_sheet("t", [SheetRow("w", frames, pixels)]))
    lefts = []
    for i in range(1, 11):
        (above, left), (below, same) = (
            np.argwhere((sheet == color).all(axis=2)).min(axis=0)
            for color in ([20 * i, 0, 0], [0, 0, 20 * i + 9])
        )
        assert (left, below) == (same, above + 100)
        lefts.append(left - 100 * (i % 8))
    assert len(set(lefts)) == 1
    assert sheet.shape[1] < 9 * 100


def test_small_pixels_are_drawn_as_squares():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 1] = RED
    sheet = np.asarray(draw_sheet("", [SheetRow("", [], [pixels])]))
    assert (sheet == RED).all(axis=2).sum() == 48 * 48


def test_each_of_several_widths_has_its_own_span(monkeypatch):
    drawn = []
    monkeypatch.setattr(module, "draw_sheet", lambda title, rows: drawn.extend(rows))
    extractor = TSEExtractor(lambda batch: batch, width=(4, 1.0), stride=20, clip_length=2)
    contact_sheet(extractor, np.zeros((40, 32, 32, 3), np.uint8))
    assert [row.caption for row in drawn] == [
        "window 0, width 4 (0 to 4, in frames): frames 1, 3",
        "window 0, width 1.0 (0 to 40, in frames): frames 10, 30",
        "window 1, width 4 (18 to 22, in frames): frames 19, 21",
        "window 1, width 1.0 (0 to 40, in frames): frames 10, 30",
    ]


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
        "window 0 (0.00 to 0.16 s)" if is_file else "window 0 (0 to 4, in frames)"
    ]


def captions(monkeypatch, extractor, video, **options):
    """Return the title of a sheet, and the beginnings of its captions."""
    drawn = []
    monkeypatch.setattr(module, "draw_sheet", lambda title, rows: drawn.append((title, rows)))
    contact_sheet(extractor, video, **options)
    title, rows = drawn[0]
    return title, [row.caption.split(" (")[0] for row in rows]


@pytest.mark.parametrize(
    ("n_windows", "expected"),
    [(1, [0]), (3, [0, 18, 36]), (37, range(37)), (1000, range(37))],
)
def test_windows_are_spread_over_the_video_up_to_all(n_windows, expected, monkeypatch):
    video = np.zeros((40, 32, 32, 3), np.uint8)
    extractor = TSEExtractor(lambda batch: batch, width=4, stride=1, clip_length=1)
    title, found = captions(monkeypatch, extractor, video, n_windows=n_windows)
    assert found == [f"window {number}" for number in expected]
    assert f"the video: {len(expected)} of 37 window(s); encoder function, processor none" in title


def test_a_sheet_has_no_more_frames_than_it_can_show(monkeypatch):
    monkeypatch.setattr(module, "_MOST_FRAMES", 50)
    video = np.zeros((40, 32, 32, 3), np.uint8)
    extractor = TSEExtractor(lambda batch: batch, width=(4, 8), stride=1, clip_length=2)
    title, found = captions(monkeypatch, extractor, video, n_windows=1000)
    assert len(found) == 2 * 12  # of 4 frames
    assert ": 12 of 40 window(s);" in title
    long = TSEExtractor(lambda batch: batch, width=40, stride=1, clip_length=60)
    assert ": 1 of 1 window(s);" in captions(monkeypatch, long, video, n_windows=1000)[0]


def test_the_title_tells_which_numbers_the_encoder_gets(monkeypatch):
    """Undoing a wrong normalization gives the same pictures as undoing a right one."""
    video = np.zeros((4, 32, 32, 3), np.uint8)
    video[:, :8] = 255
    extractor = TSEExtractor(
        lambda batch: batch, width=4, stride=4, frame_size=32, mean=[0.5, 0.4, 0.3], std=0.25
    )
    title, _ = captions(monkeypatch, extractor, video)
    expected = "mean 0.5 0.4 0.3, std 0.25: the encoder gets 3 x 16 x 32 x 32 numbers "
    expected += "from -2 to 2.8, mean -0.6"
    assert expected in title.split("\n")
    assert 'lines "video": frames as players show them; lines "encoder": the same' in title
    plain = captions(monkeypatch, extractor.set_params(mean=None, std=None), video)[0]
    assert "mean none, std none: the encoder gets 3 x 16 x 32 x 32 numbers from 0 to 1" in plain


def test_a_file_that_is_another_one_when_it_is_read_again_is_an_error(tmp_path, monkeypatch):
    """The sheet would show frames of one above pixels of the other."""
    for name, n_frames in (("a", 20), ("b", 12)):
        write_video(tmp_path / f"{name}.mp4", np.zeros((n_frames, 32, 32, 3), np.uint8))
    video, read = tmp_path / "a.mp4", module.read_frames

    def replace_and_read(path, spec):
        if spec.shorter_side == 96:  # for what players show
            (tmp_path / "b.mp4").replace(video)
        yield from read(path, spec)

    monkeypatch.setattr(module, "read_frames", replace_and_read)
    extractor = TSEExtractor(lambda batch: batch, width=1.0, stride=1.0, clip_length=8)
    with pytest.raises(VideoDecodeError, match=r"a\.mp4: reading it again gives different frames"):
        contact_sheet(extractor, video)


def test_writing_a_sheet_returns_what_its_title_says(tmp_path):
    video = np.zeros((40, 32, 32, 3), np.uint8)
    extractor = TSEExtractor(lambda batch: batch, width=4, stride=1, clip_length=1)
    title = write_contact_sheet(str(tmp_path / "a.png"), extractor, video, n_windows=5)
    assert title.startswith("the video: 5 of 37 window(s);")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
