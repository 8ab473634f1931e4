"""Finding videos in folders and tables, with their labels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from skdejavid.files.regular import open_regular_file, refuse_irregular

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


def find_videos(path: str | bytes | PathLike[str] | PathLike[bytes]) -> list[str]:
    """Return the path of a file, or the sorted paths of all videos below a folder.

    Videos in a folder are recognized by the suffix of their names. Links to files are followed,
    links to folders are not.

    Parameters
    ----------
    path : str, bytes or path
        A file or a folder.

    Returns
    -------
    list of str
        Paths that `TSEExtractor` takes.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ValueError
        If `path` is neither a file nor a folder, but a named pipe, a device or a socket; or the
        folder contains no video.

    Examples
    --------
    >>> from skdejavid import find_videos
    >>> find_videos("videos")  # doctest: +SKIP
    ['videos/jump/1.mp4', 'videos/run/1.mp4']
    """
    folder = Path(os.fsdecode(path))
    if not folder.is_dir():
        refuse_irregular(folder)
        return [str(folder)]
    # What is neither a file nor a folder stays, and is an error of that video when it is read.
    found = sorted(
        file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and not file.is_dir()
    )
    if not found:
        raise ValueError(f"no video in {folder}: expected files with suffix {' '.join(_SUFFIXES)}")
    return [str(file) for file in found]


def read_folder(folder: Path) -> Listing:
    """Return all videos below a folder.

    If all of them lie in subfolders, the name of the first subfolder is a video's label.
    """
    paths = find_videos(folder)
    ids = [Path(path).relative_to(folder).as_posix() for path in paths]
    has_labels = all("/" in id for id in ids)
    return Listing(ids, paths, [id.partition("/")[0] for id in ids] if has_labels else None)


def read_table(
    folder: Path,
    table: str,
    where: Iterable[tuple[str, str]] = (),
    *,
    may_leave_folder: bool = False,
) -> Listing:
    """Return the videos of a folder that a table lists; see `read_labels`.

    Raises
    ------
    ValueError
        As in `read_labels`. Also if a path is absolute or contains ``..``, unless
        `may_leave_folder`: a table may come from somebody who should not choose which files of
        this machine are read. Links inside of the folder are followed.
    """
    rows = _read_rows(table, where)
    for id, (line, _) in rows.items():
        if not may_leave_folder and (id.startswith("/") or ".." in PurePosixPath(id).parts):
            raise ValueError(
                f"{table}, line {line}: the path {id!r} leads out of {folder}, or might, because "
                "it is absolute or contains '..'. Allow this with --allow-outside if you trust the "
                "table."
            )
    return Listing(list(rows), [str(folder / id) for id in rows], [row[1] for row in rows.values()])


def read_labels(table: str, where: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return labels by path, from a CSV file with the columns path and label.

    Parameters
    ----------
    table : str
        Path of the file, in UTF-8. Rows without content are ignored.
    where : iterable of pairs (column, value)
        Read only rows with these values.

    Returns
    -------
    dict of str to str
        In the order of the file.

    Raises
    ------
    ValueError
        If the file is no regular file, not in UTF-8 or no valid CSV; if a column is missing or
        there twice; if a row has more or fewer cells than there are columns, no path, or a NUL in
        path or label; if a path has two labels, or no row remains. The message names the line.
    """
    return {id: label for id, (_, label) in _read_rows(table, where).items()}


def _read_rows(table: str, where: Iterable[tuple[str, str]]) -> dict[str, tuple[int, str]]:
    """Return the number of the line and the label by path, of rows with the values of `where`."""
    lines = _read_cells(table)
    _, header = next(lines, (1, []))
    conditions = list(where)
    place = {name: _find_column(table, header, name) for name in ("path", "label")}
    wanted = [(_find_column(table, header, name), value) for name, value in conditions]
    rows: dict[str, tuple[int, str]] = {}
    for line, cells in lines:
        if len(cells) != len(header):
            raise ValueError(
                f"{table}, line {line}: {len(cells)} cell(s), expected {len(header)}, the columns "
                f"{', '.join(header)}. Text that contains commas must be in quotes."
            )
        if any(cells[number] != value for number, value in wanted):
            continue
        path, label = cells[place["path"]], cells[place["label"]]
        _check_path_and_label(table, line, path, label)
        id = PurePosixPath(path).as_posix()
        before, same = rows.setdefault(id, (line, label))
        if same != label:
            raise ValueError(
                f"{table}: {id} has the labels {same!r} (line {before}) and {label!r} (line {line})"
            )
    if not rows:
        wanted_row = " with " + " and ".join(map("=".join, conditions)) if conditions else ""
        raise ValueError(f"{table} has no row{wanted_row}")
    return rows


def _check_path_and_label(table: str, line: int, path: str, label: str) -> None:
    if not path.strip():
        raise ValueError(f"{table}, line {line}: no path")
    if "\0" in path + label:
        raise ValueError(f"{table}, line {line}: a NUL character in path or label")


def _read_cells(table: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line and the cells of each row that is not blank."""
    with open_regular_file(table) as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{table}, line {line}: not in UTF-8. Save the table as 'CSV UTF-8'."
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{table}, line {reader.line_num}: {error}") from error


def _find_column(table: str, header: list[str], name: str) -> int:
    if name not in header:
        raise ValueError(f"{table} has no column {name!r}, only {sorted(header)}")
    if header.count(name) > 1:
        raise ValueError(f"{table} has two columns {name!r}")
    return header.index(name)
