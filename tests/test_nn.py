import copy
import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import reference
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skdejavid import DejaVidClassifier, TSEArray, dtw_distances
from skdejavid.backends.registry import make_problem
from skdejavid.nn import TimeWeightedDTW
from skdejavid.sequences.transforms import with_differences

DIAGONAL = pytest.mark.parametrize("diagonal", [False, True], ids=["straight", "diagonal"])


@pytest.fixture(params=["cpu", "emulated CUDA"], autouse=True)
def computed_on(request):
    """All tests are run on both."""
    if request.param != "cpu":
        request.getfixturevalue("emulated_cuda")
    return request.param


def torch_distances(sequences, centroids, weights, runs):
    """Distances along paths in torch's own operations, for its autograd."""
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


@DIAGONAL
@pytest.mark.parametrize("lags", [(), (1, 0.5)], ids=str)
def test_gradients_of_the_module_agree_with_finite_differences(diagonal, lags, rng):
    """The drawn numbers are not near a tie of two paths, where the distance has no gradient."""
    sequences, _, _ = draw(rng)
    shape = 3, 4, 5 * (1 + len(lags))
    centroids, log_weights = (
        torch.from_numpy(rng.standard_normal(shape)).requires_grad_() for _ in range(2)
    )
    matcher = TimeWeightedDTW(centroids, lags=lags, diagonal=diagonal, n_jobs=1)

    def distances(centroids, log_weights, *sequences):
        parameters = {"centroids": centroids, "log_weights": log_weights}
        return torch.func.functional_call(matcher, parameters, (sequences,))

    assert torch.autograd.gradcheck(distances, (centroids, log_weights, *sequences))


@DIAGONAL
def test_the_module_computes_the_public_distances(diagonal, rng, computed_on):
    sequences, centroids, log_weights = draw(rng)
    matcher = TimeWeightedDTW(centroids, log_weights, diagonal=diagonal)
    arrays = [x.detach().numpy() for x in sequences]
    expected = dtw_distances(
        arrays, centroids.detach(), log_weights.detach().exp(), diagonal=diagonal
    )
    # A CUDA device adds the same terms in another order.
    rtol = 0 if computed_on == "cpu" else 1e-14
    np.testing.assert_allclose(matcher(sequences).detach().numpy(), expected, rtol=rtol)
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


@pytest.mark.slow
def test_it_trains_together_with_an_encoder(rng):
    """Two classes differ in one of many inputs; only a trained encoder can drop the others."""
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
        (torch.zeros(3, 5), r"sequences must be .* got 2-D of shape \(3, 5\): pass \[x\]"),
        (torch.zeros(()), r"sequences must be .* got 0-D"),
        ([torch.zeros(5)], r"sequences\[0\] must be .* got \(5,\): pass a list of sequences"),
        ([torch.zeros(1, 2, 5)], r"sequences\[0\] must be .*: pass padded sequences one by one"),
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


def test_precisions_changed_later_are_refused_too():
    matcher = TimeWeightedDTW(torch.zeros(2, 3, 4)).half()
    with pytest.raises(ValueError, match=r"float32 or float64, got torch.float16"):
        matcher([torch.zeros(5, 4)])


def test_a_module_in_half_precision_does_not_become_a_classifier(ragged):
    _, clf = fit(ragged, None)
    with pytest.raises(ValueError, match=r"float32 or float64, got torch.float16"):
        TimeWeightedDTW.from_estimator(clf).half().to_estimator(clf)


def test_weights_are_computed_in_the_precision_of_the_centroids(rng):
    sequences, centroids, log_weights = draw(rng, torch.float32)
    matcher = TimeWeightedDTW(centroids, log_weights.double())
    distances = matcher(sequences)
    torch.testing.assert_close(distances, TimeWeightedDTW(centroids, log_weights)(sequences))
    distances.sum().backward()
    assert matcher.log_weights.grad.dtype == torch.float64


def test_sequences_may_be_arrays_but_not_none_at_all():
    matcher = TimeWeightedDTW(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="sequences is empty"):
        matcher([])
    assert matcher([np.ones((5, 4), dtype=np.float32)]).tolist() == [[20.0, 20.0]]
    matcher.diagonal = False
    assert matcher([np.ones((5, 4), dtype=np.float32)]).tolist() == [[28.0, 28.0]]


