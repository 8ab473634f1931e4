"""Crashes at every step of a writer, and the damage to files that they may leave."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_atomic import die_while_replacing

from skdejavid import TSEStore
from skdejavid.store import rows_file
from skdejavid.store import writer as writer_module
from skdejavid.store.shards import Failure

RNG = np.random.default_rng(7)


def sequence(n_frames):
    times = np.arange(1.0, n_frames + 1)
    return RNG.normal(size=(n_frames, 3)).astype(np.float32), np.stack([times, times + 0.5], axis=1)


def append(id, n_frames, n_bytes=None):
    return "append", (id, *sequence(n_frames), n_bytes)


def unfinished(id, n_rows, dtype=np.float64):
    return "write_partial", (id, RNG.normal(size=(n_rows, 2)).astype(dtype))


# The actions before each commit; no two commits leave the store in the same state.
COMMITS = [
    [append("a", 3, 77)],
    [append("b", 1), unfinished("c", 2)],
    [unfinished("c", 1)],
    [unfinished("c", 3), ("fail", ("broken", "no stream", 5, 12))],
    [append("c", 4), unfinished("d", 2, np.float32)],
    [("fail", ("d", "truncated"))],
    [append("broken", 2), append("e", 5)],
    [unfinished("f", 1)],
    [("discard_partial", ()), append("i", 1)],
    [unfinished("g", 4), append("h", 2)],
    [append("g", 6), append("f", 1)],
]


def do(writer, actions):
    for name, arguments in actions:
        getattr(writer, name)(*arguments)


def left_behind(writer):
    partial = writer.partial
    return (
        writer.ids,
        sorted(writer.failures),
        partial and (partial[0], partial[1].dtype.str, partial[1].tobytes()),
    )


def expected_states():
    """Return the state after each commit, computed by a simple model of the writer."""
    ids, failures, partial = [], {}, None
    states = [([], [], None)]
    for actions in COMMITS:
        for name, (id, *arguments) in [(n, a or (None,)) for n, a in actions]:
            if name == "append":
                ids.append(id)
            if name == "fail":
                cause, frame, n_bytes = (*arguments, None, None)[:3]
                failures[id] = Failure(id, frame, cause, n_bytes)
            if name == "write_partial":
                before = partial[2] if partial else b""
                partial = id, arguments[0].dtype.str, before + arguments[0].tobytes()
            elif name == "discard_partial" or (partial and partial[0] == id):
                partial = None
            if name == "append":
                failures.pop(id, None)
        states.append((list(ids), sorted(failures.values()), partial))
    return states


STATES = expected_states()
assert all(STATES.count(state) == 1 for state in STATES)


def n_commits_of(writer):
    return STATES.index(left_behind(writer))


def resume(path):
    """Resume a store after a crash, and return the number of commits that it had."""
    with TSEStore(path).write() as writer:
        n_done = n_commits_of(writer)
        for actions in COMMITS[n_done:]:
            do(writer, actions)
            writer.commit()
    return n_done


@contextmanager
def dying(path):
    """Yield a writer that ends with an error."""
    writer = TSEStore(path).write()
    writer.__enter__()
    yield writer
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)


def crash(path, commits, also=()):
    """Write commits, and end with an error before the shard is complete."""
    with dying(path) as writer:
        for actions in commits:
            do(writer, actions)
            writer.commit()
        do(writer, also)


def contents(path):
    """Return the bytes of all files of a store."""
    files = {item.name: item.read_bytes() for item in sorted(path.iterdir())}
    state = json.loads(files.pop("shard-00000.json"))
    del state["n_commits"]  # a writer that resumes adds a commit
    return files, state


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_disks():
    """Do not sync: the death of a process leaves the same files, and tests are ten times faster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "store"
    TSEStore.create(path)
    assert resume(path) == 0
    TSEStore(path).verify()
    return contents(path)


@pytest.fixture
def path(tmp_path):
    TSEStore.create(tmp_path / "store")
    return tmp_path / "store"


