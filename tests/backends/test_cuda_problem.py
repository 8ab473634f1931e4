"""Problems on an emulated device agree with those of the CPU, even if its memory is small."""

import numpy as np
import pytest
import torch
from test_core import PROBLEMS, draw
from test_cuda_frames import SHAPES, view_of

from skdejavid import _core
from skdejavid.backends import cuda_problem
from skdejavid.backends.cuda import CudaBackend
from skdejavid.backends.cuda_frames import ResidentFrames
from skdejavid.backends.cuda_problem import CudaArrayProblem, CudaTensorProblem, adam_step
from skdejavid.sequences import SequenceView

DTYPES = pytest.mark.parametrize("dtype", PROBLEMS, ids=lambda dtype: dtype.__name__)
EVERYTHING = [np.arange(5)]


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
        ("value_pitch", 2**62, "values would have more than"),
        ("parameter_pitch", 2**62, "gradients of sequences would have more than"),
        ("n_timesteps", 2**61, "centroids would have more than"),
        ("n_centroids", 2**62, "centroids would have more than"),
        ("n_centroids", 2**53, "costs would have more than|centroids would have more than"),
    ],
)
@pytest.mark.fault(88)
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


def on_device(device, arrays):
    dtype = device.dtype_of(arrays[0])
    (frames,) = ResidentFrames(device, view_of(arrays), dtype).iter_batches(EVERYTHING)
    rows = [device.to_padded_rows(array) for array in arrays[3:]]
    return CudaTensorProblem(device, frames, *rows, n_features=9)


@DTYPES
@pytest.mark.parametrize("bound", [2**28, 500, 1], ids=["whole", "in parts", "one by one"])
def test_a_problem_on_a_device_is_that_of_the_cpu(emulated_cuda, monkeypatch, dtype, bound):
    """In whatever parts its sequences are computed to keep the workspace small."""
    monkeypatch.setattr(cuda_problem, "_WORKSPACE_BYTES", bound)
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
        np.testing.assert_array_equal(gradient, wanted)
    np.testing.assert_array_equal(
        mine.sequence_gradients(runs, grad),
        cpu.sequence_gradients(expected_runs, grad.numpy()),
    )
    np.testing.assert_allclose(
        mine.barycenters(runs, grad.abs() + 1),
        cpu.barycenters(expected_runs, grad.abs().numpy() + 1),
        rtol=0,
        atol=4 * np.finfo(dtype).eps,
    )


def test_gradients_are_added_when_that_is_asked_for(emulated_cuda):
    mine = on_device(emulated_cuda, draw(SHAPES, 1, np.float32, integers=True))
    _, runs = mine.paths(False)
    grad = torch.ones((5, 3), dtype=torch.float64)
    once = mine.parameter_gradients(runs, grad)
    sums = torch.zeros(3, 4, 12), torch.zeros(3, 4, 12)
    for factor, adds in ((1, True), (2, True), (1, False)):
        mine.parameter_gradients(runs, grad, sums, adds=adds)
        for total, gradient in zip(sums, once, strict=True):
            np.testing.assert_array_equal(total[..., :9], factor * gradient)
            assert (total[..., 9:] == 0).all()


def test_gradients_are_not_written_to_rows_without_padding(emulated_cuda):
    """The kernels would write out of bounds."""
    mine = on_device(emulated_cuda, draw(SHAPES, 1, np.float32, integers=True))
    _, runs = mine.paths(False)
    grad = torch.ones((5, 3), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"out must have the shape \(3, 4, 12\) of padded"):
        mine.parameter_gradients(runs, grad, (torch.zeros(3, 4, 12), torch.zeros(3, 4, 9)))


@pytest.mark.fault(44)
def test_without_memory_problems_are_cut_until_there_is_enough(emulated_cuda):
    arrays = draw(SHAPES, 1, np.float32, integers=True)
    mine = on_device(emulated_cuda, arrays)
    expected = PROBLEMS[np.float32](*arrays, 1).distances(False)
    emulated_cuda.refuses = lambda n_bytes: n_bytes > 2000  # 46 frames need 2208
    np.testing.assert_array_equal(mine.distances(False), expected)
    assert emulated_cuda.n_times_emptied == 1