@pytest.mark.filterwarnings("error")
def test_read_only_arrays_are_computed_on_without_a_warning(ragged, tmp_path, torch_warnings):
    X, clf = fit(ragged, None)
    np.save(tmp_path / "frames.npy", np.concatenate(X))
    stored = TSEArray.from_packed(
        np.load(tmp_path / "frames.npy", mmap_mode="r"), np.cumsum([0, *map(len, X)])
    )
    assert not stored[0].flags.writeable
    expected = TimeWeightedDTW.from_estimator(clf)(X)
    for array in (clf.centroids_, clf.log_weights_):
        array.flags.writeable = False
    assert torch.equal(TimeWeightedDTW.from_estimator(clf)(stored), expected)


LAGS = pytest.mark.parametrize("lags", [None, (1,), (2, 0.3, 50)], ids=str)


def fit(ragged, lags, dtype=np.float64, **parameters):
    X, y = [x.astype(dtype) for x in ragged[0]], ragged[1]
    clf = DejaVidClassifier(3, differences=lags, n_epochs=2, random_state=0, **parameters)
    return X, clf.fit(X, y)


@LAGS
@DIAGONAL
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_module_from_a_classifier_computes_its_distances(ragged, lags, diagonal, dtype):
    X, clf = fit(ragged, lags, dtype, diagonal=diagonal)
    matcher = TimeWeightedDTW.from_estimator(clf)
    assert matcher.centroids.dtype == torch.from_numpy(X[0]).dtype
    distances = matcher(X).detach().numpy()
    np.testing.assert_allclose(distances, clf.transform(X), rtol=8 * np.finfo(dtype).eps)
    with torch.no_grad():
        matcher.centroids += 1
    assert not np.array_equal(matcher.centroids.detach(), clf.centroids_)


@LAGS
def test_a_trained_module_becomes_a_classifier_again(ragged, lags):
    X, clf = fit(ragged, lags)
    matcher = TimeWeightedDTW.from_estimator(clf)
    optimizer = torch.optim.SGD(matcher.parameters(), lr=0.01)
    before = clf.transform(X)
    loss = torch.nn.functional.cross_entropy(-matcher(X), torch.from_numpy(ragged[1]))
    loss.backward()
    optimizer.step()
    matcher.diagonal = False
    trained = matcher.to_estimator(clf)
    np.testing.assert_allclose(trained.transform(X), matcher(X).detach(), rtol=1e-14)
    assert (trained.predict(X) == clf.classes_[matcher(X).argmin(dim=1)]).all()
    assert not np.array_equal(trained.transform(X), before)
    np.testing.assert_array_equal(clf.transform(X), before)
    with torch.no_grad():
        matcher.centroids += 1
    assert not np.array_equal(matcher.centroids.detach(), trained.centroids_)


LAG = st.integers(1, 12) | st.floats(0.01, 0.99)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    lags=st.lists(LAG, max_size=3),
    seed=st.integers(0, 2**32),
)
def test_sequences_of_any_length_have_the_differences_of_the_classifier(lengths, lags, seed):
    rng = np.random.default_rng(seed)
    X = TSEArray([rng.integers(-3, 4, size=(n, 2)).astype(float) for n in lengths])
    centroids = rng.integers(-3, 4, size=(2, 3, 2 * (1 + len(lags)))).astype(float)
    expected = dtw_distances(with_differences(X, lags), centroids)
    actual = TimeWeightedDTW(centroids, lags=lags)(list(X))
    np.testing.assert_array_equal(actual.detach(), expected)


