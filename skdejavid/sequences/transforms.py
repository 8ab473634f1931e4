"""Functions of whole sequences: differences over time, resampling, and missing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skdejavid.compat.parameters import as_python
from skdejavid.sequences.array import TSEArray
from skdejavid.sequences.layout import SequenceView, starts_of

__all__ = [
    "Lag",
    "check_lags",
    "interpolate",
    "lagged_frames",
    "names_with_differences",
    "resample",
    "with_differences",
]

Lag = int | float


_LONGEST = 2**31  # frames of a sequence


def check_lags(lags: Any, name: str) -> tuple[Lag, ...]:
    """Check lags and return them as a tuple of Python numbers.

    Each is a number of frames, at least 1, or a fraction of a sequence between 0 and 1. In an array
    of floats, which cannot hold an int, a whole number is a number of frames.
    """
    if isinstance(lags, np.ndarray) and lags.ndim == 1:
        lags = [_from_array(lag) for lag in lags.tolist()]
    if isinstance(lags, (str, bytes)) or not isinstance(lags, (Sequence, np.ndarray)):
        raise ValueError(f"{name} must be a sequence of numbers, got {lags!r}")
    numbers = tuple(as_python(lag) for lag in lags)
    for i, (lag, number) in enumerate(zip(lags, numbers, strict=True)):
        is_frames = type(number) is int and 1 <= number < _LONGEST
        is_fraction = type(number) is float and 0 < number < 1
        if not (is_frames or is_fraction):
            raise ValueError(
                f"{name}[{i}] must be an int of at least 1 (frames) or a float between 0 and 1 "
                f"(fraction of the sequence), got {lag!r}"
            )
    return numbers


def _from_array(lag: Any) -> Any:
    """Return an item of an array, where a float that is whole means frames."""
    lag = as_python(lag)
    return int(lag) if isinstance(lag, float) and 1 <= lag < _LONGEST and lag.is_integer() else lag


def with_differences(sequences: TSEArray, lags: Sequence[Lag]) -> TSEArray:
    """Append to the features of each frame, for each lag, the differences of all features.

    The difference of lag k at frame j is that between frames j + ceil(k / 2) and j - floor(k / 2),
    or between the last and the first frame where these are outside of the sequence. Fractions are
    rounded to whole frames, at least one.
    """
    values, starts, lengths = sequences.view()
    n_features, n_rows = sequences.n_features, sequences.total_frames
    first = np.repeat(starts, lengths)
    frames, last = _positions(lengths)
    expanded = np.empty((n_rows, n_features * (1 + len(lags))), dtype=values.dtype)
    expanded[:, :n_features] = values[first + frames]
    for i, lag in enumerate(lags, start=1):
        later, earlier = _lagged_positions(frames, last, lengths, lag)
        target = expanded[:, i * n_features : (i + 1) * n_features]
        np.subtract(values[first + later], values[first + earlier], out=target)
    return TSEArray._of_checked(expanded, sequences.offsets, sequences.spans)


def names_with_differences(names: Sequence[str], lags: Sequence[Lag]) -> list[str]:
    """Return the names of the features that `with_differences` returns."""
    return [*names, *(f"{name}_lag_{lag}" for lag in lags for name in names)]


def lagged_frames(
    lengths: NDArray[np.int64], lag: Lag
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the later and the earlier frame of the difference of each frame.

    Frames are counted from the first of their sequence; both arrays are (sum of lengths,).
    """
    return _lagged_positions(*_positions(lengths), lengths, lag)


def _positions(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of each frame, and of the last one, in its sequence."""
    frames = np.arange(lengths.sum()) - np.repeat(starts_of(lengths), lengths)
    return frames, np.repeat(lengths - 1, lengths)


def _lagged_positions(
    frames: NDArray[np.int64], last: NDArray[np.int64], lengths: NDArray[np.int64], lag: Lag
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `lagged_frames` from `_positions`, which are the same for all lags."""
    if isinstance(lag, (int, np.integer)):
        n_frames = np.full(len(lengths), int(lag), dtype=np.int64)
    else:
        n_frames = np.maximum(1, np.rint(lag * lengths).astype(np.int64))
    earlier = n_frames // 2
    return (
        np.minimum(frames + np.repeat(n_frames - earlier, lengths), last),
        np.maximum(frames - np.repeat(earlier, lengths), 0),
    )


def resample(sequences: SequenceView, n_timesteps: int) -> NDArray[np.floating]:
    """Interpolate each sequence linearly to `n_timesteps` frames, keeping both end points.

    A single time step is the middle of the sequence.

    Returns
    -------
    ndarray of shape (n_sequences, n_timesteps, n_features)
    """
    # Positions are exact fractions, so a frame that needs no interpolation is copied bit by bit.
    numerators, denominator = np.arange(n_timesteps), n_timesteps - 1
    if n_timesteps == 1:
        numerators, denominator = np.array([1]), 2
    last = sequences.lengths[:, None] - 1
    before, remainder = np.divmod(last * numerators, denominator)
    after = np.minimum(before + 1, last)
    fraction = (remainder / denominator)[:, :, None].astype(sequences.values.dtype)
    first = sequences.values[sequences.starts[:, None] + before]
    second = sequences.values[sequences.starts[:, None] + after]
    return first + fraction * (second - first)


def interpolate(sequences: TSEArray, constants: NDArray[np.float64]) -> TSEArray:
    """Replace NaN by linear interpolation over time, see `skdejavid.Interpolate`.

    Parameters
    ----------
    sequences : TSEArray
    constants : ndarray of shape (n_features,)
        Value of a feature in sequences where it is always NaN.
    """
    frames = np.array(sequences.frames)  # a copy
    is_missing = np.isnan(frames)
    sequence_of = np.repeat(np.arange(len(sequences)), sequences.lengths)
    for feature in np.flatnonzero(is_missing.any(axis=0)):
        rows = np.flatnonzero(is_missing[:, feature])
        known = np.flatnonzero(~is_missing[:, feature])
        column = frames[:, feature].astype(np.float64)
        column[rows] = _between(column, rows, known, sequence_of, constants[feature])
        frames[:, feature] = column
    return TSEArray._of_checked(frames, sequences.offsets, sequences.spans)


def _between(
    column: NDArray[np.float64],
    rows: NDArray[np.intp],
    known: NDArray[np.intp],
    sequence_of: NDArray[np.int64],
    constant: float,
) -> NDArray[np.float64]:
    """Return values for `rows` from the nearest `known` rows of their sequences."""
    if not known.size:
        return np.full(len(rows), constant)
    position = np.searchsorted(known, rows)
    before = known[np.maximum(position - 1, 0)]
    after = known[np.minimum(position, len(known) - 1)]
    # Where there is no known row before (after) in the sequence, this is one after (before).
    has_before = (before < rows) & (sequence_of[before] == sequence_of[rows])
    has_after = (after > rows) & (sequence_of[after] == sequence_of[rows])
    before = np.where(has_before, before, after)
    after = np.where(has_after, after, before)
    fraction = (rows - before) / np.where(has_before & has_after, after - before, 1)
    fraction[~(has_before & has_after)] = 0
    values = column[before] * (1 - fraction) + column[after] * fraction
    return np.where(has_before | has_after, values, constant)
