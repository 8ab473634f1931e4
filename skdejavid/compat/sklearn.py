"""Private functions and classes of scikit-learn, which no other module imports directly.

They may move in any release of scikit-learn; then only this module must change.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads as effective_n_threads
from sklearn.utils._param_validation import (
    HasMethods,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._param_validation import Interval as _Interval
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_n_features as check_n_features
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "check_feature_names_in",
    "check_n_features",
    "check_sample_weight",
    "effective_n_threads",
    "validate_parameter_constraints",
]


class Interval(_Interval):
    """scikit-learn's interval of numbers, without bools and what is too large for a float."""

    def is_satisfied_by(self, val: Any) -> bool:
        if isinstance(val, (bool, np.bool_)):
            return False
        return super().is_satisfied_by(val) and abs(val) <= sys.float_info.max
