"""Which frames of a video each window shows to the encoder, and cutting them out in one pass.

Knows numbers and times of frames, nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameClock", "Length", "WindowPlan", "check_windows", "cut_clips", "plan_windows"]

# Frames if int, a fraction of the video if float, seconds if a string such as "1.5s".
Length = int | float | str

# Fractions such as 1/40 are not exact; a window that misses the end by this much still counts.
_ROUNDING = 1e-9


class FrameClock(NamedTuple):
    """When each frame of a video is shown, in seconds after the first."""

    begins: NDArray[np.float64]  # (n_frames,), not decreasing
    end: float  # of the last frame
    is_exact: bool = True  # whether these are the times that the frames themselves must have

    @classmethod
    def without_time(cls, n_frames: int) -> FrameClock:
        """A clock that counts frames, for videos that have no other."""
        return cls(np.arange(n_frames, dtype=np.float64), float(n_frames), is_exact=False)


class WindowPlan(NamedTuple):
    """The clips that an encoder has to see, and the rows of the sequence made of them."""

    shown: NDArray[np.int64]  # (n_clips, clip_length) frame numbers, no clip twice
    rows: NDArray[np.int64]  # (n_rows, n_widths, n_averaged) clips joined into a row
    spans: NDArray[np.float64]  # (n_rows, 2) begin and end of the row's narrowest window, seconds
    is_short: (
        bool  # whether the video is shorter than a window, in which its last frame is repeated
    )

    def join(self, embeddings: NDArray[np.floating]) -> NDArray[np.floating]:
        """The sequence (n_rows, n_widths * n_features) out of the clips' (n_clips, n_features)."""
        if self.rows.shape[2] == 1:
            joined = embeddings[self.rows[:, :, 0]]
        else:
            # Row by row, so that no array of all clips of all windows is made.
            joined = np.stack([embeddings[row].mean(axis=1) for row in self.rows])
        return joined.reshape(len(self.rows), -1)


def check_windows(
    width: Length | Sequence[Length], stride: Length, clip_length: int | None
) -> None:
    """Refuse lengths that mean nothing, and windows whose number of frames would differ.

    Raises
    ------
    ValueError
        Naming the argument.
    """
    widths = _as_widths(width)
    if not widths:
        raise ValueError("width must name at least one length, got an empty sequence")
    for name, length in [*(("width", item) for item in widths), ("stride", stride)]:
        _check_length(name, length)
    is_counted = all(isinstance(item, (int, np.integer)) for item in widths)
    if clip_length is None and not (is_counted and len(set(widths)) == 1):
        raise ValueError(
            "clip_length is needed where width is a fraction, in seconds or several "
            f"({width!r}): without it windows would differ in their number of frames"
        )


