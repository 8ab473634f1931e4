"""Which videos there are, and their labels: folders and tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["Catalog", "find_videos", "read_folder", "read_labels", "read_table"]

_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


class Catalog(NamedTuple):
    """Videos of one folder."""

    ids: list[str]  # paths inside the folder, with slashes
    paths: list[str]
    labels: list[str] | None


def find_videos(place: Path) -> list[str]:
    """A file, or all videos in a folder and the folders in it, in the order of their names.

    Raises
    ------
    ValueError
        If there is none.
    """
    if place.is_file():
        return [str(place)]
    found = sorted(path for path in place.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise ValueError(f"no video in {place}; known are files named {' '.join(_SUFFIXES)}")
    return [str(path) for path in found]


def read_folder(folder: Path) -> Catalog:
    """All videos of a folder; if they all lie in folders of their own, those are their labels."""
    paths = find_videos(folder)
    ids = [Path(path).relative_to(folder).as_posix() for path in paths]
    has_labels = all("/" in id for id in ids)
    return Catalog(ids, paths, [id.partition("/")[0] for id in ids] if has_labels else None)


def read_table(folder: Path, table: str, where: Iterable[tuple[str, str]] = ()) -> Catalog:
    """The videos of a folder that a table names; see `read_labels`."""
    labels = read_labels(table, where)
    return Catalog(list(labels), [str(folder / id) for id in labels], list(labels.values()))


def read_labels(table: str, where: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Labels of paths, from a CSV file with the columns path and label.

    Parameters
    ----------
    table : str
        Path of the file.
    where : iterable of pairs (column, value)
        Only rows that have all of these values.

    Raises
    ------
    ValueError
        If a column is missing, a path has two labels, or no row is left.
    """
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    columns = set(rows[0]) if rows else set()
    conditions = list(where)
    for column in ["path", "label", *(name for name, _ in conditions)]:
        if column not in columns:
            raise ValueError(f"{table} has no column {column!r}, only {sorted(map(str, columns))}")
    labels: dict[str, str] = {}
    for row in rows:
        if all(row[name] == value for name, value in conditions):
            id = Path(row["path"]).as_posix()
            if labels.setdefault(id, row["label"]) != row["label"]:
                raise ValueError(
                    f"{table}: {id} has the labels {labels[id]!r} and {row['label']!r}"
                )
    if not labels:
        raise ValueError(f"{table} has no row with {' and '.join(map('='.join, conditions))}")
    return labels
