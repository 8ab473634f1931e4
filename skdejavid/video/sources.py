"""Videos given by the user, paths or arrays, with their ids and names in messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.identity import FileIdentity, is_same_file, status_of

__all__ = [
    "Source",
    "as_sources",
    "as_video",
    "check_has_clock",
    "check_same_files",
    "with_content_ids",
    "with_ids",
]


class Source(NamedTuple):
    """A video to encode."""

    video: str | NDArray[np.uint8]  # path or frames
    id: str
    name: str  # in messages
    position: int  # index in X
    n_bytes: int | None  # size of the file


def as_sources(X: Iterable[Any]) -> list[Source]:
    """Return the videos of `X`; the id of a path is the path, that of an array its position.

    Raises
    ------
    TypeError
        If `X` is a single path or a data frame, or an item is neither a path nor an array. If the
        path is a folder, the message says how to list the videos in it.
    ValueError
        If `X` is a single video or empty, or an array is not a video.
    """
    if isinstance(X, (str, bytes, PathLike)):
        remedy = f"find_videos({X!r})" if _is_folder(X) else f"[{X!r}]"
        raise TypeError(f"X is a single path, expected a list of videos: pass {remedy}")
    if hasattr(X, "columns"):
        raise TypeError(f"X is a {type(X).__name__}, expected a list of videos: pass one column")
    if isinstance(X, np.ndarray) and X.ndim == 4:
        raise ValueError(f"X is a single video of shape {X.shape}, expected a list: pass [X]")
    sources = [_as_source(video, i) for i, video in enumerate(X)]
    if not sources:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return sources


def as_video(item: Any, name: str) -> NDArray[np.uint8]:
    """Return `item` as the frames of a video (n_frames, height, width, 3), uint8.

    Raises
    ------
    ValueError
        If it is anything else. The message names it `name`.
    """
    array = np.asarray(item)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        raise ValueError(
            f"{name} must be a uint8 array (n_frames, height, width, 3) without an empty axis, "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array


def with_content_ids(sources: Sequence[Source]) -> list[Source]:
    """Return the sources with ids that do not depend on positions: arrays get a content hash."""
    return [
        source._replace(id=_content_id(source.video))
        if isinstance(source.video, np.ndarray)
        else source
        for source in sources
    ]


def with_ids(sources: list[Source], ids: Sequence[str] | None) -> list[Source]:
    """Return the sources with the given ids; None stands for content ids.

    Raises
    ------
    ValueError
        If `ids` and `sources` differ in length, or an id is not a string or repeated.
    """
    if ids is None:
        return with_content_ids(sources)
    if len(ids) != len(sources):
        raise ValueError(f"ids has {len(ids)} items, but X has {len(sources)}")
    used = set()
    for i, id in enumerate(ids):
        if not isinstance(id, str) or id in used:
            raise ValueError(f"ids[{i}] must be a string that no other video has, got {id!r}")
        used.add(id)
    return [source._replace(id=id) for source, id in zip(sources, ids, strict=True)]


def _as_source(video: Any, index: int) -> Source:
    if isinstance(video, (str, PathLike)):
        path = fspath(video)
        return Source(path, path, f"X[{index}] ({path})", index, status_of(path).n_bytes)
    if not hasattr(video, "__array__"):
        raise TypeError(
            f"X[{index}] is of type {type(video).__name__}, expected the path of a video or an "
            "array (n_frames, height, width, 3)"
        )
    frames = as_video(video, f"X[{index}]")
    return Source(frames, f"X[{index}]", f"X[{index}] (an array)", index, None)


def _is_folder(path: str | bytes | PathLike[str]) -> bool:
    try:
        return os.path.isdir(path)
    except ValueError:
        return False


def _content_id(frames: NDArray[np.uint8]) -> str:
    digest = blake2b(repr(frames.shape).encode(), digest_size=16)
    for frame in frames:
        digest.update(np.ascontiguousarray(frame).data)
    return f"array-{digest.hexdigest()}"


def check_same_files(
    sources: Iterable[Source],
    recorded: Callable[[str], FileIdentity],
    *,
    check_content: bool = False,
) -> None:
    """Check that files are those that the store records; a deleted file is accepted.

    Parameters
    ----------
    sources : iterable of Source
        Videos whose sequences are in the store.
    recorded : callable
        Returns what the store records of the file of an id.
    check_content : bool, default=False
        As in `is_same_file`.

    Raises
    ------
    ValueError
        If a file was changed; the message names the first, and how many there are.
    OSError
        If a file has to be read and cannot be.
    """
    changed = [
        source
        for source in sources
        if isinstance(source.video, str)
        and not is_same_file(source.video, recorded(source.id), check_content=check_content)
    ]
    if not changed:
        return
    first = changed[0]
    before, now = recorded(first.id).n_bytes, first.n_bytes
    if before == now:
        what = "has another content than when it was encoded: the file was changed."
    else:
        what = f"has {now} bytes, but had {before} when it was encoded: the file was changed."
    more = f" {len(changed) - 1} more were changed too." if len(changed) > 1 else ""
    raise ValueError(f"{first.name} {what}{more} Use another store, or another id for this video.")


def check_has_clock(sources: Sequence[Source]) -> None:
    """Check that all videos are files, which have timestamps; raise ValueError otherwise."""
    for source in sources:
        if isinstance(source.video, np.ndarray):
            raise ValueError(
                f"{source.name} has no timestamps: width and stride in seconds need video files"
            )
