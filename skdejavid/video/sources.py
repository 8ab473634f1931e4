"""Videos to be encoded: paths and arrays, with the names that they have in messages and stores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skdejavid.sequences.containers import as_video

__all__ = [
    "Source",
    "as_sources",
    "identified",
    "named",
    "require_clock",
    "require_same_file",
]


class Source(NamedTuple):
    """A video to be encoded."""

    video: str | NDArray[np.uint8]  # path or frames
    id: str
    name: str  # for messages
    position: int  # in the user's list
    n_bytes: int | None  # size of the file, by which a changed one is noticed


def as_sources(X: Iterable[Any]) -> list[Source]:
    """The videos of `X`, each with the name it has in messages and in a store."""
    if isinstance(X, (str, bytes, PathLike)):
        raise TypeError(f"X is a single path, expected a list of videos: pass [{X!r}]")
    if hasattr(X, "columns"):
        raise TypeError(f"X is a {type(X).__name__}, expected a list of videos: pass one column")
    if isinstance(X, np.ndarray) and X.ndim == 4:
        raise ValueError(f"X is a single video of shape {X.shape}, expected a list: pass [X]")
    sources = [_as_source(video, i) for i, video in enumerate(X)]
    if not sources:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    return sources


def identified(sources: Sequence[Source]) -> list[Source]:
    """The videos by names that say which they are in any list: arrays by their content."""
    return [
        source._replace(id=_name_of_content(source.video))
        if isinstance(source.video, np.ndarray)
        else source
        for source in sources
    ]


def named(sources: list[Source], ids: Sequence[str] | None) -> list[Source]:
    """The videos by other names."""
    if ids is None:
        return identified(sources)
    if len(ids) != len(sources):
        raise ValueError(f"ids has {len(ids)} items, but X has {len(sources)}")
    seen = set()
    for i, id in enumerate(ids):
        if not isinstance(id, str) or id in seen:
            raise ValueError(f"ids[{i}] must be a string that no other video has, got {id!r}")
        seen.add(id)
    return [source._replace(id=id) for source, id in zip(sources, ids, strict=True)]


def _as_source(video: Any, index: int) -> Source:
    if isinstance(video, (str, PathLike)):
        path = fspath(video)
        return Source(path, path, f"X[{index}] ({path})", index, _file_size(path))
    if not hasattr(video, "__array__"):
        raise TypeError(
            f"X[{index}] is a {type(video).__name__}, expected the path of a video or an array "
            "(n_frames, height, width, 3)"
        )
    frames = as_video(video, f"X[{index}]")
    return Source(frames, f"X[{index}]", f"X[{index}] (an array)", index, None)


def _file_size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None  # reading it will say why


def _name_of_content(frames: NDArray[np.uint8]) -> str:
    digest = blake2b(repr(frames.shape).encode(), digest_size=16)
    for frame in frames:
        digest.update(np.ascontiguousarray(frame).data)
    return f"array-{digest.hexdigest()}"


def require_same_file(source: Source, n_bytes: int | None) -> None:
    """Refuse a file that is not the one whose sequence the store holds; a deleted one may be it."""
    if None not in (n_bytes, source.n_bytes) and n_bytes != source.n_bytes:
        raise ValueError(
            f"{source.name} has {source.n_bytes} bytes, but had {n_bytes} when the store encoded "
            "it: the file was changed. Use another store or another name."
        )


def require_clock(sources: Sequence[Source]) -> None:
    """Refuse arrays, which say nothing of time."""
    for source in sources:
        if isinstance(source.video, np.ndarray):
            raise ValueError(
                f"{source.name} has no clock: width and stride in seconds need video files"
            )
