from fractions import Fraction

import numpy as np
import pytest
from clips_of import read_clips
from hypothesis import given
from hypothesis import strategies as st
from odd_files import picture_frames, write
from videos import numbered, numbers_of

from skdejavid import TSEExtractor
from skdejavid.datasets import write_video
from skdejavid.video.clips import ClipSpec
from skdejavid.video.decoding import read_clock
from skdejavid.video.timeline import Timeline
from skdejavid.video.windows import WindowPlan


class Packet:
    """A packet of one unit, as the demuxer returns it."""

    def __init__(self, pts, dts, is_key=False, duration=1):
        self.pts, self.dts, self.is_keyframe, self.duration = pts, dts, is_key, duration
        self.is_discard, self.size = False, 1


class Stream:
    average_rate = guessed_rate = Fraction(25)
    time_base = Fraction(1, 25)


class Container:
    def __init__(self, kind):
        self.format = type("Format", (), {"name": kind})


def shifted(packets, kind="mpegts"):
    """Return the times of packets on one timeline."""
    timeline = Timeline(Container(kind), Stream)
    for packet in packets:
        timeline.shift(packet)
    return [packet.pts for packet in packets]


def part(n_frames, start=0, *, b_frames=0):
    """Return packets of a stream with B-frames, in decoding order."""
    order = [0]
    for first in range(1, n_frames, b_frames + 1):
        last = min(first + b_frames, n_frames - 1)
        order += [last, *range(first, last)]
    return [Packet(start + pts, start + dts - b_frames, pts == 0) for dts, pts in enumerate(order)]


@pytest.mark.fault(123)
@given(
    parts=st.lists(
        st.tuples(st.integers(3, 30), st.integers(0, 10_000), st.integers(0, 3)), min_size=1
    )
)
def test_parts_follow_each_other_wherever_their_times_run_back(parts):
    # Each part begins before the one before it ends.
    start, packets, expected = 10**7, [], []
    for n_frames, back, b_frames in parts:
        start -= back
        packets += part(n_frames, start, b_frames=b_frames)
        expected += range(len(expected), len(expected) + n_frames)
        start -= 3
    times = sorted(shifted(packets))
    assert [time - times[0] for time in times] == expected


@pytest.mark.fault(123)
@pytest.mark.parametrize(("kind", "jumps"), [("mpegts", True), ("mpeg", True), ("matroska", False)])
def test_times_that_jump_far_ahead_are_a_joint_only_where_formats_allow_it(kind, jumps):
    times = shifted([*part(5), *part(5, 100 * 25)], kind)
    assert times == ([*range(10)] if jumps else [*range(5), *range(2500, 2505)])
    assert shifted([*part(5), *part(5, 9 * 25)], kind) == [*range(5), *range(225, 230)]


@pytest.mark.parametrize("b_frames", [0, 1, 3])
def test_frames_that_are_decoded_in_another_order_are_no_joint(b_frames):
    packets = part(40, b_frames=b_frames)
    before = [packet.pts for packet in packets]
    assert shifted(packets) == before


def test_repeated_and_slightly_wrong_times_are_no_joint():
    times = [0, 1, 1, 2, 4, 3, 5, 5]
    assert shifted([Packet(time, i, True) for i, time in enumerate(times)]) == times
    times = [(0, 0, True), (2, 1, False), (1, 0, False), (3, 2, False)]
    assert shifted([Packet(*time) for time in times]) == [0, 2, 1, 3]


@pytest.mark.fault(123)
def test_a_part_that_begins_without_a_key_frame_is_a_joint_too():
    packets = [*part(50), *part(50)[7:]]
    assert shifted(packets) == list(range(93))


def test_packets_without_times_or_to_be_discarded_are_left():
    packets = [*part(20), Packet(None, None), *part(5)]
    packets[21].is_discard = True
    assert shifted(packets)[20] is None
    assert shifted([Packet(2**62, 2**62, True), *part(5), *part(5, -(2**62))])[-1] == 2**62


def spans_and_numbers(path, width, stride):
    """Return spans of windows, and the numbers that their frames show."""
    spec = ClipSpec(width, stride, 1, one_by_one=False, shorter_side=None, crop=None)
    items = list(read_clips(str(path), spec))
    assert sum(isinstance(item, WindowPlan) for item in items) == 1  # packets were right
    frames = np.moveaxis(np.concatenate(items[1:]), 1, -1)
    return items[0].spans, numbers_of(frames).tolist()


@pytest.mark.fault(123)
@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("ts", "libx264", {"bf": "3"}),
        ("ts", "mpeg2video", {"bf": "2"}),
        ("mpg", "mpeg2video", {"bf": "2"}),
        ("vob", "mpeg1video", {}),
        ("mkv", "libx264", {"bf": "3"}),
        ("webm", "libvpx", {"deadline": "realtime", "cpu-used": "8"}),
        ("h264", "libx264", {}),
    ],
)
@pytest.mark.parametrize("numbers", [(50, 50), (50, 10), (13, 50, 30)])
def test_windows_in_seconds_cover_all_parts_of_a_joined_file(
    suffix, codec, options, numbers, tmp_path
):
    content, expected = b"", []
    if suffix in ("mkv", "webm"):
        numbers = numbers[:2]  # FFmpeg ignores a third segment, as players do
    for number in numbers:
        write_video(tmp_path / f"part.{suffix}", numbered(number), codec=codec, options=options)
        content += (tmp_path / f"part.{suffix}").read_bytes()
        expected += range(number)
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(content)
    for by_decoding in (False, True):
        clock = read_clock(path, by_decoding=by_decoding)
        np.testing.assert_allclose(clock.starts, np.arange(len(expected)) / 25, atol=2e-3)
        assert clock.end == pytest.approx(len(expected) / 25, abs=2e-3)
    if suffix != "h264":  # which is always read twice
        spans, found = spans_and_numbers(path, "0.04s", "0.04s")
        assert found == expected
        assert spans[-1, 1] == pytest.approx(len(expected) / 25, abs=2e-3)
        _, in_frames = spans_and_numbers(path, 1, 1)
        assert in_frames == expected


@pytest.mark.fault(123)
def test_a_stream_that_jumps_ahead_by_hours_has_no_pause(tmp_path):
    content = b""
    for seed, start in enumerate([0, 25 * 3600, 25 * 7200]):
        path = tmp_path / f"{seed}.ts"
        times = range(start, start + 20)
        write(path, "libx264", picture_frames(20), times=times, unit=Fraction(1, 25))
        content += path.read_bytes()
    path.write_bytes(content)
    clock = read_clock(path)
    np.testing.assert_allclose(clock.starts, np.arange(60) / 25, atol=1e-3)
    np.testing.assert_allclose(read_clock(path, by_decoding=True).starts, clock.starts, atol=1e-9)


@pytest.mark.fault(123)
def test_the_whole_of_a_joined_file_is_extracted(tmp_path):
    content = b""
    for number, value in ((50, 50), (10, 200)):
        write_video(tmp_path / "a.ts", np.full((number, 64, 64, 3), value, np.uint8))
        content += (tmp_path / "a.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(content)

    def encode(clips):
        return clips.mean(dim=(2, 3, 4))

    for length in (5, "0.2s"):
        extractor = TSEExtractor(
            encode, width=length, stride=length, clip_length=1, frame_size=None
        )
        X = extractor.transform([str(tmp_path / "a.ts")])
        assert (X[0][:, 0] * 255).round().astype(int).tolist() == [50] * 10 + [200] * 2
        assert X.spans[-1, 1] == pytest.approx(2.4)