def test_what_is_written_is_read(path):
    resume(path)
    store = TSEStore(path)
    appended = {a[0]: a for actions in COMMITS for name, a in actions if name == "append"}
    assert store.ids == STATES[-1][0] == list(appended)
    X = store.sequences()
    assert isinstance(X.frames, np.memmap)
    for i, (_, values, spans, n_bytes) in enumerate(appended.values()):
        np.testing.assert_array_equal(X[i], values)
        np.testing.assert_array_equal(X[i : i + 1].spans, spans)
        assert store.n_bytes(store.ids[i]) == n_bytes
    assert [tuple(failure) for failure in store.failures] == [("d", None, "truncated", None)]
    np.testing.assert_array_equal(np.load(path / "values-00000.npy"), X.frames)
    np.testing.assert_array_equal(np.load(path / "spans-00000.npy"), X.spans)
    np.testing.assert_array_equal(np.load(path / "offsets-00000.npy"), X.offsets)


def test_a_finished_shard_leaves_nothing_but_its_files(undisturbed):
    names = [f"{name}-00000.npy" for name in ("offsets", "spans", "values")]
    assert sorted(undisturbed[0]) == ["manifest.json", *names[:1], "shard-00000.lock", *names[1:]]


class Recorder:
    """Copies a store before each step of a writer, and in the middle of each write."""

    def __init__(self, path, copies, patch):
        self.path, self.copies = path, copies
        self.n_committed = 0
        self.seen = []
        self.is_complete_before = False
        for module, name in [(os, "fsync"), (os, "replace"), (os, "truncate"), (os, "unlink")]:
            patch.setattr(module, name, self.before(getattr(module, name)))
        for module in (rows_file, writer_module):
            patch.setattr(module, "append_bytes", self.torn(writer_module.append_bytes))

    def copy(self):
        target = self.copies / str(len(self.seen))
        shutil.copytree(self.path, target)
        self.seen.append((target, self.n_committed))

    def before(self, function):
        def step(*arguments, **keywords):
            self.copy()
            return function(*arguments, **keywords)

        return step

    def torn(self, write):
        def step(file, content):
            half = len(content) // 2
            write(file, content[:half])
            self.copy()
            write(file, content[half:])
            self.copy()

        return step


@pytest.mark.fault(59)
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_dying_at_any_step_loses_no_commit(seconds, path, tmp_path, monkeypatch, undisturbed):
    monkeypatch.setattr(writer_module, "_SECONDS_BETWEEN_SYNCS", seconds)
    (tmp_path / "copies").mkdir()
    with monkeypatch.context() as patch:
        recorder = Recorder(path, tmp_path / "copies", patch)
        with TSEStore(path).write() as writer:
            for actions in COMMITS:
                do(writer, actions)
                writer.commit()
                recorder.n_committed += 1
    assert contents(path) == undisturbed
    assert len(recorder.seen) > 5 * len(COMMITS)
    for copy, n_committed in recorder.seen:
        store = TSEStore(copy)
        if store.is_complete:
            assert n_committed == len(COMMITS)
            store.verify()
        elif STATES[n_committed][0]:
            X = store.sequences(allow_incomplete=True)
            assert len(X) >= len(STATES[n_committed][0])
        assert resume(copy) in (n_committed, n_committed + 1)
        assert contents(copy) == undisturbed


