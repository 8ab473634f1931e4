"""Adding sequences to one shard of a store, so that a crash takes back no commit."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
from filelock import FileLock
from numpy.typing import ArrayLike, NDArray

from skdejavid.files.atomic import (
    append_bytes,
    refuse_link,
    remove_temporaries,
    replace_file,
    sync,
)
from skdejavid.store.rows_file import RowsFile
from skdejavid.store.shards import Entry, Failure, Held, ShardFiles, ShardState, journal_line

__all__ = ["StoreWriter"]

_SECONDS_BETWEEN_SYNCS = 5.0


class StoreWriter:
    """Adds sequences to one shard; a context manager, made by :meth:`TSEStore.write`.

    What was added counts from the next `commit` on. Leaving the context normally commits, and makes
    the shard complete. Leaving it by an error, or being killed, leaves the shard incomplete, and
    the next writer goes on after the last commit. A commit is on the disk some seconds after it was
    made: should the machine lose power before, what is left is an earlier commit, whole.

    After an error while writing, as of a full disk, nothing can be added any more: the next writer
    goes on after the last commit.

    Parameters
    ----------
    files : ShardFiles
        Of the shard.
    siblings : callable
        What the other shards hold; called once the shard is locked.
    """

    def __init__(self, files: ShardFiles, siblings: Callable[[], Sequence[ShardState]]) -> None:
        self._files = files
        self._read_siblings = siblings
        refuse_link(files.lock)
        self._lock = FileLock(files.lock)
        self._open_files: dict[str, BinaryIO] = {}
        self._held_checksum = 0
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
        """Whether the store has a sequence of this id, in this shard or another."""
        return id in self._state.entries or any(id in state.entries for state in self._siblings)

    @property
    def ids(self) -> list[str]:
        """Of all sequences in the shard."""
        return list(self._state.entries)

    @property
    def failures(self) -> list[Failure]:
        """Videos that gave no sequence."""
        return list(self._state.failures.values())

    @property
    def partial(self) -> tuple[str, NDArray[np.floating]] | None:
        """The sequence that is not finished: its id, and its first rows."""
        if self._held_id is None:
            return None
        return self._held_id, np.concatenate(self._held_rows)

    def n_bytes(self, id: str) -> int | None:
        """The size that the source of a sequence of the store had, None if that was not said."""
        holding = (state for state in (self._state, *self._siblings) if id in state.entries)
        return next(holding).entries[id].n_bytes

    def append(
        self,
        id: str,
        values: ArrayLike,
        spans: ArrayLike | None = None,
        n_bytes: int | None = None,
        position: int | None = None,
    ) -> None:
        """Add a sequence.

        Parameters
        ----------
        id : str
            Its name, which no other sequence of the store may have.
        values : array of shape (n_frames, n_features)
            Finite, also in the type of the store.
        spans : array of shape (n_frames, 2), optional
            Begin and end of what each frame stands for, in seconds; either all sequences have them
            or none.
        n_bytes : int, optional
            Size of what it was made of.
        position : int, optional
            Where it belongs among the sequences of all shards.

        Raises
        ------
        ValueError
            If the id is taken, or rows are not as described; nothing is added then.
        """
        self._require_new(id)
        rows = self._checked_rows(id, values)
        times = None if spans is None else _checked_spans(id, spans, len(rows))
        state = self._state
        if state.entries and (times is not None) != state.has_spans:
            raise ValueError(f"{id!r}: either all sequences of a store have spans or none")
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
            self._let_go(id)

    def fail(
        self, id: str, cause: str, frame: int | None = None, n_bytes: int | None = None
    ) -> None:
        """Remember that there is no sequence of this id, and why.

        Parameters
        ----------
        id : str
            Of the video.
        cause : str
            What is wrong with it.
        frame : int, optional
            How many frames could be read.
        n_bytes : int, optional
            Size of the file.
        """
        self._require_new(id)
        failure = Failure(id, _as_int(frame), cause, _as_int(n_bytes))
        with self._writing():
            self._start_journal()
            self._state.failures[id] = self._new_failures[id] = failure
            self._let_go(id)

    def write_partial(self, id: str, values: NDArray[np.floating]) -> None:
        """Keep the next rows of a sequence that is not finished, in the type that they have.

        `append` or `fail` of the same id lets go of them.

        Parameters
        ----------
        id : str
            Of the sequence.
        values : array of shape (n_rows, n_features), floating
            What comes after the rows that are held of it already.

        Raises
        ------
        ValueError
            If another sequence is held, or rows are not like those before.
        """
        if self._held_id not in (None, id):
            raise ValueError(f"{self._held_id!r} is held already, {id!r} cannot be")
        self._require_new(id)
        rows = np.array(values, order="C")
        if rows.ndim != 2 or rows.dtype.kind != "f":
            raise ValueError(
                f"{id!r}: rows to hold must be 2-D and floating, got {rows.dtype} of shape "
                f"{rows.shape}"
            )
        if self._held_id is not None:
            first = self._held_rows[0]
            if rows.dtype != first.dtype or rows.shape[1] != first.shape[1]:
                raise ValueError(
                    f"{id!r}: rows to hold are {rows.dtype} of {rows.shape[1]} features, those "
                    f"before {first.dtype} of {first.shape[1]}"
                )
        with self._writing():
            self._start_journal()
            if self._held_id is None:
                self._start_holding(id)
            file = self._open_files["held"]
            self._held_checksum = _append_array(file, rows, self._held_checksum)
            self._held_rows.append(rows)
            self._is_changed = True

    def discard_partial(self) -> None:
        """Let go of what is held."""
        if self._held_id is None:
            return
        with self._writing():
            self._start_journal()
            self._let_go(self._held_id)

    def commit(self) -> None:
        """Make everything since the last commit, all together, what a crash leaves behind."""
        with self._writing():
            if self._new_sequences or self._new_failures or self._is_changed:
                is_due = time.monotonic() - self._last_sync > _SECONDS_BETWEEN_SYNCS
                self._write_commit(is_synced=is_due)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """If something fails in here, files may hold a part of it: the writer ends."""
        if not self._is_usable:
            raise ValueError(
                f"the writer of shard {self._files.number} of {self._files.folder} is closed, or "
                "failed before: open another, which goes on after the last commit"
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
        """Go back to the last commit, cutting off what comes after."""
        files = self._files
        commits = files.read_commits()
        self._state = commits.state
        self._new_sequences: list[Any] = []
        self._new_failures: dict[str, Failure] = {}
        self._is_changed = False
        self._held_id: str | None = None
        self._held_rows: list[NDArray[np.floating]] = []
        self._held_number = 0
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
        if commits.held is not None:
            self._take_up(commits.held)
        self._is_usable = True
        if files.journal.exists():
            os.truncate(files.journal, commits.journal_size)
            self._start_journal()
            # Now all of it is on the disk, and no crash goes back to commits before.
            self._write_commit(is_synced=True)

    def _take_up(self, held: Held) -> None:
        """Hold again what was held. If it is damaged, it has to be made again."""
        path = self._files.held(held.number)
        refuse_link(path)
        content = path.read_bytes()[: held.n_bytes] if path.exists() else b""
        if len(content) != held.n_bytes or crc32(content) != held.checksum:
            return
        os.truncate(path, held.n_bytes)
        rows = np.frombuffer(content, held.dtype).reshape(held.n_rows, held.n_features)
        self._held_id, self._held_number = held.id, held.number
        self._held_rows = [rows]
        self._held_checksum = held.checksum
        self._open_files["held"] = path.open("ab", buffering=0)

    def _start_journal(self) -> None:
        """Let the shard count as incomplete before anything in it changes."""
        if "journal" not in self._open_files:
            refuse_link(self._files.journal)
            journal = self._files.journal.open("ab", buffering=0)
            self._open_files["journal"] = journal
            sync(self._files.folder)

    def _start_holding(self, id: str) -> None:
        if "held" in self._open_files:
            self._open_files.pop("held").close()
        self._held_id, self._held_rows, self._held_checksum = id, [], 0
        self._held_number = self._next_number
        self._next_number += 1
        path = self._files.held(self._held_number)
        path.unlink(missing_ok=True)
        self._open_files["held"] = path.open("xb", buffering=0)

    def _let_go(self, id: str) -> None:
        if self._held_id == id:
            self._held_id, self._held_rows = None, []
            self._is_changed = True

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
            "held": self._describe_held(),
            "synced": is_synced,
        }
        journal = self._open_files["journal"]
        append_bytes(journal, journal_line(line))
        self._new_sequences, self._new_failures, self._is_changed = [], {}, False
        if is_synced:
            os.fsync(journal.fileno())
            self._last_sync = time.monotonic()
            self._remove_held()

    def _describe_held(self) -> Held | None:
        if self._held_id is None:
            return None
        first = self._held_rows[0]
        n_rows = sum(map(len, self._held_rows))
        return Held(
            self._held_id,
            self._held_number,
            first.dtype.str,
            n_rows,
            first.shape[1],
            self._held_checksum,
        )

    def _sync(self) -> None:
        files = [file.path for file in self._files.rows(self._state)]
        if self._held_id is not None:
            files.append(self._files.held(self._held_number))
        for path in [*files, self._files.folder]:
            sync(path)

    def _remove_held(self) -> None:
        """Remove the rows of others than the sequence that is held; no crash goes back to them."""
        kept = None if self._held_id is None else self._files.held(self._held_number)
        for path in self._files.all_held():
            if path != kept:
                path.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Make the shard complete; a crash on the way leaves the journal, which says the same."""
        files, state = self._files, self._state
        if files.is_complete:
            return
        self._sync()
        for file in files.rows(state):
            file.write_header(state.n_rows)
        files.offsets.replace(state.offsets)
        content = json.dumps(state.as_json()).encode()
        replace_file(files.state, lambda file: file.write(content))
        self._held_id = None
        self._remove_held()
        files.journal.unlink(missing_ok=True)
        sync(files.folder)

    def _require_new(self, id: str) -> None:
        if not isinstance(id, str) or not id:
            raise ValueError(f"ids must be strings that are not empty, got {id!r}")
        if id in self:
            raise ValueError(f"the store has a sequence {id!r} already")

    def _checked_rows(self, id: str, values: ArrayLike) -> NDArray[Any]:
        rows = np.asarray(values)
        if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind not in "fiub":
            raise ValueError(
                f"{id!r}: values must be numbers (n_frames, n_features), got {rows.dtype} of shape "
                f"{rows.shape}"
            )
        known = [s.n_features for s in (self._state, *self._siblings) if s.entries]
        if known and rows.shape[1] != known[0]:
            raise ValueError(
                f"{id!r} has {rows.shape[1]} features, but the sequences of the store have "
                f"{known[0]}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            stored = np.ascontiguousarray(rows, dtype=self._files.dtype)
        finite = np.isfinite(stored).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise ValueError(
                f"{id!r} holds NaN, infinity or a number too large for {self._files.dtype}, first "
                f"in row {row}"
            )
        return stored


def _append_array(file: BinaryIO, rows: NDArray[Any], checksum: int) -> int:
    """Append rows; the checksum of all rows of the file."""
    content = rows.reshape(-1).view(np.uint8).data
    append_bytes(file, content)
    return crc32(content, checksum)


def _checked_spans(id: str, spans: ArrayLike, n_rows: int) -> NDArray[np.float64]:
    times = np.ascontiguousarray(spans, dtype=np.float64)
    if times.shape != (n_rows, 2):
        raise ValueError(f"{id!r}: spans must have shape ({n_rows}, 2), got {times.shape}")
    return times


def _as_int(value: int | None) -> int | None:
    return None if value is None else int(value)
