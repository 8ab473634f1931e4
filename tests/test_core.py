"""The native binding, called directly, against the reference."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st

from skdejavid import _core

PROBLEMS = {np.float32: _core.ProblemFloat32, np.float64: _core.ProblemFloat64}
DTYPES = pytest.mark.parametrize("dtype", PROBLEMS, ids=lambda dtype: dtype.__name__)
DIAGONAL = pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])

# Sizes on both sides of the native code's registers (2 to 16 numbers) and blocks (128 to 1024).
SHAPES = st.tuples(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),  # n_frames of each sequence
    st.sampled_from([1, 2, 3, 4, 5, 9]),  # n_centroids
    st.integers(1, 6),  # n_timesteps
    st.sampled_from([1, 2, 3, 4, 5, 15, 16, 17, 21, 64, 65, 255, 256, 257, 513, 1025]),
)
SMALLEST = ([1], 1, 1, 1)


def draw(shapes, seed, dtype, integers):
    """Draw packed sequences separated by unused rows, centroids and weights."""
    n_frames, n_centroids, n_timesteps, n_features = shapes
    rng = np.random.default_rng(seed)
    lengths = np.array(n_frames, dtype=np.int64)
    starts = np.cumsum(lengths + 1) - lengths
    shape = (n_centroids, n_timesteps, n_features)
    n_rows = int(lengths.sum()) + len(lengths)
    if integers:  # few distinct values, so that many paths tie
        values = rng.integers(-2, 3, size=(n_rows, n_features))
        centroids, weights = rng.integers(-2, 3, size=shape), rng.integers(0, 4, size=shape)
    else:
        values = rng.standard_normal((n_rows, n_features))
        centroids, weights = rng.standard_normal(shape), rng.exponential(size=shape)
    values, centroids, weights = (array.astype(dtype) for array in (values, centroids, weights))
    return values, starts, lengths, centroids, weights


def sequences_of(values, starts, lengths):
    return [values[s : s + n] for s, n in zip(starts, lengths, strict=True)]


def cells(runs):
    return np.array([(i, j) for i, (a, b) in enumerate(runs) for j in range(a, b + 1)])


def distance_in(dtype, x, c, u, path):
    """Compute the distance along a path with NumPy in one floating-point dtype."""
    x, c, u = (array.astype(dtype) for array in (x, c, u))
    return (u[path[:, 0]] * np.abs(c[path[:, 0]] - x[path[:, 1]])).sum(axis=1).sum()


@DTYPES
@DIAGONAL
@given(shapes=SHAPES, seed=st.integers(0, 2**32))
@example(shapes=SMALLEST, seed=0)
def test_integers_give_exactly_the_reference_distances_and_paths(dtype, diagonal, shapes, seed):
    values, starts, lengths, centroids, weights = draw(shapes, seed, dtype, integers=True)
    problem = PROBLEMS[dtype](values, starts, lengths, centroids, weights, 1)
    distances, runs = problem.paths(diagonal)
    np.testing.assert_array_equal(problem.distances(diagonal), distances)
    for s, x in enumerate(sequences_of(values, starts, lengths)):
        for k, (c, u) in enumerate(zip(centroids, weights, strict=True)):
            assert distances[s, k] == reference.dtw_distance(x, c, u, diagonal)
            np.testing.assert_array_equal(cells(runs[s, k]), reference.dtw_path(x, c, u, diagonal))


@DTYPES
@DIAGONAL
@given(shapes=SHAPES, seed=st.integers(0, 2**32))
@example(shapes=SMALLEST, seed=0)
def test_real_numbers_are_exact_but_for_rounding(dtype, diagonal, shapes, seed):
    values, starts, lengths, centroids, weights = draw(shapes, seed, dtype, integers=False)
    problem = PROBLEMS[dtype](values, starts, lengths, centroids, weights, 1)
    distances, runs = problem.paths(diagonal)
    # Each term is rounded twice, and then takes part in fewer than 94 additions: of its lane, of
    # all lanes, of blocks and of cells.
    roundings = 96 * np.finfo(dtype).eps / 2
    along = problem.distances_along(runs)
    np.testing.assert_allclose(along, distances, rtol=2 * roundings)
    for s, x in enumerate(sequences_of(values, starts, lengths)):
        for k, (c, u) in enumerate(zip(centroids, weights, strict=True)):
            path = cells(runs[s, k])
            exact = distance_in(np.longdouble, x, c, u, path)
            assert abs(distances[s, k] - exact) <= roundings * exact
            # The path is a cheapest one, up to rounding errors of nearly equal ones.
            best = reference.dtw_distance(x, c, u, diagonal)
            assert exact <= best * (1 + 2 * roundings)


# No long paths in float64: their cells are summed sequentially in double, which is no wider.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "n_frames"), [(np.float32, 33), (np.float32, 3), (np.float64, 3)]
)
@pytest.mark.parametrize("n_features", [1, 2, 12, 48, 64, 65, 100, 255, 256, 257, 1459, 6328])
def test_errors_stay_within_twice_those_of_numpy(dtype, n_frames, n_features):
    errors, errors_along, numpy_errors = [], [], []
    for seed in range(200):
        values, starts, lengths, centroids, weights = draw(
            ([n_frames], 1, (n_frames + 1) // 2, n_features), seed, dtype, integers=False
        )
        problem = PROBLEMS[dtype](values, starts, lengths, centroids, weights, 1)
        distances, runs = problem.paths(False)
        pair = sequences_of(values, starts, lengths)[0], centroids[0], weights[0]
        exact = distance_in(np.longdouble, *pair, cells(runs[0, 0]))
        errors.append(abs(distances[0, 0] - exact) / exact)
        errors_along.append(abs(problem.distances_along(runs)[0, 0] - exact) / exact)
        numpy_errors.append(abs(distance_in(dtype, *pair, cells(runs[0, 0])) - exact) / exact)
    assert np.mean(errors) <= 2 * np.mean(numpy_errors)
    assert np.mean(errors_along) <= 2 * np.mean(numpy_errors)


def assert_gradients_of_the_reference(
    gradients, arrays, runs, grad, roundings, cost_term=reference.ABSOLUTE
):
    """Compare gradients by centroids, weights and frames, up to relative errors of their terms."""
    values, starts, lengths, centroids, weights = arrays
    expected_c, expected_u = np.zeros(centroids.shape), np.zeros(weights.shape)
    size_c, size_u = np.zeros(centroids.shape), np.zeros(weights.shape)
    expected_x, size_x = [], []
    for s, x in enumerate(sequences_of(values, starts, lengths)):
        expected_x.append(np.zeros(x.shape))
        size_x.append(np.zeros(x.shape))
        for k, (c, u) in enumerate(zip(centroids, weights, strict=True)):
            path = cells(runs[s, k])
            dc, du, dx = reference.gradients_along(x, c, u, path, cost_term)
            expected_c[k] += grad[s, k] * dc
            expected_u[k] += grad[s, k] * du
            expected_x[-1] += grad[s, k] * dx
            np.add.at(size_c[k], path[:, 0], abs(grad[s, k]) * u[path[:, 0]])
            size_u[k] += abs(grad[s, k]) * du
            np.add.at(size_x[-1], path[:, 1], abs(grad[s, k]) * u[path[:, 0]])
    expected = expected_c, expected_u, np.concatenate(expected_x)
    sizes = size_c, size_u, np.concatenate(size_x)
    for actual, wanted, size in zip(gradients, expected, sizes, strict=True):
        assert (np.abs(actual - wanted) <= roundings * size).all()


@DTYPES
@DIAGONAL
@given(shapes=SHAPES, seed=st.integers(0, 2**32), integers=st.booleans())
@example(shapes=SMALLEST, seed=0, integers=True)
def test_gradients_are_those_of_the_reference(dtype, diagonal, shapes, seed, integers):
    arrays = draw(shapes, seed, dtype, integers)
    *_, centroids, weights = arrays
    problem = PROBLEMS[dtype](*arrays, 1)
    _, runs = problem.paths(diagonal)
    grad = np.random.default_rng(seed).integers(-3, 4, size=runs.shape[:2]).astype(float)
    by_centroids, by_weights = problem.parameter_gradients(runs, grad)
    by_frames = problem.sequence_gradients(runs, grad)

    out = np.full_like(centroids, np.nan), np.full_like(weights, np.nan)
    given = problem.parameter_gradients(runs, grad, out=out)
    assert given[0] is out[0]
    assert given[1] is out[1]
    np.testing.assert_array_equal(given, (by_centroids, by_weights))
    # Each result sums at most 4 sequences of 9 frames or 9 centroids of 6 time steps, and the
    # reference is rounded as well.
    roundings = 0 if integers else 2 * 9 * 6 * np.finfo(dtype).eps
    assert_gradients_of_the_reference(
        (by_centroids, by_weights, by_frames), arrays, runs, grad, roundings
    )


@pytest.mark.slow
@DTYPES
@DIAGONAL
@given(shapes=SHAPES, seed=st.integers(0, 2**32))
def test_barycenters_are_weighted_means_of_matched_frames(dtype, diagonal, shapes, seed):
    values, starts, lengths, centroids, weights = draw(shapes, seed, dtype, integers=True)
    problem = PROBLEMS[dtype](values, starts, lengths, centroids, weights, 1)
    _, runs = problem.paths(diagonal)
    rng = np.random.default_rng(seed)
    sample_weights = rng.integers(0, 4, size=runs.shape[:2]).astype(float)
    sample_weights[0] += 1
    means = problem.barycenters(runs, sample_weights)
    pool = sequences_of(values, starts, lengths)
    for k, (c, u) in enumerate(zip(centroids, weights, strict=True)):
        expected = reference.barycenter(pool, c, u, sample_weights[:, k], diagonal)
        # Values up to 2 and their offsets from centroids are rounded twice.
        np.testing.assert_allclose(means[k], expected, rtol=0, atol=8 * np.finfo(dtype).eps)


def test_frames_equal_to_the_centroid_leave_it_exactly_where_it_is(rng):
    frame = rng.standard_normal((1, 5))
    problem = _core.ProblemFloat64(
        frame, np.zeros(3, np.int64), np.ones(3, np.int64), frame[None], np.ones((1, 1, 5)), 1
    )
    _, runs = problem.paths(False)
    means = problem.barycenters(runs, np.array([[0.1], [0.7], [3.0]]))
    np.testing.assert_array_equal(means[0], frame)


# Along the paths alone about 25 million terms of costs: enough work for 16 threads, of which each
# needs a million.
LARGE = ([25] * 48, 8, 8, 2000)


@DTYPES
def test_the_number_of_threads_changes_no_bit(dtype):
    arrays = draw(LARGE, 0, dtype, integers=False)
    grad = np.random.default_rng(0).standard_normal((48, 8))

    def everything(n_threads):
        problem = PROBLEMS[dtype](*arrays, n_threads)
        distances, runs = problem.paths(True)
        return (
            distances,
            runs,
            problem.distances(True),
            problem.distances_along(runs),
            *problem.parameter_gradients(runs, grad),
            problem.sequence_gradients(runs, grad),
            problem.barycenters(runs, np.abs(grad)),
        )

    alone = everything(1)
    for n_threads in (2, 16):
        for one, many in zip(alone, everything(n_threads), strict=True):
            np.testing.assert_array_equal(one, many)


@pytest.mark.slow
@pytest.mark.extras
@DTYPES
@pytest.mark.parametrize("is_relative", [False, True], ids=["in units of a scale", "logarithms"])
def test_adam_is_that_of_torch(dtype, is_relative, rng):
    import torch

    shape = (2, 3, 300)  # rows are longer than the blocks that they are computed in
    parameters = rng.uniform(0.5, 2.0, size=shape).astype(dtype)
    scale = None if is_relative else rng.uniform(0.5, 2.0, size=300).astype(dtype)
    tensor = torch.tensor(np.log(parameters) if is_relative else parameters / scale)
    tensor.requires_grad_()
    optimizer = torch.optim.AdamW([tensor], weight_decay=0.0)
    moments = np.zeros_like(parameters), np.zeros_like(parameters)
    for n_steps, learning_rate in enumerate([0.1, 0.1, 0.05, 0.01], start=1):
        gradients = rng.standard_normal(shape).astype(dtype)
        gradients[0, 0, :3] = 0.0
        tensor.grad = torch.tensor(gradients * (parameters if is_relative else scale))
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.step()
        _core.adam_step(parameters, gradients, *moments, scale, learning_rate, n_steps, 2)
        learned = tensor.detach().numpy()
        expected = np.exp(learned) if is_relative else learned * scale
        # Numbers up to 2, rounded a few times per step.
        atol = 40 * n_steps * np.finfo(dtype).eps
        np.testing.assert_allclose(parameters, expected, rtol=0, atol=atol)


def test_adam_refuses_arrays_that_do_not_fit():
    arrays = [np.ones((2, 3, 4)) for _ in range(4)]
    scale = np.ones(4)
    with pytest.raises(ValueError, match="parameters must be 3-D"):
        _core.adam_step(np.ones(4), *arrays[1:], scale, 0.1, 1, 1)
    with pytest.raises(ValueError, match="gradients must have shape"):
        _core.adam_step(arrays[0], np.ones((2, 3, 5)), *arrays[2:], scale, 0.1, 1, 1)
    with pytest.raises(ValueError, match="second_moments must have shape"):
        _core.adam_step(*arrays[:3], np.ones((1, 3, 4)), scale, 0.1, 1, 1)
    with pytest.raises(ValueError, match="scale must have shape"):
        _core.adam_step(*arrays, np.ones(3), 0.1, 1, 1)
    with pytest.raises(ValueError, match="n_steps must be at least 1"):
        _core.adam_step(*arrays, scale, 0.1, 0, 1)
    with pytest.raises(ValueError, match="n_threads must be at least 1"):
        _core.adam_step(*arrays, scale, 0.1, 1, 0)
    with pytest.raises(TypeError):
        _core.adam_step(arrays[0], np.ones((2, 3, 4), np.float32), *arrays[2:], scale, 0.1, 1, 1)
    arrays[0].flags.writeable = False
    with pytest.raises(ValueError, match="not writeable"):
        _core.adam_step(*arrays, scale, 0.1, 1, 1)


# The beginning of programs that tests run in a subprocess.
PRELUDE = """
import os, pickle, signal, sys, threading, time
from skdejavid import _core
arrays = pickle.load(sys.stdin.buffer)
def problem(n_threads):
    return _core.ProblemFloat32(*arrays, n_threads)
