"""The border of the native module: whatever it is given, it stays inside of the arrays."""

import sys
import threading
import warnings
from contextlib import suppress

import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st
from test_core import PROBLEMS, draw

from skdejavid import _core

DTYPES = pytest.mark.parametrize("dtype", PROBLEMS, ids=lambda dtype: dtype.__name__)
INT64 = st.one_of(
    st.integers(-3, 9),
    st.sampled_from([2**31 - 1, 2**31, 2**62, 2**63 - 7, 2**63 - 1, -(2**63), -(2**63) + 1]),
    st.integers(-(2**63), 2**63 - 1),
)
INT32 = st.one_of(st.integers(-2, 5), st.sampled_from([2**31 - 1, -(2**31)]))


def arguments(**changes):
    arrays = {
        "values": np.arange(12.0).reshape(6, 2),
        "starts": np.array([0, 4]),
        "lengths": np.array([4, 2]),
        "centroids": np.arange(24.0).reshape(3, 4, 2),
        "weights": np.ones((3, 4, 2)),
        "n_threads": 1,
    }
    return arrays | changes


@pytest.mark.fault(88)
@given(st.lists(st.tuples(INT64, INT64), max_size=4))
@example([(2**63 - 1, 9), (0, 2**63 - 1)])
def test_sequences_are_accepted_only_inside_of_the_values(sequences):
    starts, lengths = np.array(sequences, dtype=np.int64).reshape(-1, 2).T.copy()
    are_inside = all(start >= 0 and n >= 1 and start + n <= 6 for start, n in sequences)
    changed = arguments(starts=starts, lengths=lengths)
    if are_inside:
        _core.check_sequences(starts, lengths, 6)
        assert _core.ProblemFloat64(**changed).distances(True).shape == (len(sequences), 3)
        return
    with pytest.raises(ValueError, match=r"sequence . is not inside values"):
        _core.ProblemFloat64(**changed)
    with pytest.raises(ValueError, match=r"sequence . is not inside values"):
        _core.check_sequences(starts, lengths, 6)


@pytest.mark.fault(88)
@given(st.lists(st.tuples(INT32, INT32), min_size=6, max_size=6))
def test_runs_are_accepted_only_inside_of_their_sequences(runs):
    array = np.array(runs, dtype=np.int32).reshape(2, 3, 1, 2)
    changes = {"centroids": np.ones((3, 1, 2)), "weights": np.ones((3, 1, 2))}
    problem = _core.ProblemFloat64(**arguments(**changes))
    lengths = [4] * 3 + [2] * 3
    are_inside = all(0 <= a <= b < n for (a, b), n in zip(runs, lengths, strict=True))
    calls = [
        lambda: problem.distances_along(array),
        lambda: problem.parameter_gradients(array, np.ones((2, 3))),
        lambda: problem.sequence_gradients(array, np.ones((2, 3))),
        lambda: problem.barycenters(array, np.ones((2, 3))),
        lambda: _core.check_runs(array, np.array([4, 2]), 3, 1),
    ]
    for call in calls:
        if are_inside:
            call()
        else:
            with pytest.raises(ValueError, match=r"runs of sequence . must satisfy 0 <= first"):
                call()


@pytest.mark.fault(88)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((0, 2**55))}, "values would have more than 2[*][*]56 bytes"),
        (
            {"centroids": np.zeros((0, 2**55, 2)), "weights": np.zeros((0, 2**55, 2))},
            "centroids would have more than",
        ),
        (
            {"centroids": np.zeros((0, 2**52, 2)), "weights": np.zeros((0, 2**52, 2))},
            "runs would have more than",
        ),
    ],
)
def test_no_product_of_sizes_overflows(changes, message):
    """Arrays without items have any other axes, and all of them occupy no memory."""
    with pytest.raises(ValueError, match=message):
        _core.ProblemFloat64(**arguments(**changes))


@pytest.mark.fault(88)
def test_sums_of_lengths_that_overlap_are_counted():
    values = np.zeros((1, 1))
    n_sequences = 1000
    starts, lengths = np.zeros(n_sequences, np.int64), np.ones(n_sequences, np.int64)
    problem = _core.ProblemFloat64(values, starts, lengths, values[None], values[None], 1)
    assert problem.sequence_gradients(
        np.zeros((n_sequences, 1, 1, 2), np.int32), np.ones((n_sequences, 1))
    ).shape == (n_sequences, 1)


@pytest.mark.fault(88)
def test_adam_refuses_sizes_whose_product_overflows():
    nothing = np.zeros((0, 2**55, 2))
    with pytest.raises(ValueError, match="parameters would have more than"):
        _core.adam_step(*[nothing] * 4, None, 0.1, 1, 1)


