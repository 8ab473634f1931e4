import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skdejavid.training.loss import cross_entropy, deviations, distances_to_logits

DISTANCES = hnp.arrays(
    float, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1), elements=st.floats(0.1, 1e6)
)


def test_layer_logits_are_standardized_distances(rng):
    distances = rng.exponential(size=(20, 5))
    logits = distances_to_logits(distances, "layer", 1.0)
    for row, expected in zip(logits, distances, strict=True):
        np.testing.assert_allclose(row, reference.standardize(expected), rtol=1e-9)


def test_global_logits_are_distances_over_one_scale(rng):
    distances = rng.exponential(size=(20, 5))
    logits = distances_to_logits(distances, "global", 4.0)
    np.testing.assert_allclose(np.diff(logits), -np.diff(distances) / 4.0, rtol=1e-12)
    np.testing.assert_allclose(logits.mean(axis=1), 0, atol=1e-12)


@given(DISTANCES, st.sampled_from(["layer", "global"]))
def test_logits_are_finite_and_rank_as_the_distances_do(distances, normalization):
    logits = distances_to_logits(distances, normalization, 2.5)
    assert np.isfinite(logits).all()
    order = np.argsort(distances, axis=1)
    assert (np.diff(np.take_along_axis(logits, order, axis=1)) <= 0).all()


@pytest.mark.parametrize("normalization", ["layer", "global"])
@pytest.mark.parametrize("n_classes", [2, 3, 50])
def test_losses_and_gradients_are_those_of_automatic_differentiation(normalization, n_classes, rng):
    values, labels = rng.exponential(size=(20, n_classes)), rng.integers(n_classes, size=20)
    distances = torch.tensor(values, requires_grad=True)
    mean = distances.mean(dim=1, keepdim=True)
    divisor = distances.std(dim=1, keepdim=True) if normalization == "layer" else 2.5
    expected = torch.nn.functional.cross_entropy(
        (mean - distances) / divisor, torch.from_numpy(labels), reduction="none"
    )
    expected.sum().backward()
    losses, gradients = cross_entropy(values, labels, normalization, 2.5)
    np.testing.assert_allclose(losses, expected.detach().numpy(), rtol=1e-12)
    if normalization == "layer" and n_classes == 2:
        # A standardized distance is +-0.7071, whatever it was.
        assert (gradients == 0).all()
    else:
        np.testing.assert_allclose(gradients, distances.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("normalization", ["layer", "global"])
def test_equal_distances_give_zero_logits_and_finite_gradients(normalization):
    distances = np.full((2, 4), 7.0)
    assert (distances_to_logits(distances, normalization, 1.0) == 0).all()
    losses, gradients = cross_entropy(distances, np.array([0, 3]), normalization, 1.0)
    np.testing.assert_allclose(losses, np.log(4))
    assert np.isfinite(gradients).all()


def test_losses_of_distances_far_apart_are_finite():
    distances = np.array([[0.0, 1e300], [1e300, 0.0]])
    losses, gradients = cross_entropy(distances, np.array([0, 0]), "global", 1e290)
    np.testing.assert_allclose(losses, [0.0, 1e10])
    np.testing.assert_allclose(gradients, [[0, 0], [1e-290, -1e-290]], atol=1e-300)


def test_differences_within_rounding_are_not_blown_up():
    """Distances that agree to 9 digits are a tie in float32, not a deviation of 1."""
    nearly = np.array([[1e3, 1e3 + 1e-6, 1e3 - 1e-6]])
    assert np.abs(distances_to_logits(nearly, "layer", 1.0)).max() < 0.02


def test_deviations_are_unbiased(rng):
    distances = rng.exponential(size=(6, 4))
    np.testing.assert_allclose(deviations(distances), [np.std(d, ddof=1) for d in distances])
    assert (deviations(distances[:, :1]) == 0).all()
