"""Windows over a video: choosing the frames of each, and cutting them out in one pass.

This module works with frame numbers and times only; it does not read files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ClipCutter",
    "FrameClock",
    "Length",
    "WindowPlan",
    "bytes_of_plan",
    "check_windows",
    "most_frames_at_once",
    "plan_windows",
]

# Number of frames if int, fraction of the video if float, seconds if a string such as "1.5s".
Length = int | float | str

Frame = TypeVar("Frame")

# Fractions such as 1/40 are not exact: without this tolerance the last window could be lost.
_ROUNDING = 1e-9

_COUNTABLE = 2.0**60  # more windows than any memory holds

# Numbers per frame of a window while windows are planned: its moment, its frame number, and what
# finding repeated clips needs.
_NUMBERS_PER_FRAME = 6


class FrameClock(NamedTuple):
    """Display times of the frames of a video, in seconds after the first frame."""

    starts: NDArray[np.float64]  # (n_frames,), not decreasing
    end: float  # end of the last frame
    is_exact: bool = True  # whether decoded frames must have exactly these times

    @classmethod
    def without_time(cls, n_frames: int) -> FrameClock:
        """Return a clock in units of frames, for videos without timestamps."""
        return cls(np.arange(n_frames, dtype=np.float64), float(n_frames), is_exact=False)


class WindowPlan(NamedTuple):
    """Clips to encode, and how their embeddings form a sequence of windows."""

    clip_frames: NDArray[np.int64]  # (n_clips, clip_length) frame numbers of distinct clips
    window_clips: NDArray[np.int64]  # (n_windows, n_widths, n_averaged) clip numbers
    width_spans: NDArray[np.float64]  # (n_windows, n_widths, 2) start and end of each, in seconds
    is_short: bool  # whether the video is shorter than a window, so its last frame is repeated

    @property
    def spans(self) -> NDArray[np.float64]:
        """Start and end of each window of the narrowest width, (n_windows, 2)."""
        shortest = np.diff(self.width_spans, axis=2).min(axis=(0, 2))
        return self.width_spans[:, int(shortest.argmin())]

    def join(self, embeddings: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the sequence (n_windows, n_widths * n_features) of a video.

        `embeddings` are those of its clips, (n_clips, n_features).
        """
        if self.window_clips.shape[2] == 1:
            joined = embeddings[self.window_clips[:, :, 0]]
        else:
            # One window at a time: gathering the clips of all windows would repeat each embedding
            # once per window that contains it.
            joined = np.stack([embeddings[clips].mean(axis=1) for clips in self.window_clips])
        return joined.reshape(len(self.window_clips), -1)


def check_windows(
    width: Length | Sequence[Length], stride: Length, clip_length: int | None
) -> None:
    """Check that lengths are valid and that all clips have the same number of frames.

    Raises
    ------
    ValueError
        If a length is invalid, or `clip_length` is None although windows differ in their number of
        frames. The message names the argument.
    """
    widths = _as_widths(width)
    if not widths:
        raise ValueError("width must contain at least one length, got an empty sequence")
    for name, length in [*(("width", item) for item in widths), ("stride", stride)]:
        _check_length(name, length)
    is_counted = all(isinstance(item, (int, np.integer)) for item in widths)
    if clip_length is None and not (is_counted and len(set(widths)) == 1):
        raise ValueError(
            "clip_length must be set if width is a fraction, in seconds or several widths (got "
            f"width={width!r}): otherwise windows would differ in their number of frames"
        )


def plan_windows(
    clock: FrameClock,
    width: Length | Sequence[Length],
    stride: Length,
    clip_length: int | None = None,
    *,
    one_by_one: bool = False,
) -> WindowPlan:
    """Choose the frames that the encoder sees of each window of a video.

    Windows start at 0, `stride`, 2 * `stride`, ... and end inside the video. Each window is divided
    into `clip_length` equal parts, and the middle frame of each part is taken. A video shorter than
    one window gives one window in which the last frame is repeated.

    Several widths slide in parallel: at 0, `stride`, 2 * `stride`, ... until the end of the video,
    there is one window of each width centered there. A window that would extend beyond the video is
    shifted inside; if it is longer than the video, the last frame is repeated. Windows with the
    same frames share one clip.

    Parameters
    ----------
    clock : FrameClock
        Times of the video's frames.
    width : int, float, str, or sequence of them
        Number of frames if int; fraction of the video's number of frames, in (0, 1], if float;
        seconds if a string such as ``"1.5s"``. The paper's settings for Kinetics-400 and HMDB51 are
        ``width=1/5, stride=1/40``, which gives 33 windows for any video; for Something-Something V2
        ``width=(16, 32, 64, 1.0), stride=1``, which gives one window per frame.
    stride : int, float or str
        Step between windows, like `width`.
    clip_length : int, optional
        Number of frames taken of each window. None takes all frames; `width` must be a single int
        then.
    one_by_one : bool, default=False
        Whether each frame is a clip of its own and embeddings are averaged inside each window.
        Image encoders need this, and no frame is encoded twice.

    Returns
    -------
    WindowPlan
        Clips are ordered by their last frame.

    Raises
    ------
    ValueError
        As in `check_windows`.
    """
    check_windows(width, stride, clip_length)
    widths = _as_widths(width)
    if clip_length is None:
        clip_length = int(widths[0])
    positions = _positions(clock, stride)
    of_widths = [_windows_of_width(clock, item, positions) for item in widths]
    is_short = any(windows.are_too_wide for windows in of_widths)
    if not _is_length(width):
        of_widths = [windows.centered() for windows in of_widths]
    else:
        of_widths = [of_widths[0].without_overhang()]
    frames = np.stack([windows.frames(clock, clip_length) for windows in of_widths], axis=1)
    spans = np.stack([windows.spans(clock) for windows in of_widths], axis=1)
    clip_frames, window_clips = _distinct_clips(frames, one_by_one=one_by_one)
    return WindowPlan(clip_frames, window_clips, spans, is_short)