def threads():
    return set(os.listdir("/proc/self/task"))
def seconds(thread):
    return int(open(f"/proc/self/task/{thread}/schedstat").read().split()[0]) / 1e9
handled = []
def interrupt_at_the_third_signal():
    def handle(*arguments):
        handled.append(arguments)
        if len(handled) == 3:
            raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.06, 0.06)
"""
LINUX = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="looks at threads in /proc"
)


def printed_by(program, folder, shapes=LARGE):
    arrays = pickle.dumps(draw(shapes, 0, np.float32, integers=False))
    command = [sys.executable, "-c", PRELUDE + program]
    options = {"input": arrays, "capture_output": True, "cwd": folder, "timeout": 120}
    done = subprocess.run(command, check=False, **options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("n_threads", [1, 3])
def test_as_many_threads_work_as_were_asked_for(n_threads, tmp_path):
    program = f"""
before = threads()
for _ in range(20):
    problem({n_threads}).distances(False)
helpers = threads() - before
print(len(helpers), all(seconds(helper) > 0.001 for helper in helpers))
"""
    assert printed_by(program, tmp_path) == [str(n_threads - 1), "True"]


@pytest.mark.slow
@pytest.mark.fault(52)
@LINUX
def test_calls_from_several_threads_share_the_machine(tmp_path):
    """Two callers use as many threads as each of them requests, so no helper joins them."""
    program = """
