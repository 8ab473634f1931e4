"""Data for examples and tests: a real data set, and synthetic ones whose classes differ in events.

Except for `make_event_sequences`, each synthetic sample of each class contains the same events,
each with a random duration, and its class is the order of the events.
"""

from __future__ import annotations

from importlib.resources import files
from itertools import permutations
from numbers import Integral, Real
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from skdejavid.compat.floating import underflow_allowed
from skdejavid.compat.optional import import_optional
from skdejavid.compat.parameters import as_python, validated
from skdejavid.compat.sklearn import Interval
from skdejavid.sequences import TSEArray
from skdejavid.video.sources import as_video

__all__ = [
    "EVENTS",
    "load_japanese_vowels",
    "make_event_frames",
    "make_event_sequences",
    "make_order_sequences",
    "make_order_videos",
    "write_video",
]

# What a frame of a synthetic video can show; "nothing" is only the background.
EVENTS = ("nothing", "disc", "square", "cross")

_ORDERS = list(permutations(range(1, len(EVENTS))))

# Number of frames of an event of `make_event_sequences`.
_SHORTEST_EVENT, _LONGEST_EVENT = 8, 16

_N_TRAINING_VOWELS = 270  # the first sequences of JapaneseVowels

_AT_LEAST_1 = [Interval(Integral, 1, None, closed="left")]
# Larger noise could leave the range of float32.
_NOISE = [Interval(Real, 0, 1e30, closed="both")]


