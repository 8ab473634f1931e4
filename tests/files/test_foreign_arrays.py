"""Reading of files of torch.save and safetensors, valid and hostile."""

import collections
import copy
import io
import os
import pickle
import sys
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from traced_memory import traced_memory

from skdejavid.files.foreign_arrays import read_array

BASE = torch.arange(24.0).reshape(4, 6)


def saved(thing, folder, **options):
    path = folder / "x.pt"
    torch.save(thing, path, **options)
    return path


@pytest.mark.parametrize("protocol", [2, 3])
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
def test_tensors_are_read_as_they_were_saved(tensor, protocol, tmp_path):
    found = read_array(saved(tensor, tmp_path, pickle_protocol=protocol), None)
    expected = tensor.numpy()
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("protocol", [4, 5])
def test_protocols_of_pickle_that_torch_refuses_are_refused(protocol, tmp_path):
    message = (
        rf"x\.pt cannot be read: it was .* pickle_protocol={protocol}, .* default protocol, or"
    )
    with pytest.raises(ValueError, match=message):
        read_array(saved(BASE, tmp_path, pickle_protocol=protocol), None)


@pytest.mark.parametrize("tensor", [BASE / 7, (BASE / 7).T, torch.tensor([torch.inf, -1e-40])])
def test_bfloat16_becomes_float32(tensor, tmp_path):
    tensor = tensor.to(torch.bfloat16)
    save_file({"x": tensor.contiguous()}, tmp_path / "x.safetensors")
    for path in (saved(tensor, tmp_path), tmp_path / "x.safetensors"):
        found = read_array(path, None)
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
    np.testing.assert_array_equal(read_array(path, None), tensor.numpy())


@pytest.mark.parametrize("kind", [torch.clone, torch.nn.Parameter])
def test_a_tensor_that_requires_gradients_is_read(kind, tmp_path):
    tensor = kind(torch.ones(2, 2, requires_grad=True))
    np.testing.assert_array_equal(read_array(saved(tensor, tmp_path), None), np.ones((2, 2)))


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    ("thing", "key"),
    [
        ({"features": BASE, "fps": 25.0, "name": "clip", "n": 7, "big": 2**40}, None),
        ({"a": BASE.T, "b": BASE, "c": None, "d": True, "e": (1, [2, {}])}, "b"),
        (collections.OrderedDict(a=BASE.T, b=BASE), "b"),
        ([BASE], None),
        (("x", BASE, False), None),
        ({3: BASE}, None),
    ],
)
def test_the_tensor_of_a_collection_is_read(thing, key, protocol, tmp_path):
    path = saved(thing, tmp_path, pickle_protocol=protocol)
    np.testing.assert_array_equal(read_array(path, key), BASE.numpy())


@pytest.mark.parametrize(
    ("thing", "key", "message"),
    [
        ([BASE, BASE], None, "contains several arrays, choose one with key: 0, 1"),
        ({"a": BASE, "b": BASE}, None, "contains several arrays, choose one with key: a, b"),
        ({"a": BASE}, "b", "contains no array 'b', only a"),
        ({"a": 1}, "a", "contains no array"),
        (BASE, "a", "contains no array 'a'"),
    ],
)
def test_the_names_of_several_tensors_are_listed(thing, key, message, tmp_path):
    with pytest.raises(ValueError, match=rf"x\.pt {message}"):
        read_array(saved(thing, tmp_path), key)


