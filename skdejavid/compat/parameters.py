"""Numbers as parameters: those of NumPy and other libraries become Python's, in this one place.

NumPy's numbers compute in their own width: ``np.uint8(200) + np.uint8(100)`` is 44, and half of a
float16 has eleven bits. As a parameter, a number only has a value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import wraps
from numbers import Integral, Real
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np

from skdejavid.compat.sklearn import InvalidParameterError, validate_parameter_constraints

__all__ = ["PythonNumbersMixin", "as_bool", "as_int", "as_python", "as_real", "with_python_numbers"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def as_python(value: Any) -> Any:
    """Return a value in which each number is one of Python's.

    Parameters
    ----------
    value : object
        Integers become int, real numbers become float, and booleans bool, also as arrays without
        dimensions and inside of lists, tuples and dicts. Anything else is returned as it is.

    Raises
    ------
    OverflowError
        If a real number is too large for a float.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return value  # times are no numbers, although NumPy counts spans of time as integers
    if isinstance(value, Integral):
        return int(operator.index(value))
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(as_python(item) for item in value)
    if isinstance(value, dict):
        return {as_python(key): as_python(item) for key, item in value.items()}
    return value


def as_int(value: Any, name: str, *, at_least: int) -> int:
    """Return an integer argument of a function as Python's int.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is less than `at_least`.
    """
    number = as_python(value)
    if type(number) is not int:
        raise TypeError(f"{name} must be an int, got {value!r}")
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    return number


def as_real(value: Any, name: str) -> float:
    """Return a numeric argument of a function as Python's float.

    Raises
    ------
    TypeError
        If it is not a real number.
    """
    number = as_python(value)
    if type(number) not in (int, float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(number)


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


def with_python_numbers(
    *names: str,
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Return a decorator of functions, which converts the keyword arguments of these names."""

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @wraps(function)
        def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            for name in kwargs.keys() & set(names):
                kwargs[name] = as_python(kwargs[name])
                _refuse_time(kwargs[name], name, function.__name__)
            return function(*args, **kwargs)

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
        parameters, caller_name = self._python_params(), type(self).__name__
        for name, value in parameters.items():
            _refuse_time(value, name, caller_name)
        validate_parameter_constraints(
            self._parameter_constraints, parameters, caller_name=caller_name
        )


def _refuse_time(value: Any, name: str, caller_name: str) -> None:
    """Refuse a span of time, which scikit-learn's constraints take for an integer."""
    if isinstance(value, np.timedelta64):
        raise InvalidParameterError(
            f"The {name!r} parameter of {caller_name} must not be a span of time. Got {value!r} "
            "instead: pass a number."
        )
