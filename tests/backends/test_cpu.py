import numpy as np
import pytest
import torch
from test_core import PROBLEMS, draw

from skdejavid.backends import cpu
from skdejavid.backends.cpu import CpuBackend
from skdejavid.sequences import SequenceView

SHAPES = ([3, 1, 7], 3, 4, 9)  # lengths, n_centroids, n_timesteps, n_features


def test_the_cpu_is_one_device():
    assert CpuBackend().resolve("cpu") == "cpu"
    with pytest.raises(ValueError, match="device 'cpu' takes no number, got 'cpu:0'"):
        CpuBackend().resolve("cpu:0")


@pytest.mark.parametrize("dtype", PROBLEMS, ids=lambda dtype: dtype.__name__)
def test_a_problem_of_tensors_is_that_of_arrays(dtype):
    values, _, lengths, centroids, weights = draw(SHAPES, 0, dtype, integers=True)
    values = values[: lengths.sum()]
    starts = np.cumsum(lengths) - lengths
    arrays = PROBLEMS[dtype](values, starts, lengths, centroids, weights, 1)
    tensors = CpuBackend().tensor_problem(
        *(torch.from_numpy(values), lengths), *map(torch.from_numpy, (centroids, weights)),
        n_threads=1,
    )  # fmt: skip
    distances, runs = tensors.paths(True)
    grad = torch.arange(9, dtype=torch.float64).reshape(3, 3) - 4
    expected_distances, expected_runs = arrays.paths(True)
    by_parameters = arrays.parameter_gradients(expected_runs, grad.numpy())
    pairs = [
        (distances, expected_distances),
        (runs, expected_runs),
        (tensors.distances(True), expected_distances),
        (tensors.distances_along(runs), arrays.distances_along(expected_runs)),
        *zip(tensors.parameter_gradients(runs, grad), by_parameters, strict=True),
        (
            tensors.sequence_gradients(runs, grad),
            arrays.sequence_gradients(expected_runs, grad.numpy()),
        ),
        (
            tensors.barycenters(runs, grad.abs() + 1),
            arrays.barycenters(expected_runs, grad.abs().numpy() + 1),
        ),
    ]
    out = (
        torch.full_like(torch.from_numpy(centroids), np.nan),
        torch.empty(weights.shape).to(dtype=torch.from_numpy(weights).dtype),
    )
    assert tensors.parameter_gradients(runs, grad, out) is out
    for actual, expected in [*pairs, *zip(out, by_parameters, strict=True)]:
        np.testing.assert_array_equal(actual.numpy(), expected, strict=True)


def test_the_backend_describes_the_native_core():
    assert set(CpuBackend().describe()) == {"instruction set", "threads"}


@pytest.mark.fault(113)
@pytest.mark.parametrize("dtype", PROBLEMS, ids=lambda dtype: dtype.__name__)
def test_the_memory_of_paths_is_that_of_the_native_core(dtype):
    said = CpuBackend().paths_bytes(50, (3, 40, 2), np.dtype(dtype), 1)
    sizes = {"n_frames": 50, "n_centroids": 3, "n_timesteps": 40, "n_features": 2}
    assert said == PROBLEMS[dtype].paths_bytes(**sizes, n_threads=1)
    assert np.isfinite(CpuBackend().paths_bytes(5, (3, 10**30, 2), np.dtype(dtype), 1))


@pytest.mark.fault(113)
def test_problems_of_arrays_and_tensors_know_the_memory_of_the_machine(monkeypatch):
    monkeypatch.setattr(cpu, "memory_of_machine", lambda: 1000.0)
    values, starts, lengths, centroids, weights = draw(SHAPES, 0, np.float64, integers=True)
    of_arrays = CpuBackend().problem(
        "cpu", SequenceView(values, starts, lengths), centroids, weights, n_threads=1
    )
    tensors = map(torch.from_numpy, (centroids, weights))
    packed = torch.from_numpy(values[: lengths.sum()])
    of_tensors = CpuBackend().tensor_problem(packed, lengths, *tensors, n_threads=1)
    for problem in (of_arrays, of_tensors):
        with pytest.raises(MemoryError, match=r"paths between 3 sequence.* machine has 1 kB"):
            problem.paths(True)