def with_pickle(content, folder, **parts):
    """Write an archive like those of torch, but with another pickle; return its path."""
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
        ((eval, "open('{victim}', 'w')"), r"((__builtin__|builtins)\.)?eval"),
        ((os.mkdir, "{victim}"), r"posix\.mkdir"),
        ((torch.load, "{victim}"), r"torch\.serialization\.load"),
    ],
)
def test_nothing_is_executed(call, name, protocol, tmp_path):
    victim = tmp_path / "victim"
    thing = Evil(call[0], call[1].format(victim=victim))
    reasons = rf"(it refers to {name}, and|torch\.load\(weights_only=True\) fails with \w+: Unsup)"
    refused = f"it was saved with pickle_protocol={protocol}, "
    message = f"cannot be read: {refused if protocol > 3 else reasons}"
    for hidden in (thing, {"x": thing}, [BASE.numpy().tolist(), (thing,)]):
        path = with_pickle(pickle.dumps(hidden, protocol=protocol), tmp_path)
        with pytest.raises(ValueError, match=rf"hostile\.pt {message}"):
            read_array(path, None)
    assert not victim.exists()


def test_a_refused_name_is_said_without_advice_to_load_it(tmp_path):
    path = saved({"x": Evil(os.mkdir, "victim")}, tmp_path)
    with pytest.raises(ValueError, match=r"it refers to posix\.mkdir, and only") as caught:
        read_array(path, None)
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_a_file_names_is_not_imported(tmp_path):
    name = "antigravity"  # opens a browser when it is imported
    path = with_pickle(pickled_tensor(storage=f"{name}\nFloatStorage".encode()), tmp_path)
    with pytest.raises(ValueError, match=rf"it refers to {name}\.FloatStorage"):
        read_array(path, None)
    assert name not in sys.modules


def test_pickled_objects_are_not_loaded_whatever_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    victim = tmp_path / "victim"
    with pytest.raises(ValueError, match=r"it refers to posix\.mkdir"):
        read_array(saved(Evil(os.mkdir, str(victim)), tmp_path), None)
    assert not victim.exists()


@pytest.mark.parametrize("version", ["2.4.0", "2.9.1+cu128", "2.9.0a0+git1234", "1.13.1"])
def test_a_torch_that_can_be_made_to_execute_code_is_not_used(version, tmp_path, monkeypatch):
    path = saved(BASE, tmp_path)
    monkeypatch.setattr(torch, "__version__", version)
    message = rf"x\.pt cannot be read with torch {version.partition('+')[0]}.*CVE-2025-32434, CVE-2"
    with (
        mock.patch("torch.load", side_effect=AssertionError),
        pytest.raises(ImportError, match=message),
    ):
        read_array(path, None)


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.0a0+git1234"])
def test_newer_versions_of_torch_are_used(version, tmp_path, monkeypatch):
    path = saved(BASE, tmp_path)
    monkeypatch.setattr(torch, "__version__", version)
    np.testing.assert_array_equal(read_array(path, None), BASE.numpy())


def test_the_extra_that_brings_torch_is_named(tmp_path, monkeypatch):
    path = saved(BASE, tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"x\.pt needs torch, .*'skdejavid\[nn\]'"):
        read_array(path, None)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (torch.nn.Linear(2, 2), r"it refers to torch\.nn\.modules\.linear\.Linear"),
        (np.ones(3), r"it refers to numpy\._?core\.multiarray\._reconstruct"),
        (BASE.to_sparse(), "cannot be read: "),
        (torch.ones(2, 2, device="meta"), "cannot be read: "),
        (torch.ones(1, 3).expand(1000, 3), r"shape \(1000, 3\) has only 12 bytes in the file"),
        ({"x": 7}, "contains no array"),
        ("text", "contains no array"),
        ([], "contains no array"),
    ],
)
def test_what_is_not_a_plain_tensor_is_refused(thing, message, tmp_path):
    with pytest.raises(ValueError, match=f"x.pt .*{message}"):
        read_array(saved(thing, tmp_path), None)


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
    """Ensure that the tests below fail for the reason that they name."""
    path = with_pickle(pickled_tensor(), tmp_path)
    np.testing.assert_array_equal(read_array(path, None), BASE.numpy())


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": 1},
        {"offset": 10**9},
        {"strides": (7, 1)},
        {"offset": -1},
        {"strides": (-6, 1)},
        {"shape": (-4, 6)},
        {"shape": (4, 7)},
        {"shape": (2**40, 2**40), "strides": (0, 0)},
        {"shape": (1, 1), "strides": (2**100, 1)},
        {"shape": (4,)},
        {"n_numbers": -1},
        {"key": "1"},
        {"key": "../../../etc/passwd"},
        {"storage": b"os\nsystem"},
        {"storage": b"collections\nOrderedDict"},
    ],
)
def test_a_tensor_that_torch_would_not_write_is_refused(changes, tmp_path):
    path = with_pickle(pickled_tensor(**changes), tmp_path)
    with pytest.raises(ValueError, match=r"hostile\.pt cannot be read: ."):
        read_array(path, None)


