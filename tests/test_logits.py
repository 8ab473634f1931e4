import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skdejavid.logits import choose_normalization, deviations, distances_to_logits

DISTANCES = hnp.arrays(
    float, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1), elements=st.floats(0.1, 1e6)
)


@pytest.mark.parametrize(
    ("normalize", "n_classes", "chosen"),
    [
        ("auto", 1, "global"),
        ("auto", 2, "global"),
        ("auto", 3, "layer"),
        ("layer", 2, "layer"),
        ("global", 9, "global"),
    ],
)
def test_standardizing_is_for_three_classes_or_more(normalize, n_classes, chosen):
    assert choose_normalization(normalize, n_classes) == chosen


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


@given(DISTANCES, st.sampled_from(["layer", "global"]))
def test_torch_computes_what_numpy_computes(distances, normalization):
    mine = distances_to_logits(torch.from_numpy(distances), normalization, 2.5).numpy()
    # Rounding of the mean is all that differs; "layer" divides it by a spread of 1e-7 at least.
    atol = 100 * np.finfo(float).eps * max(distances.max(), 1e7)
    expected = distances_to_logits(distances, normalization, 2.5)
    np.testing.assert_allclose(mine, expected, rtol=1e-9, atol=atol)


@pytest.mark.parametrize("normalization", ["layer", "global"])
def test_equal_distances_give_zero_logits_and_finite_gradients(normalization):
    distances = torch.full((2, 4), 7.0, dtype=torch.float64, requires_grad=True)
    logits = distances_to_logits(distances, normalization, 1.0)
    assert (logits == 0).all()
    logits[:, 0].sum().backward()
    assert torch.isfinite(distances.grad).all()


def test_differences_within_rounding_are_not_blown_up():
    """Distances that agree to 9 digits are a tie in float32, not a deviation of 1."""
    nearly = np.array([[1e3, 1e3 + 1e-6, 1e3 - 1e-6]])
    assert np.abs(distances_to_logits(nearly, "layer", 1.0)).max() < 0.02


def test_deviations_are_unbiased(rng):
    distances = rng.exponential(size=(6, 4))
    np.testing.assert_allclose(deviations(distances), [np.std(d, ddof=1) for d in distances])
    assert (deviations(distances[:, :1]) == 0).all()
