import os
import subprocess
import sys

import joblib
import numpy as np
import pytest
import reference
import threadpoolctl
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import TSEArray, alignment, check_sequences, dtw_distances, dtw_path
from skdejavid.alignment import (
    count_threads,
    distances_by_timestep,
    distances_of_checked,
    expand_runs,
    make_problem,
    resolve_device,
)
from skdejavid.sequences import SequenceView


def random_case(rng, integers):
    """A ragged X, centroids and weights (sometimes None) of random sizes."""
    n_features = rng.integers(1, 6)
    shape = (rng.integers(1, 4), rng.integers(1, 7), n_features)
    if integers:
        X = [rng.integers(-3, 4, size=(n, n_features)).astype(float) for n in rng.integers(1, 9, 3)]
        centroids, weights = rng.integers(-3, 4, size=shape), rng.integers(0, 4, size=shape)
    else:
        X = [rng.standard_normal((n, n_features)) for n in rng.integers(1, 9, 3)]
        centroids, weights = rng.standard_normal(shape), rng.exponential(size=shape)
    return X, centroids.astype(float), weights.astype(float) if rng.random() < 0.8 else None


@pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])
@pytest.mark.parametrize("integers", [True, False], ids=["integers", "reals"])
def test_distances_and_paths_are_the_definition_on_random_cases(integers, diagonal):
    """250 cases here, 1,000 in all; integers bring many ties."""
    rng = np.random.default_rng(17)
    for _ in range(250):
        X, centroids, weights = random_case(rng, integers)
        distances = dtw_distances(X, centroids, weights, diagonal=diagonal)
        assert distances.shape == (len(X), len(centroids))
        for s, x in enumerate(X):
            for k, c in enumerate(centroids):
                u = np.ones_like(c) if weights is None else weights[k]
                expected = reference.dtw_distance(x, c, u, diagonal)
                path = dtw_path(x, c, None if weights is None else u, diagonal=diagonal)
                np.testing.assert_array_equal(path, reference.dtw_path(x, c, u, diagonal))
                if integers:
                    assert distances[s, k] == expected
                else:
                    np.testing.assert_allclose(distances[s, k], expected, rtol=1e-13)


@pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])
def test_parts_of_a_distance_are_the_costs_along_each_run(diagonal, rng):
    for _ in range(50):
        X, centroids, weights = random_case(rng, integers=False)
        parts = distances_by_timestep(
            TSEArray(X), centroids, weights, diagonal=diagonal, device="cpu", n_jobs=1
        ).reshape(len(X), *centroids.shape[:2])
        for s, x in enumerate(X):
            for k, c in enumerate(centroids):
                u = np.ones_like(c) if weights is None else weights[k]
                cost, expected = reference.cost_matrix(x, c, u), np.zeros(len(c))
                for i, j in reference.dtw_path(x, c, u, diagonal):
                    expected[i] += cost[i, j]
                np.testing.assert_allclose(parts[s, k], expected, rtol=1e-13)


@given(st.integers(0, 2**32))
def test_a_straight_path_has_as_many_cells_as_the_paper_says(seed):
    rng = np.random.default_rng(seed)
    x, c = rng.standard_normal((rng.integers(1, 20), 2)), rng.standard_normal((5, 2))
    path = dtw_path(x, c)
    assert path.dtype == np.intp
    assert len(path) == len(x) + len(c) - 1
    assert (np.diff(path, axis=0).sum(axis=1) == 1).all()


def test_a_diagonal_move_wins_every_tie_and_one_along_the_sequence_the_others():
    nothing = np.zeros((3, 1))
    assert dtw_path(nothing, nothing, diagonal=True).tolist() == [[0, 0], [1, 1], [2, 2]]
    assert dtw_path(nothing, nothing).tolist() == [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2]]


def test_runs_of_a_path_expand_to_its_cells():
    runs = np.array([[0, 2], [2, 2], [3, 4]], dtype=np.int32)
    cells = [[0, 0], [0, 1], [0, 2], [1, 2], [2, 3], [2, 4]]
    assert expand_runs(runs).tolist() == cells


def test_float32_stays_float32_only_if_everything_is(rng):
    X = [rng.standard_normal((6, 40)).astype(np.float32) for _ in range(3)]
    centroids = rng.standard_normal((2, 4, 40)).astype(np.float32)
    narrow = dtw_distances(X, centroids)
    wide = dtw_distances(X, centroids.astype(np.float64))
    assert narrow.dtype == wide.dtype == np.float64
    assert not np.array_equal(narrow, wide)
    np.testing.assert_allclose(narrow, wide, rtol=1e-6)


