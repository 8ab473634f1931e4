import threading
import weakref
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skdejavid import VideoDecodeError
from skdejavid.store import Failure
from skdejavid.video import pipeline
from skdejavid.video.clips import ClipSpec, NumberedFrame, read_frames
from skdejavid.video.pipeline import Extraction, InMemory, warn_of_left_out
from skdejavid.video.progress import Progress
from skdejavid.video.sources import Source
from skdejavid.video.windows import FrameClock

SPEC = ClipSpec(width=4, stride=2, clip_length=None, one_by_one=False, shorter_side=None, crop=None)


class Remembering(InMemory):
    """A sink with partial sequences, which keeps a copy of its content at each commit."""

    def __init__(self, partial=None, sequences=None):
        super().__init__()
        self.partial = partial
        self.sequences = dict(sequences or {})
        self.committed = []

    def append(self, id, *arguments):
        assert id not in self.sequences
        self._drop_partial(id)
        super().append(id, *arguments)

    def fail(self, id, *arguments):
        self._drop_partial(id)
        super().fail(id, *arguments)

    def write_partial(self, id, values, *_):
        assert self.partial is None or self.partial[0] == id
        before = [] if self.partial is None else [self.partial[1]]
        self.partial = id, np.concatenate([*before, values])

    def discard_partial(self):
        self.partial = None

    def commit(self):
        self.committed.append((self.partial, dict(self.sequences), dict(self.failures)))

    def _drop_partial(self, id):
        if self.partial is not None and self.partial[0] == id:
            self.partial = None


class Encoder:
    """An encoder whose output depends on the whole batch, as rounding does in real ones.

    Parameters
    ----------
    is_late : bool, default=False
        Whether embeddings are not ready when a batch was started, as those of a card.
    """

    def __init__(self, embed=None, *, is_late=False):
        self.embed = embed or embed_together
        self.is_late = is_late
        self.n_clips = 0
        self.sizes = []
        self.calls = []

    def stage(self, frame):
        return frame

    def upload(self, frame):
        return frame

    def start(self, clips):
        number = len(self.sizes)
        self.calls.append(f"start {number}")
        self.n_clips += len(clips)
        self.sizes.append(len(clips))
        embeddings = self.embed(np.stack([np.stack(clip) for clip in clips]))

        def get():
            self.calls.append(f"get {number}")
            return embeddings

        return SimpleNamespace(is_ready=not self.is_late, get=get)


def embed_together(batch):
    """Return the mean of each clip, and the sum of the batch; NaN for clips with a white frame."""
    batch = batch.astype(np.float64)
    embeddings = np.column_stack([batch.mean(axis=(1, 2, 3, 4)), np.full(len(batch), batch.sum())])
    embeddings[(batch.min(axis=(2, 3, 4)) == 255).any(axis=1)] = np.nan
    return embeddings


class Quiet(Progress):
    """Progress that is not shown and counts the videos."""

    def __init__(self, n_videos):
        super().__init__(n_videos, is_shown=False)
        self.n_done = 0

    def count_video(self):
        self.n_done += 1


def as_sources(videos):
    return [Source(video, f"v{i}", f"X[{i}]", i, video.nbytes) for i, video in enumerate(videos)]


def extract(sources, sink, *, encoder=None, batch_size=4, on_error="raise", spec=SPEC):
    progress = Quiet(len(sources))
    Extraction(
        sources,
        spec,
        encoder or Encoder(),
        sink,
        batch_size=batch_size,
        on_error=on_error,
        progress=progress,
    ).run(n_threads=2)
    return progress.n_done


@pytest.fixture(params=["at once", "late"])
def is_late(request):
    return request.param == "late"


@pytest.fixture
def videos(rng):
    """Arrays of 7, 40, 2 and 12 frames."""
    return [rng.integers(0, 256, size=(n, 6, 8, 3), dtype=np.uint8) for n in (7, 40, 2, 12)]


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_sequences_are_those_of_the_plan(batch_size, is_late, videos):
    sink = InMemory()
    encoder = Encoder(is_late=is_late)
    n_done = extract(as_sources(videos), sink, encoder=encoder, batch_size=batch_size)
    assert n_done == 4
    assert list(sink.sequences) == ["v0", "v1", "v2", "v3"]
    for video, (values, spans) in zip(videos, sink.sequences.values(), strict=True):
        plan = SPEC.plan(FrameClock.without_time(len(video)))
        expected = video[plan.clip_frames].mean(axis=(1, 2, 3, 4))[plan.window_clips[:, 0, 0]]
        np.testing.assert_allclose(values[:, 0], expected)
        np.testing.assert_array_equal(spans, plan.spans)


