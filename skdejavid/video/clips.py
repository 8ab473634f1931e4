"""Reading the frames that the clips of one video, a file or an array, contain, in one pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.optional import import_optional
from skdejavid.compat.tensors import as_tensor
from skdejavid.compat.threads import on_one_thread
from skdejavid.video.decoding import (
    ToRGB,
    check_frame_size,
    crop_center,
    decode,
    read_clock,
    scaled_size,
)
from skdejavid.video.opening import RefusedVideoError, VideoDecodeError, bytes_for
from skdejavid.video.windows import (
    FrameClock,
    Length,
    WindowPlan,
    bytes_of_plan,
    check_windows,
    most_frames_at_once,
    plan_windows,
)

__all__ = ["ClipSpec", "FrameGeometry", "NumberedFrame", "check_cost", "read_frames"]

_TIME_TOLERANCE = 1e-6  # seconds
_COPIES_OF_FRAME = 3  # while it is converted and scaled
_TIMES_FOR_FULL_SIZE = 5  # what frames may cost, compared with bytes_for, if they are not scaled


class FrameGeometry(Protocol):
    """Scaling and cropping of frames of full size, as `Geometry` does it."""

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the frame (height, width, 3) as (3, height, width), or raise ValueError."""

    def scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width between scaling and cropping, of a frame of this size."""


@dataclass(frozen=True)
class ClipSpec:
    """Settings for cutting a video into clips; see `plan_windows` for windows."""

    width: Length | Sequence[Length]
    stride: Length
    clip_length: int | None
    one_by_one: bool
    shorter_side: int | None  # frames are scaled to it; None keeps their size
    crop: int | None  # side of the centered square that scaled frames are cropped to
    geometry: FrameGeometry | None = None  # instead of scaling to `shorter_side`; see InputSpec
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
    def n_frames(self) -> int:
        """Number of frames of a clip; the spec must be valid."""
        if self.clip_length is not None:
            return self.clip_length
        width = self.width if isinstance(self.width, (int, float, str)) else self.width[0]
        return int(width)

    @property
    def needs_clock(self) -> bool:
        """Whether a length is in seconds."""
        widths = [self.width] if isinstance(self.width, (int, float, str)) else self.width
        return any(isinstance(length, str) for length in [*widths, self.stride])

    def plan(
        self, clock: FrameClock, name: str = "the video", n_bytes: int | None = None
    ) -> WindowPlan:
        """Return the windows of a video with these frame times.

        `name` is the video's name in RefusedVideoErrors: of a video that is too short, or, if
        `n_bytes`, the size of its file or array, is given, of one with too many windows for it.
        """
        if n_bytes is not None:
            cost = bytes_of_plan(clock, self.width, self.stride, self.clip_length)
            what = f"the windows of {clock.end:.4g} s"
            check_cost(name, what, cost, n_bytes, "use a larger stride")
        plan = plan_windows(
            clock, self.width, self.stride, self.clip_length, one_by_one=self.one_by_one
        )
        if self.short == "raise" and plan.is_short:
            raise RefusedVideoError(
                f"{name}: {len(clock.starts)} frame(s), {clock.end:.2f} s, which is shorter than a "
                f"window of width={self.width!r}"
            )
        return plan


def check_cost(
    name: str, what: str, cost: float, n_bytes: int, remedy: str, *, times: int = 1
) -> None:
    """Check what the content of a video would cost, before it is allocated.

    Parameters
    ----------
    name, what, remedy : str
        The video, what would be allocated, and what the user can do, for the message.
    cost : float
        Number of bytes to allocate.
    n_bytes : int
        Size of the file or array.
    times : int, default=1
        How often the usual amount is allowed, of what the user has asked for.

    Raises
    ------
    RefusedVideoError
        If `cost` exceeds `times` `bytes_for` this size.
    """
    most = times * bytes_for(n_bytes)
    if cost > most:
        raise RefusedVideoError(
            f"{name}: {what} would take {cost / 1e6:.4g} MB, too much for a video of {n_bytes} "
            f"bytes (at most {most / 1e6:.4g} MB): {remedy}"
        )


class _WrongClockError(Exception):
    """Error raised if decoded frames differ from the clock that windows were planned with."""


class NumberedFrame(NamedTuple):
    """A frame of a video that a clip contains, scaled and cropped."""

    number: int
    pixels: NDArray[np.uint8]  # (3, height, width), contiguous


def read_frames(
    video: str | NDArray[np.uint8], spec: ClipSpec, *, n_threads: int = 1
) -> Generator[WindowPlan | NumberedFrame]:
    """Yield the plan of a video, then each frame that its clips contain, once and in order.

    Windows of a file are planned from its packets, without decoding. If the decoded frames differ
    from the packets, a second plan is yielded, followed by its frames from the first one on. The
    video is read to its end, so that an error after the last clip is raised as well.

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
    WindowPlan or NumberedFrame
        A plan, or a frame of the latest plan.

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
        clock = read_clock(video, max_pixels=spec.max_pixels)
        yield from _read_file(video, spec, clock, n_threads)
        return
    except _WrongClockError:
        clock = read_clock(video, by_decoding=True, max_pixels=spec.max_pixels)
    try:
        yield from _read_file(video, spec, clock, n_threads)
    except _WrongClockError as error:
        raise VideoDecodeError(f"{video}: decoding it again gives different frames") from error


