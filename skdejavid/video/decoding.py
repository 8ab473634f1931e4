"""Frames and frame times of video files, read in one sequential pass.

Seeking is inexact in many containers; decoding from the start gives exactly the i-th frame.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.video.cropping import Cropper, read_cropping
from skdejavid.video.display import Display, DisplayReader
from skdejavid.video.endings import Ending
from skdejavid.video.opening import (
    OpenVideo,
    RefusedVideoError,
    VideoDecodeError,
    most_pixels,
    most_threads,
    open_video,
    reason_of,
)
from skdejavid.video.windows import FrameClock

if TYPE_CHECKING:
    import av

__all__ = [
    "DecodedFrame",
    "ToRGB",
    "check_frame_size",
    "crop_center",
    "decode",
    "read_clock",
    "scaled_size",
]

_DEFAULT_RATE = 25.0  # frames per second of streams without timestamps

_MAX_THREADS = 16  # of one decoder, as FFmpeg chooses
_BYTES_PER_PIXEL = 3.0  # where the file does not declare its kind of pixel


def check_frame_size(name: str, height: int, width: int, max_pixels: int | None) -> None:
    """Check that frames have at most `max_pixels` pixels; else raise RefusedVideoError."""
    if max_pixels is not None and height * width > max_pixels:
        raise RefusedVideoError(
            f"{name}: frames have {width} x {height} pixels, more than max_pixels={max_pixels}"
        )


def read_clock(
    path: str | PathLike[str], *, by_decoding: bool = False, max_pixels: int | None = None
) -> FrameClock:
    """Return the display times of the frames of a file.

    Parameters
    ----------
    path : str or path
        The file.
    by_decoding : bool, default=False
        Whether to decode the frames. By default times are read from packets, which takes a small
        part of the time of decoding. They are wrong if a packet does not contain exactly one frame;
        the caller notices this when decoding the frames. Files with packets without timestamps are
        always decoded.
    max_pixels : int, optional
        Maximum number of pixels of a frame, as in `decode`.

    Returns
    -------
    FrameClock
        Without frames if the file has none.

    Raises
    ------
    ImportError, FileNotFoundError, VideoDecodeError, RefusedVideoError
        As in `decode`.
    """
    read = _decoded_times if by_decoding else _packet_times
    # Two numbers per frame: a file may have a frame per byte.
    frames = np.fromiter(read(fspath(path), max_pixels), dtype=np.dtype((np.float64, 2)))
    starts, durations = frames.T
    if np.isnan(starts).any():
        if not by_decoding:
            return read_clock(path, by_decoding=True, max_pixels=max_pixels)
        starts, durations = _with_all_starts(starts, durations)
    if len(starts) == 0:
        return FrameClock(starts, 0.0)
    # Packets are stored in decoding order, which differs from display order with B-frames. Frames
    # of AVI files are in display order, and each may have the time of another.
    last = int(starts.argmax())
    starts = np.sort(starts)
    starts -= starts[0]
    duration = float(durations[last])
    if duration <= 0 and len(starts) > 1:
        duration = float(np.median(np.diff(starts)))
    return FrameClock(starts, float(starts[-1]) + duration, is_exact=not by_decoding)


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """A frame as it is stored, and how it is shown.

    Attributes
    ----------
    frame : av.VideoFrame
        The stored frame.
    display : Display
        How it is shown.
    """

    frame: av.VideoFrame
    display: Display

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the shown frame."""
        return self.display.shown(self.frame.height, self.frame.width)

    @property
    def height(self) -> int:
        """Height of the shown frame."""
        return self.size[0]

    @property
    def width(self) -> int:
        """Width of the shown frame."""
        return self.size[1]

    @property
    def pts(self) -> int | None:
        """When it is shown, in units of `time_base`."""
        return self.frame.pts

    @property
    def time_base(self) -> Fraction | None:
        """Unit of time, in seconds."""
        return self.frame.time_base