def test_batches_hold_clips_of_several_videos(videos):
    encoder = Encoder()
    extract(as_sources(videos), InMemory(), encoder=encoder, batch_size=8)
    assert encoder.sizes == [8, 8, 8, 3]  # 2 + 19 + 1 + 5 clips


def test_the_next_batch_is_started_before_the_host_waits_for_embeddings(videos):
    """So that a card has something to compute while they are taken."""
    late, at_once = Encoder(is_late=True), Encoder()
    for encoder in (late, at_once):
        extract(as_sources(videos), InMemory(), encoder=encoder, batch_size=8)
    assert late.calls == [
        *("start 0", "start 1", "get 0", "start 2", "get 1", "start 3", "get 2", "get 3")
    ]
    assert at_once.calls == [f"{call} {k}" for k in range(4) for call in ("start", "get")]


@pytest.mark.parametrize("batch_size", [3, 4, 8])
def test_resuming_after_any_commit_gives_the_same_to_the_bit(batch_size, is_late, videos):
    """Committed clips are not encoded again."""
    sources = as_sources(videos)
    whole, encoder = Remembering(), Encoder(is_late=is_late)
    extract(sources, whole, encoder=encoder, batch_size=batch_size)
    assert len(whole.committed) >= 27 // batch_size
    for partial, sequences, _ in whole.committed:
        resumed, again = Remembering(partial, sequences), Encoder(is_late=is_late)
        left = [source for source in sources if source.id not in sequences]
        extract(left, resumed, encoder=again, batch_size=batch_size)
        assert list(resumed.sequences) == list(whole.sequences)
        for id, (values, spans) in whole.sequences.items():
            np.testing.assert_array_equal(resumed.sequences[id][0], values)
            np.testing.assert_array_equal(resumed.sequences[id][1], spans)
        n_kept = sum(len(values) for values, _ in sequences.values())
        n_kept += 0 if partial is None else len(partial[1])
        assert again.n_clips == encoder.n_clips - n_kept


@pytest.mark.fault(131)
@pytest.mark.parametrize(("content", "is_resumed"), [("same", True), ("x", False), (None, False)])
def test_rows_of_another_content_or_of_an_unknown_one_are_not_resumed(content, is_resumed, videos):
    def hash_of_array():
        return "same"

    (source,) = as_sources(videos[:1])
    source = source._replace(hash_of_array=hash_of_array)
    sink, encoder = Remembering(), Encoder()
    extract([source], sink, encoder=encoder, batch_size=1)
    resumed, again = Remembering(sink.committed[0][0]), Encoder()
    resumed.records_content, resumed.partial_content = True, content
    extract([source], resumed, encoder=again, batch_size=1)
    np.testing.assert_array_equal(resumed.sequences["v0"][0], sink.sequences["v0"][0])
    assert again.n_clips == encoder.n_clips - is_resumed > 0


def frames_of(video, plan):
    """Yield what `read_frames` yields of an array after the plan."""
    for number in np.unique(plan.clip_frames).tolist():
        yield NumberedFrame(number, video[number].transpose(2, 0, 1))


def broken_at(n_clips, error):
    """Return a reader that fails in the second video after `n_clips` clips, or before its plan."""

    def read(video, spec, n_threads):
        plan = spec.plan(FrameClock.without_time(len(video)))
        is_broken = len(video) == 40
        if is_broken and n_clips is None:
            raise error
        yield plan
        n_readable = len(video)
        if is_broken:
            n_readable = plan.clip_frames[n_clips - 1, -1] + 1 if n_clips else 0
        for frame in frames_of(video, plan):
            if frame.number >= n_readable:
                break
            yield frame
        if is_broken:
            raise error

    return read


