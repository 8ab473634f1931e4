"""Finding videos in folders and tables, with their labels."""

from __future__ import annotations

import csv
import io
import math
import os
import unicodedata
import warnings
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from skdejavid.files.regular import open_regular_file, refuse_irregular

__all__ = ["Listing", "find_videos", "read_folder", "read_labels", "read_table", "similar_labels"]

_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


# What operating systems and programs put beside files; what is in it has no place in a data set.
_OF_SYSTEMS = frozenset(
    {
        "__MACOSX",  # resource forks, in archives made on macOS
        "@eaDir",  # previews on Synology's file servers
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
    }
)

_MOST_NAMES = 5  # in a message


class Listing(NamedTuple):
    """Videos of one folder."""

    ids: list[str]  # paths relative to the folder, with slashes
    paths: list[str]
    labels: list[str] | None
    notes: list[str]  # what was skipped, and what looks like a mistake


def find_videos(path: str | bytes | PathLike[str] | PathLike[bytes]) -> list[str]:
    """Return the path of a file, or the sorted paths of all videos below a folder.

    Videos in a folder are recognized by the suffix of their names. Left out are files and folders
    whose names begin with a dot, such as ``.ipynb_checkpoints`` and ``._1.mp4``, and folders of
    operating systems, such as ``__MACOSX``. Links are followed. A folder to which several ways lead
    is listed once: by its own name if it lies inside of `path`, else by the first link to it.

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
    OSError
        If a folder cannot be read.
    ValueError
        If `path` is neither a file nor a folder, but a named pipe, a device or a socket; or the
        folder contains no video. The message says what was left out.

    Warns
    -----
    UserWarning
        If a link leads to nothing, and its name is not that of a video: it may have been a folder.

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
    found = _walk(folder)
    if found.broken:
        warnings.warn(found.about_broken(), UserWarning, stacklevel=2)
    return [str(folder / id) for id in found.ids]


def read_folder(folder: Path) -> Listing:
    """Return all videos below a folder, see `find_videos`.

    If all of them lie in subfolders, the name of the first subfolder is a video's label.
    """
    found = _walk(folder)
    loose = [id for id in found.ids if "/" not in id]
    notes = found.notes()
    labels = None if loose else [id.partition("/")[0] for id in found.ids]
    notes += similar_labels(labels or [])
    if loose and len(loose) < len(found.ids):
        notes.append(
            f"no labels, because {len(loose)} video(s) are in no subfolder of {folder}, whose name "
            f"were their class: {_names(loose)}. Move them into one, or name a table with --labels"
        )
    return Listing(found.ids, [str(folder / id) for id in found.ids], labels, notes)


@dataclass
class _Found:
    """What a walk through a folder has found; all paths are relative to it."""

    ids: list[str] = field(default_factory=list)
    n_hidden: int = 0
    n_others: int = 0
    broken: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return what was left out, in words."""
        counts = {"hidden file(s) and folder(s)": self.n_hidden, "other file(s)": self.n_others}
        skipped = [f"{count} {name}" for name, count in counts.items() if count]
        notes = ["skipped: " + ", ".join(skipped)] if skipped else []
        if self.broken:
            notes.append(self.about_broken())
        if self.repeated:
            notes.append(
                f"skipped: {len(self.repeated)} link(s) to folders that are listed by another name "
                f"or contain the link: {_names(self.repeated)}"
            )
        return notes

    def about_broken(self) -> str:
        return f"skipped: {len(self.broken)} link(s) that lead to nothing: {_names(self.broken)}"


