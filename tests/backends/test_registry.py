import ast
import inspect
import textwrap

import numpy as np
import pytest
import reference
import torch

from skdejavid import DejaVidClassifier, TSEArray, dtw_distances, show_versions
from skdejavid.alignment import expand_runs
from skdejavid.backends import registry
from skdejavid.backends.cpu import CpuBackend
from skdejavid.backends.registry import (
    backend_of,
    backend_of_tensor,
    make_problem,
    register_backend,
    registered_backends,
    resolve_device,
)
from skdejavid.datasets import make_order_sequences
from skdejavid.nn import TimeWeightedDTW
from skdejavid.sequences import SequenceView


class ToyProblem:
    def __init__(self, sequences, *parameters):
        values, starts, lengths = sequences
        self.sequences = [values[a : a + n] for a, n in zip(starts, lengths, strict=True)]
        self.parameters = parameters

    def of_pairs(self, function, *arrays):
        return np.array([
            [function(x, *pair) for pair in zip(*self.parameters, *rows, strict=True)]
            for x, *rows in zip(self.sequences, *arrays, strict=True)
        ])  # fmt: skip

    def distances(self, diagonal):
        return self.of_pairs(lambda *pair: reference.dtw_distance(*pair, diagonal))

    def paths(self, diagonal):
        def runs(*pair):
            steps, frames = reference.dtw_path(*pair, diagonal).T
            return [frames[steps == i][[0, -1]] for i in range(steps[-1] + 1)]

        return self.distances(diagonal), self.of_pairs(runs)

    def parameter_gradients(self, runs, grad_distances, out):
        def gradients(x, c, u, own_runs, grad):
            return grad * np.array(reference.gradients_along(x, c, u, expand_runs(own_runs))[:2])

        sums = self.of_pairs(gradients, runs, grad_distances).sum(axis=0)
        out[0][...], out[1][...] = sums[:, 0], sums[:, 1]


class ToyBackend(CpuBackend):
    def resolve(self, device):
        return device

    def problem(self, device, *arrays, n_threads):
        return ToyProblem(*arrays)

    def describe(self):
        return {"made of": "NumPy"}


def test_a_backend_of_few_lines_trains_a_classifier(register, capsys):
    """Registering a backend is all that a new device needs."""
    n_lines = 0
    for part in (ToyProblem, ToyBackend):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        n_lines += tree.end_lineno - tree.lineno + 1
    assert n_lines <= 40
    register("toy", ToyBackend())
    X, y = make_order_sequences(12, random_state=0)
    X = X.astype(np.float64)
    on_toy, on_cpu = (
        DejaVidClassifier(4, dba_max_iter=0, n_epochs=2, random_state=0, device=device).fit(X, y)
        for device in ("toy", "cpu")
    )
    for name in ("centroids_", "log_weights_"):
        np.testing.assert_allclose(getattr(on_toy, name), getattr(on_cpu, name), rtol=1e-9)
    assert on_toy.centroids_.std() > 0
    np.testing.assert_allclose(on_toy.transform(X), on_cpu.transform(X), rtol=1e-9)
    assert not np.array_equal(on_toy.transform(X), on_cpu.transform(X))  # summed in another order
    actual = dtw_distances(X, [X[0]], device="toy:1")
    np.testing.assert_allclose(actual, dtw_distances(X, [X[0]]), rtol=1e-12)
    show_versions()
    assert "TOY\n  made of: NumPy" in capsys.readouterr().out


def test_a_derived_backend_does_not_compute_on_tensors_that_it_does_not_own(register):
    register("toy", ToyBackend())
    matcher = TimeWeightedDTW(torch.zeros(2, 3, 4))
    assert backend_of_tensor(matcher.centroids) is backend_of("cpu")
    assert matcher([torch.ones(5, 4)]).tolist() == [[20.0, 20.0]]


def test_tensors_are_computed_on_by_the_last_registered_backend_that_owns_them(register):
    class Owner(CpuBackend):
        def owns(self, tensor):
            return len(tensor) == 1

    register("first", Owner())
    last = register("last", Owner())
    assert backend_of_tensor(torch.zeros(1)) is last
    assert backend_of_tensor(torch.zeros(2)) is backend_of("cpu")


def test_backends_may_be_registered_while_the_owner_of_a_tensor_is_searched(register):
    class Busy(CpuBackend):
        def owns(self, tensor):
            register("another", CpuBackend())  # as another thread might
            return False

    register("busy", Busy())
    assert backend_of_tensor(torch.zeros(1)) is backend_of("cpu")


def test_an_unknown_device_is_refused_with_the_names_of_all_backends(register):
    register("toy", CpuBackend())
    with pytest.raises(ValueError, match=r"one of 'cpu', 'cuda', 'toy', .* got 'tpu:0'"):
        backend_of("tpu:0")


def test_a_backend_can_be_replaced_and_removed():
    first, second = CpuBackend(), CpuBackend()
    assert register_backend("toy", first) is None
    assert register_backend("toy", second) is first
    assert backend_of("toy:3") is registered_backends()["toy"] is second
    assert register_backend("toy", None) is second
    assert register_backend("toy", None) is None
    with pytest.raises(ValueError, match="device must be"):
        backend_of("toy")


@pytest.mark.parametrize("name", ["auto", "", "cuda:0", "a b"])
def test_names_of_backends_are_unambiguous(name):
    with pytest.raises(ValueError, match="name must be an identifier other than 'auto'"):
        register_backend(name, CpuBackend())


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_cpu_is_there(device):
    assert resolve_device(device) == "cpu"


class Unusable(CpuBackend):
    error = RuntimeError

    def resolve(self, device):
        raise self.error(f"{device} is not there")


class WithoutTorch(Unusable):
    error = ImportError


class Usable(CpuBackend):
    def resolve(self, device):
        return device


@pytest.mark.fault(46)
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_that_was_asked_for_is_never_replaced(device, register):
    register("cuda", Unusable())
    with pytest.raises(RuntimeError, match=f"{device} is not there"):
        dtw_distances([np.zeros((1, 1))], np.zeros((1, 1, 1)), device=device)


def test_auto_takes_a_device_for_large_problems_only_and_only_if_it_can(register, monkeypatch):
    monkeypatch.setattr(registry, "_CROSSOVER", 100)
    register("cuda", Usable())
    assert resolve_device("auto", 100) == "cuda:0"
    assert resolve_device("auto", 99) == "cpu"
    assert resolve_device("cpu", 1e9) == "cpu"
    for backend in (Unusable(), WithoutTorch()):
        register("cuda", backend)
        assert resolve_device("auto", 100) == "cpu"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "", None])
def test_unknown_devices_are_refused(device):
    with pytest.raises(ValueError, match="device must be 'auto' or one of 'cpu', 'cuda', with"):
        resolve_device(device)


def test_a_problem_reads_the_memory_it_was_given(rng):
    X = TSEArray(rng.standard_normal((2, 3, 4)))
    centroids = rng.standard_normal((1, 2, 4))
    problem = make_problem(X.view(), centroids, np.ones_like(centroids), n_threads=1)
    before = problem.distances(False)
    centroids += 1.0
    assert not np.array_equal(problem.distances(False), before)


@pytest.mark.fault(35)
def test_parameters_of_more_than_two_to_the_31_numbers():
    """Nearly all are zeros, for which the operating system does not allocate memory."""
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
