"""Sequences of embeddings on disk: written so that no crash loses or breaks anything, read as a
memory map that parallel workers share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from skdejavid.files.atomic import (
    read_json,
    refuse_link,
    remove_temporaries,
    replace_file,
    write_once,
)
from skdejavid.sequences import TSEArray
from skdejavid.store.shards import Failure, ShardFiles, ShardState
from skdejavid.store.writer import StoreWriter

__all__ = ["Failure", "StoreWriter", "TSEStore"]

_FORMAT = "skdejavid sequences"
_VERSION = 1
_DTYPES = ("float32", "float64", "float16")


class TSEStore:
    """Sequences of embeddings in a folder.

    Parameters
    ----------
    path : str or path
        The folder of a store that exists; `create` makes one.

    Attributes
    ----------
    path : str
        The folder.
    dtype : str
        Type of the numbers on disk: "float32", "float64", or "float16", which is read as float32.
    fingerprint : dict
        What the sequences were made by.
    n_shards : int
        Number of parts that may be written at the same time, also by different machines.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    ValueError
        If it is damaged or of another version; the message names the file and what is wrong.

    Notes
    -----
    A shard is one ``.npy`` file of rows to which sequences are appended, and a journal while that
    is done. Names of files follow from the shards' numbers, none is read from a file, and nothing
    is unpickled.

    While a complete store is being appended to, or if that was interrupted, it is incomplete; what
    it held before can still be read by ids. `ids`, `failures` and `len` tell of the state in which
    each shard was complete last.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skdejavid import TSEStore
    >>> store = TSEStore.create(tempfile.mkdtemp() + "/store")
    >>> with store.write() as writer:
    ...     writer.append("a", np.zeros((3, 2)))
    ...     writer.append("b", np.ones((5, 2)))
    >>> TSEStore(store.path).sequences()
    TSEArray(n_sequences=2, n_frames=3..5, n_features=2, dtype=float32)
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = fspath(path)
        content = _read_manifest(self._folder)
        self.dtype: str = content["dtype"]
        self.fingerprint: dict[str, Any] = content["fingerprint"]
        self._numbers: list[int] = content["shards"]
        self._shards = [ShardFiles(self._folder, n, np.dtype(self.dtype)) for n in self._numbers]

    @classmethod
    def create(
        cls,
        path: str | PathLike[str],
        *,
        dtype: str = "float32",
        fingerprint: Mapping[str, Any] | None = None,
        n_shards: int = 1,
    ) -> TSEStore:
        """Make a store, or open the one that is there if it was made in the same way.

        Parameters
        ----------
        path : str or path
            The folder, which is made.
        dtype : {"float32", "float64", "float16"}
            Type of the numbers on disk.
        fingerprint : mapping, optional
            What the sequences are made by, as JSON has it.
        n_shards : int, default=1
            Number of parts.

        Returns
        -------
        TSEStore

        Raises
        ------
        ValueError
            If a store is there that was made otherwise; the message names each difference.
        FileExistsError
            If a folder is there that is no store and not empty.
        """
        if dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {_DTYPES}, got {dtype!r}")
        if n_shards < 1:
            raise ValueError(f"n_shards must be at least 1, got {n_shards}")
        folder = Path(path)
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "dtype": dtype,
            "fingerprint": dict(fingerprint or {}),
            "shards": list(range(n_shards)),
        }
        text = json.dumps(content, indent=1, allow_nan=False)
        folder.mkdir(parents=True, exist_ok=True)
        names = {item.name for item in folder.iterdir() if not item.name.startswith(".")}
        if "manifest.json" not in names:
            if names:
                raise FileExistsError(f"{folder} is no store, and not empty")
            write_once(folder / "manifest.json", text.encode())  # or another process does
        store = cls(folder)
        found = _settings(store.dtype, store.n_shards, store.fingerprint)
        wanted = _settings(dtype, n_shards, json.loads(text)["fingerprint"])
        differing = [
            f"{key} is {found.get(key)!r} there and {wanted.get(key)!r} here"
            for key in sorted(found.keys() | wanted.keys())
            if key not in found or key not in wanted or found[key] != wanted[key]
        ]
        if differing:
            raise ValueError(f"the store {folder} was made otherwise: {'; '.join(differing)}")
        return store

    @property
    def n_shards(self) -> int:
        return len(self._shards)

    @property
    def is_complete(self) -> bool:
        """Whether all shards were finished, and nobody is writing."""
        return all(files.is_complete for files in self._shards)

    @property
    def n_features(self) -> int | None:
        """Of all sequences, None if there is none."""
        found = {state.n_features for state in self._states if state.entries}
        if len(found) > 1:
            raise ValueError(f"shards of {self.path} have differing features: {found}")
        return next(iter(found), None)

    @property
    def ids(self) -> list[str]:
        """Names of the sequences, in their order."""
        return list(self._places)

    @property
    def failures(self) -> list[Failure]:
        """What gave no sequence."""
        return [failure for state in self._states for failure in state.failures.values()]

    @property
    def labels(self) -> NDArray[Any] | None:
        """Labels of the sequences, in their order, or None if none were set.

        Raises
        ------
        ValueError
            If some sequences have labels and others have not.
        """
        known = self._read_labels()
        if not known:
            return None
        for id in self._places:
            if id not in known:
                raise ValueError(f"{self.path} has labels, but none for {id!r}")
        return np.array([known[id] for id in self._places])

    def n_bytes(self, id: str) -> int | None:
        """The size that the source of a sequence had, None if that was not said."""
        return self._states[self._places[id].shard].entries[id].n_bytes

    def sequences(
        self, ids: Sequence[str] | None = None, *, allow_incomplete: bool = False
    ) -> TSEArray:
        """The sequences.

        Parameters
        ----------
        ids : sequence of str, optional
            Which, in this order. None takes all.
        allow_incomplete : bool, default=False
            Whether to take what there is of a store that is being written, or was interrupted.

        Returns
        -------
        TSEArray
            With one shard, a view of a memory map of it; several shards, and float16, are read into
            memory.

        Raises
        ------
        ValueError
            If the store is incomplete and all of it is asked for, if it is empty, has no sequence
            of an id, or a file is shorter than it should be.
        """
        if allow_incomplete:
            states = [files.read_commits().state for files in self._shards]
            places = _places_of(states)
        else:
            states, places = self._states, self._places
            if ids is None and not self.is_complete:
                raise ValueError(
                    f"the store {self.path} is incomplete: it is being written, or that was "
                    "interrupted. Go on with it, or take what there is with allow_incomplete=True."
                )
        wanted = list(places) if ids is None else list(ids)
        for i, id in enumerate(wanted):
            if id not in places:
                raise ValueError(f"ids[{i}]: the store {self.path} has no sequence {id!r}")
        if not wanted:
            raise ValueError(f"the store {self.path} has no sequences")
        shards = self._map(states)
        if len(shards) > 1 or self.dtype == "float16":
            return _copied(shards, [places[id] for id in wanted])
        (whole,) = shards.values()
        sequences = TSEArray.from_packed(whole.values, whole.offsets, whole.spans)
        return sequences[np.array([places[id].number for id in wanted])]

    def set_labels(self, labels: Mapping[str, Any] | ArrayLike) -> None:
        """Set the labels of sequences; those that have some and are not named keep theirs.

        Parameters
        ----------
        labels : mapping of ids, or array of shape (n_sequences,)
            Strings or integers.

        Raises
        ------
        ValueError
            If an id is not in the store, or labels are of other types.
        """
        if not isinstance(labels, Mapping):
            items = np.asarray(labels).tolist()
            if len(items) != len(self):
                raise ValueError(f"labels has {len(items)} items, but there are {len(self)}")
            labels = dict(zip(self._places, items, strict=True))
        unknown = [id for id in labels if id not in self._places]
        if unknown:
            raise ValueError(f"labels: the store has no sequence {unknown[0]!r}")
        lock = self._folder / "labels.lock"
        refuse_link(lock)
        with FileLock(lock):
            content = json.dumps(_as_labels(self._read_labels() | dict(labels))).encode()
            replace_file(self._folder / "labels.json", lambda file: file.write(content))

    def write(self, shard: int = 0) -> StoreWriter:
        """A writer of one shard, to be used in a ``with`` statement; it waits for others.

        Parameters
        ----------
        shard : int, default=0
            Which, of `n_shards`.
        """
        if not 0 <= shard < self.n_shards:
            raise ValueError(f"shard must be from 0 to {self.n_shards - 1}, got {shard}")
        return StoreWriter(self._shards[shard], lambda: self._states_beside(shard))

    def verify(self) -> None:
        """Read everything and compare it with the checksums.

        Raises
        ------
        ValueError
            Naming the file that is damaged.
        """
        for files in self._shards:
            files.verify()

    def consolidate(self) -> None:
        """Join several shards to one, which can be read as a memory map.

        Whoever has sequences of the old shards keeps them. They are deleted in the end, so there
        must be space for both; a crash leaves either the old ones or the new one.

        Raises
        ------
        ValueError
            If the store is incomplete, or its shards do not fit together.
        """
        with ExitStack() as stack:
            for files in self._shards:
                refuse_link(files.lock)
                stack.enter_context(FileLock(files.lock))
            now = TSEStore(self.path)
            if now._numbers == self._numbers:
                if now.n_shards > 1:
                    now._join()
                remove_temporaries(self._folder / "manifest.json")
                kept = TSEStore(self.path)._numbers
                for number in set(range(max(kept))).difference(kept):  # also those a crash left
                    ShardFiles(self._folder, number, np.dtype(self.dtype)).remove()
        self.__dict__ = TSEStore(self.path).__dict__

    def _join(self) -> None:
        """Write a new shard that holds all, then let the manifest name it alone."""
        if not self.is_complete:
            raise ValueError(f"the store {self.path} is incomplete, its shards cannot be joined")
        number = max(self._numbers) + 1
        joined = ShardFiles(self._folder, number, np.dtype(self.dtype))
        joined.remove()  # what a crash left
        shards = self._map(self._states)
        with StoreWriter(joined, lambda: []) as writer:
            for failure in self.failures:
                writer.fail(failure.id, failure.cause, failure.frame, failure.n_bytes)
            for id, (number_of_shard, index) in self._places.items():
                entry = self._states[number_of_shard].entries[id]
                values, spans = shards[number_of_shard].sequence(index)
                writer.append(id, values, spans, entry.n_bytes, entry.position)
        content = _read_manifest(self._folder) | {"shards": [number]}
        text = json.dumps(content, indent=1).encode()
        replace_file(self._folder / "manifest.json", lambda file: file.write(text))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, id: object) -> bool:
        return id in self._places

    def __repr__(self) -> str:
        state = "complete" if self.is_complete else "incomplete"
        return (
            f"TSEStore({self.path!r}, n_sequences={len(self)}, n_features={self.n_features}, "
            f"dtype={self.dtype}, {state})"
        )

    @property
    def _folder(self) -> Path:
        return Path(self.path)

    @cached_property
    def _states(self) -> list[ShardState]:
        return [files.read_state() for files in self._shards]

    @cached_property
    def _places(self) -> dict[str, _Place]:
        return _places_of(self._states)

    def _states_beside(self, shard: int) -> list[ShardState]:
        """What the other shards hold now, for who has locked one of them."""
        if _read_manifest(self._folder)["shards"] != self._numbers:
            raise ValueError(f"the shards of {self.path} were joined meanwhile: open it again")
        return [files.read_state() for i, files in enumerate(self._shards) if i != shard]

    def _map(self, states: list[ShardState]) -> dict[int, _Mapped]:
        """The shards that hold something."""
        holding = [(i, state) for i, state in enumerate(states) if state.entries]
        for what in ("n_features", "has_spans"):
            found = [getattr(state, what) for _, state in holding]
            if len(set(found)) > 1:
                raise ValueError(f"{what} differs among the shards of {self.path}: {found}")
        mapped = {}
        for i, state in holding:
            values, *spans = [file.map(state.n_rows) for file in self._shards[i].rows(state)]
            mapped[i] = _Mapped(values, spans[0] if spans else None, state.offsets)
        return mapped

    def _read_labels(self) -> dict[str, Any]:
        path = self._folder / "labels.json"
        if not path.exists():
            return {}
        known = read_json(path)
        try:
            if not isinstance(known, dict):
                raise ValueError("it is no object of labels")
            return _as_labels(known)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error


