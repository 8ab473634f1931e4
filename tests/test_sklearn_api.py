"""scikit-learn's own checks; test_meta_estimators.py is about where it lets estimators go."""

from unittest import SkipTest

import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skdejavid import (
    DejaVidClassifier,
    Framewise,
    Resample,
    TimeDifferences,
)


# One check gives all weight to one class; that this is said is tested in test_classifier.py.
@pytest.mark.filterwarnings("ignore:all samples of class .* have zero weight")
@parametrize_with_checks(
    [DejaVidClassifier(), TimeDifferences(), Resample(), Framewise(StandardScaler())]
)
def test_scikit_learns_own_checks(estimator, check):
    try:
        check(estimator)
    except SkipTest as error:  # a check that did not run has shown nothing
        pytest.fail(f"skipped: {error}")


def test_all_of_scikit_learns_checks_apply():
    """They apply only to estimators that take 2-D arrays, and skip what an environment lacks."""
    assert get_tags(DejaVidClassifier()).input_tags.two_d_array
    assert len(list(estimator_checks_generator(DejaVidClassifier()))) >= 55