def plan_windows(
    clock: FrameClock,
    width: Length | Sequence[Length],
    stride: Length,
    clip_length: int | None = None,
    *,
    one_by_one: bool = False,
) -> WindowPlan:
    """Which frames each window of a video shows to the encoder.

    Windows begin at 0, `stride`, 2 * `stride`, ... as long as they end inside the video. Of each
    window the middle frames of `clip_length` equal parts are shown. A video shorter than one window
    gives one window, in which the last frame is repeated.

    Several widths slide in parallel: at 0, `stride`, 2 * `stride`, ... until the end of the video
    there is one window of each width, in the middle of which that moment lies; where it would stick
    out, it is moved inside, and if it is longer than the video, the last frame is repeated. Windows
    that show the same frames are one clip.

    Parameters
    ----------
    clock : FrameClock
        The video's frames.
    width, stride : int, float or str
        Frames if int; fractions of the video's number of frames, in (0, 1], if float; seconds if a
        string such as ``"1.5s"``. The paper's recipe for Kinetics-400 and HMDB51 is
        ``width=1/5, stride=1/40``: 33 windows whatever the length; for Something-Something V2
        ``width=(16, 32, 64, 1.0), stride=1``: as many rows as frames.
    clip_length : int, optional
        Number of frames shown per window. None means all `width` frames, which must be one int.
    one_by_one : bool, default=False
        Whether each frame is a clip of its own, and a row averages those of its windows: for
        encoders of images, which need not see a frame twice.

    Returns
    -------
    WindowPlan
        Clips are ordered by the last frame they show.
    """
    check_windows(width, stride, clip_length)
    widths = _as_widths(width)
    if clip_length is None:
        clip_length = int(widths[0])
    moments = _moments(clock, stride)
    of_widths = [_windows(clock, item, moments) for item in widths]
    is_short = any(windows.are_too_wide for windows in of_widths)
    if not _is_length(width):
        of_widths = [windows.moved_inside() for windows in of_widths]
    else:
        of_widths = [of_widths[0].that_fit()]
    shown = np.stack([windows.frames(clock, clip_length) for windows in of_widths], axis=1)
    spans = [windows.spans(clock) for windows in of_widths]
    narrowest = int(np.argmin([np.diff(span, axis=1).min() for span in spans]))
    clips, rows = _distinct(shown, one_by_one=one_by_one)
    return WindowPlan(clips, rows, spans[narrowest], is_short)


def cut_clips(
    frames: Iterable[NDArray[np.uint8]],
    shown: NDArray[np.int64],
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda frame: frame,
) -> Iterator[NDArray[np.uint8]]:
    """Clips (clip_length, ...), one per row of `shown`, in one pass over `frames`.

    Each frame that is shown goes through `prepare` once, and is held until the last clip that needs
    it is cut, so memory is bounded by what the windows around one moment show. All of `frames` are
    read, also those after the last clip.

    Parameters
    ----------
    frames : iterable
        The frames of the video, in order.
    shown : ndarray of shape (n_clips, clip_length), int64
        Their numbers; clips ordered by their last frame, as `plan_windows` makes them.
    prepare : callable
        Applied to each frame that is shown.
    """
    users = np.repeat(np.arange(len(shown)), shown.shape[1]).tolist()
    last_use = dict(zip(shown.ravel().tolist(), users, strict=True))  # later users replace earlier
    ends = shown[:, -1].tolist()
    held: dict[int, NDArray[np.uint8]] = {}
    clip = 0
    for number, frame in enumerate(frames):
        if number in last_use:
            held[number] = prepare(frame)
        n_before = clip
        while clip < len(ends) and ends[clip] == number:
            yield np.stack([held[i] for i in shown[clip].tolist()])
            clip += 1
        if clip > n_before:
            held = {i: kept for i, kept in held.items() if last_use[i] >= clip}


def _is_length(width: Length | Sequence[Length]) -> bool:
    return isinstance(width, (int, float, str, np.integer, np.floating))


def _as_widths(width: Length | Sequence[Length]) -> list[Length]:
    return [width] if _is_length(width) else list(width)  # type: ignore[arg-type,list-item]


def _check_length(name: str, length: Length) -> None:
    if isinstance(length, str):
        _seconds(name, length)
    elif isinstance(length, (bool, np.bool_)) or not isinstance(
        length, (int, float, np.integer, np.floating)
    ):
        raise ValueError(f"{name} must be an int, a float or a string such as '1.5s': {length!r}")
    elif isinstance(length, (int, np.integer)) and length < 1:
        raise ValueError(f"{name} must be at least 1 frame, got {length}")
    elif isinstance(length, (float, np.floating)) and not 0 < length <= 1:
        raise ValueError(f"{name} as a fraction of the video must be in (0, 1], got {length}")