class ToRGB:
    """Converter of the decoded frames of one file to RGB arrays (height, width, 3), uint8.

    Frames are converted as players show them: mirrored and turned as the file asks for, by quarter
    turns, and with square pixels. Where stored pixels are not square, one side grows and none
    shrinks.

    Parameters
    ----------
    shorter_side : int, optional
        Scale frames until their shorter side has this size, bilinearly with antialiasing. Scaling,
        the shape of pixels and color conversion are one step: faster than scaling RGB frames, with
        a mean difference of 0.3 of 255.
    n_threads : int, default=0
        Number of threads that convert one frame; 0 means one per core.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    """

    def __init__(self, shorter_side: int | None = None, *, n_threads: int = 0) -> None:
        av: Any = import_optional("av", "video", "Reading a video file")
        kinds = av.video.reformatter.Interpolation
        # Without these flags pairs of neighboring pixels get the same color.
        full_color = kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP | kinds.ACCURATE_RND
        self._shorter_side = shorter_side
        self._reformatter = av.video.reformatter.VideoReformatter()  # caches its tables
        self._options = {"interpolation": kinds.BILINEAR | full_color, "threads": n_threads}

    def __call__(self, decoded: DecodedFrame) -> NDArray[np.uint8]:
        frame, display = decoded.frame, decoded.display
        height, width = display.stretched(frame.height, frame.width)
        if self._shorter_side is not None:
            height, width = scaled_size((height, width), self._shorter_side)
        converted = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", **self._options
        )
        return display.orient(converted.to_ndarray().astype(np.uint8, copy=False))


