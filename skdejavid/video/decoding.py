"""Exact frames of video files: one sequential pass, frame i is frame i."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike, fspath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

__all__ = ["VideoDecodeError", "count_frames", "iterate_frames"]


class VideoDecodeError(OSError):
    """A video that cannot be read; the message names the file and how far reading came."""


def iterate_frames(path: str | PathLike[str]) -> Iterator[NDArray[np.uint8]]:
    """All frames in the order they are shown, each (height, width, 3) RGB.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    VideoDecodeError
        If it holds no video or is broken.
    """
    for frame in _decode(path):
        yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def count_frames(path: str | PathLike[str]) -> int:
    """The number of frames that `iterate_frames` yields.

    Counted by decoding: what containers say about it can be wrong or missing.
    """
    return sum(1 for _ in _decode(path))


def _decode(path: str | PathLike[str]) -> Iterator[av.VideoFrame]:
    import av  # only needed here: the package works without it on arrays and sequences

    n_decoded = 0
    try:
        with av.open(fspath(path)) as container:
            if not container.streams.video:
                raise VideoDecodeError(f"{fspath(path)}: no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                yield frame
                n_decoded += 1
    except FileNotFoundError:
        raise
    except av.FFmpegError as error:
        raise VideoDecodeError(f"{fspath(path)}: {error} (after frame {n_decoded})") from error
    if n_decoded == 0:
        raise VideoDecodeError(f"{fspath(path)}: the video stream has no frames")
