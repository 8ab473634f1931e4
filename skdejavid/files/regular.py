"""Open files that anybody may have made: only regular files, and without waiting for them."""

from __future__ import annotations

import os
import stat
from os import PathLike, fspath
from typing import BinaryIO

__all__ = ["open_regular_file", "refuse_irregular"]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
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
    # Another process may replace the file after the check, so opening must not wait either, and
    # what was opened is checked again.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _refuse_kind(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def refuse_irregular(path: str | PathLike[str]) -> None:
    """Check that a path leads to a regular file, without opening it; see `open_regular_file`."""
    _refuse_kind(path, os.stat(path).st_mode)


def _refuse_kind(path: str | PathLike[str], mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
        raise ValueError(f"{fspath(path)} is {kind}, expected a regular file")