def _walk(folder: Path) -> _Found:
    """Find the videos below a folder.

    Folders come before links, so that no link takes the place of the folder that it leads to.

    Raises
    ------
    OSError
        If a folder cannot be read.
    ValueError
        If there is no video.
    """
    found = _Found()
    real = Path(os.path.realpath(folder))
    seen = {_key(os.stat(parent)) for parent in real.parents}  # a link to them leads in a circle
    folders, links = deque([""]), list[str]()
    while folders or links:
        inside = folders.popleft() if folders else links.pop(0)
        key = _key(os.stat(folder / inside))
        if key in seen:
            found.repeated.append(inside)
            continue
        seen.add(key)
        subfolders, linked = _read_entries(folder, inside, found)
        folders += subfolders
        if linked:
            links = sorted([*links, *linked], key=_parts)
    if not found.ids:
        notes = "".join(f" ({note})" for note in found.notes())
        raise ValueError(
            f"no video in {folder}: expected files with suffix {' '.join(_SUFFIXES)}{notes}"
        )
    found.ids.sort(key=_parts)
    found.broken.sort(key=_parts)
    return found


def _read_entries(folder: Path, inside: str, found: _Found) -> tuple[list[str], list[str]]:
    """Add the files of one folder to `found`; return its subfolders, and links to folders."""
    subfolders, linked = [], []
    with os.scandir(folder / inside) as entries:
        for entry in entries:
            id = f"{inside}/{entry.name}" if inside else entry.name
            is_video = os.path.splitext(entry.name)[1].lower() in _SUFFIXES
            if entry.name.startswith(".") or entry.name in _OF_SYSTEMS:
                found.n_hidden += 1
            elif entry.is_dir(follow_symlinks=False):
                subfolders.append(id)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                linked.append(id)
            elif is_video:  # also what is no regular file, an error of that video when it is read
                found.ids.append(id)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                found.broken.append(id)
            else:
                found.n_others += 1
    return sorted(subfolders), linked


def _parts(id: str) -> list[str]:
    return id.split("/")


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _names(ids: Sequence[str]) -> str:
    """Return the first of some names, quoted, so that all characters of them can be printed."""
    more = ", ..." if len(ids) > _MOST_NAMES else ""
    return ", ".join(map(repr, ids[:_MOST_NAMES])) + more


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
    labels = [label for _, label in rows.values()]
    return Listing(list(rows), [str(folder / id) for id in rows], labels, similar_labels(labels))


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
        there twice; if a row has more or fewer cells than there are columns, no path, no label, a
        NUL in path or label, or white space around the label; if a path has two labels, or no row
        remains. The message names the line.
    """
    return {id: label for id, (_, label) in _read_rows(table, where).items()}


def similar_labels(labels: Iterable[str]) -> list[str]:
    """Return a warning for each group of different labels that a reader may take for one.

    They differ only in case, in white space, in how Unicode composes their characters, or in how a
    number is written.
    """
    groups: dict[Hashable, list[str]] = {}
    for label in dict.fromkeys(labels):
        groups.setdefault(_as_read(label), []).append(label)
    return [
        f"{', '.join(map(ascii, group))} are {len(group)} classes: are they meant to be one?"
        for group in groups.values()
        if len(group) > 1
    ]


def _as_read(label: str) -> Hashable:
    text = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


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
    if not label.strip():
        raise ValueError(
            f"{table}, line {line}: no label. Remove the row, or choose others with --where."
        )
    if label != label.strip():
        raise ValueError(
            f"{table}, line {line}: the label {label!r} has white space around it: remove it"
        )


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
        raise ValueError(
            f"{table} has no column {name!r}, only {sorted(header)}"
            f"{_hint(header) if name in ('path', 'label') else ''}"
        )
    if header.count(name) > 1:
        raise ValueError(f"{table} has two columns {name!r}")
    return header.index(name)


def _hint(header: list[str]) -> str:
    """Return what may be wrong with a table without the columns path and label."""
    cells = [cell.strip() for cell in header]
    if {"path", "label"} <= {cell.lower() for cell in cells}:
        return ". Names of columns are written in lower case, without spaces around them."
    separator = next((sign for sign in "\t;|" if any(sign in cell for cell in cells)), None)
    if separator is not None:
        return f". Cells are separated by {separator!r}: save the table with commas."
    return ". The first line must contain the names of the columns, among them path and label."
