import numpy as np
import pytest

from skdejavid import TSEArray, dtw_distances
from skdejavid.backends import registry
from skdejavid.backends.registry import make_problem, resolve_device
from skdejavid.sequences import SequenceView


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_cpu_is_there(device):
    assert resolve_device(device) == "cpu"


@pytest.mark.fault(46)
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_that_was_asked_for_is_never_replaced(device, monkeypatch):
    def refuse(name):
        raise RuntimeError(f"{name} is not there")

    monkeypatch.setattr(registry, "require_device", refuse)
    with pytest.raises(RuntimeError, match=f"{device} is not there"):
        dtw_distances([np.zeros((1, 1))], np.zeros((1, 1, 1)), device=device)


def test_auto_takes_a_device_for_large_problems_only_and_only_if_it_can(monkeypatch):
    monkeypatch.setattr(registry, "_CROSSOVER", 100)
    monkeypatch.setattr(registry, "require_device", lambda name: 0)
    assert resolve_device("auto", 100) == "cuda:0"
    assert resolve_device("auto", 99) == "cpu"
    assert resolve_device("cpu", 1e9) == "cpu"

    def refuse(name):
        raise RuntimeError("no driver")

    monkeypatch.setattr(registry, "require_device", refuse)
    assert resolve_device("auto", 100) == "cpu"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_unknown_devices_are_refused(device):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:N'"):
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