before = threads()
problem(2).distances(False)
(helper,) = threads() - before
ready, enough = threading.Barrier(3), threading.Event()
def call():
    ready.wait()
    while not enough.is_set():
        problem(2).distances(False)
callers = [threading.Thread(target=call) for _ in range(2)]
for caller in callers:
    caller.start()
ready.wait()
begin, all_begin = seconds(helper), time.process_time()
time.sleep(1)
share = (seconds(helper) - begin) / (time.process_time() - all_begin)
enough.set()
for caller in callers:
    caller.join()
print(share)
"""
    (share,) = printed_by(program, tmp_path)
    assert float(share) < 0.25  # it may compute between the calls


@pytest.mark.slow
@pytest.mark.fault(50)
@LINUX
def test_a_child_computes_after_a_fork(tmp_path):
    """The child inherits no threads and starts its own."""
    program = """
expected = problem(3).distances(False)
child = os.fork()
if child == 0:
    same = (problem(3).distances(False) == expected).all()
    os._exit(0 if same and len(threads()) == 3 else 1)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), (problem(3).distances(False) == expected).all())
"""
    assert printed_by(program, tmp_path) == ["0", "True"]


LONG_CALLS = {
    "distances": "many.distances(False)",
    "distances_along": "many.distances_along(runs)",
    "parameter_gradients": "many.parameter_gradients(runs, pairs)",
    "sequence_gradients": "many.sequence_gradients(runs, pairs)",
    "barycenters": "many.barycenters(runs, pairs)",
}


@pytest.mark.slow
@pytest.mark.fault(42)
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="has no interval timer")
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("name", LONG_CALLS)
def test_an_interrupt_ends_a_call(name, n_threads, tmp_path):
    """Signals are handled during the call, and an exception of a handler ends it.

    A call that handles none lets them wait: its caller sees a single one.
    """
    n_sequences, n_centroids = 500, 400
    program = f"""
