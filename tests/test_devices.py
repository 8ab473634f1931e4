"""Public results on each device of this machine, compared with the reference or the CPU."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_core import SHAPES, cells, draw, sequences_of

from skdejavid import DejaVidClassifier, TSEArray, dtw_distances
from skdejavid.backends.registry import make_problem, resolve_device
from skdejavid.datasets import make_order_sequences
from skdejavid.nn import TimeWeightedDTW
from skdejavid.sequences import SequenceView
from skdejavid.training.loss import SoftMinCrossEntropy

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
DIAGONAL = pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])


@DTYPES
@DIAGONAL
@settings(max_examples=30)
@given(shapes=SHAPES, seed=st.integers(0, 2**32))
def test_integers_give_exactly_the_reference(device, dtype, diagonal, shapes, seed):
    arrays = draw(shapes, seed, dtype, integers=True)
    device = resolve_device(device)
    problem = make_problem(SequenceView(*arrays[:3]), *arrays[3:], n_threads=1, device=device)
    distances, runs = problem.paths(diagonal)
    for s, x in enumerate(sequences_of(*arrays[:3])):
        for k, (c, u) in enumerate(zip(*arrays[3:], strict=True)):
            total = reference.totals(reference.cost_matrix(x, c, u), diagonal)
            assert distances[s, k] == total[-1, -1]
            path = reference.walk_back(total, diagonal)
            np.testing.assert_array_equal(cells(runs[s, k]), path)
    np.testing.assert_array_equal(problem.distances_along(runs), distances)


@DTYPES
def test_distances_of_any_sequences_are_those_of_the_cpu(device, dtype, rng):
    X = [rng.standard_normal((n, 70)).astype(dtype) for n in (1, 300, 17, 64)]
    centroids = rng.standard_normal((5, 9, 70)).astype(dtype)
    weights = rng.exponential(size=centroids.shape).astype(dtype)
    actual = dtw_distances(X, centroids, weights, device=device)
    expected = dtw_distances(X, centroids, weights, device="cpu")
    np.testing.assert_allclose(actual, expected, rtol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize("path_refresh", ["batch", "epoch"])
@pytest.mark.parametrize("half_storage", [False, True])
def test_a_fit_is_as_good_and_the_same_each_time(device, path_refresh, half_storage):
    X, y = make_order_sequences(120, noise=0.8, random_state=0)
    X_test, y_test = make_order_sequences(400, noise=0.8, random_state=1)

    def fit(device):
        clf = DejaVidClassifier(
            8, path_refresh=path_refresh, half_storage=half_storage, n_epochs=10,
            random_state=0, device=device,
        )  # fmt: skip
        return clf.fit(X, y)

    first, again, on_cpu = fit(device), fit(device), fit("cpu")
    np.testing.assert_array_equal(first.centroids_, again.centroids_)
    np.testing.assert_array_equal(first.log_weights_, again.log_weights_)
    assert abs(first.score(X_test, y_test) - on_cpu.score(X_test, y_test)) <= 0.02
    np.testing.assert_allclose(
        first.history_["loss"][:2], on_cpu.history_["loss"][:2], rtol=0.01 if half_storage else 1e-3
    )


def test_losses_with_margins_are_those_of_the_cpu(device, rng):
    distances, labels = rng.exponential(size=(9, 3)), rng.integers(3, size=9)
    loss = SoftMinCrossEntropy("global", 2.0, margins=(0.5, 1.0, 1.5))
    (losses, hits), gradients = loss.evaluate(distances, labels)
    on_device = (torch.from_numpy(array).to(device) for array in (distances, labels))
    (actual, more), of_tensors = loss.evaluate(*on_device)
    for tensor, expected in ((actual, losses), (more, hits), (of_tensors, gradients)):
        np.testing.assert_allclose(tensor.cpu().numpy(), expected, rtol=1e-12, atol=1e-15)


def test_the_module_gives_the_gradients_of_the_cpu(device, rng):
    sequences = [torch.from_numpy(rng.standard_normal((n, 13))) for n in (1, 40, 7)]
    parameters = torch.from_numpy(rng.standard_normal((2, 4, 6, 13)))
    gradients = {}
    for name in ("cpu", device):
        matcher = TimeWeightedDTW(*parameters).to(name)
        inputs = [x.detach().to(name).requires_grad_() for x in sequences]
        distances = matcher(inputs)
        (distances * torch.arange(12.0, device=name).reshape(3, 4)).sum().backward()
        tensors = [distances, matcher.centroids.grad, matcher.log_weights.grad]
        gradients[name] = [t.detach().cpu() for t in [*tensors, *(x.grad for x in inputs)]]
    for actual, expected in zip(gradients[device], gradients["cpu"], strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_sequences_of_any_length_and_number_are_taken(device, rng):
    lengths = [1, 5000, 3, *rng.integers(1, 40, size=500).tolist()]
    values = rng.integers(-3, 4, size=(sum(lengths), 3)).astype(np.float32)
    X = TSEArray.from_packed(values, np.concatenate([[0], np.cumsum(lengths)]))
    centroids = rng.integers(-3, 4, size=(2, 600, 3)).astype(np.float32)
    actual = dtw_distances(X, centroids, device=device)
    np.testing.assert_array_equal(actual, dtw_distances(X, centroids, device="cpu"))
