"""Replace files atomically, and other operations on files that have to survive a crash."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from skdejavid.files.regular import check_own_file, open_own_file, refuse_irregular

__all__ = [
    "append_bytes",
    "check_target",
    "read_json",
    "remove_temporaries",
    "replace_file",
    "replace_own_file",
    "sync",
    "write_once",
]

_MOST_LINKS = 40  # as Linux allows
# Who has written nothing to a temporary file for a day is not writing any more.
_SECONDS_OF_A_CRASH = 24 * 3600


def append_bytes(file: BinaryIO, content: bytes | memoryview) -> None:
    """Write all bytes to an unbuffered file, whose ``write`` may write only a part of them."""
    remaining = memoryview(content)
    while len(remaining):
        remaining = remaining[file.write(remaining) :]


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Replace a file atomically: any failure leaves the old file, a crash the old or the new one.

    A link is followed, so that the file that it refers to is replaced. The new file has the
    permissions of the old one and, where the user may set it, its owner; without an old file, those
    that the umask allows.

    Parameters
    ----------
    path : Path
        The file, which need not exist.
    write : callable
        Writes the content to the open file that it is given.

    Raises
    ------
    ValueError
        If `path` is no regular file, for example a device or a named pipe.
    FileNotFoundError, OSError
        If there is no such folder, or the file cannot be written, for example because the disk is
        full. The message names `path`.
    """
    target = check_target(path)
    temporary = _temporary(target)
    try:
        with _errors_about(path, temporary):
            _create(temporary, write, like=target)
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    with suppress(PermissionError):  # a folder that may be written to, but not listed
        remove_temporaries(target, _SECONDS_OF_A_CRASH)
        sync(target.parent)


def replace_own_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Replace a file as `replace_file` does, but refuse a link; see `open_own_file`."""
    check_own_file(path)
    replace_file(path, write)


def check_target(path: Path) -> Path:
    """Check that a path can be that of a file to replace, and return it without links.

    Raises
    ------
    ValueError
        If `path` is no regular file, for example a device or a named pipe, or it leads through a
        folder of the operating system, as ``/dev/stdout`` and ``/proc/self/exe`` do.
    FileNotFoundError, NotADirectoryError, OSError
        If its folder does not exist, or links lead in a circle.
    """
    for step in _steps(path):
        if _is_of_the_system(step):
            raise ValueError(
                f"{path} leads into /{step.parts[1]}, where the operating system shows devices and "
                "processes: expected the path of a file"
            )
    target = Path(os.path.realpath(path))
    if os.path.lexists(path):
        with suppress(FileNotFoundError):  # a link to a file that is still to be made
            refuse_irregular(path)
    if not target.parent.is_dir():
        code = errno.ENOTDIR if target.parent.exists() else errno.ENOENT
        raise OSError(code, f"folder {path.parent} does not exist", str(path))
    return target


def _steps(path: Path) -> Iterator[Path]:
    """Yield the folders and links that lead to a file.

    ``realpath`` does not tell through which links it went.
    """
    current, remaining, n_links = Path("/"), [*reversed(path.absolute().parts)], 0
    while remaining:
        part = remaining.pop()
        step = current / ("/" if part == "//" else part)
        if step.name == "..":
            current = current.parent
            continue
        yield step
        current = step
        if os.path.islink(step) and n_links < _MOST_LINKS:
            n_links += 1
            current = step.parent
            remaining += reversed(Path(os.readlink(step)).parts)


def _is_of_the_system(step: Path) -> bool:
    """Return whether Linux shows devices there, or what programs have opened, and no files."""
    is_device = step.parent == Path("/dev") and step.name != "shm"  # which is memory, for anybody
    return is_device or step in (Path("/proc"), Path("/sys"))


def write_once(path: Path, content: bytes) -> None:
    """Create a file atomically; if it already exists, keep it unchanged.

    On a file system without hard links, other processes may see the file before it is complete.
    """
    temporary = _temporary(path)
    try:
        with _errors_about(path, temporary):
            _create(temporary, lambda file: file.write(content))
            try:
                os.link(temporary, path)
            except FileExistsError:
                return
            except OSError:
                with suppress(FileExistsError):
                    _create(path, lambda file: file.write(content))
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def remove_temporaries(path: Path, seconds: float | None = None) -> None:
    """Remove temporary files of `replace_file` calls that a crash interrupted.

    Parameters
    ----------
    path : Path
        The file that was to be replaced.
    seconds : float, optional
        Keep those that were written to in this time: they may belong to another process. Without
        it, the caller knows that there is none.
    """
    newest = math.inf if seconds is None else time.time() - seconds
    target = Path(os.path.realpath(path))
    form = re.compile(re.escape(_prefix(target)) + r"[0-9a-f]{32}\.tmp")
    for file in target.parent.glob(f"{_prefix(target)}*.tmp"):
        with suppress(FileNotFoundError):  # another process has removed it
            status = file.lstat()
            is_left = stat.S_ISREG(status.st_mode) and status.st_mtime < newest
            if is_left and form.fullmatch(file.name):
                file.unlink()


def read_json(path: Path, most_bytes: int | None = None) -> Any:
    """Read a JSON file of a store.

    Parameters
    ----------
    path : Path
    most_bytes : int, optional
        The largest allowed size of the file. Parsing needs up to 30 times its size in memory.

    Raises
    ------
    ValueError
        If the file is not valid, too large, a link or no regular file; the message names it.
    """
    with open_own_file(path) as file:
        content = file.read() if most_bytes is None else file.read(most_bytes + 1)
    if most_bytes is not None and len(content) > most_bytes:
        raise ValueError(f"{path} is damaged: it has more than {most_bytes} bytes")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def sync(path: Path) -> None:
    """Flush a file to the disk, or the list of its files if `path` is a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path, write: Callable[[BinaryIO], Any], like: Path | None = None) -> None:
    """Create a file, perhaps with the permissions of another; then its content is on the disk."""
    with path.open("xb") as file:
        if like is not None:
            _copy_permissions(like, file)
        write(file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _errors_about(path: Path, temporary: Path) -> Iterator[None]:
    """Let errors of the operating system name the file that the user knows."""
    try:
        yield
    except OSError as error:
        is_other = error.filename not in (None, str(temporary))
        if error.errno is None or is_other:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _copy_permissions(old: Path, file: BinaryIO) -> None:
    """Give a new file the owner and the permissions of the file that it will replace."""
    try:
        status = old.stat()
    except FileNotFoundError:
        return
    own = os.fstat(file.fileno())
    for owner in ((status.st_uid, -1), (-1, status.st_gid)):
        if owner not in ((own.st_uid, -1), (-1, own.st_gid)):
            with suppress(PermissionError):
                os.fchown(file.fileno(), *owner)
    with suppress(PermissionError):
        os.fchmod(file.fileno(), status.st_mode & 0o777)


def _temporary(path: Path) -> Path:
    """Return a name in the same folder that no other process or machine uses."""
    return path.with_name(f"{_prefix(path)}{uuid4().hex}.tmp")


def _prefix(path: Path) -> str:
    """Return how names of temporary files begin: of a fixed length, and for each file another."""
    return f".skdejavid-{sha256(os.fsencode(path.name)).hexdigest()[:16]}-"