class _Place(NamedTuple):
    """Where a sequence is."""

    shard: int
    number: int  # among the sequences of the shard


class _Mapped(NamedTuple):
    """Memory maps of a shard."""

    values: NDArray[Any]
    spans: NDArray[np.float64] | None
    offsets: NDArray[np.int64]

    def sequence(self, index: int) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
        rows = slice(self.offsets[index], self.offsets[index + 1])
        return self.values[rows], None if self.spans is None else self.spans[rows]


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.exists():
        raise FileNotFoundError(f"there is no store at {folder}: {path} is missing")
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is no manifest of a store")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{path}: version is {content.get('version')!r}, this package reads {_VERSION}"
        )
    if content.get("dtype") not in _DTYPES:
        raise ValueError(f"{path}: dtype is {content.get('dtype')!r}, expected one of {_DTYPES}")
    if not isinstance(content.get("fingerprint"), dict):
        raise ValueError(
            f"{path}: fingerprint is {content.get('fingerprint')!r}, expected an object"
        )
    shards = content.get("shards")
    if (
        not isinstance(shards, list)
        or not shards
        or not all(type(number) is int and number >= 0 for number in shards)
        or len(set(shards)) < len(shards)
    ):
        raise ValueError(f"{path}: shards is {shards!r}, expected a list of differing numbers")
    return content


