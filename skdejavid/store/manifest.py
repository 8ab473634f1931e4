"""The manifest of a store, a JSON file with its settings and the numbers of its shards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from skdejavid.files.atomic import read_json, write_once

__all__ = [
    "MOST_NUMBER",
    "MOST_SHARDS",
    "check_same_settings",
    "create_manifest",
    "manifest_text",
    "read_manifest",
]

_FORMAT = "skdejavid sequences"
_VERSION = 1
_DTYPES = ("float32", "float64", "float16")

_FIRST = "encoder"  # of the settings that messages name
_HASHED = re.compile("-[0-9a-f]{16}$")  # end of the fingerprint of an encoder, after its class

# What a manifest may claim: it is small, and each shard takes memory before any of its files is
# opened. The numbers of shards have five digits in the names of their files.
_MOST_BYTES = 2**20
MOST_SHARDS = 10_000
MOST_NUMBER = 99_999


def manifest_text(dtype: str, fingerprint: Mapping[str, Any] | None, shards: Iterable[int]) -> str:
    """Return the text of a manifest.

    Raises
    ------
    ValueError
        If the dtype is none that a store may have, or `fingerprint` is no mapping, contains what
        JSON cannot represent, or is too large.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {_DTYPES}, got {dtype!r}")
    if not (fingerprint is None or isinstance(fingerprint, Mapping)):
        raise ValueError(f"fingerprint must be a mapping, got a {type(fingerprint).__name__}")
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "dtype": dtype,
        "fingerprint": dict(fingerprint or {}),
        "shards": list(shards),
    }
    text = _as_text(content)
    if len(text) > _MOST_BYTES:
        raise ValueError(
            f"fingerprint is too large: the manifest of the store would have {len(text)} "
            f"bytes, and at most {_MOST_BYTES} are allowed"
        )
    return text


def check_same_settings(path: str, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that the manifest of the store at `path` has the settings of another.

    Raises
    ------
    ValueError
        If it has not; the message lists the differences.
    """
    before, now = _settings(stored), _settings(wanted)
    differences = [
        _difference(name, before.get(name, _NOT_SET), now.get(name, _NOT_SET))
        for name in sorted({**before, **now}, key=_FIRST.__ne__)  # the others in their order
        if name not in before or name not in now or before[name] != now[name]
    ]
    if differences:
        raise ValueError(
            f"the store {path} was created with different settings: {'; '.join(differences)}. "
            "Choose another folder, or the settings of the store, or remove it if it has no "
            "sequences"
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the content of the manifest in a folder.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged or of another version; the message names it.
    """
    path = folder / "manifest.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} is not a store: {path} is missing")
    content = read_json(path, _MOST_BYTES)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is not the manifest of a store")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{path}: version is {content.get('version')!r}, but this package reads {_VERSION}"
        )
    if content.get("dtype") not in _DTYPES:
        raise ValueError(f"{path}: dtype is {content.get('dtype')!r}, expected one of {_DTYPES}")
    if not isinstance(content.get("fingerprint"), dict):
        raise ValueError(
            f"{path}: fingerprint is {content.get('fingerprint')!r}, expected an object"
        )
    shards = content.get("shards")
    if not _are_shard_numbers(shards):
        shown = shorten(repr(shards), 200)
        raise ValueError(
            f"{path}: shards is {shown}, expected a list of at most {MOST_SHARDS} distinct "
            f"numbers from 0 to {MOST_NUMBER}"
        )
    return content


def _as_text(manifest: Mapping[str, Any]) -> str:
    """Return the text of a manifest that can be read again."""
    try:
        text = json.dumps(manifest, indent=1, allow_nan=False)
        json.loads(text)
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"fingerprint must contain only what JSON can store: {error}") from error
    return text


def _are_shard_numbers(shards: Any) -> bool:
    return (
        isinstance(shards, list)
        and 0 < len(shards) <= MOST_SHARDS
        and all(type(number) is int and 0 <= number <= MOST_NUMBER for number in shards)
        and len(set(shards)) == len(shards)
    )


def create_manifest(folder: Path, text: str) -> None:
    """Create the folder and the manifest, unless the folder already has one."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {item.name for item in folder.iterdir() if not item.name.startswith(".")}
    if "manifest.json" in names:
        return
    if names:
        raise FileExistsError(f"{folder} is not a store, and not empty: choose another folder")
    write_once(folder / "manifest.json", text.encode())  # keeps one that another process creates


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a manifest by the names that messages give them."""
    others = {"dtype": manifest["dtype"], "n_shards": len(manifest["shards"])}
    named = {
        f"fingerprint[{key!r}]" if key in others else key: value
        for key, value in manifest["fingerprint"].items()
    }
    return {**named, **others}


def _difference(name: str, before: Any, now: Any) -> str:
    """Return in words how a setting of a store differs from the one that was requested."""
    if name == _FIRST and before is not _NOT_SET and now is not _NOT_SET:
        kinds = [_HASHED.sub("", str(value)) for value in (before, now)]
        if kinds[0] == kinds[1]:
            return (
                f"encoder is a {kinds[0]} as in the store, but with other weights, attributes or "
                f"code (its fingerprint is {before!r} in the store, and now {now!r})"
            )
    return f"{name} is {before!r} in the store, but {now!r} was requested"


class _NotSet:
    def __repr__(self) -> str:
        return "not set"


_NOT_SET = _NotSet()