def test_a_storage_never_reaches_beyond_its_part_of_the_file(tmp_path):
    path = with_pickle(pickled_tensor(n_numbers=2**61), tmp_path)
    np.testing.assert_array_equal(read_array(path, None), BASE.numpy())


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
    with pytest.raises(ValueError, match=r"hostile\.pt "):
        read_array(with_pickle(content, tmp_path), None)


@given(content=st.binary(max_size=80))
def test_any_pickle_gives_a_tensor_or_a_value_error(content, tmp_path_factory):
    path = with_pickle(content, tmp_path_factory.mktemp("any"))
    with pytest.raises(ValueError, match=r"hostile\.pt "):
        read_array(path, None)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_a_pickle_with_one_wrong_byte_gives_a_tensor_or_a_value_error(
    place, value, tmp_path_factory
):
    content = bytearray(pickled_tensor())
    content[int(place * len(content))] = value
    path = with_pickle(bytes(content), tmp_path_factory.mktemp("any"))
    try:
        array = read_array(path, None)
    except ValueError as error:
        assert "hostile.pt " in str(error)  # noqa: PT017
    else:
        assert array.nbytes <= BASE.nbytes


def test_a_damaged_archive_is_refused(tmp_path):
    path = saved(BASE, tmp_path)
    content = path.read_bytes()
    cases = [
        *((r"x\.pt is damaged", content[:length]) for length in (4, 200, len(content) - 1)),
        (r"x\.pt is compressed, but torch.save never compresses", compressed(content)),
        (r"x\.pt cannot be read", archive_of({"x/data.pkl": b".", "x/byteorder": b"middle"})),
        (r"x\.pt cannot be read", archive_of({"x/data.pkl": b".", "y/data.pkl": b"."})),
    ]
    for message, case in cases:
        path.write_bytes(case)
        with pytest.raises(ValueError, match=message):
            read_array(path, None)
    flipped = bytearray(content)
    flipped[content.index(BASE.numpy().tobytes()) + 5] ^= 4
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"x\.pt is damaged: the checksum of .*data/0' differs"):
        read_array(path, None)


def archive_of(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
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


def test_the_format_of_torch_before_1_6_is_refused(tmp_path):
    path = saved(BASE, tmp_path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"x\.pt is a pickle.*before version 1\.6"):
        read_array(path, None)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool]
)
def test_safetensors_are_read_as_they_were_saved(dtype, tmp_path):
    tensor = BASE.to(dtype)
    save_file({"x": tensor, "y": BASE[:1].clone()}, tmp_path / "x.safetensors")
    found = read_array(tmp_path / "x.safetensors", "x")
    assert found.dtype == tensor.numpy().dtype
    np.testing.assert_array_equal(found, tensor.numpy())
    for key, message in [
        (None, "several arrays, choose one with key: x, y"),
        ("z", "no array 'z'"),
    ]:
        with pytest.raises(ValueError, match=rf"x\.safetensors contains {message}"):
            read_array(tmp_path / "x.safetensors", key)


