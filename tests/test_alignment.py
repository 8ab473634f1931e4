import inspect

import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from skdejavid import (
    DejaVidClassifier,
    TimeDifferences,
    TSEArray,
    check_sequences,
    dtw_distances,
    dtw_path,
)
from skdejavid.alignment import compute_distances, compute_distances_by_timestep, expand_runs


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


@pytest.mark.slow
@pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])
@pytest.mark.parametrize("integers", [True, False], ids=["integers", "reals"])
def test_distances_and_paths_are_the_definition_on_random_cases(integers, diagonal):
    """250 cases per parameter set; integers cause many ties."""
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
        parts = compute_distances_by_timestep(
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
    path = dtw_path(x, c, diagonal=False)
    assert path.dtype == np.intp
    assert len(path) == len(x) + len(c) - 1
    assert (np.diff(path, axis=0).sum(axis=1) == 1).all()


def test_a_diagonal_move_wins_every_tie_and_one_along_the_sequence_the_others():
    nothing = np.zeros((3, 1))
    assert dtw_path(nothing, nothing, diagonal=True).tolist() == [[0, 0], [1, 1], [2, 2]]
    straight = dtw_path(nothing, nothing, diagonal=False)
    assert straight.tolist() == [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2]]


def test_paths_are_diagonal_unless_that_is_refused_as_in_the_classifier(rng):
    assert DejaVidClassifier().diagonal
    x, c = rng.standard_normal((5, 2)), rng.standard_normal((4, 2))
    np.testing.assert_array_equal(dtw_path(x, c), dtw_path(x, c, diagonal=True))
    distances = [dtw_distances([x], [c], **options) for options in ({}, {"diagonal": True})]
    np.testing.assert_array_equal(*distances)
    assert distances[0] < dtw_distances([x], [c], diagonal=False)


def test_distances_with_the_parameters_of_a_classifier_are_those_it_transforms_to(ragged):
    clf = DejaVidClassifier(3, differences=None, n_epochs=1, random_state=0).fit(*ragged)
    distances = dtw_distances(ragged[0], clf.centroids_, np.exp(clf.log_weights_))
    np.testing.assert_array_equal(distances, clf.transform(ragged[0]))


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
    # About 5 million weighted differences, which are shared between threads.
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


