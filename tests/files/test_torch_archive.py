"""Files of torch.save, real ones and hostile ones."""

import collections
import io
import os
import pickle
import pickletools
import sys
import zipfile
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skdejavid.files import torch_archive as tensorfile
from skdejavid.files.torch_archive import read_tensors

BASE = torch.arange(24.0).reshape(4, 6)


def saved(thing, folder, **options):
    path = folder / "x.pt"
    torch.save(thing, path, **options)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "tensor",
    [
        BASE,
        BASE.T,
        BASE[1:3, ::2],
        BASE[2:],
        BASE[:, 1:2],
        BASE[:0],
        torch.tensor(3.5),
        BASE[1],
        BASE.requires_grad_(False),
        torch.zeros(2, 3, 4)[:, 1],
        *(BASE.to(dtype) for dtype in (torch.float64, torch.float16, torch.uint8, torch.int8)),
        *(BASE.to(dtype) for dtype in (torch.int16, torch.int32, torch.int64, torch.bool)),
        torch.tensor([[-1.5, 2**-20], [-(2.0**40), 0.0]], dtype=torch.float64),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}-{tensor.stride()}",
)
def test_tensors_are_read_as_torch_reads_them(tensor, protocol, tmp_path):
    path = saved(tensor, tmp_path, pickle_protocol=protocol)
    tensors = read_tensors(path)
    assert list(tensors) == [0]
    expected = tensor.numpy()
    assert tensors[0].dtype == expected.dtype
    assert tensors[0].shape == expected.shape
    np.testing.assert_array_equal(tensors[0], expected)


@pytest.mark.parametrize("tensor", [BASE / 7, (BASE / 7).T, torch.tensor([torch.inf, -1e-40])])
def test_bfloat16_becomes_float32(tensor, tmp_path):
    tensor = tensor.to(torch.bfloat16)
    found = read_tensors(saved(tensor, tmp_path))[0]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, tensor.float().numpy())


@given(
    begin=st.integers(0, 5),
    steps=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    is_transposed=st.booleans(),
)
def test_views_of_a_storage_are_cut_out_of_it(begin, steps, is_transposed, tmp_path_factory):
    tensor = torch.arange(80.0).reshape(8, 10)[begin :: steps[0], begin :: steps[1]]
    tensor = tensor.T if is_transposed else tensor
    path = saved(tensor, tmp_path_factory.mktemp("views"))
    np.testing.assert_array_equal(read_tensors(path)[0], tensor.numpy())


def test_a_tensor_that_requires_gradients_is_read(tmp_path):
    tensor = torch.ones(2, 2, requires_grad=True)
    np.testing.assert_array_equal(read_tensors(saved(tensor, tmp_path))[0], np.ones((2, 2)))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("thing", "keys"),
    [
        ({"features": BASE, "fps": 25.0, "name": "clip", "n": 7, "big": 2**40}, ["features"]),
        ({"a": BASE, "b": BASE.T, "c": None, "d": True, "e": (1, [2, {}])}, ["a", "b"]),
        (collections.OrderedDict(a=BASE, b=BASE.T), ["a", "b"]),
        ([BASE, BASE.T], [0, 1]),
        (("x", BASE, False), [1]),
        ({3: BASE}, [3]),
    ],
)
def test_collections_give_their_tensors(thing, keys, protocol, tmp_path):
    tensors = read_tensors(saved(thing, tmp_path, pickle_protocol=protocol))
    assert list(tensors) == keys
    for key in keys:
        np.testing.assert_array_equal(tensors[key], thing[key].numpy())


def with_pickle(content, folder, **parts):
    """An archive as torch's, but with another pickle."""
    path = folder / "hostile.pt"
    parts = {"data/0": BASE.numpy().tobytes(), "version": b"3\n", **parts}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, part in parts.items():
            archive.writestr(f"archive/{name}", part)
    return path


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, "touch {victim}"), r"posix\.system"),
        ((eval, "open('{victim}', 'w')"), r"(__builtin__|builtins)\.eval"),
        ((os.mkdir, "{victim}"), r"posix\.mkdir"),
        ((torch.load, "{victim}"), r"torch\.serialization\.load"),
    ],
)
def test_nothing_is_executed(call, name, protocol, tmp_path):
    victim = tmp_path / "victim"
    thing = Evil(call[0], call[1].format(victim=victim))
    for hidden in (thing, {"x": thing}, [BASE.numpy().tolist(), (thing,)]):
        path = with_pickle(pickle.dumps(hidden, protocol=protocol), tmp_path)
        with pytest.raises(
            ValueError, match=rf"hostile.pt: its pickle (asks for {name}, which|has)"
        ):
            read_tensors(path)
    assert not victim.exists()