def _read_array(video: NDArray[np.uint8], spec: ClipSpec) -> Iterator[WindowPlan | NumberedFrame]:
    check_frame_size("the video", video.shape[1], video.shape[2], spec.max_pixels)
    _check_scaled_size("the video", spec, video.shape[1:3], video.nbytes)
    plan = spec.plan(FrameClock.without_time(len(video)), n_bytes=video.nbytes)
    yield plan

    def prepare(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if spec.geometry:
            return _apply(spec.geometry, frame, "the video")
        return _crop_channels_first(_scale(frame, spec.shorter_side), spec.crop)

    yield from _prepare_used(video, plan.clip_frames, prepare)


def _read_file(
    path: str, spec: ClipSpec, clock: FrameClock, n_threads: int
) -> Iterator[WindowPlan | NumberedFrame]:
    if len(clock.starts) == 0:
        raise _WrongClockError
    n_bytes = os.stat(path).st_size
    plan = spec.plan(clock, path, n_bytes)
    yield plan
    decoded = decode(path, n_threads=n_threads, max_pixels=spec.max_pixels)
    frames = _check_against_clock(decoded, clock, at_times=spec.needs_clock)
    # A processor gets frames of full size.
    to_rgb = ToRGB(None if spec.geometry else spec.shorter_side, n_threads=n_threads)
    n_at_once = most_frames_at_once(plan.clip_frames)

    def prepare(frame: Any) -> NDArray[np.uint8]:
        _check_scaled_size(path, spec, (frame.height, frame.width), n_bytes, n_at_once)
        rgb = to_rgb(frame)
        if spec.geometry:
            return _apply(spec.geometry, rgb, path)
        return _crop_channels_first(rgb, spec.crop)

    yield from _prepare_used(frames, plan.clip_frames, _check_sizes(prepare, path))


def _prepare_used(
    frames: Iterable[Any],
    clip_frames: NDArray[np.int64],
    prepare: Callable[[Any], NDArray[np.uint8]],
) -> Iterator[NumberedFrame]:
    """Apply `prepare` to each frame that belongs to a clip; read `frames` to their end."""
    is_used = np.zeros(int(clip_frames.max()) + 1, dtype=bool)
    is_used[clip_frames] = True
    for number, frame in enumerate(frames):
        if number < len(is_used) and is_used[number]:
            yield NumberedFrame(number, np.ascontiguousarray(prepare(frame)))


def _apply(geometry: FrameGeometry, frame: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Apply a geometry; raise RefusedVideoError with the name of the video if it fails."""
    # Each of the threads that read videos would start as many threads of torch as there are cores.
    try:
        return on_one_thread(geometry)(frame)
    except ValueError as error:
        height, width = frame.shape[:2]
        raise RefusedVideoError(f"{name}: a frame of {width} x {height} pixels: {error}") from error


def _check_scaled_size(
    name: str, spec: ClipSpec, size: tuple[int, int], n_bytes: int, n_at_once: int = 1
) -> None:
    """Check what frames of this size cost: one while it is scaled, and all that are kept at once.

    The longer side of a narrow frame grows with the shorter one.
    """
    if spec.max_pixels is None:
        return
    height, width = size
    if spec.geometry is not None:
        height, width = spec.geometry.scaled_size(size)
    elif spec.shorter_side is not None:
        height, width = scaled_size(size, spec.shorter_side)
    cost = _COPIES_OF_FRAME * height * width * 3
    remedy = "set max_pixels=None if you trust it"
    check_cost(name, f"a frame of {width} x {height} pixels", cost, n_bytes, remedy)
    if spec.crop is not None:
        height, width = min(height, spec.crop), min(width, spec.crop)
    remedy = f"set frame_size or a smaller clip_length, or {remedy[4:]}"
    what = f"{n_at_once} frames of {width} x {height} pixels, for overlapping windows,"
    times = _TIMES_FOR_FULL_SIZE if spec.shorter_side is None else 1
    check_cost(name, what, n_at_once * height * width * 3, n_bytes, remedy, times=times)


def _check_against_clock(
    frames: Iterable[Any], clock: FrameClock, *, at_times: bool
) -> Iterator[Any]:
    """Yield `frames`; raise _WrongClockError if their number or times differ from the clock.

    Times are compared only with `at_times`, for windows in seconds: some AVI files with B-frames
    (of H.264) have correct packet times and frames with the times of others, and would be decoded
    twice for nothing.
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
