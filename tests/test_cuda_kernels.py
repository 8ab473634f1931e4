"""The CUDA kernels against the reference: emulated on the host, and on a device if there is one."""

import cuda_emulation
import numpy as np
import pytest
import reference
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_core import (
    assert_gradients_of_the_reference,
    cells,
    distance_in,
    draw,
    sequences_of,
)

from skdejavid import _core

# The dtype of the arithmetic, and the dtype in which sequences are stored.
PROBLEMS = {
    "float32": (np.float32, np.float32),
    "float16": (np.float32, np.float16),
    "float64": (np.float64, np.float64),
}
KINDS = pytest.mark.parametrize("kind", PROBLEMS)
DIAGONAL = pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])

# Sizes on both sides of packs (2, 4 or 8 numbers), stages (8 or 16 features), sums (64), strips (64
# or 128), lanes (32) and tiles (32 or 64 rows, 64 or 128 frames).
SHAPES = st.tuples(
    st.lists(st.sampled_from([1, 2, 3, 5, 31, 33, 64, 65]), min_size=1, max_size=4),
    st.sampled_from([1, 2, 3, 5, 9, 17]),
    st.sampled_from([1, 2, 3, 4, 5, 8, 9, 16, 17]),
    st.sampled_from([1, 2, 3, 4, 5, 8, 9, 12, 16, 17, 64, 65, 129]),
)
SMALLEST = ([1], 1, 1, 1)


def aligned(array, pitch):
    """Copy an array to rows that begin at multiples of 16 bytes and are padded with zeros."""
    rows = array.reshape(-1, array.shape[-1])
    buffer = np.zeros((len(rows) * pitch * array.itemsize + 64,), np.uint8)
    begin = -buffer.ctypes.data % 64
    copy = buffer[begin : begin + len(rows) * pitch * array.itemsize].view(array.dtype)
    copy = copy.reshape(*array.shape[:-1], pitch)
    copy[..., : array.shape[-1]] = array
    return copy


