"""Resident and streamed frames on an emulated device, and copies to a real one."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_core import draw

from skdejavid.backends import cuda_frames
from skdejavid.backends.cuda_frames import ResidentFrames, StreamedFrames, split_by_frames
from skdejavid.sequences import SequenceView

SHAPES = ([3, 1, 7, 33, 2], 3, 4, 9)  # lengths, n_centroids, n_timesteps, n_features


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    most_frames=st.floats(0.1, 30),
)
def test_parts_are_as_large_as_they_may_be(lengths, most_frames):
    parts = split_by_frames(np.array(lengths), most_frames)
    assert [i for part in parts for i in range(len(lengths))[part]] == list(range(len(lengths)))
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        n_frames = sum(lengths[part])
        assert n_frames <= most_frames or part.stop == part.start + 1
        if following is not None:
            assert n_frames + lengths[following.start] > most_frames


def view_of(arrays):
    return SequenceView(*arrays[:3])


@pytest.mark.parametrize("kind", [ResidentFrames, StreamedFrames])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_batches_hold_the_frames_of_their_sequences(emulated_cuda, monkeypatch, kind, stored):
    monkeypatch.setattr(cuda_frames, "CHUNK_BYTES", 700)  # several parts
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    batches = [np.array([4, 0, 0]), np.array([3]), np.array([2, 1])]
    loaded = list(kind(emulated_cuda, sequences, stored).iter_batches(batches))
    for batch, frames in zip(batches, loaded, strict=True):
        assert len(frames) == len(batch)
        assert frames.n_frames == sequences.lengths[batch].sum()
        assert frames.values.dtype == stored
        assert frames.values.shape[1] % (16 // stored.itemsize) == 0
        assert (frames.values[:, 9:] == 0).all()
        np.testing.assert_array_equal(frames.host_lengths, frames.lengths)
        before = np.cumsum(frames.host_lengths) - frames.host_lengths
        np.testing.assert_array_equal(frames.offsets, before)
        for i, s in enumerate(batch):
            begin, n_frames = int(frames.starts[i]), int(frames.lengths[i])
            first = sequences.starts[s]
            np.testing.assert_array_equal(
                frames.values[begin : begin + n_frames, :9],
                sequences.values[first : first + sequences.lengths[s]],
            )


def test_a_part_of_frames_counts_from_its_own_first(emulated_cuda):
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    (frames,) = ResidentFrames(emulated_cuda, sequences, torch.float32).iter_batches([np.arange(5)])
    part = frames.part(1, 4)
    assert part.lengths.tolist() == [1, 7, 33]
    assert part.offsets.tolist() == [0, 1, 8]
    assert part.starts.tolist() == [3, 4, 11]
    assert part.n_frames == 41


def test_sequences_stay_on_the_device_if_there_is_room(emulated_cuda):
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    n_bytes = 46 * 12 * 4
    emulated_cuda.free = n_bytes + 100
    assert ResidentFrames.fits(emulated_cuda, sequences, torch.float32, 100)
    assert not ResidentFrames.fits(emulated_cuda, sequences, torch.float32, 101)
    assert ResidentFrames.fits(emulated_cuda, sequences, torch.float16, 101)


@pytest.mark.fault(43)
def test_a_thread_that_fails_to_copy_is_heard_and_none_is_left(emulated_cuda):
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    before = threading.active_count()
    wrong = [np.array([0]), np.array([99]), np.array([1])]
    with pytest.raises(IndexError, match="99"):
        list(StreamedFrames(emulated_cuda, sequences, torch.float32).iter_batches(wrong))
    unfinished = StreamedFrames(emulated_cuda, sequences, torch.float32).iter_batches(
        [np.array([0])] * 50
    )
    next(unfinished)
    unfinished.close()
    assert threading.active_count() == before


@pytest.mark.fault(44)
def test_streamed_batches_that_find_no_room_are_copied_one_by_one(emulated_cuda):
    """Other programs may use the memory; it is an error only if one batch alone does not fit."""
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    batches = [np.array([i % 5]) for i in range(20)]
    asked = []

    def refuse_the_third(n_bytes):
        asked.append(n_bytes)
        return len(asked) == 3

    emulated_cuda.refuses = refuse_the_third
    loaded = StreamedFrames(emulated_cuda, sequences, torch.float32).iter_batches(batches)
    for batch, frames in zip(batches, loaded, strict=True):
        first = sequences.starts[batch[0]]
        np.testing.assert_array_equal(frames.values[0, :9], sequences.values[first])
    assert emulated_cuda.n_times_emptied == 1
    emulated_cuda.refuses = lambda n_bytes: True
    emulated_cuda.free = 5
    message = r"cannot allocate 336 bytes \(5 are free\): lower batch_size"
    with pytest.raises(MemoryError, match=message):
        next(
            StreamedFrames(emulated_cuda, sequences, torch.float32).iter_batches(
                [np.array([2])] * 3
            )
        )


def test_the_device_is_waited_for_when_batches_pile_up_on_it(emulated_cuda, monkeypatch):
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    waits = []
    monkeypatch.setattr(emulated_cuda, "record_event", lambda: lambda: waits.append(0))
    batches = [np.array([0])] * 7
    for _ in StreamedFrames(emulated_cuda, sequences, torch.float32).iter_batches(batches):
        pass
    assert len(waits) == len(batches) - cuda_frames._BATCHES_IN_FLIGHT + 1


def test_no_more_batches_wait_than_threads_copy(emulated_cuda, monkeypatch):
    """The memory in use does not grow with the number of batches."""
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    sent = []
    upload_async = emulated_cuda.upload_async

    def note(pinned):
        sent.append(pinned)
        return upload_async(pinned)

    monkeypatch.setattr(emulated_cuda, "upload_async", note)
    batches = StreamedFrames(emulated_cuda, sequences, torch.float32).iter_batches(
        [np.array([0])] * 50
    )
    for n_used in range(1, 4):
        next(batches)
        assert len(sent) <= n_used + cuda_frames._COPY_THREADS + 1
    batches.close()


@pytest.mark.gpu
def test_copies_beside_the_current_stream_arrive_in_time(cuda_card):
    """Many copies, to memory that was used before."""
    assert cuda_card.free_bytes() > 0
    sequences = SequenceView(
        np.repeat(np.arange(400, dtype=np.float32), 64)[:, None].repeat(256, axis=1),
        np.arange(400, dtype=np.int64) * 64,
        np.full(400, 64, dtype=np.int64),
    )
    batches = [np.array([i, (7 * i) % 400]) for i in range(400)]
    streamed = StreamedFrames(cuda_card, sequences, torch.float32).iter_batches(batches)
    sums = [frames.values.double().sum() for frames in streamed]
    expected = [(i + (7 * i) % 400) * 64 * 256 for i in range(400)]
    np.testing.assert_array_equal(torch.stack(sums).cpu(), expected)
