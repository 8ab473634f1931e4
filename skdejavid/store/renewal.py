"""Other settings for a store in which nothing was ever stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from skdejavid.files.atomic import replace_own_file
from skdejavid.files.regular import check_own_file
from skdejavid.store.manifest import manifest_text, read_manifest
from skdejavid.store.shards import ShardFiles

__all__ = ["renew_if_empty"]


def renew_if_empty(
    folder: Path, dtype: str, fingerprint: Mapping[str, Any], n_shards: int | None
) -> None:
    """Give a store other settings if nothing was ever committed to it and nobody writes to it.

    An extraction that fails in its first batch leaves such a store. Writers of it that were opened
    before, and wait for a lock, find that the settings have changed.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    dtype, fingerprint : str, mapping
        As in `TSEStore.create`.
    n_shards : int or None
        Number of shards. None keeps any number if the other settings are the same, and is 1 else.
    """
    text = manifest_text(dtype, fingerprint, range(n_shards or 1))
    wanted = json.loads(text)
    if _has_settings(read_manifest(folder), wanted, n_shards) or not _is_empty(folder):
        return
    # Several processes may begin at once: those that come later find the settings that they want.
    with _locked(folder / "manifest.lock"), ExitStack() as stack:
        before = read_manifest(folder)
        if _has_settings(before, wanted, n_shards):
            return
        shards = _shards_of(folder, before)
        try:
            for files in shards:
                stack.enter_context(_locked(files.lock, timeout=0))
        except Timeout:  # somebody writes to it
            return
        if _is_empty(folder):
            for files in shards:
                files.remove()  # one may be complete, without sequences
            replace_own_file(folder / "manifest.json", lambda file: file.write(text.encode()))


def _has_settings(
    manifest: Mapping[str, Any], wanted: Mapping[str, Any], n_shards: int | None
) -> bool:
    is_same = all(manifest[name] == wanted[name] for name in ("dtype", "fingerprint"))
    return is_same and n_shards in (None, len(manifest["shards"]))


def _shards_of(folder: Path, manifest: Mapping[str, Any]) -> list[ShardFiles]:
    dtype = np.dtype(manifest["dtype"])
    return [ShardFiles(folder, number, dtype) for number in manifest["shards"]]


def _is_empty(folder: Path) -> bool:
    """Return whether a store has neither sequences nor failures nor labels, nor a part of any."""
    if (folder / "labels.json").exists():
        return False
    return not any(map(_has_commits, _shards_of(folder, read_manifest(folder))))


def _has_commits(files: ShardFiles) -> bool:
    state = files.read_state()
    if state.entries or state.failures:
        return True  # without reading a journal, which may be long
    commits = files.read_commits()
    return bool(commits.state.entries or commits.state.failures or commits.partial)


def _locked(path: Path, timeout: float = -1) -> FileLock:
    check_own_file(path)
    return FileLock(path, timeout=timeout)
