"""One shard of a store: rows, their description, and a journal of the latest commits.

Files of shard 0. Their names follow from its number; none is read from the content of a file::

    values-00000.npy     rows (n_rows, n_features), append only
    spans-00000.npy      (n_rows, 2) seconds, if the sequences have spans
    offsets-00000.npy    (n_sequences + 1,) int64
    shard-00000.json     description of the shard; replaced atomically, after the files above
    journal-00000.jsonl  one line per commit, while the shard is incomplete
    held-00000-1.bin     rows of a partial sequence
    shard-00000.lock     locked by the writer

Rows are written before the line of the journal that commits them. A line has a checksum of itself
and checksums of all rows, so after a crash the last valid commit can be found; everything after it
is discarded.

The key "held" of a line and the file names "held-..." belong to the format of the store and must
not change, although the code calls these rows partial. The key "files" is there only if
modification times or content hashes of files are known; earlier versions neither wrote nor read it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.atomic import read_json, remove_temporaries
from skdejavid.files.identity import FileIdentity
from skdejavid.files.regular import open_own_file
from skdejavid.sequences.layout import offsets_of
from skdejavid.store.rows_file import RowsFile, checksum_of_file

__all__ = [
    "Commits",
    "Entry",
    "Failure",
    "Partial",
    "ShardFiles",
    "ShardState",
    "files_as_json",
    "journal_line",
    "numbers_in",
    "partial_as_json",
]


class Failure(NamedTuple):
    """An input, such as a video, for which no sequence could be produced."""

    id: str
    frame: int | None  # number of frames that could be read
    cause: str
    n_bytes: int | None  # size of the input, to detect that it has changed since


class Entry(NamedTuple):
    """A sequence of a shard."""

    n_rows: int
    n_bytes: int | None  # size of the input that it was produced from
    position: int | None  # among the sequences of all shards


class Partial(NamedTuple):
    """The first rows of an unfinished sequence, and the file that stores them."""

    id: str
    number: int  # in the name of the file
    dtype: str
    n_rows: int
    n_features: int
    checksum: int
    content_hash: str | None = None  # of the input

    @property
    def n_bytes(self) -> int:
        return self.n_rows * self.n_features * np.dtype(self.dtype).itemsize


@dataclass
class ShardState:
    """The contents of a shard without the rows."""

    n_commits: int = 0  # later lines of a journal are not part of this state yet
    n_features: int | None = None
    has_spans: bool = False
    n_rows: int = 0
    checksum: int = 0  # CRC-32 of all values
    spans_checksum: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    files: dict[str, FileIdentity] = field(default_factory=dict)  # only those with more than a size

    @property
    def offsets(self) -> NDArray[np.int64]:
        return offsets_of([entry.n_rows for entry in self.entries.values()])

    def summary(self) -> dict[str, Any]:
        """Return all fields but the sequences, the failures and their files."""
        return {name: getattr(self, name) for name in _SUMMARY}

    def as_json(self) -> dict[str, Any]:
        entries = [[id, *entry] for id, entry in self.entries.items()]
        parts = {"sequences": entries, "failures": list(self.failures.values())}
        ids = self.entries.keys() | self.failures.keys()
        files = {id: file for id, file in self.files.items() if id in ids}
        return self.summary() | parts | files_as_json(files)

    def file(self, id: str) -> FileIdentity:
        """Return what is known of the input of a sequence or a failure."""
        if id in self.files:
            return self.files[id]
        item = self.entries.get(id) or self.failures.get(id)
        return FileIdentity(None if item is None else item.n_bytes)

    def apply(self, content: dict[str, Any]) -> None:
        """Check all fields of a commit, or of a description, and add it to the state.

        Raises
        ------
        KeyError, TypeError, ValueError
            If a field is missing or invalid.
        """
        for name in ("n_commits", "n_rows", "checksum", "spans_checksum"):
            setattr(self, name, _as_count(content[name], name))
        self.n_features = _as_count(content["n_features"], "n_features", or_none=True)
        self.has_spans = bool(content["has_spans"])
        for id, n_rows, n_bytes, position in content["sequences"]:
            if _as_id(id) in self.entries or not n_rows:
                raise ValueError(f"sequence {id!r} is repeated, or has no rows")
            self.entries[id] = Entry(
                _as_count(n_rows, "n_rows"),
                _as_count(n_bytes, "n_bytes", or_none=True),
                _as_count(position, "position", or_none=True),
            )
            self.failures.pop(id, None)
            self.files.pop(id, None)
        for id, frame, cause, n_bytes in content["failures"]:
            self.failures[_as_id(id)] = Failure(id, frame, cause, n_bytes)
            self.files.pop(id, None)
        for id, *identity in content.get("files", []):
            self.files[_as_id(id)] = _as_identity(*identity)
        if self.n_rows and not self.n_features:
            raise ValueError("the shard has rows, but no features")

    def check_n_rows(self) -> None:
        """Check that the sequences have as many rows in total as the shard."""
        n_rows = sum(entry.n_rows for entry in self.entries.values())
        if n_rows != self.n_rows:
            raise ValueError(f"its sequences have {n_rows} rows in total, expected {self.n_rows}")


_PARTIAL_DTYPES = frozenset(f"{order}f{size}" for order in "<>" for size in (2, 4, 8))

_SUMMARY = ("n_commits", "n_features", "has_spans", "n_rows", "checksum", "spans_checksum")


class Commits(NamedTuple):
    """The valid commits of a shard."""

    state: ShardState
    partial: Partial | None
    journal_size: int  # in bytes, of the lines of these commits
    next_number: int  # for a new file of partial rows: no line of the journal has it


class ShardFiles:
    """The files of a shard.

    Parameters
    ----------
    folder : Path
        Folder of the store.
    number : int
        Number of the shard.
    dtype : dtype
        Type of the values on disk.
    """

    def __init__(self, folder: Path, number: int, dtype: np.dtype[Any]) -> None:
        self.folder = folder
        self.number = number
        self.dtype = dtype
        self.offsets = RowsFile(folder / f"offsets-{number:05}.npy", np.dtype(np.int64), None)
        self.state = folder / f"shard-{number:05}.json"
        self.journal = folder / f"journal-{number:05}.jsonl"
        self.lock = folder / f"shard-{number:05}.lock"

    def values(self, n_features: int | None) -> RowsFile:
        return RowsFile(self.folder / f"values-{self.number:05}.npy", self.dtype, n_features or 0)

    @property
    def spans(self) -> RowsFile:
        path = self.folder / f"spans-{self.number:05}.npy"
        return RowsFile(path, np.dtype(np.float64), 2)

    def rows(self, state: ShardState) -> list[RowsFile]:
        """Return the files that have one row for each row of the shard."""
        if not state.entries:
            return []
        return [self.values(state.n_features)] + [self.spans] * state.has_spans

    def n_bytes_of_rows(self, state: ShardState) -> int:
        """Return the size of the rows in these files, without headers."""
        return sum(file.size(state.n_rows) - file.size(0) for file in self.rows(state))

    def partial(self, number: int) -> Path:
        return self.folder / f"held-{self.number:05}-{number}.bin"

    def all(self) -> list[Path]:
        """Return all files that may exist, except the lock."""
        paths = [self.state, self.journal, self.offsets.path, self.values(0).path, self.spans.path]
        return paths + self.all_partial()

    def all_partial(self) -> list[Path]:
        return sorted(self.folder.glob(f"held-{self.number:05}-*.bin"))

    @property
    def is_complete(self) -> bool:
        """Whether the shard was finished and no writer has started since."""
        return self.state.exists() and not self.journal.exists()

    def read_state(self) -> ShardState:
        """Return the state in which the shard was last complete."""
        state = ShardState()
        if self.state.exists() or self.state.is_symlink():
            content = read_json(self.state)
            try:
                state.apply(content)
                state.check_n_rows()
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(self.state, error) from error
        return state

    def read_commits(self) -> Commits:
        """Return the state of the shard with all valid commits since it was last complete.

        Raises
        ------
        ValueError
            If a file is damaged in a way that a crash cannot cause.
        """
        # The journal is read before the state: if a writer finishes the shard in between, the state
        # already contains all lines, and none is missed.
        content = _read_journal(self.journal)
        state = self.read_state()
        try:
            lines = [
                (end, line)
                for end, line in _whole_lines(content)
                if line["n_commits"] > state.n_commits
            ]
            n_good = self._count_good(state, [line for _, line in lines])
            partials = [_read_partial(line) for _, line in lines]
            for _, line in lines[:n_good]:
                state.apply(line)
            state.check_n_rows()
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise _damaged(self.journal, error) from error
        size = lines[n_good - 1][0] if n_good else 0
        numbers = [partial.number for partial in partials if partial is not None]
        partial = partials[n_good - 1] if n_good else None
        return Commits(state, partial, size, max(numbers, default=0) + 1)

    def verify(self, on_read: Callable[[int], object] | None = None) -> None:
        """Compare the shard, as it was last complete, with its checksums.

        Parameters
        ----------
        on_read : callable, optional
            Called with each number of bytes that were read.

        Raises
        ------
        ValueError
            If a file has changed since it was written; the message names it.
        """
        state = self.read_state()
        is_finished = self.is_complete
        checksums = (state.checksum, state.spans_checksum)
        for file, checksum in zip(self.rows(state), checksums, strict=False):
            file.check(state.n_rows, is_finished=is_finished)
            if file.checksum(0, state.n_rows, on_read=on_read) != checksum:
                raise ValueError(f"{file.path} is damaged: the checksum of its rows has changed")
        if self.state.exists():
            offsets = state.offsets
            self.offsets.check(len(offsets), is_finished=is_finished)
            if not np.array_equal(self.offsets.map(len(offsets)), offsets):
                raise _damaged(self.offsets.path, f"it disagrees with {self.state.name}")

    def remove(self) -> None:
        """Delete all files of the shard except its lock."""
        for path in self.all():
            path.unlink(missing_ok=True)
            remove_temporaries(path)

    def _count_good(self, state: ShardState, lines: list[dict[str, Any]]) -> int:
        """Return how many lines of the journal are valid commits.

        A line is written only after its rows, but the operating system may write it to the disk
        before them, so after a power loss a whole line does not prove that its rows are whole. A
        synced line does: its rows, and those of all lines before, were on the disk when it was
        written, and only their size is checked. Rows of later lines are compared with their
        checksums, up to the first that differ. Partial rows are not part of the shard: if those of
        the last line are damaged, earlier commits are still valid, down to the synced line.
        """
        n_synced = max((i + 1 for i, line in enumerate(lines) if line["synced"]), default=0)
        before = lines[n_synced - 1] if n_synced else state.summary()
        self._check_size(before)
        n_good = n_synced
        for line in lines[n_synced:]:
            if not self._has_rows(before, line):
                break
            before = line
            n_good += 1
        while n_good > n_synced and not self._has_partial(lines[n_good - 1]):
            n_good -= 1
        return n_good

    def _check_size(self, summary: dict[str, Any]) -> None:
        if summary["n_rows"]:
            self.values(summary["n_features"]).check(summary["n_rows"])
            if summary["has_spans"]:
                self.spans.check(summary["n_rows"])

    def _has_rows(self, before: dict[str, Any], line: dict[str, Any]) -> bool:
        """Return whether the rows that a commit added are on the disk as they were written."""
        begin, end = before["n_rows"], line["n_rows"]
        if begin == end:
            return True
        values = self.values(line["n_features"])
        if values.checksum(begin, end, before["checksum"]) != line["checksum"]:
            return False
        if not line["has_spans"]:
            return True
        checksum = self.spans.checksum(begin, end, before["spans_checksum"])
        return checksum == line["spans_checksum"]

    def _has_partial(self, line: dict[str, Any]) -> bool:
        partial = _read_partial(line)
        if partial is None:
            return True
        path = self.partial(partial.number)
        return checksum_of_file(path, 0, partial.n_bytes) == partial.checksum


def numbers_in(folder: Path) -> set[int]:
    """Return the numbers of the shards of which a folder has any file."""
    found = (re.fullmatch(r"[a-z]+-(\d{5})[-.].*", path.name) for path in folder.iterdir())
    return {int(match[1]) for match in found if match}


def journal_line(content: dict[str, Any]) -> bytes:
    """Return a line of a journal, with its checksum."""
    text = json.dumps(content).encode()
    return text + f"\t{crc32(text):08x}\n".encode()


def _read_journal(path: Path) -> bytes:
    try:
        with open_own_file(path) as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _whole_lines(content: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Return the lines of a journal before the first incomplete one, with their end positions."""
    lines = []
    end = 0
    for raw in content.splitlines(keepends=True):
        text, _, checksum = raw.rpartition(b"\t")
        if checksum != f"{crc32(text):08x}\n".encode():
            break
        end += len(raw)
        lines.append((end, json.loads(text)))
    return lines


