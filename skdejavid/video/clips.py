"""One video, file or array, as the clips that an encoder has to see, each once and in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.video.decoding import (
    RefusedVideoError,
    ToRGB,
    VideoDecodeError,
    crop_center,
    decode,
    read_clock,
    require_size,
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

__all__ = ["Recipe", "read_clips"]

_SAME_TIME = 1e-6  # seconds


@dataclass(frozen=True)
class Recipe:
    """How clips are made of a video; see `plan_windows` for windows."""

    width: Length | Sequence[Length]
    stride: Length
    clip_length: int | None
    one_by_one: bool
    shorter_side: int | None  # frames are scaled to it, None leaves them as they are
    crop: int | None  # then cropped to the centered square of this size
    short: str = "pad"  # or "raise": what to do about a video shorter than a window
    max_pixels: int | None = None  # of a frame; larger ones are refused

    def check(self) -> None:
        """Refuse windows that mean nothing."""
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
        """The windows of a video with these frames."""
        plan = plan_windows(
            clock, self.width, self.stride, self.clip_length, one_by_one=self.one_by_one
        )
        if self.short == "raise" and plan.is_short:
            raise RefusedVideoError(
                f"{name}: {len(clock.begins)} frame(s), {clock.end:.2f} s, which is shorter than a "
                f"window of width={self.width!r}"
            )
        return plan


class _WrongClockError(Exception):
    """The frames of a file are not those that its packets announced."""


def read_clips(
    video: str | NDArray[np.uint8], recipe: Recipe, *, n_threads: int = 1
) -> Iterator[WindowPlan | NDArray[np.uint8]]:
    """The plan of a video, then its clips (clip_length, 3, height, width) in the plan's order.

    Where windows lie follows from the file's packets, which are read without decoding. Should the
    frames turn out to be others, a second plan follows, and all clips anew.

    Parameters
    ----------
    video : str or ndarray of shape (n_frames, height, width, 3), uint8
        The path of a file, or frames. They have no clock: the plan's spans are numbers of frames.
    recipe : Recipe
        How to cut it.
    n_threads : int, default=1
        Number of threads that decode a file.

    Raises
    ------
    FileNotFoundError, VideoDecodeError
        If the file is missing or broken, or frames of differing size are not scaled.
    RefusedVideoError
        If the recipe refuses it: too short, or its frames too large.
    """
    if isinstance(video, np.ndarray):
        require_size("the video", video.shape[1], video.shape[2], recipe.max_pixels)
        plan = recipe.plan(FrameClock.without_time(len(video)))
        yield plan
        yield from cut_clips(
            video, plan.shown, lambda frame: _finished(_scaled(frame, recipe.shorter_side), recipe)
        )
        return
    try:
        yield from _read_file(video, recipe, read_clock(video), n_threads)
        return
    except _WrongClockError:
        clock = read_clock(video, by_decoding=True)
    try:
        yield from _read_file(video, recipe, clock, n_threads)
    except _WrongClockError as error:
        raise VideoDecodeError(f"{video}: other frames each time it is decoded") from error


def _read_file(
    path: str, recipe: Recipe, clock: FrameClock, n_threads: int
) -> Iterator[WindowPlan | NDArray[np.uint8]]:
    if len(clock.begins) == 0:
        raise _WrongClockError
    plan = recipe.plan(clock, path)
    yield plan
    decoded = decode(path, n_threads=n_threads, max_pixels=recipe.max_pixels)
    frames = _expected(decoded, clock, at_times=recipe.needs_clock)
    to_rgb = ToRGB(recipe.shorter_side, n_threads=n_threads)
    prepare = _of_one_size(lambda frame: _finished(to_rgb(frame), recipe), path)
    yield from cut_clips(frames, plan.shown, prepare)


def _expected(frames: Iterable[Any], clock: FrameClock, *, at_times: bool) -> Iterator[Any]:
    """The frames, as long as they are as many as the clock's and, if asked for, at its times.

    Only windows in seconds ask for it: AVI files with B-frames have a right clock and frames that
    tell wrong times.
    """
    n_frames = 0
    first = None
    for frame in frames:
        if n_frames == len(clock.begins):
            raise _WrongClockError
        if at_times and clock.is_exact and frame.pts is not None:
            time = frame.pts * float(frame.time_base)
            first = time if first is None else first
            if abs(time - first - clock.begins[n_frames]) > _SAME_TIME:
                raise _WrongClockError
        yield frame
        n_frames += 1
    if n_frames != len(clock.begins):
        raise _WrongClockError


def _finished(pixels: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    """A scaled frame (height, width, 3), cropped, as (3, height, width)."""
    if recipe.crop is not None:
        pixels = crop_center(pixels, recipe.crop)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _scaled(frame: NDArray[np.uint8], shorter_side: int | None) -> NDArray[np.uint8]:
    """A frame (height, width, 3) whose shorter side is scaled, with antialiasing."""
    if shorter_side is None:
        return frame
    target = scaled_size(frame.shape[:2], shorter_side)
    if target == frame.shape[:2]:
        return frame
    import torch  # takes seconds

    writable = np.require(frame, requirements=["C", "W"])  # torch warns of any other
    channels_first = torch.from_numpy(writable).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        channels_first, size=target, mode="bilinear", antialias=True
    )
    return resized[0].permute(1, 2, 0).numpy()


def _of_one_size(
    prepare: Callable[[Any], NDArray[np.uint8]], path: str
) -> Callable[[Any], NDArray[np.uint8]]:
    """`prepare`, which refuses frames of another size than the first."""
    sizes: set[tuple[int, ...]] = set()

    def prepare_and_check(frame: Any) -> NDArray[np.uint8]:
        pixels = prepare(frame)
        sizes.add(pixels.shape)
        if len(sizes) > 1:
            raise VideoDecodeError(
                f"{path}: frames of differing sizes {sorted(sizes)}, set frame_size"
            )
        return pixels

    return prepare_and_check
