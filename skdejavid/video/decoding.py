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
        If it holds no video, a frame is corrupt, or the last one ends earlier than its container
        says. A file cut short whose container does not say (Matroska, MPEG) looks like a shorter
        video.

    Notes
    -----
    A rotation by quarter turns that the file asks for, as telephones do, is applied.
    """
    return map(to_rgb, decode(path))


def count_frames(path: str | PathLike[str]) -> int:
    """The number of frames that `decode` yields, and its errors.

    Counted by decoding: what containers say about it can be wrong or missing.
    """
    return sum(1 for _ in decode(path))


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The pixels (height, width, 3) of a decoded frame, turned as the file asks for."""
    pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    quarter_turns = round(getattr(frame, "rotation", 0) / 90)  # counterclockwise
    return np.rot90(pixels, quarter_turns) if quarter_turns else pixels


def decode(path: str | PathLike[str]) -> Iterator[av.VideoFrame]:
    """The frames of `iterate_frames`, not yet converted to RGB."""
    av: Any = require("av", "video", "Reading a video file")
    name = fspath(path)
    n_decoded = 0
    end: float | None = None
    try:
        with av.open(name, metadata_errors="replace") as container:
            if not container.streams.video:
                raise VideoDecodeError(f"{name}: no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise VideoDecodeError(f"{name}: frame {n_decoded} is corrupt")
                yield frame
                n_decoded += 1
                if frame.pts is not None:
                    end = frame.pts + (frame.duration or 0)
            if n_decoded == 0:
                raise VideoDecodeError(f"{name}: no frame in it")
            _require_whole(name, stream, end)
    except FileNotFoundError:
        raise
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise VideoDecodeError(f"{name}: {error} (after {n_decoded} frames)") from error


def _require_whole(name: str, stream: Any, end: float | None) -> None:
    """Refuse a stream whose last frame ends more than two frames before the declared end.

    Numbers of frames say nothing: containers count frames that are skipped (variable frame rate) or
    hidden (a lossless trim).
    """
    rate = stream.average_rate or stream.guessed_rate
    if end is None or stream.duration is None or not rate:
        return
    missing = ((stream.start_time or 0) + stream.duration - end) * stream.time_base
    if missing > 2 / rate:
        raise VideoDecodeError(
            f"{name}: cut short, {float(missing):.2f} s of "
            f"{float(stream.duration * stream.time_base):.2f} s are missing"
        )