def _read_partial(line: dict[str, Any]) -> Partial | None:
    if line["held"] is None:
        return None
    id, number, dtype, n_rows, n_features, checksum = line["held"]
    content_hash = line.get("held_content")
    partial = Partial(id, number, dtype, n_rows, n_features, checksum, content_hash)
    for name in ("number", "n_rows", "n_features", "checksum"):
        _as_count(getattr(partial, name), name)
    _check_content_hash(partial.content_hash)
    if partial.dtype not in _PARTIAL_DTYPES:
        raise ValueError(f"partial rows are {partial.dtype!r}, expected a floating type")
    return partial


def _as_id(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not an id")
    return value


def files_as_json(files: dict[str, FileIdentity]) -> dict[str, Any]:
    """Return what a commit or a description records of files, nothing if there are none."""
    return {"files": [[id, *file] for id, file in files.items()]} if files else {}


def partial_as_json(partial: Partial | None) -> dict[str, Any]:
    """Return what a commit records of partial rows."""
    if partial is None:
        return {"held": None}
    *numbers, content_hash = partial
    return {"held": numbers} | ({"held_content": content_hash} if content_hash else {})


def _check_content_hash(content_hash: Any) -> None:
    if not isinstance(content_hash, (str, type(None))):
        raise ValueError(f"content_hash is {content_hash!r}, expected text")


def _as_identity(n_bytes: Any, modified_ns: Any, content_hash: Any) -> FileIdentity:
    if type(modified_ns) not in (int, type(None)):  # negative before 1970
        raise ValueError(f"modified_ns is {modified_ns!r}, expected an integer")
    _check_content_hash(content_hash)
    return FileIdentity(_as_count(n_bytes, "n_bytes", or_none=True), modified_ns, content_hash)


def _as_count(value: Any, name: str, *, or_none: bool = False) -> Any:
    if value is None and or_none:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is {value!r}, expected an integer of at least 0")
    return value


def _damaged(path: Path, why: str | Exception) -> ValueError:
    if isinstance(why, KeyError):
        why = f"{why} is missing"
    return ValueError(f"{path} is damaged: {why}")