@pytest.mark.parametrize("n_clips", [None, 0, 1, 6, 18, 19])
@pytest.mark.parametrize("policy", ["skip", "warn"])
@pytest.mark.filterwarnings("ignore:.*is left out")
def test_a_broken_video_is_left_out_and_no_other(n_clips, policy, is_late, videos, monkeypatch):
    error = VideoDecodeError("v1.mp4: broken", 7)
    monkeypatch.setattr(pipeline, "read_frames", broken_at(n_clips, error))
    sources = as_sources(videos)
    whole = Remembering()
    assert extract(sources, whole, on_error=policy, encoder=Encoder(is_late=is_late)) == 4
    assert list(whole.sequences) == ["v0", "v2", "v3"]
    assert whole.failures == {"v1": Failure("v1", 7, "v1.mp4: broken", videos[1].nbytes)}
    assert whole.partial is None
    for i in (0, 2, 3):
        alone = InMemory()
        extract([sources[i]], alone, batch_size=1)
        np.testing.assert_allclose(
            whole.sequences[f"v{i}"][0][:, 0], alone.sequences[f"v{i}"][0][:, 0]
        )
    for partial, sequences, failures in whole.committed:  # the same after any interruption
        resumed = Remembering(partial, sequences)
        left = [s for s in sources if s.id not in sequences and s.id not in failures]
        extract(left, resumed, on_error=policy)
        for id, (values, _) in whole.sequences.items():
            np.testing.assert_array_equal(resumed.sequences[id][0], values)


def test_a_broken_video_ends_the_extraction_or_warns(is_late, videos, monkeypatch):
    error = VideoDecodeError("v1.mp4: broken", 7)
    monkeypatch.setattr(pipeline, "read_frames", broken_at(3, error))
    sink = Remembering()
    with pytest.raises(VideoDecodeError, match="broken"):
        extract(as_sources(videos), sink, encoder=Encoder(is_late=is_late))
    assert list(sink.sequences) == ["v0"]
    with pytest.warns(UserWarning, match=r"X\[1\] is left out: v1.mp4: broken"):
        extract(as_sources(videos), Remembering(), on_error="warn")


def test_many_videos_that_are_left_out_are_told_in_one_warning():
    def told(n_videos):
        with pytest.warns(UserWarning, match="left out") as caught:
            warn_of_left_out([(f"X[{i}]", "no such file") for i in range(n_videos)])
        (warning,) = caught
        return str(warning.message)

    warn_of_left_out([])
    assert told(1) == "X[0] is left out: no such file"
    first = "; ".join(f"X[{i}] is left out: no such file" for i in range(3))
    assert told(3) == f"3 videos are left out, see failures_: {first}"
    assert told(37) == f"37 videos are left out, see failures_: {first}; ..."


@pytest.mark.parametrize("error", [MemoryError("too large"), ValueError("a parameter is wrong")])
def test_what_is_no_fault_of_a_video_ends_the_extraction(error, videos, monkeypatch):
    monkeypatch.setattr(pipeline, "read_frames", broken_at(3, error))
    with pytest.raises(type(error), match=str(error)):
        extract(as_sources(videos), Remembering(), on_error="skip")


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_embeddings_that_are_not_finite_are_a_fault_of_the_video(batch_size, is_late, videos):
    videos[1][33] = 255  # of windows 15 and 16
    message = r"NaN or infinity for window 15 of X\[1\]"
    sources, options = as_sources(videos), {"batch_size": batch_size}
    with pytest.raises(ValueError, match=message):
        extract(sources, InMemory(), encoder=Encoder(is_late=is_late), **options)
    sink = InMemory()
    extract(sources, sink, encoder=Encoder(is_late=is_late), on_error="skip", **options)
    assert list(sink.sequences) == ["v0", "v2", "v3"]
    assert "window 15 of X[1]" in sink.failures["v1"].cause


