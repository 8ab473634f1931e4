import json
import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.durable import (
    RowsFile,
    append_bytes,
    checksum_of_file,
    read_json,
    refuse_link,
    remove_temporaries,
    replace_file,
    write_once,
)

ROWS = np.arange(1.0, 13.0, dtype=np.float32).reshape(6, 2)


@pytest.fixture
def rows_file(tmp_path):
    file = RowsFile(tmp_path / "values.npy", np.dtype(np.float32), 2)
    with file.open() as handle:
        append_bytes(handle, ROWS.tobytes())
    return file


def test_rows_make_a_file_that_numpy_reads(rows_file):
    rows_file.write_header(6)
    np.testing.assert_array_equal(np.load(rows_file.path), ROWS)
    np.testing.assert_array_equal(rows_file.map(6), ROWS)
    rows_file.check(6, is_finished=True)


def test_an_array_of_one_dimension_is_written_at_once(tmp_path):
    file = RowsFile(tmp_path / "x.npy", np.dtype(np.int64), None)
    for numbers in ([0, 3, 7], [5]):
        file.replace(np.array(numbers))
        file.check(len(numbers), is_finished=True)
        assert np.load(file.path).tolist() == file.map(len(numbers)).tolist() == numbers
        assert np.load(file.path).dtype == np.int64


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 1), (10**12, 10**6)])
def test_headers_have_one_size_whatever_the_shape(n_rows, n_columns, tmp_path):
    file = RowsFile(tmp_path / "values.npy", np.dtype(np.float64), n_columns)
    file.open().close()
    file.write_header(n_rows)
    assert file.path.stat().st_size == file.size(0) == 128
    with file.path.open("rb") as handle:
        assert np.lib.format.read_magic(handle) == (1, 0)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(handle)
    assert (shape, is_fortran, dtype) == ((n_rows, n_columns), False, np.float64)


def test_rows_are_appended_to_what_is_there(rows_file):
    with rows_file.open() as handle:
        append_bytes(handle, ROWS[:1].tobytes())
    np.testing.assert_array_equal(rows_file.map(7), np.concatenate([ROWS, ROWS[:1]]))


def test_a_torn_header_is_written_anew(rows_file):
    os.truncate(rows_file.path, 100)
    with rows_file.open() as handle:
        append_bytes(handle, ROWS.tobytes())
    np.testing.assert_array_equal(rows_file.map(6), ROWS)


def test_rows_are_cut_off_only_where_there_are_too_many(rows_file):
    before = rows_file.path.stat().st_mtime_ns
    rows_file.cut(6)
    assert rows_file.path.stat().st_mtime_ns == before
    rows_file.cut(4)
    assert rows_file.path.stat().st_size == rows_file.size(4)
    np.testing.assert_array_equal(rows_file.map(4), ROWS[:4])


def test_a_file_may_have_more_rows_but_not_less_until_it_is_finished(rows_file):
    np.testing.assert_array_equal(rows_file.map(5), ROWS[:5])
    with pytest.raises(ValueError, match=r"values.npy is damaged: it has 176 bytes, expected 184"):
        rows_file.map(7)
    rows_file.write_header(6)
    with pytest.raises(ValueError, match="176 bytes, expected 168"):
        rows_file.check(5, is_finished=True)


@pytest.mark.parametrize(("dtype", "n_columns"), [(np.int32, 2), (np.float16, 4), (np.float16, 2)])
def test_a_file_of_other_numbers_is_refused(dtype, n_columns, rows_file):
    other = RowsFile(rows_file.path, np.dtype(dtype), n_columns)
    with pytest.raises(ValueError, match="header is not that of"):
        other.map(2)


def test_a_finished_file_says_how_many_rows_it_has(rows_file):
    rows_file.write_header(5)
    rows_file.check(6)
    with pytest.raises(ValueError, match="its header is not that of float32 numbers of shape"):
        rows_file.check(6, is_finished=True)


@given(
    limits=st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted),
    bytes_per_read=st.integers(1, 60),
)
def test_checksums_go_on_from_one_another(limits, bytes_per_read, tmp_path_factory):
    begin, end = limits
    file = RowsFile(tmp_path_factory.mktemp("rows") / "x.npy", np.dtype(np.float32), 2)
    with file.open() as handle:
        append_bytes(handle, ROWS.tobytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skdejavid.durable._BYTES_PER_READ", bytes_per_read)
        whole = file.checksum(0, 6)
        parts = file.checksum(end, 6, file.checksum(begin, end, file.checksum(0, begin)))
    assert parts == whole == file.checksum(0, 6)
    assert file.checksum(begin, 7) is None


def test_a_missing_file_has_no_checksum_but_that_of_nothing(tmp_path):
    assert checksum_of_file(tmp_path / "none", 0, 1) is None
    assert checksum_of_file(tmp_path / "none", 5, 5, 7) == 7


class Reluctant:
    """A file that takes three bytes at a time."""

    def __init__(self):
        self.content = b""

    def write(self, content):
        self.content += bytes(content[:3])
        return min(3, len(content))


def test_all_bytes_are_written_by_files_that_take_some():
    file = Reluctant()
    append_bytes(file, b"0123456789")
    assert file.content == b"0123456789"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    replace_file(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"new, but the disk is f")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_file(path, fail)
    assert path.read_bytes() == b"old"
    replace_file(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_of_others_stays(tmp_path):
    write_once(tmp_path / "x", b"first")
    write_once(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x"]


def test_a_disk_without_links_will_do(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    write_once(tmp_path / "x", b"first")
    write_once(tmp_path / "x", b"second")
    assert (tmp_path / "x").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x"]


def test_of_many_who_write_once_one_succeeds_and_nobody_sees_a_part(tmp_path):
    path = tmp_path / "x"
    seen = []

    def work(number):
        write_once(path, b"%d" % number * 100_000)
        seen.append(path.read_bytes())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert set(seen) == {path.read_bytes()}
    assert len(path.read_bytes()) == 100_000


def test_what_a_crash_left_of_replacing_is_removed(tmp_path):
    for name in (".x.json.0123.tmp", ".y.json.0123.tmp", "x.json"):
        (tmp_path / name).write_bytes(b"")
    remove_temporaries(tmp_path / "x.json")
    assert sorted(os.listdir(tmp_path)) == [".y.json.0123.tmp", "x.json"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[" * 100_000, b""])
def test_json_that_is_none_is_refused_with_its_name(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        read_json(path)


def test_links_are_not_followed(tmp_path, rows_file):
    rows_file.write_header(6)
    (tmp_path / "outside.json").write_text(json.dumps({}))
    for name, target in [("x.json", "outside.json"), ("x.npy", "values.npy"), ("y.npy", "none")]:
        (tmp_path / name).symlink_to(tmp_path / target)
    before = rows_file.path.read_bytes()
    linked = RowsFile(tmp_path / "x.npy", np.dtype(np.float32), 2)
    for action in (
        lambda: read_json(tmp_path / "x.json"),
        lambda: refuse_link(tmp_path / "y.npy"),
        linked.open,
        lambda: linked.map(2),
        lambda: linked.cut(1),
        lambda: linked.write_header(1),
        lambda: linked.checksum(0, 1),
        RowsFile(tmp_path / "y.npy", np.dtype(np.float32), 2).open,
    ):
        with pytest.raises(ValueError, match="is a symbolic link"):
            action()
    assert rows_file.path.read_bytes() == before
    assert not (tmp_path / "none").exists()