def pitch_of(n_features, dtype):
    per_pack = 16 // np.dtype(dtype).itemsize
    return -(-n_features // per_pack) * per_pack


class Emulation:
    """Kernels that run on the host."""

    set_order = staticmethod(cuda_emulation.set_order)

    def __init__(self, sources=cuda_emulation.SOURCES):
        self.sources = sources

    @property
    def core(self):
        return cuda_emulation.emulated_core(self.sources)

    @staticmethod
    def put(array):
        """Return the array's copy on the device, an argument of `get` and `pointer`."""
        return array

    @staticmethod
    def get(array):
        return array

    @staticmethod
    def pointer(array):
        return array.ctypes.data


class Card:
    """Kernels that run on the first CUDA device."""

    core = _core

    @staticmethod
    def set_order(order):
        """Do nothing: the order on a device is arbitrary."""

    @staticmethod
    def put(array):
        import torch

        return torch.from_numpy(array).cuda()

    @staticmethod
    def get(tensor):
        return tensor.cpu().numpy()

    @staticmethod
    def pointer(tensor):
        return tensor.data_ptr()


BACKENDS = {"cpu": Emulation(), "cuda": Card()}
backend = BACKENDS["cpu"]


@pytest.fixture(scope="module", autouse=True)
def choose_backend(device):
    """Run all tests on both backends."""
    global backend
    backend = BACKENDS[device]
    yield
    backend = BACKENDS["cpu"]


class Device:
    """A problem in the memory of the device, with results as arrays, initially NaN."""

    def __init__(self, kind, values, starts, lengths, centroids, weights, spare=0, on=None):
        self.backend = on or backend
        self.real, stored = PROBLEMS[kind]
        n_features = centroids.shape[2]
        self.pitch = pitch_of(n_features, self.real) + spare
        self.n_features = n_features
        arrays = {
            "values": aligned(values.astype(stored), pitch_of(n_features, stored) + spare * 2),
            "starts": starts,
            "lengths": lengths,
            "offsets": np.cumsum(lengths) - lengths,
            "centroids": aligned(centroids.astype(self.real), self.pitch),
            "weights": aligned(weights.astype(self.real), self.pitch),
        }
        self.arrays = {name: self.backend.put(array) for name, array in arrays.items()}
        self.pairs = (len(lengths), len(centroids))
        self.shape = centroids.shape
        self.n_frames = int(lengths.sum())
        self.problem = getattr(self.backend.core, f"CudaProblem{kind.capitalize()}")(
            device=0,
            stream=0,
            **{name: self.backend.pointer(array) for name, array in self.arrays.items()},
            value_pitch=self.arrays["values"].shape[-1],
            n_sequences=len(lengths),
            n_frames=self.n_frames,
            longest=int(lengths.max(initial=0)),
            parameter_pitch=self.pitch,
            n_centroids=centroids.shape[0],
            n_timesteps=centroids.shape[1],
            n_features=n_features,
        )

    def _rows(self, *shape):
        return aligned(np.full((*shape, self.pitch), np.nan, self.real), self.pitch)

    def _call(self, function, *arguments):
        """Call a method with arrays copied to the device and back."""
        copies = [
            self.backend.put(argument) if isinstance(argument, np.ndarray) else argument
            for argument in arguments
        ]
        getattr(self.problem, function)(
            *(
                self.backend.pointer(copy) if isinstance(argument, np.ndarray) else argument
                for copy, argument in zip(copies, arguments, strict=True)
            )
        )
        for copy, argument in zip(copies, arguments, strict=True):
            if isinstance(argument, np.ndarray):
                argument[...] = self.backend.get(copy)

    def paths(self, diagonal, with_runs=True):
        distances = np.full(self.pairs, np.nan)
        runs = np.full((*self.pairs, self.shape[1], 2), -9, np.int32)
        n_bytes = self.problem.align_bytes(with_runs)
        memory = aligned(np.full((1, n_bytes), 0xFF, np.uint8), n_bytes)
        self._call("align", diagonal, distances, runs if with_runs else 0, memory)
        return distances, runs

    def distances_along(self, runs):
        distances = np.full(self.pairs, np.nan)
        n_bytes = self.problem.along_bytes()
        memory = aligned(np.full((1, n_bytes), 0xFF, np.uint8), n_bytes)
        self._call("distances_along", runs, distances, memory)
        return distances

    def parameter_gradients(self, runs, grad, out=None):
        targets = out or (self._rows(*self.shape[:2]), self._rows(*self.shape[:2]))
        self._call("parameter_gradients", runs, grad, out is not None, *targets)
        return targets

    def sequence_gradients(self, runs, grad):
        target = self._rows(self.n_frames)
        self._call("sequence_gradients", runs, grad, target)
        return target[:, : self.n_features]

    def barycenters(self, runs, sample_weights):
        target = self._rows(*self.shape[:2])
        self._call("barycenters", runs, sample_weights, target)
        return target[..., : self.n_features]


def draw_for(kind, shapes, seed, integers):
    """Draw as `draw` does, with sequences rounded to float16 if they are stored so."""
    real, stored = PROBLEMS[kind]
    values, *others = draw(shapes, seed, real, integers)
    return values.astype(stored).astype(real), *others


def on_cpu(kind, arrays):
    problem = {np.float32: _core.ProblemFloat32, np.float64: _core.ProblemFloat64}
    return problem[PROBLEMS[kind][0]](*arrays, 1)


@pytest.mark.slow
@KINDS
@DIAGONAL
@settings(max_examples=25)
@given(shapes=SHAPES, seed=st.integers(0, 2**32))
@example(shapes=SMALLEST, seed=0)
def test_integers_give_exactly_the_reference_distances_and_paths(kind, diagonal, shapes, seed):
    arrays = draw_for(kind, shapes, seed, integers=True)
    values, starts, lengths, centroids, weights = arrays
    device = Device(kind, *arrays)
    distances, runs = device.paths(diagonal)
    for s, x in enumerate(sequences_of(values, starts, lengths)):
        for k, (c, u) in enumerate(zip(centroids, weights, strict=True)):
            total = reference.totals(reference.cost_matrix(x, c, u), diagonal)
            assert distances[s, k] == total[-1, -1]
            np.testing.assert_array_equal(cells(runs[s, k]), reference.walk_back(total, diagonal))
    np.testing.assert_array_equal(device.paths(diagonal, with_runs=False)[0], distances)
    np.testing.assert_array_equal(device.distances_along(runs), distances)


# Compared with the CPU backend, because the reference is too slow for these sizes.
LARGE = [
    ([2000, 1, 257], 2, 64, 3),
    ([257, 40, 300], 3, 8, 5),  # moves that do not fit into shared memory
    ([70, 3], 2, 33, 12),  # two strips, the second of one lane
    ([31, 400], 1, 300, 2),
    ([3, 600], 2, 512, 1),
    ([5] * 130, 2, 3, 4),  # sums over sequences are added to the targets three times
    ([7, 33], 3, 8, 6328),
    ([1, 2], 17, 1, 1459),
]


@pytest.mark.slow
@KINDS
@DIAGONAL
@pytest.mark.parametrize("shapes", LARGE, ids=str)
def test_integers_give_exactly_what_the_cpu_gives_at_large_and_odd_sizes(kind, diagonal, shapes):
    arrays = draw_for(kind, shapes, 0, integers=True)
    cpu, device = on_cpu(kind, arrays), Device(kind, *arrays)
    expected_distances, expected_runs = cpu.paths(diagonal)
    distances, runs = device.paths(diagonal)
    np.testing.assert_array_equal(distances, expected_distances)
    np.testing.assert_array_equal(runs, expected_runs)
    np.testing.assert_array_equal(device.distances_along(runs), expected_distances)
    grad = np.random.default_rng(1).integers(-2, 3, size=distances.shape).astype(float)
    for actual, expected in zip(
        device.parameter_gradients(runs, grad), cpu.parameter_gradients(runs, grad), strict=True
    ):
        np.testing.assert_array_equal(actual[..., : device.n_features], expected)
    np.testing.assert_array_equal(
        device.sequence_gradients(runs, grad), cpu.sequence_gradients(runs, grad)
    )
    np.testing.assert_allclose(
        device.barycenters(runs, np.abs(grad) + 1), cpu.barycenters(runs, np.abs(grad) + 1),
        rtol=0, atol=2 * np.finfo(PROBLEMS[kind][0]).eps,
    )  # fmt: skip


@pytest.mark.slow
@KINDS
@DIAGONAL
@settings(max_examples=25)
@given(shapes=SHAPES, seed=st.integers(0, 2**32), integers=st.booleans())
@example(shapes=SMALLEST, seed=0, integers=True)
def test_gradients_are_those_of_the_reference(kind, diagonal, shapes, seed, integers):
    arrays = draw_for(kind, shapes, seed, integers)
    device = Device(kind, *arrays)
    _, runs = device.paths(diagonal)
    grad = np.random.default_rng(seed).integers(-3, 4, size=runs.shape[:2]).astype(float)
    gradients = device.parameter_gradients(runs, grad)
    by_frames = device.sequence_gradients(runs, grad)
    for gradient in gradients:  # the padding stays 0
        assert (gradient[..., device.n_features :] == 0).all()
    twice = device.parameter_gradients(runs, grad, out=[array.copy() for array in gradients])
    for one, two in zip(gradients, twice, strict=True):
        np.testing.assert_array_equal(2 * one, two)

    # Each result sums runs of 4 sequences of 65 frames or 17 centroids of 17 time steps.
    roundings = 0 if integers else 2 * 17 * 17 * np.finfo(PROBLEMS[kind][0]).eps
    by_parameters = (gradient[..., : device.n_features] for gradient in gradients)
    assert_gradients_of_the_reference((*by_parameters, by_frames), arrays, runs, grad, roundings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "n_frames"), [("float32", 33), ("float32", 3), ("float16", 3), ("float64", 3)]
)
@pytest.mark.parametrize("n_features", [1, 2, 12, 48, 64, 65, 100, 255, 256, 257, 1459, 6328])
def test_errors_stay_within_twice_those_of_numpy(kind, n_frames, n_features):
    real = PROBLEMS[kind][0]
    errors, errors_along, numpy_errors = [], [], []
    n_pairs = 200 if n_features < 1000 else 60
    for seed in range(n_pairs // n_frames):
        shapes = ([n_frames] * 4, 4, (n_frames + 1) // 2, n_features)
        arrays = draw_for(kind, shapes, seed, integers=False)
        values, starts, lengths, centroids, weights = arrays
        device = Device(kind, *arrays)
        distances, runs = device.paths(False)
        along = device.distances_along(runs)
        for s, x in enumerate(sequences_of(values, starts, lengths)):
            pair = x, centroids[s], weights[s]
            path = cells(runs[s, s])
            exact = distance_in(np.longdouble, *pair, path)
            errors.append(abs(distances[s, s] - exact) / exact)
            errors_along.append(abs(along[s, s] - exact) / exact)
            numpy_errors.append(abs(distance_in(real, *pair, path) - exact) / exact)
    assert np.mean(errors) <= 2 * np.mean(numpy_errors)
    assert np.mean(errors_along) <= 2 * np.mean(numpy_errors)


@pytest.mark.slow
@KINDS
@DIAGONAL
@settings(max_examples=15)
@given(shapes=SHAPES, seed=st.integers(0, 2**32))
def test_barycenters_are_weighted_means_of_matched_frames(kind, diagonal, shapes, seed):
    arrays = draw_for(kind, shapes, seed, integers=True)
    values, starts, lengths, centroids, weights = arrays
    device = Device(kind, *arrays)
    _, runs = device.paths(diagonal)
    rng = np.random.default_rng(seed)
    sample_weights = rng.integers(0, 4, size=runs.shape[:2]).astype(float)
    sample_weights[0] += 1
    means = device.barycenters(runs, sample_weights)
    pool = sequences_of(values, starts, lengths)
    for k, (c, u) in enumerate(zip(centroids, weights, strict=True)):
        expected = reference.barycenter(pool, c, u, sample_weights[:, k], diagonal)
        eps = np.finfo(PROBLEMS[kind][0]).eps
        np.testing.assert_allclose(means[k], expected, rtol=0, atol=8 * eps)


@KINDS
def test_the_order_of_threads_changes_no_bit(kind):
    """A missing barrier would change results."""
    arrays = draw_for(kind, ([33, 1, 70, 260, 64], 5, 9, 140), 3, integers=False)
    grad = np.random.default_rng(0).standard_normal((5, 5))
    long_arrays = draw_for(kind, ([70, 40], 2, 70, 9), 4, integers=False)

    def everything():
        device = Device(kind, *arrays)
        distances, runs = device.paths(True)
        return (
            distances,
            runs,
            device.distances_along(runs),
            *device.parameter_gradients(runs, grad),
            device.sequence_gradients(runs, grad),
            device.barycenters(runs, np.abs(grad)),
            *Device(kind, *long_arrays).paths(False),
        )

    in_order = everything()
    try:
        for order in (1, 2, 3):
            backend.set_order(order)
            for one, other in zip(in_order, everything(), strict=True):
                np.testing.assert_array_equal(one, other)
    finally:
        backend.set_order(0)


@KINDS
def test_room_behind_rows_changes_no_bit(kind):
    arrays = draw_for(kind, ([33, 5, 12], 3, 4, 21), 5, integers=False)
    narrow, wide = Device(kind, *arrays), Device(kind, *arrays, spare=8)
    for one, other in zip(narrow.paths(True), wide.paths(True), strict=True):
        np.testing.assert_array_equal(one, other)
    _, runs = narrow.paths(True)
    grad = np.ones((3, 3))
    np.testing.assert_array_equal(narrow.distances_along(runs), wide.distances_along(runs))
    np.testing.assert_array_equal(
        narrow.sequence_gradients(runs, grad), wide.sequence_gradients(runs, grad)
    )


@KINDS
@DIAGONAL
def test_paths_stay_on_the_grid_when_costs_are_not_finite(kind, diagonal):
    real, _ = PROBLEMS[kind]
    largest = np.finfo(real).max
    for centroid in (-largest, np.nan):
        values, starts, lengths = np.full((5, 1), 6e4, real), np.zeros(1, np.int64), np.array([5])
        centroids = np.full((1, 40, 1), centroid, real)
        weights = np.full_like(centroids, 4)
        _, runs = Device(kind, values, starts, lengths, centroids, weights).paths(diagonal)
        assert runs.min() >= 0
        assert runs.max() <= 4
        assert (runs[..., 0] <= runs[..., 1]).all()
        assert runs[0, 0, 0, 0] == 0
        assert runs[0, 0, -1, 1] == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("is_relative", [False, True], ids=["in units of a scale", "logarithms"])
def test_adam_is_that_of_the_cpu(dtype, is_relative, rng):
    shape, pitch = (2, 3, 301), pitch_of(301, dtype) + 4
    parameters = rng.uniform(0.5, 2.0, size=shape).astype(dtype)
    scale = None if is_relative else rng.uniform(0.5, 2.0, size=301).astype(dtype)
    moments = np.zeros_like(parameters), np.zeros_like(parameters)
    on_device = [backend.put(aligned(array, pitch)) for array in (parameters, *moments)]
    unit = None if is_relative else backend.put(scale)
    step = getattr(backend.core, f"cuda_adam_step_{np.dtype(dtype).name}")
    for n_steps, learning_rate in enumerate([0.1, 0.05, 0.01], start=1):
        gradients = rng.standard_normal(shape).astype(dtype)
        _core.adam_step(parameters, gradients, *moments, scale, learning_rate, n_steps, 1)
        padded = backend.put(aligned(gradients, pitch))
        step(
            device=0,
            stream=0,
            parameters=backend.pointer(on_device[0]),
            gradients=backend.pointer(padded),
            first_moments=backend.pointer(on_device[1]),
            second_moments=backend.pointer(on_device[2]),
            scale=0 if unit is None else backend.pointer(unit),
            n_rows=6,
            pitch=pitch,
            n_features=301,
            learning_rate=learning_rate,
            n_steps=n_steps,
        )
        for copy, expected in zip(on_device, (parameters, *moments), strict=True):
            actual = backend.get(copy)
            assert (actual[..., 301:] == 0).all()
            eps = np.finfo(dtype).eps
            np.testing.assert_allclose(actual[..., :301], expected, rtol=8 * eps, atol=8 * eps)