def _seconds(name: str, length: str) -> float:
    try:
        seconds = float(length.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not (length.endswith("s") and 0 < seconds < math.inf):
        raise ValueError(f"{name} in seconds must be a positive number and 's', got {length!r}")
    return seconds


class _Windows(NamedTuple):
    """Windows of one width, all in seconds or all in frames."""

    begins: NDArray[np.float64]  # (n_windows,)
    width: float
    total: float  # of the video
    in_seconds: bool

    @property
    def are_too_wide(self) -> bool:
        """Whether none of them has room in the video."""
        return self.width > self._limit

    @property
    def _limit(self) -> float:
        return self.total + _ROUNDING * max(self.total, 1.0)

    def that_fit(self) -> _Windows:
        """Those that end inside the video, and the first in any case."""
        fit = self.begins + self.width <= self._limit
        fit[0] = True
        return self._replace(begins=self.begins[fit])

    def moved_inside(self) -> _Windows:
        """Windows in the middle of which the others begin, but for those that would stick out."""
        half = self.width / 2 if self.in_seconds else self.width // 2
        begins = np.clip(self.begins - half, 0.0, max(self.total - self.width, 0.0))
        return self._replace(begins=begins)

    def frames(self, clock: FrameClock, clip_length: int) -> NDArray[np.int64]:
        """What is on screen in the middles of `clip_length` equal parts, (n_windows, clip_length).

        After the end that is the last frame.
        """
        middles = (np.arange(clip_length) + 0.5) * (self.width / clip_length)
        moments = self.begins[:, None] + middles + _ROUNDING
        if self.in_seconds:
            return np.maximum(np.searchsorted(clock.begins, moments, side="right") - 1, 0)
        return np.minimum(moments.astype(np.int64), len(clock.begins) - 1)

    def spans(self, clock: FrameClock) -> NDArray[np.float64]:
        """Their begins and ends, in seconds, (n_windows, 2)."""
        limits = np.column_stack([self.begins, self.begins + self.width])
        seconds = limits if self.in_seconds else _time_at(clock, limits)
        return np.minimum(seconds, clock.end)


def _moments(clock: FrameClock, stride: Length) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where windows begin, at least one place: in frames and in seconds."""
    n_frames = len(clock.begins)
    if isinstance(stride, str):
        seconds = _multiples(_seconds("stride", stride), clock.end)
        frames = np.searchsorted(clock.begins, seconds + _ROUNDING, side="right") - 1.0
        return np.maximum(frames, 0.0), seconds
    step = stride if isinstance(stride, (int, np.integer)) else stride * n_frames
    frames = _multiples(float(step), float(n_frames))
    return frames, _time_at(clock, frames)


def _multiples(step: float, total: float) -> NDArray[np.float64]:
    """All multiples of `step` below `total`, and 0."""
    n_multiples = max(math.ceil(total / step - _ROUNDING), 1)
    return np.multiply(np.arange(n_multiples), step, dtype=np.float64)


def _windows(
    clock: FrameClock, width: Length, moments: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> _Windows:
    in_frames, in_seconds = moments
    n_frames = len(clock.begins)
    if isinstance(width, str):
        return _Windows(in_seconds, _seconds("width", width), clock.end, in_seconds=True)
    n_shown = width if isinstance(width, (int, np.integer)) else width * n_frames
    return _Windows(in_frames, float(n_shown), float(n_frames), in_seconds=False)


def _time_at(clock: FrameClock, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """When positions in frames are reached; inside of a frame time passes evenly."""
    edges = np.append(clock.begins, clock.end)
    return np.interp(positions, np.arange(len(edges)), edges)


def _distinct(
    shown: NDArray[np.int64], *, one_by_one: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct clips by their last frame, and which of them each window is.

    `shown` is (n_rows, n_widths, clip_length).
    """
    n_rows, n_widths, clip_length = shown.shape
    size = 1 if one_by_one else clip_length
    clips, places = np.unique(shown.reshape(-1, size), axis=0, return_inverse=True)
    order = np.lexsort((clips[:, 0], clips[:, -1]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return clips[order], rank[places.ravel()].reshape(n_rows, n_widths, -1)
