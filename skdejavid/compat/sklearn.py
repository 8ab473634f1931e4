"""Private functions and classes of scikit-learn, which no other module imports directly.

They may move in any release of scikit-learn; then only this module must change.
"""

from __future__ import annotations

from sklearn.utils._openmp_helpers import _openmp_effective_n_threads as effective_n_threads
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions, validate_params
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "HasMethods",
    "Interval",
    "StrOptions",
    "check_feature_names_in",
    "check_sample_weight",
    "effective_n_threads",
    "validate_params",
]