def test_a_video_that_begins_anew_forgets_what_was_encoded(is_late, videos, monkeypatch):
    def read(video, spec, n_threads):
        wrong = spec.plan(FrameClock.without_time(30))
        right = spec.plan(FrameClock.without_time(len(video)))
        if len(video) == 40:
            yield wrong
            yield from list(frames_of(video[::-1] // 2, wrong))[:20]
        yield right
        yield from frames_of(video, right)

    sources = as_sources(videos)
    expected = Remembering()
    extract(sources, expected, batch_size=1)
    monkeypatch.setattr(pipeline, "read_frames", read)
    sink = Remembering()
    extract(sources, sink, batch_size=1, encoder=Encoder(is_late=is_late))
    for id, (values, spans) in expected.sequences.items():
        np.testing.assert_array_equal(sink.sequences[id][0], values)
        np.testing.assert_array_equal(sink.sequences[id][1], spans)
    for partial, sequences, _ in sink.committed:
        resumed = Remembering(partial, sequences)
        extract([s for s in sources if s.id not in sequences], resumed, batch_size=1)
        np.testing.assert_array_equal(resumed.sequences["v3"][0], expected.sequences["v3"][0])


def test_an_encoder_whose_width_changes_is_refused(is_late, videos):
    encoder = Encoder(lambda batch: np.zeros((len(batch), batch.shape[3])), is_late=is_late)
    videos[1] = np.zeros((9, 5, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"returned 5 features for X\[1\], but 6 before"):
        extract(as_sources(videos), InMemory(), encoder=encoder, on_error="skip")


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=6))
def test_clips_of_differing_shapes_share_no_batch(kinds):
    videos = [np.zeros((n, 4, 6 if wide else 4, 3), np.uint8) for n, wide in kinds]
    sink = InMemory()
    extract(as_sources(videos), sink)  # stacks the clips of a batch
    lengths = [max((n - 4) // 2 + 1, 1) for n, _ in kinds]
    assert [len(values) for values, _ in sink.sequences.values()] == lengths


@pytest.mark.fault(79)
@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_sequence_much_larger_than_its_file_is_an_error_of_that_video(
    policy, videos, monkeypatch
):
    """Its windows repeat few clips, so that the embeddings are small and the sequence is not."""

    def read(video, spec, n_threads):
        items = list(read_frames(video, spec, n_threads=n_threads))
        plan = items[0]
        if len(video) == len(videos[1]):
            many = np.broadcast_to(plan.window_clips[:1], (10**8, 1, 1))
            plan = plan._replace(window_clips=many)
        yield plan
        yield from items[1:]

    assert len({len(video) for video in videos}) == len(videos)
    monkeypatch.setattr(pipeline, "read_frames", read)
    sink = InMemory()
    message = r"X\[1\]: a sequence of 100000000 windows would take .* MB, .*: use a larger stride"
    if policy == "raise":
        with pytest.raises(ValueError, match=message):
            extract(as_sources(videos), sink)
        return
    extract(as_sources(videos), sink, on_error="skip")
    assert list(sink.failures) == ["v1"]
    assert len(sink.sequences) == len(videos) - 1


@pytest.mark.fault(92)
@pytest.mark.parametrize("place", ["encoder", "progress"])
def test_an_interrupt_leaves_no_thread_and_the_next_call_works(place, is_late, videos):
    def interrupt(*_):
        raise KeyboardInterrupt

    encoder, sink = Encoder(is_late=is_late), InMemory()
    before = set(threading.enumerate())
    broken, name = (encoder, "start") if place == "encoder" else (Quiet, "count_video")
    with mock.patch.object(broken, name, interrupt), pytest.raises(KeyboardInterrupt):
        extract(as_sources(videos), InMemory(), encoder=encoder, batch_size=2)
    assert set(threading.enumerate()) == before
    extract(as_sources(videos), sink, encoder=encoder, batch_size=2)
    assert len(sink.sequences) == len(videos)


LENGTHS = st.one_of(st.integers(1, 12), st.integers(1, 8).map(lambda parts: 1 / parts))
SPECS = st.builds(
    ClipSpec,
    width=st.one_of(LENGTHS, st.lists(LENGTHS, min_size=1, max_size=3)),
    stride=LENGTHS,
    clip_length=st.integers(1, 4),
    one_by_one=st.booleans(),
    shorter_side=st.none(),
    crop=st.none(),
)
# Number of frames, whether the frames are wide, a white frame, and where the file is cut.
VIDEOS = st.tuples(
    st.integers(1, 25),
    st.booleans(),
    st.sampled_from([None] * 9 + [0, 3, 12]),
    st.sampled_from([None] * 9 + [0, 3, 12]),
)


def make_videos(kinds):
    """Return videos of random frames, and the number of readable frames of each."""
    rng = np.random.default_rng(0)
    videos = [
        rng.integers(0, 255, size=(n, 2, 4 if wide else 3, 3), dtype=np.uint8)
        for n, wide, _, _ in kinds
    ]
    for video, (n, _, white, _) in zip(videos, kinds, strict=True):
        if white is not None:
            video[white % n] = 255
    return videos, [n if cut is None else min(cut, n - 1) for n, _, _, cut in kinds]


def encode_plainly(videos, spec, batch_size, n_readable):
    """Return the sequences of all videos without a fault, from lists of all clips."""
    waiting, embeddings = [], {i: [] for i in range(len(videos))}
    faulty = set()

    def encode():
        rows = embed_together(np.stack([clip for _, clip in waiting]))
        for (i, _), row in zip(waiting, rows, strict=True):
            embeddings[i].append(row)
            if np.isnan(row).any():
                faulty.add(i)
        waiting.clear()

    for i, video in enumerate(videos):
        plan = spec.plan(FrameClock.without_time(len(video)))
        for numbers in plan.clip_frames:
            clip = video[numbers].transpose(0, 3, 1, 2)
            if numbers[-1] >= n_readable[i]:
                break
            if waiting and waiting[0][1].shape != clip.shape:
                encode()
            if i in faulty:
                break
            waiting.append((i, clip))
            if len(waiting) == batch_size:
                encode()
        if n_readable[i] < len(video):
            faulty.add(i)
            waiting[:] = [(j, clip) for j, clip in waiting if j != i]
    if waiting:
        encode()
    return {
        f"v{i}": spec.plan(FrameClock.without_time(len(video))).join(np.stack(embeddings[i]))
        for i, video in enumerate(videos)
        if i not in faulty
    }


def extract_with_interrupts(sources, spec, batch_size, interrupts, is_late):
    """Return the sink of a pass that was interrupted.

    `interrupts` contains the number of calls of the encoder before each interrupt, and how many of
    the last commits are lost, as in a power failure.
    """
    sink = Remembering()
    for n_calls, n_lost in [*interrupts, (None, 0)]:
        encoder = Encoder(is_late=is_late)
        left = [s for s in sources if s.id not in sink.sequences and s.id not in sink.failures]
        if n_calls is not None:
            encoder.calls = InterruptingList(n_calls)
        try:
            extract(left, sink, spec=spec, encoder=encoder, batch_size=batch_size, on_error="skip")
        except KeyboardInterrupt:
            states = [(None, {}, {}), *sink.committed]
            partial, sequences, failures = states[max(len(states) - 1 - n_lost, 0)]
            sink = Remembering(partial, sequences)
            sink.failures = dict(failures)
            sink.commit()
    return sink


class InterruptingList(list):
    """A list that accepts some items, then raises KeyboardInterrupt."""

    def __init__(self, n_items):
        super().__init__()
        self.n_items = n_items

    def append(self, item):
        if len(self) == self.n_items:
            raise KeyboardInterrupt
        super().append(item)


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.lists(VIDEOS, min_size=1, max_size=6),
    SPECS,
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=3),
    st.booleans(),
)
def test_whatever_happens_the_numbers_are_those_of_a_list_of_all_clips(
    kinds, spec, batch_size, interrupts, is_late
):
    """Faulty videos, interrupts and late embeddings change no bit of other sequences."""
    videos, n_readable = make_videos(kinds)
    cut = {id(video): n for video, n in zip(videos, n_readable, strict=True)}

    def read(video, spec, n_threads):
        for item in read_frames(video, spec, n_threads=n_threads):
            if isinstance(item, NumberedFrame) and item.number >= cut[id(video)]:
                break
            yield item
        if cut[id(video)] < len(video):
            raise VideoDecodeError("cut", cut[id(video)])

    expected = encode_plainly(videos, spec, batch_size, n_readable)
    with mock.patch.object(pipeline, "read_frames", read):
        sink = extract_with_interrupts(as_sources(videos), spec, batch_size, interrupts, is_late)
    assert list(sink.sequences) == list(expected)
    assert len(sink.failures) == len(videos) - len(expected)
    for id_, values in expected.items():
        np.testing.assert_array_equal(sink.sequences[id_][0], values)


def test_a_video_with_nan_is_missing_from_all_batches_after_it(is_late, rng):
    """Also from one that had to be started before, because the next frames are wider."""
    sizes = [(13, 8), (6, 8), (12, 9)]  # 5 + 2 + 5 clips
    videos = [rng.integers(0, 255, size=(n, 6, w, 3), dtype=np.uint8) for n, w in sizes]
    videos[0][0] = 255
    sink, encoder = Remembering(), Encoder(is_late=is_late)
    extract(as_sources(videos), sink, encoder=encoder, on_error="skip")
    expected = encode_plainly(videos, SPEC, 4, [n for n, _ in sizes])
    assert list(sink.sequences) == list(expected) == ["v1", "v2"]
    for id_, values in expected.items():
        np.testing.assert_array_equal(sink.sequences[id_][0], values)


def test_a_failure_is_committed_with_the_batch_that_showed_it(videos):
    """A pass that resumed between the two would put other clips into that batch."""
    videos[0][0] = 255
    sink = Remembering()
    extract(as_sources(videos), sink, on_error="skip")
    partial, _, failures = sink.committed[0]
    assert list(failures) == ["v0"]
    assert partial[0] == "v1"


@pytest.mark.parametrize("recipe", [{}, {"width": (9, 1.0), "clip_length": 3}])
def test_each_frame_is_staged_and_uploaded_once(recipe, videos):
    class Counting(Encoder):
        def __init__(self):
            super().__init__()
            self.seen = Counter()

        def stage(self, frame):
            self.seen["stage", frame.tobytes()] += 1
            return frame

        def upload(self, frame):
            self.seen["upload", frame.tobytes()] += 1
            return frame

    spec, encoder = replace(SPEC, stride=1, **recipe), Counting()
    extract(as_sources(videos), InMemory(), encoder=encoder, spec=spec)
    plans = [spec.plan(FrameClock.without_time(len(video))) for video in videos]
    n_used = sum(len(np.unique(plan.clip_frames)) for plan in plans)
    assert n_used < sum(plan.clip_frames.size for plan in plans) / 2
    assert set(encoder.seen.values()) == {1}
    assert len(encoder.seen) == 2 * n_used


def test_frames_that_no_missing_clip_contains_are_not_uploaded_again(videos):
    class Counting(Encoder):
        n_uploaded = 0

        def upload(self, frame):
            self.n_uploaded += 1
            return frame

    source = as_sources(videos)[1]
    whole, encoder = Remembering(), Counting()
    extract([source], whole, encoder=encoder)
    assert encoder.n_uploaded == 40
    partial = whole.committed[2][0]
    assert len(partial[1]) == 12
    resumed, again = Remembering(partial), Counting()
    extract([source], resumed, encoder=again)
    assert again.n_uploaded == 40 - 24  # the next clip begins with frame 24
    np.testing.assert_array_equal(resumed.sequences["v1"][0], whole.sequences["v1"][0])


@pytest.mark.parametrize("fault", ["white", "cut"])
def test_no_frame_of_a_video_that_was_left_out_stays_in_memory(fault, is_late, videos, monkeypatch):
    alive = weakref.WeakValueDictionary()
    uploads, counted = [], []

    class Uploading(Encoder):
        def upload(self, frame):
            uploaded = frame.copy()
            if frame[0, 0, 0] == 7:  # a frame of the second video
                alive[len(uploads)] = uploaded
                uploads.append(1)
            return uploaded

    for i, video in enumerate(videos):
        video[:, 0, 0, 0] = 7 if i == 1 else 8
    if fault == "white":
        videos[1][12] = 255
    else:
        monkeypatch.setattr(pipeline, "read_frames", broken_at(7, VideoDecodeError("broken", 7)))
    monkeypatch.setattr(Quiet, "count_video", lambda self: counted.append(len(alive)))
    extract(as_sources(videos), InMemory(), encoder=Uploading(is_late=is_late), on_error="skip")
    assert uploads
    assert counted[-2:] == [0, 0]
