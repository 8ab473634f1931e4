"""The cost is written in one native place, and another cost is another version of that file."""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import reference
from codebase import cost_files, native_files_with
from test_core import (
    INSTRUCTION_SETS,
    assert_gradients_of_the_reference,
    cells,
    draw,
    sequences_of,
)
from test_cuda_kernels import KINDS, Device, Emulation, draw_for

from skdejavid import _core

ROOT = Path(__file__).parents[1]
NATIVE = ROOT / "src_cuda"
SQUARED = ROOT / "tests" / "squared_cost"
DIAGONAL = pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])


def test_one_native_file_writes_the_cost():
    assert cost_files(ROOT) == {"cost_term.hpp"}


def test_no_other_native_file_subtracts_frames_from_centroids():
    """Barycenters do: they are means of differences, not costs."""

    def subtracts(statement):
        statement = re.sub(r"\bn_\w+", "", statement)  # numbers of them
        has_both = re.search(r"centroid|\bvalues\[|\brows\[", statement) and "frame" in statement
        return has_both and re.search(r"[\w)\]] - [^-]", statement)

    assert native_files_with(ROOT, subtracts) == {
        "cost_term.hpp",
        "barycenters.hpp",
        "barycenter_kernel.cuh",
    }


@pytest.fixture(scope="module")
def squared_sources(tmp_path_factory):
    """The native code with `cost_term.hpp`, and nothing else, replaced."""
    sources = tmp_path_factory.mktemp("native") / "src_cuda"
    shutil.copytree(NATIVE, sources)
    shutil.copy(SQUARED / "cost_term.hpp", sources)
    return sources


