"""What a store already has of the videos that are to be encoded."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from skdejavid.files.identity import is_same_file
from skdejavid.store import Failure, StoreWriter, TSEStore
from skdejavid.video.sources import Source, check_same_files

__all__ = ["failures_of", "missing_from", "open_store"]


def open_store(path: str, dtype: str, made_by: Mapping[str, Any], n_shards: int | None) -> TSEStore:
    """Create the store of an extraction, or open it.

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
        If the store has other settings.
    """
    digest = blake2b(json.dumps(made_by, sort_keys=True).encode(), digest_size=8).hexdigest()
    folder = path.replace("{fingerprint}", digest)
    if n_shards is None:
        exists = os.path.exists(os.path.join(folder, "manifest.json"))
        n_shards = TSEStore(folder).n_shards if exists else 1
    return TSEStore.create(folder, dtype=dtype, fingerprint=made_by, n_shards=n_shards)


def missing_from(
    store: TSEStore | StoreWriter,
    sources: Sequence[Source],
    *,
    check_content: bool,
    retry_failures: bool,
) -> list[Source]:
    """Return the sources that are not in the store and must be encoded.

    Failures that the store records are not tried again while their files are the same, unless with
    `retry_failures`.

    Raises
    ------
    ValueError
        If the file of a sequence that is in the store was changed.
    """
    stored = [source for source in sources if source.id in store]
    check_same_files(stored, store.file, check_content=check_content)
    failed = set() if retry_failures else {failure.id for failure in store.failures}
    return [
        source
        for source in sources
        if source.id not in store
        and not (source.id in failed and _is_same(source, store, check_content=check_content))
    ]


def failures_of(
    store: TSEStore, sources: Sequence[Source], passing: Sequence[Failure]
) -> list[Failure]:
    """Return the failures of the sources: those that the store records, and those that may pass."""
    failures = {failure.id: failure for failure in [*store.failures, *passing]}
    return [failures[source.id] for source in sources if source.id in failures]


def _is_same(source: Source, store: TSEStore | StoreWriter, *, check_content: bool) -> bool:
    recorded = store.file(source.id)
    if recorded.n_bytes != source.n_bytes:
        return False
    return not isinstance(source.video, str) or is_same_file(
        source.video, recorded, check_content=check_content
    )
