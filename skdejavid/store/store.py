"""The store of sequences: written so that it survives crashes, read as a shared memory map."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from skdejavid.compat.bars import Bar
from skdejavid.compat.parameters import as_python
from skdejavid.files.atomic import read_json, remove_temporaries, replace_own_file
from skdejavid.files.identity import FileIdentity
from skdejavid.files.regular import check_own_file
from skdejavid.sequences import TSEArray
from skdejavid.sequences.layout import offsets_of
from skdejavid.store.manifest import (
    MOST_NUMBER,
    MOST_SHARDS,
    check_same_settings,
    create_manifest,
    manifest_text,
    read_manifest,
)
from skdejavid.store.sample import Verification, compare_sample
from skdejavid.store.shards import Failure, ShardFiles, ShardState, numbers_in
from skdejavid.store.writer import StoreWriter

__all__ = ["Failure", "StoreWriter", "TSEStore"]


class TSEStore:
    """Store of sequences of embeddings in a folder.

    Parameters
    ----------
    path : str or path
        Folder of an existing store; :meth:`create` makes a new one.

    Attributes
    ----------
    path : str
        The folder.
    dtype : str
        Type of the values on disk: "float32", "float64", or "float16", which is read as float32.
    fingerprint : dict
        Settings that produced the sequences.
    n_shards : int
        Number of shards: parts that can be written at the same time, also by different machines.

    Raises
    ------
    FileNotFoundError
        If there is no store in the folder.
    ValueError
        If the store is damaged or of another version; the message names the file and the problem.

    Notes
    -----
    A shard is an append-only ``.npy`` file of frames, and a journal while it is being written. File
    names follow from the numbers of the shards and are never read from a file. Nothing is
    unpickled.

    While sequences are being appended to a complete store, and after an interruption, it is
    incomplete. Sequences that it contained before can still be read by their ids. `ids`,
    `failures` and `len` describe the state in which each shard was last complete.

    A store keeps what was written to it, also sequences of videos that have been deleted, renamed
    or moved to another class since. :meth:`TSEExtractor.transform` returns only the videos that it
    is given; with `sequences`, name the ids that are wanted.

    For each sequence and each failure the store records size, modification time and a hash of the
    content of the file, or size and hash of the array; see `check_content` and `retry_failures` of
    :class:`TSEExtractor` for what they decide.

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
        content = read_manifest(self._folder)
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
        """Create a store, or open an existing one that was created with the same settings.

        Parameters
        ----------
        path : str or path
            Folder of the store, which is created if it does not exist.
        dtype : {"float32", "float64", "float16"}, default="float32"
            Type of the values on disk.
        fingerprint : mapping, optional
            Settings that produce the sequences, of types that JSON can represent.
        n_shards : int, default=1
            Number of shards.

        Returns
        -------
        TSEStore

        Raises
        ------
        ValueError
            If an argument is invalid, or the folder has a store that was created with different
            settings; the message lists the differences.
        FileExistsError
            If the folder is neither empty nor a store.
        """
        shards = as_python(n_shards)
        if type(shards) is not int or not 1 <= shards <= MOST_SHARDS:
            raise ValueError(
                f"n_shards must be at least 1 and at most {MOST_SHARDS}, got {n_shards!r}"
            )
        text = manifest_text(dtype, fingerprint, range(shards))
        folder = Path(path)
        create_manifest(folder, text)
        store = cls(folder)
        store._check_settings(json.loads(text))
        return store

    def _check_settings(self, manifest: dict[str, Any]) -> None:
        """Check that the store was created with the settings of a manifest."""
        own = {"dtype": self.dtype, "shards": self._numbers, "fingerprint": self.fingerprint}
        check_same_settings(self.path, own, manifest)

    @property
    def n_shards(self) -> int:
        return len(self._shards)

    @property
    def is_complete(self) -> bool:
        """Whether all shards were finished, and none is being written."""
        return all(files.is_complete for files in self._shards)

    @property
    def n_features(self) -> int | None:
        """Number of features of the sequences, or None if there are no sequences."""
        found = {state.n_features for state in self._states if state.entries}
        if len(found) > 1:
            raise ValueError(f"shards of {self.path} have differing numbers of features: {found}")
        return next(iter(found), None)

    @property
    def ids(self) -> list[str]:
        """Ids of the sequences, in their order."""
        return list(self._locations)

    @property
    def failures(self) -> list[Failure]:
        """Inputs for which no sequence could be produced."""
        found = {id: failure for state in self._states for id, failure in state.failures.items()}
        return [failure for id, failure in found.items() if id not in self]

    @property
    def labels(self) -> NDArray[Any] | None:
        """Labels of the sequences, in their order, or None if no labels were set.

        Raises
        ------
        ValueError
            If only some of the sequences have labels.
        """
        labels = self.labels_by_id
        if not labels:
            return None
        for id in self._locations:
            if id not in labels:
                raise ValueError(
                    f"{self.path} has labels, but none for {id!r}: set_labels adds it; "
                    "labels_by_id contains those that have one"
                )
        return np.array(list(labels.values()))

    @property
    def labels_by_id(self) -> dict[str, str | int]:
        """Labels of the sequences that have one, by id, in the order of the sequences."""
        labels = self._read_labels()
        return {id: labels[id] for id in self._locations if id in labels}

    def n_bytes(self, id: str) -> int | None:
        """Return the size in bytes of the input of a sequence, or None if it was not recorded."""
        return self._states[self._locations[id].shard].entries[id].n_bytes

    def file(self, id: str) -> FileIdentity:
        """Return what was recorded of the file that a sequence, or a failure, comes from.

        Parameters
        ----------
        id : str
            Id of the sequence or the failure.

        Returns
        -------
        FileIdentity
            Size, modification time and content hash, each None if it was not recorded.
        """
        states = [state for state in self._states if id in state.failures]
        if id in self._locations:
            states = [self._states[self._locations[id].shard]]
        return states[0].file(id) if states else FileIdentity()

    def sequences(
        self, ids: Sequence[str] | None = None, *, allow_incomplete: bool = False
    ) -> TSEArray:
        """Return all sequences, or those of some ids.

        Parameters
        ----------
        ids : sequence of str, optional
            Ids of the sequences to return, in this order. None returns all.
        allow_incomplete : bool, default=False
            Whether to include what is committed to shards that are being written or whose writing
            was interrupted.

        Returns
        -------
        TSEArray
            A view of a memory map if one shard contains all sequences and is not float16, else a
            copy in memory. Each computation first checks that the mapped file has not become
            shorter; while one runs, nobody may cut the file.

        Raises
        ------
        ValueError
            If all sequences of an incomplete store are requested, the store is empty or does not
            have an id, or a file is shorter than expected.
        """
        if allow_incomplete:
            states = [files.read_commits().state for files in self._shards]
            locations = _locations_of(states)
        else:
            states, locations = self._states, self._locations
            if ids is None and not self.is_complete:
                raise ValueError(
                    f"the store {self.path} is incomplete: it is being written, or writing was "
                    "interrupted. Complete it, or read what is committed with "
                    "allow_incomplete=True."
                )
        requested = self._find(locations, ids)
        shards = self._map(states)
        if len(shards) > 1 or self.dtype == "float16":
            return _copied(shards, requested)
        (whole,) = shards.values()
        sequences = TSEArray.from_packed(whole.values, whole.offsets, whole.spans)
        return sequences[np.array([location.index_in_shard for location in requested])]

    def _find(
        self, locations: Mapping[str, _Location], ids: Sequence[str] | None
    ) -> list[_Location]:
        """Return the locations of some ids, or all if `ids` is None."""
        if isinstance(ids, (str, bytes)) or not (ids is None or isinstance(ids, Iterable)):
            raise ValueError(f"ids must be a list of strings, got {ids!r}")
        requested = list(locations) if ids is None else list(ids)
        for i, id in enumerate(requested):
            if not isinstance(id, str) or id not in locations:
                raise ValueError(f"ids[{i}]: the store {self.path} has no sequence {id!r}")
        if not requested:
            raise ValueError(f"the store {self.path} has no sequences")
        return [locations[id] for id in requested]

    def set_labels(self, labels: Mapping[str, Any] | ArrayLike, *, replace: bool = False) -> None:
        """Set or change labels of sequences.

        Parameters
        ----------
        labels : mapping of ids to labels, or array of shape (n_sequences,)
            Strings or integers. Sequences that are not in a mapping keep their labels.
        replace : bool, default=False
            Whether these labels replace all others: sequences that are not in the mapping have none
            afterwards. The mapping may name sequences that are not in the store yet.

        Raises
        ------
        ValueError
            If an id is not in the store, the number of labels is not that of the sequences, or
            labels are not all strings or all integers.
        """
        if not isinstance(labels, Mapping):
            items = (
                list(labels) if isinstance(labels, (list, tuple)) else np.asarray(labels).tolist()
            )
            if len(items) != len(self):
                raise ValueError(
                    f"labels has {len(items)} items, but the store has {len(self)} sequences"
                )
            labels = dict(zip(self._locations, items, strict=True))
        unknown = [id for id in labels if id not in self._locations]
        if unknown and not replace:
            raise ValueError(f"labels: the store has no sequence {unknown[0]!r}")
        lock = self._folder / "labels.lock"
        check_own_file(lock)
        with FileLock(lock):
            before = {} if replace else self._read_labels()
            content = json.dumps(_as_labels(before | dict(labels))).encode()
            replace_own_file(self._folder / "labels.json", lambda file: file.write(content))

    def write(self, shard: int = 0) -> StoreWriter:
        """Return a writer of one shard, to be used in a ``with`` statement.

        Entering the statement waits until no other writer has the shard open.

        Parameters
        ----------
        shard : int, default=0
            Index of the shard, less than `n_shards`.

        Returns
        -------
        StoreWriter
        """
        shard = as_python(shard)
        if type(shard) is not int or not 0 <= shard < self.n_shards:
            raise ValueError(f"shard must be from 0 to {self.n_shards - 1}, got {shard!r}")
        return StoreWriter(self._shards[shard], lambda: self._states_beside(shard))

    def verify(
        self,
        extractor: Any = None,
        videos: str | PathLike[str] | Mapping[str, Any] | None = None,
        *,
        sample: int | None = 10,
        tolerance: float = 1e-3,
        random_state: Any = 0,
        verbose: int = 0,
    ) -> Verification:
        """Compare the files of the store with their checksums, and sequences with their videos.

        Without `extractor`, only the files of the store are read. With it, some videos are encoded
        again, and must give the sequences that the store has.

        Parameters
        ----------
        extractor : TSEExtractor, optional
            Extractor with the encoder and the settings of the store; its `store` is not used.
        videos : path or mapping, optional
            Folder that ids are relative to, as for a store of ``skdejavid extract``; or paths or
            arrays by id. None takes ids as paths.
        sample : int or None, default=10
            Number of sequences to compare, drawn at random; None compares all.
        tolerance : float, default=1e-3
            Largest difference that is allowed, as a fraction of the largest absolute value of the
            sequence. Other batches and other devices give other roundings. In half precision
            (`autocast`, or `store_dtype` "float16") allow 0.02.
        random_state : int, RandomState or None, default=0
            Draws the sample.
        verbose : int, default=0
            If positive, show how far the files are read.

        Returns
        -------
        Verification
            Ids of the sequences that were compared with their videos (none without `extractor`),
            the largest difference among them, and by id the reason why others could not be: the
            video is missing, was changed, is another array, or cannot be read.

        Raises
        ------
        ValueError
            If a file of the store is damaged; if the store was created with a different encoder or
            different settings; if a sequence differs from what its video gives, or no video of the
            sample can be encoded. The message names the file, the settings or the sequences.
        """
        n_bytes = sum(map(ShardFiles.n_bytes_of_rows, self._shards, self._states))
        hidden = not as_python(verbose)
        with Bar(total=n_bytes, desc="reading", unit="B", unit_scale=True, disable=hidden) as bar:
            for files in self._shards:
                files.verify(bar.update)
        if extractor is None:
            return Verification([], 0.0, {})
        made_by = extractor.store_fingerprint()
        self._check_settings(json.loads(manifest_text(self.dtype, made_by, self._numbers)))
        return compare_sample(
            self.ids,
            self.file,
            self.sequences,
            extractor,
            videos,
            sample,
            tolerance=tolerance,
            random_state=random_state,
        )

    def consolidate(self) -> None:
        """Join all shards to one, which can be read as a memory map.

        Arrays already opened from the old shards remain valid. The old files are deleted at the
        end, so the disk must have space for both. A crash leaves either the old shards or the new
        one.

        Raises
        ------
        ValueError
            If the store is incomplete, or its shards differ in their features or spans.
        """
        with ExitStack() as stack:
            for files in self._shards:
                check_own_file(files.lock)
                stack.enter_context(FileLock(files.lock))
            now = TSEStore(self.path)
            if now._numbers == self._numbers:
                if now.n_shards > 1:
                    now._join()
                remove_temporaries(self._folder / "manifest.json")
                kept = TSEStore(self.path)._numbers
                # Also the files of earlier consolidations that a crash interrupted. None is going
                # on: it would need the locks that are held here.
                for number in numbers_in(self._folder).difference(kept):
                    ShardFiles(self._folder, number, np.dtype(self.dtype)).remove()
        self.__dict__ = TSEStore(self.path).__dict__

    def _join(self) -> None:
        """Write a new shard with all sequences, then replace the manifest by one that lists it."""
        if not self.is_complete:
            raise ValueError(f"the store {self.path} is incomplete, its shards cannot be joined")
        number = max(self._numbers) + 1
        if number > MOST_NUMBER:
            number = min(set(range(MOST_SHARDS + 1)).difference(self._numbers))
        joined = ShardFiles(self._folder, number, np.dtype(self.dtype))
        joined.remove()  # files of a consolidation that a crash interrupted
        shards = self._map(self._states)
        with StoreWriter(joined, lambda: []) as writer:
            for failure in self.failures:
                writer.fail(failure.id, failure.cause, failure.frame, *self.file(failure.id))
            for id, (number_of_shard, index) in self._locations.items():
                entry = self._states[number_of_shard].entries[id]
                values, spans = shards[number_of_shard].sequence(index)
                _, modified_ns, content_hash = self.file(id)
                more = entry.n_bytes, entry.position, modified_ns, content_hash
                writer.append(id, values, spans, *more)
        content = read_manifest(self._folder) | {"shards": [number]}
        text = json.dumps(content, indent=1).encode()
        replace_own_file(self._folder / "manifest.json", lambda file: file.write(text))

    def __len__(self) -> int:
        return len(self._locations)

    def __contains__(self, id: object) -> bool:
        return id in self._locations

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
    def _locations(self) -> dict[str, _Location]:
        return _locations_of(self._states)

    def _states_beside(self, shard: int) -> list[ShardState]:
        """Return the current states of the other shards, for a writer that has locked `shard`."""
        now = read_manifest(self._folder)
        if (now["dtype"], now["fingerprint"]) != (self.dtype, self.fingerprint):
            raise ValueError(f"the store {self.path} has other settings meanwhile: open it again")
        if now["shards"] != self._numbers:
            raise ValueError(
                f"the shards of {self.path} were joined meanwhile: open the store again"
            )
        return [files.read_state() for i, files in enumerate(self._shards) if i != shard]

    def _map(self, states: list[ShardState]) -> dict[int, _Mapped]:
        """Map the shards that have sequences, after a check that they fit together."""
        filled = [(i, state) for i, state in enumerate(states) if state.entries]
        for what in ("n_features", "has_spans"):
            found = [getattr(state, what) for _, state in filled]
            if len(set(found)) > 1:
                raise ValueError(f"{what} differs among the shards of {self.path}: {found}")
        mapped = {}
        for i, state in filled:
            values, *spans = [file.map(state.n_rows) for file in self._shards[i].rows(state)]
            mapped[i] = _Mapped(values, spans[0] if spans else None, state.offsets)
        return mapped

    def _read_labels(self) -> dict[str, Any]:
        path = self._folder / "labels.json"
        try:
            labels = read_json(path)
        except FileNotFoundError:
            return {}
        try:
            if not isinstance(labels, dict):
                raise ValueError("it is not an object of labels by id")
            return _as_labels(labels)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error