def bytes_of_plan(
    clock: FrameClock,
    width: Length | Sequence[Length],
    stride: Length,
    clip_length: int | None = None,
) -> float:
    """Return how many bytes `plan_windows` with these arguments takes at most.

    A file that claims a pause of years between two frames has more windows in seconds than fit into
    memory.
    """
    widths = _as_widths(width)
    n_frames = int(widths[0]) if clip_length is None else clip_length
    n_windows = _count_multiples(*_step_and_total(clock, stride))
    numbers = len(widths) * (2 + _NUMBERS_PER_FRAME * n_frames)
    return n_windows * float(numbers) * np.dtype(np.float64).itemsize


def most_frames_at_once(clip_frames: NDArray[np.int64]) -> int:
    """Return how many frames a `ClipCutter` keeps at most, with those of the clip being cut."""
    numbers = clip_frames.ravel()
    users = np.repeat(np.arange(len(clip_frames)), clip_frames.shape[1])
    kept, last_use = np.unique(numbers[::-1], return_index=True)
    released = clip_frames[users[::-1][last_use], -1]  # a frame is kept until its last clip is cut
    change = np.bincount(kept, minlength=int(numbers.max()) + 2)
    np.subtract.at(change, released + 1, 1)
    return int(change.cumsum().max()) + clip_frames.shape[1]


class ClipCutter(Generic[Frame]):
    """Clips of a video, cut out of its frames in one pass.

    Parameters
    ----------
    clip_frames : ndarray of shape (n_clips, clip_length), int64
        Frame numbers of each clip; clips are ordered by their last frame, as in `WindowPlan`.
    """

    def __init__(self, clip_frames: NDArray[np.int64]) -> None:
        users = np.repeat(np.arange(len(clip_frames)), clip_frames.shape[1]).tolist()
        # Keys repeat in the order of clips, so the last clip that uses a frame is the one that
        # stays.
        self._last_user = dict(zip(clip_frames.ravel().tolist(), users, strict=True))
        self._clip_frames = clip_frames
        self._frames: dict[int, Frame] = {}
        self._n_cut = 0

    def needs(self, number: int) -> bool:
        """Return whether a clip contains this frame."""
        return number in self._last_user

    def add(self, number: int, frame: Frame) -> list[list[Frame]]:
        """Add a frame that a clip contains, and return the clips of which it is the last frame.

        Frames must be added in order, each once. The clips contain the frames themselves.
        """
        self._frames[number] = frame
        clips = []
        while self._n_cut < len(self._clip_frames) and self._clip_frames[self._n_cut, -1] == number:
            numbers = self._clip_frames[self._n_cut].tolist()
            clips.append([self._frames[i] for i in numbers])
            # Clips are cut in order, so a frame whose last user was cut is never needed again.
            # Dropping it bounds memory by what overlapping windows share, whatever the length of
            # the video.
            for i in numbers:
                if self._last_user[i] == self._n_cut:
                    self._frames.pop(i, None)
            self._n_cut += 1
        return clips


def _is_length(width: Length | Sequence[Length]) -> bool:
    return isinstance(width, (int, float, str, np.integer, np.floating))


def _as_widths(width: Length | Sequence[Length]) -> list[Length]:
    return [width] if _is_length(width) else list(width)  # type: ignore[arg-type,list-item]


def _check_length(name: str, length: Length) -> None:
    if isinstance(length, str):
        _parse_seconds(name, length)
    elif isinstance(length, (bool, np.bool_)) or not isinstance(
        length, (int, float, np.integer, np.floating)
    ):
        raise ValueError(
            f"{name} must be an int, a float or a string such as '1.5s', got {length!r}"
        )
    elif isinstance(length, (int, np.integer)) and length < 1:
        raise ValueError(f"{name} must be at least 1 frame, got {length}")
    elif isinstance(length, (float, np.floating)) and not 0 < length <= 1:
        raise ValueError(f"{name} as a fraction of the video must lie in (0, 1], got {length}")


