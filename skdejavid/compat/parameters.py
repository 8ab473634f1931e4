"""Numbers as parameters: those of NumPy and other libraries become Python's, in this one place.

NumPy's numbers compute in their own width: ``np.uint8(200) + np.uint8(100)`` is 44, and half of a
float16 has eleven bits. As a parameter, a number only has a value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import wraps
from inspect import signature
from numbers import Integral, Real
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np

from skdejavid.compat.sklearn import InvalidParameterError, validate_parameter_constraints

__all__ = ["PythonNumbersMixin", "as_bool", "as_python", "validated"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def as_python(value: Any) -> Any:
    """Return a value in which each number is one of Python's.

    Parameters
    ----------
    value : object
        Integers become int, real numbers become float, and booleans bool, also as arrays without
        dimensions and inside of lists, tuples and dicts. A real number that is too large for a
        float becomes infinity. Anything else is returned as it is.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value  # most are; the checks below are slow
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if type(value) in (list, tuple):
        return type(value)(as_python(item) for item in value)
    if isinstance(value, dict):
        return {as_python(key): as_python(item) for key, item in value.items()}
    return _as_python_scalar(value)


def _as_python_scalar(value: Any) -> Any:
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return value  # times are no numbers, although NumPy counts spans of time as integers
    if isinstance(value, Integral):
        return int(operator.index(value))
    if isinstance(value, Real):
        return _as_float(value)
    return value.item() if isinstance(value, np.generic) else value


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_bool(value: Any, name: str) -> bool:
    """Return an argument of a function that says yes or no as Python's bool.

    Raises
    ------
    TypeError
        If it is anything else, also a number.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def validated(
    constraints: dict[str, list[Any]],
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Return a decorator of functions, which converts and checks the arguments of these names.

    Parameters
    ----------
    constraints : dict
        As `_parameter_constraints` of an estimator.
    """

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        parameters = signature(function)

        @wraps(function)
        def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            bound = parameters.bind(*args, **kwargs)
            given = bound.arguments
            given.update({name: as_python(given[name]) for name in given.keys() & constraints})
            _validate(constraints, given, function.__qualname__)
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


class PythonNumbersMixin:
    """Mixin of estimators: their methods read parameters whose numbers are Python's.

    The attributes of the estimator stay as they were given, as scikit-learn's ``clone`` requires.
    """

    _parameter_constraints: ClassVar[Any]

    def _python_params(self) -> dict[str, Any]:
        """Return all parameters, with Python's numbers."""
        parameters = self.get_params(deep=False)  # type: ignore[attr-defined]
        return {name: as_python(value) for name, value in parameters.items()}

    def _validate_params(self) -> None:
        """Check the parameters; scikit-learn's own method would check NumPy's numbers."""
        _validate(self._parameter_constraints, self._python_params(), type(self).__name__)


def _validate(constraints: Any, values: dict[str, Any], caller_name: str) -> None:
    """Check values; scikit-learn's constraints would take a span of time for an integer."""
    for name, value in values.items():
        if isinstance(value, np.timedelta64):
            raise InvalidParameterError(
                f"The {name!r} parameter of {caller_name} must not be a span of time. Got "
                f"{value!r} instead: pass a number."
            )
    validate_parameter_constraints(constraints, values, caller_name=caller_name)