def test_what_was_complete_can_be_read_while_more_is_appended(
    path, tmp_path, monkeypatch, undisturbed
):
    crash(path, COMMITS[:6])
    with TSEStore(path).write():
        pass
    before = TSEStore(path)
    assert before.ids == ["a", "b", "c"]
    old = before.sequences()
    copied = np.array(old.frames)
    (tmp_path / "copies").mkdir()
    with monkeypatch.context() as patch:
        recorder = Recorder(path, tmp_path / "copies", patch)
        with TSEStore(path).write() as writer:
            for actions in COMMITS[6:]:
                do(writer, actions)
                writer.commit()
    np.testing.assert_array_equal(before.sequences(before.ids).frames, copied)
    np.testing.assert_array_equal(old.frames, copied)
    assert {len(TSEStore(copy)) for copy, _ in recorder.seen} == {3, len(STATES[-1][0])}
    for copy, _ in recorder.seen:
        store = TSEStore(copy)
        store.verify()
        np.testing.assert_array_equal(store.sequences(["a", "b", "c"]).frames, copied)
        if len(store) == 3 and not store.is_complete:
            with pytest.raises(ValueError, match="is incomplete: it is being written, or writing"):
                store.sequences()
        with store.write() as writer:
            for actions in COMMITS[n_commits_of(writer) :]:
                do(writer, actions)
                writer.commit()
        assert contents(copy) == undisturbed


def line_ends(journal):
    return np.cumsum([len(line) for line in journal.read_bytes().splitlines(keepends=True)])


@pytest.fixture(scope="module")
def never_synced(tmp_path_factory):
    """Return a store whose writer died before anything was synced."""
    path = tmp_path_factory.mktemp("crash") / "store"
    TSEStore.create(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "_SECONDS_BETWEEN_SYNCS", 1e9)
        crash(path, COMMITS, also=[append("late", 2), unfinished("later", 3)])
    return path


@pytest.fixture(scope="module")
def damage(never_synced, tmp_path_factory, undisturbed):
    """Yield a copy to damage; then check the number of commits left, and that writing resumes."""

    @contextmanager
    def damaged():
        path = tmp_path_factory.mktemp("damaged") / "store"
        shutil.copytree(never_synced, path)
        found = []
        yield path, found
        found.append(resume(path))
        assert contents(path) == undisturbed
        shutil.rmtree(path.parent)

    return damaged


@given(share=st.floats(0, 1))
def test_a_journal_cut_anywhere_keeps_the_lines_before(share, damage, never_synced):
    ends = line_ends(never_synced / "journal-00000.jsonl")
    size = int(share * ends[-1])
    with damage() as (path, found):
        os.truncate(path / "journal-00000.jsonl", size)
    assert found == [np.searchsorted(ends, size, side="right")]