def test_a_module_that_a_file_names_is_not_imported(tmp_path):
    name = "antigravity"  # opens a browser when it is imported
    path = with_pickle(pickled_tensor(storage=f"{name}\nFloatStorage".encode()), tmp_path)
    with pytest.raises(ValueError, match=rf"asks for {name}\.FloatStorage, which is not executed"):
        read_tensors(path)
    assert name not in sys.modules


def test_nothing_is_unpickled(tmp_path):
    path = saved({"x": BASE}, tmp_path)
    with (
        mock.patch("pickle.loads", side_effect=AssertionError),
        mock.patch("pickle.Unpickler", side_effect=AssertionError),
        mock.patch("torch.load", side_effect=AssertionError),
    ):
        tensors = read_tensors(path)
    np.testing.assert_array_equal(tensors["x"], BASE.numpy())


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (torch.nn.Linear(2, 2), r"asks for torch\.nn\.modules\.linear\.Linear, which is not"),
        (torch.nn.Parameter(BASE), r"asks for torch\._utils\._rebuild_parameter, which is not"),
        (np.ones(3), r"asks for numpy\.?_?core\.multiarray\._reconstruct|asks for numpy"),
        (BASE.to_sparse(), r"asks for torch\._utils\._rebuild_sparse_tensor"),
        (torch.ones(2, dtype=torch.complex64), r"asks for torch\.ComplexFloatStorage"),
        (torch.ones(1, 3).expand(1000, 3), r"a tensor of shape \(1000, 3\) shares its 3 numbers"),
        ({"x": 7}, "it holds no tensor"),
        ("text", "it holds no tensor"),
        ([], "it holds no tensor"),
    ],
)
def test_what_is_no_plain_tensor_is_refused(thing, message, tmp_path):
    with pytest.raises(ValueError, match=f"x.pt: .*{message}"):
        read_tensors(saved(thing, tmp_path))


def pickled_tensor(
    key="0", n_numbers=24, offset=0, shape=(4, 6), strides=(6, 1), storage=b"torch\nFloatStorage"
):
    """The pickle of a tensor that torch would not write."""

    def number(value):
        content = value.to_bytes(20, "little", signed=True)
        return b"\x8a" + bytes([len(content)]) + content

    def text(value):
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    identity = text("storage") + b"c" + storage + b"\n" + text(key) + text("cpu")
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(("
        + (identity + number(n_numbers) + b"tQ" + number(offset))
        + (numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR.")
    )


def test_the_written_pickle_is_that_of_a_tensor(tmp_path):
    """So that the tests below fail for the reason that they name."""
    path = with_pickle(pickled_tensor(), tmp_path)
    np.testing.assert_array_equal(read_tensors(path)[0], BASE.numpy())
    parts = {"byteorder": b"big", "data/0": BASE.numpy().astype(">f4").tobytes()}
    path = with_pickle(pickled_tensor(), tmp_path, **parts)
    np.testing.assert_array_equal(read_tensors(path)[0], BASE.numpy())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": 1}, "reaches beyond its 24 numbers"),
        ({"offset": 10**9}, "reaches beyond its 24 numbers"),
        ({"strides": (7, 1)}, "reaches beyond its 24 numbers"),
        ({"offset": -1}, "-1 is no count"),
        ({"strides": (-6, 1)}, "-6 is no count"),
        ({"shape": (-4, 6)}, "-4 is no count"),
        ({"shape": (4, 7)}, r"a tensor of shape \(4, 7\) shares its 24 numbers"),
        ({"shape": (2**40, 2**40), "strides": (0, 0)}, "shares its 24 numbers"),
        ({"shape": (1, 1), "strides": (2**100, 1)}, "is no count"),
        ({"shape": (4,)}, r"a tensor of shape \(4,\), strides \(6, 1\)"),
        ({"shape": (1,) * 33, "strides": (1,) * 33}, "is malformed: a tensor of shape"),
        ({"n_numbers": 23, "shape": (1, 1)}, "its part 'data/0' has 96 bytes, expected 92"),
        ({"n_numbers": 2**47}, "its part 'data/0' has 96 bytes"),
        ({"key": "1"}, "its part 'data/1' is missing"),
        ({"key": "../../../etc/passwd"}, "its part 'data/../../../etc/passwd' is missing"),
        ({"storage": b"os\nsystem"}, r"asks for os\.system, which is not executed"),
        ({"storage": b"collections\nOrderedDict"}, "no storage of numbers"),
    ],
)
def test_a_tensor_that_torch_would_not_write_is_refused(changes, message, tmp_path):
    path = with_pickle(pickled_tensor(**changes), tmp_path)
    with pytest.raises(ValueError, match=f"hostile.pt: .*{message}"):
        read_tensors(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x02.",
        b"\x80\x02(.",
        b"t.",
        b"R.",
        b"\x80\x02N)R.",
        b"h\x07.",
        b"]}s.",
        b"}]K\x01s.",
        b"}(K\x01u.",
        b"NQ.",
        b"}N\x93.",
        b"K\x01e.",
        b"(K\x01K\x02",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nNR.",
        b"q",
        b"\xff",
        b"X\xff\xff\xff\x7fa.",
    ],
)
def test_a_malformed_pickle_is_refused(content, tmp_path):
    with pytest.raises(ValueError, match=r"hostile\.pt: "):
        read_tensors(with_pickle(content, tmp_path))


