"""Exact frames of video files: one sequential pass, frame i is frame i."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.video.windows import FrameClock

if TYPE_CHECKING:
    import av

__all__ = [
    "RefusedVideoError",
    "ToRGB",
    "VideoDecodeError",
    "count_frames",
    "crop_center",
    "decode",
    "iterate_frames",
    "read_clock",
    "require_size",
    "scaled_size",
]

_USUAL_RATE = 25.0


class VideoDecodeError(OSError):
    """A video that cannot be read; the message names the file and how far reading came.

    Attributes
    ----------
    frame : int or None
        The number of frames that were read before, if any was looked for.
    """

    def __init__(self, message: str, frame: int | None = None) -> None:
        super().__init__(message)
        self.frame = frame


class RefusedVideoError(ValueError):
    """A video that parameters refuse: too short, or its frames too large."""


def require_size(name: str, height: int, width: int, max_pixels: int | None) -> None:
    """Refuse frames of more than `max_pixels` pixels, before memory is taken for them."""
    if max_pixels is not None and height * width > max_pixels:
        raise RefusedVideoError(
            f"{name}: frames of {width} x {height} pixels, and max_pixels={max_pixels} are allowed"
        )


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
    return map(ToRGB(), decode(path))


def count_frames(path: str | PathLike[str]) -> int:
    """The number of frames that `decode` yields, and its errors.

    Counted by decoding: what containers say about it can be wrong or missing.
    """
    return sum(1 for _ in decode(path))


def read_clock(path: str | PathLike[str], *, by_decoding: bool = False) -> FrameClock:
    """When the frames of a file are shown, read from its packets without decoding them.

    That takes some hundredth of the time. Containers whose packets are not one frame each, or say
    nothing of time, need `by_decoding`; whether that is so shows when the frames are decoded.

    Raises
    ------
    ImportError, FileNotFoundError, VideoDecodeError
        As `iterate_frames`.
    """
    frames = list(_decoded_times(fspath(path)) if by_decoding else _packet_times(fspath(path)))
    if any(begin is None for begin, _ in frames):
        return read_clock(path, by_decoding=True)
    begins = np.array([begin for begin, _ in frames], dtype=np.float64)
    if len(begins) == 0:
        return FrameClock(begins, 0.0)
    # Packets come in the order they are decoded in, frames in that in which they are shown.
    last = int(begins.argmax())
    begins = np.maximum.accumulate(begins) if by_decoding else np.sort(begins)
    begins -= begins[0]
    duration = frames[last][1]
    if duration <= 0 and len(begins) > 1:
        duration = float(np.median(np.diff(begins)))
    return FrameClock(begins, float(begins[-1]) + duration, is_exact=not by_decoding)


class ToRGB:
    """The pixels (height, width, 3) of decoded frames of one file, turned as it asks for.

    With `shorter_side` they are scaled to it, bilinearly over all pixels that fall together. That
    is done while colors are converted: in less time than converting first and scaling RGB, at a
    mean difference of 0.3 in 255. `n_threads` convert one frame, 0 means as many as there are
    cores.
    """

    def __init__(self, shorter_side: int | None = None, *, n_threads: int = 0) -> None:
        av: Any = import_optional("av", "video", "Reading a video file")
        kinds = av.video.reformatter.Interpolation
        # Without these flags two neighbors share one color.
        full_color = kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP | kinds.ACCURATE_RND
        self._shorter_side = shorter_side
        self._reformatter = av.video.reformatter.VideoReformatter()  # keeps its tables
        self._options = {"interpolation": kinds.BILINEAR | full_color, "threads": n_threads}

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        height, width = frame.height, frame.width
        if self._shorter_side is not None:
            height, width = scaled_size((height, width), self._shorter_side)
        converted = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", **self._options
        )
        pixels = converted.to_ndarray().astype(np.uint8, copy=False)
        quarter_turns = round(getattr(frame, "rotation", 0) / 90)  # counterclockwise
        return np.rot90(pixels, quarter_turns) if quarter_turns else pixels


def scaled_size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Height and width after scaling the shorter of them to `shorter_side`."""
    scale = shorter_side / min(size)
    height, width = (max(round(length * scale), shorter_side) for length in size)
    return height, width


def crop_center(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The centered square of a frame (height, width, 3), or as much of it as there is."""
    top, left = (max(length - size, 0) // 2 for length in frame.shape[:2])
    return frame[top : top + size, left : left + size]


def decode(
    path: str | PathLike[str], *, n_threads: int = 0, max_pixels: int | None = None
) -> Iterator[av.VideoFrame]:
    """The frames of `iterate_frames`, not yet converted to RGB.

    `n_threads` decode at the same time, 0 means as many as the decoder wants. A file whose frames
    have more than `max_pixels` pixels is refused.
    """
    av: Any = import_optional("av", "video", "Reading a video file")
    name = fspath(path)
    n_decoded = 0
    end: float | None = None
    try:
        with av.open(name, metadata_errors="replace") as container:
            stream = _video_stream(container, name)
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = n_threads
            # Said by the file, before the decoder makes room for a frame; then each frame's own.
            declared = stream.codec_context
            require_size(name, declared.height or 0, declared.width or 0, max_pixels)
            for frame in container.decode(stream):
                require_size(name, frame.height, frame.width, max_pixels)
                if frame.is_corrupt:
                    raise VideoDecodeError(f"{name}: frame {n_decoded} is corrupt", n_decoded)
                yield frame
                n_decoded += 1
                if frame.pts is not None:
                    end = frame.pts + (frame.duration or 0)
            if n_decoded == 0:
                raise VideoDecodeError(f"{name}: no frame in it", 0)
            _require_whole(name, stream, end, n_decoded)
    except FileNotFoundError:
        raise
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise VideoDecodeError(f"{name}: {error} (after {n_decoded} frames)", n_decoded) from error


def _video_stream(container: Any, name: str) -> Any:
    if not container.streams.video:
        raise VideoDecodeError(f"{name}: no video stream")
    return container.streams.video[0]


def _packet_times(name: str) -> Iterator[tuple[float | None, float]]:
    """Begin and duration, in seconds, of each packet of a file that is shown, in its order."""
    av: Any = import_optional("av", "video", "Reading a video file")
    try:
        with av.open(name, metadata_errors="replace") as container:
            for packet in container.demux(_video_stream(container, name)):
                if packet.size and not packet.is_discard:
                    yield _in_seconds(packet, packet.pts)
    except FileNotFoundError:
        raise
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise VideoDecodeError(f"{name}: {error}") from error


def _decoded_times(name: str) -> Iterator[tuple[float, float]]:
    """Begin and duration, in seconds, of each frame; what has no time is shown every 1/25 s."""
    for number, frame in enumerate(decode(name)):
        begin, duration = _in_seconds(frame, frame.pts)
        yield (number / _USUAL_RATE, 1 / _USUAL_RATE) if begin is None else (begin, duration)


def _in_seconds(shown: Any, begin: int | None) -> tuple[float | None, float]:
    """Begin and duration of a packet or frame."""
    if begin is None or shown.time_base is None:
        return None, 0.0
    unit = float(shown.time_base)
    return begin * unit, (shown.duration or 0) * unit


def _require_whole(name: str, stream: Any, end: float | None, n_decoded: int) -> None:
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
            f"{float(stream.duration * stream.time_base):.2f} s are missing",
            n_decoded,
        )