def test_grouping_order_and_threads_change_no_bit(rng):
    # Some 5 million weighted differences: work for more than one thread.
    X = TSEArray([rng.standard_normal((n, 1000)) for n in range(1, 30)])
    centroids = rng.standard_normal((3, 4, 1000))
    together = dtw_distances(X, centroids, n_jobs=1)
    np.testing.assert_array_equal(together, dtw_distances(X, centroids, n_jobs=4))
    alone = np.concatenate([dtw_distances([x], centroids) for x in X])
    np.testing.assert_array_equal(together, alone)
    order = rng.permutation(len(X))
    np.testing.assert_array_equal(together[order], dtw_distances(X[order], centroids))


@pytest.mark.parametrize(
    ("centroids", "weights", "message"),
    [
        (np.zeros((2, 3)), None, r"centroids must be a 3-D array .* got shape \(2, 3\)"),
        (np.zeros((2, 0, 3)), None, "without an empty axis"),
        (np.zeros((2, 4, 2)), None, "centroids have 2 features, but X has 3"),
        (np.full((2, 4, 3), np.nan), None, "centroids contains NaN or infinity"),
        (np.zeros((2, 4, 3)), np.ones((2, 4, 1)), r"weights must have the shape of centroids"),
        (np.zeros((2, 4, 3)), -np.ones((2, 4, 3)), "weights must be at least 0, got -1.0"),
        (np.zeros((2, 4, 3)), np.full((2, 4, 3), np.inf), "weights contains NaN or infinity"),
        (np.full((2, 4, 3), "2026-01-01", dtype="M8[D]"), None, r"centroids .* datetime64"),
        (np.zeros((2, 4, 3), dtype=complex), None, "Complex data not supported"),
    ],
)
def test_bad_parameters_are_named(centroids, weights, message):
    with pytest.raises(ValueError, match=message):
        dtw_distances([np.zeros((5, 3))], centroids, weights)


def test_an_overflowing_distance_is_refused_with_its_index():
    X = [np.zeros((2, 1), np.float32), np.full((2, 1), 3e38, np.float32)]
    centroids = np.full((1, 2, 1), -3e38, np.float32)
    with pytest.raises(ValueError, match=r"the distance of X\[1\] overflows"):
        dtw_distances(X, centroids)
    with pytest.raises(ValueError, match="overflows"):
        dtw_path(X[1], centroids[0])


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_cpu_is_there(device):
    assert resolve_device(device) == "cpu"


@pytest.mark.fault(46)
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_that_was_asked_for_is_never_replaced(device, monkeypatch):
    def refuse(name):
        raise RuntimeError(f"{name} is not there")

    monkeypatch.setattr(alignment, "require_device", refuse)
    with pytest.raises(RuntimeError, match=f"{device} is not there"):
        dtw_distances([np.zeros((1, 1))], np.zeros((1, 1, 1)), device=device)


def test_auto_takes_a_device_for_large_problems_only_and_only_if_it_can(monkeypatch):
    monkeypatch.setattr(alignment, "_CROSSOVER", 100)
    monkeypatch.setattr(alignment, "require_device", lambda name: 0)
    assert resolve_device("auto", 100) == "cuda:0"
    assert resolve_device("auto", 99) == "cpu"
    assert resolve_device("cpu", 1e9) == "cpu"

    def refuse(name):
        raise RuntimeError("no driver")

    monkeypatch.setattr(alignment, "require_device", refuse)
    assert resolve_device("auto", 100) == "cpu"


def test_results_of_a_device_are_those_of_the_cpu(emulated_cuda, rng):
    X = [rng.integers(-3, 4, size=(n, 5)).astype(float) for n in (1, 4, 9)]
    centroids, weights = rng.integers(0, 4, size=(2, 3, 4, 5)).astype(float)
    sequences = check_sequences(X)
    for compute in (distances_of_checked, distances_by_timestep):
        on_cpu, on_device = (
            compute(sequences, centroids, weights, diagonal=True, device=device, n_jobs=1)
            for device in ("cpu", "cuda")
        )
        np.testing.assert_array_equal(on_device, on_cpu, strict=True)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_unknown_devices_are_refused(device):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        resolve_device(device)


