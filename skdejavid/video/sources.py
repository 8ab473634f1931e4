"""Videos given by the user, paths or arrays, with their ids and names in messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.identity import (
    FileIdentity,
    hash_of_array,
    is_hash_of_array,
    is_same_file,
    status_of,
)
from skdejavid.video.prefetch import check_is_wanted

__all__ = [
    "Source",
    "as_sources",
    "as_video",
    "check_has_clock",
    "is_same",
    "other_video_error",
    "with_content_ids",
    "with_ids",
]


class Source(NamedTuple):
    """A video to encode."""

    video: str | NDArray[np.uint8]  # path or frames
    id: str
    name: str  # in messages
    position: int  # index in X
    n_bytes: int | None  # size of the file or the array
    hash_of_array: Callable[[], str] | None = None  # None of a file; reads the array once


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
        source if source.hash_of_array is None else source._replace(id=source.hash_of_array())
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
    first: dict[str, int] = {}
    for i, id in enumerate(ids):
        if not isinstance(id, str):
            raise ValueError(
                f"ids must be strings, the names of the videos in the store, but ids[{i}] is "
                f"{id!r}, of type {type(id).__name__}"
            )
        if id in first:
            raise ValueError(
                f"ids must differ, but ids[{first[id]}] and ids[{i}] are both {id!r}: give each "
                "video an id of its own, such as its path"
            )
        first[id] = i
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
    hash_once = lru_cache(maxsize=1)(partial(hash_of_array, frames, check_is_wanted))
    return Source(frames, f"X[{index}]", f"X[{index}] (an array)", index, frames.nbytes, hash_once)


def _is_folder(path: str | bytes | PathLike[str]) -> bool:
    try:
        return os.path.isdir(path)
    except ValueError:
        return False


def is_same(source: Source, recorded: FileIdentity, *, check_content: bool = False) -> bool:
    """Return whether a video is the one that was recorded.

    An array is the same if its content is. What was not recorded is not known, and so not the same.

    Parameters
    ----------
    source : Source
        The video.
    recorded : FileIdentity
        What a store records of it.
    check_content : bool, default=False
        Of files, as in `is_same_file`.

    Raises
    ------
    ValueError, OSError
        If a file has to be read and cannot be.
    """
    if source.hash_of_array is None:
        path = str(source.video)
        is_known = recorded.n_bytes is not None or not os.path.lexists(path)
        return is_known and is_same_file(path, recorded, check_content=check_content)
    if recorded.n_bytes not in (None, source.n_bytes):
        return False
    # An id that is the hash says which array it was, even if nothing else was recorded.
    known = source.id if recorded == FileIdentity() else recorded.content_hash
    return known == source.hash_of_array()


def other_video_error(
    sources: Sequence[Source], recorded: Callable[[str], FileIdentity]
) -> ValueError:
    """Return the error that videos are not those whose sequences are in the store.

    Parameters
    ----------
    sources : sequence of Source
        These videos, of which the first is described.
    recorded : callable
        Returns what the store records of the video of an id.
    """
    first = sources[0]
    more = f" {len(sources) - 1} more were changed too." if len(sources) > 1 else ""
    return ValueError(
        f"{first.name} {_how_it_differs(first, recorded(first.id))}{more} Use another store, or "
        f"another id for this video than {first.id!r}."
    )


def _how_it_differs(source: Source, recorded: FileIdentity) -> str:
    before, now = recorded.n_bytes, source.n_bytes
    is_array, was_array = source.hash_of_array is not None, is_hash_of_array(recorded.content_hash)
    if recorded == FileIdentity():
        return "may be another video than was encoded: the store does not record what it was."
    if is_array != was_array:
        kinds = ("a file", "an array")
        return f"is {kinds[is_array]}, but {kinds[was_array]} was encoded: it is another video."
    if before != now:
        what = f"has {now} bytes, but had {before} when it was encoded: the file was changed."
    else:
        what = "has another content than when it was encoded: the file was changed."
    return what.replace("the file was changed", "the array is another") if is_array else what


def check_has_clock(sources: Sequence[Source]) -> None:
    """Check that all videos are files, which have timestamps; raise ValueError otherwise."""
    for source in sources:
        if isinstance(source.video, np.ndarray):
            raise ValueError(
                f"{source.name} has no timestamps: width and stride in seconds need video files"
            )
