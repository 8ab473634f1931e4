import numpy as np
import pytest
import torch
from test_core import PROBLEMS, draw

from skdejavid.backends.cpu import CpuBackend

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
