import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import VideoDecodeError
from skdejavid.store import Failure
from skdejavid.video import pipeline
from skdejavid.video.clips import ClipSpec, read_clips
from skdejavid.video.pipeline import Extraction, InMemory
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
    """An encoder whose output depends on the whole batch, as rounding does in real ones."""

    def __init__(self):
        self.n_clips = 0

    def __call__(self, clips):
        self.n_clips += len(clips)
        batch = np.stack(clips).astype(np.float64)
        return np.column_stack([batch.mean(axis=(1, 2, 3, 4)), np.full(len(batch), batch.sum())])


def as_sources(videos):
    return [Source(video, f"v{i}", f"X[{i}]", i, None) for i, video in enumerate(videos)]


def extract(sources, sink, *, encode=None, batch_size=4, on_error="raise", spec=SPEC):
    n_done = []
    encode = encode or Encoder()
    Extraction(
        sources,
        spec,
        encode,
        sink,
        batch_size=batch_size,
        on_error=on_error,
        progress=lambda: n_done.append(1),
    ).run(n_threads=2)
    return len(n_done)


@pytest.fixture
def videos(rng):
    """Arrays of 7, 40, 2 and 12 frames."""
    return [rng.integers(0, 256, size=(n, 6, 8, 3), dtype=np.uint8) for n in (7, 40, 2, 12)]


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_sequences_are_those_of_the_plan(batch_size, videos):
    sink = InMemory()
    n_done = extract(as_sources(videos), sink, batch_size=batch_size)
    assert n_done == 4
    assert list(sink.sequences) == ["v0", "v1", "v2", "v3"]
    for video, (values, spans) in zip(videos, sink.sequences.values(), strict=True):
        plan = SPEC.plan(FrameClock.without_time(len(video)))
        expected = video[plan.clip_frames].mean(axis=(1, 2, 3, 4))[plan.window_clips[:, 0, 0]]
        np.testing.assert_allclose(values[:, 0], expected)
        np.testing.assert_array_equal(spans, plan.spans)


def test_batches_hold_clips_of_several_videos(videos):
    sizes = []

    def encode(clips):
        sizes.append(len(clips))
        return Encoder()(clips)

    extract(as_sources(videos), InMemory(), encode=encode, batch_size=8)
    assert sizes == [8, 8, 8, 3]  # 2 + 19 + 1 + 5 clips


@pytest.mark.parametrize("batch_size", [3, 4, 8])
def test_resuming_after_any_commit_gives_the_same_to_the_bit(batch_size, videos):
    """Committed clips are not encoded again."""
    sources = as_sources(videos)
    whole, encoder = Remembering(), Encoder()
    extract(sources, whole, encode=encoder, batch_size=batch_size)
    assert len(whole.committed) >= 27 // batch_size
    for partial, sequences, _ in whole.committed:
        resumed, again = Remembering(partial, sequences), Encoder()
        left = [source for source in sources if source.id not in sequences]
        extract(left, resumed, encode=again, batch_size=batch_size)
        assert list(resumed.sequences) == list(whole.sequences)
        for id, (values, spans) in whole.sequences.items():
            np.testing.assert_array_equal(resumed.sequences[id][0], values)
            np.testing.assert_array_equal(resumed.sequences[id][1], spans)
        n_kept = sum(len(values) for values, _ in sequences.values())
        n_kept += 0 if partial is None else len(partial[1])
        assert again.n_clips == encoder.n_clips - n_kept


def broken_at(n_clips, error):
    """Return a reader that fails in the second video after `n_clips` clips, or before its plan."""

    def read(video, spec, n_threads):
        plan = spec.plan(FrameClock.without_time(len(video)))
        is_broken = len(video) == 40
        if is_broken and n_clips is None:
            raise error
        yield plan
        for number, clip in enumerate(plan.clip_frames):
            if is_broken and number == n_clips:
                raise error
            yield video[clip]
        if is_broken and n_clips == len(plan.clip_frames):
            raise error

    return read


@pytest.mark.parametrize("n_clips", [None, 0, 1, 6, 18, 19])
@pytest.mark.parametrize("policy", ["skip", "warn"])
@pytest.mark.filterwarnings("ignore:.*is left out")
def test_a_broken_video_is_left_out_and_no_other(n_clips, policy, videos, monkeypatch):
    error = VideoDecodeError("v1.mp4: broken", 7)
    monkeypatch.setattr(pipeline, "read_clips", broken_at(n_clips, error))
    sources = as_sources(videos)
    whole = Remembering()
    assert extract(sources, whole, on_error=policy) == 4
    assert list(whole.sequences) == ["v0", "v2", "v3"]
    assert whole.failures == {"v1": Failure("v1", 7, "v1.mp4: broken", None)}
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