@pytest.mark.fault(88)
@pytest.mark.parametrize("name", ["starts", "lengths"])
@pytest.mark.parametrize(
    "change",
    [
        lambda array: array.astype(np.uint64),
        lambda array: array.astype(np.int32),
        lambda array: array.astype(np.float64),
        lambda array: array.astype(">i8"),
        lambda array: np.repeat(array, 2)[::2],
        lambda array: array.tolist(),
    ],
    ids=["uint64", "int32", "float64", "byte order", "strides", "list"],
)
def test_indices_are_of_one_type_and_layout(name, change):
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        _core.ProblemFloat64(**arguments(**{name: change(arguments()[name])}))


@pytest.mark.fault(88)
@pytest.mark.parametrize("name", ["starts", "lengths", "centroids", "weights"])
def test_misaligned_arrays_are_refused_by_name(name):
    array = arguments()[name]
    buffer = np.zeros(array.nbytes + 1, dtype=np.uint8)
    misaligned = buffer[1:].view(array.dtype).reshape(array.shape)
    misaligned[...] = array
    with pytest.raises(ValueError, match=f"{name} must be aligned"):
        _core.ProblemFloat64(**arguments(**{name: misaligned}))


def test_arrays_that_are_only_read_may_be_read_only():
    arrays = arguments()
    expected = _core.ProblemFloat64(**arrays).distances(True)
    for name in ("values", "starts", "lengths", "centroids", "weights"):
        arrays[name].flags.writeable = False
    np.testing.assert_array_equal(_core.ProblemFloat64(**arrays).distances(True), expected)


CALLS = {
    "distances_along": lambda problem, runs, pairs: [problem.distances_along(runs)],
    "parameter_gradients": lambda problem, runs, pairs: problem.parameter_gradients(runs, pairs),
    "sequence_gradients": lambda problem, runs, pairs: [problem.sequence_gradients(runs, pairs)],
    "barycenters": lambda problem, runs, pairs: [problem.barycenters(runs, pairs)],
}


@pytest.mark.fault(89)
@pytest.mark.parametrize("name", CALLS)
def test_runs_that_change_during_a_call_change_nothing(name):
    """They are refused, or those of the beginning are used to the end."""
    arrays = draw(([50, 70], 3, 4, 3000), 0, np.float64, integers=False)
    problem = _core.ProblemFloat64(*arrays, 2)
    pairs = np.ones((2, 3))
    _, good = problem.paths(True)
    expected = CALLS[name](problem, good, pairs)
    bad = good.copy()
    bad[..., 1] = 2**31 - 1
    runs, is_over = good.copy(), threading.Event()

    def change():
        while not is_over.is_set():
            # So few numbers are copied under the GIL, all at once.
            runs[...] = bad
            runs[...] = good

    other = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    other.start()
    try:
        for _ in range(60):
            results = expected
            with suppress(ValueError):
                results = CALLS[name](problem, runs, pairs)
            for result, wanted in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result, wanted)
    finally:
        is_over.set()
        other.join()
        sys.setswitchinterval(interval)


@pytest.mark.fault(89)
def test_where_sequences_lie_may_change_during_a_call():
    arrays = draw(([50, 70], 3, 4, 3000), 0, np.float64, integers=False)
    problem = _core.ProblemFloat64(*arrays, 2)
    expected = problem.distances(True)
    is_over = threading.Event()

    def change():
        while not is_over.is_set():
            arrays[1][...] = 2**62
            arrays[2][...] = 2**31 - 1

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(20):
            np.testing.assert_array_equal(problem.distances(True), expected)
    finally:
        is_over.set()
        other.join()


@pytest.mark.fault(89)
def test_a_problem_keeps_the_shapes_that_it_has_checked():
    """An array can get another shape in place, of which the number of results must not follow."""
    arrays = arguments()
    problem = _core.ProblemFloat64(**arrays)
    distances, runs = problem.paths(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        arrays["centroids"].shape = (1, 12, 2)
        arrays["values"].shape = (1, 12)
    changed = problem.paths(True)
    np.testing.assert_array_equal(changed[0], distances)
    np.testing.assert_array_equal(changed[1], runs)
    pairs = np.ones((2, 3))
    assert problem.parameter_gradients(runs, pairs)[0].shape == (3, 4, 2)
    assert problem.sequence_gradients(runs, pairs).shape == (6, 2)


@pytest.mark.fault(89)
@pytest.mark.parametrize("name", ["values", "centroids", "weights"])
def test_the_memory_of_a_problem_cannot_be_moved(name):
    arrays = arguments(values=np.ones((6, 2)))
    arrays = {key: array.copy() if key != "n_threads" else 1 for key, array in arrays.items()}
    problem = _core.ProblemFloat64(**arrays)
    expected = problem.distances(True)
    with pytest.raises(ValueError, match="cannot resize an array that references"):
        arrays[name].resize((2**21, 2, 2), refcheck=False)
    np.testing.assert_array_equal(problem.distances(True), expected)


def totals_of(cost, diagonal):
    """Return the totals of all cells as `reference.totals`, antidiagonal by antidiagonal."""
    n, m = cost.shape
    far = np.iinfo(np.int32).max // 2
    total = np.full((n + 1, m + 1), far, dtype=np.int32)
    for step in range(n + m - 1):
        i = np.arange(max(0, step - m + 1), min(n, step + 1))
        j = step - i
        best = np.minimum(total[i, j + 1], total[i + 1, j])
        if diagonal:
            best = np.minimum(best, total[i, j])
        total[i + 1, j + 1] = cost[i, j] + (0 if step == 0 else best)
    return total[1:, 1:]


@pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])
def test_totals_by_antidiagonals_are_those_of_the_reference(diagonal, rng):
    cost = rng.integers(0, 3, size=(9, 14))
    np.testing.assert_array_equal(totals_of(cost, diagonal), reference.totals(cost, diagonal))


