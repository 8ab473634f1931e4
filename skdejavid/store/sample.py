"""Comparing sequences of a store with what their videos give when they are encoded again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from skdejavid.compat.parameters import as_python
from skdejavid.files.identity import (
    FileIdentity,
    hash_of_array,
    is_hash_of_array,
    is_same_file,
)
from skdejavid.sequences import TSEArray

__all__ = ["Verification", "compare_sample"]

_MOST_NAMES = 5  # in a message


class Verification(NamedTuple):
    """What a comparison of sequences with their videos has found."""

    ids: list[str]  # of the sequences that were compared
    largest_difference: float  # as a fraction of the largest absolute value of the sequence
    not_compared: dict[str, str]  # reasons by id: the video is missing, was changed, ...


def compare_sample(
    ids: Sequence[str],
    file_of: Callable[[str], FileIdentity],
    sequences_of: Callable[[list[str]], TSEArray],
    extractor: Any,
    videos: str | PathLike[str] | Mapping[str, Any] | None,
    sample: int | None,
    *,
    tolerance: float,
    random_state: Any,
) -> Verification:
    """Encode some videos again and compare them with the stored sequences; see `TSEStore.verify`.

    Parameters
    ----------
    ids : sequence of str
        Ids of all sequences.
    file_of, sequences_of : callable
        Return what was recorded of the file of an id, and the stored sequences of some ids.
    extractor, videos, sample, tolerance, random_state
        As in `TSEStore.verify`.

    Raises
    ------
    ValueError
        If a parameter is invalid, a sequence differs, or no video can be encoded.
    """
    most = as_python(tolerance)
    if not (isinstance(most, (int, float)) and 0 <= most < np.inf):
        raise ValueError(f"tolerance must be a number of at least 0, got {tolerance!r}")
    video_of = {id: _locate(id, videos) for id in _draw(ids, sample, random_state)}
    reasons = {id: _reason_against(video, file_of(id)) for id, video in video_of.items()}
    not_compared = {id: reason for id, reason in reasons.items() if reason is not None}
    sequences, failed = _encode_again(
        extractor, {id: video for id, video in video_of.items() if id not in not_compared}
    )
    not_compared |= failed
    if not sequences:
        raise ValueError(f"none of the videos can be encoded again: {_shown(not_compared)}")
    stored = sequences_of(list(sequences))
    differences = dict(zip(sequences, map(_difference, stored, sequences.values()), strict=True))
    wrong = {id: f"{value:.3g}" for id, value in differences.items() if not value <= most}
    if wrong:
        raise ValueError(
            f"{len(wrong)} of {len(sequences)} sequences differ from what their videos give, by "
            f"more than tolerance={most} of their largest value: {_shown(wrong)}"
        )
    return Verification(list(sequences), max(differences.values()), not_compared)


def _encode_again(
    extractor: Any, videos: Mapping[str, Any]
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the sequences by id, and the causes by id of the videos that cannot be read."""
    again = clone(extractor).set_params(store=None, on_error="skip")
    try:
        X = again.transform(list(videos.values())) if videos else ()
    except ValueError:
        if len(getattr(again, "failures_", ())) < len(videos):
            raise
        X = ()  # none of them can be read
    ids = list(videos)
    kept = [ids[i] for i in again.kept_] if videos else []
    failed = [id for id in ids if id not in kept]
    causes = [failure.cause for failure in again.failures_] if videos else []
    return dict(zip(kept, X, strict=True)), dict(zip(failed, causes, strict=True))


def _draw(ids: Sequence[str], sample: int | None, random_state: Any) -> list[str]:
    """Return some ids, in their order; all if `sample` is None."""
    size = as_python(sample)
    if size is not None and (type(size) is not int or size < 1):
        raise ValueError(f"sample must be at least 1, or None for all sequences, got {sample!r}")
    if not ids:
        raise ValueError("the store has no sequences to compare")
    if size is None or size >= len(ids):
        return list(ids)
    drawn = check_random_state(as_python(random_state)).permutation(len(ids))[:size]
    return [ids[i] for i in sorted(drawn.tolist())]


def _locate(id: str, videos: str | PathLike[str] | Mapping[str, Any] | None) -> Any:
    """Return the video of an id, None if there is none."""
    if isinstance(videos, Mapping):
        return videos.get(id)
    return id if videos is None else os.path.join(fspath(videos), id)


def _reason_against(video: Any, recorded: FileIdentity) -> str | None:
    """Return why a video cannot be compared, None if it can."""
    if video is None:
        return "not in videos"
    if not isinstance(video, (str, PathLike)):
        return _reason_against_array(video, recorded)
    if not os.path.exists(video):
        return f"there is no file {fspath(video)}"
    try:
        is_same = is_same_file(video, recorded, check_content=True)
    except (OSError, ValueError) as error:
        return str(error)
    return None if is_same else "the file was changed after it had been encoded"


def _reason_against_array(video: Any, recorded: FileIdentity) -> str | None:
    """Return why an array cannot be compared; it may contain the frames of a file."""
    if not (is_hash_of_array(recorded.content_hash) and hasattr(video, "__array__")):
        return None
    array = np.asarray(video)
    is_same = array.dtype == np.uint8 and hash_of_array(array) == recorded.content_hash
    return None if is_same else "it is another array than the one that was encoded"


def _difference(stored: NDArray[Any], again: NDArray[Any]) -> float:
    """Return the largest difference as a fraction of the largest absolute value."""
    if stored.shape != again.shape:
        return float("inf")
    largest = float(np.abs(again).max())
    difference = float(np.abs(stored - again).max())
    return difference / largest if largest else difference


def _shown(reasons: Mapping[str, str]) -> str:
    items = [f"{id} ({reason})" for id, reason in reasons.items()]
    more = f" and {len(items) - _MOST_NAMES} more" if len(items) > _MOST_NAMES else ""
    return ", ".join(items[:_MOST_NAMES]) + more
