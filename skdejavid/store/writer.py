"""Append sequences to one shard of a store, so that a crash never undoes a synced commit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from skdejavid.files.array_file import as_written
from skdejavid.files.atomic import append_bytes, remove_temporaries, replace_own_file, sync
from skdejavid.files.identity import FileIdentity
from skdejavid.files.regular import check_own_file, open_own_file
from skdejavid.store.rows_file import RowsFile
from skdejavid.store.shards import (
    Entry,
    Failure,
    Partial,
    ShardFiles,
    ShardState,
    files_as_json,
    journal_line,
    partial_as_json,
)

__all__ = ["StoreWriter"]

_SECONDS_BETWEEN_SYNCS = 5.0


class StoreWriter:
    """Writer of one shard, a context manager returned by :meth:`skdejavid.TSEStore.write`.

    Sequences become part of the shard at the next `commit`. Leaving the context without an error
    commits and completes the shard. If the context is left by an error, or the process is killed,
    the shard stays incomplete and the next writer resumes after the last commit. Commits are
    synced to the disk every few seconds; after a power loss, the shard is in the state of an
    earlier commit.

    If writing fails, for example because the disk is full, this writer cannot be used any more; the
    next writer resumes after the last commit.

    Parameters
    ----------
    files : ShardFiles
        Files of the shard.
    siblings : callable
        Returns the states of the other shards; called after the shard is locked.

    Attributes
    ----------
    passing_failures : list of Failure
        What `fail` was told of with `may_pass`. It is lost when the writer is closed.
    """

    records_content = True  # the writer asks those who extract for content hashes

    def __init__(self, files: ShardFiles, siblings: Callable[[], Sequence[ShardState]]) -> None:
        self._files = files
        self._read_siblings = siblings
        check_own_file(files.lock)
        self._lock = FileLock(files.lock)
        self._open_files: dict[str, BinaryIO] = {}
        self.passing_failures: list[Failure] = []
        self._partial_checksum = 0
        self._partial_content: str | None = None
        self._is_usable = False

    def __enter__(self) -> StoreWriter:
        self._lock.acquire()
        try:
            self._siblings = list(self._read_siblings())
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self.commit()
                self._finish()
        finally:
            self._close()

    def __contains__(self, id: object) -> bool:
        """Return whether the store has a sequence with this id, in this shard or another."""
        return id in self._state.entries or any(id in state.entries for state in self._siblings)

    @property
    def ids(self) -> list[str]:
        """Ids of all sequences in the shard."""
        return list(self._state.entries)

    @property
    def failures(self) -> list[Failure]:
        """Inputs for which no sequence could be produced, of this shard and of the others."""
        states = (*self._siblings, self._state)
        found = {id: failure for state in states for id, failure in state.failures.items()}
        return [failure for id, failure in found.items() if id not in self]

    @property
    def partial(self) -> tuple[str, NDArray[np.floating]] | None:
        """Id and first rows of the unfinished sequence, or None if there is none."""
        if self._partial_id is None:
            return None
        return self._partial_id, np.concatenate(self._partial_rows)

    @property
    def partial_content(self) -> str | None:
        """Hash of the content of the input of the unfinished sequence, None if not recorded."""
        return None if self._partial_id is None else self._partial_content

    def n_bytes(self, id: str) -> int | None:
        """Return the size in bytes of the input of a sequence, or None if it was not recorded."""
        states = (state for state in (self._state, *self._siblings) if id in state.entries)
        return next(states).entries[id].n_bytes

    def file(self, id: str) -> FileIdentity:
        """Return what is known of the input of a sequence or a failure, in any shard.

        Parameters
        ----------
        id : str
            Id of the input.

        Returns
        -------
        FileIdentity
            Size, modification time and content hash, each None if it was not recorded.
        """
        states = (self._state, *self._siblings)
        having = [state for state in states if id in state.entries]
        having += [state for state in states if id in state.failures]
        return having[0].file(id) if having else FileIdentity()

    def append(
        self,
        id: str,
        values: ArrayLike,
        spans: ArrayLike | None = None,
        n_bytes: int | None = None,
        position: int | None = None,
        modified_ns: int | None = None,
        content_hash: str | None = None,
    ) -> None:
        """Append a sequence.

        Parameters
        ----------
        id : str
            Id of the sequence, unique in the store.
        values : array of shape (n_frames, n_features)
            Frames, all finite after conversion to the dtype of the store.
        spans : array of shape (n_frames, 2), optional
            Begin and end, in seconds, of the time that each frame represents. Either all sequences
            of a store have spans or none.
        n_bytes : int, optional
            Size of the input that the sequence was produced from.
        position : int, optional
            Position of the sequence among those of all shards.
        modified_ns : int, optional
            Modification time of the input, in nanoseconds since 1970.
        content_hash : str, optional
            Hash of the content of the input.

        Raises
        ------
        ValueError
            If the id is already in the store, or `values` or `spans` are not as described. Nothing
            is appended then.
        """
        self._check_new(id)
        rows = self._check_rows(id, values)
        times = None if spans is None else _check_spans(id, spans, len(rows))
        state = self._state
        if state.entries and (times is not None) != state.has_spans:
            raise ValueError(
                f"{id!r}: either all sequences of a store have spans or none, and those before "
                f"{'have' if state.has_spans else 'do not'}"
            )
        entry = Entry(len(rows), _as_int(n_bytes), _as_int(position))
        with self._writing():
            self._start_journal()
            values_file = self._files.values(rows.shape[1])
            state.checksum = self._append_rows(values_file, rows, state.checksum)
            if times is not None:
                spans_checksum = self._append_rows(self._files.spans, times, state.spans_checksum)
                state.spans_checksum = spans_checksum
            state.n_features, state.has_spans = rows.shape[1], times is not None
            state.n_rows += len(rows)
            state.entries[id] = entry
            state.failures.pop(id, None)
            self._new_failures.pop(id, None)
            self._new_sequences.append([id, *entry])
            self._forget_partial(id)
            self._set_file(id, FileIdentity(entry.n_bytes, _as_int(modified_ns), content_hash))

    def fail(
        self,
        id: str,
        cause: str,
        frame: int | None = None,
        n_bytes: int | None = None,
        modified_ns: int | None = None,
        content_hash: str | None = None,
        may_pass: bool = False,
    ) -> None:
        """Record that no sequence could be produced for an id.

        Parameters
        ----------
        id : str
            Id of the input, such as a video.
        cause : str
            Description of the error.
        frame : int, optional
            Number of frames that could be read.
        n_bytes : int, optional
            Size of the input.
        modified_ns : int, optional
            Modification time of the input, in nanoseconds since 1970.
        content_hash : str, optional
            Hash of the content of the input.
        may_pass : bool, default=False
            Whether the cause may be gone next time, such as a missing permission. The failure is
            then not part of the store, but only of `passing_failures` of this writer.

        Raises
        ------
        ValueError
            If the id is already in the store.
        """
        self._check_new(id)
        failure = Failure(id, _as_int(frame), cause, _as_int(n_bytes))
        if may_pass:
            self.passing_failures.append(failure)
            if self._partial_id == id:
                self.discard_partial()
            return
        with self._writing():
            self._start_journal()
            self._state.failures[id] = self._new_failures[id] = failure
            self._forget_partial(id)
            self._set_file(id, FileIdentity(failure.n_bytes, _as_int(modified_ns), content_hash))

    def write_partial(
        self, id: str, values: NDArray[np.floating], content_hash: str | None = None
    ) -> None:
        """Store the next rows of an unfinished sequence, keeping their dtype.

        After an interruption they are returned by `partial` of the next writer. `append` or `fail`
        with the same id discards them.

        Parameters
        ----------
        id : str
            Id of the sequence.
        values : array of shape (n_rows, n_features), floating
            Rows that follow the partial rows stored before.
        content_hash : str, optional
            Hash of the content of the input.

        Raises
        ------
        ValueError
            If another sequence is partial, or the dtype or number of features differs from that of
            the rows before.
        """
        if self._partial_id not in (None, id):
            raise ValueError(
                f"rows of {id!r} cannot be stored while {self._partial_id!r} is partial: append it "
                "or discard it first"
            )
        self._check_new(id)
        rows = as_written(np.array(values))
        if rows.ndim != 2 or rows.dtype.kind != "f":
            raise ValueError(
                f"{id!r}: partial rows must be a 2-D floating array, got {rows.dtype} of shape "
                f"{rows.shape}"
            )
        if self._partial_id is not None:
            first = self._partial_rows[0]
            if rows.dtype != first.dtype or rows.shape[1] != first.shape[1]:
                raise ValueError(
                    f"{id!r}: partial rows are {rows.dtype} with {rows.shape[1]} features, but "
                    f"those before are {first.dtype} with {first.shape[1]}"
                )
        with self._writing():
            self._start_journal()
            if self._partial_id is None:
                self._start_partial(id)
            file = self._open_files["partial"]
            self._partial_checksum = _append_array(file, rows, self._partial_checksum)
            self._partial_rows.append(rows)
            self._partial_content = content_hash
            self._is_changed = True

    def discard_partial(self) -> None:
        """Discard the rows of the unfinished sequence, if there is one."""
        if self._partial_id is None:
            return
        with self._writing():
            self._start_journal()
            self._forget_partial(self._partial_id)

    def commit(self) -> None:
        """Atomically commit everything appended since the last commit."""
        with self._writing():
            if self._new_sequences or self._new_failures or self._is_changed:
                is_due = time.monotonic() - self._last_sync > _SECONDS_BETWEEN_SYNCS
                self._write_commit(is_synced=is_due)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the writer unusable if the body fails: files may then contain a part of the data."""
        if not self._is_usable:
            raise ValueError(
                f"the writer of shard {self._files.number} of {self._files.folder} is closed or "
                "has failed: open another writer, which resumes after the last commit"
            )
        self._is_usable = False
        yield
        self._is_usable = True

    def _close(self) -> None:
        self._is_usable = False
        for file in self._open_files.values():
            file.close()
        self._open_files.clear()
        self._lock.release()

    def _open(self) -> None:
        """Restore the last commit and discard everything after it."""
        files = self._files
        commits = files.read_commits()
        self._state = commits.state
        self._new_sequences: list[Any] = []
        self._new_failures: dict[str, Failure] = {}
        self._new_files: dict[str, FileIdentity] = {}
        self._is_changed = False
        self._partial_id: str | None = None
        self._partial_rows: list[NDArray[np.floating]] = []
        self._partial_number = 0
        self._next_number = commits.next_number
        self._last_sync = time.monotonic()
        for path in (files.offsets.path, files.state):
            remove_temporaries(path)
        rows = files.rows(self._state)
        for file in rows:
            file.cut(self._state.n_rows)
        for file in (files.values(0), files.spans):
            if file.path not in [kept.path for kept in rows]:
                file.path.unlink(missing_ok=True)
        if commits.partial is not None:
            self._restore_partial(commits.partial)
        self._is_usable = True
        if files.journal.exists():
            os.truncate(files.journal, commits.journal_size)
            self._start_journal()
            # A synced commit: from now on no crash can restore an earlier one.
            self._write_commit(is_synced=True)

    def _restore_partial(self, partial: Partial) -> None:
        """Read the partial rows; without effect if they are damaged: they can be produced again."""
        path = self._files.partial(partial.number)
        content = _read_up_to(path, partial.n_bytes)
        if len(content) != partial.n_bytes or crc32(content) != partial.checksum:
            return
        os.truncate(path, partial.n_bytes)
        rows = np.frombuffer(content, partial.dtype).reshape(partial.n_rows, partial.n_features)
        self._partial_id, self._partial_number = partial.id, partial.number
        self._partial_rows, self._partial_content = [rows], partial.content_hash
        self._partial_checksum = partial.checksum
        self._open_files["partial"] = open_own_file(path, "ab", is_buffered=False)

    def _start_journal(self) -> None:
        """Create the journal, which marks the shard as incomplete, before anything changes."""
        if "journal" not in self._open_files:
            journal = open_own_file(self._files.journal, "ab", is_buffered=False)
            self._open_files["journal"] = journal
            sync(self._files.folder)

    def _start_partial(self, id: str) -> None:
        if "partial" in self._open_files:
            self._open_files.pop("partial").close()
        self._partial_id, self._partial_rows, self._partial_checksum = id, [], 0
        self._partial_number = self._next_number
        self._next_number += 1
        path = self._files.partial(self._partial_number)
        path.unlink(missing_ok=True)
        self._open_files["partial"] = open_own_file(path, "xb", is_buffered=False)

    def _forget_partial(self, id: str) -> None:
        if self._partial_id == id:
            self._partial_id, self._partial_rows = None, []
            self._is_changed = True

    def _set_file(self, id: str, file: FileIdentity) -> None:
        """Record what is known of an input, if it is more than its size."""
        for files in (self._state.files, self._new_files):
            files.pop(id, None)
            if (file.modified_ns, file.content_hash) != (None, None):
                files[id] = file

    def _append_rows(self, file: RowsFile, rows: NDArray[Any], checksum: int) -> int:
        name = file.path.name
        if name not in self._open_files:
            self._open_files[name] = file.open()
        return _append_array(self._open_files[name], rows, checksum)

    def _write_commit(self, *, is_synced: bool) -> None:
        if is_synced:
            self._sync()
        self._state.n_commits += 1
        line = self._state.summary() | {
            "sequences": self._new_sequences,
            "failures": list(self._new_failures.values()),
            **partial_as_json(self._describe_partial()),
            "synced": is_synced,
        }
        line |= files_as_json(self._new_files)
        journal = self._open_files["journal"]
        append_bytes(journal, journal_line(line))
        self._new_sequences, self._new_failures, self._is_changed = [], {}, False
        self._new_files = {}
        if is_synced:
            os.fsync(journal.fileno())
            self._last_sync = time.monotonic()
            self._remove_stale_partials()

    def _describe_partial(self) -> Partial | None:
        if self._partial_id is None:
            return None
        first = self._partial_rows[0]
        n_rows = sum(map(len, self._partial_rows))
        return Partial(
            self._partial_id,
            self._partial_number,
            first.dtype.str,
            n_rows,
            first.shape[1],
            self._partial_checksum,
            self._partial_content,
        )

    def _sync(self) -> None:
        files = [file.path for file in self._files.rows(self._state)]
        if self._partial_id is not None:
            files.append(self._files.partial(self._partial_number))
        for path in [*files, self._files.folder]:
            sync(path)

    def _remove_stale_partials(self) -> None:
        """Remove files of other partial rows; after a synced commit no crash can restore them."""
        kept = None if self._partial_id is None else self._files.partial(self._partial_number)
        for path in self._files.all_partial():
            if path != kept:
                path.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Complete the shard; a crash in between leaves the journal, with the same contents."""
        files, state = self._files, self._state
        if files.is_complete:
            return
        self._sync()
        for file in files.rows(state):
            file.write_header(state.n_rows)
        files.offsets.replace(state.offsets)
        content = json.dumps(state.as_json()).encode()
        replace_own_file(files.state, lambda file: file.write(content))
        self._partial_id = None
        self._remove_stale_partials()
        files.journal.unlink(missing_ok=True)
        sync(files.folder)

    def _check_new(self, id: str) -> None:
        if not isinstance(id, str) or not id:
            raise ValueError(f"id must be a non-empty string, got {id!r}")
        if id in self:
            raise ValueError(f"the store already has a sequence {id!r}")

    def _check_rows(self, id: str, values: ArrayLike) -> NDArray[Any]:
        rows = np.asarray(values)
        if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind not in "fiub":
            raise ValueError(
                f"{id!r}: values must be a non-empty numeric array (n_frames, n_features), got "
                f"{rows.dtype} of shape {rows.shape}"
            )
        stored = [s.n_features for s in (self._state, *self._siblings) if s.entries]
        if stored and rows.shape[1] != stored[0]:
            raise ValueError(
                f"{id!r} has {rows.shape[1]} features, but the sequences of the store have "
                f"{stored[0]}"
            )
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            converted = np.ascontiguousarray(rows, dtype=self._files.dtype)
        finite = np.isfinite(converted).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise ValueError(
                f"{id!r} contains NaN, infinity or a value too large for {self._files.dtype}, "
                f"first in frame {row}"
            )
        return converted


def _read_up_to(path: Path, n_bytes: int) -> bytes:
    """Return the first bytes of a file, nothing if it does not exist."""
    try:
        with open_own_file(path) as file:
            # Not more than the file has, whatever the journal says.
            return file.read(min(n_bytes, os.fstat(file.fileno()).st_size))
    except FileNotFoundError:
        return b""


def _append_array(file: BinaryIO, rows: NDArray[Any], checksum: int) -> int:
    """Append rows to a file and return the checksum of all its rows."""
    content = rows.reshape(-1).view(np.uint8).data
    append_bytes(file, content)
    return crc32(content, checksum)


def _check_spans(id: str, spans: ArrayLike, n_rows: int) -> NDArray[np.float64]:
    times = np.ascontiguousarray(spans, dtype=np.float64)
    if times.shape != (n_rows, 2):
        raise ValueError(f"{id!r}: spans must have shape ({n_rows}, 2), got {times.shape}")
    return times


def _as_int(value: int | None) -> int | None:
    return None if value is None else int(value)
