"""Files of a shard that differ from those that a writer has written."""

import json
import os
import shutil
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traced_memory import traced_memory

from skdejavid import TSEStore
from skdejavid.store.shards import Failure, ShardFiles, ShardState, journal_line


def fill(writer):
    writer.append("a", np.ones((2, 3)), np.zeros((2, 2)), 5, 1)
    writer.append("b", np.full((1, 3), 2.0), np.ones((1, 2)), None, 0)
    writer.fail("c", "no frames", 0, 9)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    path = tmp_path_factory.mktemp("complete") / "store"
    with TSEStore.create(path).write() as writer:
        fill(writer)
    return path


@pytest.fixture
def files(complete, tmp_path):
    """Return the shard of a complete store."""
    shutil.copytree(complete, tmp_path / "store")
    return ShardFiles(tmp_path / "store", 0, np.dtype(np.float32))


@pytest.fixture
def journal(tmp_path):
    """Return the shard of a store with one commit, and the line of that commit."""
    path = tmp_path / "begun"
    writer = TSEStore.create(path).write()
    writer.__enter__()
    fill(writer)
    writer.write_partial("d", np.ones((2, 2)))
    writer.commit()
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    files = ShardFiles(path, 0, np.dtype(np.float32))
    return files, json.loads(files.journal.read_bytes().rpartition(b"\t")[0])


def test_names_follow_from_the_number(tmp_path):
    files = ShardFiles(tmp_path, 12, np.dtype(np.float32))
    names = {path.name for path in [*files.all(), files.lock, files.partial(3)]}
    assert names == {
        *("values-00012.npy", "spans-00012.npy", "offsets-00012.npy", "shard-00012.json"),
        *("journal-00012.jsonl", "held-00012-3.bin", "shard-00012.lock"),
    }


def test_a_state_survives_its_file(files):
    state = files.read_state()
    assert state.summary() | {"checksum": 0, "spans_checksum": 0} == {
        **{"n_commits": 1, "n_features": 3, "has_spans": True, "n_rows": 3},
        **{"checksum": 0, "spans_checksum": 0},
    }
    assert state.entries == {"a": (2, 5, 1), "b": (1, None, 0)}
    assert state.failures == {"c": Failure("c", 0, "no frames", 9)}
    assert state.offsets.tolist() == [0, 2, 3]
    again = ShardState()
    again.apply(json.loads(json.dumps(state.as_json())))
    assert again == state
    assert state.checksum == crc32(np.repeat(np.float32([1, 2]), [6, 3]).tobytes())


def test_what_was_committed_is_read_without_the_writer(journal):
    files, _ = journal
    commits = files.read_commits()
    assert commits.state.entries == {"a": (2, 5, 1), "b": (1, None, 0)}
    assert (commits.partial.id, commits.partial.n_rows, commits.partial.n_bytes) == ("d", 2, 32)
    assert commits.journal_size == files.journal.stat().st_size
    assert commits.next_number == 2
    assert not files.is_complete
    assert files.read_state() == ShardState()


def test_lines_of_a_journal_that_a_state_knows_are_not_followed_again(journal):
    """A crash between replacing the state and removing the journal leaves them."""
    files, _ = journal
    line = files.journal.read_bytes()
    with TSEStore(files.folder).write():
        pass
    state = files.read_state()
    files.journal.write_bytes(line)
    commits = files.read_commits()
    assert commits.state == state
    assert commits.partial is None
    assert commits.journal_size == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_rows": 4}, "its sequences have 3 rows in total, expected 4"),
        ({"n_rows": -3}, "n_rows is -3"),
        ({"n_rows": 3.0}, r"n_rows is 3\.0"),
        ({"n_rows": True}, "n_rows is True"),
        ({"n_features": None}, "the shard has rows, but no features"),
        ({"n_features": 0}, "the shard has rows, but no features"),
        ({"n_features": "3"}, "n_features is '3'"),
        ({"checksum": None}, "checksum is None"),
        ({"sequences": None}, "not iterable"),
        ({"sequences": [["a", 3]]}, "not enough values"),
        ({"sequences": [["a", 2, None, None], ["a", 1, None, None]]}, "'a' is repeated"),
        ({"sequences": [["a", 3, None, None], ["b", 0, None, None]]}, "'b' .* has no rows"),
        ({"sequences": [[7, 3, None, None]]}, "7 is not an id"),
        ({"sequences": [["a", 3, "5", None]]}, "n_bytes is '5'"),
        ({"sequences": [["a", 3, None, "../x"]]}, r"position is '\.\./x'"),
        ({"failures": [["a"]]}, "not enough values"),
        ({"failures": [[["a"], 0, "", 0]]}, "is not an id"),
    ],
)
def test_a_damaged_state_is_refused_and_named(change, message, files):
    content = json.loads(files.state.read_bytes()) | change
    files.state.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"shard-00000.json is damaged: .*{message}"):
        files.read_state()


@pytest.mark.parametrize("content", ["[]", "7", "null", "{}"])
def test_a_state_of_another_kind_is_refused(content, files):
    files.state.write_text(content)
    with pytest.raises(ValueError, match=r"shard-00000\.json is damaged"):
        files.read_state()