def load_japanese_vowels() -> tuple[
    list[NDArray[np.float32]], NDArray[np.int64], list[NDArray[np.float32]], NDArray[np.int64]
]:
    """Return the data set JapaneseVowels: which of nine men says two vowels.

    A sequence is one utterance of the vowels /ae/. Its frames are the 12 coefficients of a linear
    prediction of the sound (LPC cepstrum). The data are a part of this package: nothing is
    downloaded.

    Returns
    -------
    X_train : list of 270 ndarrays of shape (n_frames, 12), float32
        Training sequences with 7 to 26 frames, 30 of each speaker.
    y_train : ndarray of shape (270,)
        Their speakers, 1 to 9.
    X_test : list of 370 ndarrays of shape (n_frames, 12), float32
        Test sequences with 7 to 29 frames, 24 to 88 of each speaker.
    y_test : ndarray of shape (370,)
        Their speakers.

    Notes
    -----
    Mineichi Kudo, Jun Toyama and Masaru Shimbo published the data in the UCI Machine Learning
    Repository (https://doi.org/10.24432/C5NS47) under the license CC BY 4.0
    (https://creativecommons.org/licenses/by/4.0/).

    References
    ----------
    M. Kudo, J. Toyama, M. Shimbo: Multidimensional curve classification using passing-through
    regions. Pattern Recognition Letters 20, pages 1103-1111, 1999.

    Examples
    --------
    >>> from skdejavid.datasets import load_japanese_vowels
    >>> X_train, y_train, X_test, y_test = load_japanese_vowels()
    >>> len(X_train), X_train[0].shape, int(y_train[0])
    (270, (20, 12), 1)
    """
    source = files("skdejavid").joinpath("data", "japanese_vowels.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        sequences = np.split(stored["frames"], stored["lengths"].cumsum()[:-1])
        y = stored["speakers"].astype(np.int64)
    n = _N_TRAINING_VOWELS
    return sequences[:n], y[:n], sequences[n:], y[n:]


@underflow_allowed
@validated(
    {
        "n_sequences": _AT_LEAST_1,
        "n_features": [Interval(Integral, 3, None, closed="left")],
        "noise": _NOISE,
        "random_state": ["random_state"],
    }
)
def make_order_sequences(
    n_sequences: int,
    *,
    n_features: int = 6,
    noise: float = 0.3,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[TSEArray, NDArray[np.int64]]:
    """Generate noisy sequences of three events in one of six orders.

    Parameters
    ----------
    n_sequences : int
        Number of sequences.
    n_features : int, default=6
        Number of features, at least 3. Event ``k`` raises the features ``k``, ``k + 3``, ``k + 6``,
        ... (counted from 0) by 1.
    noise : float, default=0.3
        Standard deviation of the Gaussian noise added to each value, from 0 to 1e30.
    random_state : int, RandomState instance or None, default=None
        Pass an int for reproducible data.

    Returns
    -------
    X : TSEArray
        `n_sequences` float32 sequences with 14 to 41 frames.
    y : ndarray of shape (n_sequences,)
        Number of the order, 0 to 5. Classes are balanced up to one sample.
    """
    rng = check_random_state(random_state)
    y = rng.permutation(np.arange(n_sequences) % len(_ORDERS))
    sequences = []
    for label in y:
        events, durations = _timeline(label, rng, shortest=4, longest=10)
        shown = np.repeat(events, durations)
        active = (np.arange(n_features) % 3 + 1) == shown[:, None]
        sequences.append((active + noise * rng.standard_normal(active.shape)).astype(np.float32))
    return TSEArray(sequences), y


@underflow_allowed
@validated(
    {
        "n_sequences": _AT_LEAST_1,
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "weights": ["array-like", None],
        "n_features": [Interval(Integral, 2, None, closed="left")],
        "noise": _NOISE,
        "lengths": ["array-like"],
        "random_state": ["random_state"],
    }
)
def make_event_sequences(
    n_sequences: int,
    *,
    n_classes: int = 2,
    weights: ArrayLike | None = None,
    n_features: int = 6,
    noise: float = 1.3,
    lengths: tuple[int, int] = (40, 80),
    random_state: int | np.random.RandomState | None = None,
) -> tuple[TSEArray, NDArray[np.int64]]:
    """Generate noise with one short event at a random time, which tells the class.

    With `weights`, some classes are rare, as in the search for faults or diseases.

    Parameters
    ----------
    n_sequences : int
        Number of sequences.
    n_classes : int, default=2
        Number of classes, at least 2.
    weights : array-like of shape (n_classes,), optional
        Relative frequencies of the classes, each more than 0. If None, classes are balanced.
    n_features : int, default=6
        Number of features, at least `n_classes`. The event of class ``k`` raises the features
        ``k``, ``k + n_classes``, ``k + 2 * n_classes``, ... (counted from 0) by 1 for 8 to 16
        frames.
    noise : float, default=1.3
        Standard deviation of the Gaussian noise added to each value, from 0 to 1e30.
    lengths : tuple of two ints, default=(40, 80)
        Smallest and largest number of frames of a sequence, at least 16.
    random_state : int, RandomState instance or None, default=None
        Pass an int for reproducible data.

    Returns
    -------
    X : TSEArray
        `n_sequences` float32 sequences.
    y : ndarray of shape (n_sequences,)
        Class numbers, in random order. The number of sequences of a class differs by less than 1
        from its share by `weights`.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or `n_sequences` is too small for a sequence of each
        class.

    Examples
    --------
    >>> import numpy as np
    >>> from skdejavid.datasets import make_event_sequences
    >>> X, y = make_event_sequences(1020, weights=[1000, 20], random_state=0)
    >>> np.bincount(y)
    array([1000,   20])
    """
    if n_classes > n_features:
        raise ValueError(f"n_classes must be at most n_features={n_features}, got {n_classes}")
    shortest, longest = _check_lengths(lengths)
    counts = _class_counts(n_sequences, np.ones(n_classes) if weights is None else weights)
    if len(counts) != n_classes:
        raise ValueError(f"weights must have n_classes={n_classes} numbers, got {len(counts)}")
    rng = check_random_state(random_state)
    y = rng.permutation(np.repeat(np.arange(n_classes), counts))
    sequences = []
    for label in y:
        frames = noise * rng.standard_normal((rng.randint(shortest, longest + 1), n_features))
        duration = rng.randint(_SHORTEST_EVENT, _LONGEST_EVENT + 1)
        begin = rng.randint(len(frames) - duration + 1)
        frames[begin : begin + duration, label::n_classes] += 1
        sequences.append(frames.astype(np.float32))
    return TSEArray(sequences), y


@validated({"n_videos": _AT_LEAST_1, "size": _AT_LEAST_1, "random_state": ["random_state"]})
def make_order_videos(
    n_videos: int, *, size: int = 64, random_state: int | np.random.RandomState | None = None
) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """Generate short clips that show a disc, a square and a cross in one of six orders.

    Parameters
    ----------
    n_videos : int
        Number of videos.
    size : int, default=64
        Height and width of the frames.
    random_state : int, RandomState instance or None, default=None
        Pass an int for reproducible data.

    Returns
    -------
    videos : list of ndarray of shape (n_frames, size, size, 3), uint8
        Colors, positions, sizes, movements and durations are random and independent of the class.
    y : ndarray of shape (n_videos,)
        Number of the order, 0 to 5. Classes are balanced up to one sample.
    """
    rng = check_random_state(random_state)
    y = rng.permutation(np.arange(n_videos) % len(_ORDERS))
    videos = []
    for label in y:
        background = _background(size, rng)
        scenes = [
            _scene(event, duration, background, rng)
            for event, duration in zip(*_timeline(label, rng, shortest=8, longest=20), strict=True)
        ]
        videos.append(np.concatenate(scenes))
    return videos, y


@validated({"n_frames": _AT_LEAST_1, "size": _AT_LEAST_1, "random_state": ["random_state"]})
def make_event_frames(
    n_frames: int, *, size: int = 64, random_state: int | np.random.RandomState | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Generate single frames like those of `make_order_videos`, to train an encoder.

    Parameters
    ----------
    n_frames : int
        Number of frames.
    size : int, default=64
        Height and width of the frames.
    random_state : int, RandomState instance or None, default=None
        Pass an int for reproducible data.

    Returns
    -------
    frames : ndarray of shape (n_frames, size, size, 3), uint8
    y : ndarray of shape (n_frames,)
        The event that a frame shows: an index into ``EVENTS``.
    """
    rng = check_random_state(random_state)
    y = rng.permutation(np.arange(n_frames) % len(EVENTS))
    frames = [_scene(event, 1, _background(size, rng), rng)[0] for event in y]
    return np.stack(frames), y


@validated({"fps": _AT_LEAST_1})
def write_video(
    path: str | PathLike[str],
    frames: NDArray[np.uint8],
    *,
    codec: str = "libx264",
    fps: int = 25,
    options: dict[str, str] | None = None,
) -> None:
    """Write a video file; the suffix of its name selects the container format.

    Parameters
    ----------
    path : str or path
        The file to write.
    frames : ndarray of shape (n_frames, height, width, 3), uint8
        The frames. Height and width must be even, as most codecs require.
    codec : str, default="libx264"
        Any encoder of PyAV.
    fps : int, default=25
        Frames per second.
    options : dict of str, optional
        Options of the codec.

    Raises
    ------
    ImportError
        If PyAV is not installed.
    FileNotFoundError
        If the folder of `path` does not exist.
    ValueError
        If `frames` has another shape or type, or an odd height or width.
    """
    frames = as_video(frames, "frames")
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"height and width of frames must be even, got {frames.shape[1:3]}")
    folder = Path(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"path: folder {folder} does not exist")
    av = import_optional("av", "video", "Writing a video file")
    # Without "file:", FFmpeg takes what is before a colon in the name for a protocol.
    with av.open(f"file:{fspath(path)}", "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = stream.codec_context.codec.video_formats[0].name  # its first
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _check_lengths(lengths: Any) -> tuple[int, int]:
    numbers = as_python(tuple(lengths))
    if not (
        len(numbers) == 2
        and all(type(number) is int for number in numbers)
        and _LONGEST_EVENT <= numbers[0] <= numbers[1]
    ):
        raise ValueError(
            f"lengths must be two increasing ints of at least {_LONGEST_EVENT}, got {lengths}"
        )
    return numbers


def _class_counts(n_sequences: int, weights: ArrayLike) -> NDArray[np.int64]:
    """Return the numbers of sequences by class; the largest remainders are rounded up."""
    expected = f"weights must be a list of finite numbers of more than 0, got {weights!r}"
    try:
        numbers = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(expected) from error
    if numbers.ndim != 1 or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise ValueError(expected)
    numbers = numbers / numbers.max()  # so that their sum is finite
    shares = n_sequences * (numbers / numbers.sum())
    # Shares that are whole numbers but for rounding errors.
    shares = np.where(np.isclose(shares, shares.round()), shares.round(), shares)
    counts = np.floor(shares).astype(np.int64)
    n_missing = n_sequences - counts.sum()
    counts[np.argsort(counts - shares, kind="stable")[:n_missing]] += 1
    if counts.min() == 0:
        raise ValueError(
            f"n_sequences={n_sequences} is too small for a sequence of class {counts.argmin()} "
            "with these weights: raise one of them"
        )
    return counts


def _timeline(
    order: int, rng: np.random.RandomState, *, shortest: int, longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return events and durations: the three in order, with "nothing" before, between and after."""
    n_events = len(_ORDERS[order])
    events = np.zeros(2 * n_events + 1, dtype=np.int64)
    events[1::2] = _ORDERS[order]
    durations = rng.randint(1, shortest, size=len(events))
    durations[1::2] = rng.randint(shortest, longest + 1, size=n_events)
    return events, durations


def _background(size: int, rng: np.random.RandomState) -> NDArray[np.floating]:
    """Return a dim pattern of coarse blocks, (size, size, 3)."""
    coarse = rng.uniform(20, 110, size=(4, 4, 3))
    return np.kron(coarse, np.ones((-(-size // 4), -(-size // 4), 1)))[:size, :size]


def _scene(
    event: int, n_frames: int, background: NDArray[np.floating], rng: np.random.RandomState
) -> NDArray[np.uint8]:
    """Return frames (n_frames, size, size, 3) of one shape moving in front of the background."""
    size = len(background)
    radius = rng.uniform(0.15, 0.25) * size
    color = rng.uniform(130, 255, size=3)
    begin, end = rng.uniform(0.3, 0.7, size=(2, 2)) * size
    rows, columns = np.mgrid[:size, :size]
    frames = []
    for progress in np.linspace(0, 1, n_frames):
        center = begin + progress * (end - begin)
        vertical, horizontal = np.abs(rows - center[0]), np.abs(columns - center[1])
        inside = _shape(event, vertical / radius, horizontal / radius)
        image = np.where(inside[:, :, None], color, background)
        frames.append(image + rng.normal(0, 6, size=image.shape))
    return np.clip(frames, 0, 255).astype(np.uint8)


def _shape(
    event: int, vertical: NDArray[np.floating], horizontal: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Return the mask of a shape of radius 1, from the distances to its center along both axes."""
    farthest = np.maximum(vertical, horizontal)
    shapes = {
        "nothing": np.zeros(vertical.shape, dtype=bool),
        "disc": vertical**2 + horizontal**2 < 1,
        "square": farthest < 0.9,
        "cross": (farthest < 1) & (np.minimum(vertical, horizontal) < 0.3),
    }
    return shapes[EVENTS[event]]
