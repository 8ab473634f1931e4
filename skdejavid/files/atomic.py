"""Files that no crash breaks: replaced as a whole, or appended to and cut off where they were good.

Nothing here follows a symbolic link, or reads a name out of a file.
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
    """Write all of it to a file without a buffer, which may take less at a time."""
    left = memoryview(content)
    while len(left):
        left = left[file.write(left) :]


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that at any moment either the old one or the new one is there, whole."""
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
    """Write a file, whole or not at all, unless there is one: then that one stays.

    Where a file cannot have two names, others may see it before it is whole.
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
    """Remove what `replace_file` left when the machine, or the process, died inside of it."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The content of a file, or an error that names it."""
    refuse_link(path)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def refuse_link(path: Path) -> None:
    """Raise ValueError if a file is a symbolic link: it could lead anywhere."""
    if path.is_symlink():
        raise ValueError(f"{path} is a symbolic link, which no file of a store is")


def sync(path: Path) -> None:
    """Bring a file to the disk; of a folder, which files it has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """A name that no other process or machine takes."""
    return path.with_name(f".{path.name}.{uuid4().hex}.tmp")
