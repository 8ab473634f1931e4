"""Reading videos together with what identifies them, and noticing that a file changes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

from skdejavid.compat.optional import import_optional
from skdejavid.files.identity import FileIdentity, identify, status_of
from skdejavid.video.opening import RefusedVideoError, VideoDecodeError
from skdejavid.video.prefetch import check_is_wanted
from skdejavid.video.sources import Source

__all__ = ["is_of_the_file", "read_unchanged"]

T = TypeVar("T")

# Errors of FFmpeg that are those of the machine. It reports EIO for files that are too short.
_ERRORS_OF_THE_MACHINE = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR)


class _ChangedVideoError(VideoDecodeError):
    """Error raised if a file was written to while it was read."""


def read_unchanged(
    source: Source,
    read: Callable[[Any], Iterator[T]],
    *,
    has_content: bool,
) -> Generator[FileIdentity | T]:
    """Yield what identifies a video, then the items of ``read(source.video)``.

    Parameters
    ----------
    source : Source
        The video.
    read : callable
        Returns a generator of items.
    has_content : bool
        Whether to read the whole file or array first, for its content hash.

    Yields
    ------
    FileIdentity or item
        What the bytes that the items come from have in common.

    Raises
    ------
    VideoDecodeError
        If size or modification time of the file change meanwhile.
    Exception
        As `read`.
    """
    video = source.video
    if not isinstance(video, str):
        compute = source.hash_of_array if has_content else None
        yield FileIdentity(video.nbytes, None, None if compute is None else compute())
        yield from read(video)
        return
    before = status_of(video)
    yield _identity(video, before) if has_content else before
    try:
        yield from read(video)
    except (OSError, RefusedVideoError) as error:
        _check_status(video, before, error)
        raise
    _check_status(video, before)


def is_of_the_file(error: BaseException) -> bool:
    """Return whether an error is due to the content of a file, so that it would occur again.

    Others may pass: a missing permission, a network, too many open files, a file that is being
    written. And what parameters refuse, others may allow.
    """
    if isinstance(error, _ChangedVideoError):
        return False
    if isinstance(error, VideoDecodeError):
        return error.__cause__ is None or _is_in_the_content(error.__cause__)
    return not isinstance(error, (OSError, RefusedVideoError))


def _is_in_the_content(cause: BaseException) -> bool:
    """Return whether FFmpeg found an error in what it had read."""
    if isinstance(cause, VideoDecodeError):
        return is_of_the_file(cause)
    av: Any = import_optional("av", "video", "Reading a video file")
    if isinstance(cause, av.FFmpegError):
        return cause.errno not in _ERRORS_OF_THE_MACHINE
    return not isinstance(cause, OSError)


def _identity(path: str, status: FileIdentity) -> FileIdentity:
    try:
        return identify(path, check_is_wanted)
    except (OSError, ValueError):  # reading it as a video raises an error that says more
        return FileIdentity(status.n_bytes)


def _check_status(path: str, before: FileIdentity, error: Exception | None = None) -> None:
    if status_of(path) != before:
        raise _ChangedVideoError(
            f"{path}: the file was changed while it was read: try again when it is complete"
        ) from error