def _settings(dtype: str, n_shards: int, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """By which stores are told apart, with names for messages."""
    named = {f"fingerprint[{key!r}]": value for key, value in fingerprint.items()}
    return {"dtype": dtype, "n_shards": n_shards, **named}


def _places_of(states: list[ShardState]) -> dict[str, _Place]:
    """Where each sequence is: of one shard in its order, of several by their positions.

    Ranks that were given a video twice may both have it; the first counts.
    """
    places = [
        (entry.position if entry.position is not None else index, shard, index, id)
        for shard, state in enumerate(states)
        for index, (id, entry) in enumerate(state.entries.items())
    ]
    if len(states) > 1:
        places.sort()
    result: dict[str, _Place] = {}
    for _, shard, index, id in places:
        result.setdefault(id, _Place(shard, index))
    return result


def _copied(shards: dict[int, _Mapped], places: list[_Place]) -> TSEArray:
    """Sequences of several shards, in memory of their own."""
    first = next(iter(shards.values()))
    lengths = [int(np.diff(shards[p.shard].offsets[p.number :][:2])[0]) for p in places]
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    dtype = np.promote_types(first.values.dtype, np.float32)
    values = np.empty((offsets[-1], first.values.shape[1]), dtype)
    spans = None if first.spans is None else np.empty((offsets[-1], 2))
    for place, begin, end in zip(places, offsets[:-1], offsets[1:], strict=True):
        rows, times = shards[place.shard].sequence(place.number)
        values[begin:end] = rows
        if spans is not None:
            spans[begin:end] = times
    return TSEArray.from_packed(values, offsets, spans)


def _as_labels(labels: Mapping[str, Any]) -> dict[str, str | int]:
    """Labels as plain strings or integers, all of one kind."""
    result = {}
    for id, label in labels.items():
        if isinstance(label, np.generic):
            label = label.item()
        if isinstance(label, bool) or not isinstance(label, (str, int)):
            raise ValueError(f"the label of {id!r} must be a string or an integer, got {label!r}")
        if isinstance(label, int) and not -(2**63) <= label < 2**63:
            raise ValueError(f"the label of {id!r} is too large: {label}")
        result[id] = label
    if len({type(label) for label in result.values()}) > 1:
        raise ValueError("labels must all be strings or all be integers")
    return result