import numpy as np
values, starts, lengths, centroids, weights = arrays
starts, lengths = (np.repeat(array, {n_sequences}) for array in (starts * 0, lengths))
many = _core.ProblemFloat32(values, starts, lengths, centroids, weights, {n_threads})
pairs = np.ones(({n_sequences}, {n_centroids}))
runs = np.zeros((*pairs.shape, 2, 2), dtype=np.int32)
runs[..., 1] = lengths[0] - 1
interrupt_at_the_third_signal()
try:
    {LONG_CALLS[name]}
except KeyboardInterrupt:
    print("interrupted")
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    assert printed_by(program, tmp_path, ([100], n_centroids, 2, 2000)) == ["interrupted"]


@pytest.mark.slow
@pytest.mark.fault(42)
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="has no interval timer")
def test_an_interrupt_ends_a_call_that_waits_for_its_helper(tmp_path):
    """The caller is idle after the first of two sequences."""
    program = """
import numpy as np
values, starts, lengths, centroids, weights = arrays
uneven = _core.ProblemFloat32(values, starts, lengths, centroids, weights, 2)
interrupt_at_the_third_signal()
try:
    for _ in range(20):
        uneven.distances(False)
        handled.clear()
except KeyboardInterrupt:
    print("interrupted")
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    assert printed_by(program, tmp_path, ([200, 400_000], 8, 200, 64)) == ["interrupted"]


NATIVE_CALLS = {
    "distances": lambda problem, runs, pairs: problem.distances(False),
    "paths": lambda problem, runs, pairs: problem.paths(False),
    "distances_along": lambda problem, runs, pairs: problem.distances_along(runs),
    "parameter_gradients": lambda problem, runs, pairs: problem.parameter_gradients(runs, pairs),
    "sequence_gradients": lambda problem, runs, pairs: problem.sequence_gradients(runs, pairs),
    "barycenters": lambda problem, runs, pairs: problem.barycenters(runs, pairs),
}


@pytest.mark.parametrize("name", NATIVE_CALLS)
def test_other_python_threads_run_meanwhile(name):
    """Python switches threads only after 1000 s here, so native code must release the GIL."""
    problem = _core.ProblemFloat32(*draw(LARGE, 0, np.float32, integers=False), 1)
    _, runs = problem.paths(False)
    pairs = np.ones(runs.shape[:2])
    begin, visits = threading.Event(), []

    def visit():
        begin.wait()
        visits.append(name)

    other = threading.Thread(target=visit)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        begin.set()
        for _ in range(1000):  # until the system schedules the other thread
            NATIVE_CALLS[name](problem, runs, pairs)
            if visits:
                break
        let_in = list(visits)
    finally:
        sys.setswitchinterval(interval)
        other.join()
    assert let_in == [name]


@pytest.mark.fault(51)
def test_calls_from_many_python_threads_give_the_same_bits(rng):
    arrays = draw(([9, 4, 7], 3, 4, 21), 0, np.float64, integers=False)
    problem = _core.ProblemFloat64(*arrays, 2)
    expected = problem.distances(False)
    with ThreadPoolExecutor(8) as pool:
        for distances in pool.map(lambda _: problem.distances(False), range(200)):
            np.testing.assert_array_equal(distances, expected)


def test_where_the_sequences_lie_cannot_change_afterwards():
    arrays = arguments()
    problem = _core.ProblemFloat64(**arrays)
    arrays["starts"][0] = 10**11
    arrays["lengths"][1] = 10**11
    assert (problem.distances(False) == 0).all()


@DIAGONAL
def test_paths_stay_on_the_grid_when_costs_overflow(diagonal):
    values = np.full((5, 1), 3e38, dtype=np.float32)
    centroids = np.full((1, 4, 1), -3e38, dtype=np.float32)
    problem = _core.ProblemFloat32(
        values, np.zeros(1, np.int64), np.array([5]), centroids, np.ones_like(centroids), 1
    )
    distances, runs = problem.paths(diagonal)
    assert np.isinf(distances).all()
    assert runs.min() >= 0
    assert runs.max() <= 4
    assert runs[0, 0, 0, 0] == 0
    assert runs[0, 0, -1, 1] == 4


def arguments(**changes):
    arrays = {
        "values": np.zeros((6, 2)),
        "starts": np.array([0, 4]),
        "lengths": np.array([4, 2]),
        "centroids": np.zeros((3, 2, 2)),
        "weights": np.ones((3, 2, 2)),
        "n_threads": 1,
    }
    return arrays | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros(6)}, "values must be 2-D"),
        ({"values": np.zeros((6, 0))}, "n_features >= 1"),
        ({"values": np.zeros((6, 3))}, "centroids must have shape"),
        ({"starts": np.array([[0], [4]])}, "starts must be 1-D"),
        ({"starts": np.array([0, 5])}, "sequence 1 is not inside values"),
        ({"starts": np.array([-1, 4])}, "sequence 0 is not inside values"),
        ({"starts": np.array([0, 2**63 - 1])}, "sequence 1 is not inside values"),
        ({"lengths": np.array([4, 0])}, "sequence 1 is not inside values"),
        ({"lengths": np.array([4, 2**63 - 1])}, "sequence 1 is not inside values"),
        ({"lengths": np.array([4])}, "lengths must have shape"),
        ({"centroids": np.zeros((3, 0, 2))}, "n_timesteps >= 1"),
        ({"centroids": np.zeros((3, 2))}, "centroids must be 3-D"),
        ({"weights": np.zeros((3, 2, 1))}, "weights must have shape"),
        ({"n_threads": 0}, "n_threads must be at least 1"),
    ],
)
def test_whatever_leads_out_of_bounds_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        _core.ProblemFloat64(**arguments(**changes))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (np.zeros((6, 2), dtype=np.float32), _core.ProblemFloat64),
        (np.zeros((6, 2), dtype=">f8"), _core.ProblemFloat64),
        (np.zeros((2, 6)).T, _core.ProblemFloat64),
        (np.zeros((6, 2), dtype=int), _core.ProblemFloat64),
    ],
    ids=["type", "byte order", "memory order", "integers"],
)
def test_nothing_is_converted_at_the_border(values, problem):
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        problem(**arguments(values=values))


def test_misaligned_arrays_are_refused():
    buffer = np.zeros(6 * 2 * 8 + 1, dtype=np.uint8)
    misaligned = buffer[1:].view(np.float64).reshape(6, 2)
    with pytest.raises(ValueError, match="values must be aligned"):
        _core.ProblemFloat64(**arguments(values=misaligned))


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (np.zeros((2, 3, 2, 1), np.int32), "runs must have shape"),
        (np.full((2, 3, 2, 2), 2, np.int32), "runs of sequence 1 must satisfy"),
        (np.full((2, 3, 2, 2), -1, np.int32), "runs of sequence 0 must satisfy"),
        (np.tile(np.array([1, 0], np.int32), (2, 3, 2, 1)), "runs of sequence 0 must satisfy"),
    ],
)
def test_runs_outside_of_their_sequences_are_refused(runs, message):
    problem = _core.ProblemFloat64(**arguments())
    pairs = np.zeros((2, 3))
    for call in (
        lambda: problem.distances_along(runs),
        lambda: problem.parameter_gradients(runs, pairs),
        lambda: problem.sequence_gradients(runs, pairs),
        lambda: problem.barycenters(runs, pairs),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_arrays_for_gradients_that_do_not_fit_are_refused():
    problem = _core.ProblemFloat64(**arguments())
    runs, pairs, good = np.zeros((2, 3, 2, 2), np.int32), np.zeros((2, 3)), np.zeros((3, 2, 2))
    with pytest.raises(ValueError, match=r"out\[0\] must have shape"):
        problem.parameter_gradients(runs, pairs, out=(np.zeros((3, 2)), good))
    with pytest.raises(ValueError, match=r"out\[1\] must have shape"):
        problem.parameter_gradients(runs, pairs, out=(good, np.zeros((3, 2, 3))))
    with pytest.raises(TypeError):  # the results in a converted copy would be lost
        problem.parameter_gradients(runs, pairs, out=(good, good.astype(np.float32)))
    good.flags.writeable = False
    with pytest.raises(ValueError, match="not writeable"):
        problem.parameter_gradients(runs, pairs, out=(np.zeros((3, 2, 2)), good))


INSTRUCTION_SETS = ["baseline", "avx2", "avx512"]  # a machine supports all up to its best
ODD_SIZES = [
    ([1], 1, 1, 1),
    ([7, 1, 95, 97, 3], 9, 5, 3),
    ([33, 200, 2], 17, 8, 12),
    ([150, 1, 310], 19, 7, 64),
    ([13, 6, 5], 5, 3, 1030),
    ([4], 8, 32, 2049),
    ([120, 7, 90, 33], 17, 8, 513),  # work for two threads
]
ALIGN_ODD_SIZES = """
import pickle, sys
import numpy as np
from skdejavid import _core
results = [_core.cpu_instruction_set]
for name, arrays in pickle.load(sys.stdin.buffer):
    for n_threads in (1, 2):
        problem = getattr(_core, name)(*arrays, n_threads)
        for diagonal in (False, True):
            distances, runs = problem.paths(diagonal)
            assert (distances == problem.distances(diagonal)).all()
            results.append((distances, runs, problem.distances_along(runs)))
            pairs = np.arange(distances.size).reshape(distances.shape) % 5 - 2.0
            gradients = problem.parameter_gradients(runs, pairs)
            results.append((*gradients, problem.sequence_gradients(runs, pairs)))
