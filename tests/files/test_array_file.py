"""Files of arrays with a description are read strictly and written atomically."""

import json
import os
import struct
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file
from traced_memory import traced_memory

from skdejavid.files.array_file import ArrayFile, UnwrittenFile, as_written, write_array_file

DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]


def write(path, arrays, description=None):
    fields = {"format": "thing", "format_version": 1, "version": "0.1"}
    write_array_file(path, fields | (description or {}), arrays)
    return path


@given(
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: hnp.arrays(
                dtype,
                hnp.array_shapes(max_dims=3, max_side=4),
                elements={"allow_nan": False, "allow_infinity": False} if "f" in dtype else None,
            )
        ),
        max_size=3,
    ),
    text=st.text(),
)
def test_what_was_written_is_read(tmp_path_factory, arrays, text):
    path = write(tmp_path_factory.mktemp("file") / "x", arrays, {"text": text})
    with ArrayFile(path, "thing", 1) as file:
        assert file.description["text"] == text
        assert file.headers.keys() == arrays.keys()
        for name, array in arrays.items():
            read = file.array(name, array.shape, (array.dtype,))
            np.testing.assert_array_equal(read, array, strict=True)


def test_rows_in_any_memory_order_are_written_as_they_are_indexed(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    path = write(tmp_path / "x", {"turned": array.T, "backwards": array[::-1]})
    with ArrayFile(path, "thing", 1) as file:
        np.testing.assert_array_equal(file.array("turned", (4, 3), ("f8",)), array.T)
        np.testing.assert_array_equal(file.array("backwards", (3, 4), ("f8",)), array[::-1])


def test_any_reader_of_safetensors_reads_the_arrays(tmp_path):
    path = write(tmp_path / "x", {"a": np.arange(3)})
    np.testing.assert_array_equal(load_file(path)["a"], [0, 1, 2])


def test_a_failed_write_leaves_the_file_before_it(tmp_path):
    path = write(tmp_path / "x", {"a": np.arange(3)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Out of range float values"):
        write(path, {"a": np.zeros(3)}, {"bad": float("nan")})
    with pytest.raises(ValueError, match="description has 5000"):
        write(path, {"a": np.zeros(3)}, {"names": "x" * 5_000_000})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("shape", "dtypes", "message"),
    [
        ((2,), ("f4",), r"'a' must have shape \(2\), got \(3,\)"),
        ((None, 1), ("f4",), r"'a' must have shape \(any, 1\), got \(3,\)"),
        ((3,), ("f8", "i8"), "'a' must be float64 or int64, got float32"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, shape, dtypes, message):
    path = write(tmp_path / "x", {"a": np.zeros(3, np.float32)})
    with ArrayFile(path, "thing", 1) as file, pytest.raises(ValueError, match=message):
        file.array("a", shape, dtypes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path, bad):
    path = write(tmp_path / "x", {"a": np.array([0, bad])})
    with (
        ArrayFile(path, "thing", 1) as file,
        pytest.raises(ValueError, match="'a' contains NaN or infinity"),
    ):
        file.array("a", (2,), ("f8",))


def raw(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def described(text, **arrays):
    checksum = sha256(text.encode()).hexdigest()
    return raw({"__metadata__": {"skdejavid": text, "skdejavid checksum": checksum}, **arrays})


GOOD = '{"format": "thing", "format_version": 1}'


@pytest.mark.fault(53, 55, 80)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a skdejavid thing"),
        (
            b"\x80\x04\x95" + bytes(100),
            "is not a skdejavid thing: it does not begin with a header",
        ),
        (
            struct.pack("<Q", 2**60) + b"{}",
            "is not a skdejavid thing: it does not begin with a header",
        ),
        (raw(b"{" + b" " * 2**22), "its header has 4194305 bytes"),
        (raw(b"{" + b"[" * 100_000), "is corrupt"),
        (raw(b'{"a\xff": 1}'), "is corrupt"),
        (raw({}), "it has no description"),
        (raw({"__metadata__": {"other": "x"}}), "it has no description"),
        (raw({"__metadata__": {"skdejavid": "{}"}}), "the checksum of its description differs"),
        (described("{"), "its description"),
        (described("[" * 100_000), "its description"),
        (described("[]"), "its 'format' is not 'thing'"),
        (described('{"format": "store"}'), "its 'format' is not 'thing'"),
        (described('{"format": "thing", "format": "thing"}'), "'format' is repeated"),
        (described('{"format": "thing", "x": NaN}'), "NaN is not a number"),
        (described('{"format": "thing"}'), "format_version is None"),
        (described('{"format": "thing", "format_version": true}'), "format_version is True"),
        (described('{"format": "thing", "format_version": 0}'), "format_version is 0"),
        (
            described('{"format": "thing", "format_version": 2, "version": "9.9"}'),
            "format_version is 2, and this version of skdejavid reads 1 to 1. It was written by "
            "skdejavid '9.9'",
        ),
        (
            described(GOOD, a={"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]}),
            "'a' has the unknown dtype F8_E4M3",
        ),
        (
            described(GOOD, a={"dtype": "F32", "shape": [0, 2**60], "data_offsets": [0, 0]}),
            "'a' has shape",
        ),
        (
            raw(
                b'{"__metadata__": {"skdejavid": "{}"}, "a": {"dtype": "U8", "shape": [1], '
                b'"data_offsets": [0, 1]}, "a": {"dtype": "I8", "shape": [1], "data_offsets": '
                b"[0, 1]}}",
                b"x",
            ),
            "'a' is repeated",
        ),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        ArrayFile(path, "thing", 1)
    assert str(path) in str(caught.value) or "'a' " in str(caught.value)


@pytest.mark.fault(54)
def test_damaged_numbers_are_refused(tmp_path):
    path = write(tmp_path / "x", {"a": np.arange(5)})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with (
        ArrayFile(path, "thing", 1) as file,
        pytest.raises(ValueError, match="'a' has changed since it was written"),
    ):
        file.array("a", (5,), ("i8",))


@pytest.mark.fault(54)
def test_every_truncation_is_refused(tmp_path):
    path = write(tmp_path / "x", {"a": np.arange(5), "b": np.ones((2, 2))})
    content = path.read_bytes()
    for n_bytes in range(len(content)):
        path.write_bytes(content[:n_bytes])
        with pytest.raises(ValueError, match=r"corrupt|is not a skdejavid thing"):
            ArrayFile(path, "thing", 1)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ArrayFile(tmp_path / "nowhere", "thing", 1)


@pytest.mark.fault(108)
@pytest.mark.parametrize("dtype", [">i2", ">u8", ">f2", ">f4", ">f8"])
def test_numbers_of_another_byte_order_are_written_in_that_of_this_machine(tmp_path, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    (tmp_path / "raw").write_bytes(array.tobytes())
    mapped = np.memmap(tmp_path / "raw", dtype, mode="r", shape=(3, 4))
    path = write(tmp_path / "x", {"a": array, "b": mapped.T, "c": array[:, ::2]})
    with ArrayFile(path, "thing", 1) as file:
        for name, expected in (("a", array), ("b", array.T), ("c", array[:, ::2])):
            read = file.array(name, expected.shape, (array.dtype.newbyteorder("="),))
            assert read.dtype.isnative
            np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(load_file(path)["b"], array.T)


def test_arrays_keep_their_shape_when_they_are_written():
    for array in (np.array(3.0), np.zeros((0, 2)), np.array(["a", "bc"]), [[1, 2]]):
        assert as_written(array).shape == np.shape(array)
        assert as_written(array).dtype == np.asarray(array).dtype


@pytest.mark.fault(84, 85)
def test_the_open_file_is_written_and_no_other(tmp_path, monkeypatch):
    """What is brought to the disk, and given permissions, must be the file that is kept."""
    seen = []
    replace = os.replace
    fsync = os.fsync

    def note(descriptor):
        seen.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def check(source, target):
        assert os.stat(source).st_ino == seen[-1]
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", check)
    write(tmp_path / "x", {"a": np.arange(3)})
    assert len(seen) == 2


def test_arrays_of_all_sizes_are_aligned(tmp_path):
    arrays = {f"{i} {dtype}": np.arange(3).astype(dtype) for i, dtype in enumerate(DTYPES)}
    path = write(tmp_path / "x", arrays)
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    for name, array in arrays.items():
        assert header[name]["data_offsets"][0] % array.itemsize == 0


def test_what_would_be_written_is_checked_as_what_was_read():
    source = UnwrittenFile({"a": (1, 2)}, {"x": np.zeros(3, ">f4"), "y": np.array([np.nan])})
    assert source.description == {"a": [1, 2]}
    np.testing.assert_array_equal(source.array("x", (None,), ("f4",)), np.zeros(3))
    for name, shape, message in [
        ("x", (2,), "'x' must have shape"),
        ("y", (1,), "'y' contains NaN"),
        ("z", (1,), "'z' is missing"),
    ]:
        with pytest.raises(ValueError, match=message):
            source.array(name, shape, ("f4", "f8"))


@pytest.mark.fault(78)
def test_only_a_regular_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(ValueError, match="x is a named pipe, expected a regular file"):
        ArrayFile(tmp_path / "x", "thing", 1)


@pytest.mark.fault(79)
@pytest.mark.parametrize("item", ["[],", "{},", '{"a":1},', "1.5,", '"ab",'])
def test_a_header_takes_memory_in_proportion_to_its_size(tmp_path, item):
    text = b'{"a":[' + item.encode() * (2**21 // len(item)) + b"0]}"
    path = tmp_path / "x"
    path.write_bytes(raw(text))
    with traced_memory() as traced, pytest.raises(ValueError, match="corrupt"):
        ArrayFile(path, "thing", 1)
    assert traced.peak < 40 * len(text)
