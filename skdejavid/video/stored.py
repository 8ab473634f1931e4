"""What a store already has of the videos that are to be encoded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from skdejavid.store import Failure, StoreWriter, TSEStore
from skdejavid.store.renewal import renew_if_empty
from skdejavid.video.sources import Source, is_same, other_video_error

__all__ = ["Missing", "difference_of_processors", "failures_of", "missing_from", "open_store"]

_NOT_COMPARED = "its file cannot be compared with the one that was encoded: {}"


def open_store(path: str, dtype: str, made_by: Mapping[str, Any], n_shards: int | None) -> TSEStore:
    """Create the store of an extraction, or open it; one without content gets new settings.

    Parameters
    ----------
    path : str
        The folder; ``"{fingerprint}"`` in it is replaced by a hash of `made_by`.
    dtype : str
        Type of the values on disk.
    made_by : mapping
        Encoder and settings.
    n_shards : int or None
        Number of shards. None accepts any number, and creates a store of one.

    Raises
    ------
    ValueError
        If the store has content of other settings, or somebody writes to it with them.
    """
    digest = blake2b(json.dumps(made_by, sort_keys=True).encode(), digest_size=8).hexdigest()
    folder = path.replace("{fingerprint}", digest)
    if os.path.exists(os.path.join(folder, "manifest.json")):
        renew_if_empty(Path(folder), dtype, made_by, n_shards)
        store = TSEStore(folder)
        n_shards = n_shards or store.n_shards
        _check_processor(folder, store.fingerprint, made_by)
    return TSEStore.create(folder, dtype=dtype, fingerprint=made_by, n_shards=n_shards or 1)


def _check_processor(folder: str, stored: Mapping[str, Any], made_by: Mapping[str, Any]) -> None:
    """Check that a store has the processor of an extraction, if nothing else differs."""
    names = stored.keys() | made_by.keys()
    if [name for name in names if stored.get(name) != made_by.get(name)] == ["processor"]:
        difference = difference_of_processors(stored.get("processor"), made_by.get("processor"))
        raise ValueError(f"the store {folder} was made with other frames: {difference}")


def difference_of_processors(before: Any, now: Any) -> str:
    """Return how the processor of an encoder differs from an earlier one, and what to do.

    Parameters
    ----------
    before, now : dict or None
        What stores record of processors.
    """
    if not isinstance(before, Mapping):
        return "no processor prepared them: pass frame_size, mean and std"
    kind, size = before.get("class"), before.get("size")
    was = f"the processor {kind} prepared them, in the size {size}"
    if not isinstance(now, Mapping):
        return f"{was}, and now there is none: pass it as processor (--processor)"
    if (kind, size) != (now.get("class"), now.get("size")):
        return (
            f"{was}, and now it is {now.get('class')}, in the size {now.get('size')}: pass the "
            "other one as processor (--processor)"
        )
    return (
        f"{was}, and that of now has this class and size but gives other pixels. If it has other "
        "settings, such as resample, pass the one of then as processor (--processor). If it has "
        "the same, this machine, or its versions of torch, torchvision, Pillow or transformers, "
        "scale frames otherwise: use a machine and versions as those of then, or extract the "
        "videos again here, into another store"
    )


class Missing(NamedTuple):
    """What a store lacks of some videos."""

    sources: list[Source]  # to be encoded
    unreadable: list[Failure]  # files that cannot be compared with those of stored sequences


def missing_from(
    store: TSEStore | StoreWriter,
    sources: Sequence[Source],
    *,
    check_content: bool,
    retry_failures: bool,
    may_leave_out: bool,
) -> Missing:
    """Return the sources that are not in the store and must be encoded.

    Failures that the store records are not tried again while their videos are the same, unless with
    `retry_failures`. If a file cannot be read now, trying again tells the reason.

    Parameters
    ----------
    store : TSEStore or StoreWriter
        The store.
    sources : sequence of Source
        Videos with distinct ids.
    check_content, retry_failures : bool
        As in `TSEExtractor`.
    may_leave_out : bool
        Whether the result may have failures, of files that have to be read and cannot be.

    Raises
    ------
    ValueError
        If a video is not the one whose sequence is in the store, or, without `may_leave_out`, is no
        regular file any more.
    OSError
        Without `may_leave_out`, if a file has to be read and cannot be.
    """
    compare = partial(_compare, store, check_content=check_content)
    stored = [source for source in sources if source.id in store]
    errors = _check_same(store, stored, compare)
    if errors and not may_leave_out:
        raise errors[0][1]
    failed = set() if retry_failures else {failure.id for failure in store.failures}
    missing = [
        source
        for source in sources
        if source.id not in store and not (source.id in failed and compare(source) is True)
    ]
    unreadable = [
        Failure(source.id, None, _NOT_COMPARED.format(error), source.n_bytes)
        for source, error in errors
    ]
    return Missing(missing, unreadable)


def _check_same(
    store: TSEStore | StoreWriter,
    sources: Sequence[Source],
    compare: Callable[[Source], bool | Exception],
) -> list[tuple[Source, Exception]]:
    """Check that videos are those whose sequences are in a store, and return errors of files."""
    found = [(source, compare(source)) for source in sources]
    if others := [source for source, is_same in found if is_same is False]:
        raise other_video_error(others, store.file)
    return [(source, error) for source, error in found if isinstance(error, Exception)]


def failures_of(
    store: TSEStore, sources: Sequence[Source], passing: Sequence[Failure]
) -> list[Failure]:
    """Return the failures of the sources: those that the store records, and those that may pass."""
    failures = {failure.id: failure for failure in [*store.failures, *passing]}
    return [failures[source.id] for source in sources if source.id in failures]


def _compare(
    store: TSEStore | StoreWriter, source: Source, *, check_content: bool
) -> bool | Exception:
    """Return whether a video is the one that the store records, or the error of its file."""
    try:
        return is_same(source, store.file(source.id), check_content=check_content)
    except (OSError, ValueError) as error:
        return error
