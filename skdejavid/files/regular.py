"""Open files that anybody may have made: only regular files, and without waiting for them."""

from __future__ import annotations

import os
import stat
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO, cast

__all__ = [
    "check_own_file",
    "open_own_file",
    "open_regular_file",
    "path_of_file",
    "refuse_irregular",
]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",
}


def open_regular_file(path: str | PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; links are followed.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    binary file
        The caller closes it.

    Raises
    ------
    ValueError
        If `path` is no regular file: a folder, a named pipe, a device or a socket. Reading from
        these may wait forever, never end, or act on a device.
    FileNotFoundError, OSError
        If the file cannot be opened.
    """
    refuse_irregular(path)
    return _open(path, "rb", os.O_NONBLOCK)


def open_own_file(
    path: str | PathLike[str], mode: str = "rb", *, is_buffered: bool = True
) -> BinaryIO:
    """Open a file whose name follows from the format of a store: a regular file and no link.

    Parameters
    ----------
    path : str or path
        The file, which need not exist if `mode` creates it.
    mode : {"rb", "r+b", "ab", "xb"}, default="rb"
        As in the built-in ``open``.
    is_buffered : bool, default=True
        Whether the file has a buffer.

    Returns
    -------
    binary file
        The caller closes it.

    Raises
    ------
    ValueError
        If `path` is a symbolic link, which could lead to any other file, or no regular file.
    FileNotFoundError, OSError
        If the file cannot be opened.
    """
    check_own_file(path)
    return _open(path, mode, os.O_NONBLOCK | os.O_NOFOLLOW, is_buffered=is_buffered)


def path_of_file(path: str | PathLike[str]) -> Path:
    """Return a path that a user names to write a file; refuse one that ends as that of a folder.

    ``Path`` would silently cut the slash off.
    """
    name = fspath(path)
    if name.endswith((os.sep, f"{os.sep}.")) or name in ("", "."):
        raise ValueError(f"{name!r} is the name of a folder, expected that of a file")
    return Path(name)


def refuse_irregular(path: str | PathLike[str]) -> None:
    """Check that a path leads to a regular file, without opening it; see `open_regular_file`."""
    _refuse_kind(path, os.stat(path).st_mode)


def check_own_file(path: str | PathLike[str]) -> None:
    """Check that a path is a regular file and no link, or does not exist; see `open_own_file`."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise ValueError(
            f"{fspath(path)} is a symbolic link: replace it by the file that it refers to. A copy "
            "of the folder by 'cp -rL' or shutil.copytree has files in place of links"
        )
    _refuse_kind(path, mode)


def _open(
    path: str | PathLike[str], mode: str, flags: int, *, is_buffered: bool = True
) -> BinaryIO:
    """Open a file with additional flags, and check what was opened.

    Another process may replace the file after the check of its path. Opening a named pipe without
    O_NONBLOCK would wait for the other end.
    """

    def opener(name: str, usual_flags: int) -> int:
        descriptor = os.open(name, usual_flags | flags, 0o666)
        try:
            _refuse_kind(path, os.fstat(descriptor).st_mode)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    file = open(path, mode, buffering=-1 if is_buffered else 0, opener=opener)  # noqa: SIM115
    return cast("BinaryIO", file)


def _refuse_kind(path: str | PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        remedy = ": write what it delivers to a file first" if stat.S_ISFIFO(mode) else ""
        raise ValueError(f"{fspath(path)} is {kind}, expected a regular file{remedy}")