def scaled_size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Return height and width after scaling the shorter of them to `shorter_side`."""
    scale = shorter_side / min(size)
    height, width = (max(round(length * scale), shorter_side) for length in size)
    return height, width


def crop_center(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the centered square of a frame (height, width, 3); sides below `size` are kept."""
    top, left = (max(length - size, 0) // 2 for length in frame.shape[:2])
    return frame[top : top + size, left : left + size]


def decode(
    path: str | PathLike[str], *, n_threads: int = 0, max_pixels: int | None = None
) -> Iterator[DecodedFrame]:
    """Yield all frames of a file in display order.

    Parameters
    ----------
    path : str or path
        The file.
    n_threads : int, default=0
        Number of decoding threads; 0 lets the decoder choose.
    max_pixels : int, optional
        Maximum number of pixels of a frame.

    Yields
    ------
    DecodedFrame
        `ToRGB` converts it.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    FileNotFoundError
        If the file does not exist.
    VideoDecodeError
        As in `open_video`; also if the video has no frames, a frame is corrupt, or the file ends
        earlier than it declares. A truncated file of a format that declares no end (MPEG program
        and transport streams, NUT, most bare streams) is read as a shorter video.
    RefusedVideoError
        As in `open_video`; also if frames have more than `max_pixels` pixels when they are shown,
        or decoding them would take much more memory than the file has bytes (not checked if
        `max_pixels` is None). It is raised before a frame is decoded if the file declares its frame
        size. Also if frames are turned by another angle than quarter turns, or their pixels are
        over 16 times as long as wide.
    """
    n_decoded = 0
    with open_video(path, max_pixels=max_pixels) as video:
        _prepare_decoder(video, n_threads, max_pixels)
        ending = Ending(video.container, video.stream)
        shown = _Shown(video)
        for frame in _decode_packets(video, ending):
            if frame.is_corrupt:
                raise VideoDecodeError(f"{video.name}: frame {n_decoded} is corrupt", n_decoded)
            decoded = shown(frame)
            check_frame_size(video.name, *decoded.size, max_pixels)
            yield decoded
            n_decoded += 1
            ending.see_frame(frame)
        if n_decoded == 0:
            raise VideoDecodeError(f"{video.name}: the video stream has no frames", 0)
        missing = ending.missing(video.file, video.n_bytes)
        if missing is not None:
            raise VideoDecodeError(f"{video.name}: truncated, {missing}", n_decoded)


class _Shown:
    """What is shown of the frames of a video, the next of which it is given."""

    def __init__(self, video: OpenVideo) -> None:
        self._name = video.name
        self._display = DisplayReader(video.stream)
        position = video.container.streams.video.index(video.stream)
        cropping = read_cropping(video.file, video.n_bytes, video.stream, position)
        self._crop = None if cropping is None else Cropper(cropping)

    def __call__(self, frame: av.VideoFrame) -> DecodedFrame:
        try:
            display = self._display.read(frame)
            return DecodedFrame(frame if self._crop is None else self._crop(frame), display)
        except ValueError as error:
            raise RefusedVideoError(f"{self._name}: {error}") from None


def _prepare_decoder(video: OpenVideo, n_threads: int, max_pixels: int | None) -> None:
    """Set threads and limits of the decoder; check the declared frame size before it allocates."""
    av: Any = import_optional("av", "video", "Reading a video file")
    codec = video.stream.codec_context
    # Else decoders keep some of the columns on the left that the stream says are not shown.
    codec.flags |= av.codec.context.Flags.unaligned
    codec.thread_type = "AUTO"
    codec.thread_count = n_threads
    if max_pixels is None:
        return
    height, width = codec.height or 0, codec.width or 0
    check_frame_size(video.name, height, width, max_pixels)
    bits = codec.format.padded_bits_per_pixel if codec.format else 0
    per_pixel = max(bits / 8, 1.0) if bits else _BYTES_PER_PIXEL
    most = most_pixels(video.n_bytes, per_pixel)
    if height * width > most:
        raise RefusedVideoError(
            f"{video.name}: frames of {width} x {height} pixels are too large for a file of "
            f"{video.n_bytes} bytes, at most {most} pixels: set max_pixels=None if you trust it"
        )
    # Frames of another size than the declared one are refused by the decoder itself.
    codec.options = {"max_pixels": str(min(most, max_pixels))}
    n_wanted = min(n_threads or os.cpu_count() or 1, _MAX_THREADS)
    codec.thread_count = min(n_wanted, most_threads(video.n_bytes, height * width * per_pixel))


def _decode_packets(video: OpenVideo, ending: Ending) -> Iterator[av.VideoFrame]:
    av: Any = import_optional("av", "video", "Reading a video file")
    n_decoded = 0
    try:
        for packet in video.packets(ending):
            for frame in packet.decode():
                yield frame
                n_decoded += 1
    except (av.FFmpegError, UnicodeDecodeError) as error:
        message = f"{video.name}: {reason_of(error)} (after {n_decoded} frames)"
        raise VideoDecodeError(message, n_decoded) from error


def _packet_times(name: str, max_pixels: int | None) -> Iterator[tuple[float, float]]:
    """Yield start and duration, in seconds, of the displayed packets of a file, in file order.

    The start is NaN if it is unknown.
    """
    with open_video(name, max_pixels=max_pixels) as video:
        for packet in video.packets():
            if packet.size and not packet.is_discard:
                yield _start_and_duration(packet)


def _decoded_times(name: str, max_pixels: int | None) -> Iterator[tuple[float, float]]:
    """Yield start and duration, in seconds, of each frame of a file, as `_packet_times` does."""
    for decoded in decode(name, max_pixels=max_pixels):
        yield _start_and_duration(decoded.frame)


def _without_guesses(
    starts: NDArray[np.float64], elapsed: NDArray[np.float64], known: NDArray[Any], tolerance: float
) -> NDArray[Any]:
    """Return the numbers of the frames whose starts are to be trusted, among those `known`.

    FFmpeg guesses some of them, and is a frame or two off. A guess does not fit the start before,
    while the next one does; behind a pause, neither does.
    """

    def fits(one: int, other: int) -> bool:
        expected = elapsed[other] - elapsed[one]
        return bool(abs(starts[other] - starts[one] - expected) <= tolerance)

    kept = [known[0]]
    for number, following in pairwise(known[1:]):
        if fits(kept[-1], number) or not fits(kept[-1], following):
            kept.append(number)
    return np.array(kept if len(known) == 1 else [*kept, known[-1]])


def _start_and_duration(item: Any) -> tuple[float, float]:
    """Return start and duration, in seconds, of a packet or frame; NaN and 0 if unknown."""
    unit = float(item.time_base or 0)
    is_known = item.pts is not None and unit > 0
    return item.pts * unit if is_known else math.nan, (item.duration or 0) * unit


def _with_all_starts(
    starts: NDArray[np.float64], durations: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return starts and durations of frames, with those that the file does not tell.

    A frame begins where the one before ends, and no later than the next one whose start is known
    allows. In front of the first known start, frames end where the next begins.
    """
    told = durations[durations > 0]
    usual = float(np.median(told)) if len(told) else 1 / _DEFAULT_RATE
    durations = np.where(durations > 0, durations, usual)
    ends = np.cumsum(durations)
    elapsed = ends - durations
    known = np.flatnonzero(~np.isnan(starts))
    if len(known) == 0:
        return elapsed, durations
    known = _without_guesses(starts, elapsed, known, usual / 2)
    numbers = np.arange(len(starts))
    following = np.searchsorted(known, numbers, side="right")
    before = known[np.maximum(following - 1, 0)]
    after = known[np.minimum(following, len(known) - 1)]
    # Unchanged in front of the first known start and behind the last, where both are the same.
    between = np.maximum(elapsed[after] - elapsed[before], np.finfo(float).tiny)
    available = np.where(after > before, (starts[after] - starts[before]) / between, 1.0)
    pace = np.clip(available, 0.0, 1.0)
    return starts[before] + pace * (elapsed - elapsed[before]), durations