class _Location(NamedTuple):
    """Where a sequence is stored."""

    shard: int
    index_in_shard: int


class _Mapped(NamedTuple):
    """Memory maps of the files of a shard."""

    values: NDArray[Any]
    spans: NDArray[np.float64] | None
    offsets: NDArray[np.int64]

    def length(self, index: int) -> int:
        return int(self.offsets[index + 1] - self.offsets[index])

    def sequence(self, index: int) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
        rows = slice(self.offsets[index], self.offsets[index + 1])
        return self.values[rows], None if self.spans is None else self.spans[rows]


def _locations_of(states: list[ShardState]) -> dict[str, _Location]:
    """Return where each sequence is stored, in the order of the sequences.

    That is the order of a single shard, or the order of their positions. If the same video was
    given to two ranks, both shards may have its sequence; the first is used.
    """
    ordered = [
        (entry.position if entry.position is not None else index, shard, index, id)
        for shard, state in enumerate(states)
        for index, (id, entry) in enumerate(state.entries.items())
    ]
    if len(states) > 1:
        ordered.sort()
    result: dict[str, _Location] = {}
    for _, shard, index, id in ordered:
        result.setdefault(id, _Location(shard, index))
    return result


def _copied(shards: dict[int, _Mapped], locations: list[_Location]) -> TSEArray:
    """Copy sequences of several shards into one array in memory."""
    first = next(iter(shards.values()))
    offsets = offsets_of(
        [shards[location.shard].length(location.index_in_shard) for location in locations]
    )
    dtype = np.promote_types(first.values.dtype, np.float32)
    values = np.empty((offsets[-1], first.values.shape[1]), dtype)
    spans = None if first.spans is None else np.empty((offsets[-1], 2))
    for (shard, index), begin, end in zip(locations, offsets[:-1], offsets[1:], strict=True):
        rows, times = shards[shard].sequence(index)
        values[begin:end] = rows
        if spans is not None:
            spans[begin:end] = times
    return TSEArray.from_packed(values, offsets, spans)


def _as_labels(labels: Mapping[str, Any]) -> dict[str, str | int]:
    """Check labels and return them as Python strings or as Python integers."""
    result = {}
    for id, label in labels.items():
        if isinstance(label, np.generic):
            label = label.item()
        if isinstance(label, bool) or not isinstance(label, (str, int)):
            raise ValueError(f"the label of {id!r} must be a string or an integer, got {label!r}")
        if isinstance(label, str) and label.endswith("\0"):
            raise ValueError(
                f"the label of {id!r} is {label!r}: NumPy cuts null characters at the end of "
                "strings"
            )
        if isinstance(label, int) and not -(2**63) <= label < 2**63:
            raise ValueError(f"the label of {id!r} is too large for 64 bits: {label}")
        result[id] = label
    if len({type(label) for label in result.values()}) > 1:
        raise ValueError("labels must all be strings or all be integers")
    return result