class CpuProblem(ctypes.Structure):
    """`skdejavid::Problem`, with the methods of `_core.ProblemFloat32` and `ProblemFloat64`."""

    _fields_ = (
        ("values", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("n_sequences", ctypes.c_int64),
        ("n_features", ctypes.c_int64),
        ("centroids", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("n_centroids", ctypes.c_int64),
        ("n_timesteps", ctypes.c_int64),
        ("n_features_of_centroids", ctypes.c_int64),
        ("n_threads", ctypes.c_int),
    )

    def __init__(self, library, *arrays):
        values, starts, lengths, centroids, weights = arrays
        pointers = (array.ctypes.data for array in (values, starts, lengths))
        super().__init__(*pointers, len(starts), values.shape[1])
        self.centroids, self.weights = centroids.ctypes.data, weights.ctypes.data
        self.n_centroids, self.n_timesteps, self.n_features_of_centroids = centroids.shape
        self.n_threads = 1
        self.library, self.arrays = library, arrays
        self.pairs = len(starts), len(centroids)

    def _call(self, function, *arguments):
        pointers = (a if isinstance(a, bool) else ctypes.c_void_p(a.ctypes.data) for a in arguments)
        name = f"{function}_{self.arrays[0].dtype.name}"
        getattr(self.library, name)(ctypes.byref(self), *pointers)

    def paths(self, diagonal):
        distances = np.full(self.pairs, np.nan)
        runs = np.full((*self.pairs, self.n_timesteps, 2), -9, np.int32)
        self._call("align", diagonal, distances, runs)
        return distances, runs

    def distances_along(self, runs):
        distances = np.full(self.pairs, np.nan)
        self._call("distances_along", runs, distances)
        return distances

    def parameter_gradients(self, runs, grad):
        targets = tuple(np.full_like(array, np.nan) for array in self.arrays[3:])
        self._call("parameter_gradients", runs, grad, *targets)
        return targets

    def sequence_gradients(self, runs, grad):
        values, _, lengths, *_ = self.arrays
        target = np.full((lengths.sum(), values.shape[1]), np.nan, values.dtype)
        self._call("sequence_gradients", runs, grad, target)
        return target


def cpu_library(sources, instruction_set, folder):
    """Compile the CPU backend for one instruction set."""
    options = re.search(
        rf'align_{instruction_set}\.cpp PROPERTIES\s+COMPILE_OPTIONS "(.+?)"',
        (ROOT / "CMakeLists.txt").read_text(),
    )
    flags = ["-std=c++17", "-O1", "-ffp-contract=fast", "-fno-math-errno", "-pthread"]
    flags += options[1].split(";") if options else []
    units = [SQUARED / "cpu_entry.cpp"]
    names = f"cpu/align_{instruction_set}.cpp", "cpu/parallel.cpp", "out_of_memory.cpp"
    units += [sources / name for name in names]
    target = folder / f"{instruction_set}.so"
    command = [os.environ.get("CXX", "c++"), *flags, f"-DINSTRUCTION_SET={instruction_set}"]
    command += ["-I", str(sources), "-shared", "-fPIC", *map(str, units), "-o", str(target)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


@pytest.fixture(scope="module", params=["baseline", "best"])
def squared_cpu(request, squared_sources, tmp_path_factory):
    """The CPU backend with squared differences, for two instruction sets."""
    instruction_set = _core.cpu_instruction_set if request.param == "best" else request.param
    assert instruction_set in INSTRUCTION_SETS
    return cpu_library(squared_sources, instruction_set, tmp_path_factory.mktemp("cpu"))


def assert_squared_reference(problem, arrays, diagonal, n_features):
    """Distances, paths and gradients of integers are exactly those of the reference."""
    values, starts, lengths, centroids, weights = arrays
    distances, runs = problem.paths(diagonal)
    for s, x in enumerate(sequences_of(values, starts, lengths)):
        for k, (c, u) in enumerate(zip(centroids, weights, strict=True)):
            cost = reference.cost_matrix(x, c, u, reference.SQUARED)
            total = reference.totals(cost, diagonal)
            assert distances[s, k] == total[-1, -1]
            np.testing.assert_array_equal(cells(runs[s, k]), reference.walk_back(total, diagonal))
    np.testing.assert_array_equal(problem.distances_along(runs), distances)
    grad = np.random.default_rng(1).integers(-2, 3, size=distances.shape).astype(float)
    by_parameters = (array[..., :n_features] for array in problem.parameter_gradients(runs, grad))
    gradients = *by_parameters, problem.sequence_gradients(runs, grad)
    assert_gradients_of_the_reference(gradients, arrays, runs, grad, 0, reference.SQUARED)


# Few features, tiles, several blocks of features, narrow and wide strips, and long sums.
CPU_SIZES = [
    ([1], 1, 1, 1),
    ([7, 1, 35, 3], 9, 5, 3),
    ([33, 20, 2], 5, 8, 12),
    ([13, 6, 50], 5, 4, 65),
    ([13, 6, 5], 5, 3, 1030),
    ([4], 2, 4, 2049),
    ([300, 20], 2, 2, 70),
]


@pytest.mark.slow
@DIAGONAL
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("shapes", CPU_SIZES, ids=str)
def test_squared_differences_on_the_cpu_are_those_of_the_reference(
    squared_cpu, shapes, dtype, diagonal
):
    arrays = draw(shapes, 0, dtype, integers=True)
    assert_squared_reference(CpuProblem(squared_cpu, *arrays), arrays, diagonal, shapes[-1])


# One and several packs, stages, strips of features, strips of time steps, and parts of frames.
CUDA_SIZES = [
    ([1], 1, 1, 1),
    ([7, 1, 35, 3], 5, 5, 3),
    ([70, 3], 2, 33, 12),
    ([31, 64], 2, 9, 65),
    ([3, 2], 2, 2, 300),
]


@pytest.mark.slow
@KINDS
@DIAGONAL
@pytest.mark.parametrize("shapes", CUDA_SIZES, ids=str)
def test_squared_differences_in_cuda_kernels_are_those_of_the_reference(
    squared_sources, shapes, kind, diagonal
):
    arrays = draw_for(kind, shapes, 0, integers=True)
    device = Device(kind, *arrays, on=Emulation(squared_sources))
    assert_squared_reference(device, arrays, diagonal, shapes[-1])
