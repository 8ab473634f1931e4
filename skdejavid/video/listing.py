"""Finding videos in folders and tables, with their labels."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["Listing", "find_videos", "read_folder", "read_labels", "read_table"]

_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


class Listing(NamedTuple):
    """Videos of one folder."""

    ids: list[str]  # paths relative to the folder, with slashes
    paths: list[str]
    labels: list[str] | None


def find_videos(path: Path) -> list[str]:
    """Return the path of a file, or the sorted paths of all videos below a folder.

    Raises
    ------
    ValueError
        If the folder contains no video.
    """
    if path.is_file():
        return [str(path)]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not found:
        raise ValueError(f"no video in {path}: expected files with suffix {' '.join(_SUFFIXES)}")
    return [str(file) for file in found]


def read_folder(folder: Path) -> Listing:
    """Return all videos below a folder.

    If all of them lie in subfolders, the name of the first subfolder is a video's label.
    """
    paths = find_videos(folder)
    ids = [Path(path).relative_to(folder).as_posix() for path in paths]
    has_labels = all("/" in id for id in ids)
    return Listing(ids, paths, [id.partition("/")[0] for id in ids] if has_labels else None)


def read_table(folder: Path, table: str, where: Iterable[tuple[str, str]] = ()) -> Listing:
    """Return the videos of a folder that a table lists; see `read_labels`."""
    labels = read_labels(table, where)
    return Listing(list(labels), [str(folder / id) for id in labels], list(labels.values()))


def read_labels(table: str, where: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return labels by path, from a CSV file with the columns path and label.

    Parameters
    ----------
    table : str
        Path of the file.
    where : iterable of pairs (column, value)
        Read only rows with these values.

    Returns
    -------
    dict of str to str
        In the order of the file.

    Raises
    ------
    ValueError
        If a column is missing, a path has two labels, or no row remains.
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