@pytest.mark.fault(44)
def test_without_memory_for_one_sequence_the_error_names_bytes_and_advice(emulated_cuda):
    mine = on_device(emulated_cuda, draw(SHAPES, 1, np.float32, integers=True))
    emulated_cuda.refuses = lambda n_bytes: n_bytes > 1000  # 33 frames need 1584
    emulated_cuda.free = 123
    message = r"cannot allocate 1792 bytes \(123 are free\): lower n_timesteps, or cut long"
    with pytest.raises(MemoryError, match=message):
        mine.distances(False)


@DTYPES
def test_a_problem_for_the_host_is_that_of_the_cpu(emulated_cuda, monkeypatch, dtype):
    monkeypatch.setattr(cuda_problem, "CHUNK_BYTES", 700)
    arrays = draw(SHAPES, 2, dtype, integers=True)
    for array in arrays:
        array.flags.writeable = False
    cpu = PROBLEMS[dtype](*arrays, 1)
    mine = CudaArrayProblem(emulated_cuda, view_of(arrays), *arrays[3:])
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
        rows = [emulated_cuda.to_padded_rows(array) for array in (parameters, gradients, *moments)]
        there = None if unit is None else emulated_cuda.to_padded_rows(unit)
        adam_step(emulated_cuda, rows[0], rows[1], (rows[2], rows[3]), there, 5, 0.1, 1)
        moved = parameters.copy()
        _core.adam_step(moved, gradients, *moments, unit, 0.1, 1, 1)
        eps = np.finfo(dtype).eps
        for mine, expected in zip((rows[0], *rows[2:]), (moved, *moments), strict=True):
            np.testing.assert_allclose(mine[..., :5], expected, rtol=8 * eps, atol=8 * eps)


@pytest.mark.fault(44)
def test_without_memory_for_the_centroids_the_error_names_bytes(emulated_cuda, monkeypatch):
    arrays = draw(SHAPES, 1, np.float32, integers=True)

    def refuse(array):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(emulated_cuda, "to_padded_rows", refuse)
    with pytest.raises(MemoryError, match=r"cannot allocate 864 bytes .* fewer or shorter"):
        CudaArrayProblem(emulated_cuda, view_of(arrays), *arrays[3:])


@pytest.mark.fault(88, 89)
def test_runs_are_checked_before_they_are_copied_to_a_device(emulated_cuda):
    arrays = draw(SHAPES, 1, np.float64, integers=True)
    problem = CudaArrayProblem(emulated_cuda, view_of(arrays), *arrays[3:])
    _, runs = problem.paths(True)
    pairs = np.ones(runs.shape[:2])
    for change in (2**31 - 1, -1):
        wrong = runs.copy()
        wrong[-1, -1, -1, 1] = change
        for call in (
            lambda runs: problem.distances_along(runs),
            lambda runs: problem.parameter_gradients(runs, pairs),
            lambda runs: problem.sequence_gradients(runs, pairs),
            lambda runs: problem.barycenters(runs, pairs),
        ):
            with pytest.raises(ValueError, match=r"runs of sequence \d must satisfy"):
                call(wrong)


@pytest.mark.fault(88)
def test_sequences_outside_of_the_values_are_refused_on_a_device(emulated_cuda, monkeypatch):
    backend = CudaBackend()
    monkeypatch.setattr(backend, "open", lambda device: emulated_cuda)
    values, starts, lengths, centroids, weights = draw(SHAPES, 1, np.float64, integers=True)
    for wrong in (
        SequenceView(values, starts + 2**62, lengths),
        SequenceView(values, starts, -lengths),
    ):
        with pytest.raises(ValueError, match="sequence 0 is not inside values"):
            backend.problem("cuda:0", wrong, centroids, weights, n_threads=1)
    tensors = map(torch.from_numpy, (centroids, weights))
    with pytest.raises(ValueError, match=r"sequence \d is not inside values"):
        backend.tensor_problem(
            torch.from_numpy(values[: lengths.sum() - 1]), lengths, *tensors, n_threads=1
        )