def test_what_is_missing_is_named(files):
    content = json.loads(files.state.read_bytes())
    del content["n_rows"]
    files.state.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is damaged: 'n_rows' is missing"):
        files.read_state()


@pytest.mark.parametrize(
    "change",
    [
        {"held": ["d", "../../outside", "<f8", 2, 2, 0]},
        {"held": ["d", 1, "O", 2, 2, 0]},
        {"held": ["d", 1, "no type", 2, 2, 0]},
        {"held": ["d", 1, "(9999,9999)f8", 2, 2, 0]},
        {"held": ["d", 1, "f16", 2, 2, 0]},
        {"held": ["d", 1, {"names": ["a"], "formats": ["f8"]}, 2, 2, 0]},
        {"held": ["d", 1]},
        {"held": ["d", 1, "<f8", 2, 2, 0], "held_content": 3},
        {"held": ["d", 1, "<f8", -2, -2, 0]},
        {"n_commits": "1"},
        {"sequences": 7},
        {"sequences": []},
        {"n_features": "3"},
        {"synced": True, "n_rows": 10**30},
    ],
)
def test_a_journal_that_no_writer_wrote_is_refused(change, journal):
    files, line = journal
    files.journal.write_bytes(journal_line(line | change))
    before = {path.name: path.read_bytes() for path in files.folder.iterdir()}
    for read in (files.read_commits, TSEStore(files.folder).write().__enter__):
        with pytest.raises(ValueError, match="is damaged"):
            read()
    assert {path.name: path.read_bytes() for path in files.folder.iterdir()} == before


@pytest.mark.parametrize("name", ["n_rows", "checksum", "held", "synced", "sequences", "n_commits"])
def test_a_line_that_lacks_something_is_refused(name, journal):
    files, line = journal
    del line[name]
    files.journal.write_bytes(journal_line(line))
    with pytest.raises(ValueError, match=f"journal-00000.jsonl is damaged: '{name}' is missing"):
        files.read_commits()


@given(content=st.binary(max_size=60))
def test_of_a_journal_of_anything_nothing_is_followed(content, tmp_path_factory):
    files = ShardFiles(tmp_path_factory.mktemp("any"), 0, np.dtype(np.float32))
    files.journal.write_bytes(content)
    assert files.read_commits() == (ShardState(), None, 0, 1)


@pytest.mark.fault(60)
@pytest.mark.parametrize("name", ["values-00000.npy", "spans-00000.npy", "offsets-00000.npy"])
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(name, share, bit, complete, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flipped") / "store"
    shutil.copytree(complete, folder)
    files = ShardFiles(folder, 0, np.dtype(np.float32))
    files.verify()
    content = bytearray((folder / name).read_bytes())
    content[int(share * len(content))] ^= 1 << bit
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        files.verify()


@pytest.mark.fault(60)
@pytest.mark.parametrize("name", ["values-00000.npy", "spans-00000.npy", "offsets-00000.npy"])
def test_a_file_that_shrank_grew_or_is_gone_is_found(name, files):
    path = files.folder / name
    content = path.read_bytes()
    for wrong in (content[:-1], content[:100], content + bytes(8), b""):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            files.verify()
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        files.verify()


def test_offsets_of_other_sequences_are_found(files):
    for wrong, message in [
        ([0, 1, 3], "it disagrees with shard-00000.json"),
        ([0, 2], "it has 144 bytes, expected 152"),
        ([0, 2, 3, 4], "it has 160 bytes, expected 152"),
    ]:
        files.offsets.replace(np.array(wrong))
        with pytest.raises(ValueError, match=f"offsets-00000.npy is damaged: {message}"):
            files.verify()


def test_removing_leaves_nothing_but_the_lock(files):
    files.partial(4).write_bytes(b"x")
    files.journal.write_bytes(b"x")
    files.remove()
    assert sorted(os.listdir(files.folder)) == ["manifest.json", "shard-00000.lock"]


@pytest.mark.fault(80)
@pytest.mark.parametrize("depth", [500, 900, 990, 1000, 100_000])
def test_a_journal_that_is_nested_too_deeply_is_refused(depth, journal):
    files, line = journal
    text = json.dumps(line | {"failures": "X"}).replace('"X"', "[" * depth + "]" * depth).encode()
    files.journal.write_bytes(text + f"\t{crc32(text):08x}\n".encode())
    for read in (files.read_commits, TSEStore(files.folder).write().__enter__):
        with pytest.raises(ValueError, match="is damaged"):
            read()


@pytest.mark.fault(79)
def test_partial_rows_take_no_more_memory_than_their_file(journal):
    files, line = journal
    line["held"][3] = 2**40
    files.journal.write_bytes(journal_line(line))
    with traced_memory() as traced, TSEStore(files.folder).write() as writer:
        assert writer.partial is None
    assert traced.peak < 2**25  # a block that is read at once


@pytest.mark.fault(78)
@pytest.mark.parametrize("name", ["journal-00000.jsonl", "shard-00000.json"])
def test_a_pipe_in_place_of_a_description_is_refused_at_once(name, files):
    (files.folder / name).unlink(missing_ok=True)
    os.mkfifo(files.folder / name)
    with pytest.raises(ValueError, match=f"{name} is a named pipe, expected a regular file"):
        files.read_commits()
