import numpy as np
import pytest
import reference
import torch

from skdejavid import TSEArray, dtw_distances
from skdejavid.backends.registry import make_problem
from skdejavid.nn import TimeWeightedDTW, distances_along_paths

DIAGONAL = pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])


@pytest.fixture(params=["cpu", "emulated CUDA"], autouse=True)
def choose_device(request):
    """Whatever holds of the module holds on both."""
    if request.param != "cpu":
        request.getfixturevalue("emulated_cuda")


def torch_distances(sequences, centroids, weights, runs):
    """The same in torch's own differentiable expressions, for its autograd to judge."""
    rows = []
    for x, sequence_runs in zip(sequences, runs, strict=True):
        cost = (weights[:, :, None] * (centroids[:, :, None] - x[None, None]).abs()).sum(dim=3)
        on_path = torch.zeros_like(cost)
        for k, path in enumerate(sequence_runs):
            for i, (first, last) in enumerate(path):
                on_path[k, i, first : last + 1] = 1
        rows.append((cost * on_path).sum(dim=(1, 2)))
    return torch.stack(rows)


def draw(rng, dtype=torch.float64):
    def tensor(shape):
        return torch.from_numpy(rng.standard_normal(shape)).to(dtype).requires_grad_()

    sequences = [tensor((n, 5)) for n in (1, 4, 7)]
    return sequences, tensor((3, 4, 5)), tensor((3, 4, 5))


@DIAGONAL
def test_gradients_are_those_of_torch_on_fixed_paths(diagonal, rng):
    sequences, centroids, log_weights = draw(rng)
    matcher = TimeWeightedDTW(centroids, log_weights, diagonal=diagonal)
    coefficients = torch.from_numpy(rng.standard_normal((3, 3)))
    distances = matcher(sequences)
    (distances * coefficients).sum().backward()
    mine = [matcher.centroids.grad, matcher.log_weights.grad, *(x.grad.clone() for x in sequences)]

    X = TSEArray(sequences)
    weights = log_weights.detach().exp()
    problem = make_problem(X.view(), centroids.detach().numpy(), weights.numpy(), n_threads=1)
    _, runs = problem.paths(diagonal)
    for x in sequences:
        x.grad = None
    expected = torch_distances(sequences, centroids, log_weights.exp(), runs)
    torch.testing.assert_close(distances, expected)
    (expected * coefficients).sum().backward()
    theirs = [centroids.grad, log_weights.grad, *(x.grad for x in sequences)]
    for gradient, expected_gradient in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-12)


def test_gradcheck_agrees(rng):
    sequences, centroids, log_weights = draw(rng)
    X = TSEArray(sequences)
    weights = log_weights.detach().exp().requires_grad_()
    values = torch.from_numpy(X.values).requires_grad_()
    problem = make_problem(
        X.view(), centroids.detach().numpy(), weights.detach().numpy(), n_threads=1
    )
    _, runs = problem.paths(False)

    def along(values, centroids, weights):
        view = X.view()._replace(values=values.detach().numpy())
        return distances_along_paths(view, centroids, weights, runs, values=values, n_threads=1)

    assert torch.autograd.gradcheck(along, (values, centroids, weights))


@DIAGONAL
def test_the_module_computes_the_public_distances(diagonal, rng):
    sequences, centroids, log_weights = draw(rng)
    matcher = TimeWeightedDTW(centroids, log_weights, diagonal=diagonal)
    arrays = [x.detach().numpy() for x in sequences]
    expected = dtw_distances(
        arrays, centroids.detach(), log_weights.detach().exp(), diagonal=diagonal
    )
    # The same terms, added up in another order.
    np.testing.assert_allclose(matcher(sequences).detach().numpy(), expected, rtol=1e-14)
    for s, x in enumerate(arrays):
        u = np.exp(log_weights.detach().numpy()[1])
        distance = reference.dtw_distance(x, centroids.detach().numpy()[1], u, diagonal)
        assert expected[s, 1] == pytest.approx(distance, rel=1e-12)


def test_gradients_flow_only_where_they_are_wanted(rng):
    sequences, centroids, _ = draw(rng)
    matcher = TimeWeightedDTW(centroids)
    matcher.log_weights.requires_grad_(False)
    matcher([x.detach() for x in sequences]).sum().backward()
    assert matcher.log_weights.grad is None
    assert matcher.centroids.grad is not None


def test_it_trains_together_with_an_encoder(rng):
    """Two classes that differ in one of many inputs: only a learned encoder can drop the rest."""
    torch.manual_seed(0)
    encoder = torch.nn.Linear(8, 2)
    matcher = TimeWeightedDTW(torch.from_numpy(rng.standard_normal((2, 3, 2))).float())
    X = torch.from_numpy(rng.standard_normal((20, 6, 8))).float()
    y = torch.arange(20) % 2
    X[y == 1, :, 3] += 2.0
    optimizer = torch.optim.Adam([*encoder.parameters(), *matcher.parameters()], lr=0.02)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(-matcher(encoder(X)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_it_is_a_module_like_any_other(rng):
    sequences, centroids, log_weights = draw(rng, torch.float32)
    matcher = TimeWeightedDTW(centroids, log_weights)
    twin = TimeWeightedDTW(torch.zeros(3, 4, 5))
    twin.load_state_dict(matcher.state_dict())
    assert torch.equal(matcher(sequences), twin(sequences))
    assert matcher(sequences).dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(matcher(sequences), twin(sequences))
    matcher.double()
    assert matcher(sequences).dtype == torch.float64


def test_changing_parameters_between_forward_and_backward_is_noticed(rng):
    sequences, centroids, _ = draw(rng)
    matcher = TimeWeightedDTW(centroids)
    loss = matcher(sequences).sum()
    with torch.no_grad():
        matcher.centroids += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([torch.zeros(3, 5), torch.zeros(3, 4)], r"sequences\[1\] must be \(n_frames >= 1, 5\)"),
        ([torch.zeros(0, 5)], r"sequences\[0\] must be"),
        (torch.zeros(3, 5), r"sequences\[0\] must be .* got \(5,\)"),
    ],
)
def test_wrong_shapes_are_named(sequences, message):
    with pytest.raises(ValueError, match=message):
        TimeWeightedDTW(torch.zeros(2, 3, 5))(sequences)


@pytest.mark.parametrize("shapes", [((3, 5), None), ((2, 3, 5), (2, 3, 4))])
def test_parameters_of_wrong_shapes_are_refused(shapes):
    tensors = [None if shape is None else torch.zeros(shape) for shape in shapes]
    with pytest.raises(ValueError, match="centroids and log_weights must be 3-D"):
        TimeWeightedDTW(*tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_precisions_are_refused(dtype):
    with pytest.raises((TypeError, ValueError), match="float32 or float64"):
        TimeWeightedDTW(torch.zeros(2, 3, 4, dtype=dtype))


def test_sequences_may_be_arrays_but_not_none_at_all():
    matcher = TimeWeightedDTW(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="sequences is empty"):
        matcher([])
    assert matcher([np.ones((5, 4), dtype=np.float32)]).tolist() == [[28.0, 28.0]]