@given(content=st.binary(max_size=80))
def test_no_pickle_does_anything_but_to_give_tensors_or_a_value_error(content, tmp_path_factory):
    path = with_pickle(content, tmp_path_factory.mktemp("any"))
    with pytest.raises(ValueError, match=r"hostile\.pt: "):
        read_tensors(path)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_pickle_with_one_wrong_byte_gives_tensors_or_a_value_error(
    place, value, tmp_path_factory
):
    content = bytearray(pickled_tensor())
    content[int(place * len(content))] = value
    path = with_pickle(bytes(content), tmp_path_factory.mktemp("any"))
    try:
        tensors = read_tensors(path)
    except ValueError as error:
        assert "hostile.pt: " in str(error)  # noqa: PT017
    else:
        assert all(array.size <= 24 for array in tensors.values())


def test_an_archive_that_is_damaged_or_of_others_is_refused(tmp_path):
    path = saved(BASE, tmp_path)
    content = path.read_bytes()
    two = {"x/data.pkl": b".", "y/data.pkl": b"."}
    cases = {
        "is damaged": [b"", content[:200], content[len(content) // 2 :], b"PK\x03\x04"],
        "none that torch.save wrote": [archive_of(x) for x in ({}, {"a.npy": b""}, two)],
        "its part 'data/0' is compressed": [compressed(content)],
        "its byte order is b'middle'": [archive_of({"x/data.pkl": b".", "x/byteorder": b"middle"})],
    }
    for message, contents in cases.items():
        for case in contents:
            path.write_bytes(case)
            with pytest.raises(ValueError, match=rf"x\.pt(:.*| ){message}"):
                read_tensors(path)
    flipped = bytearray(content)
    flipped[content.index(BASE.numpy().tobytes()) + 5] ^= 4
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"x\.pt is damaged: Bad CRC-32"):
        read_tensors(path)


def archive_of(members, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def compressed(content):
    """The same archive; only the numbers are compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            kind = zipfile.ZIP_DEFLATED if info.filename.endswith("data/0") else zipfile.ZIP_STORED
            new.writestr(info.filename, old.read(info), compress_type=kind)
    return buffer.getvalue()


def test_a_pickle_without_an_archive_is_refused(tmp_path):
    path = saved(BASE, tmp_path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"x\.pt is damaged: File is not a zip file"):
        read_tensors(path)


def test_all_instructions_that_are_known_exist():
    names = {opcode.name for opcode in pickletools.opcodes}
    assert tensorfile._PLAIN | set(tensorfile._CONSTANTS) <= names
