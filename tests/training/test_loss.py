import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skdejavid.training.loss import LOGIT_SCALINGS, SoftMinCrossEntropy, deviations

DISTANCES = hnp.arrays(
    float, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1), elements=st.floats(0.1, 1e6)
)


def test_logits_by_sample_are_standardized_distances(rng):
    distances = rng.exponential(size=(20, 5))
    logits = SoftMinCrossEntropy("sample", 1.0).logits(distances)
    for row, expected in zip(logits, distances, strict=True):
        np.testing.assert_allclose(row, reference.standardize(expected), rtol=1e-9)


def test_global_logits_are_distances_over_one_scale(rng):
    distances = rng.exponential(size=(20, 5))
    logits = SoftMinCrossEntropy("global", 4.0).logits(distances)
    np.testing.assert_allclose(np.diff(logits), -np.diff(distances) / 4.0, rtol=1e-12)
    np.testing.assert_allclose(logits.mean(axis=1), 0, atol=1e-12)


@given(DISTANCES, st.sampled_from(LOGIT_SCALINGS))
def test_logits_are_finite_and_rank_as_the_distances_do(distances, logit_scaling):
    logits = SoftMinCrossEntropy(logit_scaling, 2.5).logits(distances)
    assert np.isfinite(logits).all()
    order = np.argsort(distances, axis=1)
    assert (np.diff(np.take_along_axis(logits, order, axis=1)) <= 0).all()


@pytest.mark.parametrize("logit_scaling", LOGIT_SCALINGS)
@pytest.mark.parametrize("n_classes", [2, 3, 50])
def test_losses_and_gradients_are_those_of_automatic_differentiation(logit_scaling, n_classes, rng):
    values, labels = rng.exponential(size=(20, n_classes)), rng.integers(n_classes, size=20)
    distances = torch.tensor(values, requires_grad=True)
    mean = distances.mean(dim=1, keepdim=True)
    divisor = distances.std(dim=1, keepdim=True) if logit_scaling == "sample" else 2.5
    expected = torch.nn.functional.cross_entropy(
        (mean - distances) / divisor, torch.from_numpy(labels), reduction="none"
    )
    expected.sum().backward()
    (losses, hits), gradients = SoftMinCrossEntropy(logit_scaling, 2.5).evaluate(values, labels)
    np.testing.assert_array_equal(hits, values.argmin(axis=1) == labels)
    np.testing.assert_allclose(losses, expected.detach().numpy(), rtol=1e-12)
    if logit_scaling == "sample" and n_classes == 2:
        # Every standardized distance is +-0.7071.
        assert (gradients == 0).all()
    else:
        np.testing.assert_allclose(gradients, distances.grad.numpy(), rtol=1e-9, atol=1e-12)


MARGINS = (0.25, 1.0, 3.0)


