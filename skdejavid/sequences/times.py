"""Check that the index of a data frame of pandas, which may be time, agrees with the rows."""

from __future__ import annotations

from typing import Any

__all__ = ["check_index", "check_times"]

# As pandas calls what an index contains; an index of numbers may only count rows.
_TIMES = {"datetime64", "datetime", "date", "timedelta64", "timedelta", "period"}


def check_index(frame: Any, name: str) -> None:
    """Check the times of a table's rows, if it has an index whose last level is one of times.

    Raises
    ------
    ValueError
        If they are not in ascending order; the message begins with `name`, that of the table.
    """
    index = getattr(frame, "index", None)
    if getattr(index, "nlevels", 1) > 1:
        index = frame.index.get_level_values(-1)
    if getattr(index, "inferred_type", None) in _TIMES:
        remedy = f". If the rows are in order, remove the index, with {name}.reset_index(drop=True)"
        check_times(index, name, name, remedy)


def check_times(times: Any, name: str, table: str, remedy: str = "") -> None:
    """Check that an index increases strictly.

    Parameters
    ----------
    times : index of pandas
    name : str
        The sequence that has these times, for messages.
    table : str
        What has to be sorted, for messages.
    remedy : str, optional
        The end of messages.

    Raises
    ------
    ValueError
        If a time is missing, earlier than the one before, or the same.
    """
    if not times.is_monotonic_increasing:
        raise ValueError(
            f"the times of {name} are not in ascending order: sort them, with "
            f"{table}.sort_index(){remedy}"
        )
    if not times.is_unique:
        time = times[times.duplicated()][0]
        raise ValueError(f"two rows of {name} have the time {time!s}: remove one of them{remedy}")