sys.stdout.buffer.write(pickle.dumps(results))
"""


def align_odd_sizes(instruction_set, problems, folder):
    environment = os.environ | {"SKDEJAVID_INSTRUCTION_SET": instruction_set}
    command = [sys.executable, "-c", ALIGN_ODD_SIZES]
    options = {"input": pickle.dumps(problems), "capture_output": True, "cwd": folder}
    return subprocess.run(command, env=environment, check=False, **options)


@pytest.mark.slow
@pytest.mark.fault(48)
@DTYPES
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_every_instruction_set_gives_the_reference_at_odd_sizes(instruction_set, dtype, tmp_path):
    if INSTRUCTION_SETS.index(instruction_set) > INSTRUCTION_SETS.index(_core.cpu_instruction_set):
        pytest.skip(f"this machine has no {instruction_set}")
    drawn = [draw(shapes, 0, dtype, integers=True) for shapes in ODD_SIZES]
    name = PROBLEMS[dtype].__name__
    done = align_odd_sizes(instruction_set, [(name, arrays) for arrays in drawn], tmp_path)
    assert done.returncode == 0, done.stderr
    used, *results = pickle.loads(done.stdout)
    assert used == instruction_set
    for arrays in drawn:
        values, starts, lengths, centroids, weights = arrays
        expected = {
            (diagonal, s, k): reference.totals(reference.cost_matrix(x, c, u), diagonal)
            for diagonal in (False, True)
            for s, x in enumerate(sequences_of(values, starts, lengths))
            for k, (c, u) in enumerate(zip(centroids, weights, strict=True))
        }
        for _ in (1, 2):  # threads
            for diagonal in (False, True):
                distances, runs, along = results.pop(0)
                np.testing.assert_array_equal(along, distances)
                pairs = np.arange(distances.size).reshape(distances.shape) % 5 - 2.0
                problem = PROBLEMS[dtype](*arrays, 1)  # compared with the reference in other tests
                expected_gradients = (
                    *problem.parameter_gradients(runs, pairs),
                    problem.sequence_gradients(runs, pairs),
                )
                for one, other in zip(expected_gradients, results.pop(0), strict=True):
                    np.testing.assert_array_equal(one, other)
                for s, k in np.ndindex(distances.shape):
                    total = expected[diagonal, s, k]
                    assert distances[s, k] == total[-1, -1]
                    path = reference.walk_back(total, diagonal)
                    np.testing.assert_array_equal(cells(runs[s, k]), path)


@pytest.mark.fault(48)
def test_an_instruction_set_that_is_not_there_is_refused(tmp_path):
    done = align_odd_sizes("mmx", [], tmp_path)
    assert done.returncode != 0
    assert b"SKDEJAVID_INSTRUCTION_SET=mmx is not supported by this build" in done.stderr
