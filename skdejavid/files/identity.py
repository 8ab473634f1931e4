"""Whether a file, or an array, is the one that was read before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.regular import open_regular_file

__all__ = [
    "FileIdentity",
    "hash_of_array",
    "identify",
    "is_hash_of_array",
    "is_same_file",
    "status_of",
]

_BYTES_PER_READ = 2**20
_OF_ARRAY = "array-"  # how hashes of arrays begin, which no hash of a file does

# The coarsest clock of a file system that is in use, that of FAT. Who writes twice within one tick
# leaves the modification time of the first time.
_TICK_NS = 2 * 10**9


class FileIdentity(NamedTuple):
    """What tells a file, or an array, from others; None stands for what is not known."""

    n_bytes: int | None = None
    modified_ns: int | None = None  # since 1970
    content_hash: str | None = None


def status_of(path: str | PathLike[str]) -> FileIdentity:
    """Return size and modification time of a file, both None if its status cannot be read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError of a NUL in the path
        return FileIdentity()
    return FileIdentity(status.st_size, status.st_mtime_ns)


def identify(
    path: str | PathLike[str], proceed: Callable[[], object] = lambda: None
) -> FileIdentity:
    """Read a file, and return its size, modification time and content hash.

    The modification time is None if it is so recent that the file may be written to once more
    without changing it.

    Parameters
    ----------
    path : str or path
        The file.
    proceed : callable
        Called before each part is read; an error that it raises ends the reading.

    Raises
    ------
    ValueError
        If `path` is no regular file.
    FileNotFoundError, OSError
        If the file cannot be read.
    """
    with open_regular_file(path) as file:
        status = os.fstat(file.fileno())
        digest = blake2b(digest_size=16)
        while content := file.read(_BYTES_PER_READ):
            proceed()
            digest.update(content)
    is_settled = time.time_ns() - status.st_mtime_ns > _TICK_NS
    modified = status.st_mtime_ns if is_settled else None
    return FileIdentity(status.st_size, modified, digest.hexdigest())


def hash_of_array(array: NDArray[Any], proceed: Callable[[], object] = lambda: None) -> str:
    """Return a hash of the dtype, the shape and the numbers of an array, with any strides.

    Parameters
    ----------
    array : ndarray with at least one axis, of numbers
        It is read once, item by item along its first axis.
    proceed : callable
        Called before each item is read; an error that it raises ends the reading.
    """
    # Frames of videos are bytes, whose hashes are ids of arrays in existing stores.
    kind = "" if array.dtype == np.uint8 else array.dtype.str
    digest = blake2b(f"{kind}{array.shape}".encode(), digest_size=16)
    for item in array:
        proceed()
        digest.update(np.ascontiguousarray(item).data)
    return f"{_OF_ARRAY}{digest.hexdigest()}"


def is_hash_of_array(content_hash: str | None) -> bool:
    """Return whether a content hash is that of an array, and not of a file."""
    return content_hash is not None and content_hash.startswith(_OF_ARRAY)


def is_same_file(
    path: str | PathLike[str], recorded: FileIdentity, *, check_content: bool = False
) -> bool:
    """Return whether a file is the one that was recorded, as far as can be known.

    A file of the same size and modification time is the same. The contents decide if only the size
    is equal, as after copying. A file that does not exist is not another one, and nor is one of
    which nothing was recorded. No file is an array.

    Parameters
    ----------
    path : str or path
        The file.
    recorded : FileIdentity
        As returned by `identify`.
    check_content : bool, default=False
        Whether to compare contents also if size and modification time are equal.

    Raises
    ------
    ValueError, OSError
        If the contents have to be compared, and the file cannot be read.
    """
    if is_hash_of_array(recorded.content_hash):
        return False
    now = status_of(path)
    if None in (now.n_bytes, recorded.n_bytes):
        return True
    if now.n_bytes != recorded.n_bytes:
        return False
    if recorded.content_hash is None:
        return True
    if now.modified_ns == recorded.modified_ns and not check_content:
        return True
    return _content_hash(path) == recorded.content_hash


def _content_hash(path: str | PathLike[str]) -> str | None:
    """Return the content hash of a file; in one process a file is read once until it changes."""
    status = os.stat(path)
    # The time of the last change of the file's status, which nobody can set.
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    is_settled = time.time_ns() - status.st_ctime_ns > _TICK_NS
    compute = _compute_hash if is_settled else _compute_hash.__wrapped__
    return compute(fspath(path), key)


@lru_cache(maxsize=2**16)
def _compute_hash(path: str, key: tuple[int, ...]) -> str | None:
    return identify(path).content_hash