@given(
    share=st.floats(0, 1, exclude_max=True),
    kind=st.sampled_from(["cut", "zeros", "flipped"]),
    name=st.sampled_from(["values", "spans"]),
)
def test_rows_that_never_reached_the_disk_take_their_commits_with_them(
    share, kind, name, damage, never_synced
):
    row_size = {"values": 12, "spans": 16}[name]
    journal = (never_synced / "journal-00000.jsonl").read_text().splitlines()
    n_rows = [json.loads(line.rpartition("\t")[0])["n_rows"] for line in journal]
    place = 128 + int(share * n_rows[-1] * row_size)
    n_good = int(np.searchsorted(n_rows, (place - 128) // row_size, side="right"))
    with damage() as (path, found):
        file = path / f"{name}-00000.npy"
        content = bytearray(file.read_bytes())
        if kind == "cut":
            content = content[:place]
        elif kind == "zeros":
            while not content[place]:  # some bytes of the spans are 0
                place += 1
            n_good = int(np.searchsorted(n_rows, (place - 128) // row_size, side="right"))
            content[place:] = bytes(len(content) - place)
        else:
            content[place] ^= 1
        file.write_bytes(content)
    # The file of partial rows of the last valid commit is whole.
    assert found == [n_good]


def partial_number(i):
    """In the name of the file of partial rows after commit `i`."""
    ids = [state[2][0] for state in STATES[: i + 1] if state[2]]
    return len(dict.fromkeys(ids)) if STATES[i][2] else None


def partial_size(i):
    return len(STATES[i][2][2])


@given(
    share=st.floats(0, 1, exclude_max=True),
    last=st.sampled_from([i for i, state in enumerate(STATES) if state[2]]),
)
def test_partial_rows_that_never_reached_the_disk_take_their_commits_with_them(share, last, damage):
    number, n_bytes = partial_number(last), int(share * partial_size(last))
    with damage() as (path, found):
        journal = path / "journal-00000.jsonl"
        os.truncate(journal, line_ends(journal)[last - 1])
        os.truncate(path / f"held-00000-{number}.bin", n_bytes)
    whole = [i for i in range(last) if partial_number(i) != number or partial_size(i) <= n_bytes]
    assert found == [max(whole)]


@pytest.mark.parametrize("n_commits", [1, 2, 5])
def test_dying_again_and_again_loses_no_commit(n_commits, path, undisturbed):
    """Each crash leaves uncommitted rows and an incomplete line of the journal."""
    for begin in range(0, len(COMMITS), n_commits):
        with dying(path) as writer:
            assert n_commits_of(writer) == begin
            for actions in COMMITS[begin : begin + n_commits]:
                do(writer, actions)
                writer.commit()
            do(writer, [append("late", 2), ("fail", ("later", "why"))])
            partial = writer.partial
            id, dtype = ("last", None) if partial is None else (partial[0], partial[1].dtype)
            do(writer, [unfinished(id, 3, dtype)])
        with (path / "journal-00000.jsonl").open("ab") as journal:
            journal.write(b'{"n_commits": 99, "n_feat')
    assert resume(path) == len(COMMITS)
    assert contents(path) == undisturbed


def test_partial_rows_that_are_not_needed_any_more_may_be_damaged(damage):
    with damage() as (path, found):
        for partial in path.glob("held-*"):
            partial.write_bytes(b"")
    assert found == [len(COMMITS)]


def test_a_header_that_never_reached_the_disk_is_written_again(damage):
    with damage() as (path, found):
        for name in ("values", "spans"):
            with (path / f"{name}-00000.npy").open("r+b") as file:
                file.write(bytes(128))
    assert found == [len(COMMITS)]


@pytest.mark.parametrize("name", ["values-00000.npy", "spans-00000.npy"])
def test_a_file_that_lost_what_was_brought_to_the_disk_is_not_written_to(name, path):
    crash(path, COMMITS[:4])
    with dying(path):
        pass
    os.truncate(path / name, 140)
    before = contents_of_files(path)
    with pytest.raises(ValueError, match=rf"{name} is damaged: it has 140 bytes"):
        TSEStore(path).write().__enter__()
    assert contents_of_files(path) == before
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        TSEStore(path).sequences(allow_incomplete=True)


def contents_of_files(path):
    return {item.name: item.read_bytes() for item in path.iterdir()}


def test_partial_rows_are_kept_as_long_as_a_crash_may_go_back_to_them(path, monkeypatch):
    monkeypatch.setattr(writer_module, "_SECONDS_BETWEEN_SYNCS", 1e9)
    with TSEStore(path).write() as writer:
        for id in "abc":
            writer.write_partial(id, np.ones((2, 3)))
            writer.commit()
            writer.append(id, np.ones((2, 3)))
            writer.commit()
        assert len(list(path.glob("held-*"))) == 3
        monkeypatch.setattr(writer_module, "_SECONDS_BETWEEN_SYNCS", 0.0)
        writer.write_partial("d", np.ones((2, 3)))
        writer.commit()
        assert len(list(path.glob("held-*"))) == 1
    assert not list(path.glob("held-*"))


SERVER = """
import os, sys, time
import numpy as np
from skdejavid import TSEStore
from skdejavid.store import writer as writer_module

writer_module._SECONDS_BETWEEN_SYNCS = 0.004

def frames(i):
    return np.random.default_rng(i).normal(size=(1 + i % 5, 4)).astype(np.float32)

def fill(path, n_sequences):
    with TSEStore(path).write() as writer:
        for i in range(n_sequences):
            id = f"sequence {i}"
            if id in writer:
                continue
            partial = writer.partial
            if partial is not None:
                assert partial[0] == id
                np.testing.assert_array_equal(partial[1], frames(i)[:1])
            else:
                writer.write_partial(id, frames(i)[:1])
                writer.commit()
            time.sleep(0.0002)
            writer.append(id, frames(i), np.arange(2.0 * len(frames(i))).reshape(-1, 2), i, i)
            writer.commit()

for line in sys.stdin:
    path, n_sequences = line.rsplit(maxsplit=1)
    child = os.fork()
    if child == 0:
        fill(path, int(n_sequences))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.slow
@pytest.mark.fault(59)
def test_killed_ten_times_at_random_a_store_ends_as_if_undisturbed(tmp_path):
    chance = random.Random(3)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,  # the source tree has no native module
    ) as server:

        def fill(path, seconds=None):
            server.stdin.write(f"{path} 300\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            if seconds is not None:
                time.sleep(seconds)
                os.kill(child, signal.SIGKILL)
            return int(server.stdout.readline())

        for name in ("killed", "undisturbed"):
            TSEStore.create(tmp_path / name)
        n_sequences = []
        while len(n_sequences) < 10:
            if fill(tmp_path / "killed", chance.uniform(0.002, 0.03)) == 0:
                continue  # it had finished before
            files = TSEStore(tmp_path / "killed")._shards[0]
            n_sequences.append(len(files.read_commits().state.entries))
            if files.is_complete:
                shutil.rmtree(tmp_path / "killed")
                TSEStore.create(tmp_path / "killed")
        assert fill(tmp_path / "killed") == 0
        assert fill(tmp_path / "undisturbed") == 0
        server.stdin.close()
    assert max(n_sequences) > 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    TSEStore(tmp_path / "killed").verify()
    assert len(TSEStore(tmp_path / "killed").sequences()) == 300


def test_a_commit_that_is_due_brings_rows_to_the_disk_before_it_says_so(path, monkeypatch):
    monkeypatch.setattr(writer_module, "_SECONDS_BETWEEN_SYNCS", 0.0)
    with TSEStore(path).write() as writer:
        do(writer, [append("a", 2), unfinished("b", 1)])
        steps = []
        real = writer_module.append_bytes

        def write(file, content):
            steps.append(os.path.basename(file.name))
            real(file, content)

        def fsync(descriptor):
            steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

        monkeypatch.setattr(writer_module, "append_bytes", write)
        monkeypatch.setattr(os, "fsync", fsync)
        writer.commit()
        journal = "journal-00000.jsonl"
        rows = ["values-00000.npy", "spans-00000.npy", "held-00000-1.bin"]
        assert steps == [*rows, path.name, journal, journal]
        monkeypatch.setattr(writer_module, "_SECONDS_BETWEEN_SYNCS", 1e9)
        do(writer, [append("c", 2)])
        del steps[:]
        writer.commit()
        assert steps == [journal]


class DiskFullError(OSError):
    pass


def fill_disk(patch, n_bytes):
    """Simulate a disk with `n_bytes` of free space."""
    left = [n_bytes]

    def write(file, content):
        real_append(file, content[: left[0]])
        if len(content) > left[0]:
            left[0] = 0
            raise DiskFullError(28, "No space left on device")
        left[0] -= len(content)

    real_append = writer_module.append_bytes
    for module in (rows_file, writer_module):
        patch.setattr(module, "append_bytes", write)


@pytest.mark.fault(60)
@given(n_bytes=st.integers(0, 3000))
def test_a_full_disk_loses_no_commit(n_bytes, tmp_path_factory, undisturbed):
    path = tmp_path_factory.mktemp("full") / "store"
    TSEStore.create(path)
    n_committed = 0
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, n_bytes)
        with suppress(DiskFullError), TSEStore(path).write() as writer:
            for actions in COMMITS:
                do(writer, actions)
                writer.commit()
                n_committed += 1
    assert resume(path) == n_committed
    assert contents(path) == undisturbed
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("name", ["offsets-00000.npy", "shard-00000.json"])
def test_a_disk_that_is_full_at_the_end_leaves_a_store_to_go_on_with(
    name, path, monkeypatch, undisturbed
):
    real = writer_module.replace_own_file

    def replace(target, write):
        def fail(file):
            write(file)
            raise OSError(28, "No space left on device")

        real(target, fail if target.name == name else write)

    with monkeypatch.context() as patch:
        for module in (rows_file, writer_module):
            patch.setattr(module, "replace_own_file", replace)
        with pytest.raises(OSError, match="No space left"):
            resume(path)
    assert not TSEStore(path).is_complete
    assert not list(path.glob(".*"))
    assert resume(path) == len(COMMITS)
    assert contents(path) == undisturbed


def test_after_a_failed_write_nothing_is_added_and_the_shard_not_finished(path, monkeypatch):
    writer = TSEStore(path).write()
    writer.__enter__()
    do(writer, COMMITS[0])
    writer.commit()
    with monkeypatch.context() as patch:
        fill_disk(patch, 5)
        with pytest.raises(DiskFullError):
            do(writer, COMMITS[1])
    for action in (append("x", 2), unfinished("y", 1), ("fail", ("z", "why")), ("commit", ())):
        with pytest.raises(ValueError, match="has failed: open another"):
            do(writer, [action])
    with pytest.raises(ValueError, match="has failed"):
        writer.__exit__(None, None, None)
    assert not TSEStore(path).is_complete
    assert resume(path) == 1


def test_a_writer_is_of_no_use_outside_of_its_context(path):
    writer = TSEStore(path).write()
    with pytest.raises(ValueError, match="is closed or has failed"):
        writer.commit()
    with writer:
        do(writer, COMMITS[0])
    with pytest.raises(ValueError, match="is closed or has failed"):
        do(writer, COMMITS[1])
    assert TSEStore(path).ids == ["a"]
    TSEStore(path).verify()


def test_writing_nothing_to_a_complete_shard_changes_nothing(path):
    resume(path)
    before = {item.name: item.stat().st_mtime_ns for item in path.glob("*.[nj]*")}
    with TSEStore(path).write() as writer:
        assert n_commits_of(writer) == len(COMMITS)
        assert TSEStore(path).is_complete
    assert {item.name: item.stat().st_mtime_ns for item in path.glob("*.[nj]*")} == before


def test_an_empty_shard_can_be_complete(path):
    assert not TSEStore(path).is_complete
    with TSEStore(path).write():
        pass
    store = TSEStore(path)
    assert store.is_complete
    assert (store.ids, store.n_features, len(store)) == ([], None, 0)
    store.verify()


def test_one_writes_after_the_other(path):
    first = TSEStore(path).write()
    second = TSEStore(path).write()
    second._lock.timeout = 0.05
    with first:
        do(first, COMMITS[0])
        with pytest.raises(TimeoutError, match="could not be acquired"):
            second.__enter__()
    second._lock.timeout = -1
    with second:
        assert second.ids == ["a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", np.ones((2, 3))), "the store already has a sequence 'a'"),
        (("", np.ones((2, 3))), "id must be a non-empty string, got ''"),
        ((7, np.ones((2, 3))), "id must be a non-empty string, got 7"),
        (("x", np.ones((2, 4))), "'x' has 4 features, but the sequences of the store have 3"),
        (
            ("x", np.ones(3)),
            r"'x': values must be a non-empty numeric array \(n_frames, n_features\), got float64",
        ),
        (("x", np.ones((0, 3))), r"got float64 of shape \(0, 3\)"),
        (("x", np.full((2, 3), "1")), "got <U1"),
        (("x", np.full((2, 3), 1j)), "got complex128"),
        (("x", np.full((2, 3), None)), "got object"),
        (("x", [[1, 2, 3], [1, np.nan, 3]]), "'x' contains NaN, infinity or .* first in frame 1"),
        (("x", [[1, 2, 3], [1, 3, 1e300]]), "too large for float32, first in frame 1"),
        (("x", np.ones((2, 3)), np.ones((2, 3))), r"'x': spans must have shape \(2, 2\)"),
        (("x", np.ones((2, 3))), "'x': either all sequences of a store have spans or none"),
    ],
)
def test_what_is_no_sequence_is_refused_and_changes_nothing(arguments, message, path, undisturbed):
    with TSEStore(path).write() as writer:
        for i, actions in enumerate(COMMITS):
            do(writer, actions)
            if i:
                writer.commit()
            with pytest.raises(ValueError, match=message):
                writer.append(*arguments)
    assert contents(path) == undisturbed


def test_float16_refuses_what_it_cannot_hold(tmp_path):
    store = TSEStore.create(tmp_path / "store", dtype="float16")
    with store.write() as writer:
        message = r"'x' contains .* too large for float16, first in frame 0"
        with pytest.raises(ValueError, match=message):
            writer.append("x", [[1e5, 0.0]])
        writer.append("x", [[65504.0, 0.1]])
    X = TSEStore(store.path).sequences()
    assert X.frame_dtype == np.float32
    np.testing.assert_array_equal(X.frames, np.float32([[65504.0, np.float16(0.1)]]))


@pytest.mark.parametrize("values", [[[1, 0]], [[True, False]], np.float16([[1, 0]]), [[1.0, 0.0]]])
def test_other_numbers_become_those_of_the_store(values, tmp_path):
    store = TSEStore.create(tmp_path / "store", dtype="float64")
    with store.write() as writer:
        writer.append("x", values)
    X = TSEStore(store.path).sequences()
    assert X.frame_dtype == np.float64
    np.testing.assert_array_equal(X.frames, [[1.0, 0.0]])


def test_rows_in_any_layout_are_stored_as_they_are(path):
    values = np.arange(24.0).reshape(3, 8)
    with TSEStore(path).write() as writer:
        writer.append("a", np.asfortranarray(values))
        writer.append("b", values[::-1])
        writer.append("c", values.astype(">f4"))
    X = TSEStore(path).sequences()
    for mine, theirs in zip(X, [values, values[::-1], values], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_one_sequence_is_partial_at_a_time_and_all_of_its_rows_are_alike(path):
    with TSEStore(path).write() as writer:
        writer.append("a", np.ones((1, 2)))
        writer.write_partial("x", np.ones((2, 3), np.float32))
        writer.write_partial("x", np.ones((0, 3), np.float32))
        for id, rows, message in [
            ("y", np.ones((2, 3), np.float32), "rows of 'y' cannot be stored while 'x' is partial"),
            ("x", np.ones((2, 3)), "float64 with 3 features, but those before are float32 with 3"),
            (
                "x",
                np.ones((2, 4), np.float32),
                "are float32 with 4 features, but those before are float32 with 3",
            ),
            ("x", np.ones(3, np.float32), "must be a 2-D floating array, got float32 of shape"),
            ("x", np.ones((2, 3), int), "must be a 2-D floating array, got int64"),
        ]:
            with pytest.raises(ValueError, match=message):
                writer.write_partial(id, rows)
        id, rows = writer.partial
        assert (id, rows.shape, rows.dtype) == ("x", (2, 3), np.float32)
        writer.discard_partial()
        assert writer.partial is None
        with pytest.raises(ValueError, match="already has a sequence 'a'"):
            writer.write_partial("a", np.ones((2, 3)))


def test_partial_rows_are_those_of_the_moment(path):
    """The caller may change the array afterwards."""
    rows = np.ones((2, 3))
    with dying(path) as writer:
        writer.write_partial("x", rows)
        rows[:] = 0
        np.testing.assert_array_equal(writer.partial[1], np.ones((2, 3)))
        writer.commit()
    with TSEStore(path).write() as writer:
        np.testing.assert_array_equal(writer.partial[1], np.ones((2, 3)))
        writer.write_partial("x", np.zeros((1, 3)))
        assert writer.partial[1].shape == (3, 3)


def test_a_sequence_takes_the_place_of_a_failure_but_not_the_other_way(path):
    with dying(path) as writer:
        writer.fail("x", "truncated", 3, 100)
        writer.append("x", np.ones((2, 2)))
        writer.commit()
    with TSEStore(path).write() as writer:
        assert (writer.ids, writer.failures) == (["x"], [])
        with pytest.raises(ValueError, match="already has a sequence 'x'"):
            writer.fail("x", "again")
        writer.fail("y", "empty")
        writer.fail("y", "still empty")
    store = TSEStore(path)
    assert store.ids == ["x"]
    assert store.failures == [Failure("y", None, "still empty", None)]


def test_other_shards_are_known(tmp_path):
    store = TSEStore.create(tmp_path / "store", n_shards=2)
    with store.write(1) as writer:
        writer.append("x", np.ones((2, 3)), n_bytes=12)
    with store.write(0) as writer:
        assert "x" in writer
        assert writer.ids == []
        assert writer.n_bytes("x") == 12
        with pytest.raises(ValueError, match="already has a sequence 'x'"):
            writer.append("x", np.ones((2, 3)))
        with pytest.raises(ValueError, match=r"'y' has 2 features, but .* have 3"):
            writer.append("y", np.ones((2, 2)))


@pytest.mark.fault(58)
@pytest.mark.parametrize("name", ["journal-00000.jsonl", "shard-00000.lock"])
def test_a_link_in_place_of_a_file_is_refused(name, path, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (path / name).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
        resume(path)
    assert outside.read_bytes() == b"precious"


def test_what_a_crash_left_of_replacing_a_file_is_removed(path, monkeypatch):
    crash(path, COMMITS[:3])
    for name in ("offsets-00000.npy", "shard-00000.json"):
        die_while_replacing(path / name, monkeypatch)
    assert len(list(path.glob(".*"))) == 2
    assert resume(path) == 3
    assert not list(path.glob(".*"))


@pytest.mark.fault(78)
@pytest.mark.parametrize(
    "name", ["journal-00000.jsonl", "shard-00000.lock", "shard-00000.json", "held-00000-1.bin"]
)
def test_a_pipe_in_place_of_a_file_is_refused_at_once(name, path):
    crash(path, COMMITS[:2])
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    message = f"{name} is a named pipe, expected a regular file"
    with pytest.raises(ValueError, match=message), TSEStore(path).write():
        pass


@pytest.mark.fault(108)
def test_partial_rows_of_another_byte_order_resume_in_that_of_this_machine(path, tmp_path):
    rows = np.arange(6.0).reshape(3, 2)
    (tmp_path / "raw").write_bytes(rows.astype(">f8").tobytes())
    mapped = np.memmap(tmp_path / "raw", ">f8", mode="r", shape=(3, 2))
    with dying(path) as writer:
        writer.write_partial("a", rows.astype(">f8"))
        writer.write_partial("a", rows)
        writer.commit()
    with dying(path) as writer:
        id, found = writer.partial
        assert id == "a"
        assert found.dtype == np.dtype(np.float64)
        np.testing.assert_array_equal(found, np.concatenate([rows, rows]))
        writer.append("a", mapped, mapped[:, :2])
        writer.commit()
    X = TSEStore(path).sequences(allow_incomplete=True)
    np.testing.assert_array_equal(X[0], rows)
    np.testing.assert_array_equal(X.spans, rows)


LIMITED = """
import resource, sys
import numpy as np
from skdejavid import TSEStore
store = TSEStore.create(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    with store.write() as writer:
        for i in range(100):
            writer.append(str(i), np.full((100, 2), i))
            writer.commit()
except OSError as error:
    print(error.errno)
"""


@pytest.mark.fault(85)
def test_a_limit_of_file_sizes_keeps_what_was_committed(tmp_path):
    path = tmp_path / "limited"
    done = subprocess.run(
        [sys.executable, "-P", "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "27\n"  # EFBIG
    store = TSEStore(path)
    with store.write() as writer:
        assert writer.ids == [str(i) for i in range(24)]
        writer.append("more", np.zeros((100, 2)))
    store = TSEStore(path)
    store.verify()
    assert store.ids == [*map(str, range(24)), "more"]
    assert all((store.sequences()[i] == i).all() for i in range(24))