def test_the_number_of_threads_is_that_of_n_jobs():
    n_cores = count_threads(None)
    assert 1 <= n_cores <= joblib.cpu_count()
    assert count_threads(-1) == n_cores
    assert count_threads(-2) == max(1, n_cores - 1)
    assert count_threads(5) == 5
    with pytest.raises(ValueError, match="n_jobs must not be 0"):
        count_threads(0)


def test_threads_follow_threadpoolctl():
    with threadpoolctl.threadpool_limits(1):
        assert count_threads(None) == 1
    with threadpoolctl.threadpool_limits(1, user_api="openmp"):
        assert count_threads(None) == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMP_NUM_THREADS": "1"}, "1"),
        ({"OMP_NUM_THREADS": "5"}, "5"),
        ({"LOKY_MAX_CPU_COUNT": "1"}, "1"),
    ],
)
def test_threads_follow_the_environment(environment, expected, tmp_path):
    program = "from skdejavid.alignment import count_threads; print(count_threads(None))"
    inherited = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    printed = subprocess.check_output(
        [sys.executable, "-c", program], env=inherited | environment, cwd=tmp_path, text=True
    )
    assert printed.strip() == expected


@pytest.mark.fault(52)
def test_a_worker_of_joblib_gets_its_share(monkeypatch):
    """Two processes on the machine's cores: no more threads in all than there are cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    n_cpus = joblib.cpu_count()
    with joblib.parallel_config("loky", n_jobs=2):
        counts = joblib.Parallel()(joblib.delayed(count_threads)(n) for n in (None, -1))
    assert max(counts) <= max(1, n_cpus // 2)


def test_a_problem_reads_the_memory_it_was_given(rng):
    X = TSEArray(rng.standard_normal((2, 3, 4)))
    centroids = rng.standard_normal((1, 2, 4))
    problem = make_problem(X.view(), centroids, np.ones_like(centroids), n_threads=1)
    before = problem.distances(False)
    centroids += 1.0
    assert not np.array_equal(problem.distances(False), before)


@pytest.mark.parametrize("n_jobs", [2, 10**6])
def test_more_threads_than_the_machine_has_are_bounded(n_jobs):
    assert count_threads(n_jobs) == min(n_jobs, 1024)


def test_a_path_is_that_of_two_sequences():
    frames = np.zeros((3, 2))
    with pytest.raises(ValueError, match="x must be a 2-D array, got 1-D"):
        dtw_path(frames[0], frames)
    with pytest.raises(ValueError, match="centroid must be a 2-D array, got 3-D"):
        dtw_path(frames, frames[None])


def test_misaligned_memory_is_read_right(rng):
    values = rng.standard_normal((6, 3))
    buffer = np.zeros(values.nbytes + 1, dtype=np.uint8)
    shifted = buffer[1:].view(np.float64).reshape(values.shape)
    shifted[...] = values
    assert not shifted.flags.aligned
    centroids = rng.standard_normal((2, 4, 3))
    for X, same in (([shifted], [values]), (shifted, values), (shifted[None], values[None])):
        np.testing.assert_array_equal(dtw_distances(X, centroids), dtw_distances(same, centroids))


def test_parameters_may_be_tensors_but_not_masked(rng):
    centroids = rng.standard_normal((2, 4, 3))
    x = rng.standard_normal((5, 3))
    tensor = torch.from_numpy(centroids).requires_grad_()
    np.testing.assert_array_equal(dtw_distances([x], tensor), dtw_distances([x], centroids))
    path = dtw_path(torch.from_numpy(x), tensor[0], tensor[1] ** 0)
    np.testing.assert_array_equal(path, dtw_path(x, centroids[0]))
    with pytest.raises(ValueError, match="centroids is a masked array"):
        dtw_distances([x], np.ma.masked_array(centroids, mask=centroids > 0))


@pytest.mark.fault(35)
def test_parameters_of_more_than_two_to_the_31_numbers():
    """Nearly all of them are zeros that the operating system need not keep."""
    shape = (2**20 + 1, 1, 2048)
    centroids, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    centroids[-1], weights[-1] = 1.0, 3.0
    centroids[0, 0, 0], weights[0, 0, 0] = 1.0, 5.0
    zeros = np.zeros((1, 2048), np.float32)
    frame = SequenceView(zeros, np.zeros(1, np.int64), np.ones(1, np.int64))
    for n_threads in (1, 2):
        problem = make_problem(frame, centroids, weights, n_threads=n_threads)
        [distances] = problem.distances(False)
        assert distances[[0, 1, -2, -1]].tolist() == [5.0, 0.0, 0.0, 3.0 * 2048]
        assert np.count_nonzero(distances) == 2
