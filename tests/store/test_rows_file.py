import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.files.atomic import (
    append_bytes,
)
from skdejavid.store.rows_file import RowsFile, checksum_of_file

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
        patch.setattr("skdejavid.store.rows_file._BYTES_PER_READ", bytes_per_read)
        whole = file.checksum(0, 6)
        parts = file.checksum(end, 6, file.checksum(begin, end, file.checksum(0, begin)))
    assert parts == whole == file.checksum(0, 6)
    assert file.checksum(begin, 7) is None


def test_a_missing_file_has_no_checksum_but_that_of_nothing(tmp_path):
    assert checksum_of_file(tmp_path / "none", 0, 1) is None
    assert checksum_of_file(tmp_path / "none", 5, 5, 7) == 7


def test_links_are_not_followed(tmp_path, rows_file):
    rows_file.write_header(6)
    for name, target in [("x.npy", "values.npy"), ("y.npy", "none")]:
        (tmp_path / name).symlink_to(tmp_path / target)
    before = rows_file.path.read_bytes()
    linked = RowsFile(tmp_path / "x.npy", np.dtype(np.float32), 2)
    for action in (
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


@pytest.mark.fault(78)
@pytest.mark.parametrize(
    "use",
    [
        lambda file: file.open(),
        lambda file: file.write_header(6),
        lambda file: file.check(6),
        lambda file: file.map(6),
        lambda file: file.cut(6),
        lambda file: file.checksum(0, 6),
        lambda file: file.replace(ROWS),
    ],
)
def test_a_pipe_in_place_of_rows_is_refused_at_once(use, rows_file):
    rows_file.path.unlink()
    os.mkfifo(rows_file.path)
    with pytest.raises(ValueError, match=r"values\.npy is a named pipe, expected a regular file"):
        use(rows_file)


@pytest.mark.fault(90)
def test_rows_that_shrink_between_check_and_map_are_refused(rows_file, monkeypatch):
    check = RowsFile._check

    def cut_after(self, file, n_rows, **options):
        check(self, file, n_rows, **options)
        os.truncate(self.path, 140)

    monkeypatch.setattr(RowsFile, "_check", cut_after)
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        rows_file.map(6)


@pytest.mark.fault(108)
@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f8"])
def test_rows_of_any_byte_order_are_replaced_in_that_of_the_file(dtype, rows_file):
    rows_file.replace(ROWS.astype(dtype))
    np.testing.assert_array_equal(rows_file.map(6), ROWS, strict=False)
    assert rows_file.map(6).dtype == np.float32


def test_a_map_knows_its_file_so_that_processes_share_it(rows_file):
    assert rows_file.map(6).filename == str(rows_file.path)
