"""One shard of a store: rows, what they are, and a journal of what was added last.

Files of shard 0, all of them named by its number and none by another file's content::

    values-00000.npy     rows (n_rows, n_features), append only
    spans-00000.npy      (n_rows, 2) seconds, if they are known
    offsets-00000.npy    (n_sequences + 1,) int64
    shard-00000.json     what the shard holds; replaced as a whole, as the last of these
    journal-00000.jsonl  one line per commit, as long as the shard is being written
    held-00000-1.bin     rows of a sequence that is not finished
    shard-00000.lock     locked by who writes

Rows are written before the journal's line that speaks of them, and a line has a checksum of its own
and those of all rows. So after a crash the last line that is true can be found; what comes after it
was not committed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from skdejavid.files.atomic import read_json, refuse_link, remove_temporaries
from skdejavid.store.rows_file import RowsFile, checksum_of_file

__all__ = ["Commits", "Entry", "Failure", "Held", "ShardFiles", "ShardState", "journal_line"]


class Failure(NamedTuple):
    """A video that gave no sequence."""

    id: str
    frame: int | None  # how many frames could be read
    cause: str
    n_bytes: int | None  # size of the file, by which a changed one is noticed


class Entry(NamedTuple):
    """A sequence of a shard."""

    n_rows: int
    n_bytes: int | None  # size of what it was made of
    position: int | None  # among the sequences of all shards


class Held(NamedTuple):
    """Rows of a sequence that is not finished, and where they are."""

    id: str
    number: int  # of the file
    dtype: str
    n_rows: int
    n_features: int
    checksum: int

    @property
    def n_bytes(self) -> int:
        return self.n_rows * self.n_features * np.dtype(self.dtype).itemsize


@dataclass
class ShardState:
    """What a shard holds."""

    n_commits: int = 0  # tells which lines of a journal are known already
    n_features: int | None = None
    has_spans: bool = False
    n_rows: int = 0
    checksum: int = 0  # CRC-32 of all values
    spans_checksum: int = 0
    entries: dict[str, Entry] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)

    @property
    def offsets(self) -> NDArray[np.int64]:
        lengths = [entry.n_rows for entry in self.entries.values()]
        return np.cumsum([0, *lengths], dtype=np.int64)

    def summary(self) -> dict[str, Any]:
        """All but what the single sequences are."""
        return {name: getattr(self, name) for name in _SUMMARY}

    def as_json(self) -> dict[str, Any]:
        entries = [[id, *entry] for id, entry in self.entries.items()]
        return self.summary() | {"sequences": entries, "failures": list(self.failures.values())}

    def follow(self, content: dict[str, Any]) -> None:
        """Go on to the state after what a file says was added, every field of it checked.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the file says no such thing.
        """
        for name in ("n_commits", "n_rows", "checksum", "spans_checksum"):
            setattr(self, name, _as_count(content[name], name))
        self.n_features = _as_count(content["n_features"], "n_features", or_none=True)
        self.has_spans = bool(content["has_spans"])
        for id, n_rows, n_bytes, position in content["sequences"]:
            if _as_id(id) in self.entries or not n_rows:
                raise ValueError(f"sequence {id!r} is there twice, or has no rows")
            self.entries[id] = Entry(
                _as_count(n_rows, "n_rows"),
                _as_count(n_bytes, "n_bytes", or_none=True),
                _as_count(position, "position", or_none=True),
            )
            self.failures.pop(id, None)
        for id, frame, cause, n_bytes in content["failures"]:
            self.failures[_as_id(id)] = Failure(id, frame, cause, n_bytes)
        if self.n_rows and not self.n_features:
            raise ValueError("there are rows, but no features")

    def require_all_rows(self) -> None:
        """Raise ValueError unless the sequences have as many rows as the shard."""
        if sum(entry.n_rows for entry in self.entries.values()) != self.n_rows:
            raise ValueError("its sequences have another number of rows")


_SUMMARY = ("n_commits", "n_features", "has_spans", "n_rows", "checksum", "spans_checksum")


class Commits(NamedTuple):
    """What was committed to a shard, as far as it is whole."""

    state: ShardState
    held: Held | None
    journal_size: int  # of the lines that say so
    next_number: int  # of a file of held rows that no line names


class ShardFiles:
    """The files of a shard.

    Parameters
    ----------
    folder : Path
        The store.
    number : int
        Of the shard.
    dtype : dtype
        Of the values.
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
        """The files that have a row for each of the shard's."""
        if not state.entries:
            return []
        return [self.values(state.n_features)] + [self.spans] * state.has_spans

    def held(self, number: int) -> Path:
        return self.folder / f"held-{self.number:05}-{number}.bin"

    def all(self) -> list[Path]:
        """All that there may be but the lock."""
        paths = [self.state, self.journal, self.offsets.path, self.values(0).path, self.spans.path]
        return paths + self.all_held()

    def all_held(self) -> list[Path]:
        return sorted(self.folder.glob(f"held-{self.number:05}-*.bin"))

    @property
    def is_complete(self) -> bool:
        """Whether the shard was finished, and nobody has begun to write since."""
        return self.state.exists() and not self.journal.exists()

    def read_state(self) -> ShardState:
        """What the shard held when it was complete last."""
        state = ShardState()
        if self.state.exists() or self.state.is_symlink():
            content = read_json(self.state)
            try:
                state.follow(content)
                state.require_all_rows()
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(self.state, error) from error
        return state

    def read_commits(self) -> Commits:
        """What the shard holds together with what was committed since, up to the last whole commit.

        Raises
        ------
        ValueError
            If a file is damaged in a way that no crash explains.
        """
        # Before the state: should somebody finish the shard now, all lines are known to it.
        content = _read_journal(self.journal)
        state = self.read_state()
        try:
            lines = [
                (end, line)
                for end, line in _whole_lines(content)
                if line["n_commits"] > state.n_commits
            ]
            n_good = self._count_good(state, [line for _, line in lines])
            held = None
            for _, line in lines[:n_good]:
                state.follow(line)
                held = _read_held(line)
            state.require_all_rows()
            numbers = [named.number for _, line in lines if (named := _read_held(line)) is not None]
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(self.journal, error) from error
        size = lines[n_good - 1][0] if n_good else 0
        return Commits(state, held, size, max(numbers, default=0) + 1)

    def verify(self) -> None:
        """Compare the shard with its checksums, as it was when it was complete last.

        Raises
        ------
        ValueError
            Naming the file that is not as it was written.
        """
        state = self.read_state()
        is_finished = self.is_complete
        checksums = (state.checksum, state.spans_checksum)
        for file, checksum in zip(self.rows(state), checksums, strict=False):
            file.check(state.n_rows, is_finished=is_finished)
            if file.checksum(0, state.n_rows) != checksum:
                raise ValueError(f"{file.path} is damaged: its checksum was another when written")
        if self.state.exists():
            offsets = state.offsets
            self.offsets.check(len(offsets), is_finished=is_finished)
            if not np.array_equal(self.offsets.map(len(offsets)), offsets):
                raise _damaged(self.offsets.path, f"it disagrees with {self.state.name}")

    def remove(self) -> None:
        """Delete all files of the shard but its lock."""
        for path in self.all():
            path.unlink(missing_ok=True)
            remove_temporaries(path)

    def _count_good(self, state: ShardState, lines: list[dict[str, Any]]) -> int:
        """How many lines are true. What was brought to the disk is, the rows of others are read."""
        n_synced = max((i + 1 for i, line in enumerate(lines) if line["synced"]), default=0)
        known = lines[n_synced - 1] if n_synced else state.summary()
        self._require_size(known)
        n_good = n_synced
        for line in lines[n_synced:]:
            if not self._has_rows(known, line):
                break
            known = line
            n_good += 1
        while n_good > n_synced and not self._has_held(lines[n_good - 1]):
            n_good -= 1
        return n_good

    def _require_size(self, summary: dict[str, Any]) -> None:
        if summary["n_rows"]:
            self.values(summary["n_features"]).check(summary["n_rows"])
            if summary["has_spans"]:
                self.spans.check(summary["n_rows"])

    def _has_rows(self, before: dict[str, Any], line: dict[str, Any]) -> bool:
        """Whether the rows that a commit added are what was written."""
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

    def _has_held(self, line: dict[str, Any]) -> bool:
        held = _read_held(line)
        if held is None:
            return True
        return checksum_of_file(self.held(held.number), 0, held.n_bytes) == held.checksum