@pytest.mark.slow
@pytest.mark.fault(113)
@DTYPES
@pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])
def test_paths_in_sections_are_those_of_the_reference(dtype, diagonal, rng):
    """Sequences of two lengths, one of them in a single section, several centroids at once."""
    lengths = np.array([7, 6000, 300])
    values = rng.integers(-2, 3, size=(lengths.sum(), 1)).astype(dtype)
    centroids = rng.integers(-2, 3, size=(2, 5700, 1)).astype(dtype)
    starts = np.cumsum(lengths) - lengths
    problem = PROBLEMS[dtype](values, starts, lengths, centroids, np.ones_like(centroids), 1)
    distances, runs = problem.paths(diagonal)
    np.testing.assert_array_equal(problem.distances(diagonal), distances)
    for s, k in [(0, 0), (1, 0), (1, 1), (2, 1)]:
        x = values[starts[s] :][: lengths[s]]
        cost = np.abs(centroids[k] - x.T).astype(np.int32)
        total = totals_of(cost, diagonal)
        assert distances[s, k] == total[-1, -1]
        path = reference.walk_back(total, diagonal)
        found = [(i, j) for i, (a, b) in enumerate(runs[s, k]) for j in range(a, b + 1)]
        np.testing.assert_array_equal(found, path)


@pytest.mark.slow
@pytest.mark.fault(113)
@DTYPES
@pytest.mark.parametrize("n_threads", [1, 2])
def test_many_paths_in_sections_do_not_depend_on_the_number_of_threads(dtype, n_threads, rng):
    lengths = np.array([9000, 8500])
    values = rng.standard_normal((lengths.sum(), 1)).astype(dtype)
    centroids = rng.standard_normal((5, 3900, 1)).astype(dtype)
    arguments = values, np.array([0, 9000]), lengths, centroids, np.ones_like(centroids)
    distances, runs = PROBLEMS[dtype](*arguments, n_threads).paths(True)
    for k in (0, 4):
        one = centroids[k : k + 1], np.ones((1, 3900, 1), dtype)
        alone = PROBLEMS[dtype](*arguments[:3], *one, 1).paths(True)
        np.testing.assert_array_equal(distances[:, k : k + 1], alone[0])
        np.testing.assert_array_equal(runs[:, k : k + 1], alone[1])


@pytest.mark.fault(113)
def test_an_alignment_says_how_much_memory_it_needs():
    problem = _core.ProblemFloat64(**arguments(), memory=2000.0)
    message = (
        r"between 2 sequence\(s\) of up to 4 frames and 3 centroid\(s\) of 4 time steps need "
        r"[0-9.]+ kB of memory in 1 thread\(s\), but this machine has 2 kB: pass fewer or shorter"
    )
    for name in ("paths", "distances"):
        with pytest.raises(MemoryError, match=f"{name} {message}"):
            getattr(problem, name)(True)
    enough = _core.ProblemFloat64(**arguments(), memory=1e5)
    np.testing.assert_array_equal(enough.distances(True), enough.paths(True)[0])


@pytest.mark.fault(113)
@DTYPES
def test_the_memory_of_paths_grows_with_the_square_root_of_their_length(dtype):
    def needed(n_frames, n_timesteps, **changes):
        sizes = {"n_centroids": 1, "n_features": 1, "n_threads": 1} | changes
        return PROBLEMS[dtype].paths_bytes(n_frames=n_frames, n_timesteps=n_timesteps, **sizes)

    assert needed(60_000, 60_000) < 3e8
    assert needed(10**6, 1000) < needed(10**8, 1000) < 11 * needed(10**6, 1000)
    assert needed(10**7, 10**7, n_centroids=64, n_threads=2) > needed(10**7, 10**7, n_centroids=64)
    assert np.isfinite(needed(2**31 - 1, 2**31 - 1, n_centroids=2**31 - 1, n_features=2**31 - 1))
    # All moves of few cells are stored, two bytes for each.
    assert needed(2001, 1000) - needed(2000, 1000) == pytest.approx(2000)
    for changes in ({"n_threads": 0}, {"n_centroids": -1}, {"n_features": 2**31}):
        with pytest.raises(ValueError, match=r"n_threads must be|sizes must be from 1 to"):
            needed(5, 5, **changes)