@pytest.mark.fault(120)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [np.ones(3), np.ones((4, 1))],
            r"^x must be a 2-D array \(n_frames, n_features\) .* \(3,\)",
        ),
        (
            [np.ones((3, 2)), np.ones(4)],
            r"^centroid must be a 2-D array \(n_timesteps, n_features\)",
        ),
        ([np.ones((1, 3, 2)), np.ones((4, 2))], r"^x must be .* got shape \(1, 3, 2\)"),
        ([np.ones((3, 2)), np.ones((1, 4, 2))], r"^centroid must be .* got shape \(1, 4, 2\)"),
        ([np.ones((0, 2)), np.ones((4, 2))], r"^x must be .* without an empty axis.* \(0, 2\)"),
        ([np.ones((3, 2)), np.ones((4, 0))], r"^centroid must be .* without an empty axis"),
        ([np.ones((3, 2)), np.ones((4, 3))], r"^centroid has 3 feature\(s\), but x has 2: both"),
        ([[[1.0], [np.nan]], np.ones((4, 1))], r"^x contains NaN or infinity, first at x\[1, 0\]"),
        ([np.ones((3, 1)), [[0.0], [np.inf]]], r"^centroid contains NaN .* at centroid\[1, 0\]"),
        ([[[1.0], [1.0, 2.0]], np.ones((4, 1))], "^x is not an array: its rows differ in length"),
        ([np.ones((3, 1)), "clip.mp4"], "^centroid cannot be read as numbers"),
        ([np.ones((3, 2)) * 1j, np.ones((4, 2))], "^Complex data not supported: x has"),
        ([np.ma.ones((3, 2)), np.ones((4, 2))], "^x is a masked array: fill it"),
        (
            [np.ones((3, 2)), np.ones((4, 2)), np.ones((4, 1))],
            r"^weights must have the shape of centroid \(4, 2\), got \(4, 1\)",
        ),
        (
            [np.ones((3, 2)), np.ones((2, 2)), [[1, 1], [1, -3]]],
            r"^weights must be at least 0, got -3.0 at weights\[1, 1\]",
        ),
        (
            [np.ones((3, 2)), np.ones((2, 2)), [[1, 1], [np.nan, 1]]],
            r"^weights contains NaN or infinity, first at weights\[1, 0\]",
        ),
        (
            [np.full((2, 1), 3e38, np.float32), np.full((2, 1), -3e38, np.float32)],
            "^the distance between x and centroid overflows: scale the features",
        ),
    ],
)
def test_a_path_speaks_of_its_own_arguments(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        dtw_path(*arguments)
    assert "X[" not in str(error.value)
    assert "centroids" not in str(error.value)


@pytest.mark.fault(120)
def test_a_path_reads_what_distances_read(rng):
    x, c = rng.standard_normal((6, 2)), rng.standard_normal((3, 2))
    expected = dtw_path(x, c)
    for convert in (
        np.ndarray.tolist,
        pd.DataFrame,
        np.asfortranarray,
        lambda array: array.astype(">f8"),
        lambda array: array.astype(object),
    ):
        np.testing.assert_array_equal(dtw_path(convert(x), convert(c)), expected)


@pytest.fixture
def small_machine(monkeypatch):
    monkeypatch.setattr("skdejavid.backends.cpu.memory_of_machine", lambda: 1000.0)


@pytest.mark.fault(113)
@pytest.mark.usefixtures("small_machine")
def test_memory_that_paths_and_distances_need_is_said(rng):
    X, centroids = [rng.standard_normal((9, 2))], rng.standard_normal((3, 7, 2))
    calls = {
        "paths between 1 sequence": lambda: dtw_path(X[0], centroids[0]),
        "distances between 1 sequence": lambda: dtw_distances(X, centroids),
        "paths between 1": lambda: compute_distances_by_timestep(
            TSEArray(X), centroids, None, diagonal=True, device="cpu", n_jobs=1
        ),
    }
    for what, call in calls.items():
        with pytest.raises(MemoryError, match=f"{what}.* of up to 9 frames .* machine has 1 kB"):
            call()


def test_an_overflowing_distance_is_refused_with_its_index():
    X = [np.zeros((2, 1), np.float32), np.full((2, 1), 3e38, np.float32)]
    centroids = np.full((1, 2, 1), -3e38, np.float32)
    with pytest.raises(ValueError, match=r"the distance of X\[1\] overflows"):
        dtw_distances(X, centroids)
    with pytest.raises(ValueError, match="overflows"):
        dtw_path(X[1], centroids[0])


@pytest.mark.extras
def test_results_of_a_device_are_those_of_the_cpu(emulated_cuda, rng):
    X = [rng.integers(-3, 4, size=(n, 5)).astype(float) for n in (1, 4, 9)]
    centroids, weights = rng.integers(0, 4, size=(2, 3, 4, 5)).astype(float)
    sequences = check_sequences(X)
    for compute in (compute_distances, compute_distances_by_timestep):
        on_cpu, on_device = (
            compute(sequences, centroids, weights, diagonal=True, device=device, n_jobs=1)
            for device in ("cpu", "cuda")
        )
        np.testing.assert_array_equal(on_device, on_cpu, strict=True)


@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each")
def test_misaligned_memory_is_read_right(rng):
    values = rng.standard_normal((6, 3))
    buffer = np.zeros(values.nbytes + 1, dtype=np.uint8)
    shifted = buffer[1:].view(np.float64).reshape(values.shape)
    shifted[...] = values
    assert not shifted.flags.aligned
    centroids = rng.standard_normal((2, 4, 3))
    for X, same in (([shifted], [values]), (shifted, values), (shifted[None], values[None])):
        np.testing.assert_array_equal(dtw_distances(X, centroids), dtw_distances(same, centroids))


@pytest.mark.extras
def test_parameters_may_be_tensors_but_not_masked(rng):
    import torch

    centroids = rng.standard_normal((2, 4, 3))
    x = rng.standard_normal((5, 3))
    tensor = torch.from_numpy(centroids).requires_grad_()
    np.testing.assert_array_equal(dtw_distances([x], tensor), dtw_distances([x], centroids))
    path = dtw_path(torch.from_numpy(x), tensor[0], tensor[1] ** 0)
    np.testing.assert_array_equal(path, dtw_path(x, centroids[0]))
    with pytest.raises(ValueError, match="centroids is a masked array"):
        dtw_distances([x], np.ma.masked_array(centroids, mask=centroids > 0))


@pytest.mark.fault(101)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"differences": None},
        {"differences": (2, 0.3, 50), "diagonal": False},
        {"standardize": False, "n_timesteps": 1},
    ],
    ids=str,
)
def test_the_distances_of_a_classifier_can_be_computed_from_its_attributes(
    parameters, dtype, ragged
):
    """To the bit, with the way that the docstring shows; the defaults of both are the same."""
    X, y = [x.astype(dtype) for x in ragged[0]], ragged[1]
    clf = DejaVidClassifier(n_epochs=2, random_state=0, **parameters).fit(X, y)
    expanded = TimeDifferences(clf.lags_).fit_transform(X)
    weights = np.exp(clf.log_weights_)
    distances = dtw_distances(expanded, clf.centroids_, weights, diagonal=clf.diagonal)
    np.testing.assert_array_equal(distances, clf.transform(X))
    if "diagonal" not in parameters:
        default = dtw_distances(expanded, clf.centroids_, weights)
        np.testing.assert_array_equal(default, distances)


@pytest.mark.extras
def test_the_default_moves_are_the_same_everywhere():
    from skdejavid.nn import TimeWeightedDTW

    defaults = {
        function: inspect.signature(function).parameters["diagonal"].default
        for function in (dtw_distances, dtw_path, DejaVidClassifier, TimeWeightedDTW)
    }
    assert set(defaults.values()) == {True}


@pytest.mark.fault(101)
def test_centroids_that_need_differences_say_so(ragged):
    X, y = ragged
    clf = DejaVidClassifier(n_epochs=2, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"have 9 features, but X has 3\. .*TimeDifferences\(clf"):
        dtw_distances(X, clf.centroids_)
    with pytest.raises(ValueError, match=r"have 4 features, but X has 3$"):
        dtw_distances(X, np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"have 3 features, but X has 6$"):
        dtw_distances([np.zeros((2, 6))], np.zeros((2, 3, 3)))


@pytest.mark.fault(120)
@pytest.mark.parametrize("diagonal", ["no", None, 1, 0.0, [True]], ids=repr)
def test_diagonal_is_yes_or_no(diagonal):
    x = np.ones((3, 2))
    with pytest.raises(TypeError, match=r"^diagonal must be True or False, got"):
        dtw_path(x, x, diagonal=diagonal)
    with pytest.raises(TypeError, match=r"^diagonal must be True or False, got"):
        dtw_distances([x], x[None], diagonal=diagonal)
    assert dtw_path(x, x, diagonal=np.False_).shape == (5, 2)
    assert dtw_distances([x], x[None], diagonal=np.True_).tolist() == [[0.0]]
