"""NumPy's error state inside of the package."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

__all__ = ["underflow_allowed"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def underflow_allowed(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a public function, in which numbers may become too small for their type.

    A probability, a share of a weight or a moment of a gradient that vanishes is 0 for the result.
    The caller may have asked NumPy to raise an error for that.
    """

    @wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        # Not as a decorator of NumPy, which before version 2 cannot be entered twice.
        with np.errstate(under="ignore"):
            return function(*args, **kwargs)

    return call