def test_safetensors_of_a_type_that_numpy_lacks_are_refused(tmp_path):
    save_file({"x": BASE.to(torch.float8_e4m3fn)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors cannot be read"):
        read_array(tmp_path / "x.safetensors", None)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_safetensors_with_one_wrong_byte_give_an_array_or_a_value_error(
    place, value, tmp_path_factory
):
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    save_file({"x": BASE.bfloat16()}, path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content)
    try:
        array = read_array(path, None)
    except ValueError as error:
        assert "x.safetensors " in str(error)  # noqa: PT017
    else:
        assert array.size <= BASE.numel() * 2


def npy(header, body=bytes(64), version=1):
    text = header if isinstance(header, bytes) else header.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2, "little") + text + body


def header_of(shape="(4, 2)", descr="'<f8'", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    dtype=st.sampled_from(["?", "<i2", ">i4", "u1", "<f2", ">f4", "<f8", ">f8", "<c8"]),
    is_fortran=st.booleans(),
    is_archive=st.sampled_from([np.save, np.savez, np.savez_compressed]),
)
def test_arrays_of_numpy_are_read_as_they_were_saved(
    shape, dtype, is_fortran, is_archive, tmp_path_factory
):
    array = np.arange(np.prod(shape)).reshape(shape, order="F" if is_fortran else "C").astype(dtype)
    path = tmp_path_factory.mktemp("numpy") / "x.npz"
    with path.open("wb") as file:
        is_archive(file, array)
    np.testing.assert_array_equal(read_array(path, None), array, strict=True)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_the_header_are_read(version, tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array(file, BASE.numpy(), version)
    found = read_array(tmp_path / "x.npy", None)
    assert isinstance(found, np.memmap)
    assert found.filename == str(tmp_path / "x.npy")
    np.testing.assert_array_equal(found, BASE.numpy())


@pytest.mark.fault(79, 80)
@pytest.mark.parametrize(
    "header",
    [
        "(((", "", "'" * 3, "{", "[" * 3000, "x" * 20_000, b"\xff\xfe", "lambda: 0", "{1: 2}", "\0",
        header_of("(2**40,)"), header_of("(-1, 2)"), header_of("(0, 2)"), header_of("(4.0, 2)"),
        header_of("(1099511627776, 1099511627776)"), header_of("(4611686018427387904,)"),
        header_of("(" * 200), header_of("4"), header_of("(True, 'a')"), header_of("[4, 2]"),
        header_of("(9, 2)"), header_of("(9" + "9" * 5000 + ",)"), header_of("(" + "9," * 40 + ")"),
        header_of(descr="'|O'"), header_of(descr="'<U3'"), header_of(descr="[('a', '<f8')]"),
        header_of(descr="'(2,2)<f8'"), header_of(descr="'" + "f8," * 99 + "'"),
        header_of(descr="'M8[s]'"), header_of(descr="'V8'"), header_of(descr="[]"),
        header_of(descr="'\\d'"), header_of(fortran="'\\d'"), header_of(fortran="None"),
    ],
)  # fmt: skip
def test_a_header_that_numpy_would_not_write_is_refused(header, tmp_path):
    for name, content in (
        ("x.npy", npy(header)),
        ("y.npz", archive_of({"a.npy": npy(header)})),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read: ."):
            read_array(tmp_path / name, None)


@pytest.mark.fault(80)
@given(content=st.binary(max_size=60), is_archive=st.booleans())
def test_any_header_gives_an_array_or_a_value_error(content, is_archive, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "x.npy"
    content = npy(content)
    path.write_bytes(archive_of({"a.npy": content}) if is_archive else content)
    with pytest.raises(ValueError, match=r"x\.npy cannot be read: ."):
        read_array(path, None)


@pytest.mark.fault(80)
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), kind=st.integers(0, 2))
def test_arrays_of_numpy_with_one_wrong_byte_give_an_array_or_a_value_error(
    place, value, kind, tmp_path_factory
):
    path = tmp_path_factory.mktemp("any") / "x.npz"
    with path.open("wb") as file:
        (np.save, np.savez, np.savez_compressed)[kind](file, BASE.numpy())
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content)
    try:
        array = read_array(path, None)
    except ValueError as error:
        assert "x.npz " in str(error)  # noqa: PT017
    else:
        assert array.nbytes <= len(content)


@pytest.mark.fault(79)
def test_an_archive_that_grows_out_of_proportion_is_refused_before_it_grows(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, np.zeros((2**24, 1)))
    assert path.stat().st_size < 2**18
    with (
        traced_memory() as traced,
        pytest.raises(ValueError, match=r"has \d+ bytes and claims to contain 134217856"),
    ):
        read_array(path, None)
    assert traced.peak < 2**20


@pytest.mark.fault(79)
@pytest.mark.parametrize("claimed", [0, 200, 2**20])
def test_an_archive_that_lies_about_sizes_gives_no_more_than_it_claims(claimed, tmp_path):
    """The size in the directory of the archive decides, and the array has to fit to it."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, np.zeros((2**20, 8)))
    content = path.read_bytes()
    size = (2**26 + 128).to_bytes(4, "little")
    assert content.count(size) >= 1
    path.write_bytes(content.replace(size, claimed.to_bytes(4, "little")))
    with traced_memory() as traced, pytest.raises(ValueError, match=r"x\.npz "):
        read_array(path, None)
    assert traced.peak < 2**23


@pytest.mark.fault(79)
@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_is_read_only_if_numpy_could_have_compressed_it(method, tmp_path):
    """Other methods are decompressed without regard to the size that is claimed."""
    content = io.BytesIO()
    np.save(content, np.zeros((2**23, 1)))
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", content.getvalue())
    archive_bytes = bytearray(path.read_bytes())
    place = archive_bytes.index(b"PK\x01\x02") + 24
    archive_bytes[place : place + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(archive_bytes)
    with (
        traced_memory() as traced,
        pytest.raises(ValueError, match=r"x\.npz is compressed by a method that NumPy does not"),
    ):
        read_array(path, None)
    assert traced.peak < 2**20


@pytest.mark.fault(79)
def test_parts_of_torchs_archive_that_share_bytes_are_refused(tmp_path):
    """Each of many parts names the same megabyte, and reading all of them would take hours."""
    path = with_pickle(pickled_tensor(), tmp_path, **{"data/1": bytes(2**20)})
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(2000):
            again = copy.copy(entries[1 if i % 2 else -1])
            again.filename = again.orig_filename = f"archive/data/{i + 2}"
            archive.filelist.append(again)
        archive._didModify = True
    assert path.stat().st_size < len(content) + 2**18
    with pytest.raises(ValueError, match="its parts claim to be larger than the file"):
        read_array(path, None)


@pytest.mark.fault(79)
def test_a_header_of_safetensors_is_limited(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"x": BASE}, path, metadata={"a": "x" * 2**22})
    with pytest.raises(ValueError, match=r"x\.safetensors is corrupt: its header has \d+ bytes"):
        read_array(path, None)


def test_one_of_several_bfloat16_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {name: (BASE / k).bfloat16() for k, name in enumerate("abc", 3)}
    save_file(tensors | {"d": BASE.double()}, path)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read_array(path, name), tensor.float().numpy())


@pytest.mark.fault(78)
def test_arrays_are_read_only_from_regular_files(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    for path, kind in ((tmp_path / "x.npy", "a named pipe"), ("/dev/zero", "a character device")):
        with pytest.raises(ValueError, match=f"is {kind}, expected a regular file"):
            read_array(Path(path), None)


def test_many_names_are_not_all_listed(tmp_path):
    path = saved([BASE] * 300, tmp_path)
    with pytest.raises(ValueError, match=r"0, 1, .*, 19 and 280 more") as caught:
        read_array(path, None)
    assert len(str(caught.value)) < 500