def test_gradients_flow_through_differences(ragged, rng):
    """Gradients of raw sequences are those that torch's autograd computes through differences."""
    lags = (1, 4, 0.5)
    sequences, _, _ = draw(rng)
    centroids, log_weights = torch.from_numpy(rng.standard_normal((2, 3, 4, 20)))
    matcher = TimeWeightedDTW(centroids, log_weights, lags=lags)
    coefficients = torch.from_numpy(rng.standard_normal((3, 3)))
    (matcher(sequences) * coefficients).sum().backward()

    twins = [x.detach().clone().requires_grad_() for x in sequences]
    expanded = []
    for x in twins:
        parts = [x]
        for lag in lags:
            n = lag if isinstance(lag, int) else max(1, round(lag * len(x)))
            frames = range(len(x))
            later = [min(j + n - n // 2, len(x) - 1) for j in frames]
            parts.append(x[later] - x[[max(j - n // 2, 0) for j in frames]])
        expanded.append(torch.cat(parts, dim=1))
    (TimeWeightedDTW(centroids, log_weights)(expanded) * coefficients).sum().backward()
    for x, twin in zip(sequences, twins, strict=True):
        torch.testing.assert_close(x.grad, twin.grad, rtol=1e-12, atol=1e-12)


def test_classifiers_that_do_not_fit_a_module_are_refused(ragged):
    _, clf = fit(ragged, (1,))
    with pytest.raises(NotFittedError):
        TimeWeightedDTW.from_estimator(DejaVidClassifier())
    with pytest.raises(NotFittedError):
        TimeWeightedDTW(torch.zeros(3, 3, 6)).to_estimator(DejaVidClassifier())
    with pytest.raises(ValueError, match=r"got \(3, 3, 6\), expected \(2, 3, 6\)"):
        TimeWeightedDTW(torch.zeros(2, 3, 6)).to_estimator(clf)
    with pytest.raises(ValueError, match=r"the same lags .* got \(1,\), expected \(2,\)"):
        TimeWeightedDTW(torch.zeros(3, 3, 6), lags=[2]).to_estimator(clf)


def test_lags_are_checked():
    with pytest.raises(ValueError, match=r"lags\[1\] must be an int of at least 1"):
        TimeWeightedDTW(torch.zeros(2, 3, 6), lags=[1, 0])
    with pytest.raises(ValueError, match=r"centroids have 5 features, .* a multiple of 2"):
        TimeWeightedDTW(torch.zeros(2, 3, 5), lags=[1])
    matcher = TimeWeightedDTW(torch.zeros(2, 3, 6), lags=[1])
    with pytest.raises(ValueError, match=r"sequences\[0\] must be \(n_frames >= 1, 3\)"):
        matcher([torch.zeros(4, 6)])


@pytest.mark.slow
def test_without_torch_the_extra_that_brings_it_is_named(tmp_path):
    code = (
        "import sys, skdejavid.classifier\n"
        "sys.modules['torch'] = None\n"
        "try:\n"
        "    import skdejavid.nn\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path)
    expected = "skdejavid.nn needs torch, which is not installed: pip install 'skdejavid[nn]'"
    assert printed.strip() == expected


def functional(matcher):
    """Return distances as a function of centroids, log-weights and sequences."""

    def distances(centroids, log_weights, *sequences):
        parameters = {"centroids": centroids, "log_weights": log_weights}
        return torch.func.functional_call(matcher, parameters, (list(sequences),))

    return distances


@pytest.mark.fault(109)
@DIAGONAL
@pytest.mark.parametrize("lags", [(), (1, 0.5)], ids=str)
def test_second_derivatives_agree_with_finite_differences(diagonal, lags, rng):
    sequences, _, _ = draw(rng)
    centroids, log_weights = (
        torch.from_numpy(rng.standard_normal((3, 4, 5 * (1 + len(lags))))).requires_grad_()
        for _ in range(2)
    )
    matcher = TimeWeightedDTW(centroids, lags=lags, diagonal=diagonal, n_jobs=1)
    inputs = (centroids, log_weights, *sequences)
    assert torch.autograd.gradgradcheck(functional(matcher), inputs)


@pytest.mark.fault(109)
@pytest.mark.parametrize("numbers_per_part", [1, 40, 2**22])
def test_derivatives_of_any_order_are_those_of_torch_on_fixed_paths(
    numbers_per_part, rng, monkeypatch
):
    monkeypatch.setattr("skdejavid.nn._NUMBERS_PER_PART", numbers_per_part)
    sequences, centroids, log_weights = draw(rng)
    matcher = TimeWeightedDTW(centroids, log_weights)
    X = TSEArray(sequences)
    weights = log_weights.detach().exp().numpy()
    problem = make_problem(X.view(), centroids.detach().numpy(), weights, n_threads=1)
    _, runs = problem.paths(True)
    inputs = (centroids, log_weights, *sequences)

    def derivatives(distances):
        found = [distances.pow(2).sum()]
        for _ in range(3):
            gradients = torch.autograd.grad(found[-1], inputs, create_graph=True)
            found.append(sum((gradient**3).sum() for gradient in gradients))
        return found

    mine = derivatives(functional(matcher)(*inputs))
    theirs = derivatives(torch_distances(sequences, centroids, log_weights.exp(), runs))
    torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=0)


@pytest.mark.fault(109)
def test_a_gradient_penalty_reaches_the_weights():
    """One time step and one frame: the distance is sum exp(log_weight) * |x|."""
    torch.manual_seed(0)
    matcher = TimeWeightedDTW(torch.zeros(1, 1, 3).double(), torch.randn(1, 1, 3).double())
    x = torch.rand(1, 3, dtype=torch.float64) + 1

    def gradient_of_penalty(distance, log_weights):
        s = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(distance(s), s, create_graph=True)
        loss = distance(s) + 10 * (gradient.norm() - 1) ** 2
        return torch.autograd.grad(loss, log_weights)[0].flatten()

    mine = gradient_of_penalty(lambda s: matcher([s]).sum(), matcher.log_weights)
    twin = matcher.log_weights.detach().clone().requires_grad_()
    expected = gradient_of_penalty(lambda s: (twin.exp() * s.abs()).sum(), twin)
    torch.testing.assert_close(mine, expected)


def test_first_derivatives_are_the_same_bits_whether_or_not_a_second_follows(rng):
    sequences, centroids, log_weights = draw(rng)
    matcher = TimeWeightedDTW(centroids, log_weights)
    inputs = (matcher.centroids, matcher.log_weights, *sequences)
    loss = matcher(sequences).sum()
    plain = torch.autograd.grad(loss, inputs, retain_graph=True)
    again = torch.autograd.grad(loss, inputs, create_graph=True)
    for gradient, repeated in zip(plain, again, strict=True):
        assert torch.equal(gradient, repeated)


@pytest.mark.fault(109)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.func calls it
def test_the_transforms_of_torch_func_are_right_or_refused(rng):
    sequences, centroids, log_weights = (
        [x.detach() for x in part] if isinstance(part, list) else part.detach()
        for part in draw(rng)
    )
    matcher = TimeWeightedDTW(centroids, log_weights)
    X = torch.from_numpy(rng.standard_normal((3, 4, 5)))

    def distance(x):
        return matcher([x])[0]

    jacobian = torch.autograd.functional.jacobian(distance, X[0])
    torch.testing.assert_close(torch.func.jacrev(distance)(X[0]), jacobian)
    gradient = torch.func.grad(lambda x: distance(x).sum())(X[0])
    torch.testing.assert_close(gradient, jacobian.sum(dim=0))
    torch.testing.assert_close(torch.func.vmap(distance)(X), matcher(X))
    modules = [TimeWeightedDTW(centroids + i, log_weights) for i in range(3)]
    stacked, _ = torch.func.stack_module_state(modules)
    ensemble = torch.func.vmap(
        lambda parameters: torch.func.functional_call(matcher, parameters, (sequences,))
    )(stacked)
    torch.testing.assert_close(ensemble, torch.stack([module(sequences) for module in modules]))
    twice = torch.func.jacrev(torch.func.jacrev(lambda u: functional(matcher)(centroids, u, X[0])))
    hessian = torch.autograd.functional.hessian(
        lambda u: functional(matcher)(centroids, u, X[0]).sum(), log_weights
    )
    torch.testing.assert_close(twice(log_weights)[0].sum(dim=0), hessian)
    with pytest.raises(NotImplementedError, match="is_grads_batched=True or vectorize=True: use"):
        torch.autograd.functional.jacobian(distance, X[0], vectorize=True)
    for forward_mode in (torch.func.jacfwd, torch.func.hessian):
        with pytest.raises(NotImplementedError, match=r"no forward-mode derivatives .*jacrev"):
            forward_mode(distance)(X[0])


def as_read(x):
    """Return the same numbers in many forms."""
    return {
        "tensor": torch.from_numpy(x.copy()),
        "negative strides": x[::-1][::-1].copy()[::-1][::-1],
        "reversed": x[::-1].copy()[::-1],
        "byte order": x.astype(x.dtype.newbyteorder()),
        "lists": x.tolist(),
        "frame": pd.DataFrame(x),
        "columns": np.asfortranarray(x),
        "objects": x.astype(object),
    }


@pytest.mark.fault(119)
@pytest.mark.parametrize("form", as_read(np.ones((1, 1))))
@pytest.mark.parametrize("also_a_tensor", [False, True])
def test_sequences_are_read_as_everywhere_in_the_package(form, also_a_tensor, rng):
    X = rng.standard_normal((2, 4, 3))
    matcher = TimeWeightedDTW(rng.standard_normal((2, 3, 3)))
    first = torch.from_numpy(X[0]) if also_a_tensor else X[0]
    assert torch.equal(matcher([first, as_read(X[1])[form]]), matcher(torch.from_numpy(X)))


@pytest.mark.fault(119)
def test_parameters_are_read_as_everywhere_in_the_package(rng):
    centroids, log_weights = rng.standard_normal((2, 3, 4, 5))
    forms = [
        centroids[:, ::-1].copy()[:, ::-1],
        centroids.astype(">f8"),
        centroids.tolist(),
        torch.from_numpy(centroids),
    ]
    for form in forms:
        matcher = TimeWeightedDTW(form, log_weights[..., ::-1])
        assert torch.equal(matcher.centroids, torch.from_numpy(centroids))
        assert torch.equal(matcher.log_weights, torch.from_numpy(log_weights[..., ::-1].copy()))
    assert TimeWeightedDTW(centroids.astype(">f4")).centroids.dtype == torch.float32
    with pytest.raises(ValueError, match="Complex data not supported: centroids has dtype"):
        TimeWeightedDTW(centroids + 0j)
    with pytest.raises(ValueError, match="Complex data not supported: log_weights has dtype"):
        TimeWeightedDTW(centroids, centroids + 0j)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_sequences_of_any_real_type_are_converted(dtype, rng):
    matcher = TimeWeightedDTW(rng.standard_normal((2, 3, 4)).astype(np.float32))
    x = torch.from_numpy(rng.standard_normal((5, 4)) * 8).to(dtype)
    expected = matcher([x.float()])
    assert torch.equal(matcher([x]), expected)
    assert torch.equal(matcher([x, torch.zeros(1, 4)])[:1], expected)
    if dtype.is_floating_point:
        leaf = x.clone().requires_grad_()
        matcher([leaf]).sum().backward()
        assert leaf.grad.dtype == dtype


def test_autocast_changes_the_encoder_only(rng):
    encoder = torch.nn.Linear(4, 3)
    matcher = TimeWeightedDTW(rng.standard_normal((2, 3, 3)).astype(np.float32))
    X = torch.from_numpy(rng.standard_normal((2, 5, 4))).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded = encoder(X)
        distances = matcher(encoded)
        distances.sum().backward()
    assert encoded.dtype == torch.bfloat16
    assert distances.dtype == torch.float32
    assert torch.equal(distances, matcher(encoded.float()))
    assert encoder.weight.grad.abs().sum() > 0


@pytest.mark.fault(119)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_torchs_own_containers_of_sequences_keep_their_gradients(rng):
    sequences, centroids, _ = draw(rng)
    matcher = TimeWeightedDTW(centroids)
    expected = matcher(sequences)
    objects = np.empty(3, dtype=object)
    for i, x in enumerate(sequences):
        objects[i] = x
    for container in (
        torch.nested.as_nested_tensor(sequences, layout=torch.jagged),
        torch.nested.as_nested_tensor(sequences),
        torch.nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False),
        iter(sequences),
        objects,
        pd.Series(objects),
    ):
        distances = matcher(container)
        assert torch.equal(distances, expected)
        (gradient,) = torch.autograd.grad(distances.sum(), sequences[1])
        assert gradient.abs().sum() > 0


@pytest.mark.fault(119)
@pytest.mark.parametrize(
    ("sequences", "error", "message"),
    [
        ([torch.zeros(3, 5) + 0j], ValueError, r"sequences\[0\] is complex, .*view_as_real"),
        ([np.zeros((3, 5)) + 0j], ValueError, r"Complex data not supported: sequences\[0\]"),
        ([torch.zeros(3, 5), np.zeros((3, 5)) + 0j], ValueError, r"supported: sequences\[1\]"),
        ([torch.zeros(3, 5).to_sparse()], TypeError, r"sequences\[0\] .* use x.to_dense\(\)"),
        ([torch.zeros(3, 5), None], TypeError, r"sequences\[1\] is a NoneType"),
        (["a.mp4"], TypeError, r"sequences\[0\] is a str, .* use TSEExtractor"),
        ({"a": torch.zeros(3, 5)}, TypeError, r"sequences is a dict.*list\(sequences.values"),
        (None, TypeError, "sequences is a NoneType"),
        (np.zeros((3, 5)), ValueError, r"sequences is a table of numbers.* pass \[x\]"),
        (pd.DataFrame(np.zeros((3, 5))), ValueError, r"sequences is a table of numbers"),
        ([np.zeros((3, 5)), np.zeros((2, 4))], ValueError, r"sequences\[1\] has 4 features, but"),
        ([np.ma.zeros((3, 5))], ValueError, r"sequences\[0\] is a masked array"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_argument(sequences, error, message):
    with pytest.raises(error, match=message):
        TimeWeightedDTW(torch.zeros(2, 3, 5))(sequences)


@pytest.mark.fault(119)
def test_sequences_that_already_have_differences_are_named():
    matcher = TimeWeightedDTW(torch.zeros(2, 3, 6), lags=[1])
    with pytest.raises(ValueError, match=r"the module itself appends the differences .* \(1,\)"):
        matcher([torch.zeros(4, 6)])


@pytest.mark.fault(119)
@pytest.mark.parametrize("convert", ["half", "bfloat16"])
def test_a_module_of_half_precision_says_what_to_do(convert):
    matcher = getattr(TimeWeightedDTW(torch.zeros(2, 3, 4)), convert)()
    with pytest.raises(ValueError, match=r"keep this module in float32, matcher.float\(\)"):
        matcher([torch.zeros(5, 4)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_has_no_finite_distance(value, rng):
    sequences, centroids, _ = draw(rng)
    with torch.no_grad():
        sequences[1][2, 3] = value
    is_finite = TimeWeightedDTW(centroids)(sequences).isfinite()
    assert is_finite.tolist() == [[True] * 3, [False] * 3, [True] * 3]


CANNOT_BE_TRACED = "cannot be traced or exported: its paths depend on the values"


@pytest.mark.fault(137)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("wrap", [lambda m: m, torch.nn.Sequential], ids=["alone", "inside"])
def test_what_would_record_the_distances_of_its_example_is_refused(wrap):
    model, X = wrap(TimeWeightedDTW(torch.zeros(2, 3, 4))), torch.ones(2, 5, 4)
    with pytest.raises(RuntimeError, match=CANNOT_BE_TRACED):
        torch.jit.trace(model, (X,))
    with pytest.raises(RuntimeError, match="TimeWeightedDTW cannot be scripted"):
        torch.jit.script(model)
    with pytest.raises(RuntimeError, match=CANNOT_BE_TRACED):
        torch.fx.symbolic_trace(model)
    assert model(X).tolist() == [[20.0, 20.0]] * 2


@pytest.mark.fault(137)
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_and_export_are_refused(mode):
    from torch.fx.experimental.proxy_tensor import make_fx

    matcher, X = TimeWeightedDTW(torch.zeros(2, 3, 4)), torch.ones(2, 5, 4)
    with pytest.raises(RuntimeError, match=CANNOT_BE_TRACED):
        make_fx(matcher, tracing_mode=mode)(X)
    with pytest.raises(RuntimeError, match=CANNOT_BE_TRACED):
        torch.export.export(matcher, (X,), strict=False)


@pytest.mark.fault(137)
def test_tensors_without_values_are_refused():
    from torch._subclasses.fake_tensor import FakeTensorMode

    matcher, X = TimeWeightedDTW(torch.zeros(2, 3, 4)), torch.ones(2, 5, 4)
    meta = copy.deepcopy(matcher).to("meta")
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(X)
    for module, sequences in ((meta, X), (meta, X.to("meta")), (matcher, X.to("meta"))):
        with pytest.raises(RuntimeError, match=r"needs values, but .* to_empty\(device="):
            module(sequences)
    with pytest.raises(RuntimeError, match="needs values"):
        matcher(fake)
    restored = meta.to_empty(device="cpu")
    restored.load_state_dict(matcher.state_dict())
    assert torch.equal(restored(X), matcher(X))


class Encoded(torch.nn.Module):
    """Something to compile before and after the module."""

    def __init__(self, matcher):
        super().__init__()
        self.encoder, self.matcher = torch.nn.Linear(4, 3), matcher

    def forward(self, X):
        return torch.softmax(-3 * self.matcher(torch.relu(self.encoder(X))), dim=1)


@pytest.mark.fault(137)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning")
def test_the_compiler_passes_around_the_module(rng):
    graphs = []

    def backend(graph, example_inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes])
        return graph

    torch._dynamo.reset()
    model = Encoded(TimeWeightedDTW(rng.standard_normal((2, 3, 3)).astype(np.float32)))
    compiled = torch.compile(model, backend=backend)
    X = torch.from_numpy(rng.standard_normal((2, 5, 4))).float()
    assert torch.equal(compiled(X), model(X))
    assert len(graphs) == 2
    compiled(X)[0, 0].backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model(X)[0, 0].backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    for n_frames in (1, 2, 3, 4):
        assert torch.equal(compiled(X[:, :n_frames]), model(X[:, :n_frames]))
    assert len(graphs) <= 4  # for other lengths, once more
    torch._dynamo.reset()


def test_copies_and_saved_modules_compute_the_same(rng):
    sequences, centroids, _ = draw(rng)
    matcher = TimeWeightedDTW(torch.cat([centroids] * 2, dim=2), lags=(2,), diagonal=False)
    expected = matcher(sequences)
    assert torch.equal(copy.deepcopy(matcher)(sequences), expected)
    file = io.BytesIO()
    torch.save(matcher, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(sequences), expected)


@pytest.mark.fault(137)
def test_lists_are_refused_where_data_parallel_would_split_each_sequence(rng):
    sequences, centroids, log_weights = draw(rng)
    matcher = TimeWeightedDTW(centroids, log_weights)
    replica = matcher._replicate_for_data_parallel()  # as DataParallel makes one per device
    replica.centroids, replica.log_weights = matcher.centroids, matcher.log_weights
    with pytest.raises(RuntimeError, match=r"splits every tensor .* use DistributedDataParallel"):
        replica(sequences)
    X = torch.from_numpy(rng.standard_normal((3, 4, 5)))
    assert torch.equal(replica(X), matcher(X))


@pytest.mark.fault(119)
@pytest.mark.parametrize("diagonal", ["no", None, 1], ids=repr)
def test_diagonal_is_yes_or_no(diagonal):
    with pytest.raises(TypeError, match=r"^diagonal must be True or False, got"):
        TimeWeightedDTW(torch.zeros(2, 3, 6), diagonal=diagonal)


@pytest.mark.parametrize("wrap", [make_pipeline, lambda clf: GridSearchCV(clf, {}, cv=2)])
def test_estimators_around_a_classifier_are_refused_with_what_to_pass(wrap, ragged):
    X, y = ragged
    outside = wrap(DejaVidClassifier(n_epochs=1, n_timesteps=3, random_state=0)).fit(X, y)
    message = r"got a (Pipeline|GridSearchCV): .* search.best_estimator_ or pipeline\[-1\]"
    with pytest.raises(TypeError, match=message):
        TimeWeightedDTW.from_estimator(outside)
    with pytest.raises(TypeError, match=message):
        TimeWeightedDTW(torch.zeros(2, 3, 6)).to_estimator(outside)


@pytest.mark.slow
def test_the_module_does_not_load_the_compiler():
    """Importing it takes as long as importing torch."""
    program = "import sys, skdejavid.nn; assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
