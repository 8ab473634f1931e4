"""Which frames of a video each window shows to the encoder, and cutting them out in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["cut_clips", "window_frames"]

# Fractions such as 1/40 are not exact; a window that misses the end by this much still counts.
_ROUNDING = 1e-9


def window_frames(
    n_frames: int, width: int | float, stride: int | float, clip_length: int | None = None
) -> NDArray[np.int64]:
    """Frame numbers that each window of a video shows to the encoder.

    Windows begin at 0, `stride`, 2 * `stride`, ... as long as they end inside the video. Of each
    window the middle frames of `clip_length` equal parts are shown. A video shorter than one window
    gives one window, in which the last frame is repeated.

    Parameters
    ----------
    n_frames : int
        Length of the video, at least 1.
    width, stride : int or float
        Frames if int; fractions of the video's length, in (0, 1], if float. The paper's recipe for
        Kinetics-400 and HMDB51 is ``width=1/5, stride=1/40``: 33 windows whatever the length.
    clip_length : int, optional
        Number of frames shown per window. None means all `width` frames, which must be an int then.

    Returns
    -------
    ndarray of shape (n_windows, clip_length), int64
        Never decreasing along either axis.
    """
    if clip_length is None:
        if not isinstance(width, (int, np.integer)):
            raise ValueError(
                f"clip_length is needed where width is a fraction ({width}): without it windows of "
                "differing videos would differ in length"
            )
        clip_length = int(width)
    window = _in_frames(width, n_frames)
    step = _in_frames(stride, n_frames)
    n_windows = max(math.floor((n_frames - window) / step + _ROUNDING), 0) + 1
    begins = np.arange(n_windows)[:, None] * step
    middles = (np.arange(clip_length) + 0.5) * (window / clip_length)
    frames = np.floor(begins + middles + _ROUNDING).astype(np.int64)
    return np.minimum(frames, n_frames - 1)


def cut_clips(
    frames: Iterable[NDArray[np.uint8]],
    shown: NDArray[np.int64],
    prepare: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda frame: frame,
) -> Iterator[NDArray[np.uint8]]:
    """Clips (clip_length, height, width, 3), one per row of `shown`, in one pass over `frames`.

    Each frame that is shown goes through `prepare` once, and is held until no later window needs
    it, so memory is bounded by what one window spans.
    """
    needed = set(shown.ravel().tolist())
    held: dict[int, NDArray[np.uint8]] = {}
    window = 0
    for number, frame in enumerate(frames):
        if number in needed:
            held[number] = prepare(frame)
        while window < len(shown) and shown[window, -1] == number:
            yield np.stack([held[i] for i in shown[window].tolist()])
            window += 1
            oldest = shown[window, 0] if window < len(shown) else number + 1
            held = {i: kept for i, kept in held.items() if i >= oldest}


def _in_frames(length: int | float, n_frames: int) -> float:
    return float(length) if isinstance(length, (int, np.integer)) else length * n_frames