def _parse_seconds(name: str, length: str) -> float:
    try:
        seconds = float(length.removesuffix("s"))
    except ValueError:
        seconds = math.nan
    if not (length.endswith("s") and 0 < seconds < math.inf):
        raise ValueError(
            f"{name} must be a number of frames (16), a fraction of the video (0.2) or a positive "
            f"number of seconds followed by 's' ('1.5s'), got {length!r}"
        )
    return seconds


class _Windows(NamedTuple):
    """Windows of one width, in seconds or in frames."""

    starts: NDArray[np.float64]  # (n_windows,)
    width: float
    total: float  # length of the video
    in_seconds: bool

    @property
    def are_too_wide(self) -> bool:
        """Whether a window is longer than the video."""
        return self.width > self._limit

    @property
    def _limit(self) -> float:
        return self.total + _ROUNDING * max(self.total, 1.0)

    def without_overhang(self) -> _Windows:
        """Return the windows that end inside the video, and always the first window."""
        fits = self.starts + self.width <= self._limit
        fits[0] = True
        return self._replace(starts=self.starts[fits])

    def centered(self) -> _Windows:
        """Return windows centered at the starts of these ones, shifted inside the video."""
        half = self.width / 2 if self.in_seconds else self.width // 2
        starts = np.clip(self.starts - half, 0.0, max(self.total - self.width, 0.0))
        return self._replace(starts=starts)

    def frames(self, clock: FrameClock, clip_length: int) -> NDArray[np.int64]:
        """Return frame numbers in the middles of equal parts, (n_windows, clip_length).

        After the end of the video the last frame is repeated.
        """
        middles = (np.arange(clip_length) + 0.5) * (self.width / clip_length)
        moments = self.starts[:, None] + middles + _ROUNDING
        if self.in_seconds:
            return np.maximum(np.searchsorted(clock.starts, moments, side="right") - 1, 0)
        return np.minimum(moments.astype(np.int64), len(clock.starts) - 1)

    def spans(self, clock: FrameClock) -> NDArray[np.float64]:
        """Return starts and ends in seconds, (n_windows, 2)."""
        limits = np.column_stack([self.starts, self.starts + self.width])
        seconds = limits if self.in_seconds else _time_at(clock, limits)
        return np.minimum(seconds, clock.end)


def _positions(
    clock: FrameClock, stride: Length
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the multiples of `stride` inside the video, in frames and in seconds."""
    step, total = _step_and_total(clock, stride)
    multiples = np.multiply(np.arange(_count_multiples(step, total)), step, dtype=np.float64)
    if not isinstance(stride, str):
        return multiples, _time_at(clock, multiples)
    frames = np.searchsorted(clock.starts, multiples + _ROUNDING, side="right") - 1.0
    return np.maximum(frames, 0.0), multiples


def _step_and_total(clock: FrameClock, stride: Length) -> tuple[float, float]:
    """Return `stride` and the length of the video, in seconds or in frames."""
    if isinstance(stride, str):
        return _parse_seconds("stride", stride), clock.end
    n_frames = len(clock.starts)
    step = stride if isinstance(stride, (int, np.integer)) else stride * n_frames
    return float(step), float(n_frames)


def _count_multiples(step: float, total: float) -> int:
    """Return the number of multiples of `step` below `total`; 0 counts in any case."""
    return max(math.ceil(min(total / step - _ROUNDING, _COUNTABLE)), 1)


def _windows_of_width(
    clock: FrameClock, width: Length, positions: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> _Windows:
    in_frames, in_seconds = positions
    n_frames = len(clock.starts)
    if isinstance(width, str):
        return _Windows(in_seconds, _parse_seconds("width", width), clock.end, in_seconds=True)
    n_covered = width if isinstance(width, (int, np.integer)) else width * n_frames
    return _Windows(in_frames, float(n_covered), float(n_frames), in_seconds=False)


def _time_at(clock: FrameClock, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert positions in frames to seconds, interpolating linearly inside of a frame."""
    edges = np.append(clock.starts, clock.end)
    return np.interp(positions, np.arange(len(edges)), edges)


def _distinct_clips(
    frames: NDArray[np.int64], *, one_by_one: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return distinct clips ordered by their last frame, and the clip numbers of each window.

    `frames` are the frame numbers of all windows, (n_windows, n_widths, clip_length).
    """
    n_windows, n_widths, clip_length = frames.shape
    size = 1 if one_by_one else clip_length
    rows = frames.reshape(-1, size)
    # Sorting rows is slow, and most windows inside of a long pause repeat the one before.
    differs = np.concatenate([[True], (rows[1:] != rows[:-1]).any(axis=1)])
    clips, inverse = np.unique(rows[differs], axis=0, return_inverse=True)
    inverse = inverse.ravel()[np.cumsum(differs) - 1]
    order = np.lexsort((clips[:, 0], clips[:, -1]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return clips[order], rank[inverse].reshape(n_windows, n_widths, -1)
