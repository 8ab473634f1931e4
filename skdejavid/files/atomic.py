"""Replace files atomically, and other operations on files that have to survive a crash.

Files to be read must not be symbolic links: see `refuse_link`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

__all__ = [
    "append_bytes",
    "read_json",
    "refuse_link",
    "remove_temporaries",
    "replace_file",
    "sync",
    "write_once",
]


def append_bytes(file: BinaryIO, content: bytes | memoryview) -> None:
    """Write all bytes to an unbuffered file, whose ``write`` may write only a part of them."""
    remaining = memoryview(content)
    while len(remaining):
        remaining = remaining[file.write(remaining) :]


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Replace a file atomically: a crash leaves either the old file or the whole new one.

    Parameters
    ----------
    path : Path
        The file, which need not exist.
    write : callable
        Writes the content to the open file that it is given.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def write_once(path: Path, content: bytes) -> None:
    """Create a file atomically; if it already exists, keep it unchanged.

    On a file system without hard links, other processes may see the file before it is complete.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:
            with suppress(FileExistsError), path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def remove_temporaries(path: Path) -> None:
    """Remove temporary files of `replace_file` calls that a crash interrupted."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read a JSON file; raise ValueError naming the file if it is not valid."""
    refuse_link(path)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def refuse_link(path: Path) -> None:
    """Check that a file is not a symbolic link, which could lead to any other file."""
    if path.is_symlink():
        raise ValueError(f"{path} is a symbolic link: replace it by the file that it refers to")


def sync(path: Path) -> None:
    """Flush a file to the disk, or the list of its files if `path` is a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """Return a name in the same folder that no other process or machine uses."""
    return path.with_name(f".{path.name}.{uuid4().hex}.tmp")
