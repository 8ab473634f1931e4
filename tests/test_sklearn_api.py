"""scikit-learn's own checks of estimators; test_meta_estimators.py tests meta-estimators."""

from unittest import SkipTest

import pytest
from sklearn.preprocessing import SplineTransformer, StandardScaler
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skdejavid import (
    DejaVidClassifier,
    Framewise,
    Interpolate,
    Resample,
    TimeDifferences,
    TSEExtractor,
)

# Checks that pass no table to the estimator.
CHECKS_WITHOUT_DATA = [
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]


# One check gives all weight to one class; test_classifier.py tests the warning.
@pytest.mark.filterwarnings("ignore:all samples of class .* have zero weight")
# All checks pass 2-D arrays, of sequences of one frame; test_checks.py tests the warning.
@pytest.mark.filterwarnings("ignore:X is a 2-D array, and each of its")
@parametrize_with_checks(
    [
        DejaVidClassifier(),
        TimeDifferences(),
        Resample(),
        Interpolate(),
        Framewise(StandardScaler()),
        Framewise(SplineTransformer()),  # refuses missing values
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    try:
        check(estimator)
    except SkipTest as error:  # a skipped check proves nothing
        pytest.fail(f"skipped: {error}")


def test_all_of_scikit_learns_checks_apply():
    """They apply only if 2-D arrays are accepted, and some environments skip some of them."""
    assert get_tags(DejaVidClassifier()).input_tags.two_d_array
    assert len(list(estimator_checks_generator(DejaVidClassifier()))) >= 55


def extractor():
    return TSEExtractor(lambda clips: clips.mean(dim=(2, 3, 4)), frame_size=8)


@pytest.mark.parametrize("name", CHECKS_WITHOUT_DATA)
def test_the_extractor_passes_the_checks_that_need_no_data(name):
    """For an estimator that does not accept 2-D arrays, scikit-learn itself runs only the first."""
    getattr(estimator_checks, name)("TSEExtractor", extractor())


def test_the_extractor_says_that_it_takes_no_table_and_need_not_be_fitted():
    tags = get_tags(extractor())
    assert not tags.input_tags.two_d_array
    assert tags.input_tags.string
    assert not tags.requires_fit