@pytest.mark.fault(102)
@pytest.mark.parametrize("logit_scaling", LOGIT_SCALINGS)
def test_a_margin_is_a_temperature_and_a_factor_of_the_loss(logit_scaling, rng):
    values, labels = rng.exponential(size=(30, 3)), rng.integers(3, size=30)
    distances = torch.tensor(values, requires_grad=True)
    divisor = distances.std(dim=1, keepdim=True) if logit_scaling == "sample" else 2.5
    margins = torch.tensor(MARGINS, dtype=torch.float64)[labels]
    logits = (distances.mean(dim=1, keepdim=True) - distances) / divisor / margins[:, None]
    expected = margins * torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(labels), reduction="none"
    )
    expected.sum().backward()
    loss = SoftMinCrossEntropy(logit_scaling, 2.5, margins=MARGINS)
    (losses, hits), gradients = loss.evaluate(values, labels)
    np.testing.assert_array_equal(hits, values.argmin(axis=1) == labels)
    np.testing.assert_allclose(losses, expected.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(gradients, distances.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.fault(102)
@pytest.mark.parametrize("margin", [0.25, 2.0, 16.0])
def test_distances_that_are_a_margin_times_as_far_apart_have_the_same_slope(margin, rng):
    distances, labels = rng.exponential(size=(20, 3)), rng.integers(3, size=20)
    (losses, _), gradients = SoftMinCrossEntropy("global", 1.0).evaluate(distances, labels)
    loss = SoftMinCrossEntropy("global", 1.0, margins=(margin,) * 3)
    (wider, _), slopes = loss.evaluate(margin * distances, labels)
    np.testing.assert_allclose(wider, margin * losses, rtol=1e-12)
    np.testing.assert_allclose(slopes, gradients, rtol=1e-9)


@pytest.mark.fault(102)
@pytest.mark.parametrize("logit_scaling", LOGIT_SCALINGS)
def test_margins_of_one_are_no_margins_to_the_bit(logit_scaling, rng):
    distances, labels = rng.exponential(size=(20, 3)), rng.integers(3, size=20)
    ones = SoftMinCrossEntropy(logit_scaling, 2.5, margins=(1.0,) * 3)
    (losses, _), gradients = ones.evaluate(distances, labels)
    (expected, _), slopes = SoftMinCrossEntropy(logit_scaling, 2.5).evaluate(distances, labels)
    np.testing.assert_array_equal(losses, expected)
    np.testing.assert_array_equal(gradients, slopes)


def test_margins_do_not_change_logits_and_outlive_a_new_scale(rng):
    distances = rng.exponential(size=(5, 3))
    loss = SoftMinCrossEntropy("global", margins=MARGINS).calibrate(lambda function: 2.5)
    assert loss.margins == loss.with_scale(1.0).margins == MARGINS
    plain = SoftMinCrossEntropy("global", 2.5)
    np.testing.assert_array_equal(loss.logits(distances), plain.logits(distances))


@pytest.mark.parametrize("logit_scaling", LOGIT_SCALINGS)
def test_equal_distances_give_zero_logits_and_finite_gradients(logit_scaling):
    distances = np.full((2, 4), 7.0)
    loss = SoftMinCrossEntropy(logit_scaling, 1.0)
    assert (loss.logits(distances) == 0).all()
    (losses, _), gradients = loss.evaluate(distances, np.array([0, 3]))
    np.testing.assert_allclose(losses, np.log(4))
    assert np.isfinite(gradients).all()


def test_losses_of_distances_far_apart_are_finite():
    distances = np.array([[0.0, 1e300], [1e300, 0.0]])
    (losses, _), gradients = SoftMinCrossEntropy("global", 1e290).evaluate(
        distances, np.array([0, 0])
    )
    np.testing.assert_allclose(losses, [0.0, 1e10])
    np.testing.assert_allclose(gradients, [[0, 0], [1e-290, -1e-290]], atol=1e-300)


def test_differences_within_rounding_are_not_blown_up():
    """Distances that agree to 9 digits are a tie in float32, not a deviation of 1."""
    nearly = np.array([[1e3, 1e3 + 1e-6, 1e3 - 1e-6]])
    assert np.abs(SoftMinCrossEntropy("sample", 1.0).logits(nearly)).max() < 0.02


def test_deviations_are_unbiased(rng):
    distances = rng.exponential(size=(6, 4))
    np.testing.assert_allclose(deviations(distances), [np.std(d, ddof=1) for d in distances])
    assert (deviations(distances[:, :1]) == 0).all()


def test_a_scale_is_measured_once_in_units_of_the_temperature():
    measured = SoftMinCrossEntropy("global", temperature=0.5).calibrate(lambda function: 3.0)
    assert measured.scale == 1.5
    assert measured.calibrate(None).scale == 1.5
    assert SoftMinCrossEntropy("global").calibrate(lambda function: 0.0).scale == 1.0
    assert SoftMinCrossEntropy("sample", temperature=0.5).calibrate(None).scale == 1.0


@pytest.mark.parametrize("logit_scaling", LOGIT_SCALINGS)
@pytest.mark.parametrize("n_classes", [1, 2, 3])
@pytest.mark.parametrize("has_margins", [False, True])
def test_tensors_give_what_arrays_give(logit_scaling, n_classes, has_margins, rng):
    distances, labels = rng.exponential(size=(7, n_classes)), rng.integers(n_classes, size=7)
    margins = MARGINS[:n_classes] if has_margins else None
    loss = SoftMinCrossEntropy(logit_scaling, 2.0, margins=margins)
    (losses, hits), gradients = loss.evaluate(distances, labels)
    (tensors, more), of_tensors = loss.evaluate(*map(torch.from_numpy, (distances, labels)))
    for actual, expected in ((tensors, losses), (more, hits), (of_tensors, gradients)):
        assert actual.dtype == torch.float64
        np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12, atol=1e-15)