def test_a_broken_video_ends_the_extraction_or_warns(videos, monkeypatch):
    error = VideoDecodeError("v1.mp4: broken", 7)
    monkeypatch.setattr(pipeline, "read_clips", broken_at(3, error))
    sink = Remembering()
    with pytest.raises(VideoDecodeError, match="broken"):
        extract(as_sources(videos), sink)
    assert list(sink.sequences) == ["v0"]
    with pytest.warns(UserWarning, match=r"X\[1\] is left out: v1.mp4: broken"):
        extract(as_sources(videos), Remembering(), on_error="warn")


@pytest.mark.parametrize("error", [MemoryError("too large"), ValueError("a parameter is wrong")])
def test_what_is_no_fault_of_a_video_ends_the_extraction(error, videos, monkeypatch):
    monkeypatch.setattr(pipeline, "read_clips", broken_at(3, error))
    with pytest.raises(type(error), match=str(error)):
        extract(as_sources(videos), Remembering(), on_error="skip")


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_embeddings_that_are_not_finite_are_a_fault_of_the_video(batch_size, videos):
    def encode(clips):
        embeddings = Encoder()(clips)
        black = np.array([clip.min() == 255 for clip in clips])
        embeddings[black] = np.nan
        return embeddings

    videos[1][30:36] = 255
    message = r"NaN or infinity for window 15 of X\[1\]"
    with pytest.raises(ValueError, match=message):
        extract(as_sources(videos), InMemory(), encode=encode, batch_size=batch_size)
    sink = InMemory()
    extract(as_sources(videos), sink, encode=encode, batch_size=batch_size, on_error="skip")
    assert list(sink.sequences) == ["v0", "v2", "v3"]
    assert "window 15 of X[1]" in sink.failures["v1"].cause


def test_a_video_that_begins_anew_forgets_what_was_encoded(videos, monkeypatch):
    def read(video, spec, n_threads):
        wrong = spec.plan(FrameClock.without_time(30))
        right = spec.plan(FrameClock.without_time(len(video)))
        if len(video) == 40:
            yield wrong
            yield from (video[clip][::-1] // 2 for clip in wrong.clip_frames[:9])
        yield right
        yield from (video[clip] for clip in right.clip_frames)

    sources = as_sources(videos)
    expected = Remembering()
    extract(sources, expected, batch_size=1)
    monkeypatch.setattr(pipeline, "read_clips", read)
    sink = Remembering()
    extract(sources, sink, batch_size=1)
    for id, (values, spans) in expected.sequences.items():
        np.testing.assert_array_equal(sink.sequences[id][0], values)
        np.testing.assert_array_equal(sink.sequences[id][1], spans)
    for partial, sequences, _ in sink.committed:
        resumed = Remembering(partial, sequences)
        extract([s for s in sources if s.id not in sequences], resumed, batch_size=1)
        np.testing.assert_array_equal(resumed.sequences["v3"][0], expected.sequences["v3"][0])


def test_an_encoder_whose_width_changes_is_refused(videos):
    def encode(clips):
        return np.zeros((len(clips), clips[0].shape[2]))

    videos[1] = np.zeros((9, 5, 8, 3), np.uint8)
    with pytest.raises(ValueError, match=r"returned 5 features for X\[1\], but 6 before"):
        extract(as_sources(videos), InMemory(), encode=encode, on_error="skip")


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=6))
def test_clips_of_differing_shapes_share_no_batch(kinds):
    videos = [np.zeros((n, 4, 6 if wide else 4, 3), np.uint8) for n, wide in kinds]
    sink = InMemory()

    def encode(clips):
        assert len({clip.shape for clip in clips}) == 1
        return Encoder()(clips)

    extract(as_sources(videos), sink, encode=encode)
    lengths = [max((n - 4) // 2 + 1, 1) for n, _ in kinds]
    assert [len(values) for values, _ in sink.sequences.values()] == lengths


@pytest.mark.fault(79)
@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_sequence_much_larger_than_its_file_is_an_error_of_that_video(
    policy, videos, monkeypatch
):
    """Its windows repeat few clips, so that the embeddings are small and the sequence is not."""

    def read(video, spec, n_threads):
        items = list(read_clips(video, spec, n_threads=n_threads))
        plan = items[0]
        if len(video) == len(videos[1]):
            many = np.broadcast_to(plan.window_clips[:1], (10**8, 1, 1))
            plan = plan._replace(window_clips=many)
        yield plan
        yield from items[1:]

    assert len({len(video) for video in videos}) == len(videos)
    monkeypatch.setattr(pipeline, "read_clips", read)
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
def test_an_interrupt_leaves_no_thread_and_the_next_call_works(place, videos):
    import threading

    def interrupt(*_):
        raise KeyboardInterrupt

    def run(encode, progress):
        sink = InMemory()
        Extraction(
            as_sources(videos),
            SPEC,
            encode,
            sink,
            batch_size=2,
            on_error="skip",
            progress=progress,
        ).run(4)
        return sink.sequences

    before = set(threading.enumerate())
    arguments = (interrupt, print) if place == "encoder" else (Encoder(), interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(*arguments)
    assert set(threading.enumerate()) == before
    assert len(run(Encoder(), lambda: None)) == len(videos)
