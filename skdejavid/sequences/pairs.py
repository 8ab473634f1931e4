"""Refuse arrays of records, and items that are more than a sequence, such as one and its label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_no_pairs", "check_no_records"]


def check_no_pairs(items: Any) -> None:
    """Refuse a list of tuples that contain a sequence and something else, and name the sequences.

    Raises
    ------
    TypeError
        If the first item is such a tuple.
    """
    if isinstance(items, np.ndarray) and (items.ndim != 1 or items.dtype != object):
        return
    item = items[0]
    if not isinstance(item, (list, tuple)) or len(item) < 2:
        return
    n_axes = [_count_axes(part) for part in item]
    if max(n_axes) < 2 or min(n_axes) == max(n_axes):
        return
    place = n_axes.index(max(n_axes))
    kinds = ", ".join(type(part).__name__ for part in item)
    raise TypeError(
        f"X[0] is a {type(item).__name__} ({kinds}), expected only the sequence: pass "
        f"{_part_of_each(place, len(item))}. {_remedy_of(item)}"
    )


def check_no_records(array: NDArray[Any], name: str) -> None:
    """Refuse an array of records, whose fields are the features.

    Raises
    ------
    TypeError
        If the array is one; the message begins with `name`.
    """
    if array.dtype.names is not None:
        raise TypeError(
            f"{name} is an array of records with the fields {list(array.dtype.names)}: pass "
            f"pandas.DataFrame({name}) if they are the features"
        )


def _count_axes(part: Any) -> int:
    shape = getattr(part, "shape", None)
    if shape is not None:
        return len(shape)
    if not isinstance(part, (list, tuple)):
        return 0
    return 1 + (_count_axes(part[0]) if len(part) else 0)


def _part_of_each(place: int, n_parts: int) -> str:
    if n_parts > 2:
        return f"[item[{place}] for item in X]"
    return "[x for x, _ in X]" if place == 0 else "[x for _, x in X]"


def _remedy_of(item: Any) -> str:
    if any(hasattr(part, "columns") for part in item):
        return (
            "Their columns must be features only, without that of the groups; TSEArray.from_long "
            "reads a table of all groups."
        )
    return "The labels are passed as y."
