"""Reading the clips of one video, a file or an array, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.compat.tensors import as_tensor
from skdejavid.video.decoding import (
    RefusedVideoError,
    ToRGB,
    VideoDecodeError,
    check_frame_size,
    crop_center,
    decode,
    read_clock,
    scaled_size,
)
from skdejavid.video.windows import (
    FrameClock,
    Length,
    WindowPlan,
    check_windows,
    cut_clips,
    plan_windows,
)

__all__ = ["ClipSpec", "read_clips"]

_TIME_TOLERANCE = 1e-6  # seconds


@dataclass(frozen=True)
class ClipSpec:
    """Settings for cutting a video into clips; see `plan_windows` for windows."""

    width: Length | Sequence[Length]
    stride: Length
    clip_length: int | None
    one_by_one: bool
    shorter_side: int | None  # frames are scaled to it; None keeps their size
    crop: int | None  # side of the centered square that scaled frames are cropped to
    short: str = "pad"  # "pad" or "raise", for videos shorter than a window
    max_pixels: int | None = None  # maximum number of pixels of a frame

    def check(self) -> None:
        """Check windows and frame sizes; raise ValueError if they are invalid."""
        check_windows(self.width, self.stride, self.clip_length)
        if self.crop is not None and (self.shorter_side is None or self.crop > self.shorter_side):
            raise ValueError(
                f"frame_size: frames are scaled to {self.shorter_side} and cannot be cropped to "
                f"{self.crop}"
            )

    @property
    def needs_clock(self) -> bool:
        """Whether a length is in seconds."""
        widths = [self.width] if isinstance(self.width, (int, float, str)) else self.width
        return any(isinstance(length, str) for length in [*widths, self.stride])

    def plan(self, clock: FrameClock, name: str = "the video") -> WindowPlan:
        """Return the windows of a video with these frame times.

        `name` is the video's name in the RefusedVideoError of a video that is too short.
        """
        plan = plan_windows(
            clock, self.width, self.stride, self.clip_length, one_by_one=self.one_by_one
        )
        if self.short == "raise" and plan.is_short:
            raise RefusedVideoError(
                f"{name}: {len(clock.starts)} frame(s), {clock.end:.2f} s, which is shorter than a "
                f"window of width={self.width!r}"
            )
        return plan


class _WrongClockError(Exception):
    """Error raised if decoded frames differ from the clock that windows were planned with."""


def read_clips(
    video: str | NDArray[np.uint8], spec: ClipSpec, *, n_threads: int = 1
) -> Iterator[WindowPlan | NDArray[np.uint8]]:
    """Yield the plan of a video, then its clips (clip_length, 3, height, width) in order.

    Windows of a file are planned from its packets, without decoding. If the decoded frames differ
    from the packets, a second plan is yielded, followed by all clips again.

    Parameters
    ----------
    video : str or ndarray of shape (n_frames, height, width, 3), uint8
        Path of a file, or frames. Frames have no timestamps: spans of the plan are frame numbers.
    spec : ClipSpec
        Windows and frame size.
    n_threads : int, default=1
        Number of decoding threads of a file.

    Yields
    ------
    WindowPlan or ndarray of uint8
        A plan, or a clip of the latest plan.

    Raises
    ------
    FileNotFoundError, VideoDecodeError
        If the file is missing or broken, or its frames differ in size and `spec` does not scale
        them.
    RefusedVideoError
        If the video is too short or its frames are too large for `spec`.
    """
    if isinstance(video, np.ndarray):
        yield from _read_array(video, spec)
        return
    try:
        yield from _read_file(video, spec, read_clock(video), n_threads)
        return
    except _WrongClockError:
        clock = read_clock(video, by_decoding=True)
    try:
        yield from _read_file(video, spec, clock, n_threads)
    except _WrongClockError as error:
        raise VideoDecodeError(f"{video}: decoding it again gives different frames") from error


def _read_array(
    video: NDArray[np.uint8], spec: ClipSpec
) -> Iterator[WindowPlan | NDArray[np.uint8]]:
    check_frame_size("the video", video.shape[1], video.shape[2], spec.max_pixels)
    plan = spec.plan(FrameClock.without_time(len(video)))
    yield plan
    yield from cut_clips(
        video,
        plan.clip_frames,
        lambda frame: _crop_channels_first(_scale(frame, spec.shorter_side), spec.crop),
    )


def _read_file(
    path: str, spec: ClipSpec, clock: FrameClock, n_threads: int
) -> Iterator[WindowPlan | NDArray[np.uint8]]:
    if len(clock.starts) == 0:
        raise _WrongClockError
    plan = spec.plan(clock, path)
    yield plan
    decoded = decode(path, n_threads=n_threads, max_pixels=spec.max_pixels)
    frames = _check_against_clock(decoded, clock, at_times=spec.needs_clock)
    to_rgb = ToRGB(spec.shorter_side, n_threads=n_threads)
    prepare = _check_sizes(lambda frame: _crop_channels_first(to_rgb(frame), spec.crop), path)
    yield from cut_clips(frames, plan.clip_frames, prepare)


def _check_against_clock(
    frames: Iterable[Any], clock: FrameClock, *, at_times: bool
) -> Iterator[Any]:
    """Yield `frames`; raise _WrongClockError if their number or times differ from the clock.

    Times are compared only with `at_times`, for windows in seconds: AVI files with B-frames have
    correct packet times and wrong frame times, and would be decoded twice for nothing.
    """
    n_frames = 0
    first = None
    for frame in frames:
        if n_frames == len(clock.starts):
            raise _WrongClockError
        if at_times and clock.is_exact and frame.pts is not None:
            time = frame.pts * float(frame.time_base)
            first = time if first is None else first
            if abs(time - first - clock.starts[n_frames]) > _TIME_TOLERANCE:
                raise _WrongClockError
        yield frame
        n_frames += 1
    if n_frames != len(clock.starts):
        raise _WrongClockError


def _crop_channels_first(frame: NDArray[np.uint8], crop: int | None) -> NDArray[np.uint8]:
    """Crop a scaled frame (height, width, 3) and return it as (3, height, width)."""
    if crop is not None:
        frame = crop_center(frame, crop)
    return np.ascontiguousarray(frame.transpose(2, 0, 1))


def _scale(frame: NDArray[np.uint8], shorter_side: int | None) -> NDArray[np.uint8]:
    """Scale a frame (height, width, 3) to `shorter_side`, with antialiasing."""
    if shorter_side is None:
        return frame
    target = scaled_size(frame.shape[:2], shorter_side)
    if target == frame.shape[:2]:
        return frame
    torch: Any = import_optional("torch", "video", "TSEExtractor")
    contiguous = np.ascontiguousarray(frame)  # torch has no negative strides
    channels_first = as_tensor(contiguous).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        channels_first, size=target, mode="bilinear", antialias=True
    )
    pixels: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    return pixels


def _check_sizes(
    prepare: Callable[[Any], NDArray[np.uint8]], path: str
) -> Callable[[Any], NDArray[np.uint8]]:
    """Wrap `prepare` to raise VideoDecodeError if frames of the file differ in size."""
    sizes: set[tuple[int, ...]] = set()

    def prepare_and_check(frame: Any) -> NDArray[np.uint8]:
        pixels = prepare(frame)
        sizes.add(pixels.shape)
        if len(sizes) > 1:
            raise VideoDecodeError(
                f"{path}: frames have different sizes {sorted(sizes)}: set frame_size to scale them"
            )
        return pixels

    return prepare_and_check
