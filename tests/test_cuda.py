"""Devices, what lies on them, and problems computed there, on emulated kernels."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_core import PROBLEMS, draw

from skdejavid import _core, cuda
from skdejavid.cuda import (
    DeviceProblem,
    HostProblem,
    ResidentFrames,
    StreamedFrames,
    adam_step,
    require_device,
)
from skdejavid.sequences import SequenceView

SHAPES = ([3, 1, 7, 33, 2], 3, 4, 9)  # lengths, n_centroids, n_timesteps, n_features
DTYPES = pytest.mark.parametrize("dtype", PROBLEMS, ids=lambda dtype: dtype.__name__)
EVERYTHING = [np.arange(5)]


# --- which device -------------------------------------------------------------------------------


@pytest.fixture
def card(monkeypatch):
    """A machine with two devices, as far as questions about it go."""
    monkeypatch.setattr(_core, "built_with_cuda", True)
    monkeypatch.setattr(_core, "cuda_devices", lambda: ([("A", 9, 0, 8), ("B", 5, 2, 8)], ""))
    monkeypatch.setattr(_core, "cuda_obstacle", lambda number: "compiled for 75" * number)
    monkeypatch.setattr(_core, "cuda_driver_version", lambda: 0)
    monkeypatch.setattr(_core, "cuda_runtime_version", lambda: 13020)
    monkeypatch.setattr(cuda, "_cuda_began", False)
    monkeypatch.setattr(cuda, "_usable", set())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return monkeypatch


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_device_that_can_be_used_is_its_number(card, name):
    assert require_device(name) == 0
    assert cuda._cuda_began
    card.setattr(_core, "cuda_devices", None)  # found good once, it is not looked at again
    assert require_device(name) == 0


def test_without_any_device_cuda_has_not_begun(card):
    """A process forked later shall not be told that this was the reason."""
    card.setattr(_core, "cuda_devices", lambda: ([], "no driver"))
    with pytest.raises(RuntimeError, match="no driver"):
        require_device("cuda")
    assert not cuda._cuda_began


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cuda", {(_core, "built_with_cuda"): False}, "no CUDA backend .* with SKDEJAVID_CUDA=ON"),
        (
            "cuda:1",
            {(_core, "cuda_devices"): lambda: ([], "no driver")},
            r"none: no driver \(driver for CUDA not installed, this build uses CUDA 13.2\)",
        ),
        ("cuda", {(_core, "cuda_devices"): lambda: ([], "")}, "no CUDA device was found"),
        ("cuda:2", {}, r"there are only 2 device\(s\), 'cuda:0' to 'cuda:1'"),
        ("cuda:1", {}, r"B \(sm_52\) cannot be used: compiled for 75"),
        ("cuda", {(torch.version, "cuda"): None}, "torch .* was built without CUDA"),
        ("cuda", {(torch.cuda, "is_available"): lambda: False}, "torch .* cannot use it"),
        ("cuda", {(cuda, "_forked_after"): True}, "forked .* 'loky' or multiprocessing's 'spawn'"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused_with_the_reason(card, name, changes, message):
    for (owner, attribute), value in changes.items():
        card.setattr(owner, attribute, value)
    with pytest.raises(RuntimeError, match=f"device='{name}' was asked for, but .*{message}"):
        require_device(name)


def test_a_process_forked_after_cuda_began_knows(card, tmp_path):
    code = (
        "import os, sys\n"
        "from skdejavid import cuda\n"
        "cuda._cuda_began = sys.argv[1] == 'began'\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(int(cuda._forked_after))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(cuda._forked_after))\n"
    )
    for began, expected in (("began", "1 0"), ("not", "0 0")):
        command = [sys.executable, "-c", code, began]
        assert subprocess.check_output(command, text=True, cwd=tmp_path).strip() == expected


def test_questions_about_devices_need_no_driver():
    devices, reason = _core.cuda_devices()
    assert len(devices) == _core.cuda_device_count()
    assert bool(devices) != bool(reason)
    assert _core.built_with_cuda == bool(_core.cuda_architectures)
    if not devices:
        assert _core.cuda_obstacle(0)


@pytest.mark.parametrize("name", ["Float32", "Float16", "Float64"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("values", 0, "values must not be null"),
        ("centroids", 8, "centroids must be a multiple of 16 bytes"),
        ("starts", 4, "starts must be a multiple of 8 bytes"),
        ("value_pitch", 15, "value_pitch must be at least n_features"),
        ("parameter_pitch", 17, "parameter_pitch must be at least n_features"),
        ("n_sequences", 0, "n_sequences must be at least 1"),
        ("n_timesteps", -1, "n_timesteps must be at least 1"),
        ("n_frames", 2**32, "n_frames must be at least longest"),
        ("n_frames", 1, "n_frames must be at least longest"),
        ("longest", 2**31, "longest"),
    ],
)
def test_problems_that_would_lead_out_of_bounds_are_refused(name, field, value, message):
    fields = {
        "device": 0,
        "stream": 0,
        "values": 16,
        "value_pitch": 16,
        "starts": 8,
        "lengths": 8,
        "offsets": 8,
        "n_sequences": 2,
        "n_frames": 5,
        "longest": 3,
        "centroids": 16,
        "weights": 16,
        "parameter_pitch": 16,
        "n_centroids": 1,
        "n_timesteps": 1,
        "n_features": 16,
    }
    problem = getattr(_core, f"CudaProblem{name}")
    problem(**fields)
    with pytest.raises(ValueError, match=message):
        problem(**fields | {field: value})


# --- what lies on it ----------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    most_frames=st.floats(0.1, 30),
)
def test_parts_are_as_large_as_they_may_be(lengths, most_frames):
    parts = cuda._parts(np.array(lengths), most_frames)
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
    monkeypatch.setattr(cuda, "_CHUNK_BYTES", 700)  # some sequences at a time
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    batches = [np.array([4, 0, 0]), np.array([3]), np.array([2, 1])]
    loaded = list(kind(emulated_cuda, sequences, stored).load(batches))
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
    (frames,) = ResidentFrames(emulated_cuda, sequences, torch.float32).load(EVERYTHING)
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


def test_a_thread_that_fails_to_copy_is_heard_and_none_is_left(emulated_cuda):
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    before = threading.active_count()
    wrong = [np.array([0]), np.array([99]), np.array([1])]
    with pytest.raises(IndexError, match="99"):
        list(StreamedFrames(emulated_cuda, sequences, torch.float32).load(wrong))
    unfinished = StreamedFrames(emulated_cuda, sequences, torch.float32).load([np.array([0])] * 50)
    next(unfinished)
    unfinished.close()
    assert threading.active_count() == before


def test_streamed_batches_that_find_no_room_are_copied_one_by_one(emulated_cuda):
    """Others may have taken the memory; only if there is none for a single one is that an error."""
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    batches = [np.array([i % 5]) for i in range(20)]
    asked = []

    def refuse_the_third(n_bytes):
        asked.append(n_bytes)
        return len(asked) == 3

    emulated_cuda.refuses = refuse_the_third
    loaded = StreamedFrames(emulated_cuda, sequences, torch.float32).load(batches)
    for batch, frames in zip(batches, loaded, strict=True):
        first = sequences.starts[batch[0]]
        np.testing.assert_array_equal(frames.values[0, :9], sequences.values[first])
    assert emulated_cuda.n_given_back == 1
    emulated_cuda.refuses = lambda n_bytes: True
    emulated_cuda.free = 5
    message = r"no room for 336 bytes \(5 are free\): lower batch_size"
    with pytest.raises(MemoryError, match=message):
        next(StreamedFrames(emulated_cuda, sequences, torch.float32).load([np.array([2])] * 3))


def test_the_device_is_waited_for_when_batches_pile_up_on_it(emulated_cuda, monkeypatch):
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    waits = []
    monkeypatch.setattr(emulated_cuda, "mark", lambda: lambda: waits.append(0))
    batches = [np.array([0])] * 7
    for _ in StreamedFrames(emulated_cuda, sequences, torch.float32).load(batches):
        pass
    assert len(waits) == len(batches) - cuda._BATCHES_IN_FLIGHT + 1


def test_no_more_batches_wait_than_threads_copy(emulated_cuda, monkeypatch):
    """Memory does not grow with the number of batches."""
    sequences = view_of(draw(SHAPES, 0, np.float32, integers=True))
    sent = []
    upload_beside = emulated_cuda.upload_beside

    def note(pinned):
        sent.append(pinned)
        return upload_beside(pinned)

    monkeypatch.setattr(emulated_cuda, "upload_beside", note)
    batches = StreamedFrames(emulated_cuda, sequences, torch.float32).load([np.array([0])] * 50)
    for n_used in range(1, 4):
        next(batches)
        assert len(sent) <= n_used + cuda._COPY_THREADS + 1
    batches.close()


# --- problems -----------------------------------------------------------------------------------


def on_device(device, arrays):
    dtype = device.dtype_of(arrays[0])
    (frames,) = ResidentFrames(device, view_of(arrays), dtype).load(EVERYTHING)
    rows = [device.rows(array) for array in arrays[3:]]
    return DeviceProblem(device, frames, *rows, n_features=9)


@DTYPES
@pytest.mark.parametrize("bound", [2**28, 500, 1], ids=["whole", "in parts", "one by one"])
def test_a_problem_on_a_device_is_that_of_the_cpu(emulated_cuda, monkeypatch, dtype, bound):
    """However its sequences are cut so that the workspace stays small."""
    monkeypatch.setattr(cuda, "_WORKSPACE_BYTES", bound)
    arrays = draw(SHAPES, 1, dtype, integers=True)
    cpu, mine = PROBLEMS[dtype](*arrays, 1), on_device(emulated_cuda, arrays)
    expected, expected_runs = cpu.paths(True)
    distances, runs = mine.paths(True)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(runs, expected_runs)
    np.testing.assert_array_equal(mine.distances(True), expected)
    np.testing.assert_array_equal(mine.distances_along(runs), expected)
    grad = torch.arange(15, dtype=torch.float64).reshape(5, 3) - 7
    for gradient, wanted in zip(
        mine.parameter_gradients(runs, grad),
        cpu.parameter_gradients(expected_runs, grad.numpy()),
        strict=True,
    ):
        np.testing.assert_array_equal(gradient[..., :9], wanted)
        assert (gradient[..., 9:] == 0).all()
    np.testing.assert_array_equal(
        mine.sequence_gradients(runs, grad)[:, :9],
        cpu.sequence_gradients(expected_runs, grad.numpy()),
    )
    np.testing.assert_allclose(
        mine.barycenters(runs, grad.abs() + 1)[..., :9],
        cpu.barycenters(expected_runs, grad.abs().numpy() + 1),
        rtol=0,
        atol=4 * np.finfo(dtype).eps,
    )


def test_gradients_are_added_when_that_is_asked_for(emulated_cuda):
    mine = on_device(emulated_cuda, draw(SHAPES, 1, np.float32, integers=True))
    _, runs = mine.paths(False)
    grad = torch.ones((5, 3), dtype=torch.float64)
    once = mine.parameter_gradients(runs, grad)
    sums = tuple(gradient.clone() for gradient in once)
    mine.parameter_gradients(runs, grad, sums, adds=True)
    for total, gradient in zip(sums, once, strict=True):
        np.testing.assert_array_equal(total, 2 * gradient)
    mine.parameter_gradients(runs, grad, sums)
    for total, gradient in zip(sums, once, strict=True):
        np.testing.assert_array_equal(total, gradient)


def test_without_memory_problems_are_cut_until_there_is_enough(emulated_cuda):
    arrays = draw(SHAPES, 1, np.float32, integers=True)
    mine = on_device(emulated_cuda, arrays)
    expected = PROBLEMS[np.float32](*arrays, 1).distances(False)
    emulated_cuda.refuses = lambda n_bytes: n_bytes > 2000  # 46 frames need 2208
    np.testing.assert_array_equal(mine.distances(False), expected)
    assert emulated_cuda.n_given_back == 1


def test_without_memory_for_one_sequence_the_error_names_bytes_and_advice(emulated_cuda):
    mine = on_device(emulated_cuda, draw(SHAPES, 1, np.float32, integers=True))
    emulated_cuda.refuses = lambda n_bytes: n_bytes > 1000  # 33 frames need 1584
    emulated_cuda.free = 123
    message = r"no room for 1792 bytes \(123 are free\): lower n_timesteps, or cut long"
    with pytest.raises(MemoryError, match=message):
        mine.distances(False)


@DTYPES
def test_a_problem_for_the_host_is_that_of_the_cpu(emulated_cuda, monkeypatch, dtype):
    monkeypatch.setattr(cuda, "_CHUNK_BYTES", 700)
    arrays = draw(SHAPES, 2, dtype, integers=True)
    for array in arrays:
        array.flags.writeable = False
    cpu = PROBLEMS[dtype](*arrays, 1)
    mine = HostProblem(emulated_cuda, view_of(arrays), *arrays[3:])
    expected, runs = cpu.paths(True)
    for actual, wanted in zip(mine.paths(True), (expected, runs), strict=True):
        np.testing.assert_array_equal(actual, wanted)
    np.testing.assert_array_equal(mine.distances(True), expected)
    np.testing.assert_array_equal(mine.distances_along(runs), expected)
    grad = np.arange(15.0).reshape(5, 3)
    wanted = cpu.parameter_gradients(runs, grad)
    out = np.empty_like(arrays[3]), np.empty_like(arrays[3])
    assert mine.parameter_gradients(runs, grad, out=out) is out
    for gradients in (out, mine.parameter_gradients(runs, grad)):
        for actual, gradient in zip(gradients, wanted, strict=True):
            np.testing.assert_array_equal(actual, gradient, strict=True)
    np.testing.assert_array_equal(
        mine.sequence_gradients(runs, grad), cpu.sequence_gradients(runs, grad), strict=True
    )
    means = mine.barycenters(runs, grad + 1)
    assert means.dtype == dtype
    np.testing.assert_allclose(
        means, cpu.barycenters(runs, grad + 1), rtol=0, atol=4 * np.finfo(dtype).eps
    )


@DTYPES
def test_a_step_of_the_optimizer_is_that_of_the_cpu(emulated_cuda, dtype, rng):
    parameters, gradients = rng.uniform(1, 2, size=(2, 2, 3, 5)).astype(dtype)
    scale = rng.uniform(1, 2, size=5).astype(dtype)
    for unit in (scale, None):
        moments = np.zeros_like(parameters), np.zeros_like(parameters)
        rows = [emulated_cuda.rows(array) for array in (parameters, gradients, *moments)]
        there = None if unit is None else emulated_cuda.rows(unit)
        adam_step(emulated_cuda, rows[0], rows[1], (rows[2], rows[3]), there, 5, 0.1, 1)
        moved = parameters.copy()
        _core.adam_step(moved, gradients, *moments, unit, 0.1, 1, 1)
        eps = np.finfo(dtype).eps
        for mine, expected in zip((rows[0], *rows[2:]), (moved, *moments), strict=True):
            np.testing.assert_allclose(mine[..., :5], expected, rtol=8 * eps, atol=8 * eps)


# --- a real device ------------------------------------------------------------------------------


@pytest.mark.gpu
def test_copies_beside_the_current_stream_arrive_in_time(cuda_card):
    """Many of them, over memory that was used before."""
    opened = cuda.open_device(cuda_card)
    assert opened.free_bytes() > 0
    sequences = SequenceView(
        np.repeat(np.arange(400, dtype=np.float32), 64)[:, None].repeat(256, axis=1),
        np.arange(400, dtype=np.int64) * 64,
        np.full(400, 64, dtype=np.int64),
    )
    batches = [np.array([i, (7 * i) % 400]) for i in range(400)]
    streamed = StreamedFrames(opened, sequences, torch.float32).load(batches)
    sums = [frames.values.double().sum() for frames in streamed]
    expected = [(i + (7 * i) % 400) * 64 * 256 for i in range(400)]
    np.testing.assert_array_equal(torch.stack(sums).cpu(), expected)


def test_without_memory_for_the_centroids_the_error_names_bytes(emulated_cuda, monkeypatch):
    arrays = draw(SHAPES, 1, np.float32, integers=True)

    def refuse(array):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(emulated_cuda, "rows", refuse)
    with pytest.raises(MemoryError, match=r"no room for 864 bytes .* fewer or shorter centroids"):
        HostProblem(emulated_cuda, view_of(arrays), *arrays[3:])


def test_rows_that_are_padded_already_are_not_copied(emulated_cuda):
    tensor = torch.zeros(2, 3, 8)
    assert emulated_cuda.padded(tensor).data_ptr() == tensor.data_ptr()
    padded = emulated_cuda.padded(torch.ones(2, 3, 5))
    assert padded.shape == (2, 3, 8)
    assert padded.sum() == 30


def test_importing_begins_nothing(tmp_path):
    code = (
        "import sys, skdejavid.cuda, skdejavid.cuda_engine\n"
        "print('torch' in sys.modules, skdejavid.cuda._cuda_began)"
    )
    environment = dict(os.environ)
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment,
                                      cwd=tmp_path)  # fmt: skip
    assert printed.strip() == "False False"
