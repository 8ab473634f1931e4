"""Exact frames of video files: one sequential pass, frame i is frame i."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.optional import require

if TYPE_CHECKING:
    import av

__all__ = ["VideoDecodeError", "count_frames", "decode", "iterate_frames", "to_rgb"]


class VideoDecodeError(OSError):
    """A video that cannot be read; the message names the file and how far reading came."""


def iterate_frames(path: str | PathLike[str]) -> Iterator[NDArray[np.uint8]]:
    """All frames of a file in the order they are shown, each (height, width, 3) RGB.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    FileNotFoundError
        If there is no such file.
    VideoDecodeError
        If it holds no video, a frame is corrupt, or there are fewer frames than its container says.
        A file cut short whose container does not say (Matroska, MPEG) looks like a shorter video.
    """
    return map(to_rgb, decode(path))


def count_frames(path: str | PathLike[str]) -> int:
    """The number of frames that `decode` yields, and its errors.

    Counted by decoding: what containers say about it can be wrong or missing.
    """
    return sum(1 for _ in decode(path))


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The pixels (height, width, 3) of a decoded frame."""
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def decode(path: str | PathLike[str]) -> Iterator[av.VideoFrame]:
    """The frames of `iterate_frames`, not yet converted to RGB."""
    av: Any = require("av", "video", "Reading a video file")
    name = fspath(path)
    n_decoded = 0
    try:
        with av.open(name) as container:
            if not container.streams.video:
                raise VideoDecodeError(f"{name}: no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise VideoDecodeError(f"{name}: frame {n_decoded} is corrupt")
                yield frame
                n_decoded += 1
            n_declared = stream.frames  # 0 where the container does not say
    except FileNotFoundError:
        raise
    except av.FFmpegError as error:
        raise VideoDecodeError(f"{name}: {error} (after {n_decoded} frames)") from error
    if n_decoded < max(n_declared, 1):
        raise VideoDecodeError(f"{name}: cut short, {n_decoded} of {n_declared} frames")