def journal_line(content: dict[str, Any]) -> bytes:
    """A line of a journal, with its checksum."""
    text = json.dumps(content).encode()
    return text + f"\t{crc32(text):08x}\n".encode()


def _read_journal(path: Path) -> bytes:
    refuse_link(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _whole_lines(content: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Lines of a journal up to the first that is torn, with the places where they end."""
    lines = []
    end = 0
    for raw in content.splitlines(keepends=True):
        text, _, checksum = raw.rpartition(b"\t")
        if checksum != f"{crc32(text):08x}\n".encode():
            break
        end += len(raw)
        lines.append((end, json.loads(text)))
    return lines


def _read_held(line: dict[str, Any]) -> Held | None:
    if line["held"] is None:
        return None
    held = Held(*line["held"])
    for name in ("number", "n_rows", "n_features", "checksum"):
        _as_count(getattr(held, name), name)
    if np.dtype(held.dtype).kind != "f":
        raise ValueError(f"held rows are {held.dtype!r}")
    return held


def _as_id(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no id")
    return value


def _as_count(value: Any, name: str, *, or_none: bool = False) -> Any:
    if value is None and or_none:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} is {value!r}")
    return value


def _damaged(path: Path, why: str | Exception) -> ValueError:
    if isinstance(why, KeyError):
        why = f"{why} is missing"
    return ValueError(f"{path} is damaged: {why}")
